// SPDX-License-Identifier: MIT
// A model as one packed file (io/packed.h).
#pragma once

#include <string>

#include "engine/packing.h"

namespace qwerky {

/// Writes `model`, whose weights are packed, with the tokenizer at its tokenizer_path. Returns the file's bytes.
int64_t write_packed_model(const Model& model, const Json& card, const std::string& out);

/// f32, bf16, int8 or int4; another name is an Error that names `flag`.
DType weight_type(const std::string& name, const std::string& flag);

/// Where a file came from: the model's name and a SHA-256 over its configuration and tensors.
Json origin(const Checkpoint& checkpoint);

/// Weights of `model` (anything open_checkpoint() reads in rows) rounded to nearest where `type` has fewer digits;
/// "auto": f32 or bf16 as they are stored, a GGUF file's blocks as load_model() holds them. Returns the file's bytes.
int64_t export_packed(const std::string& model, const std::string& out, const std::string& type);

}  // namespace qwerky
