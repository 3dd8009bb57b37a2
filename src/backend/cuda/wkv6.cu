// SPDX-License-Identifier: MIT
// WKV-6, row by row: forward a thread a column of the state, backward a block a head of a segment, thread j on column j
// (values) or row j (keys) of the state.
#include "backend/cuda/operations.h"
#include "backend/cuda/wkv_chunks.h"

namespace qwerky::cuda {
namespace {

constexpr int64_t kChunk = 32;  ///< rows of which the reverse recomputes the states at once

/// Grid (heads, segments, parts of a head): a thread a column of the state.
__global__ void six_kernel(float* o, Wkv p, const DeviceSegment* segments) {
  DYNAMIC_SHARED(float, shared);
  const int N = p.N, cols = static_cast<int>(blockDim.x), t0 = static_cast<int>(threadIdx.x);
  const int j = static_cast<int>(blockIdx.z) * cols + t0;
  float *S = shared + t0, *r = shared + N * cols, *w = r + N, *k = w + N;
  const DeviceSegment s = segments[blockIdx.y];
  float* stored = s.state == nullptr ? nullptr : s.state + int64_t{blockIdx.x} * N * N;
  for (int n = 0; n < N && j < N; ++n) S[n * cols] = stored != nullptr ? stored[n * N + j] : 0;
  for (int64_t t = 0; t < s.rows; ++t) {
    const int64_t i = p.at(s.row + t, blockIdx.x);
    for (int n = t0; n < N; n += cols) r[n] = p.r[i + n], w[n] = expf(p.log_w[i + n]), k[n] = p.k[i + n];
    __syncthreads();
    if (j < N) {
      const float v = p.v[p.at_value(s.row + t, blockIdx.x) + j];
      float sum = 0;
      for (int n = 0; n < N; ++n) {
        float& state = S[n * cols];
        state = w[n] * state + k[n] * v;
        sum += r[n] * state;
      }
      o[i + j] = sum * p.scale;
    }
    __syncthreads();
  }
  for (int n = 0; n < N && j < N && stored != nullptr; ++n) stored[n * N + j] = S[n * cols];
}

/// Grid (heads, segments). starts: states before each chunk, [heads][chunks of the call][N, N], a segment's from
/// first_chunk[segment]; history: states after each row of a chunk, [segments][heads][kChunk][N, N]; gradients: of
/// states that do not fit in shared memory, [segments][heads][N, N + 1], else null; dv [R, heads·N].
__global__ void six_vjp_kernel(Wkv d, float* dv, const float* d_o, Wkv p, const DeviceSegment* segments,
                               const int64_t* first_chunk, int64_t chunks, float* starts, float* histories,
                               float* gradients) {
  DYNAMIC_SHARED(float, shared);
  const int N = p.N, P = N + 1, j = static_cast<int>(threadIdx.x);  // P: rows of dS, so that columns do not collide
  float* const dS = gradients == nullptr ? shared + 5 * N : gradients + (blockIdx.y * gridDim.x + blockIdx.x) * N * P;
  float *r = shared, *w = r + N, *k = w + N, *v = k + N, *go = v + N;
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

}  // namespace

void wkv6(Device& on, Precision precision, Tensor o, const Wkv6& p, Batch batch, int64_t offset) {
  const WkvForms forms(p.head, batch);
  const size_t N = static_cast<size_t>(p.head), cols = wkv_threads(std::min(p.head, kRowColumns));
  launch(
      on,
      dim3(static_cast<unsigned>(p.heads), static_cast<unsigned>(forms.rows.size()), blocks_for(p.head, kRowColumns)),
      static_cast<unsigned>(cols), (N * cols + 3 * N) * sizeof(float), six_kernel, o.as<float>(), Wkv(p),
      on.upload(forms.rows, offset));
  wkv_chunks(on, precision, o.as<float>(), Wkv(p), forms.chunks, offset);
}

void wkv6_vjp(Device& on, Precision precision, const Wkv6& d, Tensor d_o, const Wkv6& p, Batch batch) {
  const WkvForms forms(p.head, batch);
  const int64_t N = p.head, A = p.heads * N, G = p.heads / p.kv_heads, W = p.kv_heads * N, R = p.r.row_count();
  // With one query head for each head of v, its gradient is dv; else a sum of several.
  float* const dv = G == 1 ? d.v.as<float>() : on.scratch<float>(Use::wkv_values, R * A);
  const WkvRowsMemory memory(on, p.heads, N, forms.rows, kChunk);
  launch(on, dim3(static_cast<unsigned>(p.heads), static_cast<unsigned>(forms.rows.size())), wkv_threads(p.head),
         static_cast<size_t>(memory.shared_floats + 5 * N) * sizeof(float), six_vjp_kernel, Wkv(d), dv, d_o.as<float>(),
         Wkv(p), on.upload(forms.rows, 0), on.upload(std::span<const int64_t>(memory.first)), memory.chunks,
         memory.starts, memory.histories, memory.gradients);
  wkv_chunks_vjp(on, precision, Wkv(d), dv, d_o.as<float>(), Wkv(p), forms.chunks);
  if (G == 1) return;
  each(on, R * W, [=, to = d.v.as<float>()] __device__(int64_t kv) {
    float sum = 0;
    for (int64_t g = 0; g < G; ++g) sum += dv[kv / W * A + (kv % W / N * G + g) * N + kv % N];
    to[kv] = sum;
  });
}

}  // namespace qwerky::cuda
