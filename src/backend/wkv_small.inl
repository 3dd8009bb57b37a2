// SPDX-License-Identifier: MIT
// WKV-6 and WKV-7 for heads of 8 channels: a register holds one row of the states of as many heads as it has room for,
// so a whole state lives in 8 registers.

namespace kernels {

constexpr int kPack = kLanes / 8;  ///< heads in a register

/// 8 floats at p, and with AVX-512 8 more at p + second.
QWERKY_INLINE V load_pack(const float* p, [[maybe_unused]] int64_t second) {
#if QWERKY_ISA == 512
  return {_mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(p)), _mm256_loadu_ps(p + second), 1)};
#else
  return load(p);
#endif
}
/// second = 0: there is no second head.
QWERKY_INLINE void store_pack(float* p, [[maybe_unused]] int64_t second, V a) {
#if QWERKY_ISA == 512
  _mm256_storeu_ps(p, low_half(a));
  if (second != 0) _mm256_storeu_ps(p + second, high_half(a));
#else
  store(p, a);
#endif
}

#if QWERKY_ISA == 512
alignas(64) constexpr int32_t kSpread[8][16] = {
    {0, 0, 0, 0, 0, 0, 0, 0, 8, 8, 8, 8, 8, 8, 8, 8},         {1, 1, 1, 1, 1, 1, 1, 1, 9, 9, 9, 9, 9, 9, 9, 9},
    {2, 2, 2, 2, 2, 2, 2, 2, 10, 10, 10, 10, 10, 10, 10, 10}, {3, 3, 3, 3, 3, 3, 3, 3, 11, 11, 11, 11, 11, 11, 11, 11},
    {4, 4, 4, 4, 4, 4, 4, 4, 12, 12, 12, 12, 12, 12, 12, 12}, {5, 5, 5, 5, 5, 5, 5, 5, 13, 13, 13, 13, 13, 13, 13, 13},
    {6, 6, 6, 6, 6, 6, 6, 6, 14, 14, 14, 14, 14, 14, 14, 14}, {7, 7, 7, 7, 7, 7, 7, 7, 15, 15, 15, 15, 15, 15, 15, 15}};
#endif
/// Channel i of each head in all lanes of that head.
QWERKY_INLINE V spread(V a, int i) {
#if QWERKY_ISA == 512
  return {_mm512_permutexvar_ps(_mm512_load_si512(kSpread[i]), a.r)};
#else
  return {_mm256_permutevar8x32_ps(a.r, _mm256_set1_epi32(i))};
#endif
}
/// Channel i of each head of the result is the sum of that head's lanes of x[i].
QWERKY_INLINE V pack_sums(const V (&x)[8]) {
#if QWERKY_ISA == 512
  __m512 q[2];
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const __m512 a = x[4 * i].r, b = x[4 * i + 1].r, c = x[4 * i + 2].r, d = x[4 * i + 3].r;
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    q[i] = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
  }
  // Blocks of 4 lanes: q[i] = {head 0, head 0, head 1, head 1}, their sums {0, 1, 0, 1} with i = {0, 0, 1, 1}.
  const __m512 s = _mm512_add_ps(_mm512_shuffle_f32x4(q[0], q[1], 0x88), _mm512_shuffle_f32x4(q[0], q[1], 0xdd));
  return {_mm512_shuffle_f32x4(s, s, 0xd8)};
#else
  return sums_of(x);
#endif
}

/// One pack: r, log_w, k, kappa, a, o of the second head lie `second` floats after the first's, v `v_second`.
struct PackRows {
  int64_t second, stride, v_second, v_stride;
  float scale;
  const float *r, *log_w, *k, *v, *kappa, *a;
};
/// Head g of each group of kv_head and of the next one, whose v are neighbours.
QWERKY_INLINE PackRows pack_rows(const Wkv& p, int kv_head, int g, int64_t row) {
  const int G = p.heads / p.kv_heads;
  const bool two = kPack == 2 && kv_head + 1 < p.kv_heads;
  const int64_t A = p.heads * 8, W = p.kv_heads * 8, i = row * A + (kv_head * G + g) * 8, iv = row * W + kv_head * 8;
  const bool delta = p.kappa != nullptr;
  return {two ? G * 8 : 0,
          A,
          two ? 8 : 0,
          W,
          p.scale,
          p.r + i,
          p.log_w + i,
          p.k + i,
          p.v + iv,
          delta ? p.kappa + i : nullptr,
          delta ? p.a + i : nullptr};
}

struct PackRow {
  V w, k, v, kappa, b;
};
template <bool kDelta>
QWERKY_INLINE PackRow pack_row(const PackRows& x, int64_t t) {
  const int64_t i = t * x.stride;
  PackRow y{exp(load_pack(x.log_w + i, x.second)), load_pack(x.k + i, x.second),
            load_pack(x.v + t * x.v_stride, x.v_second), zero(), zero()};
  if constexpr (kDelta) {
    y.kappa = load_pack(x.kappa + i, x.second);
    y.b = neg(load_pack(x.a + i, x.second) * y.kappa);
  }
  return y;
}

/// S becomes the state after the row; returns z.
template <bool kDelta>
QWERKY_INLINE V pack_step(V (&S)[8], const PackRow& x) {
  V z = zero();
  if constexpr (kDelta) {
    V even = spread(x.kappa, 0) * S[0], odd = spread(x.kappa, 1) * S[1];
#pragma GCC unroll 8
    for (int i = 2; i < 8; i += 2) {
      even = fma(spread(x.kappa, i), S[i], even);
      odd = fma(spread(x.kappa, i + 1), S[i + 1], odd);
    }
    z = even + odd;
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    S[i] = fma(spread(x.k, i), x.v, spread(x.w, i) * S[i]);
    if constexpr (kDelta) S[i] = fma(spread(x.b, i), z, S[i]);
  }
  return z;
}

/// state: that of the first head; the second head's lies `between` floats on. Null: starts at zero and is dropped.
template <bool kDelta>
void scan_pack(float* o, const PackRows& x, int64_t rows, float* state, int64_t between) {
  V S[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) S[i] = state ? load_pack(state + i * 8, between) : zero();
  for (int64_t t = 0; t < rows; ++t) {
    pack_step<kDelta>(S, pack_row<kDelta>(x, t));
    const V r = load_pack(x.r + t * x.stride, x.second);
    V even = spread(r, 0) * S[0], odd = spread(r, 1) * S[1];
#pragma GCC unroll 8
    for (int i = 2; i < 8; i += 2) {
      even = fma(spread(r, i), S[i], even);
      odd = fma(spread(r, i + 1), S[i + 1], odd);
    }
    store_pack(o + t * x.stride, x.second, set(x.scale) * (even + odd));
  }
  if (state) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) store_pack(state + i * 8, between, S[i]);
  }
}

/// Reverses rows [first, first + rows). history [rows + 1, 8] vectors: the states before the first row and after each;
/// zs: z of each. dS: gradient of the last state, becomes that of the first. The pointers of d are those of x's first
/// row.
template <bool kDelta>
void reverse_pack(V (&dS)[8], const float* history, const float* zs, const PackRows& x, int64_t first, int rows,
                  const float* d_o, const WkvGrad& d, bool add_dv) {
  for (int t = rows; t-- > 0;) {
    const int64_t i = (first + t) * x.stride, iv = (first + t) * x.v_stride;
    const float *before = history + t * 8 * kLanes, *after = before + 8 * kLanes;
    const PackRow y = pack_row<kDelta>(x, first + t);
    const V go = set(x.scale) * load_pack(d_o + i, x.second), r = load_pack(x.r + i, x.second);
    V part[8], dv[2] = {}, dz[2] = {};
#pragma GCC unroll 8
    for (int n = 0; n < 8; ++n) part[n] = load(after + n * kLanes) * go;
    store_pack(d.r + i, x.second, pack_sums(part));
#pragma GCC unroll 8
    for (int n = 0; n < 8; ++n) {
      dS[n] = fma(spread(r, n), go, dS[n]);
      dv[n % 2] = fma(spread(y.k, n), dS[n], dv[n % 2]);
      if constexpr (kDelta) dz[n % 2] = fma(spread(y.b, n), dS[n], dz[n % 2]);
      part[n] = dS[n] * y.v;
    }
    store_pack(d.k + i, x.second, pack_sums(part));
    const V dv_row = dv[0] + dv[1];
    store_pack(d.v + iv, x.v_second, add_dv ? load_pack(d.v + iv, x.v_second) + dv_row : dv_row);
#pragma GCC unroll 8
    for (int n = 0; n < 8; ++n) part[n] = dS[n] * load(before + n * kLanes);
    store_pack(d.log_w + i, x.second, y.w * pack_sums(part));
    if constexpr (kDelta) {
      const V z = load(zs + t * kLanes), to_z = dz[0] + dz[1];
#pragma GCC unroll 8
      for (int n = 0; n < 8; ++n) part[n] = dS[n] * z;
      const V db = pack_sums(part);
#pragma GCC unroll 8
      for (int n = 0; n < 8; ++n) part[n] = to_z * load(before + n * kLanes);
      const V a = load_pack(x.a + i, x.second);
      store_pack(d.kappa + i, x.second, fnma(a, db, pack_sums(part)));
      store_pack(d.a + i, x.second, neg(db * y.kappa));
#pragma GCC unroll 8
      for (int n = 0; n < 8; ++n) dS[n] = fma(spread(y.kappa, n), to_z, spread(y.w, n) * dS[n]);
    } else {
#pragma GCC unroll 8
      for (int n = 0; n < 8; ++n) dS[n] = spread(y.w, n) * dS[n];
    }
  }
}

/// Gradients of all rows of one pack from zero state; dv = or +=.
template <bool kDelta>
void reverse_pack_rows(const WkvGrad& d, const float* d_o, const PackRows& x, int64_t rows, bool add_dv) {
  constexpr int kState = 8 * kLanes;
  const int64_t blocks = (rows + kScanRows - 1) / kScanRows;
  float* saved =
      static_cast<float*>(scratch(Scratch::wkv, (blocks * kState + (kScanRows + 1) * kState + kScanRows * kLanes) * 4));
  float *history = saved + blocks * kState, *zs = history + (kScanRows + 1) * kState;
  V S[8] = {};
  for (int64_t t = 0; t < rows; ++t) {
    if (t % kScanRows == 0)
#pragma GCC unroll 8
      for (int n = 0; n < 8; ++n) store(saved + t / kScanRows * kState + n * kLanes, S[n]);
    if (t / kScanRows + 1 == blocks) break;
    pack_step<kDelta>(S, pack_row<kDelta>(x, t));
  }
  V dS[8] = {};
  for (int64_t j = blocks; j-- > 0;) {
    const int n = static_cast<int>(rows - j * kScanRows < kScanRows ? rows - j * kScanRows : kScanRows);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) store(history + i * kLanes, S[i] = load(saved + j * kState + i * kLanes));
    for (int t = 0; t < n; ++t) {
      store(zs + t * kLanes, pack_step<kDelta>(S, pack_row<kDelta>(x, j * kScanRows + t)));
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) store(history + (t + 1) * kState + i * kLanes, S[i]);
    }
    reverse_pack<kDelta>(dS, history, zs, x, j * kScanRows, n, d_o, d, add_dv);
  }
}

}  // namespace kernels
