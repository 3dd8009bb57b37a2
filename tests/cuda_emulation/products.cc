// SPDX-License-Identifier: MIT
// The matrix product in plain loops, queued as cuBLASLt's is: column by column of a row, in ascending k.
#include "backend/cuda/products.h"

#include <vector>

namespace qwerky::cuda {

void queue_multiply(Device&, const Multiply& p, void*) {
  cuda_emulation::enqueue([p] {
    const auto at = [&](const void* from, int64_t i) {
      return p.half ? static_cast<float>(static_cast<const bf16*>(from)[i]) : static_cast<const float*>(from)[i];
    };
    std::vector<float> row(static_cast<size_t>(p.n));
    for (int64_t i = 0; i < p.m; ++i) {
      for (int64_t j = 0; j < p.n; ++j) row[size_t(j)] = p.add ? p.c[i * p.c_stride + j] : p.bias ? p.bias[j] : 0;
      for (int64_t k = 0; k < p.k; ++k) {
        const float a = at(p.a, p.a_transposed ? k * p.m + i : i * p.k + k);
        for (int64_t j = 0; j < p.n; ++j) row[size_t(j)] += a * at(p.b, p.b_transposed ? j * p.k + k : k * p.n + j);
      }
      std::copy(row.begin(), row.end(), p.c + i * p.c_stride);
    }
  });
}

}  // namespace qwerky::cuda
