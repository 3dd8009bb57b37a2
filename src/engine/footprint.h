// SPDX-License-Identifier: MIT
// What running a model takes, from the names, shapes and types of its tensors: no weight is read.
#pragma once

#include "engine/model.h"

namespace qwerky {

struct Footprint {
  int64_t parameters = 0;
  int64_t weights = 0;  ///< bytes, as load_model() holds them for inference on this backend
  int64_t state = 0;    ///< of one sequence
  int64_t scratch = 0;  ///< activations of the calls that read its prompt; kernels have a few MiB a thread besides
  int64_t bytes() const { return weights + state + scratch; }
};

/// Of a sequence of `tokens`. Throws as load_model() does for tensors that are missing, misshapen or unknown.
Footprint footprint(const Checkpoint& checkpoint, const Config& config, const Backend& on, int64_t tokens);

}  // namespace qwerky
