// SPDX-License-Identifier: MIT
// One vocabulary of f32 vectors for every CPU instruction set. Included inside `namespace qwerky::avx2` or
// `namespace qwerky::avx512`, in a target region (backend/target.h), with QWERKY_ISA defined as 256 or 512; the includer
// has included backend/intrinsics.h, <cstdint> and tensor/tensor.h before the region. No include guard: each
// instruction set has its own copy.
//
// V holds kLanes floats, M a condition per lane, D kLanes / 2 doubles. Partial loads and stores touch only the first
// n lanes of memory (0 <= n <= kLanes); lanes not loaded are 0. A maximum with a NaN is its second argument.
// Reductions pair lanes in a fixed tree. Both instruction sets compute the same functions with the same roundings.

#define QWERKY_INLINE inline __attribute__((always_inline))

#if QWERKY_ISA == 512

constexpr int kLanes = 16;    ///< floats of a vector
constexpr int kVectors = 32;  ///< vector registers

struct V {
  __m512 r;
};
struct M {
  __mmask16 r;
};
struct D {
  __m512d r;
};

QWERKY_INLINE M first_lanes(int n) { return {static_cast<__mmask16>((1u << n) - 1u)}; }
QWERKY_INLINE V zero() { return {_mm512_setzero_ps()}; }
QWERKY_INLINE V set(float x) { return {_mm512_set1_ps(x)}; }
QWERKY_INLINE V load(const float* p) { return {_mm512_loadu_ps(p)}; }
QWERKY_INLINE V load(const float* p, int n) { return {_mm512_maskz_loadu_ps(first_lanes(n).r, p)}; }
QWERKY_INLINE void store(float* p, V a) { _mm512_storeu_ps(p, a.r); }
QWERKY_INLINE void store(float* p, V a, int n) { _mm512_mask_storeu_ps(p, first_lanes(n).r, a.r); }
QWERKY_INLINE V operator+(V a, V b) { return {_mm512_add_ps(a.r, b.r)}; }
QWERKY_INLINE V operator-(V a, V b) { return {_mm512_sub_ps(a.r, b.r)}; }
QWERKY_INLINE V operator*(V a, V b) { return {_mm512_mul_ps(a.r, b.r)}; }
QWERKY_INLINE V operator/(V a, V b) { return {_mm512_div_ps(a.r, b.r)}; }
/// a b + c, rounded once.
QWERKY_INLINE V fma(V a, V b, V c) { return {_mm512_fmadd_ps(a.r, b.r, c.r)}; }
/// c - a b, rounded once.
QWERKY_INLINE V fnma(V a, V b, V c) { return {_mm512_fnmadd_ps(a.r, b.r, c.r)}; }
QWERKY_INLINE V max(V a, V b) { return {_mm512_max_ps(a.r, b.r)}; }
QWERKY_INLINE V min(V a, V b) { return {_mm512_min_ps(a.r, b.r)}; }
QWERKY_INLINE V sqrt(V a) { return {_mm512_sqrt_ps(a.r)}; }
QWERKY_INLINE V abs(V a) { return {_mm512_abs_ps(a.r)}; }
QWERKY_INLINE V neg(V a) { return {_mm512_xor_ps(a.r, _mm512_set1_ps(-0.0f))}; }
QWERKY_INLINE M operator<(V a, V b) { return {_mm512_cmp_ps_mask(a.r, b.r, _CMP_LT_OQ)}; }
QWERKY_INLINE M operator==(V a, V b) { return {_mm512_cmp_ps_mask(a.r, b.r, _CMP_EQ_OQ)}; }
QWERKY_INLINE M operator!(M m) { return {static_cast<__mmask16>(~m.r)}; }
/// Lane i of the condition as bit i.
QWERKY_INLINE uint32_t bits(M m) { return m.r; }
/// m ? a : b.
QWERKY_INLINE V select(M m, V a, V b) { return {_mm512_mask_blend_ps(m.r, b.r, a.r)}; }
/// m ? a : 0.
QWERKY_INLINE V keep(M m, V a) { return {_mm512_maskz_mov_ps(m.r, a.r)}; }

/// Adds n · 2^23 to the bits of a: a · 2^n, where n is the integer in the low bits of t = n + 1.5 · 2^23.
QWERKY_INLINE V scale_by_power(V a, V t) {
  return {
      _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a.r), _mm512_slli_epi32(_mm512_castps_si512(t.r), 23)))};
}
/// For normal a > 0: e with a = m 2^e and sqrt(1/2) <= m < sqrt(2), and that m.
QWERKY_INLINE V split_power(V a, V& m) {
  const __m512i u = _mm512_sub_epi32(_mm512_castps_si512(a.r), _mm512_set1_epi32(0x3f3504f3));
  m = {_mm512_castsi512_ps(
      _mm512_add_epi32(_mm512_and_si512(u, _mm512_set1_epi32(0x007fffff)), _mm512_set1_epi32(0x3f3504f3)))};
  return {_mm512_cvtepi32_ps(_mm512_srai_epi32(u, 23))};
}
/// x with the sign of s flipped in.
QWERKY_INLINE V flip_sign(V x, V s) { return {_mm512_xor_ps(x.r, _mm512_and_ps(s.r, _mm512_set1_ps(-0.0f)))}; }

/// Exchanges neighbours of one lane, of two lanes, and of four lanes.
QWERKY_INLINE V swap_1(V a) { return {_mm512_permute_ps(a.r, 0xb1)}; }
QWERKY_INLINE V swap_2(V a) { return {_mm512_permute_ps(a.r, 0x4e)}; }
QWERKY_INLINE V swap_4(V a) { return {_mm512_shuffle_f32x4(a.r, a.r, 0xb1)}; }
/// Four floats again and again.
QWERKY_INLINE V repeat_4(const float* p) { return {_mm512_broadcast_f32x4(_mm_loadu_ps(p))}; }

QWERKY_INLINE __m256 low_half(V a) { return _mm512_castps512_ps256(a.r); }
QWERKY_INLINE __m256 high_half(V a) { return _mm512_extractf32x8_ps(a.r, 1); }
QWERKY_INLINE __m256 sum_to_8(V a) { return _mm256_add_ps(low_half(a), high_half(a)); }
QWERKY_INLINE __m256 max_to_8(V a) { return _mm256_max_ps(low_half(a), high_half(a)); }

QWERKY_INLINE D zero_d() { return {_mm512_setzero_pd()}; }
QWERKY_INLINE D operator+(D a, D b) { return {_mm512_add_pd(a.r, b.r)}; }
QWERKY_INLINE D fma(D a, D b, D c) { return {_mm512_fmadd_pd(a.r, b.r, c.r)}; }
/// The first and the last kLanes / 2 lanes as doubles.
QWERKY_INLINE D widen_low(V a) { return {_mm512_cvtps_pd(low_half(a))}; }
QWERKY_INLINE D widen_high(V a) { return {_mm512_cvtps_pd(high_half(a))}; }
QWERKY_INLINE double sum(D a) {
  const __m256d b = _mm256_add_pd(_mm512_castpd512_pd256(a.r), _mm512_extractf64x4_pd(a.r, 1));
  const __m128d c = _mm_add_pd(_mm256_castpd256_pd128(b), _mm256_extractf128_pd(b, 1));
  return _mm_cvtsd_f64(_mm_add_sd(c, _mm_unpackhi_pd(c, c)));
}

QWERKY_INLINE V widen_bf16(__m256i h) { return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16))}; }
/// Rounded to nearest even; NaN stays NaN.
QWERKY_INLINE __m256i narrow_bf16(V a) {
  const __m512i u = _mm512_castps_si512(a.r);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
  const __mmask16 nan = _mm512_cmp_ps_mask(a.r, a.r, _CMP_UNORD_Q);
  const __m512i rounded = _mm512_mask_or_epi32(up, nan, u, _mm512_set1_epi32(0x00400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}
/// The two bf16 of each 32-bit word.
QWERKY_INLINE V low_bf16(V words) { return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(words.r), 16))}; }
QWERKY_INLINE V high_bf16(V words) {
  return {_mm512_castsi512_ps(
      _mm512_and_si512(_mm512_castps_si512(words.r), _mm512_set1_epi32(static_cast<int>(0xffff0000u))))};
}
QWERKY_INLINE V load_bf16(const bf16* p) { return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
QWERKY_INLINE V load_bf16(const bf16* p, int n) { return widen_bf16(_mm256_maskz_loadu_epi16(first_lanes(n).r, p)); }
/// kLanes integers of 32 bits.
struct I {
  __m512i r;
};
QWERKY_INLINE I set_i(int32_t x) { return {_mm512_set1_epi32(x)}; }
QWERKY_INLINE I load_i(const void* p) { return {_mm512_loadu_si512(p)}; }
QWERKY_INLINE void store_i(void* p, I a) { _mm512_storeu_si512(p, a.r); }
QWERKY_INLINE I operator+(I a, I b) { return {_mm512_add_epi32(a.r, b.r)}; }
QWERKY_INLINE I operator&(I a, I b) { return {_mm512_and_si512(a.r, b.r)}; }
QWERKY_INLINE I shift_right_4(I a) { return {_mm512_srli_epi32(a.r, 4)}; }
QWERKY_INLINE I max(I a, I b) { return {_mm512_max_epi32(a.r, b.r)}; }
QWERKY_INLINE I min(I a, I b) { return {_mm512_min_epi32(a.r, b.r)}; }
QWERKY_INLINE I bits_of(V a) { return {_mm512_castps_si512(a.r)}; }
QWERKY_INLINE V to_float(I a) { return {_mm512_cvtepi32_ps(a.r)}; }
/// To nearest, ties to even.
QWERKY_INLINE I to_int(V a) { return {_mm512_cvtps_epi32(a.r)}; }
QWERKY_INLINE V load_f16(const void* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)))};
}
/// The low byte of each lane.
QWERKY_INLINE void store_bytes(void* p, I a) { _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a.r)); }
QWERKY_INLINE int32_t sum(I a) { return _mm512_reduce_add_epi32(a.r); }
QWERKY_INLINE int32_t max_of(I a) { return _mm512_reduce_max_epi32(a.r); }

/// Stays in a register: g++ would rather load it again for each use.
QWERKY_INLINE I pinned(I a) {
  asm("" : "+v"(a.r));
  return a;
}

/// Products of codes: dot(c, weights(u, zero), s) is c + Σ of four products of (u - zero), u in unsigned bytes, and
/// signed bytes s in [-127, 127], in each lane; all of it together with what start() begins with.
struct DotVnni {
  using Weights = I;
  static QWERKY_INLINE Weights weights(I u, I) { return pinned(u); }
  static QWERKY_INLINE I start(int32_t zero, int32_t sum_of_s) { return set_i(-zero * sum_of_s); }
  static QWERKY_INLINE I dot(I c, I u, I s) {
    // By name: around the intrinsic g++ 12 moves every accumulator to and fro.
    asm("vpdpbusd %2, %1, %0" : "+v"(c.r) : "v"(u.r), "v"(s.r));
    return c;
  }
};
/// The same where the instruction is missing: |w| times s with w's sign, as pairs in 16 bits, of which none overflows
/// (2 · 128 · 127).
struct DotMadd {
  struct Weights {
    I size;
    __mmask64 negative;
  };
  static QWERKY_INLINE Weights weights(I u, I zero) {
    const __m512i w = _mm512_sub_epi8(u.r, zero.r);
    return {pinned({_mm512_abs_epi8(w)}), _mm512_movepi8_mask(w)};
  }
  static QWERKY_INLINE I start(int32_t, int32_t) { return set_i(0); }
  static QWERKY_INLINE I dot(I c, const Weights& w, I s) {
    const __m512i turned = _mm512_mask_sub_epi8(s.r, w.negative, _mm512_setzero_si512(), s.r);
    const __m512i pairs = _mm512_maddubs_epi16(w.size.r, turned);
    return {_mm512_add_epi32(c.r, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))};
  }
};
QWERKY_INLINE void store_bf16(bf16* p, V a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_bf16(a)); }
QWERKY_INLINE void store_bf16(bf16* p, V a, int n) { _mm256_mask_storeu_epi16(p, first_lanes(n).r, narrow_bf16(a)); }

#else

constexpr int kLanes = 8;     ///< floats of a vector
constexpr int kVectors = 16;  ///< vector registers

struct V {
  __m256 r;
};
struct M {
  __m256 r;
};
struct D {
  __m256d r;
};

alignas(32) constexpr int32_t kLaneIndex[8] = {0, 1, 2, 3, 4, 5, 6, 7};

QWERKY_INLINE __m256i lanes_below(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_load_si256(reinterpret_cast<const __m256i*>(kLaneIndex)));
}
QWERKY_INLINE M first_lanes(int n) { return {_mm256_castsi256_ps(lanes_below(n))}; }
QWERKY_INLINE V zero() { return {_mm256_setzero_ps()}; }
QWERKY_INLINE V set(float x) { return {_mm256_set1_ps(x)}; }
QWERKY_INLINE V load(const float* p) { return {_mm256_loadu_ps(p)}; }
QWERKY_INLINE V load(const float* p, int n) { return {_mm256_maskload_ps(p, lanes_below(n))}; }
QWERKY_INLINE void store(float* p, V a) { _mm256_storeu_ps(p, a.r); }
QWERKY_INLINE void store(float* p, V a, int n) { _mm256_maskstore_ps(p, lanes_below(n), a.r); }
QWERKY_INLINE V operator+(V a, V b) { return {_mm256_add_ps(a.r, b.r)}; }
QWERKY_INLINE V operator-(V a, V b) { return {_mm256_sub_ps(a.r, b.r)}; }
QWERKY_INLINE V operator*(V a, V b) { return {_mm256_mul_ps(a.r, b.r)}; }
QWERKY_INLINE V operator/(V a, V b) { return {_mm256_div_ps(a.r, b.r)}; }
/// a b + c, rounded once.
QWERKY_INLINE V fma(V a, V b, V c) { return {_mm256_fmadd_ps(a.r, b.r, c.r)}; }
/// c - a b, rounded once.
QWERKY_INLINE V fnma(V a, V b, V c) { return {_mm256_fnmadd_ps(a.r, b.r, c.r)}; }
QWERKY_INLINE V max(V a, V b) { return {_mm256_max_ps(a.r, b.r)}; }
QWERKY_INLINE V min(V a, V b) { return {_mm256_min_ps(a.r, b.r)}; }
QWERKY_INLINE V sqrt(V a) { return {_mm256_sqrt_ps(a.r)}; }
QWERKY_INLINE V abs(V a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.r)}; }
QWERKY_INLINE V neg(V a) { return {_mm256_xor_ps(a.r, _mm256_set1_ps(-0.0f))}; }
QWERKY_INLINE M operator<(V a, V b) { return {_mm256_cmp_ps(a.r, b.r, _CMP_LT_OQ)}; }
QWERKY_INLINE M operator==(V a, V b) { return {_mm256_cmp_ps(a.r, b.r, _CMP_EQ_OQ)}; }
QWERKY_INLINE M operator!(M m) { return {_mm256_xor_ps(m.r, _mm256_castsi256_ps(_mm256_set1_epi32(-1)))}; }
/// Lane i of the condition as bit i.
QWERKY_INLINE uint32_t bits(M m) { return static_cast<uint32_t>(_mm256_movemask_ps(m.r)); }
/// m ? a : b.
QWERKY_INLINE V select(M m, V a, V b) { return {_mm256_blendv_ps(b.r, a.r, m.r)}; }
/// m ? a : 0.
QWERKY_INLINE V keep(M m, V a) { return {_mm256_and_ps(m.r, a.r)}; }

/// Adds n · 2^23 to the bits of a: a · 2^n, where n is the integer in the low bits of t = n + 1.5 · 2^23.
QWERKY_INLINE V scale_by_power(V a, V t) {
  return {
      _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a.r), _mm256_slli_epi32(_mm256_castps_si256(t.r), 23)))};
}
/// For normal a > 0: e with a = m 2^e and sqrt(1/2) <= m < sqrt(2), and that m.
QWERKY_INLINE V split_power(V a, V& m) {
  const __m256i u = _mm256_sub_epi32(_mm256_castps_si256(a.r), _mm256_set1_epi32(0x3f3504f3));
  m = {_mm256_castsi256_ps(
      _mm256_add_epi32(_mm256_and_si256(u, _mm256_set1_epi32(0x007fffff)), _mm256_set1_epi32(0x3f3504f3)))};
  return {_mm256_cvtepi32_ps(_mm256_srai_epi32(u, 23))};
}
/// x with the sign of s flipped in.
QWERKY_INLINE V flip_sign(V x, V s) { return {_mm256_xor_ps(x.r, _mm256_and_ps(s.r, _mm256_set1_ps(-0.0f)))}; }

/// Exchanges neighbours of one lane, of two lanes, and of four lanes.
QWERKY_INLINE V swap_1(V a) { return {_mm256_permute_ps(a.r, 0xb1)}; }
QWERKY_INLINE V swap_2(V a) { return {_mm256_permute_ps(a.r, 0x4e)}; }
QWERKY_INLINE V swap_4(V a) { return {_mm256_permute2f128_ps(a.r, a.r, 1)}; }
/// Four floats again and again.
QWERKY_INLINE V repeat_4(const float* p) { return {_mm256_broadcast_ps(reinterpret_cast<const __m128*>(p))}; }

QWERKY_INLINE __m256 sum_to_8(V a) { return a.r; }
QWERKY_INLINE __m256 max_to_8(V a) { return a.r; }

QWERKY_INLINE D zero_d() { return {_mm256_setzero_pd()}; }
QWERKY_INLINE D operator+(D a, D b) { return {_mm256_add_pd(a.r, b.r)}; }
QWERKY_INLINE D fma(D a, D b, D c) { return {_mm256_fmadd_pd(a.r, b.r, c.r)}; }
/// The first and the last kLanes / 2 lanes as doubles.
QWERKY_INLINE D widen_low(V a) { return {_mm256_cvtps_pd(_mm256_castps256_ps128(a.r))}; }
QWERKY_INLINE D widen_high(V a) { return {_mm256_cvtps_pd(_mm256_extractf128_ps(a.r, 1))}; }
QWERKY_INLINE double sum(D a) {
  const __m128d c = _mm_add_pd(_mm256_castpd256_pd128(a.r), _mm256_extractf128_pd(a.r, 1));
  return _mm_cvtsd_f64(_mm_add_sd(c, _mm_unpackhi_pd(c, c)));
}

QWERKY_INLINE V widen_bf16(__m128i h) { return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16))}; }
/// Rounded to nearest even; NaN stays NaN.
QWERKY_INLINE __m128i narrow_bf16(V a) {
  const __m256i u = _mm256_castps_si256(a.r);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  const __m256i up = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x00400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a.r, a.r, _CMP_UNORD_Q));
  const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(up, quiet, nan), 16);
  return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
}
/// The two bf16 of each 32-bit word.
QWERKY_INLINE V low_bf16(V words) { return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(words.r), 16))}; }
QWERKY_INLINE V high_bf16(V words) {
  return {_mm256_castsi256_ps(
      _mm256_and_si256(_mm256_castps_si256(words.r), _mm256_set1_epi32(static_cast<int>(0xffff0000u))))};
}
QWERKY_INLINE V load_bf16(const bf16* p) { return widen_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
QWERKY_INLINE V load_bf16(const bf16* p, int n) {
  alignas(16) uint16_t h[8] = {};
  for (int i = 0; i < n; ++i) h[i] = p[i].bits;
  return widen_bf16(_mm_load_si128(reinterpret_cast<const __m128i*>(h)));
}
/// kLanes integers of 32 bits.
struct I {
  __m256i r;
};
QWERKY_INLINE I set_i(int32_t x) { return {_mm256_set1_epi32(x)}; }
QWERKY_INLINE I load_i(const void* p) { return {_mm256_loadu_si256(static_cast<const __m256i*>(p))}; }
QWERKY_INLINE void store_i(void* p, I a) { _mm256_storeu_si256(static_cast<__m256i*>(p), a.r); }
QWERKY_INLINE I operator+(I a, I b) { return {_mm256_add_epi32(a.r, b.r)}; }
QWERKY_INLINE I operator&(I a, I b) { return {_mm256_and_si256(a.r, b.r)}; }
QWERKY_INLINE I shift_right_4(I a) { return {_mm256_srli_epi32(a.r, 4)}; }
QWERKY_INLINE I max(I a, I b) { return {_mm256_max_epi32(a.r, b.r)}; }
QWERKY_INLINE I min(I a, I b) { return {_mm256_min_epi32(a.r, b.r)}; }
QWERKY_INLINE I bits_of(V a) { return {_mm256_castps_si256(a.r)}; }
QWERKY_INLINE V to_float(I a) { return {_mm256_cvtepi32_ps(a.r)}; }
/// To nearest, ties to even.
QWERKY_INLINE I to_int(V a) { return {_mm256_cvtps_epi32(a.r)}; }
QWERKY_INLINE V load_f16(const void* p) { return {_mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)))}; }
/// The low byte of each lane.
QWERKY_INLINE void store_bytes(void* p, I a) {
  const __m256i low = _mm256_and_si256(a.r, _mm256_set1_epi32(0xff));
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
  _mm_storel_epi64(static_cast<__m128i*>(p), _mm_packus_epi16(words, words));
}
QWERKY_INLINE int32_t sum(I a) {
  __m128i b = _mm_add_epi32(_mm256_castsi256_si128(a.r), _mm256_extracti128_si256(a.r, 1));
  b = _mm_add_epi32(b, _mm_shuffle_epi32(b, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(b, _mm_shuffle_epi32(b, 0xb1)));
}
QWERKY_INLINE int32_t max_of(I a) {
  __m128i b = _mm_max_epi32(_mm256_castsi256_si128(a.r), _mm256_extracti128_si256(a.r, 1));
  b = _mm_max_epi32(b, _mm_shuffle_epi32(b, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(b, _mm_shuffle_epi32(b, 0xb1)));
}

/// Stays in a register: g++ would rather load it again for each use.
QWERKY_INLINE I pinned(I a) {
  asm("" : "+x"(a.r));
  return a;
}

/// Products of codes: dot(c, weights(u, zero), s) is c + Σ of four products of (u - zero), u in unsigned bytes, and
/// signed bytes s in [-127, 127], in each lane: |w| times s with w's sign, as pairs in 16 bits, of which none overflows
/// (2 · 128 · 127).
struct DotMadd {
  struct Weights {
    I size, w;
  };
  static QWERKY_INLINE Weights weights(I u, I zero) {
    const __m256i w = _mm256_sub_epi8(u.r, zero.r);
    return {pinned({_mm256_abs_epi8(w)}), pinned({w})};
  }
  static QWERKY_INLINE I start(int32_t, int32_t) { return set_i(0); }
  static QWERKY_INLINE I dot(I c, const Weights& w, I s) {
    const __m256i pairs = _mm256_maddubs_epi16(w.size.r, _mm256_sign_epi8(s.r, w.w.r));
    return {_mm256_add_epi32(c.r, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))};
  }
};
QWERKY_INLINE void store_bf16(bf16* p, V a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow_bf16(a)); }
QWERKY_INLINE void store_bf16(bf16* p, V a, int n) {
  alignas(16) uint16_t h[8];
  _mm_store_si128(reinterpret_cast<__m128i*>(h), narrow_bf16(a));
  for (int i = 0; i < n; ++i) p[i].bits = h[i];
}

#endif

QWERKY_INLINE V& operator+=(V& a, V b) { return a = a + b; }
QWERKY_INLINE V& operator-=(V& a, V b) { return a = a - b; }
QWERKY_INLINE V& operator*=(V& a, V b) { return a = a * b; }

/// Sum of the lanes: halves are added until one is left.
QWERKY_INLINE float sum(V a) {
  const __m256 b = sum_to_8(a);
  __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  c = _mm_add_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
QWERKY_INLINE float max_of(V a) {
  const __m256 b = max_to_8(a);
  __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  c = _mm_max_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

/// In every lane the sum of its group of eight.
QWERKY_INLINE V sum_of_eight(V a) {
  a += swap_4(a);
  a += swap_2(a);
  return a + swap_1(a);
}

/// e^x within 2 ulp; 0 below -87, the largest float's neighbourhood above 88.72, NaN for NaN.
/// x = n log 2 + r with |r| <= log(2) / 2, e^r = 1 + r + r² q(r), q interpolated at Chebyshev points.
QWERKY_INLINE V exp(V x) {
  const V magic = set(12582912.0f);                      // 1.5 · 2^23: adding it rounds to an integer
  const V y = min(set(88.72283f), max(set(-88.0f), x));  // a NaN passes through both
  const V t = fma(y, set(1.44269504f), magic);
  const V n = t - magic;
  const V r = fnma(n, set(-2.12194440e-4f), fnma(n, set(0.693359375f), y));  // log 2 in two parts
  V q = fma(set(1.393365092e-03f), r, set(8.363179862e-03f));
  q = fma(q, r, set(4.166646674e-02f));
  q = fma(q, r, set(1.666657627e-01f));
  q = fma(q, r, set(0.5f));
  const V p = fma(q, r * r, r) + set(1.0f);
  return keep(!(x < set(-87.0f)), scale_by_power(p, t));
}

/// log x within 2 ulp; -inf at 0 (and for subnormal x), NaN below, inf for inf.
/// x = m 2^e, log m = f - f²/2 + f³ p(f) with f = m - 1, p interpolated at Chebyshev points.
QWERKY_INLINE V log(V x) {
  V m;
  const V e = split_power(x, m);
  const V f = m - set(1.0f);
  V p = fma(set(7.149832696e-02f), f, set(-1.157130823e-01f));
  p = fma(p, f, set(1.166153103e-01f));
  p = fma(p, f, set(-1.241103783e-01f));
  p = fma(p, f, set(1.424993277e-01f));
  p = fma(p, f, set(-1.666848063e-01f));
  p = fma(p, f, set(2.000070810e-01f));
  p = fma(p, f, set(-2.499998957e-01f));
  p = fma(p, f, set(3.333333135e-01f));
  const V f2 = f * f;
  const V tail = fma(e, set(-2.12194440e-4f), fnma(set(0.5f), f2, f * f2 * p));
  const V y = fma(e, set(0.693359375f), f + tail);
  const V inf = set(__builtin_inff());
  const V edge = select(x < zero(), set(__builtin_nanf("")), select(x < set(1.17549435e-38f), neg(inf), y));
  return select(x < inf, edge, x);  // inf and NaN are their own logarithms
}

/// 1 / (1 + e^-x)
QWERKY_INLINE V sigmoid(V x) { return set(1.0f) / (set(1.0f) + exp(neg(x))); }

/// tanh x within 3 ulp: x + x³ p(x²) near 0, 1 - 2 / (1 + e^2|x|) with the sign of x elsewhere.
QWERKY_INLINE V tanh(V x) {
  const V u = x * x, a = abs(x);
  V p = fma(set(-6.001800764e-03f), u, set(2.093142457e-02f));
  p = fma(p, u, set(-5.383701622e-02f));
  p = fma(p, u, set(1.333267838e-01f));
  p = fma(p, u, set(-3.333332837e-01f));
  const V small = fma(p * u, x, x);
  const V large = set(1.0f) - set(2.0f) / (set(1.0f) + exp(a + a));
  return select(a < set(0.625f), small, flip_sign(large, x));
}

/// Which lanes of a vector a step of `sweep` covers.
struct AllLanes {
  static constexpr int n = kLanes;
};
struct FirstLanes {
  int n;
};
QWERKY_INLINE V load(const float* p, AllLanes) { return load(p); }
QWERKY_INLINE V load(const float* p, FirstLanes part) { return load(p, part.n); }
QWERKY_INLINE void store(float* p, V a, AllLanes) { store(p, a); }
QWERKY_INLINE void store(float* p, V a, FirstLanes part) { store(p, a, part.n); }
/// a where the step has lanes, 0 elsewhere.
QWERKY_INLINE V keep(AllLanes, V a) { return a; }
QWERKY_INLINE V keep(FirstLanes part, V a) { return keep(first_lanes(part.n), a); }

/// body(i, lanes) for i = 0, kLanes, 2 kLanes, … < n: all lanes, and for the last step those that are left.
template <class Body>
QWERKY_INLINE void sweep(int64_t n, const Body& body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, AllLanes{});
  if (i < n) body(i, FirstLanes{static_cast<int>(n - i)});
}
