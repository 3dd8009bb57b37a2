// SPDX-License-Identifier: MIT
// Operands of matrix products and their packing into words (see gemm_kernel.inl). bf16 operands are rounded here.

/// A[m, k] at p[m row + k col]; row or col is 1.
struct Left {
  const float* p;
  int64_t row, col;
};

/// B[k, n] at p[k row + n], or at p[n row + k] when transposed; p holds f32, or bf16 when `half`.
struct Right {
  const void* p;
  int64_t row;
  bool transposed, half;
  int64_t bytes() const { return half ? 2 : 4; }  ///< of an element
};

QWERKY_INLINE V widen(const float* p, AllLanes) { return load(p); }
QWERKY_INLINE V widen(const float* p, FirstLanes part) { return load(p, part.n); }
QWERKY_INLINE V widen(const bf16* p, AllLanes) { return load_bf16(p); }
QWERKY_INLINE V widen(const bf16* p, FirstLanes part) { return load_bf16(p, part.n); }

/// 8 words from 8 kDepth elements, or from the first n of them and zeros.
QWERKY_INLINE __m256 words_8(const float* p, WordF32) { return load_8(p); }
QWERKY_INLINE __m256 words_8(const float* p, int n, WordF32) { return load_8(p, n); }
QWERKY_INLINE __m256 widen_8(__m128i h) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)); }
QWERKY_INLINE __m256 words_8(const bf16* p, WordF32) {
  return widen_8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
#if QWERKY_ISA == 512
QWERKY_INLINE __m256 words_8(const bf16* p, int n, WordF32) {
  return widen_8(_mm_maskz_loadu_epi16(static_cast<__mmask8>((1u << n) - 1u), p));
}
QWERKY_INLINE __m256 words_8(const float* p, WordBf16) {
  return reinterpret_cast<__m256>(_mm512_cvtneps_pbh(load(p).r));
}
QWERKY_INLINE __m256 words_8(const float* p, int n, WordBf16) {
  return reinterpret_cast<__m256>(_mm512_cvtneps_pbh(load(p, n).r));
}
QWERKY_INLINE __m256 words_8(const bf16* p, WordBf16) {
  return _mm256_castsi256_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
QWERKY_INLINE __m256 words_8(const bf16* p, int n, WordBf16) {
  return _mm256_castsi256_ps(_mm256_maskz_loadu_epi16(first_lanes(n).r, p));
}
#else
QWERKY_INLINE __m256 words_8(const bf16* p, int n, WordF32) { return load_bf16(p, n).r; }
#endif

/// out[k][n] = B[k, n] for B at p[k row + n]; rows of out are whole vectors, excess columns 0.
template <class T>
void pack_rows(float* out, const T* p, int64_t row, int64_t depth, int64_t width, WordF32) noexcept {
  for (int64_t k = 0; k < depth; ++k, p += row, out += vectors_of(width) * kLanes)
    sweep(width, [=](int64_t n, auto lanes) { store(out + n, widen(p + n, lanes)); });
}

/// Of 8 words in k from B at p[n row + k]; asks for the memory `ahead` elements further on.
template <class T, class Word>
struct ReadTransposed {
  const T* p;
  int64_t row, depth, ahead;
  QWERKY_INLINE const T* at(int64_t n, int64_t w) const {
    const T* from = p + n * row + w * Word::kDepth;
    if (ahead != 0) _mm_prefetch(reinterpret_cast<const char*>(from + ahead), _MM_HINT_T0);
    return from;
  }
  QWERKY_INLINE __m256 operator()(int64_t n, int64_t w) const {
    return depth - w * Word::kDepth >= 8 * Word::kDepth ? words_8(at(n, w), Word()) : (*this)(n, w, 8);
  }
  QWERKY_INLINE __m256 operator()(int64_t n, int64_t w, int) const {
    return words_8(at(n, w), static_cast<int>(smaller(depth - w * Word::kDepth, 8 * Word::kDepth)), Word());
  }
};

/// out[k / kDepth][n] = the words of B at p[n row + k]; 0 beyond an odd depth.
template <class Word, class T>
void pack_transposed(float* out, const T* p, int64_t row, int64_t depth, int64_t width, int64_t ahead) noexcept {
  transpose_by<true>(out, vectors_of(width) * kLanes, width, (depth + Word::kDepth - 1) / Word::kDepth,
                     ReadTransposed<T, Word>{p, row, depth, ahead});
}

#if QWERKY_ISA == 512
/// The first n <= 32 of p[0 … 31] as bf16, the rest 0.
QWERKY_INLINE V load_pairs(const float* p, int64_t n) {
  if (n >= 32) return {reinterpret_cast<__m512>(_mm512_cvtne2ps_pbh(load(p + 16).r, load(p).r))};
  const V low = load(p, static_cast<int>(smaller(n, 16)));
  const V high = n > 16 ? load(p + 16, static_cast<int>(n - 16)) : zero();
  return {reinterpret_cast<__m512>(_mm512_cvtne2ps_pbh(high.r, low.r))};
}
/// 16 words (p[i], q[i]) rounded to bf16, i < n.
template <class Lanes>
QWERKY_INLINE V interleave(const float* p, const float* q, Lanes lanes, __m512i order) {
  const __m512i both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(load(q, lanes).r, load(p, lanes).r));
  return {_mm512_castsi512_ps(_mm512_permutexvar_epi16(order, both))};
}
template <class Lanes>
QWERKY_INLINE V interleave(const bf16* p, const bf16* q, Lanes lanes, __m512i) {
  const __mmask16 m = first_lanes(lanes.n).r;
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p));
  const __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, q));
  return {_mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32(high, 16)))};
}

/// out[k / 2][n] = (B[k, n], B[k + 1, n]); 0 beyond an odd depth.
template <class T>
void pack_rows(float* out, const T* p, int64_t row, int64_t depth, int64_t width, WordBf16) noexcept {
  static constexpr T kNothing[kLanes] = {};
  alignas(64) uint16_t index[32];
  for (uint16_t i = 0; i < 16; ++i) {
    index[2 * i] = i;
    index[2 * i + 1] = static_cast<uint16_t>(16 + i);
  }
  const __m512i order = _mm512_load_si512(index);
  for (int64_t k = 0; k < depth; k += 2, p += 2 * row, out += vectors_of(width) * kLanes) {
    const bool last = k + 1 == depth;
    sweep(width, [=](int64_t n, auto lanes) {
      store(out + n, interleave(p + n, last ? kNothing : p + row + n, lanes, order));
    });
  }
}

/// out[m][k / 2] = (A[m, k], A[m, k + 1]) for A at p[m row + k], rows of out `words` apart: whole vectors.
inline void pack_pairs(float* out, int64_t words, const float* p, int64_t row, int64_t depth, int64_t height) noexcept {
  for (int64_t m = 0; m < height; ++m, p += row, out += words)
    for (int64_t k = 0; k < depth; k += 32) store(out + k / 2, load_pairs(p + k, depth - k));
}

/// Of 8 pairs (p[2 w row + m], p[(2 w + 1) row + m]) in m, rounded to bf16; 0 beyond an odd depth.
struct ReadPairs {
  const float* p;
  int64_t row, depth;
  QWERKY_INLINE __m256 operator()(int64_t w, int64_t m) const { return (*this)(w, m, 8); }
  QWERKY_INLINE __m256 operator()(int64_t w, int64_t m, int n) const {
    const float* low = p + 2 * w * row + m;
    const __m128i a = half_8(load_8(low, n));
    const __m128i b = half_8(2 * w + 1 < depth ? load_8(low + row, n) : _mm256_setzero_ps());
    return _mm256_castsi256_ps(_mm256_set_m128i(_mm_unpackhi_epi16(a, b), _mm_unpacklo_epi16(a, b)));
  }
  static QWERKY_INLINE __m128i half_8(__m256 v) { return reinterpret_cast<__m128i>(_mm256_cvtneps_pbh(v)); }
};
/// A as words: those of a row together (to.col is 1), or those of one k, in whole vectors, of a transposed A.
inline void pack_left(float* out, const Left& to, const Left& a, int64_t depth, int64_t height, WordBf16) noexcept {
  if (a.col == 1)
    pack_pairs(out, to.row, a.p, a.row, depth, height);
  else if (to.col == 1)
    transpose_by<false>(out, to.row, (depth + 1) / 2, height, ReadPairs{a.p, a.col, depth});
  else
    pack_rows(out, a.p, a.col, depth, height, WordBf16());
}
#endif
/// A transposed A of f32 as rows.
inline void pack_left(float* out, const Left& to, const Left& a, int64_t depth, int64_t height, WordF32) noexcept {
  transpose(out, to.row, a.p, a.col, depth, height);
}

/// Columns [n, n + width) and k [k, k + depth) of B as words, rows of whole vectors. `ahead`: see pack_transposed.
template <class Word>
void pack_panel(float* out, const Right& b, int64_t k, int64_t depth, int64_t n, int64_t width,
                int64_t ahead) noexcept {
  const int64_t first = b.transposed ? n * b.row + k : k * b.row + n;
  const auto pack = [&](const auto* p) {
    if (b.transposed)
      pack_transposed<Word>(out, p, b.row, depth, width, ahead);
    else
      pack_rows(out, p, b.row, depth, width, Word());
  };
  b.half ? pack(static_cast<const bf16*>(b.p) + first) : pack(static_cast<const float*>(b.p) + first);
}
