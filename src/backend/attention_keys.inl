// SPDX-License-Identifier: MIT
// What every form of softmax attention shares: where keys lie, which of them a query sees, and the softmax of one block
// of positions. Included in the namespace of one instruction set after gemm_kernel.inl.
//
// Blocks of kKeyBlock positions start at multiples of kKeyBlock in the sequence. Each has a softmax of its own, and the
// blocks are merged in order, so that a row's result depends neither on the rows of a call nor on the threads: every
// product is one chain, and lanes that a row does not see add exact zeros.

namespace kernels {

constexpr int64_t kKeyBlock = 256;  ///< positions whose softmax is made together

alignas(64) constexpr float kLaneNumber[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/// The keys and values of one key/value head of one segment: the state's up to `before`, then its own.
struct Keys {
  const float *own_k, *own_v, *old_k, *old_v;
  int64_t before, stride;
  AttentionShape shape;

  /// Of head g, when these are of head 0.
  Keys head(int64_t g) const {
    Keys k = *this;
    for (const float** p : {&k.own_k, &k.own_v, &k.old_k, &k.old_v}) *p = *p != nullptr ? *p + g * shape.head : nullptr;
    return k;
  }
  const float* at(const float* own, const float* old, int64_t position) const {
    return position >= before ? own + (position - before) * stride : old + shape.slot(position) * stride;
  }
  /// The keys or values of positions [first, first + count), `row` floats apart: where they are, or their first `width`
  /// floats in `buffer` when they do not lie one after the other.
  const float* rows(float* buffer, const float* own, const float* old, int64_t first, int64_t count, int64_t width,
                    int64_t& row) const {
    row = stride;
    if (first >= before) return at(own, old, first);
    const int64_t end = first + count;
    const bool in_ring = shape.window > 0 && end > shape.sinks;
    if (end <= before && !in_ring) return at(own, old, first);
    if (end <= before && first >= shape.sinks && shape.slot(end - 1) == shape.slot(first) + count - 1)
      return at(own, old, first);
    return copied(buffer, own, old, first, count, width, row);
  }
  const float* copied(float* buffer, const float* own, const float* old, int64_t first, int64_t count, int64_t width,
                      int64_t& row) const {
    row = width;
    for (int64_t i = 0; i < count; ++i)
      std::memcpy(buffer + i * row, at(own, old, first + i), static_cast<size_t>(row) * sizeof(float));
    return buffer;
  }
  /// out[n][i] = element n of position first + i, rows kKeyBlock apart, zeros up to a whole vector. Uses `buffer`.
  void transposed(float* out, float* buffer, const float* own, const float* old, int64_t first, int64_t count) const {
    int64_t row = 0;
    const float* const in = rows(buffer, own, old, first, count, shape.head, row);
    transpose(out, kKeyBlock, in, row, count, shape.head);
    const int64_t excess = (count + kLanes - 1) / kLanes * kLanes - count;
    for (int64_t n = 0; n < shape.head && excess > 0; ++n)
      std::memset(out + n * kKeyBlock + count, 0, static_cast<size_t>(excess) * sizeof(float));
  }
};

/// What one query sees of a block: columns [from, to) and those below `sinks`.
struct Sight {
  int64_t from, to, sinks;
};
inline Sight sight(const AttentionShape& shape, int64_t position, int64_t first) {
  const auto within = [](int64_t x) { return std::clamp<int64_t>(x, 0, kKeyBlock); };
  const int64_t to = within(position + 1 - first);
  if (shape.window == 0) return {0, to, 0};
  return {within(position - shape.window + 1 - first), to, std::min(to, within(shape.sinks - first))};
}
/// x in the lanes of columns [c, c + kLanes) that are seen, -inf in the others.
QWERKY_INLINE V seen(V x, int64_t c, const Sight& w) {
  if (w.from <= c && c + kLanes <= w.to) return x;
  const V column = load(kLaneNumber) + set(static_cast<float>(c)), never = set(-__builtin_inff());
  const V windowed =
      select(column < set(static_cast<float>(w.from)), select(column < set(static_cast<float>(w.sinks)), x, never), x);
  return select(column < set(static_cast<float>(w.to)), windowed, never);
}

/// Columns of the block at `first` that queries at positions [early, late] need, rounded to vectors. Empty when begin
/// >= end.
struct Columns {
  int64_t begin, end;
};
inline Columns columns_of(const AttentionShape& shape, int64_t early, int64_t late, int64_t first) {
  // The windows overlap, so that together they reach from the first one's start to the last one's end.
  const Sight from = sight(shape, early, first), to = sight(shape, late, first);
  const int64_t begin = to.sinks > 0 ? 0 : from.from, end = from.from < to.to ? to.to : to.sinks;
  return {begin / kLanes * kLanes, (end + kLanes - 1) / kLanes * kLanes};
}

/// The largest scaled score of a block and Σ exp(scale·score - maximum); -inf and 0 when nothing is seen.
struct BlockSum {
  float maximum, total;
};
/// Turns a row of scores into exp(scale·score - maximum).
inline BlockSum soften(float* s, Columns c, const Sight& w, float scale) {
  const int64_t seen_end = w.from < w.to ? w.to : w.sinks;
  const int64_t end = std::max(c.begin, (seen_end + kLanes - 1) / kLanes * kLanes);
  for (int64_t i = end; i < c.end; i += kLanes) store(s + i, zero());
  V top = set(-__builtin_inff());
  for (int64_t i = c.begin; i < end; i += kLanes) {
    const V x = seen(load(s + i) * set(scale), i, w);
    store(s + i, x);
    top = max(top, x);
  }
  const float block = max_of(top);
  if (block == -__builtin_inff()) {
    for (int64_t i = c.begin; i < end; i += kLanes) store(s + i, zero());
    return {block, 0};
  }
  const V m = set(block);
  V sums = zero();
  for (int64_t i = c.begin; i < end; i += kLanes) {
    const V p = exp(load(s + i) - m);
    store(s + i, p);
    sums += p;
  }
  return {block, sum(sums)};
}

/// Merging a block into what came before: both shrink by exp(own maximum - common maximum). Only blocks of which
/// something is seen are merged.
struct Shrink {
  V before, block;
};
QWERKY_INLINE Shrink shrink(V before, V block) {
  const V both = max(before, block);
  return {exp(before - both), exp(block - both)};
}
/// Channels, or totals: the sum so far and that of the block.
QWERKY_INLINE V merged(V before, V block, const Shrink& s) { return fma(block, s.block, before * s.before); }

/// Appends a segment's rows to its state: of rows that share a slot the last survives.
inline void append_keys(const Segment& s, const float* k, const float* v, float* keys, float* values,
                        const AttentionShape& shape) {
  const int64_t W = shape.kv_heads * shape.head, end = s.position() + s.rows;
  for (int64_t t = 0; t < s.rows; ++t) {
    const int64_t p = s.position() + t;
    if (shape.window > 0 && p >= shape.sinks && p + shape.window < end) continue;
    std::memcpy(keys + shape.slot(p) * W, k + (s.row + t) * W, static_cast<size_t>(W) * sizeof(float));
    std::memcpy(values + shape.slot(p) * W, v + (s.row + t) * W, static_cast<size_t>(W) * sizeof(float));
  }
}

}  // namespace kernels
