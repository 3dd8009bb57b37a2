// SPDX-License-Identifier: MIT
// The ops wkv6 and wkv7: which form runs, and what threads share.
// clang-format off
#include "backend/wkv_scan.inl"
#include "backend/wkv_chunk.inl"
#include "backend/wkv_small.inl"
// clang-format on

namespace kernels {

QWERKY_INLINE Wkv operands(const Wkv6& p) {
  return {p.heads,         p.kv_heads,
          p.head,          static_cast<float>(p.scale),
          p.r.as<float>(), p.log_w.as<float>(),
          p.k.as<float>(), p.v.as<float>(),
          nullptr,         nullptr};
}
QWERKY_INLINE Wkv operands(const Wkv7& p) {
  return {p.heads,
          p.heads,
          p.head,
          static_cast<float>(p.scale),
          p.r.as<float>(),
          p.log_w.as<float>(),
          p.k.as<float>(),
          p.v.as<float>(),
          p.kappa.as<float>(),
          p.a.as<float>()};
}
QWERKY_INLINE WkvGrad gradients(const Wkv6& d) {
  return {d.r.as<float>(), d.log_w.as<float>(), d.k.as<float>(), d.v.as<float>(), nullptr, nullptr};
}
QWERKY_INLINE WkvGrad gradients(const Wkv7& d) {
  return {d.r.as<float>(), d.log_w.as<float>(), d.k.as<float>(), d.v.as<float>(), d.kappa.as<float>(), d.a.as<float>()};
}

/// Calls f(segment, unit) for every unit of every segment, in parallel when there is work enough for threads.
template <class F>
void each_unit(Batch batch, int units, int64_t unit_floats, const F& f) {
  int64_t rows = 0;
  for (const Segment& s : batch) rows += s.rows;
  const int64_t n = static_cast<int64_t>(batch.size()) * units;
  if (n == 0 || rows == 0) return;
  const int64_t work = rows * unit_floats / static_cast<int64_t>(batch.size());  // states updated by an average unit
  parallel_for(n, 1 + (int64_t{1} << 15) / (work + 1), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Segment& s = batch[static_cast<size_t>(i / units)];
      if (s.rows > 0) f(s, static_cast<int>(i % units));
    }
  });
}

/// Head sizes from which chunks are faster than rows. In f32 both forms need about 5 N² multiply-adds a row forward, so
/// only long columns of S, which outgrow L1, decide; backward, rows need 20 N² and chunks 11 N² + 19 N kChunk (WKV-7).
template <bool kDelta>
constexpr int kChunkFromN = kDelta ? 256 : 128;
template <bool kDelta>
constexpr int kChunkVjpFromN = kDelta ? 48 : 16;

template <bool kDelta>
void wkv_forward(float* o, const Wkv& p, Batch batch, int64_t offset) {
  const int64_t N = p.head, A = p.heads * N;
  const auto state_of = [=](const Segment& s, int head) {
    return s.state ? s.state->at(offset, A * N).as<float>() + head * N * N : nullptr;
  };
  if (N == 8) {
    const int G = p.heads / p.kv_heads;
    each_unit(batch, (p.kv_heads + kPack - 1) / kPack, kPack * G * 64, [=](const Segment& s, int unit) {
      for (int g = 0; g < G; ++g) {
        const int head = unit * kPack * G + g;
        const PackRows x = pack_rows(p, unit * kPack, g, s.row);
        scan_pack<kDelta>(o + s.row * A + head * 8, x, s.rows, state_of(s, head), x.second * 8);
      }
    });
    return;
  }
  each_unit(batch, p.heads, N * N, [=](const Segment& s, int head) {
    if (N >= kChunkFromN<kDelta> && s.rows >= chunk_from_rows(p.head))
      chunk_head<kDelta>(o, p, head, s, state_of(s, head));
    else
      scan_head<kDelta>(o, p, head, s.row, s.rows, state_of(s, head));
  });
}

/// The heads of a group add to the same dv one after the other.
template <bool kDelta>
void wkv_reverse(const WkvGrad& d, const float* d_o, const Wkv& p, Batch batch) {
  const int64_t N = p.head;
  const int G = p.heads / p.kv_heads;
  if (N == 8) {
    each_unit(batch, (p.kv_heads + kPack - 1) / kPack, 4 * kPack * G * 64, [=](const Segment& s, int unit) {
      for (int g = 0; g < G; ++g) {
        const PackRows x = pack_rows(p, unit * kPack, g, s.row);
        const int64_t i = x.r - p.r, iv = x.v - p.v;
        const WkvGrad at{
            d.r + i, d.log_w + i, d.k + i, d.v + iv, kDelta ? d.kappa + i : nullptr, kDelta ? d.a + i : nullptr};
        reverse_pack_rows<kDelta>(at, d_o + i, x, s.rows, g > 0);
      }
    });
    return;
  }
  each_unit(batch, p.kv_heads, 4 * G * N * N, [=](const Segment& s, int unit) {
    for (int g = 0; g < G; ++g)
      if (N >= kChunkVjpFromN<kDelta> && s.rows >= kChunk)
        reverse_chunks<kDelta>(d, d_o, p, unit * G + g, s.row, s.rows, g > 0);
      else
        reverse_head<kDelta>(d, d_o, p, unit * G + g, s.row, s.rows, g > 0);
  });
}

inline void wkv6(Tensor o, const Wkv6& p, Batch batch, int64_t offset) {
  wkv_forward<false>(o.as<float>(), operands(p), batch, offset);
}
inline void wkv6_vjp(const Wkv6& d, Tensor d_o, const Wkv6& p, Batch batch) {
  wkv_reverse<false>(gradients(d), d_o.as<float>(), operands(p), batch);
}
inline void wkv7(Tensor o, const Wkv7& p, Batch batch, int64_t offset) {
  wkv_forward<true>(o.as<float>(), operands(p), batch, offset);
}
inline void wkv7_vjp(const Wkv7& d, Tensor d_o, const Wkv7& p, Batch batch) {
  wkv_reverse<true>(gradients(d), d_o.as<float>(), operands(p), batch);
}

}  // namespace kernels
