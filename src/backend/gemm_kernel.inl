// SPDX-License-Identifier: MIT
// Matrix products of one instruction set, the innermost level: a tile of C in registers, C[rows, vectors] (+)= A·B.
//
// Order of summation: every element of C is one chain c = c + a_k b_k over k = 0, 1, …, K-1, a fused multiply-add each
// (bf16: a vdpbf16ps for each pair of k), whatever the tile, the blocking of k (partial sums rest in C exactly) or the
// thread. So a row's result depends neither on the other rows of a call nor on the number of threads.
//
// "Word": 32 bits of an operand, an f32 or a pair of bf16 with the smaller k in the low half.

constexpr int64_t vectors_of(int64_t n) { return (n + kLanes - 1) / kLanes; }
constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/// One f32 a word.
struct WordF32 {
  static constexpr int kDepth = 1;      ///< k that a word covers
  static constexpr int kExtra = 0;      ///< registers that operands take beyond one vector each
  static constexpr int64_t kAhead = 0;  ///< words of B beyond the current ones to ask memory for
  using Right = V;
  static QWERKY_INLINE Right right(V word) { return word; }
  /// c + Σ a b over the k of a word, a at memory, the same for all lanes.
  static QWERKY_INLINE V step(const float* a, Right b, V c) { return fma(set(*a), b, c); }
};
/// Two bf16 a word on the right, two f32 for it on the left: bf16 weights multiplied in f32.
struct WordWide {
  static constexpr int kDepth = 2;
  static constexpr int kExtra = 1;
  static constexpr int64_t kAhead = 0;
  struct Right {
    V low, high;
  };
  static QWERKY_INLINE Right right(V word) { return {low_bf16(word), high_bf16(word)}; }
  static QWERKY_INLINE V step(const float* a, const Right& b, V c) {
    return fma(set(a[1]), b.high, fma(set(a[0]), b.low, c));
  }
};
#if QWERKY_ISA == 512
/// Two bf16 a word.
struct WordBf16 {
  static constexpr int kDepth = 2;
  static constexpr int kExtra = 0;
  static constexpr int64_t kAhead = 0;
  using Right = V;
  static QWERKY_INLINE Right right(V word) { return word; }
  static QWERKY_INLINE V step(const float* a, Right b, V c) {
    return {_mm512_dpbf16_ps(c.r, reinterpret_cast<__m512bh>(set(*a).r), reinterpret_cast<__m512bh>(b.r))};
  }
};
#endif

constexpr int kTileVectors = QWERKY_ISA == 512 ? 4 : 2;     ///< widest tile
constexpr int64_t kPanel = int64_t{kTileVectors} * kLanes;  ///< columns of B packed together
/// Of a B that is read once, from memory.
constexpr int64_t kAheadBytes = 4096;
template <class Word>
struct Streamed : Word {
  static constexpr int64_t kAhead = kAheadBytes / 4;
};

/// Rows of the tallest tile of so many vectors: accumulators, one row of B and one word of A fill the registers.
template <class Word>
constexpr int tile_rows(int vectors) {
  if (Word::kExtra > 0) return QWERKY_ISA == 256 ? (vectors == 2 ? 5 : 10) : vectors == 4 ? 5 : vectors == 3 ? 8 : 12;
  if (QWERKY_ISA == 256) return vectors == 2 ? 6 : 10;
  return vectors == 4 ? 6 : vectors == 3 ? 8 : 12;
}

/// A by words at a[m a_row + k a_col], B at b[k b_row + n], C at c[m c_row + n].
struct Tile {
  const float* a;
  int64_t a_row, a_col;
  const float* b;
  int64_t b_row;
  float* c;
  int64_t c_row;
  int64_t words;      ///< along k
  const float* bias;  ///< added at the end, or null
  bool accumulate;    ///< start from C instead of 0
  int tail;           ///< columns of the last vector that exist in C (and in B when masked)
};

template <class Word, int kRows, int kCols, bool kMasked>
void multiply_tile(const Tile& t) noexcept {
  V c[kRows][kCols];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kCols; ++v) {
      const float* p = t.c + r * t.c_row + v * kLanes;
      c[r][v] = !t.accumulate ? zero() : v + 1 < kCols ? load(p) : load(p, t.tail);
    }
  const float *a = t.a, *b = t.b;
  const int64_t a_row = t.a_row, a_col = t.a_col, b_row = t.b_row;
  const int tail = t.tail;
  for (int64_t k = t.words; k > 0; --k) {
    typename Word::Right bk[kCols];
    if constexpr (Word::kAhead > 0) {
#pragma GCC unroll 4
      for (int v = 0; v < kCols * kLanes / 16; ++v) _mm_prefetch(b + Word::kAhead + v * 16, _MM_HINT_NTA);
    }
#pragma GCC unroll 4
    for (int v = 0; v < kCols; ++v)
      bk[v] = Word::right(kMasked && v + 1 == kCols ? load(b + v * kLanes, tail) : load(b + v * kLanes));
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < kCols; ++v) c[r][v] = Word::step(a + r * a_row, bk[v], c[r][v]);
    a += a_col;
    b += b_row;
  }
  float* out = t.c;
  const float* bias = t.bias;
  const int64_t c_row = t.c_row;
  if (bias != nullptr) {
#pragma GCC unroll 4
    for (int v = 0; v < kCols; ++v) {
      const V add = v + 1 < kCols ? load(bias + v * kLanes) : load(bias + v * kLanes, tail);
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) c[r][v] += add;
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r, out += c_row) {
#pragma GCC unroll 4
    for (int v = 0; v + 1 < kCols; ++v) store(out + v * kLanes, c[r][v]);
    store(out + (kCols - 1) * kLanes, c[r][kCols - 1], tail);
  }
}

using TileFunction = void (*)(const Tile&) noexcept;

template <class Word, int kCols, bool kMasked>
TileFunction tile_of_rows(int64_t rows) {
  constexpr int kMost = tile_rows<Word>(kCols);
  static_assert(kMost <= 12);
#define QWERKY_TILE(n) \
  case n: return &multiply_tile<Word, (n <= kMost ? n : kMost), kCols, kMasked>
  switch (rows) {
    QWERKY_TILE(1);
    QWERKY_TILE(2);
    QWERKY_TILE(3);
    QWERKY_TILE(4);
    QWERKY_TILE(5);
    QWERKY_TILE(6);
    QWERKY_TILE(7);
    QWERKY_TILE(8);
    QWERKY_TILE(9);
    QWERKY_TILE(10);
    QWERKY_TILE(11);
    default: return &multiply_tile<Word, kMost, kCols, kMasked>;
  }
#undef QWERKY_TILE
}

/// Memory needed soon: `count` runs of `bytes`, `stride` bytes apart.
struct Ahead {
  const char* p = nullptr;
  int64_t stride = 0, bytes = 0, count = 0;
};

/// All `rows` rows of a column panel `vectors` wide, tallest tiles first.
template <class Word, int kCols, bool kMasked>
void multiply_rows(Tile t, int64_t rows, Ahead ahead) noexcept {
  constexpr int64_t kMost = tile_rows<Word>(kCols);
  const int64_t share = (ahead.count * kMost + rows - 1) / rows;  // runs to ask for before each tile
  for (; rows >= kMost; rows -= kMost) {
    for (int64_t i = 0; i < smaller(share, ahead.count); ++i, ahead.p += ahead.stride)
      for (int64_t b = 0; b < ahead.bytes; b += 64) _mm_prefetch(ahead.p + b, _MM_HINT_T1);
    ahead.count -= share;
    for (int64_t r = kMost; r < smaller(2 * kMost, rows); ++r)
      for (int64_t v = 0; v < kCols; ++v)
        _mm_prefetch(reinterpret_cast<const char*>(t.c + r * t.c_row + v * kLanes), _MM_HINT_T0);
    multiply_tile<Word, kMost, kCols, kMasked>(t);
    t.a += kMost * t.a_row;
    t.c += kMost * t.c_row;
  }
  if (rows > 0) tile_of_rows<Word, kCols, kMasked>(rows)(t);
}

/// The same for 1 <= vectors <= kTileVectors; `masked` when B has no more than t.tail columns in its last vector.
template <class Word, bool kMasked>
void multiply_panel(const Tile& t, int64_t rows, int64_t vectors, const Ahead& ahead = {}) noexcept {
  switch (vectors) {
    case 1: return multiply_rows<Word, 1, kMasked>(t, rows, ahead);
    case 2: return multiply_rows<Word, 2, kMasked>(t, rows, ahead);
#if QWERKY_ISA == 512
    case 3: return multiply_rows<Word, 3, kMasked>(t, rows, ahead);
    case 4: return multiply_rows<Word, 4, kMasked>(t, rows, ahead);
#endif
    default: __builtin_unreachable();
  }
}

/// C[M, N] (+)= A[M, K]·B[K, N] on the calling thread without packing, for blocks that stay in the L2 cache. A is at
/// any strides (a transposed A has a_row = 1), rows of B and C are contiguous and b_row, c_row floats apart.
inline void gemm_f32(int64_t M, int64_t N, int64_t K, const float* A, int64_t a_row, int64_t a_col, const float* B,
                     int64_t b_row, float* C, int64_t c_row, bool accumulate) noexcept {
  for (int64_t n = 0; n < N; n += kPanel) {
    const int64_t width = smaller(kPanel, N - n), vectors = vectors_of(width);
    const int tail = static_cast<int>(width - (vectors - 1) * kLanes);
    const Tile t{A, a_row, a_col, B + n, b_row, C + n, c_row, K, nullptr, accumulate, tail};
    tail == kLanes ? multiply_panel<WordF32, false>(t, M, vectors) : multiply_panel<WordF32, true>(t, M, vectors);
  }
}

// Transposition works on squares of 8 × 8 words in 256-bit registers: shuffles across 512 bits take half as long again.
// again.

QWERKY_INLINE __m256 load_8(const float* p) { return _mm256_loadu_ps(p); }
#if QWERKY_ISA == 512
QWERKY_INLINE __m256 load_8(const float* p, int n) {
  return _mm256_maskz_loadu_ps(static_cast<__mmask8>((1u << n) - 1u), p);
}
QWERKY_INLINE void store_8(float* p, __m256 a, int n) {
  _mm256_mask_storeu_ps(p, static_cast<__mmask8>((1u << n) - 1u), a);
}
#else
QWERKY_INLINE __m256 load_8(const float* p, int n) { return load(p, n).r; }
QWERKY_INLINE void store_8(float* p, __m256 a, int n) { store(p, V{a}, n); }
#endif

/// Lane j of v[i] and lane i of v[j] change places.
QWERKY_INLINE void transpose_square(__m256* v) {
  __m256 t[8], u[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
  }
  // Half q of u[4 i + j]: column 4 q + j of rows 4 i … 4 i + 3.
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    v[j] = _mm256_permute2f128_ps(u[j], u[4 + j], 0x20);
    v[4 + j] = _mm256_permute2f128_ps(u[j], u[4 + j], 0x31);
  }
}

/// One square of transpose_by. Not inlined: a loop around it would keep a pointer for each row of both sides.
template <class Read>
__attribute__((noinline)) void transpose_whole(float* to, int64_t out_row, const Read& read, int64_t r,
                                               int64_t c) noexcept {
  __m256 v[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) v[i] = read(r + i, c);
  transpose_square(v);
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i, to += out_row) _mm256_storeu_ps(to, v[i]);
}
template <class Read>
__attribute__((noinline)) void transpose_part(float* to, int64_t out_row, const Read& read, int64_t r, int64_t c,
                                              int height, int width, int stored) noexcept {
  __m256 v[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) v[i] = i < height ? read(r + i, c, width) : _mm256_setzero_ps();
  transpose_square(v);
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i, to += out_row)
    if (i < width) store_8(to, v[i], stored);
}

/// out[c, r] for r < rows, c < cols, where read(r, c) is 8 words of row r from column c on and read(r, c, n) the first
/// n of them and zeros. With kPadded, out has room for whole vectors of rows and the excess is 0.
template <bool kPadded, class Read>
void transpose_by(float* out, int64_t out_row, int64_t rows, int64_t cols, const Read& read) noexcept {
  const int64_t end = kPadded ? vectors_of(rows) * kLanes : rows;
  for (int64_t r = 0; r < end; r += 8) {
    const int height = static_cast<int>(smaller(8, rows - r));
    for (int64_t c = 0; c < cols; c += 8) {
      const int width = static_cast<int>(smaller(8, cols - c));
      if (height == 8 && width == 8)
        transpose_whole(out + c * out_row + r, out_row, read, r, c);
      else
        transpose_part(out + c * out_row + r, out_row, read, r, c, height, width, kPadded ? 8 : height);
    }
  }
}

/// Reads rows of contiguous f32.
struct ReadRows {
  const float* p;
  int64_t row;
  QWERKY_INLINE __m256 operator()(int64_t r, int64_t c) const { return load_8(p + r * row + c); }
  QWERKY_INLINE __m256 operator()(int64_t r, int64_t c, int n) const { return load_8(p + r * row + c, n); }
};

/// out[c, r] = in[r, c]; rows of both are contiguous, out_row and in_row floats apart.
inline void transpose(float* out, int64_t out_row, const float* in, int64_t in_row, int64_t rows,
                      int64_t cols) noexcept {
  transpose_by<false>(out, out_row, rows, cols, ReadRows{in, in_row});
}
