// SPDX-License-Identifier: MIT
// One chunk of one head of WKV-6 or WKV-7, c <= 16 rows filled up with zeros: what exponents make of its operands, its
// inner products, and the panel a scan reads. With G_i the sum of log_w over the rows up to and with i, E_i = G_i -
// log_w_i, m = G of the middle row, b = -a κ,
//   R = r e^{G-m}   A = κ e^{E-m}   K = k e^{m-G}   B = b e^{m-G}     [16, N], exponents within ± 8 · 5 (log_w >= -5)
//   T = (I - lower(A Bᵀ))^{-1}   L = T lower(A Kᵀ)   Q = tril(R Bᵀ) T     [16, 16]; tril: with the diagonal
// the recurrence over the chunk, from the state S [N, N], is (WKV-6: without A and B; row scales written as factors)
//   read = (R + Q A) e^m   probe = T A e^m   add = (K + Lᵀ B) e^{G_c-m}   back = B e^{G_c-m}     [16, N]
//   local = tril(R Kᵀ) + tril(R Bᵀ) L                                                            [16, 16]
//   O = read S + local V      S <- diag(e^{G_c}) S + addᵀ V + backᵀ (probe S)
// Its transpose is of the same form, so that the gradients of V and S are the same scan over the chunks in reverse:
//   dV = add dS + localᵀ dO   dS <- diag(e^{G_c}) dS + readᵀ dO + probeᵀ (back dS)
#pragma once

#include "backend/cuda/tiles.h"
#include "backend/cuda/wkv_chunks.h"

namespace qwerky::cuda {

/// A segment as chunks: the first has `first` rows and the others, but for the last, kSide.
struct ChunkedSegment {
  int64_t row, rows, first, chunks;
  int64_t first_chunk;  ///< among those of the call
  float* state;         ///< at the operation's offset, or null
};

/// Where a chunk's rows are; none (rows <= 0) behind the last chunk of the segment.
struct ChunkPlace {
  int64_t chunk, index;  ///< of the segment, of the call
  int64_t row;
  int rows;
  __device__ ChunkPlace(const ChunkedSegment& s, int64_t c) : chunk(c), index(s.first_chunk + c) {
    const int64_t start = c == 0 ? 0 : s.first + (c - 1) * kSide, left = s.rows - start,
                  most = c == 0 ? s.first : kSide;
    row = s.row + start;
    rows = static_cast<int>(left < most ? left : most);
  }
};

/// Column n of R, A, K and B, in the registers of a thread.
template <bool kDelta>
struct Channel {
  float r[kSide], k[kSide], a[kDelta ? kSide : 1], b[kDelta ? kSide : 1];
  float decay[kSide + 1];  ///< e^{E_0 - m}, then e^{G_i - m}
  float from, to;          ///< e^m, e^{G_c - m}
  __device__ Channel(const Wkv& p, int64_t head, const ChunkPlace& c, int n) {
    const int64_t at = p.at(c.row, head) + n, stride = int64_t{p.heads} * p.N;
    const auto load = [&](const float* x, int i) { return i < c.rows ? x[at + i * stride] : 0.0f; };
    decay[0] = 0;
#pragma unroll
    for (int i = 0; i < kSide; ++i) decay[i + 1] = decay[i] + load(p.log_w, i);
    const float middle = decay[kSide / 2];
    from = expf(middle), to = expf(decay[kSide] - middle);
    decay[0] = expf(-middle);
#pragma unroll
    for (int i = 0; i < kSide; ++i) {
      const float e = decay[i + 1] = expf(decay[i + 1] - middle), inverse = 1 / e;
      r[i] = load(p.r, i) * e, k[i] = load(p.k, i) * inverse;
      if constexpr (kDelta) {
        const float kappa = load(p.kappa, i);
        a[i] = kappa * decay[i], b[i] = -load(p.a, i) * kappa * inverse;
      }
    }
  }
};

/// A matrix [16, 16] in shared memory, and which there are of a chunk.
using Square = float[kSide][kSide];
enum { kRK, kRB, kAK, kAB, kT, kL, kQ, kSquares };

/// m[kRK…kAB] = left rightᵀ, of left = R above A and right = K above B (WKV-6: R Kᵀ alone), rows kN + 8 apart. Whole
/// squares: what lies above the diagonal is for the reader to leave out.
template <int kN, bool kDelta, int kTerms>
__device__ inline void pair_products(Square* m, const float* left, const float* right) {
  constexpr int kStride = kN + 8;
  for (int q = static_cast<int>(threadIdx.x) / kWarp; q < (kDelta ? 4 : 1); q += kN / kWarp) {
    const float *x = left + q / 2 * kSide * kStride, *y = right + q % 2 * kSide * kStride;
    Tile sum{};
    for (int t = 0; t < kN; t += kSide)
      add_product(sum, Factor<kTerms>(load_tile(x + t, kStride)), Factor<kTerms>(load_tile(y + t, kStride)));
    store_tile(m[q][0], kSide, sum);
  }
}

/// inverse = (I - lower(x))^{-1} by forward substitution, a lane of the first warp a column.
__device__ inline void invert(Square inverse, const Square x) {
  const int j = static_cast<int>(threadIdx.x);
  if (j >= kSide) return;
  float column[kSide];
#pragma unroll
  for (int i = 0; i < kSide; ++i) {
    column[i] = i == j ? 1.0f : 0.0f;
#pragma unroll
    for (int l = 0; l < i; ++l) column[i] += x[i][l] * column[l];
    inverse[i][j] = column[i];
  }
}

/// product = lower(x) lower(y), of each with the diagonal but for y when `strict`.
__device__ inline void multiply_lower(Square product, const Square x, const Square y, bool strict) {
  for (int e = static_cast<int>(threadIdx.x); e < kSide * kSide; e += static_cast<int>(blockDim.x)) {
    const int i = e / kSide, j = e % kSide;
    float sum = 0;
    for (int l = strict ? j + 1 : j; l <= i; ++l) sum += x[i][l] * y[l][j];
    product[i][j] = sum;
  }
}

/// What a scan reads of the chunks, [chunks of the call][heads of the call]: matrices as factors of tiles.h, in the
/// order of Part, the decays e^{G_c} of the keys, and `local`.
template <int kN, bool kDelta, int kTerms>
struct Panel {
  /// read and probe [16, N] lie as they are, add and back transposed.
  enum Part { kRead, kAdd, kProbe, kBack };
  static constexpr int kTileElements = kSide * kSide, kMatrix = kSide * kN;  ///< of a plane
  static constexpr int kDecays = (kDelta ? 4 : 2) * kTerms * kMatrix * 2;    ///< bytes before the decays
  static constexpr int kStagedBytes = kDecays + kN * 4;                      ///< … and before `local`
  static constexpr int64_t kBytes = kStagedBytes + kTerms * kTileElements * 2;

  unsigned char* data;

  __device__ unsigned char* at(int64_t index) const { return data + index * kBytes; }
  __device__ static Factor<kTerms> factor(const unsigned char* panel, Part part, int tile) {
    return load_factor<kTerms>(matrix(panel, part) + tile * kTileElements, kMatrix);
  }
  __device__ static Factor<kTerms> local(const unsigned char* panel) {
    return load_factor<kTerms>(reinterpret_cast<const __nv_bfloat16*>(panel + kStagedBytes), kTileElements);
  }
  __device__ static const float* decay(const unsigned char* panel) {
    return reinterpret_cast<const float*>(panel + kDecays);
  }

  /// A panel in shared memory: column n of each matrix by thread n, local(i, j) by all.
  template <class Local>
  __device__ static void fill(unsigned char* panel, const float* read, const float* probe, const float* add,
                              const float* back, float decay, const Local& local) {
    const int n = static_cast<int>(threadIdx.x), first = n / kSide * kTileElements, inner = n % kSide;
#pragma unroll
    for (int i = 0; i < kSide; ++i) {
      const int row = first + at_in_tile(i, inner), column = first + at_in_tile(inner, i);
      put<kTerms>(matrix(panel, kRead) + row, kMatrix, read[i]);
      if constexpr (kDelta) put<kTerms>(matrix(panel, kProbe) + row, kMatrix, probe[i]);
      if (i % 2 == 1) continue;
      put_pair<kTerms>(matrix(panel, kAdd) + column, kMatrix, add[i], add[i + 1]);
      if constexpr (kDelta) put_pair<kTerms>(matrix(panel, kBack) + column, kMatrix, back[i], back[i + 1]);
    }
    reinterpret_cast<float*>(panel + kDecays)[n] = decay;
    auto* const to = reinterpret_cast<__nv_bfloat16*>(panel + kStagedBytes);
    for (int e = n; e < kTileElements; e += kN)
      put<kTerms>(to + at_in_tile(e / kSide, e % kSide), kTileElements, local(e / kSide, e % kSide));
  }
  /// From where all threads of the block filled it.
  __device__ void store(int64_t index, const unsigned char* panel) const {
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x) * 16; i < kBytes; i += kN * 16)
      *reinterpret_cast<uint4*>(at(index) + i) = *reinterpret_cast<const uint4*>(panel + i);
  }

 private:
  template <class Byte>
  __device__ static auto matrix(Byte* panel, Part part) {
    using Element = std::conditional_t<std::is_const_v<Byte>, const __nv_bfloat16, __nv_bfloat16>;
    return reinterpret_cast<Element*>(panel) + part * kTerms * kMatrix;
  }
};

}  // namespace qwerky::cuda
