// SPDX-License-Identifier: MIT
// WKV-7, row by row: a head of a segment a block, its state in shared memory, thread j on column j (values) or row j
// (keys) of it.
#include <vector>

#include "backend/cuda/kernel.h"
#include "backend/cuda/operations.h"

namespace qwerky::cuda {
namespace {

constexpr int kMostHead = 128;  ///< N whose state fits in shared memory
constexpr int64_t kChunk = 32;  ///< rows of which the reverse recomputes the states at once

struct Seven {
  int heads, N;
  float scale;
  float *r, *log_w, *k, *v, *kappa, *a;
  explicit Seven(const Wkv7& p)
      : heads(p.heads),
        N(p.head),
        scale(static_cast<float>(p.scale)),
        r(p.r.as<float>()),
        log_w(p.log_w.as<float>()),
        k(p.k.as<float>()),
        v(p.v.as<float>()),
        kappa(p.kappa.as<float>()),
        a(p.a.as<float>()) {
    CHECK(N <= kMostHead, "wkv7 on cuda with heads of ", N, " channels");
  }
  __device__ int64_t at(int64_t row, int64_t h) const { return (row * heads + h) * N; }
};

/// A row's vectors in shared memory.
struct Row {
  float *r, *w, *k, *v, *kappa, *b, *go;  ///< b = a κ, go = scale · do
  __device__ explicit Row(float* at, int N)
      : r(at), w(r + N), k(w + N), v(k + N), kappa(v + N), b(kappa + N), go(b + N) {}
  /// Element j of each by thread j, then a barrier.
  __device__ void load(const Seven& p, const float* d_o, int64_t i) const {
    const int j = static_cast<int>(threadIdx.x);
    if (j < p.N) {
      r[j] = p.r[i + j], w[j] = expf(p.log_w[i + j]), k[j] = p.k[i + j], v[j] = p.v[i + j];
      kappa[j] = p.kappa[i + j], b[j] = p.a[i + j] * kappa[j];
      if (d_o != nullptr) go[j] = d_o[i + j] * p.scale;
    }
    __syncthreads();
  }
  /// (κ S)_j of a state with rows of N.
  __device__ float erased(const float* S, int N, int j) const {
    float sum = 0;
    for (int n = 0; n < N; ++n) sum += kappa[n] * S[n * N + j];
    return sum;
  }
  /// Column j of the state after the row, from the one before; may be in place.
  __device__ void step(float* after, const float* before, int N, int j) const {
    const float e = erased(before, N, j);
    for (int n = 0; n < N; ++n) after[n * N + j] = w[n] * before[n * N + j] - b[n] * e + k[n] * v[j];
  }
};
constexpr int kRowVectors = 7;

/// Grid (heads, segments).
__global__ void seven_kernel(float* o, Seven p, const DeviceSegment* segments) {
  DYNAMIC_SHARED(float, shared);
  const int N = p.N, j = static_cast<int>(threadIdx.x);
  float* const S = shared;
  const Row row(S + N * N, N);
  const DeviceSegment s = segments[blockIdx.y];
  float* stored = s.state == nullptr ? nullptr : s.state + int64_t{blockIdx.x} * N * N;
  for (int n = 0; n < N && j < N; ++n) S[n * N + j] = stored != nullptr ? stored[n * N + j] : 0;
  for (int64_t t = 0; t < s.rows; ++t) {
    const int64_t i = p.at(s.row + t, blockIdx.x);
    row.load(p, nullptr, i);
    if (j < N) {
      row.step(S, S, N, j);
      float sum = 0;
      for (int n = 0; n < N; ++n) sum += row.r[n] * S[n * N + j];
      o[i + j] = sum * p.scale;
    }
    __syncthreads();
  }
  for (int n = 0; n < N && j < N && stored != nullptr; ++n) stored[n * N + j] = S[n * N + j];
}

/// Grid (heads, segments). starts: states before each chunk, [heads][chunks of the call][N, N], a segment's from
/// first_chunk[segment]; history: states after each row of a chunk, [segments][heads][kChunk][N, N].
__global__ void seven_vjp_kernel(Seven d, const float* d_o, Seven p, const DeviceSegment* segments,
                                 const int64_t* first_chunk, int64_t chunks, float* starts, float* histories) {
  DYNAMIC_SHARED(float, shared);
  const int N = p.N, P = N + 1, j = static_cast<int>(threadIdx.x);  // P: rows of dS, so that columns do not collide
  float* const dS = shared;
  const Row row(dS + N * P, N);
  float *es = row.go + N, *des = es + N;
  const int64_t h = blockIdx.x, NN = int64_t{N} * N;
  const DeviceSegment s = segments[blockIdx.y];
  float* const start = starts + (h * chunks + first_chunk[blockIdx.y]) * NN;
  float* const history = histories + (blockIdx.y * int64_t{p.heads} + h) * kChunk * NN;
  const int64_t count = (s.rows + kChunk - 1) / kChunk;
  for (int n = 0; n < N && j < N; ++n) {
    dS[n * P + j] = 0;
    if (count > 0) start[n * N + j] = 0;
  }
  for (int64_t t = 0; t < s.rows; ++t) {  // column j of the state goes on in place, and is left at each chunk's start
    row.load(p, d_o, p.at(s.row + t, h));
    const float* before = t % kChunk == 0 ? start + t / kChunk * NN : history;
    float* after = t % kChunk == kChunk - 1 && t + 1 < s.rows ? start + (t / kChunk + 1) * NN : history;
    if (j < N) row.step(after, before, N, j);
    __syncthreads();
  }
  for (int64_t c = count; c-- > 0;) {
    const int64_t first = c * kChunk, rows = s.rows - first < kChunk ? s.rows - first : kChunk;
    const auto before_of = [&](int64_t t) { return t == 0 ? start + c * NN : history + (t - 1) * NN; };
    for (int64_t t = 0; t < rows; ++t) {
      row.load(p, d_o, p.at(s.row + first + t, h));
      if (j < N) row.step(history + t * NN, before_of(t), N, j);
      __syncthreads();
    }
    for (int64_t t = rows; t-- > 0;) {
      const int64_t i = p.at(s.row + first + t, h);
      row.load(p, d_o, i);
      const float *before = before_of(t), *after = history + t * NN;
      if (j < N) {  // column j
        float dv = 0, de = 0;
        for (int n = 0; n < N; ++n) {
          dS[n * P + j] += row.r[n] * row.go[j];
          dv += dS[n * P + j] * row.k[n];
          de -= dS[n * P + j] * row.b[n];
        }
        es[j] = row.erased(before, N, j), des[j] = de;
        d.v[i + j] = dv;
      }
      __syncthreads();
      if (j < N) {  // row j
        float dr = 0, dk = 0, dw = 0, db = 0, dkappa = 0;
        for (int e = 0; e < N; ++e) {
          const float ds = dS[j * P + e], state = before[j * N + e];
          dr += after[j * N + e] * row.go[e];
          dk += ds * row.v[e];
          dw += ds * state;
          db -= ds * es[e];
          dkappa += des[e] * state;
          dS[j * P + e] = ds * row.w[j] + des[e] * row.kappa[j];
        }
        d.r[i + j] = dr, d.k[i + j] = dk, d.log_w[i + j] = dw * row.w[j];
        d.a[i + j] = db * row.kappa[j], d.kappa[i + j] = db * p.a[i + j] + dkappa;
      }
      __syncthreads();
    }
  }
}

unsigned threads_of(int N) { return static_cast<unsigned>((N + kWarp - 1) / kWarp * kWarp); }

}  // namespace

void wkv7(Device& on, Precision, Tensor o, const Wkv7& p, Batch batch, int64_t offset) {
  const size_t N = static_cast<size_t>(p.head);
  launch(on, dim3(static_cast<unsigned>(p.heads), static_cast<unsigned>(batch.size())), threads_of(p.head),
         (N * N + kRowVectors * N) * sizeof(float), seven_kernel, o.as<float>(), Seven(p), on.upload(batch, offset));
}

void wkv7_vjp(Device& on, Precision, const Wkv7& d, Tensor d_o, const Wkv7& p, Batch batch) {
  const int64_t N = p.head;
  std::vector<int64_t> first_chunk;
  int64_t chunks = 0;
  for (const Segment& s : batch) {
    first_chunk.push_back(chunks);
    chunks += (s.rows + kChunk - 1) / kChunk;
  }
  const auto count = static_cast<int64_t>(batch.size());
  float* starts = on.scratch<float>(Use::wkv, p.heads * N * N * (chunks + count * kChunk));
  launch(on, dim3(static_cast<unsigned>(p.heads), static_cast<unsigned>(count)), threads_of(p.head),
         static_cast<size_t>(N * (N + 1) + (kRowVectors + 2) * N) * sizeof(float), seven_vjp_kernel, Seven(d),
         d_o.as<float>(), Seven(p), on.upload(batch, 0), on.upload(std::span<const int64_t>(first_chunk)), chunks,
         starts, starts + p.heads * N * N * chunks);
}

}  // namespace qwerky::cuda
