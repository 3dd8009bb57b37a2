// SPDX-License-Identifier: MIT
// What comes before and after the scans over chunks: panels, gradients, and the order of kernels.
#include "backend/cuda/wkv_chunks.h"

#include "backend/cuda/operations.h"
#include "backend/cuda/wkv_chunk.h"
#include "backend/cuda/wkv_scan.h"

namespace qwerky::cuda {
namespace {

constexpr int64_t kMostScratch = int64_t{2} << 30;  ///< bytes; with more, heads go one part after the other
constexpr int64_t kWarpsToFill = 132 * 8;           ///< warps that keep the multiprocessors of an H100 busy

/// Grid (chunks of the longest segment, heads, segments), a thread a channel. Panels of the forward scan and, where
/// wanted, of the reverse one and what gradients need: [chunks of the call][heads of the call].
template <int kN, bool kDelta, int kTerms>
__global__ void __launch_bounds__(kN)
    panels_kernel(Wkv p, int first_head, const ChunkedSegment* segments, Panel<kN, kDelta, kTerms> forward,
                  Panel<kN, kDelta, kTerms> reverse, float* folds) {
  constexpr int kStride = kN + 8;
  DYNAMIC_SHARED(Square, m);           // R Kᵀ, R Bᵀ, A Kᵀ, A Bᵀ, then T, L, Q
  float* const rows = m[kSquares][0];  // R, A, K, B: [kSide, kStride] each; a panel when they have been read
  auto* const panel = reinterpret_cast<unsigned char*>(rows);
  const ChunkPlace place(segments[blockIdx.z], blockIdx.x);
  if (place.rows <= 0) return;
  const int n = static_cast<int>(threadIdx.x);
  const int64_t head = first_head + static_cast<int64_t>(blockIdx.y), index = place.index * gridDim.y + blockIdx.y;

  const Channel<kDelta> x(p, head, place, n);
#pragma unroll
  for (int i = 0; i < kSide; ++i) {
    rows[i * kStride + n] = x.r[i];
    rows[(2 * kSide + i) * kStride + n] = x.k[i];
    if constexpr (kDelta) {
      rows[(kSide + i) * kStride + n] = x.a[i];
      rows[(3 * kSide + i) * kStride + n] = x.b[i];
    }
  }
  __syncthreads();
  pair_products<kN, kDelta, kTerms>(m, rows, rows + 2 * kSide * kStride);
  __syncthreads();
  if constexpr (kDelta) {
    invert(m[kT], m[kAB]);
    __syncthreads();
    multiply_lower(m[kL], m[kT], m[kAK], true);
    multiply_lower(m[kQ], m[kRB], m[kT], false);
    __syncthreads();
  }

  float read[kSide], probe[kSide], add[kSide], back[kSide];
#pragma unroll
  for (int i = 0; i < kSide; ++i) {
    float from_a = 0, to_b = 0;
    read[i] = x.r[i], add[i] = x.k[i];
    if constexpr (kDelta) {
#pragma unroll
      for (int j = 0; j <= i; ++j) from_a += m[kT][i][j] * x.a[j], read[i] += m[kQ][i][j] * x.a[j];
#pragma unroll
      for (int j = i + 1; j < kSide; ++j) to_b += m[kL][j][i] * x.b[j];
      probe[i] = from_a * x.from, back[i] = x.b[i] * x.to;
    }
    read[i] *= x.from, add[i] = (add[i] + to_b) * x.to;
  }
  const auto local = [&](int i, int j) {
    float sum = j <= i ? m[kRK][i][j] : 0;
    if constexpr (kDelta)
      for (int l = j + 1; l <= i; ++l) sum += m[kRB][i][l] * m[kL][l][j];
    return sum;
  };
  using P = Panel<kN, kDelta, kTerms>;
  P::fill(panel, read, probe, add, back, x.from * x.to, local);
  forward.store(index, panel);
  if (reverse.data == nullptr) return;
  __syncthreads();
  P::fill(panel, add, back, read, probe, x.from * x.to, [&](int i, int j) { return local(j, i); });
  reverse.store(index, panel);
  if constexpr (kDelta)
    for (int e = n; e < 3 * kSide * kSide; e += kN)
      folds[index * 3 * kSide * kSide + e] = m[kT + e / (kSide * kSide)][e / kSide % kSide][e % kSide];
}

/// What the gradients of a head of a chunk are made of.
struct Reversal {
  Wkv d, p;
  const float* d_o;
  int first_head = 0;
  const ChunkedSegment* segments = nullptr;
  const float *states, *dstates;  ///< S before and dS after each chunk, [chunk][head][N, N]
  const float *probes, *dprobes;  ///< T A S and B dS of each chunk, [chunk][head][16, N]
  const float* folds;             ///< T, L, Q of each chunk
};

/// Grid (chunks of the longest segment, heads, segments), a thread a channel: of values first, then of keys.
template <int kN, bool kDelta, int kTerms>
__global__ void __launch_bounds__(kN) gradients_kernel(Reversal q) {
  constexpr int kStride = kN + 8, kPart = kSide * kStride, kTiles = kN / kSide, kWarps = kN / kWarp;
  constexpr int kPairs = kDelta ? 2 : 1;
  DYNAMIC_SHARED(float, shared);
  float *const left = shared, *const right = left + 2 * kPart;   // scale dO, dZ and V, Z: [kSide, kStride] each
  auto* const m = reinterpret_cast<Square*>(right + 2 * kPart);  // of the products M the gradients, then T, L, Q
  float* const ends = reinterpret_cast<float*>(m + kSquares);
  const ChunkPlace place(q.segments[blockIdx.z], blockIdx.x);
  if (place.rows <= 0) return;
  const int n = static_cast<int>(threadIdx.x), warp = n / kWarp;
  const int64_t head = q.first_head + static_cast<int64_t>(blockIdx.y), index = place.index * gridDim.y + blockIdx.y;

  if constexpr (kDelta) {
    for (int e = n; e < 3 * kSide * kSide; e += kN)
      m[kT + e / (kSide * kSide)][e / kSide % kSide][e % kSide] = q.folds[index * 3 * kSide * kSide + e];
    __syncthreads();
  }
  {
    float v[kSide], go[kSide];
#pragma unroll
    for (int i = 0; i < kSide; ++i) {
      v[i] = i < place.rows ? q.p.v[q.p.at_value(place.row + i, head) + n] : 0;
      go[i] = i < place.rows ? q.p.scale * q.d_o[q.p.at(place.row + i, head) + n] : 0;
      left[i * kStride + n] = go[i], right[i * kStride + n] = v[i];
    }
    if constexpr (kDelta) {
      float y[kSide];
#pragma unroll
      for (int i = 0; i < kSide; ++i) y[i] = q.dprobes[(index * kSide + i) * kN + n];
#pragma unroll
      for (int i = 0; i < kSide; ++i) {
        float z = q.probes[(index * kSide + i) * kN + n], dz = 0;
#pragma unroll
        for (int j = 0; j < i; ++j) z += m[kL][i][j] * v[j];
#pragma unroll
        for (int j = i; j < kSide; ++j) dz += m[kT][j][i] * y[j] + m[kQ][j][i] * go[j];
        right[kPart + i * kStride + n] = z, left[kPart + i * kStride + n] = dz;
      }
    }
  }
  __syncthreads();
  pair_products<kN, kDelta, kTerms>(m, left, right);

  // dR = scale dO Sᵀ, dA = dZ Sᵀ, dK = V dSᵀ, dB = Z dSᵀ, a warp keys of its own
  Tile sums[kTiles / kWarps][2 * kPairs];
#pragma unroll
  for (int u = 0; u < kTiles / kWarps; ++u) {
    const int key = (warp + u * kWarps) * kSide;
    float end[2] = {};
#pragma unroll
    for (int i = 0; i < 2 * kPairs; ++i) sums[u][i] = {};
    for (int t = 0; t < kTiles; ++t) {
      const Tile s = load_tile(q.states + (index * kN + key) * kN + t * kSide, kN);
      const Tile ds = load_tile(q.dstates + (index * kN + key) * kN + t * kSide, kN);
#pragma unroll
      for (int e = 0; e < 8; ++e) end[e / 2 % 2] += s.x[e] * ds.x[e];
      const Factor<kTerms> fs(s), fds(ds);
#pragma unroll
      for (int i = 0; i < kPairs; ++i) {
        add_product(sums[u][i], Factor<kTerms>(load_tile(left + i * kPart + t * kSide, kStride)), fs);
        add_product(sums[u][kPairs + i], Factor<kTerms>(load_tile(right + i * kPart + t * kSide, kStride)), fds);
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {  // over the four lanes of a row
      end[i] += __shfl_xor_sync(kAll, end[i], 1);
      end[i] += __shfl_xor_sync(kAll, end[i], 2);
      if (n % 4 == 0) ends[key + n % kWarp / 4 + 8 * i] = end[i];
    }
  }
  __syncthreads();
#pragma unroll
  for (int u = 0; u < kTiles / kWarps; ++u)
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int key = (warp + u * kWarps) * kSide;
      store_tile(left + i * kPart + key, kStride, sums[u][i]);
      store_tile(right + i * kPart + key, kStride, sums[u][kPairs + i]);
    }
  __syncthreads();

  const Channel<kDelta> x(q.p, head, place, n);
  float later = x.from * x.to * ends[n];  // Σ over values of S dS, after the chunk
#pragma unroll
  for (int i = 0; i < kSide; ++i) {
    later += x.to * right[i * kStride + n] * x.k[i];
    if constexpr (kDelta) later += x.to * right[kPart + i * kStride + n] * x.b[i];
  }
#pragma unroll
  for (int i = kSide; i-- > 0;) {  // dlog_w_s = Σ_{i >= s} dG_i + Σ_{i > s} dE_i + that
    float dr = x.from * left[i * kStride + n], dk = x.to * right[i * kStride + n], da = 0, db = 0;
    if constexpr (kDelta) da = x.from * left[kPart + i * kStride + n], db = x.to * right[kPart + i * kStride + n];
#pragma unroll
    for (int j = 0; j < i; ++j) {
      dr += m[kRK][i][j] * x.k[j];
      if constexpr (kDelta) {
        dr += m[kRB][i][j] * x.b[j];
        da += m[kAK][i][j] * x.k[j] + m[kAB][i][j] * x.b[j];
      }
    }
#pragma unroll
    for (int j = i + 1; j < kSide; ++j) {
      dk += m[kRK][j][i] * x.r[j];
      if constexpr (kDelta) {
        dk += m[kAK][j][i] * x.a[j];
        db += m[kRB][j][i] * x.r[j] + m[kAB][j][i] * x.a[j];
      }
    }
    later += dr * x.r[i] - dk * x.k[i];
    if constexpr (kDelta) later -= db * x.b[i];
    if (i < place.rows) {
      const int64_t at = q.p.at(place.row + i, head) + n;
      const float r = q.p.r[at], e = x.decay[i + 1], inverse = 1 / e, on_k = m[kRK][i][i];
      q.d.log_w[at] = later;
      float to_r = dr * e + on_k * q.p.k[at];
      if constexpr (kDelta) {
        const float kappa = q.p.kappa[at], rate = q.p.a[at], on_b = m[kRB][i][i], of_b = db * inverse + on_b * r;
        to_r -= on_b * rate * kappa;
        q.d.kappa[at] = da * x.decay[i] - rate * of_b;
        q.d.a[at] = -kappa * of_b;
      }
      q.d.r[at] = to_r;
      q.d.k[at] = dk * inverse + on_k * r;
    }
    if constexpr (kDelta) later += da * x.a[i];
  }
}

template <auto kValue>
using Constant = std::integral_constant<decltype(kValue), kValue>;

/// Calls f with head size, family, terms of the factors of panels and scans, and of gradients, as constants. With bf16,
/// what meets a state keeps 16 bits: decoding goes on from it row by row, in f32.
template <class F>
void with_kind(Precision precision, const Wkv& p, const F& f) {
  const auto with_terms = [&](auto N, auto delta) {
    precision == Precision::bf16 ? f(N, delta, Constant<2>(), Constant<1>())
                                 : f(N, delta, Constant<3>(), Constant<3>());
  };
  const auto with_delta = [&](auto N) {
    p.kappa != nullptr ? with_terms(N, Constant<true>()) : with_terms(N, Constant<false>());
  };
  p.N == 64 ? with_delta(Constant<64>()) : with_delta(Constant<128>());
}

/// The chunks of a call and the kernels on them.
template <int kN, bool kDelta, int kTerms>
class Chunks {
 public:
  using P = Panel<kN, kDelta, kTerms>;
  int64_t count = 0;
  Chunks(Device& on, const Wkv& p, Batch batch, int64_t offset, bool from_zero) : on_(on), p_(p) {
    std::vector<ChunkedSegment> segments;
    for (const Segment& s : batch) {
      const int64_t first = std::min(s.rows, kSide - (from_zero ? 0 : s.position() % kSide));
      const int64_t chunks = 1 + (s.rows - first + kSide - 1) / kSide;
      const bool keeps = !from_zero && s.state;
      segments.push_back({s.row, s.rows, first, chunks, count,
                          keeps ? s.state->at(offset, int64_t{p.heads} * kN * kN).template as<float>() : nullptr});
      count += chunks;
      longest_ = std::max(longest_, chunks);
    }
    segments_ = on.upload(std::span<const ChunkedSegment>(segments));
    segment_count_ = static_cast<unsigned>(segments.size());
  }

  /// Calls f(memory, first head, heads) with `bytes_per_chunk` for each head of each chunk.
  template <class F>
  void by_heads(int64_t bytes_per_chunk, const F& f) const {
    const int64_t each = bytes_per_chunk * count;
    const int part = static_cast<int>(std::clamp<int64_t>(kMostScratch / each, 1, p_.heads));
    for (int first = 0; first < p_.heads; first += part) {
      const int heads = std::min(part, p_.heads - first);
      f(on_.scratch<unsigned char>(Use::wkv, each * part), first, heads);
    }
  }
  void panels(int first, int heads, P forward, P reverse, float* folds) const {
    launch(on_, grid(heads), kN, kSquareBytes + std::max(kRowBytes, size_t{P::kBytes}),
           panels_kernel<kN, kDelta, kTerms>, p_, first, segments_, forward, reverse, folds);
  }
  void scan(int first, int heads, P panels, Scan s) const {
    s.first_head = first, s.heads = p_.heads, s.segments = segments_;
    const int64_t warps = int64_t{kN} / kSide * heads * segment_count_;
    const unsigned per_block = warps >= kWarpsToFill ? 4 : warps * 2 >= kWarpsToFill ? 2 : 1;
    launch(on_, dim3(kN / kSide / per_block, static_cast<unsigned>(heads), segment_count_), per_block * kWarp,
           size_t{2} * P::kStagedBytes, scan_kernel<kN, kDelta, kTerms>, s, panels);
  }
  template <int kGradientTerms>
  void gradients(int first, int heads, Reversal q) const {
    q.first_head = first, q.segments = segments_;
    launch(on_, grid(heads), kN, kSquareBytes + kRowBytes + kN * sizeof(float),
           gradients_kernel<kN, kDelta, kGradientTerms>, q);
  }

 private:
  static constexpr size_t kSquareBytes = kSquares * sizeof(Square), kRowBytes = 4 * kSide * (kN + 8) * sizeof(float);
  dim3 grid(int heads) const {
    return dim3(static_cast<unsigned>(longest_), static_cast<unsigned>(heads), segment_count_);
  }
  Device& on_;
  const Wkv& p_;
  const ChunkedSegment* segments_ = nullptr;
  unsigned segment_count_ = 0;
  int64_t longest_ = 0;
};

}  // namespace

void wkv_chunks(Device& on, Precision precision, float* o, const Wkv& p, Batch batch, int64_t offset) {
  if (batch.empty()) return;
  with_kind(precision, p, [&](auto N, auto delta, auto terms, auto) {
    const Chunks<N(), delta(), terms()> chunks(on, p, batch, offset, false);
    using P = Panel<N(), delta(), terms()>;
    chunks.by_heads(P::kBytes, [&](unsigned char* memory, int first, int heads) {
      chunks.panels(first, heads, P{memory}, P{nullptr}, nullptr);
      chunks.scan(first, heads, P{memory}, {.out = o, .in = p.v, .in_heads = p.kv_heads, .out_scale = p.scale});
    });
  });
}

void wkv_chunks_vjp(Device& on, Precision precision, const Wkv& d, float* dv, const float* d_o, const Wkv& p,
                    Batch batch) {
  if (batch.empty()) return;
  with_kind(precision, p, [&](auto N, auto delta, auto terms, auto gradient_terms) {
    const Chunks<N(), delta(), terms()> chunks(on, p, batch, 0, true);
    using P = Panel<N(), delta(), terms()>;
    constexpr int64_t kState = int64_t{N()} * N(), kProbe = delta() ? kSide * N() : 0,
                      kFolds = delta() ? 3 * kSide * kSide : 0;
    chunks.by_heads(2 * P::kBytes + (2 * kState + 2 * kProbe + kFolds) * int64_t{sizeof(float)},
                    [&](unsigned char* memory, int first, int heads) {
                      const int64_t units = chunks.count * heads;
                      const P forward{memory}, reverse{memory + units * P::kBytes};
                      float* states = reinterpret_cast<float*>(reverse.data + units * P::kBytes);
                      float *dstates = states + units * kState, *probes = dstates + units * kState,
                            *dprobes = probes + units * kProbe;
                      float* folds = dprobes + units * kProbe;
                      chunks.panels(first, heads, forward, reverse, folds);
                      chunks.scan(first, heads, forward,
                                  {.states = states, .probes = probes, .in = p.v, .in_heads = p.kv_heads});
                      chunks.scan(first, heads, reverse,
                                  {.out = dv,
                                   .states = dstates,
                                   .probes = dprobes,
                                   .in = d_o,
                                   .in_heads = p.heads,
                                   .in_scale = p.scale,
                                   .reverse = true});
                      chunks.template gradients<gradient_terms()>(first, heads,
                                                                  {.d = d,
                                                                   .p = p,
                                                                   .d_o = d_o,
                                                                   .states = states,
                                                                   .dstates = dstates,
                                                                   .probes = probes,
                                                                   .dprobes = dprobes,
                                                                   .folds = folds});
                    });
  });
}

}  // namespace qwerky::cuda
