// SPDX-License-Identifier: MIT
// Attention of few rows over many positions, at memory speed: threads split blocks of positions and heads, a range of
// positions is read for all its heads in the order of memory, and keys are read once for all queries of their head.
// What a block yields is kept apart and merged in order afterwards.

namespace kernels {

constexpr int kFewQueries = 8;   ///< most queries that share registers
constexpr int64_t kAhead = 512;  ///< floats asked for before they are read, besides those of the positions at hand
constexpr int64_t kFewQueriesMost = 64;  ///< queries of a key/value head up to which a segment is "few rows"

/// c[j]: channel j of kLanes keys, the first at p, rows `row` floats apart. With n < 8 the channels from n on are 0.
template <class Read>
QWERKY_INLINE void load_channels(V (&c)[8], const Read& read) {
#if QWERKY_ISA == 512
  __m512 t[8], u[8];
  // Quarters of a register: keys i and i + 4 of the first and (from c[4] on) of the last eight.
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    const int key = i < 4 ? i : i + 4;
    c[i].r = _mm512_insertf32x8(_mm512_castps256_ps512(read(key)), read(key + 4), 1);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm512_unpacklo_ps(c[i].r, c[i + 1].r);
    t[i + 1] = _mm512_unpackhi_ps(c[i].r, c[i + 1].r);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    u[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
    u[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
    u[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    u[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    c[j].r = _mm512_shuffle_f32x4(u[j], u[4 + j], 0x88);
    c[4 + j].r = _mm512_shuffle_f32x4(u[j], u[4 + j], 0xdd);
  }
#else
  __m256 v[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) v[i] = read(i);
  transpose_square(v);
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) c[i].r = v[i];
#endif
}

/// Up to kFewQueries queries of each of some heads. Scores of a head's queries are kKeyBlock apart.
struct FewScores {
  const float* q;  ///< [heads][N][queries], heads q_head apart
  int64_t q_head;
  const float* keys;  ///< of kLanes positions, `row` apart, heads N apart
  int64_t row, heads, N;
  const float* ahead;  ///< memory to ask for meanwhile, as much as is read, or null
  float* scores;
  int64_t scores_head;
};

/// scores[head][i][key] = q_i·key for kLanes keys, each one chain over the N channels.
template <int kQueries>
void score_keys(const FewScores& a) noexcept {
  const float* ahead = a.ahead != nullptr ? a.ahead : a.q;
  const int64_t ahead_step = a.ahead != nullptr ? 8 * kLanes : 0;
  for (int64_t g = 0; g < a.heads; ++g) {
    const float *q = a.q + g * a.q_head, *keys = a.keys + g * a.N;
    int64_t row = a.row, n = a.N;
    asm("" : "+r"(row));  // so that rows are addressed by multiples of it, not by a pointer each
    V s[kQueries] = {}, c[8];
    for (; n >= 8; n -= 8, keys += 8) {
      load_channels(
          c, [=](int i) __attribute__((always_inline)) { return load_8(keys + i / 4 * (4 * row) + i % 4 * row); });
#pragma GCC unroll 8
      for (int j = 0; j < 8; ++j) {
#pragma GCC unroll 8
        for (int i = 0; i < kQueries; ++i) s[i] = fma(set(q[j * kQueries + i]), c[j], s[i]);
        if (j * kLanes % 16 == 0) __builtin_prefetch(ahead + j * kLanes);
      }
      q += 8 * kQueries;
      ahead += ahead_step;
    }
    if (n > 0) {
      const int left = static_cast<int>(n);
      load_channels(
          c, [=](int i) __attribute__((always_inline)) { return load_8(keys + i * row, left); });
      for (int j = 0; j < left; ++j)
#pragma GCC unroll 8
        for (int i = 0; i < kQueries; ++i) s[i] = fma(set(q[j * kQueries + i]), c[j], s[i]);
    }
    float* const scores = a.scores + g * a.scores_head;
#pragma GCC unroll 8
    for (int i = 0; i < kQueries; ++i) store(scores + i * kKeyBlock, s[i]);
  }
}

struct FewValues {
  const float* p;  ///< weights of a head's queries kKeyBlock apart
  int64_t p_head;
  const float* values;
  int64_t row, count, heads, N;
  const float* ahead;
  float* o;
  int64_t o_row, o_head;
};

/// Vectors of values that so many queries take at once.
constexpr int few_columns(int queries) {
  if (queries == 1) return 8;
  if (queries <= 3) return 4;
  return QWERKY_ISA == 512 || queries <= 6 ? 2 : 1;
}

/// o_i += Σ_j p[i][j] v_j over a.count values, kCols vectors of channels of which the last has `tail`.
template <int kQueries, int kCols>
QWERKY_INLINE void weigh_columns(const FewValues& a, const float* p, const float* values, float* o, int tail,
                                 const float*& ahead, int64_t ahead_step) {
  const int64_t row = a.row, o_row = a.o_row;
  V s[kQueries][kCols];
#pragma GCC unroll 8
  for (int i = 0; i < kQueries; ++i)
#pragma GCC unroll 8
    for (int c = 0; c < kCols; ++c) {
      const float* from = o + i * o_row + c * kLanes;
      s[i][c] = c + 1 < kCols ? load(from) : load(from, tail);
    }
  for (int64_t j = a.count; j > 0; --j) {
    V v[kCols];
#pragma GCC unroll 8
    for (int c = 0; c < kCols; ++c) {
      const float* from = values + c * kLanes;
      if (c * kLanes % 16 == 0) __builtin_prefetch(ahead + c * kLanes);
      v[c] = c + 1 < kCols ? load(from) : load(from, tail);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kQueries; ++i) {
      const V weight = set(p[i * kKeyBlock]);
#pragma GCC unroll 8
      for (int c = 0; c < kCols; ++c) s[i][c] = fma(weight, v[c], s[i][c]);
    }
    values += row;
    ahead += kCols * ahead_step;
    ++p;
  }
#pragma GCC unroll 8
  for (int i = 0; i < kQueries; ++i)
#pragma GCC unroll 8
    for (int c = 0; c < kCols; ++c) {
      float* to = o + i * o_row + c * kLanes;
      c + 1 < kCols ? store(to, s[i][c]) : store(to, s[i][c], tail);
    }
}

/// The same for all channels of all heads.
template <int kQueries>
void weigh_values(const FewValues& a) noexcept {
  constexpr int kCols = few_columns(kQueries);
  const float* ahead = a.ahead != nullptr ? a.ahead : a.p;
  const int64_t ahead_step = a.ahead != nullptr ? kLanes : 0;
  for (int64_t g = 0; g < a.heads; ++g) {
    const float *p = a.p + g * a.p_head, *values = a.values + g * a.N;
    float* const o = a.o + g * a.o_head;
    int64_t n = 0;
    for (; n + kCols * kLanes <= a.N; n += kCols * kLanes)
      weigh_columns<kQueries, kCols>(a, p, values + n, o + n, kLanes, ahead, ahead_step);
    if constexpr (kCols > 2)
      for (; n + 2 * kLanes <= a.N; n += 2 * kLanes)
        weigh_columns<kQueries, 2>(a, p, values + n, o + n, kLanes, ahead, ahead_step);
    for (; n < a.N; n += kLanes) {
      const int tail = static_cast<int>(std::min<int64_t>(kLanes, a.N - n));
      weigh_columns<kQueries, 1>(a, p, values + n, o + n, tail, ahead, ahead_step);
    }
  }
}

constexpr void (*kScoreKeys[kFewQueries])(const FewScores&) noexcept = {score_keys<1>, score_keys<2>, score_keys<3>,
                                                                        score_keys<4>, score_keys<5>, score_keys<6>,
                                                                        score_keys<7>, score_keys<8>};
constexpr void (*kWeighValues[kFewQueries])(const FewValues&) noexcept = {
    weigh_values<1>, weigh_values<2>, weigh_values<3>, weigh_values<4>,
    weigh_values<5>, weigh_values<6>, weigh_values<7>, weigh_values<8>};

/// A segment of few rows: its queries, which blocks they see, and where those leave their results.
class FewRows {
 public:
  FewRows() = default;
  /// keys of head 0; q, o: of the segment's first row.
  FewRows(const Segment& segment, const Keys& keys, const float* q, float* o)
      : keys_(keys),
        q_(q),
        o_(o),
        rows_(segment.rows),
        position_(segment.position()),
        group_(keys.shape.heads / keys.shape.kv_heads) {
    const int64_t oldest = keys.shape.window > 0 ? std::max<int64_t>(0, position_ - keys.shape.window + 1) : 0;
    from_ = oldest / kKeyBlock;
    low_ = std::min(from_, (keys.shape.sinks + kKeyBlock - 1) / kKeyBlock);
    blocks_ = low_ + (position_ + rows_ + kKeyBlock - 1) / kKeyBlock - from_;
  }
  int64_t queries() const { return rows_ * keys_.shape.heads; }
  /// Multiply-adds of all blocks.
  int64_t work() const { return unit() * keys_.shape.kv_heads * ((blocks_ - 1) * kKeyBlock + count(blocks_ - 1)); }
  /// Memory for results of blocks, and where it is.
  int64_t floats() const { return queries() * blocks_ * (keys_.shape.head + 2); }
  void place(float* memory) {
    partial_ = memory;
    maxima_ = partial_ + queries() * blocks_ * keys_.shape.head;
    totals_ = maxima_ + queries() * blocks_;
  }
  /// f(block, first head, end of heads) for what starts in [begin, end) when multiply-adds are counted through blocks,
  /// and heads within them.
  template <class F>
  void each_block(int64_t begin, int64_t end, const F& f) const {
    const int64_t heads = keys_.shape.kv_heads, whole = kKeyBlock * heads * unit();
    for (int64_t j = std::max<int64_t>(0, begin) / whole; j < blocks_ && j * whole < end; ++j) {
      const int64_t start = j * whole, each = count(j) * unit();
      const auto head_from = [=](int64_t at) {
        return at <= start ? 0 : std::min(heads, (at - start + each - 1) / each);
      };
      const int64_t g0 = head_from(begin), g1 = head_from(end);
      if (g0 < g1) f(j, g0, g1);
    }
  }
  /// The queries as score_keys reads them: [kv_heads][passes][N][queries of the pass].
  void pack(float* to) const {
    const int64_t N = keys_.shape.head, A = keys_.shape.heads * N;
    for (int64_t g = 0; g < keys_.shape.kv_heads; ++g)
      each_pass([&](int64_t index, int64_t n) {
        for (int64_t i = 0; i < n; ++i) {
          const float* const q = q_ + row_of(index + i) * A + (g * group_ + head_of(index + i)) * N;
          for (int64_t c = 0; c < N; ++c) to[(g * each() + index) * N + c * n + i] = q[c];
        }
      });
  }
  bool same_queries(const FewRows& f) const { return q_ == f.q_; }
  /// The i-th query of rows·heads, from the results of its blocks.
  void merge(int64_t i) const;

 private:
  friend class FewBlock;
  int64_t block(int64_t j) const { return j < low_ ? j : from_ + j - low_; }
  int64_t count(int64_t j) const { return std::min(kKeyBlock, position_ + rows_ - block(j) * kKeyBlock); }
  /// Queries of a key/value head. Their index counts heads of a row or rows of a head first, whichever are more: up to
  /// kFewQueries of those share registers.
  int64_t each() const { return rows_ * group_; }
  bool by_row() const { return group_ >= rows_; }
  int64_t row_of(int64_t index) const { return by_row() ? index / group_ : index % rows_; }
  int64_t head_of(int64_t index) const { return by_row() ? index % group_ : index / rows_; }
  /// Where query `index` of head g has its results of block j.
  int64_t result(int64_t g, int64_t index, int64_t j) const {
    return (row_of(index) * keys_.shape.heads + g * group_ + head_of(index)) * blocks_ + j;
  }
  /// f(index of the first, n <= kFewQueries) for the queries of a head that share registers.
  template <class F>
  QWERKY_INLINE void each_pass(const F& f) const {
    const int64_t inner = std::max(rows_, group_);
    for (int64_t a = 0; a < each(); a += inner)
      for (int64_t b = 0; b < inner; b += kFewQueries) f(a + b, std::min<int64_t>(kFewQueries, inner - b));
  }
  /// Multiply-adds of one position of one key/value head.
  int64_t unit() const { return 2 * rows_ * group_ * keys_.shape.head; }

  Keys keys_{};
  const float* q_ = nullptr;
  float* o_ = nullptr;
  int64_t rows_ = 0, position_ = 0, group_ = 1;
  int64_t low_ = 0, from_ = 0, blocks_ = 0;  // blocks 0 … low - 1 (sinks), then those from `from` on
  float *partial_ = nullptr, *maxima_ = nullptr, *totals_ = nullptr;  // [rows·heads, blocks, N], [rows·heads, blocks]
};

/// A block of a segment for key/value heads [g0, g1), in three steps, each by parts of some positions: scores,
/// their softmax, weighted values.
class FewBlock {
 public:
  FewBlock() = default;
  /// q as FewRows::pack leaves it; scores [heads·queries, kKeyBlock] and buffer [16, heads·N]: memory.
  FewBlock(const FewRows& f, int64_t j, int64_t g0, int64_t g1, const float* q, float* scores, float* buffer)
      : f_(f), j_(j), g0_(g0), g1_(g1), first_(f.block(j) * kKeyBlock), q_(q), scores_(scores), buffer_(buffer) {
    columns_ = columns_of(f.keys_.shape, f.position_, f.position_ + f.rows_ - 1, first_);
    end_ = std::min(columns_.end, f.count(j));
    in_order_ = g1 - g0 == f.keys_.shape.kv_heads && f.keys_.shape.window == 0;
  }
  /// Whether there is a block at all.
  explicit operator bool() const { return scores_ != nullptr; }

  void score(int64_t part) const {
    const AttentionShape& shape = f_.keys_.shape;
    const int64_t here = std::min<int64_t>(kLanes, end_ - part), N = shape.head, width = (g1_ - g0_) * N;
    if (part < columns_.begin || here <= 0) return;
    const Keys k = f_.keys_.head(g0_);
    FewScores a{};
    if (here == kLanes) {
      a.keys = k.rows(buffer_, k.own_k, k.old_k, first_ + part, here, width, a.row);
    } else {
      a.keys = k.copied(buffer_, k.own_k, k.old_k, first_ + part, here, width, a.row);
      std::memset(buffer_ + here * width, 0, static_cast<size_t>((kLanes - here) * width) * sizeof(float));
    }
    a.heads = g1_ - g0_, a.N = N;
    a.ahead = in_order_ ? a.keys + kLanes * a.row + kAhead : nullptr;
    a.q_head = f_.each() * N, a.scores_head = f_.each() * kKeyBlock;
    f_.each_pass([&](int64_t index, int64_t n) {
      a.q = q_ + (g0_ * f_.each() + index) * N;
      a.scores = scores_ + index * kKeyBlock + part;
      kScoreKeys[n - 1](a);
      a.ahead = nullptr;
    });
  }
  /// A share of the rows of scores.
  void normalise(int64_t part) const {
    const int64_t N = f_.keys_.shape.head, queries = f_.each(), rows = (g1_ - g0_) * queries;
    for (int64_t i = rows * part / kKeyBlock; i < rows * (part + kLanes) / kKeyBlock; ++i) {
      const int64_t g = g0_ + i / queries, index = i % queries, at = f_.result(g, index, j_);
      const BlockSum b =
          soften(scores_ + i * kKeyBlock, columns_, sight(f_.keys_.shape, f_.position_ + f_.row_of(index), first_),
                 static_cast<float>(f_.keys_.shape.scale));
      f_.maxima_[at] = b.maximum, f_.totals_[at] = b.total;
      std::memset(f_.partial_ + at * N, 0, static_cast<size_t>(N) * sizeof(float));
    }
  }
  void weigh() const {
    // Fewer values between changes of head when they lie so far apart that they share sets of L1.
    const int64_t size = f_.keys_.stride < 512 ? 16 : 8;
    for (int64_t part = columns_.begin; part < end_; part += size) weigh(part, size);
  }

 private:
  void weigh(int64_t part, int64_t size) const {
    const AttentionShape& shape = f_.keys_.shape;
    const int64_t here = std::min(size, end_ - part), N = shape.head;
    const Keys k = f_.keys_.head(g0_);
    FewValues a{};
    a.values = k.rows(buffer_, k.own_v, k.old_v, first_ + part, here, (g1_ - g0_) * N, a.row);
    a.count = here, a.heads = g1_ - g0_, a.N = N;
    a.ahead = in_order_ ? a.values + size * a.row + kAhead : nullptr;
    a.p_head = f_.each() * kKeyBlock, a.o_head = f_.group_ * f_.blocks_ * N;
    a.o_row = (f_.by_row() ? 1 : shape.heads) * f_.blocks_ * N;
    f_.each_pass([&](int64_t index, int64_t n) {
      a.p = scores_ + index * kKeyBlock + part;
      a.o = f_.partial_ + f_.result(g0_, index, j_) * N;
      kWeighValues[n - 1](a);
      a.ahead = nullptr;
    });
  }

  FewRows f_;
  int64_t j_ = 0, g0_ = 0, g1_ = 0, first_ = 0, end_ = 0;
  Columns columns_{};
  bool in_order_ = false;
  const float* q_ = nullptr;
  float *scores_ = nullptr, *buffer_ = nullptr;
};

/// Blocks one after the other; while a block's keys are read the softmax of the block before is made, which alone would
/// leave memory idle.
class FewPipeline {
 public:
  /// For blocks of up to `queries` queries of all heads; kv_width = key/value heads · N.
  FewPipeline(int64_t queries, int64_t kv_width, int64_t N) {
    const int64_t floats = queries * kKeyBlock;
    buffer_ = static_cast<float*>(
        scratch(Scratch::attention, (2 * floats + 16 * kv_width + queries * N) * static_cast<int64_t>(sizeof(float))));
    for (int i = 0; i < 2; ++i) scores_[i] = buffer_ + 16 * kv_width + i * floats;
    q_ = scores_[1] + floats;
  }
  void push(const FewRows& f, int64_t j, int64_t g0, int64_t g1) {
    if (!f.same_queries(packed_)) f.pack(q_);
    packed_ = f;
    blocks_[turn_] = FewBlock(f, j, g0, g1, q_, scores_[turn_], buffer_);
    step();
  }
  void finish() { step(); }

 private:
  void step() {
    const FewBlock &now = blocks_[turn_], &before = blocks_[1 - turn_];
    for (int64_t part = 0; part < kKeyBlock; part += kLanes) {
      if (now) now.score(part);
      if (before) before.normalise(part);
    }
    if (before) before.weigh();
    turn_ = 1 - turn_;
    blocks_[turn_] = FewBlock();
  }

  FewBlock blocks_[2];
  FewRows packed_;
  float *scores_[2], *buffer_, *q_;
  int turn_ = 0;
};

/// o = merged blocks / total for kCols vectors of channels. factors: maxima, Shrink::before and Shrink::block.
template <int kCols>
void few_merge_columns(float* o, const float* partial, const float* const (&factors)[3], int64_t blocks, int64_t N,
                       float total, int tail) noexcept {
  V sum[kCols] = {};
  for (int64_t j = 0; j < blocks; ++j, partial += N) {
    if (factors[0][j] == -__builtin_inff()) continue;
    const Shrink s{set(factors[1][j]), set(factors[2][j])};
#pragma GCC unroll 4
    for (int c = 0; c < kCols; ++c)
      sum[c] = merged(sum[c], c + 1 < kCols ? load(partial + c * kLanes) : load(partial + c * kLanes, tail), s);
  }
  const V share = set(1.0f / total);
#pragma GCC unroll 4
  for (int c = 0; c < kCols; ++c)
    c + 1 < kCols ? store(o + c * kLanes, sum[c] * share) : store(o + c * kLanes, sum[c] * share, tail);
}

inline void FewRows::merge(int64_t query) const {
  const int64_t N = keys_.shape.head, n = blocks_, padded = (n + kLanes - 1) / kLanes * kLanes;
  const float *const partial = partial_ + query * n * N, *const maxima = maxima_ + query * n;
  const float* const totals = totals_ + query * n;
  float* const before = static_cast<float*>(scratch(Scratch::attention, 2 * padded * int64_t{sizeof(float)}));
  float* const block = before + padded;
  float highest = -__builtin_inff();
  for (int64_t j = 0; j < n; ++j) {
    before[j] = highest;
    highest = maxima[j] > highest ? maxima[j] : highest;
  }
  sweep(
      n, [=](int64_t j, auto lanes) __attribute__((always_inline)) {
        const Shrink s = shrink(load(before + j, lanes), load(maxima + j, lanes));
        store(before + j, s.before, lanes);
        store(block + j, s.block, lanes);
      });
  float total = 0;
  for (int64_t j = 0; j < n; ++j)
    if (maxima[j] != -__builtin_inff()) total = __builtin_fmaf(totals[j], block[j], total * before[j]);
  const float* const factors[] = {maxima, before, block};
  float* const o = o_ + query * N;
  int64_t i = 0;
  for (; i + 4 * kLanes <= N; i += 4 * kLanes) few_merge_columns<4>(o + i, partial + i, factors, n, N, total, kLanes);
  for (; i < N; i += kLanes)
    few_merge_columns<1>(o + i, partial + i, factors, n, N, total, static_cast<int>(std::min<int64_t>(kLanes, N - i)));
}

}  // namespace kernels
