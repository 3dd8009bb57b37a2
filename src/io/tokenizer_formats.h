// SPDX-License-Identifier: MIT
// One loader per vocabulary format, each from bytes. `name` is for messages. All throw Error on malformed input.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "io/files.h"
#include "io/tokenizer.h"
#include "io/tokenizer_added.h"

namespace qwerky {

/// The JSON files beside a vocabulary; null where absent.
struct TokenizerConfig {
  Json tokenizer_config, special_tokens_map, added_tokens, config, generation_config;

  /// added_tokens_decoder of tokenizer_config.json and the entries of added_tokens.json.
  std::vector<AddedToken> listed_tokens() const;
  /// Text of a role such as "bos_token"; empty when it is absent or null.
  std::string role(const std::string& key) const;
  /// Text of every role and of additional_special_tokens.
  std::vector<std::string> special_texts() const;
  /// tokenizer_class without the suffix "Fast".
  std::string tokenizer_class() const;
};

/// A tokenizer that has added tokens and takes bos, eos and adds_bos from the files beside its vocabulary.
class AddedTokenizer : public Tokenizer {
 public:
  bool is_special(int32_t id) const override;

 protected:
  /// Adds `token` after checking that its id is plausible; names `where` in the message.
  void add_token(AddedToken token, const std::string& where);
  /// Sets bos, eos and adds_bos from `config`, keeping what is set already where it says nothing.
  void apply(const TokenizerConfig& config, const std::string& name);
  std::optional<int32_t> find_special(std::string_view text) const override;
  /// An ordinary vocabulary entry with exactly this text.
  virtual std::optional<int32_t> find_ordinary(std::string_view text) const = 0;
  AddedTokens added_;
};

/// tokenizer.json: byte-level BPE.
std::unique_ptr<Tokenizer> tokenizer_from_json(std::string_view text, const TokenizerConfig& config,
                                               const std::string& name);
/// vocab.json + merges.txt of GPT-2 or Qwen2, told by tokenizer_class, else by content.
std::unique_ptr<Tokenizer> tokenizer_from_vocab(std::string_view vocab, std::string_view merges,
                                                const TokenizerConfig& config, const std::string& name);
/// Llama-3's rank file: lines of base64 bytes and a rank.
std::unique_ptr<Tokenizer> tokenizer_from_tiktoken(std::string_view text, const TokenizerConfig& config,
                                                   const std::string& name);
bool is_tiktoken(std::string_view bytes);
/// A SentencePiece model, BPE or unigram.
std::unique_ptr<Tokenizer> tokenizer_from_sentencepiece(std::string_view bytes, const TokenizerConfig& config,
                                                        const std::string& name);
bool is_sentencepiece(std::string_view bytes);
/// llama2.c's tokenizer.bin: int32 longest piece, then per token f32 score, int32 length, bytes (little-endian).
std::unique_ptr<Tokenizer> tokenizer_from_llama2c(std::string_view bytes, const TokenizerConfig& config,
                                                  const std::string& name);

}  // namespace qwerky
