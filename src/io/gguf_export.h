// SPDX-License-Identifier: MIT
// Tensors with Hugging Face names and layouts as GGUF wants them.
#pragma once

#include <string_view>
#include <vector>

#include "io/gguf_writer.h"
#include "io/safetensors.h"

namespace qwerky {

/// What to write for `tensors` of an architecture that GGUF has. Matrices get the type `matrices`; norms, biases and
/// the RWKV mixer's small tensors stay F32. A matrix whose rows are not whole blocks becomes F16, and with Q4_0 the
/// output layer (or the embedding that serves as one, when there is no lm_head.weight) becomes Q8_0. `head`: channels
/// of a head, for rotary layouts. The memory of `tensors` must outlive the result. A tensor without a place in GGUF is
/// an Error.
std::vector<GgufOut> gguf_tensors(std::string_view architecture, int64_t head, const std::vector<NamedTensor>& tensors,
                                  BlockType matrices);

}  // namespace qwerky
