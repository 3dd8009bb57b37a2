// SPDX-License-Identifier: MIT
// WKV-6 and WKV-7 by chunks of 16 rows on tensor cores, for heads of 64 and 128 channels; the algebra is in
// wkv_chunk.h. Chunks end at positions of the sequence that are multiples of 16. A segment too short for it, or of
// other heads, goes row by row (wkv6.cu, wkv7.cu), so that a row's result does not depend on its company.
#pragma once

#include <utility>
#include <vector>

#include "backend/cuda/kernel.h"

namespace qwerky::cuda {

/// Operands of wkv6 and wkv7, or their gradients; kappa and a are null in WKV-6.
struct Wkv {
  int heads, kv_heads, N;
  float scale;
  float *r, *log_w, *k, *v, *kappa, *a;
  explicit Wkv(const Wkv6& p)
      : heads(p.heads),
        kv_heads(p.kv_heads),
        N(p.head),
        scale(static_cast<float>(p.scale)),
        r(p.r.as<float>()),
        log_w(p.log_w.as<float>()),
        k(p.k.as<float>()),
        v(p.v.as<float>()),
        kappa(nullptr),
        a(nullptr) {}
  explicit Wkv(const Wkv7& p)
      : heads(p.heads),
        kv_heads(p.heads),
        N(p.head),
        scale(static_cast<float>(p.scale)),
        r(p.r.as<float>()),
        log_w(p.log_w.as<float>()),
        k(p.k.as<float>()),
        v(p.v.as<float>()),
        kappa(p.kappa.as<float>()),
        a(p.a.as<float>()) {}
  __device__ int64_t at(int64_t row, int64_t h) const { return (row * heads + h) * N; }
  __device__ int64_t at_value(int64_t row, int64_t h) const { return (row * kv_heads + h / (heads / kv_heads)) * N; }
};

/// Segments by the form that computes them.
struct WkvForms {
  std::vector<Segment> rows, chunks;
  WkvForms(int N, Batch batch) {
    for (const Segment& s : batch)
      if (s.rows > 0) ((N == 64 || N == 128) && s.rows >= 16 ? chunks : rows).push_back(s);
  }
};

// What the kernels that go row by row share.
constexpr int kRowColumns = 64;        ///< most columns of a state of a block, forward
constexpr int64_t kSharedState = 128;  ///< N up to which [N, N + 1] fits in shared memory
inline unsigned wkv_threads(int columns) { return blocks_for(columns, kWarp) * kWarp; }
/// Of each segment its first chunk, and how many chunks of `rows` rows there are in all.
inline std::pair<std::vector<int64_t>, int64_t> wkv_row_chunks(Batch batch, int64_t rows) {
  std::vector<int64_t> first;
  int64_t chunks = 0;
  for (const Segment& s : batch) first.push_back(chunks), chunks += blocks_for(s.rows, rows);
  return {first, chunks};
}

/// Outputs and states of the rows of `batch`, which come by chunks.
void wkv_chunks(Device& on, Precision precision, float* o, const Wkv& p, Batch batch, int64_t offset);
/// Gradients of the same, from zero states. dv [R, heads·N]: of each query head's reading of v.
void wkv_chunks_vjp(Device& on, Precision precision, const Wkv& d, float* dv, const float* d_o, const Wkv& p,
                    Batch batch);

}  // namespace qwerky::cuda
