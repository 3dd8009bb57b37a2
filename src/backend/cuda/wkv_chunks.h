// SPDX-License-Identifier: MIT
// WKV-6 and WKV-7 by chunks of 16 rows on tensor cores, for heads of 64 and 128 channels; the algebra is in
// wkv_chunk.h. Chunks end at positions of the sequence that are multiples of 16. A segment too short for it, or of
// other heads, goes row by row (wkv6.cu, wkv7.cu), so that a row's result does not depend on its company.
#pragma once

#include <vector>

#include "backend/cuda/kernel.h"

namespace qwerky::cuda {

/// Operands of wkv6 and wkv7, or their gradients; kappa and a are null in WKV-6.
struct Wkv {
  int heads, kv_heads, N;
  float scale;
  float *r, *log_w, *k, *v, *kappa, *a;
  explicit Wkv(const Wkv6& p) : Wkv(p, p.kv_heads) {}
  explicit Wkv(const Wkv7& p) : Wkv(p, p.heads) { kappa = p.kappa.as<float>(), a = p.a.as<float>(); }
  __device__ int64_t at(int64_t row, int64_t h) const { return (row * heads + h) * N; }
  __device__ int64_t at_value(int64_t row, int64_t h) const { return (row * kv_heads + h / (heads / kv_heads)) * N; }

 private:
  template <class P>
  Wkv(const P& p, int kv)
      : heads(p.heads),
        kv_heads(kv),
        N(p.head),
        scale(static_cast<float>(p.scale)),
        r(p.r.template as<float>()),
        log_w(p.log_w.template as<float>()),
        k(p.k.template as<float>()),
        v(p.v.template as<float>()),
        kappa(nullptr),
        a(nullptr) {}
};

constexpr bool has_chunks(int N) { return N == 64 || N == 128; }

/// Segments by the form that computes them.
struct WkvForms {
  std::vector<Segment> rows, chunks;
  WkvForms(int N, Batch batch) {
    for (const Segment& s : batch)
      if (s.rows > 0) (has_chunks(N) && s.rows >= 16 ? chunks : rows).push_back(s);
  }
};

// What the kernels that go row by row share.
constexpr int kRowColumns = 64;        ///< most columns of a state of a block, forward
constexpr int64_t kSharedState = 128;  ///< N up to which [N, N + 1] fits in shared memory
inline unsigned wkv_threads(int columns) { return blocks_for(columns, kWarp) * kWarp; }
/// Working memory of a reverse that goes row by row, over chunks of `rows` rows.
struct WkvRowsMemory {
  std::vector<int64_t> first;  ///< chunk of each segment
  int64_t chunks = 0;          ///< of all segments
  float* starts = nullptr;     ///< [heads, chunks, N, N]: the state before each chunk
  float* histories = nullptr;  ///< [heads, segments, rows, N, N]: the states within one chunk
  float* gradients =
      nullptr;                ///< [heads, segments, N, N + 1]: of the state, where shared memory has no room; else null
  int64_t shared_floats = 0;  ///< of the state's gradient in shared memory
  WkvRowsMemory(Device& on, int64_t heads, int64_t N, Batch batch, int64_t rows) {
    const auto count = static_cast<int64_t>(batch.size());
    for (const Segment& s : batch) first.push_back(chunks), chunks += blocks_for(s.rows, rows);
    if (count == 0) return;
    starts = on.scratch<float>(Use::wkv, heads * (N * N * (chunks + count * rows) + count * N * (N + 1)));
    histories = starts + heads * N * N * chunks;
    if (N <= kSharedState)
      shared_floats = N * (N + 1);
    else
      gradients = histories + heads * N * N * count * rows;
  }
};

/// Outputs and states of the rows of `batch`, which come by chunks.
void wkv_chunks(Device& on, Precision precision, float* o, const Wkv& p, Batch batch, int64_t offset);
/// Gradients of the same, from zero states. dv [R, heads·N]: of each query head's reading of v.
void wkv_chunks_vjp(Device& on, Precision precision, const Wkv& d, float* dv, const float* d_o, const Wkv& p,
                    Batch batch);

}  // namespace qwerky::cuda
