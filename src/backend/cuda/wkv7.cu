// SPDX-License-Identifier: MIT
// WKV-7, row by row: forward a thread a column of the state, backward a block a head of a segment, thread j on column j
// (values) or row j (keys) of the state.
#include "backend/cuda/operations.h"
#include "backend/cuda/wkv_chunks.h"

namespace qwerky::cuda {
namespace {

constexpr int64_t kChunk = 32;  ///< rows of which the reverse recomputes the states at once

/// A row's vectors in shared memory.
struct Row {
  float *r, *w, *k, *v, *kappa, *b, *go;  ///< b = a κ, go = scale · do
  __device__ explicit Row(float* at, int N)
      : r(at), w(r + N), k(w + N), v(k + N), kappa(v + N), b(kappa + N), go(b + N) {}
  /// All of it, by all threads, then a barrier.
  __device__ void load(const Wkv& p, const float* d_o, int64_t i) const {
    for (int j = static_cast<int>(threadIdx.x); j < p.N; j += static_cast<int>(blockDim.x)) {
      r[j] = p.r[i + j], w[j] = expf(p.log_w[i + j]), k[j] = p.k[i + j], v[j] = p.v[i + j];
      kappa[j] = p.kappa[i + j], b[j] = p.a[i + j] * kappa[j];
      if (d_o != nullptr) go[j] = d_o[i + j] * p.scale;
    }
    __syncthreads();
  }
  /// (κ S)_j from column j of the state, whose elements are `stride` apart.
  __device__ float erased(const float* column, int N, int stride) const {
    float sum = 0;
    for (int n = 0; n < N; ++n) sum += kappa[n] * column[n * stride];
    return sum;
  }
  /// Column j of the state after the row, from the one before; may be in place.
  __device__ void step(float* after, const float* before, int N, int stride, int j) const {
    const float e = erased(before, N, stride);
    for (int n = 0; n < N; ++n) after[n * stride] = w[n] * before[n * stride] - b[n] * e + k[n] * v[j];
  }
};
constexpr int kRowVectors = 7;

/// Grid (heads, segments, parts of a head): a thread a column of the state.
__global__ void seven_kernel(float* o, Wkv p, const DeviceSegment* segments) {
  DYNAMIC_SHARED(float, shared);
  const int N = p.N, cols = static_cast<int>(blockDim.x), t0 = static_cast<int>(threadIdx.x);
  const int j = static_cast<int>(blockIdx.z) * cols + t0;
  float* const S = shared + t0;
  const Row row(shared + N * cols, N);
  const DeviceSegment s = segments[blockIdx.y];
  float* stored = s.state == nullptr ? nullptr : s.state + int64_t{blockIdx.x} * N * N;
  for (int n = 0; n < N && j < N; ++n) S[n * cols] = stored != nullptr ? stored[n * N + j] : 0;
  for (int64_t t = 0; t < s.rows; ++t) {
    const int64_t i = p.at(s.row + t, blockIdx.x);
    row.load(p, nullptr, i);
    if (j < N) {
      row.step(S, S, N, cols, j);
      float sum = 0;
      for (int n = 0; n < N; ++n) sum += row.r[n] * S[n * cols];
      o[i + j] = sum * p.scale;
    }
    __syncthreads();
  }
  for (int n = 0; n < N && j < N && stored != nullptr; ++n) stored[n * N + j] = S[n * cols];
}

/// Grid (heads, segments). starts: states before each chunk, [heads][chunks of the call][N, N], a segment's from
/// first_chunk[segment]; history: states after each row of a chunk, [segments][heads][kChunk][N, N]; gradients: of
/// states that do not fit in shared memory, [segments][heads][N, N + 1], else null.
__global__ void seven_vjp_kernel(Wkv d, const float* d_o, Wkv p, const DeviceSegment* segments,
                                 const int64_t* first_chunk, int64_t chunks, float* starts, float* histories,
                                 float* gradients) {
  DYNAMIC_SHARED(float, shared);
  const int N = p.N, P = N + 1, j = static_cast<int>(threadIdx.x);  // P: rows of dS, so that columns do not collide
  const Row row(shared, N);
  float *es = row.go + N, *des = es + N;
  float* const dS = gradients == nullptr ? des + N : gradients + (blockIdx.y * gridDim.x + blockIdx.x) * N * P;
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
    if (j < N) row.step(after + j, before + j, N, N, j);
    __syncthreads();
  }
  for (int64_t c = count; c-- > 0;) {
    const int64_t first = c * kChunk, rows = s.rows - first < kChunk ? s.rows - first : kChunk;
    const auto before_of = [&](int64_t t) { return t == 0 ? start + c * NN : history + (t - 1) * NN; };
    for (int64_t t = 0; t < rows; ++t) {
      row.load(p, d_o, p.at(s.row + first + t, h));
      if (j < N) row.step(history + t * NN + j, before_of(t) + j, N, N, j);
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
        es[j] = row.erased(before + j, N, N), des[j] = de;
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

}  // namespace

void wkv7(Device& on, Precision precision, Tensor o, const Wkv7& p, Batch batch, int64_t offset) {
  const WkvForms forms(p.head, batch);
  const size_t N = static_cast<size_t>(p.head), cols = wkv_threads(std::min(p.head, kRowColumns));
  launch(
      on,
      dim3(static_cast<unsigned>(p.heads), static_cast<unsigned>(forms.rows.size()), blocks_for(p.head, kRowColumns)),
      static_cast<unsigned>(cols), (N * cols + kRowVectors * N) * sizeof(float), seven_kernel, o.as<float>(), Wkv(p),
      on.upload(forms.rows, offset));
  wkv_chunks(on, precision, o.as<float>(), Wkv(p), forms.chunks, offset);
}

void wkv7_vjp(Device& on, Precision precision, const Wkv7& d, Tensor d_o, const Wkv7& p, Batch batch) {
  const WkvForms forms(p.head, batch);
  const int64_t N = p.head;
  const WkvRowsMemory memory(on, p.heads, N, forms.rows, kChunk);
  launch(on, dim3(static_cast<unsigned>(p.heads), static_cast<unsigned>(forms.rows.size())), wkv_threads(p.head),
         static_cast<size_t>(memory.shared_floats + (kRowVectors + 2) * N) * sizeof(float), seven_vjp_kernel, Wkv(d),
         d_o.as<float>(), Wkv(p), on.upload(forms.rows, 0), on.upload(std::span<const int64_t>(memory.first)),
         memory.chunks, memory.starts, memory.histories, memory.gradients);
  wkv_chunks_vjp(on, precision, Wkv(d), d.v.as<float>(), d_o.as<float>(), Wkv(p), forms.chunks);
}

}  // namespace qwerky::cuda
