// SPDX-License-Identifier: MIT
// The sequential part of WKV by chunks: the state runs over the panels of a head, forward or in reverse.
#pragma once

#include "backend/cuda/wkv_chunk.h"

namespace qwerky::cuda {

/// A scan over the chunks of a head, forward or from the last chunk to the first. States [N(key), N(value)].
struct Scan {
  float* out = nullptr;  ///< [R, heads·N]: out_scale · O, where wanted
  /// S before each chunk [chunk][head][N, N] and probe S [chunk][head][16, N], where wanted.
  float *states = nullptr, *probes = nullptr;
  const float* in = nullptr;  ///< [R, in_heads·N]: V = in_scale · in
  int first_head = 0, heads = 0, in_heads = 0;
  float in_scale = 1, out_scale = 1;
  bool reverse = false;
  const ChunkedSegment* segments = nullptr;
};

/// Grid (parts of a head, heads, segments); a warp 16 values, with their part of Sᵀ in registers. Per chunk
///   Oᵀ = Sᵀ readᵀ + Vᵀ localᵀ    Yᵀ = Sᵀ probeᵀ    Sᵀ <- Sᵀ diag(decay) + Vᵀ add + Yᵀ back
template <int kN, bool kDelta, int kTerms>
__global__ void __launch_bounds__(128) scan_kernel(Scan p, Panel<kN, kDelta, kTerms> panels) {
  using P = Panel<kN, kDelta, kTerms>;
  DYNAMIC_SHARED(unsigned char, shared);  // two panels without their `local`
  const ChunkedSegment s = p.segments[blockIdx.z];
  const int64_t head = p.first_head + static_cast<int64_t>(blockIdx.y);
  const int64_t value = (int64_t{blockIdx.x} * (blockDim.x / kWarp) + threadIdx.x / kWarp) * kSide;
  const auto index = [&](int64_t c) { return (s.first_chunk + c) * gridDim.y + blockIdx.y; };
  const auto place_of = [&](int64_t step) { return ChunkPlace(s, p.reverse ? s.chunks - 1 - step : step); };
  const auto load_in = [&](const ChunkPlace& c) {
    const float* from = p.in + (c.row * p.in_heads + head / (p.heads / p.in_heads)) * kN + value;
    return tile_of(
        [&](int j, int i) { return i < c.rows ? p.in_scale * from[int64_t{i} * p.in_heads * kN + j] : 0.0f; });
  };

  float* const stored = s.state == nullptr ? nullptr : s.state + head * kN * kN + value;
  Tile state[kN / kSide];
#pragma unroll
  for (int t = 0; t < kN / kSide; ++t)
    state[t] = tile_of([&](int j, int key) { return stored == nullptr ? 0.0f : stored[(t * kSide + key) * kN + j]; });
  copy_to_shared(shared, panels.at(index(place_of(0).chunk)), P::kStagedBytes);
  Tile in = load_in(place_of(0));
  for (int64_t step = 0; step < s.chunks; ++step) {
    const ChunkPlace c = place_of(step);
    const unsigned char* panel = shared + step % 2 * P::kStagedBytes;
    __pipeline_wait_prior(0);
    __syncthreads();  // the panel is there, and all have read the one before
    const Factor<kTerms> v(in), local = P::local(panels.at(index(c.chunk)));
    if (step + 1 < s.chunks) {
      copy_to_shared(shared + (step + 1) % 2 * P::kStagedBytes, panels.at(index(place_of(step + 1).chunk)),
                     P::kStagedBytes);
      in = load_in(place_of(step + 1));
    }
    if (p.states != nullptr) {
      float* to = p.states + index(c.chunk) * kN * kN + value;
#pragma unroll
      for (int t = 0; t < kN / kSide; ++t)
#pragma unroll
        for (int e = 0; e < 8; ++e) to[(t * kSide + Tile::column(e)) * kN + Tile::row(e)] = state[t].x[e];
    }
    Tile out{}, y{};
#pragma unroll
    for (int t = 0; t < kN / kSide; ++t) {
      const Factor<kTerms> sum(state[t]);
      if (p.out != nullptr) add_product(out, sum, P::factor(panel, P::kRead, t));
      if constexpr (kDelta) add_product(y, sum, P::factor(panel, P::kProbe, t));
    }
    if (p.out != nullptr) add_product(out, v, local);
    const Factor<kTerms> yv(y);
#pragma unroll
    for (int t = 0; t < kN / kSide; ++t) {
      const Tile decays = load_tile(P::decay(panel) + t * kSide, 0);  // the same in each row
#pragma unroll
      for (int e = 0; e < 8; ++e) state[t].x[e] *= decays.x[e];
      add_product(state[t], v, P::factor(panel, P::kAdd, t));
      if constexpr (kDelta) add_product(state[t], yv, P::factor(panel, P::kBack, t));
    }
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      const int i = Tile::column(e), j = static_cast<int>(value) + Tile::row(e);
      if (p.out != nullptr && i < c.rows) p.out[((c.row + i) * p.heads + head) * kN + j] = out.x[e] * p.out_scale;
      if (kDelta && p.probes != nullptr) p.probes[(index(c.chunk) * kSide + i) * kN + j] = y.x[e];
    }
  }
  if (stored == nullptr) return;
#pragma unroll
  for (int t = 0; t < kN / kSide; ++t)
#pragma unroll
    for (int e = 0; e < 8; ++e) stored[(t * kSide + Tile::column(e)) * kN + Tile::row(e)] = state[t].x[e];
}

}  // namespace qwerky::cuda
