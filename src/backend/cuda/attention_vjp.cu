// SPDX-License-Identifier: MIT
// The reverse of softmax attention, and its statistics. Probabilities are computed again from each row's log Σ exp; the
// gradient of a query is summed over keys, that of a key over queries, each by one block in a fixed order.
#include "backend/cuda/attention.h"
#include "backend/cuda/operations.h"

namespace qwerky::cuda {
namespace {

struct Reverse {
  float *dq, *dk, *dv;
  const float *d_o, *q, *k, *v, *o;
  HeadShape shape;
  const DeviceSegment* segments;
  float2* rows;  ///< of each row and head: log Σ exp of its scores, o·do
};

/// log Σ exp and o·do, and dq unless null. Grid (tiles of items, kv heads, segments).
template <int kParts>
__global__ void queries_kernel(Reverse a) {
  DYNAMIC_SHARED(float, shared);
  const int N = a.shape.N, lane = static_cast<int>(threadIdx.x % kWarp), P = N + 1;
  float *qs = shared, *gs = qs + kItemsOfBlock * N, *ks = gs + kItemsOfBlock * N, *vs = ks + kTile * P;
  const DeviceSegment s = a.segments[blockIdx.z];
  const int64_t kv_head = blockIdx.y, items = s.rows * a.shape.group, first_item = int64_t{blockIdx.x} * kItemsOfBlock;
  if (first_item >= items) return;
  const int64_t last_item = first_item + kItemsOfBlock < items ? first_item + kItemsOfBlock - 1 : items - 1;
  const int64_t t_first = first_item / a.shape.group, t_last = last_item / a.shape.group;
  const auto item_row = [&](const float* of, int r) {
    return of != nullptr && first_item + r < items ? of + a.shape.at_item(s, first_item + r, kv_head) : nullptr;
  };
  load_rows(qs, kItemsOfBlock, N, N, [&](int r) { return item_row(a.q, r); });
  load_rows(gs, kItemsOfBlock, N, N, [&](int r) { return item_row(a.d_o, r); });
  const int mine = static_cast<int>(threadIdx.x / kWarp) * kItemsOfWarp;
  const int64_t my_item = first_item + mine;
  float top[kItemsOfWarp], sum[kItemsOfWarp], lse[kItemsOfWarp], dot[kItemsOfWarp], dq[kItemsOfWarp][kParts] = {};
#pragma unroll
  for (int i = 0; i < kItemsOfWarp; ++i) top[i] = -INFINITY, sum[i] = 0, lse[i] = 0, dot[i] = 0;
  for (int pass = 0; pass < (a.dq != nullptr ? 2 : 1); ++pass) {  // log Σ exp, then the gradient
    for (int64_t key = 0; key <= t_last; key += kTile) {
      if (a.shape.hidden(t_first, key, key + kTile - 1)) continue;
      __syncthreads();
      const auto key_row = [&](const float* of, int r) {
        return key + r <= t_last ? of + a.shape.at_key(s.row + key + r, kv_head) : nullptr;
      };
      load_rows(ks, kTile, N, P, [&](int r) { return key_row(a.k, r); });
      if (pass == 1) load_rows(vs, kTile, N, P, [&](int r) { return key_row(a.v, r); });
      __syncthreads();
      float scores[kItemsOfWarp], dp[kItemsOfWarp];
      dots(scores, qs + mine * N, ks + lane * P, N);
      if (pass == 1) dots(dp, gs + mine * N, vs + lane * P, N);
#pragma unroll
      for (int i = 0; i < kItemsOfWarp; ++i) {
        const bool seen = my_item + i < items && a.shape.visible((my_item + i) / a.shape.group, key + lane);
        const float score = seen ? scores[i] * a.shape.scale : -INFINITY;
        if (pass == 0) {
          const float larger = fmaxf(top[i], warp_max(score));
          if (larger != -INFINITY) sum[i] = sum[i] * expf(top[i] - larger) + warp_sum(seen ? expf(score - larger) : 0);
          top[i] = larger;
        } else {
          scores[i] = seen ? expf(score - lse[i]) * (dp[i] - dot[i]) * a.shape.scale : 0;
        }
      }
      if (pass == 1) add_weighted<kParts>(dq, scores, ks, N, P);
    }
    if (pass == 1) break;
#pragma unroll
    for (int i = 0; i < kItemsOfWarp; ++i) {
      if (my_item + i >= items) break;
      lse[i] = top[i] + logf(sum[i]);
      float part = 0;
      if (a.d_o != nullptr) {
        const float* const o = a.o + a.shape.at_item(s, my_item + i, kv_head);
        for (int n = lane; n < N; n += kWarp) part += o[n] * gs[(mine + i) * N + n];
      }
      dot[i] = warp_sum(part);
      if (lane == 0) a.rows[a.shape.at_item(s, my_item + i, kv_head) / N] = {lse[i], dot[i]};
    }
  }
#pragma unroll
  for (int i = 0; i < kItemsOfWarp && a.dq != nullptr; ++i) {
    if (my_item + i >= items) break;
    float* const to = a.dq + a.shape.at_item(s, my_item + i, kv_head);
#pragma unroll
    for (int c = 0; c < kParts && lane + kWarp * c < N; ++c) to[lane + kWarp * c] = dq[i][c];
  }
}

/// dk and dv of kItemsOfBlock keys. Grid (tiles of keys, kv heads, segments).
template <int kParts>
__global__ void keys_kernel(Reverse a) {
  DYNAMIC_SHARED(float, shared);
  const int N = a.shape.N, lane = static_cast<int>(threadIdx.x % kWarp), P = N + 1;
  float *ks = shared, *vs = ks + kItemsOfBlock * N, *qs = vs + kItemsOfBlock * N, *gs = qs + kTile * P;
  const DeviceSegment s = a.segments[blockIdx.z];
  const int64_t kv_head = blockIdx.y, items = s.rows * a.shape.group, first_key = int64_t{blockIdx.x} * kItemsOfBlock;
  if (first_key >= s.rows) return;
  const auto key_row = [&](const float* of, int r) {
    return first_key + r < s.rows ? of + a.shape.at_key(s.row + first_key + r, kv_head) : nullptr;
  };
  load_rows(ks, kItemsOfBlock, N, N, [&](int r) { return key_row(a.k, r); });
  load_rows(vs, kItemsOfBlock, N, N, [&](int r) { return key_row(a.v, r); });
  const int mine = static_cast<int>(threadIdx.x / kWarp) * kItemsOfWarp;
  float dk[kItemsOfWarp][kParts] = {}, dv[kItemsOfWarp][kParts] = {};
  for (int64_t item = first_key * a.shape.group / kTile * kTile; item < items; item += kTile) {
    if (a.shape.hidden(item / a.shape.group, first_key, first_key + kItemsOfBlock - 1)) break;
    __syncthreads();
    const auto item_row = [&](const float* of, int r) {
      return item + r < items ? of + a.shape.at_item(s, item + r, kv_head) : nullptr;
    };
    load_rows(qs, kTile, N, P, [&](int r) { return item_row(a.q, r); });
    load_rows(gs, kTile, N, P, [&](int r) { return item_row(a.d_o, r); });
    __syncthreads();
    float p[kItemsOfWarp], ds[kItemsOfWarp];
    dots(p, ks + mine * N, qs + lane * P, N);
    dots(ds, vs + mine * N, gs + lane * P, N);
    const bool real = item + lane < items;
    const float2 of = real ? a.rows[a.shape.at_item(s, item + lane, kv_head) / N] : float2{0, 0};
#pragma unroll
    for (int i = 0; i < kItemsOfWarp; ++i) {
      const bool seen = real && a.shape.visible((item + lane) / a.shape.group, first_key + mine + i);
      p[i] = seen ? expf(p[i] * a.shape.scale - of.x) : 0;
      ds[i] = p[i] * (ds[i] - of.y) * a.shape.scale;
    }
    add_weighted<kParts>(dv, p, gs, N, P);
    add_weighted<kParts>(dk, ds, qs, N, P);
  }
#pragma unroll
  for (int i = 0; i < kItemsOfWarp; ++i) {
    const int64_t key = first_key + mine + i;
    if (key >= s.rows) break;
    const int64_t to = a.shape.at_key(s.row + key, kv_head);
#pragma unroll
    for (int c = 0; c < kParts && lane + kWarp * c < N; ++c)
      a.dk[to + lane + kWarp * c] = dk[i][c], a.dv[to + lane + kWarp * c] = dv[i][c];
  }
}

/// A bin of a head a block; the bin behind the last is the sink. Grid (bins + 1, heads).
__global__ void lags_kernel(double* mass, double* sink, Reverse a, int64_t segments, int64_t bins, int64_t skip) {
  const int64_t bin = blockIdx.x, kv_head = blockIdx.y / a.shape.group, g = blockIdx.y % a.shape.group;
  double sum = 0;
  for (int64_t n = 0; n < segments; ++n) {
    const DeviceSegment s = a.segments[n];
    for (int64_t t = skip + threadIdx.x; t < s.rows; t += blockDim.x) {
      const int64_t query = a.shape.at_item(s, t * a.shape.group + g, kv_head);
      // Keys of the bin: one, or all from the last lag on; key 0 counts for the sink, but for its own row.
      int64_t first = t - bin, last = t - bin;
      if (bin == bins - 1) first = t == 0 ? 0 : 1;
      if (bin == bins) first = last = t == 0 ? -1 : 0;
      if (bin < bins - 1 && first == 0 && t > 0) continue;
      for (int64_t key = first; key <= last; ++key) {
        if (key < 0 || !a.shape.visible(t, key)) continue;
        const float* const k = a.k + a.shape.at_key(s.row + key, kv_head);
        float score = 0;
        for (int c = 0; c < a.shape.N; ++c) score += a.q[query + c] * k[c];
        sum += static_cast<double>(expf(score * a.shape.scale - a.rows[query / a.shape.N].x));
      }
    }
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) (bin == bins ? sink[blockIdx.y] : mass[blockIdx.y * bins + bin]) += sum;
}

void run_queries(Device& on, const Reverse& a, Batch batch) {
  const auto N = static_cast<size_t>(a.shape.N);
  with_parts(a.shape.N, [&](auto parts) {
    launch(on,
           dim3(blocks_for(longest(batch) * a.shape.group, kItemsOfBlock), static_cast<unsigned>(a.shape.kv_heads),
                static_cast<unsigned>(batch.size())),
           kAttentionThreads, (2 * kItemsOfBlock * N + 2 * kTile * (N + 1)) * sizeof(float), queries_kernel<parts()>,
           a);
  });
}

}  // namespace

void attention_vjp(Device& on, Tensor dq, Tensor dk, Tensor dv, Tensor d_o, Tensor q, Tensor k, Tensor v, Tensor o,
                   const AttentionShape& shape, Batch batch) {
  const Reverse a{dq.as<float>(),
                  dk.as<float>(),
                  dv.as<float>(),
                  d_o.as<float>(),
                  q.as<float>(),
                  k.as<float>(),
                  v.as<float>(),
                  o.as<float>(),
                  HeadShape(shape),
                  on.upload(batch, 0),
                  on.scratch<float2>(Use::attention, q.row_count() * shape.heads)};
  run_queries(on, a, batch);
  const auto N = static_cast<size_t>(shape.head);
  with_parts(shape.head, [&](auto parts) {
    launch(on,
           dim3(blocks_for(longest(batch), kItemsOfBlock), static_cast<unsigned>(shape.kv_heads),
                static_cast<unsigned>(batch.size())),
           kAttentionThreads, (2 * kItemsOfBlock * N + 2 * kTile * (N + 1)) * sizeof(float), keys_kernel<parts()>, a);
  });
}

void attention_lags(Device& on, Tensor mass, Tensor sink, Tensor q, Tensor k, const AttentionShape& shape, Batch batch,
                    int64_t skip) {
  const Reverse a{nullptr,
                  nullptr,
                  nullptr,
                  nullptr,
                  q.as<float>(),
                  k.as<float>(),
                  nullptr,
                  nullptr,
                  HeadShape(shape),
                  on.upload(batch, 0),
                  on.scratch<float2>(Use::attention, q.row_count() * shape.heads)};
  run_queries(on, a, batch);
  launch(on, dim3(static_cast<unsigned>(mass.cols() + 1), static_cast<unsigned>(shape.heads)), 128, 0, lags_kernel,
         mass.as<double>(), sink.as<double>(), a, static_cast<int64_t>(batch.size()), mass.cols(), skip);
}

}  // namespace qwerky::cuda
