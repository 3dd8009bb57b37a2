// SPDX-License-Identifier: MIT
// Gradients of matrices that are not in memory all the time: a backward pass says which layer it has left.
#pragma once

#include "tensor/params.h"

namespace qwerky {

/// One pass at a time, which adds to the gradients of one layer before it begins with another's.
class LayerGradients {
 public:
  virtual ~LayerGradients() = default;
  /// Where to add the gradient of a parameter that trains.
  virtual Tensor of(const Param& p) = 0;
  /// This pass adds no more to the matrices of `layer`; the head counts as a layer, after the last one.
  virtual void leave(int64_t layer) = 0;
};

}  // namespace qwerky
