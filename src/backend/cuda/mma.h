// SPDX-License-Identifier: MIT
// Products of a warp on tensor cores (PTX ISA, "Matrix fragments for mma.m16n8k16 and mma.m16n8k32"). With g = lane / 4
// and t = lane % 4 a lane holds, of C [16, 8]: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
#pragma once

#include "backend/cuda/kernel.h"

#ifndef __CUDACC__
#include <mma_emulation.h>
#endif

namespace qwerky::cuda {

/// C += A B of bf16, sums in f32. A [16, 16]: words of two columns (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8),
/// the left column lowest. B [16, 8]: words of two rows (2t, g), (2t + 8, g), the upper row lowest.
__device__ inline void mma_bf16_16x8x16(float c[4], const unsigned a[4], const unsigned b[2]) {
#ifdef __CUDACC__
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  cuda_emulation::mma_bf16(c, a, b);
#endif
}

/// C += A B of signed bytes, sums in i32. A [16, 32]: words of four columns (g, 4t), (g + 8, 4t), (g, 4t + 16),
/// (g + 8, 4t + 16). B [32, 8]: words of four rows (4t, g), (4t + 16, g).
__device__ inline void mma_s8_16x8x32(int c[4], const unsigned a[4], const unsigned b[2]) {
#ifdef __CUDACC__
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  cuda_emulation::mma_s8(c, a, b);
#endif
}

/// Two f32 as a word of bf16, the first one lowest.
__device__ inline unsigned bf16_pair(float low, float high) {
#ifdef __CUDACC__
  unsigned word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
#else
  return __float2bfloat16(low).bits | static_cast<unsigned>(__float2bfloat16(high).bits) << 16;
#endif
}

}  // namespace qwerky::cuda
