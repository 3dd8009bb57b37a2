// SPDX-License-Identifier: MIT
// The matrix product under every other: cuBLASLt's, in cublaslt.cu.
#pragma once

#include "backend/cuda/device.h"

namespace qwerky::cuda {

/// C [m, n] = A B + bias, or C += A B. A is [m, k], or stored as [k, m] when a_transposed; B is [k, n], or [n, k]. Rows
/// follow one another without gaps, but for C, of which `c_stride` elements separate two rows.
struct Multiply {
  int64_t m = 0, n = 0, k = 0;
  const void *a = nullptr, *b = nullptr;
  bool a_transposed = false, b_transposed = false;
  bool half = false;  ///< A and B are bf16, else f32; C and the sums are f32
  float* c = nullptr;
  int64_t c_stride = 0;
  const float* bias = nullptr;  ///< [n] or null
  bool add = false;             ///< C += A B, without bias
};
void multiply(Device& on, const Multiply& p);
/// What queues it, with kMultiplyBytes of working memory.
constexpr int64_t kMultiplyBytes = int64_t{32} << 20;  // what NVIDIA recommends for Hopper
void queue_multiply(Device& on, const Multiply& p, void* memory);

/// x of f32 or bf16 as the operand of a product, converted into `use` where it has the other type.
const void* operand(Device& on, Use use, Tensor x, bool half);
/// A bias as f32, or null.
const float* bias_of(Device& on, Tensor bias);

}  // namespace qwerky::cuda
