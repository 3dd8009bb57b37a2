// SPDX-License-Identifier: MIT
// What the rest of the program knows of the CUDA backend: cuda/*.cu, or no_cuda.cc where the program is built without.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace qwerky::cuda {

/// Whether there is a device (and driver) that the backend can run on.
bool available();
/// The first device. From then on every Block is memory of that device, too (tensor/memory.h). Throws Error, naming
/// what is missing: a build with CUDA, a driver and device, a compute capability of at least 8.0, memory.
std::unique_ptr<Backend> make(Precision precision);

}  // namespace qwerky::cuda
