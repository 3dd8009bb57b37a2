// SPDX-License-Identifier: MIT
// Tensors with Hugging Face names and layouts as GGUF wants them.
#pragma once

#include <string_view>
#include <vector>

#include "io/gguf_writer.h"
#include "tensor/params.h"

namespace qwerky {

/// A Hugging Face tensor that a source holds, perhaps under another name.
struct GgufIn {
  std::string name;
  Shape shape;
  std::string stored;
};

/// What to write for `tensors` of an architecture that GGUF has. Matrices get the type `matrices`; norms, biases and
/// the RWKV mixer's small tensors stay F32. A matrix whose rows are not whole blocks becomes F16, and with Q4_0 the
/// output layer (or the embedding that serves as one, when there is no lm_head.weight) becomes Q8_0. `head`: channels
/// of a head, for rotary layouts. `source`, which must outlive the result, is asked for a tensor when its rows are, and
/// told to forget it when they are written. A tensor without a place in GGUF is an Error.
std::vector<GgufOut> gguf_tensors(std::string_view architecture, int64_t head, const TensorSource& source,
                                  const std::vector<GgufIn>& tensors, BlockType matrices);

}  // namespace qwerky
