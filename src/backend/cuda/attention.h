// SPDX-License-Identifier: MIT
// What the kernels of softmax attention share. A block works for one key/value head: its "items" are the queries that
// read it, item = t·G + g for row t of the segment and head g of the G that share the key/value head.
#pragma once

#include "backend/cuda/kernel.h"

namespace qwerky::cuda {

constexpr int kTile = 32;          ///< keys (or items) a warp meets at once: one a lane
constexpr int kItemsOfWarp = 4;    ///< accumulated in its registers
constexpr int kItemsOfBlock = 16;  ///< by four warps
constexpr unsigned kAttentionThreads = kItemsOfBlock / kItemsOfWarp * kWarp;
constexpr int kMostHead = 256;

/// AttentionShape as kernels read it.
struct HeadShape {
  int kv_heads, group, N;  ///< group: query heads of a key/value head
  float scale;
  int64_t window, sinks;
  explicit HeadShape(const AttentionShape& s)
      : kv_heads(s.kv_heads),
        group(s.heads / s.kv_heads),
        N(s.head),
        scale(static_cast<float>(s.scale)),
        window(s.window),
        sinks(s.sinks) {
    CHECK(N <= kMostHead, "attention on cuda with heads of ", N, " channels");
  }
  __device__ bool visible(int64_t now, int64_t key) const {
    return key <= now && (window == 0 || now - key < window || key < sinks);
  }
  /// Whether no row from `now` on sees keys of [first, last].
  __device__ bool hidden(int64_t now, int64_t first, int64_t last) const {
    return window > 0 && now - last >= window && first >= sinks;
  }
  __device__ int64_t slot(int64_t position) const {
    return window == 0 || position < sinks ? position : sinks + (position - sinks) % window;
  }
  __device__ int64_t slots(int64_t capacity) const {
    return window > 0 && sinks + window < capacity ? sinks + window : capacity;
  }
  /// Elements of item `item` in [R, heads·N], and of a key in [R, kv_heads·N].
  __device__ int64_t at_item(const DeviceSegment& s, int64_t item, int64_t kv_head) const {
    return (((s.row + item / group) * kv_heads + kv_head) * group + item % group) * N;
  }
  __device__ int64_t at_key(int64_t row, int64_t kv_head) const { return (row * kv_heads + kv_head) * N; }
};

/// Where a key and its value lie; null: beyond what any row sees.
struct KeyRow {
  const float *key, *value;
};

/// A call of attention().
struct Attend {
  float* o;
  float* partial;  ///< [segments][kv_heads][runs][items][N + 2] where blocks take single runs, else null
  const float *q, *k, *v;
  HeadShape shape;
  const DeviceSegment* segments;
  int64_t items, runs;  ///< of the longest segment

  __device__ KeyRow key_row(const DeviceSegment& s, int64_t kv_head, int64_t position, int64_t last) const {
    if (position > last) return {nullptr, nullptr};
    if (position >= s.position) {
      const int64_t own = shape.at_key(s.row + position - s.position, kv_head);
      return {k + own, v + own};
    }
    const int64_t stored = shape.at_key(shape.slot(position), kv_head);
    return {s.state + stored, s.state + shape.at_key(shape.slots(s.capacity), 0) + stored};
  }
};

/// Whether a segment of so many rows goes by tensor cores, and the call of those that do.
bool fits_tiles(const HeadShape& shape, int64_t rows);
void attention_tiles(Device& on, const Attend& a, Batch batch);

/// rows × N elements into shared memory with `stride` between rows by all threads of the block; from(row) is the
/// address of a row or null (zeros).
template <class From>
__device__ inline void load_rows(float* to, int rows, int N, int stride, const From& from) {
  for (int r = static_cast<int>(threadIdx.x / kWarp); r < rows; r += static_cast<int>(blockDim.x / kWarp)) {
    const float* row = from(r);
    for (int n = static_cast<int>(threadIdx.x % kWarp); n < N; n += kWarp) to[r * stride + n] = row ? row[n] : 0;
  }
}

/// Σ_n a[i][n] b[n] for the kItemsOfWarp rows of a (stride N).
__device__ inline void dots(float out[kItemsOfWarp], const float* a, const float* b, int N) {
#pragma unroll
  for (int i = 0; i < kItemsOfWarp; ++i) out[i] = 0;
  for (int n = 0; n < N; ++n) {
    const float x = b[n];
#pragma unroll
    for (int i = 0; i < kItemsOfWarp; ++i) out[i] += a[i * N + n] * x;
  }
}

/// sums[i][c] += Σ_l weight_l[i] rows[l][lane + 32 c], where weight_l is lane l's.
template <int kParts>
__device__ inline void add_weighted(float sums[kItemsOfWarp][kParts], const float weight[kItemsOfWarp],
                                    const float* rows, int N, int stride) {
  __shared__ float4 weights[kItemsOfBlock / kItemsOfWarp][kTile];
  static_assert(kItemsOfWarp == 4);
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  float4* const of_warp = weights[threadIdx.x / kWarp];
  __syncwarp();  // all have read what was there before
  of_warp[lane] = {weight[0], weight[1], weight[2], weight[3]};
  __syncwarp();
  for (int l = 0; l < kTile; ++l) {
    const float4 w = of_warp[l];
#pragma unroll
    for (int c = 0; c < kParts; ++c) {
      if (lane + kWarp * c >= N) break;
      const float x = rows[l * stride + lane + kWarp * c];
      sums[0][c] += w.x * x, sums[1][c] += w.y * x, sums[2][c] += w.z * x, sums[3][c] += w.w * x;
    }
  }
}

/// Calls f with the number of channels a lane holds, as a constant: 1, 2, 4 or 8.
template <class F>
void with_parts(int N, const F& f) {
  if (N <= 32) return f(std::integral_constant<int, 1>());
  if (N <= 64) return f(std::integral_constant<int, 2>());
  if (N <= 128) return f(std::integral_constant<int, 4>());
  f(std::integral_constant<int, 8>());
}

inline int64_t longest(Batch batch) {
  int64_t rows = 0;
  for (const Segment& s : batch) rows = std::max(rows, s.rows);
  return rows;
}

}  // namespace qwerky::cuda
