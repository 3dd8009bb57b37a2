// SPDX-License-Identifier: MIT
// Where the weights of a model for inference lie: those of products in panels, tables as rows, the rest as f32.
#pragma once

#include "engine/model.h"

namespace qwerky {

class Packer {
 public:
  /// Panels of `type` (f32 or bf16) in `arena`, which must outlive the model.
  Packer(const Backend& on, DType type, Arena& arena) : on_(on), type_(type), arena_(arena) {}

  /// Copies a stored tensor of p's shape (f32, bf16 or f16 in rows) to its place and points p.weight at it.
  void place(Param& p, Tensor stored) const;

 private:
  const Backend& on_;
  DType type_;
  Arena& arena_;
};

/// Packs a model that is in memory as rows; its former memory is released.
void pack(Model& model, const Backend& on, DType type);

}  // namespace qwerky
