// SPDX-License-Identifier: MIT
// The instructions of tensor cores that src/backend/cuda/tiles.h uses, in plain loops: layouts as PTX defines them for
// mma.m16n8k16.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <bit>

inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }

inline unsigned bf16_pair(float low, float high) {
  return __float2bfloat16(low).bits | static_cast<unsigned>(__float2bfloat16(high).bits) << 16;
}

inline void mma_bf16(float* d, const unsigned* a, unsigned b0, unsigned b1) {
  const unsigned mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
  cuda_emulation::exchange(cuda_emulation::Meeting::product, mine, sizeof mine);
  const unsigned lane = emulated_lane() % 32, g = lane / 4, t = lane % 4;
  const auto half = [](unsigned word, unsigned j) { return __uint_as_float(j == 0 ? word << 16 : word & 0xffff0000u); };
  // Column k of A is in lanes 4 row + k % 8 / 2, row k of B in lanes 4 column + k % 8 / 2.
  for (unsigned h = 0; h < 2; ++h)
    for (unsigned p = 0; p < 4; ++p) {
      const auto words = [=](unsigned of) { return static_cast<const unsigned*>(cuda_emulation::left_by(4 * of + p)); };
      const unsigned *rows = words(g), *columns[2] = {words(2 * t), words(2 * t + 1)};
      for (unsigned j = 0; j < 2; ++j)
        for (unsigned e = 0; e < 4; ++e) d[e] += half(rows[2 * h + e / 2], j) * half(columns[e % 2][4 + h], j);
    }
}
