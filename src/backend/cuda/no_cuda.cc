// SPDX-License-Identifier: MIT
// Stands for the CUDA backend in a program built without it.
#include "backend/cuda/cuda.h"

namespace qwerky::cuda {

bool available() { return false; }

std::unique_ptr<Backend> make(Precision) {
  fail("backend cuda: this program was built without CUDA; configure with -DQWERKY_CUDA=ON (needs nvcc)");
}

}  // namespace qwerky::cuda
