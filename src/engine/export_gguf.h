// SPDX-License-Identifier: MIT
// A model as one GGUF file that llama.cpp runs.
#pragma once

#include <string>

#include "io/gguf_blocks.h"
#include "model/config.h"

namespace qwerky {

struct GgufExport {
  std::string architecture, type;
  int64_t tensors = 0, bytes = 0;
  int64_t f16 = 0;  ///< matrices that became F16 because their rows are not whole blocks
};

/// Writes `model` (anything open_checkpoint() reads) to `out`, matrices as `type`: f32 | f16 | bf16 | q8_0 | q4_0.
/// Throws Error with the reason when GGUF has no architecture for it.
GgufExport export_gguf(const std::string& model, const std::string& out, const std::string& type);

/// Why llama.cpp's architecture of this name cannot express the model; "" when it can.
std::string why_not_gguf(const Config& config);

}  // namespace qwerky
