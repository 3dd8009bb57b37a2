// SPDX-License-Identifier: MIT
// Tensor-core products of a warp: each lane leaves its fragments for the others and works out its four elements.
#pragma once

#include <cuda_runtime.h>

#include "tensor/tensor.h"

namespace cuda_emulation {

struct Fragments {
  unsigned a[4], b[2];
};

/// C[row][column] += Σ_k A[row][k] B[k][column]; a word of a fragment holds `kPacked` neighbours along k, value(word,
/// i) is one of them.
template <int kPacked, class C, class Value>
void mma(C c[4], const unsigned a[4], const unsigned b[2], const Value& value) {
  const Fragments mine{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  exchange(Meeting::product, &mine, sizeof mine);
  const auto of = [](unsigned lane) { return static_cast<const Fragments*>(left_by(lane)); };
  const unsigned lane = emulated_lane() % 32, half = 4 * kPacked;  // of the depth
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
    for (unsigned k = 0; k < 2 * half; ++k) {
      const unsigned along = k % half / kPacked, part = k % kPacked;
      c[i] += value(of(row % 8 * 4 + along)->a[row / 8 + 2 * (k / half)], part) *
              value(of(column * 4 + along)->b[k / half], part);
    }
  }
}

inline void mma_bf16(float c[4], const unsigned a[4], const unsigned b[2]) {
  mma<2>(c, a, b, [](unsigned word, unsigned i) {
    qwerky::bf16 x;
    x.bits = static_cast<uint16_t>(word >> 16 * i);
    return static_cast<float>(x);
  });
}
inline void mma_s8(int c[4], const unsigned a[4], const unsigned b[2]) {
  mma<4>(c, a, b, [](unsigned word, unsigned i) { return int{static_cast<int8_t>(word >> 8 * i)}; });
}

}  // namespace cuda_emulation
