// SPDX-License-Identifier: MIT
// What an Engine holds; for the layers above that need tensors (measurement, benchmarks).
#pragma once

#include "engine/model.h"
#include "qwerky/qwerky.h"

namespace qwerky {

struct Engine::Internals {
  std::unique_ptr<Model> model;
  std::unique_ptr<Backend> backend;
  Precision precision = Precision::f32;  ///< of matrix products
};

/// The precision of matrix products: "auto" is bf16 when the weights are bf16 and this backend multiplies it in
/// hardware, else f32.
Precision resolve_precision(const std::string& name, DType weights, const std::string& backend);
/// The same for a checkpoint.
Precision precision_for(const Checkpoint& checkpoint, const std::string& backend, const std::string& precision);
/// The backend to run a checkpoint on, before its weights are loaded.
std::unique_ptr<Backend> backend_for(const Checkpoint& checkpoint, const std::string& backend,
                                     const std::string& precision);

}  // namespace qwerky
