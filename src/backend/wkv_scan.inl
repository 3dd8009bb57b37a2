// SPDX-License-Identifier: MIT
// WKV-6 and WKV-7 row by row, for any head size. With S_0 the state before, per head and row:
//   z = κ S (values),  S <- diag(w) S + bᵀ z + kᵀ v  with b = -a κ,  o = scale · r S       (WKV-6: without z and b)
// Columns of S do not meet, so a strip of columns runs through the rows while it lies in L1.

namespace kernels {

/// Operands of wkv6 and wkv7; kappa and a are null in WKV-6. r, log_w, k, kappa, a, o [rows, heads·N], v [rows,
/// kv_heads·N].
struct Wkv {
  int heads, kv_heads, head;
  float scale;
  const float *r, *log_w, *k, *v, *kappa, *a;
};
struct WkvGrad {
  float *r, *log_w, *k, *v, *kappa, *a;
};

constexpr int kScanRows = 16;                         ///< rows between saved states
constexpr int kScanWide = QWERKY_ISA == 512 ? 4 : 2;  ///< most vectors of a strip

QWERKY_INLINE int64_t whole_vectors(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

/// Lane i of the result is the sum of the lanes of x[i].
QWERKY_INLINE V sums_of(const V* x) {
#if QWERKY_ISA == 512
  __m512 q[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512 a = x[4 * i].r, b = x[4 * i + 1].r, c = x[4 * i + 2].r, d = x[4 * i + 3].r;
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    q[i] = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
  }
  const __m512 lo = _mm512_add_ps(_mm512_shuffle_f32x4(q[0], q[1], 0x88), _mm512_shuffle_f32x4(q[0], q[1], 0xdd));
  const __m512 hi = _mm512_add_ps(_mm512_shuffle_f32x4(q[2], q[3], 0x88), _mm512_shuffle_f32x4(q[2], q[3], 0xdd));
  return {_mm512_add_ps(_mm512_shuffle_f32x4(lo, hi, 0x88), _mm512_shuffle_f32x4(lo, hi, 0xdd))};
#else
  __m256 q[2];
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const __m256 a = x[4 * i].r, b = x[4 * i + 1].r, c = x[4 * i + 2].r, d = x[4 * i + 3].r;
    const __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    const __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    q[i] = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
  }
  return {_mm256_add_ps(_mm256_permute2f128_ps(q[0], q[1], 0x20), _mm256_permute2f128_ps(q[0], q[1], 0x31))};
#endif
}

/// Consecutive rows of one head, from the first of them. w, b [rows, padded] are scratch, filled by fill_decays.
struct HeadRows {
  int N;
  int64_t padded, stride, v_stride;
  float scale;
  const float *r, *log_w, *k, *v, *kappa, *a;
  float *w, *b;
};

QWERKY_INLINE HeadRows head_rows(const Wkv& p, int head, int64_t row, float* w, float* b) {
  const int64_t N = p.head, A = p.heads * N, W = p.kv_heads * N, i = row * A + head * N;
  const int64_t iv = row * W + head / (p.heads / p.kv_heads) * N;
  const bool delta = p.kappa != nullptr;
  return {p.head,
          whole_vectors(N),
          A,
          W,
          p.scale,
          p.r + i,
          p.log_w + i,
          p.k + i,
          p.v + iv,
          delta ? p.kappa + i : nullptr,
          delta ? p.a + i : nullptr,
          w,
          b};
}

/// Asks for `rows` rows of N floats, `stride` apart. A head's rows are too short and too far apart for the hardware to
/// foresee.
QWERKY_INLINE void prefetch(const float* p, int64_t stride, int rows, int N) {
  for (int t = 0; t < rows; ++t)
    for (int i = 0; i < N; i += 16) __builtin_prefetch(p + t * stride + i);
}
/// The operands of the `rows` rows from the `ahead`-th on.
template <bool kDelta>
QWERKY_INLINE void prefetch(const HeadRows& x, int64_t ahead, int rows) {
  for (const float* p : {x.r, x.log_w, x.k}) prefetch(p + ahead * x.stride, x.stride, rows, x.N);
  prefetch(x.v + ahead * x.v_stride, x.v_stride, rows, x.N);
  if constexpr (kDelta)
    for (const float* p : {x.kappa, x.a}) prefetch(p + ahead * x.stride, x.stride, rows, x.N);
}

/// w = exp(log_w), b = -a κ; the padding becomes exp(0) and 0.
template <bool kDelta>
inline void fill_decays(const HeadRows& x, int rows) {
  for (int t = 0; t < rows; ++t)
    sweep(x.N, [&, t](int64_t i, auto lanes) {
      store(x.w + t * x.padded + i, exp(load(x.log_w + t * x.stride + i, lanes)));
      if constexpr (kDelta)
        store(x.b + t * x.padded + i,
              neg(load(x.a + t * x.stride + i, lanes) * load(x.kappa + t * x.stride + i, lanes)));
    });
}

/// What a scan leaves behind: its outputs, only the last state, or every state and z.
enum class Scan { outputs, state, history };

/// Runs `rows` rows over columns [col, col + cols) of a head, kWide vectors. S [N, ld]; with Scan::history the state
/// after row t goes to S + (t + 1) N ld, and z of row t to z_out + t ld.
template <bool kDelta, int kWide, Scan kScan>
void scan_strip(float* S, int64_t ld, const HeadRows& x, int rows, int col, int cols, float* o, float* z_out) {
  const int tail = cols - (kWide - 1) * kLanes;
  V z[kWide] = {};
  if constexpr (kDelta)
    for (int i = 0; i < x.N; ++i) {
      const V kappa = set(x.kappa[i]);
#pragma GCC unroll 4
      for (int c = 0; c < kWide; ++c) z[c] = fma(kappa, load(S + i * ld + c * kLanes), z[c]);
    }
  for (int t = 0; t < rows; ++t) {
    const float *w = x.w + t * x.padded, *b = x.b + t * x.padded, *k = x.k + t * x.stride, *r = x.r + t * x.stride;
    const float *v_row = x.v + t * x.v_stride + col,
                *next = kDelta ? x.kappa + (t + 1 < rows ? t + 1 : t) * x.stride : nullptr;
    float* to = kScan == Scan::history ? S + x.N * ld : S;
    V v[kWide], out[kWide], ahead[kWide];  // ahead: z of the next row
#pragma GCC unroll 4
    for (int c = 0; c < kWide; ++c) {
      v[c] = c + 1 < kWide ? load(v_row + c * kLanes) : load(v_row + c * kLanes, tail);
      out[c] = ahead[c] = zero();
      if constexpr (kDelta && kScan == Scan::history) store(z_out + t * ld + c * kLanes, z[c]);
    }
    for (int i = 0; i < x.N; ++i) {
      const V wi = set(w[i]), ki = set(k[i]);
      V bi, ri, ni;
      if constexpr (kDelta) bi = set(b[i]), ni = set(next[i]);
      if constexpr (kScan == Scan::outputs) ri = set(r[i]);
#pragma GCC unroll 4
      for (int c = 0; c < kWide; ++c) {
        V s = fma(ki, v[c], wi * load(S + i * ld + c * kLanes));
        if constexpr (kDelta) {
          s = fma(bi, z[c], s);
          ahead[c] = fma(ni, s, ahead[c]);
        }
        store(to + i * ld + c * kLanes, s);
        if constexpr (kScan == Scan::outputs) out[c] = fma(ri, s, out[c]);
      }
    }
    S = to;
#pragma GCC unroll 4
    for (int c = 0; c < kWide; ++c) {
      z[c] = ahead[c];
      if constexpr (kScan == Scan::outputs) {
        float* to_o = o + t * x.stride + col + c * kLanes;
        if (c + 1 < kWide)
          store(to_o, set(x.scale) * out[c]);
        else
          store(to_o, set(x.scale) * out[c], tail);
      }
    }
  }
}

/// Sums over values of one block of rows, [rows, padded] each: Σ S do, Σ dS v, Σ dS S', Σ dS z, Σ dz S' (S' the state
/// before).
struct BlockSums {
  float *r, *k, *w, *b, *kappa;
};

/// Reverses `rows` rows over columns [col, col + cols): dS [N, ld] holds the gradient of the state after the last row
/// and becomes that of the state before the first. history as scan_strip leaves it. Adds to `sums`; dv = or +=. parts
/// [5, padded, kLanes] is scratch.
template <bool kDelta, int kWide>
void reverse_strip(float* dS, const float* history, const float* zs, int64_t ld, const HeadRows& x, int rows, int col,
                   int cols, const float* d_o, float* dv, bool add_dv, const BlockSums& sums, float* parts) {
  const int tail = cols - (kWide - 1) * kLanes;
  const int64_t part = x.padded * kLanes;
  for (int t = rows; t-- > 0;) {
    const float *w = x.w + t * x.padded, *b = x.b + t * x.padded, *k = x.k + t * x.stride, *r = x.r + t * x.stride;
    const float *before = history + t * x.N * ld, *after = before + x.N * ld;
    V go[kWide], v[kWide], z[kWide], dv_sum[kWide], dz[kWide];
#pragma GCC unroll 4
    for (int c = 0; c < kWide; ++c) {
      const float *from_o = d_o + t * x.stride + col + c * kLanes, *from_v = x.v + t * x.v_stride + col + c * kLanes;
      go[c] = set(x.scale) * (c + 1 < kWide ? load(from_o) : load(from_o, tail));
      v[c] = c + 1 < kWide ? load(from_v) : load(from_v, tail);
      z[c] = kDelta ? load(zs + t * ld + c * kLanes) : zero();
      dv_sum[c] = dz[c] = zero();
    }
    for (int i = 0; i < x.N; ++i) {
      const V ri = set(r[i]), ki = set(k[i]), bi = kDelta ? set(b[i]) : zero(), wi = set(w[i]);
      V sum_r = zero(), sum_k = zero(), sum_w = zero(), sum_b = zero();
#pragma GCC unroll 4
      for (int c = 0; c < kWide; ++c) {
        const int64_t at = i * ld + c * kLanes;
        const V g = fma(ri, go[c], load(dS + at));
        sum_r = fma(load(after + at), go[c], sum_r);
        sum_k = fma(g, v[c], sum_k);
        sum_w = fma(g, load(before + at), sum_w);
        dv_sum[c] = fma(ki, g, dv_sum[c]);
        if constexpr (kDelta) {
          sum_b = fma(g, z[c], sum_b);
          dz[c] = fma(bi, g, dz[c]);
          store(dS + at, g);
        } else {
          store(dS + at, wi * g);
        }
      }
      store(parts + i * kLanes, sum_r);
      store(parts + part + i * kLanes, sum_k);
      store(parts + 2 * part + i * kLanes, sum_w);
      if constexpr (kDelta) store(parts + 3 * part + i * kLanes, sum_b);
    }
    if constexpr (kDelta)
      for (int i = 0; i < x.N; ++i) {
        const V wi = set(w[i]), kappa = set(x.kappa[t * x.stride + i]);
        V sum_kappa = zero();
#pragma GCC unroll 4
        for (int c = 0; c < kWide; ++c) {
          const int64_t at = i * ld + c * kLanes;
          sum_kappa = fma(dz[c], load(before + at), sum_kappa);
          store(dS + at, fma(kappa, dz[c], wi * load(dS + at)));
        }
        store(parts + 4 * part + i * kLanes, sum_kappa);
      }
#pragma GCC unroll 4
    for (int c = 0; c < kWide; ++c) {
      float* to = dv + t * x.v_stride + col + c * kLanes;
      const int n = c + 1 < kWide ? kLanes : tail;
      store(to, add_dv ? load(to, n) + dv_sum[c] : dv_sum[c], n);
    }
    float* const to[5] = {sums.r, sums.k, sums.w, sums.b, sums.kappa};
    for (int q = 0; q < (kDelta ? 5 : 3); ++q)
      for (int64_t i = 0; i < x.padded; i += kLanes) {
        V rows_of[kLanes];
#pragma GCC unroll 16
        for (int j = 0; j < kLanes; ++j) rows_of[j] = load(parts + q * part + (i + j) * kLanes);
        float* sum = to[q] + t * x.padded + i;
        store(sum, load(sum) + sums_of(rows_of));
      }
  }
}

/// Strips of a head: how many, and vectors of each but the last.
struct Strips {
  int count, wide, vectors;
};
/// Strips that keep `floats_per_column` floats of each column within 24 KiB, so that they stay in L1.
inline Strips strips_of(int N, int64_t floats_per_column) {
  const int vectors = static_cast<int>(whole_vectors(N) / kLanes);
  int wide = kScanWide;
  while (wide > 1 && floats_per_column * wide * kLanes * 4 > 24 * 1024) --wide;
  const int count = (vectors + wide - 1) / wide;
  return {count, (vectors + count - 1) / count, vectors};
}
template <int kN>
struct Wide {
  static constexpr int n = kN;
};
/// Calls f(first vector, Wide<number of vectors>) for each strip.
template <class F>
QWERKY_INLINE void each_strip(const Strips& strips, const F& f) {
  for (int first = 0; first < strips.vectors; first += strips.wide) {
    const int wide = strips.vectors - first < strips.wide ? strips.vectors - first : strips.wide;
    if (wide == 1) f(first, Wide<1>{});
    if (wide == 2) f(first, Wide<2>{});
    if constexpr (kScanWide > 2) {
      if (wide == 3) f(first, Wide<3>{});
      if (wide == 4) f(first, Wide<4>{});
    }
  }
}

/// state [N, N] <-> the strip from column `col` on, [N, wide · kLanes] with zero padding.
inline void load_strip(float* strip, int64_t ld, const float* state, int N, int col) {
  for (int i = 0; i < N; ++i)
    for (int64_t c = 0; c < ld; c += kLanes) {
      const int64_t left = N - col - c;
      store(strip + i * ld + c, load(state + i * N + col + c, static_cast<int>(left < kLanes ? left : kLanes)));
    }
}
inline void store_strip(float* state, const float* strip, int64_t ld, int N, int col) {
  for (int i = 0; i < N; ++i)
    for (int64_t c = 0; c < ld; c += kLanes) {
      const int64_t left = N - col - c;
      store(state + i * N + col + c, load(strip + i * ld + c), static_cast<int>(left < kLanes ? left : kLanes));
    }
}
QWERKY_INLINE void clear(float* p, int64_t n) { __builtin_memset(p, 0, static_cast<size_t>(n) * sizeof(float)); }

/// `rows` rows of one head over all its columns. S: rows of `ld` floats; with ld 0, one strip after the other.
template <bool kDelta>
void scan_rows(float* S, int64_t ld, const Strips& strips, const HeadRows& x, int rows, float* o) {
  each_strip(strips, [&](int first, auto wide) {
    const int col = first * kLanes, cols = x.N - col < wide.n * kLanes ? x.N - col : wide.n * kLanes;
    scan_strip<kDelta, wide.n, Scan::outputs>(S + (ld > 0 ? col : x.N * col), ld > 0 ? ld : wide.n * kLanes, x, rows,
                                              col, cols, o, nullptr);
  });
}

/// All rows of one head. state [N, N] is continued and updated; null: starts at zero and is dropped.
template <bool kDelta>
void scan_head(float* o, const Wkv& p, int head, int64_t row, int64_t rows, float* state) {
  const int N = p.head;
  const int64_t padded = whole_vectors(N);
  const Strips strips = strips_of(N, N);
  float* w = static_cast<float*>(scratch(Scratch::wkv, (2 * kScanRows * padded + N * padded) * 4));
  float *b = w + kScanRows * padded, *S = b + kScanRows * padded;
  const bool in_place = state && rows < 4 && N % kLanes == 0;
  if (!state) clear(S, N * padded);
  if (state && !in_place)
    each_strip(strips, [&](int first, auto wide) {
      load_strip(S + N * first * kLanes, wide.n * kLanes, state, N, first * kLanes);
    });
  for (int64_t t = 0; t < rows; t += kScanRows) {
    const int n = static_cast<int>(rows - t < kScanRows ? rows - t : kScanRows);
    const HeadRows x = head_rows(p, head, row + t, w, b);
    float* to = o + (row + t) * x.stride + head * N;
    fill_decays<kDelta>(x, n);
    const int64_t left = rows - t - n;
    if (left > 0) prefetch<kDelta>(x, n, static_cast<int>(left < kScanRows ? left : kScanRows));
    scan_rows<kDelta>(in_place ? state : S, in_place ? N : 0, strips, x, n, to);
  }
  if (state && !in_place)
    each_strip(strips, [&](int first, auto wide) {
      store_strip(state, S + N * first * kLanes, wide.n * kLanes, N, first * kLanes);
    });
}

/// Gradients of all rows of one head from zero state; dv = or +=.
template <bool kDelta>
void reverse_head(const WkvGrad& d, const float* d_o, const Wkv& p, int head, int64_t row, int64_t rows, bool add_dv) {
  const int N = p.head;
  const int64_t padded = whole_vectors(N), full = N * padded, blocks = (rows + kScanRows - 1) / kScanRows;
  const Strips strips = strips_of(N, 3 * N);
  const int64_t block = kScanRows * padded, widest = strips.wide * kLanes;
  const int64_t history_floats = (kScanRows + 1) * N * widest;
  float* at = static_cast<float*>(
      scratch(Scratch::wkv,
              (7 * block + full + 5 * padded * kLanes + kScanRows * widest + history_floats + blocks * full) * 4));
  const auto take = [&at](int64_t n) { return (at += n) - n; };
  float *w = take(block), *b = take(block), *sum = take(5 * block), *dS = take(full),
        *parts = take(5 * padded * kLanes);
  float *zs = take(kScanRows * widest), *history = take(history_floats), *saved = at;
  const BlockSums sums{sum, sum + block, sum + 2 * block, sum + 3 * block, sum + 4 * block};
  clear(parts, 5 * padded * kLanes);
  clear(dS, full);
  clear(saved, full);
  for (int64_t j = 0; j + 1 < blocks; ++j) {  // saved[j]: the state before block j
    const HeadRows x = head_rows(p, head, row + j * kScanRows, w, b);
    fill_decays<kDelta>(x, kScanRows);
    __builtin_memcpy(saved + (j + 1) * full, saved + j * full, static_cast<size_t>(full) * 4);
    each_strip(strips, [&](int first, auto wide) {
      const int col = first * kLanes, cols = N - col < wide.n * kLanes ? N - col : wide.n * kLanes;
      scan_strip<kDelta, wide.n, Scan::state>(saved + (j + 1) * full + N * col, wide.n * kLanes, x, kScanRows, col,
                                              cols, nullptr, nullptr);
    });
  }
  for (int64_t j = blocks; j-- > 0;) {
    const int n = static_cast<int>(rows - j * kScanRows < kScanRows ? rows - j * kScanRows : kScanRows);
    const HeadRows x = head_rows(p, head, row + j * kScanRows, w, b);
    const int64_t i = x.r - p.r, iv = x.v - p.v;
    fill_decays<kDelta>(x, n);
    clear(sum, 5 * block);
    each_strip(strips, [&](int first, auto wide) {
      const int col = first * kLanes, cols = N - col < wide.n * kLanes ? N - col : wide.n * kLanes;
      const int64_t ld = wide.n * kLanes;
      __builtin_memcpy(history, saved + j * full + N * col, static_cast<size_t>(N * ld) * 4);
      scan_strip<kDelta, wide.n, Scan::history>(history, ld, x, n, col, cols, nullptr, zs);
      reverse_strip<kDelta, wide.n>(dS + N * col, history, zs, ld, x, n, col, cols, d_o + i, d.v + iv, add_dv, sums,
                                    parts);
    });
    for (int t = 0; t < n; ++t)
      sweep(N, [&, t](int64_t c, auto lanes) {
        const int64_t s = t * padded + c, g = i + t * x.stride + c;
        store(d.r + g, load(sums.r + s), lanes);
        store(d.k + g, load(sums.k + s), lanes);
        store(d.log_w + g, load(sums.w + s) * load(w + s), lanes);
        if constexpr (kDelta) {
          const V db = load(sums.b + s);
          store(d.a + g, neg(db * load(p.kappa + g, lanes)), lanes);
          store(d.kappa + g, fnma(load(p.a + g, lanes), db, load(sums.kappa + s)), lanes);
        }
      });
  }
}

}  // namespace kernels
