// SPDX-License-Identifier: MIT
// Products of matrices of 16 × 16 on tensor cores by one warp: factors of bf16, sums of f32 (mma.m16n8k16). Where bf16
// is too coarse, a value goes as a sum of bf16 terms, two of which hold 16 bits of it and three all 24.
//
// Lane 4g + t of the warp holds X[g + 8i][2t + 8h + j] for i, h, j of {0, 1}: as f32 in x[4h + 2i + j], what the
// hardware calls accumulators, and as pairs of bf16 in words [2h + i]. The same words are X as the left factor and Xᵀ
// as the right one, so that every product here is A Bᵀ, sums over columns of both, and a sum can go on as a factor
// without leaving its registers.
#pragma once

#include <cuda_pipeline.h>

#include "backend/cuda/mma.h"

namespace qwerky::cuda {

constexpr int kSide = 16;

/// A matrix [16, 16] of f32, spread over a warp.
struct Tile {
  float x[8];
  /// Of element e of this lane.
  __device__ static int row(int e) { return static_cast<int>(threadIdx.x % kWarp / 4) + e / 2 % 2 * 8; }
  __device__ static int column(int e) { return static_cast<int>(threadIdx.x % 4) * 2 + e / 4 * 8 + e % 2; }
};

/// of(row, column) for each element.
template <class F>
__device__ inline Tile tile_of(const F& of) {
  Tile t;
#pragma unroll
  for (int e = 0; e < 8; ++e) t.x[e] = of(Tile::row(e), Tile::column(e));
  return t;
}
/// Rows of f32, `stride` (even) apart, from `at`. Shared memory is read without conflicts where stride % 32 = 8.
__device__ inline Tile load_tile(const float* at, int64_t stride) {
  Tile t;
#pragma unroll
  for (int e = 0; e < 8; e += 2) {
    const float2 pair = *reinterpret_cast<const float2*>(at + Tile::row(e) * stride + Tile::column(e));
    t.x[e] = pair.x, t.x[e + 1] = pair.y;
  }
  return t;
}
__device__ inline void store_tile(float* at, int64_t stride, const Tile& t) {
#pragma unroll
  for (int e = 0; e < 8; e += 2)
    *reinterpret_cast<float2*>(at + Tile::row(e) * stride + Tile::column(e)) = {t.x[e], t.x[e + 1]};
}

/// The next term of each of two values, as a pair; they become what is left of them.
__device__ inline unsigned next_terms(float& low, float& high) {
  const unsigned pair = bf16_pair(low, high);
  low -= __uint_as_float(pair << 16), high -= __uint_as_float(pair & 0xffff0000u);
  return pair;
}

/// A factor of a product: X as the sum of its terms.
template <int kTerms>
struct Factor {
  unsigned words[kTerms][4];
  Factor() = default;
  __device__ explicit Factor(const Tile& tile) {
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      float low = tile.x[2 * q], high = tile.x[2 * q + 1];
#pragma unroll
      for (int i = 0; i < kTerms; ++i) words[i][q] = next_terms(low, high);
    }
  }
};

/// sum += a bᵀ. Of the products of terms those below the last bit that terms hold are left out.
template <int kTerms>
__device__ inline void add_product(Tile& sum, const Factor<kTerms>& a, const Factor<kTerms>& b) {
#pragma unroll
  for (int i = kTerms - 1; i >= 0; --i)
#pragma unroll
    for (int j = kTerms - 1 - i; j >= 0; --j) {
      const unsigned(&w)[4] = b.words[j], upper[2] = {w[0], w[2]}, lower[2] = {w[1], w[3]};
      mma_bf16_16x8x16(sum.x, a.words[i], upper);
      mma_bf16_16x8x16(sum.x + 4, a.words[i], lower);
    }
}

// A factor in memory: of each term one plane, in which tiles of 256 bf16 follow one another, 16 bytes a lane.

/// Where element (row, column) of a tile lies in it.
__device__ inline int at_in_tile(int row, int column) {
  return (row % 8 * 4 + column % 8 / 2) * 8 + (column / 8 * 2 + row / 8) * 2 + column % 2;
}
template <int kTerms>
__device__ inline void put(__nv_bfloat16* at, int plane, float x) {
#pragma unroll
  for (int i = 0; i < kTerms; ++i) {
    const __nv_bfloat16 term = __float2bfloat16(x);
    at[i * plane] = term;
    x -= __bfloat162float(term);
  }
}
/// Of an even column and the next.
template <int kTerms>
__device__ inline void put_pair(__nv_bfloat16* at, int plane, float low, float high) {
#pragma unroll
  for (int i = 0; i < kTerms; ++i) *reinterpret_cast<unsigned*>(at + i * plane) = next_terms(low, high);
}
template <int kTerms>
__device__ inline Factor<kTerms> load_factor(const __nv_bfloat16* tile, int plane) {
  Factor<kTerms> f;
#pragma unroll
  for (int i = 0; i < kTerms; ++i) {
    const uint4 four = reinterpret_cast<const uint4*>(tile + i * plane)[threadIdx.x % kWarp];
    f.words[i][0] = four.x, f.words[i][1] = four.y, f.words[i][2] = four.z, f.words[i][3] = four.w;
  }
  return f;
}

/// `bytes` (a multiple of 16) to shared memory by all threads of the block, done after __pipeline_wait_prior(0) and a
/// barrier.
__device__ inline void copy_to_shared(void* to, const void* from, int bytes) {
  for (int i = static_cast<int>(threadIdx.x) * 16; i < bytes; i += static_cast<int>(blockDim.x) * 16)
    __pipeline_memcpy_async(static_cast<char*>(to) + i, static_cast<const char*>(from) + i, 16);
  __pipeline_commit();
}

}  // namespace qwerky::cuda
