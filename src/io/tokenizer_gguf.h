// SPDX-License-Identifier: MIT
// The vocabulary inside a GGUF file.
#pragma once

#include <memory>

#include "io/gguf_writer.h"
#include "io/tokenizer.h"

namespace qwerky {

/// Reads tokenizer.ggml.*: model "gpt2" (byte-level BPE, by the pre-tokenizers that are known here) and "llama"
/// (SentencePiece's BPE). Others are refused by name. The result does not need `file`.
std::unique_ptr<Tokenizer> tokenizer_from_gguf(const GgufFile& file);

/// Adds tokenizer.ggml.* and tokenizer.chat_template for `vocab` ids; those without a token become "[PADi]", unused.
/// Throws Error when GGUF has no name for this tokenizer.
void add_tokenizer(GgufMetadata& metadata, const Tokenizer& tokenizer, int64_t vocab);

}  // namespace qwerky
