// SPDX-License-Identifier: MIT
// Softmax attention in one pass over the keys (Dao et al., FlashAttention, arXiv 2205.14135): tiles of 32 keys at fixed
// positions, merged within runs of 1024 positions, runs merged in ascending order. Where a call has too few queries to
// fill the device, blocks take single runs (arXiv 2311.01282 calls it split-K decoding). Borders depend on positions
// alone, so a row's result depends neither on the split nor on its company.
#include "backend/cuda/attention.h"

#include <vector>

#include "backend/cuda/operations.h"

namespace qwerky::cuda {
namespace {

constexpr int64_t kRun = 1024;    ///< positions
constexpr int64_t kBlocks = 264;  ///< with fewer, runs get blocks of their own: two a multiprocessor of an H100

/// Largest score, Σ exp(score - top) and Σ exp(score - top) v of items of a warp; channels lane + 32 c.
template <int kParts>
struct Softmax {
  float top[kItemsOfWarp], sum[kItemsOfWarp], values[kItemsOfWarp][kParts];
  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < kItemsOfWarp; ++i) {
      top[i] = -INFINITY, sum[i] = 0;
#pragma unroll
      for (int c = 0; c < kParts; ++c) values[i][c] = 0;
    }
  }
  /// The rounding of each step is spelled out: single and split runs must agree to the bit.
  __device__ static void merge(float& top, float& sum, float* values, int parts, float other_top, float other_sum,
                               const float* other_values) {
    if (other_top == -INFINITY) return;
    const float larger = fmaxf(top, other_top), keep = expf(top - larger), take = expf(other_top - larger);
    sum = fmaf(sum, keep, other_sum * take);
    for (int c = 0; c < parts; ++c) values[c] = fmaf(values[c], keep, other_values[c] * take);
    top = larger;
  }
};

/// Grid (tiles of items × runs, kv heads, segments).
template <int kParts>
__global__ void attention_kernel(Attend a) {
  DYNAMIC_SHARED(float, shared);
  const int N = a.shape.N, lane = static_cast<int>(threadIdx.x % kWarp);
  float *qs = shared, *ks = qs + kItemsOfBlock * N, *vs = ks + kTile * (N + 1);
  const DeviceSegment s = a.segments[blockIdx.z];
  const int64_t kv_head = blockIdx.y, tiles = (a.items + kItemsOfBlock - 1) / kItemsOfBlock;
  const int64_t items = s.rows * a.shape.group, first_item = blockIdx.x % tiles * kItemsOfBlock;
  if (first_item >= items) return;
  const int64_t last_item = first_item + kItemsOfBlock < items ? first_item + kItemsOfBlock - 1 : items - 1;
  const int64_t now_first = s.position + first_item / a.shape.group, now_last = s.position + last_item / a.shape.group;
  load_rows(qs, kItemsOfBlock, N, N, [&](int r) {
    return first_item + r < items ? a.q + a.shape.at_item(s, first_item + r, kv_head) : nullptr;
  });
  const int64_t my_item = first_item + threadIdx.x / kWarp * kItemsOfWarp;
  const float* const my_q = qs + threadIdx.x / kWarp * kItemsOfWarp * N;

  const int64_t run = blockIdx.x / tiles;
  const int64_t begin = a.partial != nullptr ? run * kRun : 0;
  const int64_t end = a.partial != nullptr && begin + kRun < now_last + 1 ? begin + kRun : now_last + 1;
  Softmax<kParts> whole, part;
  whole.clear(), part.clear();
  for (int64_t key = begin; key < end; key += kTile) {
    if (key % kRun == 0 && key > begin) {
#pragma unroll
      for (int i = 0; i < kItemsOfWarp; ++i)
        whole.merge(whole.top[i], whole.sum[i], whole.values[i], kParts, part.top[i], part.sum[i], part.values[i]);
      part.clear();
    }
    if (a.shape.hidden(now_first, key, key + kTile - 1)) continue;
    __syncthreads();  // all have read the tile before
    load_rows(ks, kTile, N, N + 1, [&](int r) { return a.key_row(s, kv_head, key + r, now_last).key; });
    load_rows(vs, kTile, N, N, [&](int r) { return a.key_row(s, kv_head, key + r, now_last).value; });
    __syncthreads();
    float scores[kItemsOfWarp];
    dots(scores, my_q, ks + lane * (N + 1), N);
#pragma unroll
    for (int i = 0; i < kItemsOfWarp; ++i) {
      const int64_t now = s.position + (my_item + i) / a.shape.group;
      const bool seen = a.shape.visible(now, key + lane) && my_item + i < items;
      const float score = seen ? scores[i] * a.shape.scale : -INFINITY;
      const float top = fmaxf(part.top[i], warp_max(score));
      const float keep = top == -INFINITY ? 1 : expf(part.top[i] - top);
      scores[i] = seen ? expf(score - top) : 0;
      part.sum[i] = part.sum[i] * keep + warp_sum(scores[i]);
      part.top[i] = top;
#pragma unroll
      for (int c = 0; c < kParts; ++c) part.values[i][c] *= keep;
    }
    add_weighted<kParts>(part.values, scores, vs, N, N);
  }
#pragma unroll
  for (int i = 0; i < kItemsOfWarp; ++i) {
    if (my_item + i >= items) break;
    if (a.partial != nullptr) {
      float* to =
          a.partial +
          ((((blockIdx.z * int64_t{a.shape.kv_heads} + kv_head) * a.runs + run) * a.items) + my_item + i) * (N + 2);
#pragma unroll
      for (int c = 0; c < kParts && lane + kWarp * c < N; ++c) to[lane + kWarp * c] = part.values[i][c];
      if (lane == 0) to[N] = part.top[i], to[N + 1] = part.sum[i];
    } else {
      whole.merge(whole.top[i], whole.sum[i], whole.values[i], kParts, part.top[i], part.sum[i], part.values[i]);
      float* to = a.o + a.shape.at_item(s, my_item + i, kv_head);
#pragma unroll
      for (int c = 0; c < kParts && lane + kWarp * c < N; ++c) to[lane + kWarp * c] = whole.values[i][c] / whole.sum[i];
    }
  }
}

/// An item a warp (and block). Grid (items, kv heads, segments).
template <int kParts>
__global__ void merge_runs_kernel(Attend a) {
  const int N = a.shape.N, lane = static_cast<int>(threadIdx.x);
  const DeviceSegment s = a.segments[blockIdx.z];
  const int64_t item = blockIdx.x, kv_head = blockIdx.y;
  if (item >= s.rows * a.shape.group) return;
  const int64_t now = s.position + item / a.shape.group;
  float top = -INFINITY, sum = 0, values[kParts] = {};
  for (int64_t run = 0; run <= now / kRun; ++run) {
    const float* from =
        a.partial + ((((blockIdx.z * int64_t{a.shape.kv_heads} + kv_head) * a.runs + run) * a.items) + item) * (N + 2);
    float part[kParts];
#pragma unroll
    for (int c = 0; c < kParts; ++c) part[c] = lane + kWarp * c < N ? from[lane + kWarp * c] : 0;
    Softmax<kParts>::merge(top, sum, values, kParts, from[N], from[N + 1], part);
  }
  float* to = a.o + a.shape.at_item(s, item, kv_head);
#pragma unroll
  for (int c = 0; c < kParts && lane + kWarp * c < N; ++c) to[lane + kWarp * c] = values[c] / sum;
}

}  // namespace

void attention(Device& on, Precision precision, Tensor o, Tensor q, Tensor k, Tensor v, const AttentionShape& shape,
               Batch batch, int64_t offset) {
  Attend a{o.as<float>(), nullptr, q.as<float>(), k.as<float>(), v.as<float>(), HeadShape(shape), nullptr, 0, 1};
  std::vector<Segment> by_tiles, by_lanes;
  int64_t deepest = 0;
  for (const Segment& s : batch) {
    CHECK(!s.state || shape.window > 0 || s.position() + s.rows <= shape.slots(s.state->capacity()), "state full");
    const bool tiles = precision == Precision::bf16 && fits_tiles(a.shape, s.rows);
    (tiles ? by_tiles : by_lanes).push_back(s);
    if (!tiles) deepest = std::max(deepest, s.position() + s.rows);
  }
  if (!by_tiles.empty()) {
    a.segments = on.upload(by_tiles, offset);
    attention_tiles(on, a, by_tiles);
  }
  a.segments = on.upload(by_lanes, offset);
  a.items = longest(by_lanes) * a.shape.group;
  const int64_t tiles = blocks_for(a.items, kItemsOfBlock), heads = shape.kv_heads;
  const auto segments = static_cast<int64_t>(by_lanes.size());
  if (tiles * heads * segments < kBlocks && deepest > kRun) {
    a.runs = blocks_for(deepest, kRun);
    a.partial = on.scratch<float>(Use::attention, segments * heads * a.runs * a.items * (shape.head + 2));
  }
  const size_t shared = static_cast<size_t>(kItemsOfBlock * shape.head + kTile * (2 * shape.head + 1)) * sizeof(float);
  with_parts(shape.head, [&](auto parts) {
    launch(on,
           dim3(static_cast<unsigned>(tiles * a.runs), static_cast<unsigned>(heads), static_cast<unsigned>(segments)),
           kAttentionThreads, shared, attention_kernel<parts()>, a);
    if (a.partial != nullptr)
      launch(on, dim3(static_cast<unsigned>(a.items), static_cast<unsigned>(heads), static_cast<unsigned>(segments)),
             kWarp, 0, merge_runs_kernel<parts()>, a);
  });
  // Of the rows that share a slot of a ring the last one stays.
  const int64_t W = heads * shape.head;
  each_in_segments(
      on, batch, offset, W,
      [=, s = a.shape, keys = a.k, values = a.v] __device__(const DeviceSegment& to, int64_t t, int64_t i) {
        const int64_t position = to.position + t;
        if (to.state == nullptr || (s.window > 0 && position >= s.sinks && t + s.window < to.rows)) return;
        const int64_t slots = s.slots(to.capacity), slot = s.slot(position);
        to.state[slot * W + i] = keys[(to.row + t) * W + i];
        to.state[(slots + slot) * W + i] = values[(to.row + t) * W + i];
      });
}

}  // namespace qwerky::cuda
