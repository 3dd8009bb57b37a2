// SPDX-License-Identifier: MIT
// Softmax attention of many queries on tensor cores: as attention.cu, but a warp does 16 items, and queries, keys,
// values and probabilities enter products as sums of two bf16 terms, which hold 16 bits.
#include "backend/cuda/attention.h"
#include "backend/cuda/tiles.h"

namespace qwerky::cuda {
namespace {

constexpr int kTerms = 2, kWarps = 4, kItems = kWarps * kSide;  ///< of a block
constexpr int kKeyTiles = kTile / kSide, kElements = kSide * kSide;

/// Grid (tiles of items, kv heads, segments); N = 16 kSteps.
template <int kSteps>
__global__ void attention_tiles_kernel(Attend a) {
  constexpr int kPlane = kKeyTiles * kSteps * kElements;
  DYNAMIC_SHARED(__nv_bfloat16, shared);
  __nv_bfloat16 *ks = shared, *vs = ks + kTerms * kPlane;  // keys [keys, N], values transposed [N, keys]
  const int N = kSteps * kSide, lane = static_cast<int>(threadIdx.x % kWarp);
  const DeviceSegment s = a.segments[blockIdx.z];
  const int64_t kv_head = blockIdx.y, items = s.rows * a.shape.group, first_item = int64_t{blockIdx.x} * kItems;
  if (first_item >= items) return;
  const int64_t last_item = first_item + kItems < items ? first_item + kItems - 1 : items - 1;
  const int64_t now_first = s.position + first_item / a.shape.group, now_last = s.position + last_item / a.shape.group;
  const int64_t my_item = first_item + threadIdx.x / kWarp * kSide;
  Factor<kTerms> q[kSteps];
#pragma unroll
  for (int c = 0; c < kSteps; ++c)
    q[c] = Factor<kTerms>(tile_of([&](int row, int column) {
      if (my_item + row >= items) return 0.0f;
      return a.q[a.shape.at_item(s, my_item + row, kv_head) + c * kSide + column];
    }));
  float top[2] = {-INFINITY, -INFINITY}, sum[2] = {};  // of rows g and g + 8; the sum of this lane's columns
  Tile o[kSteps] = {};
  for (int64_t key = 0; key <= now_last; key += kTile) {
    if (a.shape.hidden(now_first, key, key + kTile - 1)) continue;
    __syncthreads();  // all have read the tile before
    for (int r = static_cast<int>(threadIdx.x / kWarp); r < kTile; r += kWarps) {
      const KeyRow row = a.key_row(s, kv_head, key + r, now_last);
      for (int n = lane; n < N; n += kWarp) {
        put<kTerms>(ks + (r / kSide * kSteps + n / kSide) * kElements + at_in_tile(r % kSide, n % kSide), kPlane,
                    row.key ? row.key[n] : 0);
        put<kTerms>(vs + (n / kSide * kKeyTiles + r / kSide) * kElements + at_in_tile(n % kSide, r % kSide), kPlane,
                    row.value ? row.value[n] : 0);
      }
    }
    __syncthreads();
    Tile scores[kKeyTiles] = {};
    float larger[2] = {top[0], top[1]}, keep[2];
#pragma unroll
    for (int j = 0; j < kKeyTiles; ++j) {
#pragma unroll
      for (int c = 0; c < kSteps; ++c)
        add_product(scores[j], q[c], load_factor<kTerms>(ks + (j * kSteps + c) * kElements, kPlane));
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        const int64_t item = my_item + Tile::row(e), now = s.position + item / a.shape.group;
        const bool seen = item < items && a.shape.visible(now, key + j * kSide + Tile::column(e));
        scores[j].x[e] = seen ? scores[j].x[e] * a.shape.scale : -INFINITY;
        larger[e / 2 % 2] = fmaxf(larger[e / 2 % 2], scores[j].x[e]);
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {  // four lanes hold a row
      for (int lanes = 1; lanes < 4; lanes *= 2) larger[i] = fmaxf(larger[i], __shfl_xor_sync(kAll, larger[i], lanes));
      keep[i] = larger[i] == -INFINITY ? 1 : expf(top[i] - larger[i]);
      sum[i] *= keep[i], top[i] = larger[i];
    }
#pragma unroll
    for (int c = 0; c < kSteps; ++c)
#pragma unroll
      for (int e = 0; e < 8; ++e) o[c].x[e] *= keep[e / 2 % 2];
#pragma unroll
    for (int j = 0; j < kKeyTiles; ++j) {
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        float& p = scores[j].x[e];
        p = p == -INFINITY ? 0 : expf(p - top[e / 2 % 2]);
        sum[e / 2 % 2] += p;
      }
      const Factor<kTerms> p(scores[j]);
#pragma unroll
      for (int c = 0; c < kSteps; ++c)
        add_product(o[c], p, load_factor<kTerms>(vs + (c * kKeyTiles + j) * kElements, kPlane));
    }
  }
  for (float& of_row : sum)
    for (int lanes = 1; lanes < 4; lanes *= 2) of_row += __shfl_xor_sync(kAll, of_row, lanes);
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    const int64_t item = my_item + Tile::row(e);
    if (item >= items) continue;
    float* const to = a.o + a.shape.at_item(s, item, kv_head) + Tile::column(e);
#pragma unroll
    for (int c = 0; c < kSteps; ++c) to[c * kSide] = o[c].x[e] / sum[e / 2 % 2];
  }
}

}  // namespace

bool fits_tiles(const HeadShape& shape, int64_t rows) {
  const bool size = shape.N == 16 || shape.N == 32 || shape.N == 64 || shape.N == 128;
  return size && rows * shape.group >= kSide;
}

void attention_tiles(Device& on, const Attend& a, Batch batch) {
  const auto run = [&](auto steps) {
    const size_t shared = size_t{2} * kTerms * kKeyTiles * steps() * kElements * sizeof(__nv_bfloat16);
    launch(on,
           dim3(blocks_for(longest(batch) * a.shape.group, kItems), static_cast<unsigned>(a.shape.kv_heads),
                static_cast<unsigned>(batch.size())),
           kWarps * kWarp, shared, attention_tiles_kernel<steps()>, a);
  };
  switch (a.shape.N) {
    case 16: return run(std::integral_constant<int, 1>());
    case 32: return run(std::integral_constant<int, 2>());
    case 64: return run(std::integral_constant<int, 4>());
    default: return run(std::integral_constant<int, 8>());
  }
}

}  // namespace qwerky::cuda
