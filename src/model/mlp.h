// SPDX-License-Identifier: MIT
// SwiGLU: y = (silu(x W_gateᵀ) ⊙ x W_upᵀ) W_downᵀ.
#pragma once

#include <string>

#include "model/mixer.h"

namespace qwerky {

class Mlp {
 public:
  Mlp(const Config& config, const std::string& prefix, Params& params);
  void forward(const Exec& ex, Tensor x, Tensor y) const;
  /// As Mixer::backward; y is only computed when there is a `between` to read it.
  void backward(const Exec& ex, Tensor x, Tensor y, Tensor dx, Tensor dy, const Between& between) const;

 private:
  struct Locals {
    Tensor gate, up, hidden;  // [R, F]
  };
  Locals run(const Exec& ex, Tensor x) const;
  Param &gate_, &up_, &down_;
};

}  // namespace qwerky
