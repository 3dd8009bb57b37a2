// SPDX-License-Identifier: MIT
// WKV-6, row by row: a head of a segment a block, its state in shared memory, thread j on column j (values) or row j
// (keys) of it.
#include <vector>

#include "backend/cuda/kernel.h"
#include "backend/cuda/operations.h"

namespace qwerky::cuda {
namespace {

constexpr int kMostHead = 128;  ///< N whose state fits in shared memory
constexpr int64_t kChunk = 32;  ///< rows of which the reverse recomputes the states at once

struct Six {
  int heads, kv_heads, N;
  float scale;
  float *r, *log_w, *k, *v;
  explicit Six(const Wkv6& p)
      : heads(p.heads),
        kv_heads(p.kv_heads),
        N(p.head),
        scale(static_cast<float>(p.scale)),
        r(p.r.as<float>()),
        log_w(p.log_w.as<float>()),
        k(p.k.as<float>()),
        v(p.v.as<float>()) {
    CHECK(N <= kMostHead, "wkv6 on cuda with heads of ", N, " channels");
  }
  __device__ int64_t at(int64_t row, int64_t h) const { return (row * heads + h) * N; }
  __device__ int64_t at_value(int64_t row, int64_t h) const { return (row * kv_heads + h / (heads / kv_heads)) * N; }
};

/// Grid (heads, segments).
__global__ void six_kernel(float* o, Six p, const DeviceSegment* segments) {
  DYNAMIC_SHARED(float, shared);
  const int N = p.N, j = static_cast<int>(threadIdx.x);
  float *S = shared, *r = S + N * N, *w = r + N, *k = w + N;
  const DeviceSegment s = segments[blockIdx.y];
  float* stored = s.state == nullptr ? nullptr : s.state + int64_t{blockIdx.x} * N * N;
  for (int n = 0; n < N && j < N; ++n) S[n * N + j] = stored != nullptr ? stored[n * N + j] : 0;
  for (int64_t t = 0; t < s.rows; ++t) {
    const int64_t i = p.at(s.row + t, blockIdx.x);
    if (j < N) r[j] = p.r[i + j], w[j] = expf(p.log_w[i + j]), k[j] = p.k[i + j];
    __syncthreads();
    if (j < N) {
      const float v = p.v[p.at_value(s.row + t, blockIdx.x) + j];
      float sum = 0;
      for (int n = 0; n < N; ++n) {
        float& state = S[n * N + j];
        state = w[n] * state + k[n] * v;
        sum += r[n] * state;
      }
      o[i + j] = sum * p.scale;
    }
    __syncthreads();
  }
  for (int n = 0; n < N && j < N && stored != nullptr; ++n) stored[n * N + j] = S[n * N + j];
}

/// Grid (heads, segments). starts: states before each chunk, [heads][chunks of the call][N, N], a segment's from
/// first_chunk[segment]; history: states after each row of a chunk, [segments][heads][kChunk][N, N]; dv [R, heads·N].
__global__ void six_vjp_kernel(Six d, float* dv, const float* d_o, Six p, const DeviceSegment* segments,
                               const int64_t* first_chunk, int64_t chunks, float* starts, float* histories) {
  DYNAMIC_SHARED(float, shared);
  const int N = p.N, P = N + 1, j = static_cast<int>(threadIdx.x);  // P: rows of dS, so that columns do not collide
  float *dS = shared, *r = dS + N * P, *w = r + N, *k = w + N, *v = k + N, *go = v + N;
  const int64_t h = blockIdx.x, NN = int64_t{N} * N;
  const DeviceSegment s = segments[blockIdx.y];
  float* const start = starts + (h * chunks + first_chunk[blockIdx.y]) * NN;
  float* const history = histories + (blockIdx.y * int64_t{p.heads} + h) * kChunk * NN;
  const auto load = [&](int64_t row) {
    const int64_t i = p.at(row, h);
    if (j < N) {
      r[j] = p.r[i + j], w[j] = expf(p.log_w[i + j]), k[j] = p.k[i + j], v[j] = p.v[p.at_value(row, h) + j];
      go[j] = d_o[i + j] * p.scale;
    }
    __syncthreads();
  };
  const int64_t count = (s.rows + kChunk - 1) / kChunk;
  for (int n = 0; n < N && j < N; ++n) {
    dS[n * P + j] = 0;
    if (count > 0) start[n * N + j] = 0;
  }
  for (int64_t t = 0; t < s.rows; ++t) {  // column j of the state goes on in place, and is left at each chunk's start
    load(s.row + t);
    const float* before = start + t / kChunk * NN;
    float* after = t % kChunk == kChunk - 1 && t + 1 < s.rows ? start + (t / kChunk + 1) * NN : history;
    if (t % kChunk != 0) before = history;
    for (int n = 0; n < N && j < N; ++n) after[n * N + j] = w[n] * before[n * N + j] + k[n] * v[j];
    __syncthreads();
  }
  for (int64_t c = count; c-- > 0;) {
    const int64_t first = c * kChunk, rows = s.rows - first < kChunk ? s.rows - first : kChunk;
    for (int64_t t = 0; t < rows; ++t) {
      load(s.row + first + t);
      const float* before = t == 0 ? start + c * NN : history + (t - 1) * NN;
      for (int n = 0; n < N && j < N; ++n) history[t * NN + n * N + j] = w[n] * before[n * N + j] + k[n] * v[j];
      __syncthreads();
    }
    for (int64_t t = rows; t-- > 0;) {
      load(s.row + first + t);
      const int64_t i = p.at(s.row + first + t, h);
      const float* before = t == 0 ? start + c * NN : history + (t - 1) * NN;
      const float* after = history + t * NN;
      if (j < N) {
        float sum = 0;
        for (int n = 0; n < N; ++n) {
          dS[n * P + j] += r[n] * go[j];
          sum += dS[n * P + j] * k[n];
        }
        dv[i + j] = sum;
      }
      __syncthreads();
      if (j < N) {  // row j
        float dr = 0, dk = 0, dw = 0;
        for (int e = 0; e < N; ++e) {
          dr += after[j * N + e] * go[e];
          dk += dS[j * P + e] * v[e];
          dw += dS[j * P + e] * before[j * N + e];
          dS[j * P + e] *= w[j];
        }
        d.r[i + j] = dr, d.k[i + j] = dk, d.log_w[i + j] = dw * w[j];
      }
      __syncthreads();
    }
  }
}

unsigned threads_of(int N) { return static_cast<unsigned>((N + kWarp - 1) / kWarp * kWarp); }

}  // namespace

void wkv6(Device& on, Precision, Tensor o, const Wkv6& p, Batch batch, int64_t offset) {
  const size_t N = static_cast<size_t>(p.head);
  launch(on, dim3(static_cast<unsigned>(p.heads), static_cast<unsigned>(batch.size())), threads_of(p.head),
         (N * N + 3 * N) * sizeof(float), six_kernel, o.as<float>(), Six(p), on.upload(batch, offset));
}

void wkv6_vjp(Device& on, Precision, const Wkv6& d, Tensor d_o, const Wkv6& p, Batch batch) {
  const int64_t N = p.head, A = p.heads * N, G = p.heads / p.kv_heads, W = p.kv_heads * N, R = p.r.row_count();
  std::vector<int64_t> first_chunk;
  int64_t chunks = 0;
  for (const Segment& s : batch) {
    first_chunk.push_back(chunks);
    chunks += (s.rows + kChunk - 1) / kChunk;
  }
  const auto count = static_cast<int64_t>(batch.size());
  float* memory = on.scratch<float>(Use::wkv, R * A + p.heads * N * N * (chunks + count * kChunk));
  float* dv = memory;
  float* starts = dv + R * A;
  launch(on, dim3(static_cast<unsigned>(p.heads), static_cast<unsigned>(count)), threads_of(p.head),
         static_cast<size_t>(N * (N + 1) + 5 * N) * sizeof(float), six_vjp_kernel, Six(d), dv, d_o.as<float>(), Six(p),
         on.upload(batch, 0), on.upload(std::span<const int64_t>(first_chunk)), chunks, starts,
         starts + p.heads * N * N * chunks);
  each(on, R * W, [=, to = d.v.as<float>()] __device__(int64_t kv) {
    float sum = 0;
    for (int64_t g = 0; g < G; ++g) sum += dv[kv / W * A + (kv % W / N * G + g) * N + kv % N];
    to[kv] = sum;
  });
}

}  // namespace qwerky::cuda
