// SPDX-License-Identifier: MIT
// Softmax attention by blocks of keys with a running maximum and sum. Included in the namespace of one instruction set
// after gemm_kernel.inl.
//
// A row's result depends neither on how many rows a call has nor on the threads: blocks of keys start at multiples of
// kKeyBlock in the sequence, every product is one chain, and lanes that a row does not see add exact zeros.

namespace kernels {

constexpr int64_t kKeyBlock = 128;            ///< positions whose scores are made together
constexpr int64_t kQueryTile = 24;            ///< queries that share them: a multiple of the rows of register tiles
constexpr int64_t kQueryChunk = 96;           ///< rows of a segment that one thread takes
constexpr int64_t kSmallAttention = 1 << 17;  ///< rows · keys · channels not worth a second thread

alignas(64) constexpr float kLaneNumber[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/// The keys and values of one key/value head of one segment: the state's up to `before`, then its own.
struct Keys {
  const float *own_k, *own_v, *old_k, *old_v;
  int64_t before, stride;
  AttentionShape shape;

  const float* at(const float* own, const float* old, int64_t position) const {
    return position >= before ? own + (position - before) * stride : old + shape.slot(position) * stride;
  }
  /// The keys or values of positions [first, first + count), `row` floats apart: where they are, or in `buffer` when
  /// they do not lie one after the other.
  const float* rows(float* buffer, const float* own, const float* old, int64_t first, int64_t count,
                    int64_t& row) const {
    row = stride;
    if (first >= before) return at(own, old, first);
    const int64_t end = first + count;
    const bool in_ring = shape.window > 0 && end > shape.sinks;
    if (end <= before && !in_ring) return at(own, old, first);
    if (end <= before && first >= shape.sinks && shape.slot(end - 1) == shape.slot(first) + count - 1)
      return at(own, old, first);
    row = shape.head;
    for (int64_t i = 0; i < count; ++i)
      std::memcpy(buffer + i * row, at(own, old, first + i), static_cast<size_t>(row) * sizeof(float));
    return buffer;
  }
  /// out[n][i] = element n of position first + i, rows kKeyBlock apart, zeros up to a whole vector. Uses `buffer`.
  void transposed(float* out, float* buffer, const float* own, const float* old, int64_t first, int64_t count) const {
    int64_t row = 0;
    const float* const in = rows(buffer, own, old, first, count, row);
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

/// Queries that read the same keys: `heads` times `count` of them, query (h, i) at q + h head + i stride and at
/// sequence position `position + i step`. A segment of one row puts its heads into i, so that they share register
/// tiles.
struct Queries {
  const float* q;
  int64_t heads, head, count, stride, position, step;

  int64_t total() const { return heads * count; }
  int64_t last() const { return position + (count - 1) * step; }
  Queries tile(int64_t h, int64_t i) const {
    return {q + h * head + i * stride, 1, 0, std::min(kQueryTile, count - i), stride, position + i * step, step};
  }
};
/// Rows [first, first + rows) of a segment whose row 0 has its query for the first head of the group at q.
inline Queries queries_of(const float* q, const AttentionShape& shape, int64_t before, int64_t first, int64_t rows) {
  const int64_t N = shape.head, A = shape.heads * N, G = shape.heads / shape.kv_heads;
  if (rows == 1) return {q + first * A, 1, 0, G, N, before + first, 0};
  return {q + first * A, G, N, rows, A, before + first, 1};
}

/// Columns of the block at `first` that a tile needs, rounded to vectors. Empty when begin >= end.
struct Columns {
  int64_t begin, end;
};
inline Columns columns_of(const AttentionShape& shape, const Queries& tile, int64_t first) {
  // The windows of a tile overlap, so that together they reach from the first one's start to the last one's end.
  const Sight early = sight(shape, tile.position, first), late = sight(shape, tile.last(), first);
  const int64_t begin = late.sinks > 0 ? 0 : early.from, end = early.from < late.to ? late.to : late.sinks;
  return {begin / kLanes * kLanes, (end + kLanes - 1) / kLanes * kLanes};
}

/// Turns a row of scores into exp(scale·score - maximum) and carries the running maximum and sum; returns the factor by
/// which what was summed before shrinks.
inline float soften(float* s, Columns c, const Sight& w, float scale, float& maximum, float& total) {
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
  if (block == -__builtin_inff()) {  // nothing seen here
    for (int64_t i = c.begin; i < end; i += kLanes) store(s + i, zero());
    return 1;
  }
  const float before = maximum;
  maximum = block > before ? block : before;
  const V m = set(maximum);
  V sums = zero();
  for (int64_t i = c.begin; i < end; i += kLanes) {
    const V p = exp(load(s + i) - m);
    store(s + i, p);
    sums += p;
  }
  const float factor = maximum == before ? 1.0f : max_of(exp(set(before - maximum)));
  total = total * factor + sum(sums);
  return factor;
}

/// C[kRows, 8] += A[kRows, K]·B[K, 8] in 256-bit registers, which take half the time of half-empty 512-bit ones.
template <int kRows>
void product_of_eight(int64_t K, const float* a, int64_t a_row, int64_t a_col, const float* b, int64_t b_row, float* c,
                      int64_t c_row) noexcept {
  __m256 sums[kRows];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) sums[r] = _mm256_loadu_ps(c + r * c_row);
  for (int64_t k = 0; k < K; ++k, a += a_col, b += b_row) {
    const __m256 row = _mm256_loadu_ps(b);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) sums[r] = _mm256_fmadd_ps(_mm256_broadcast_ss(a + r * a_row), row, sums[r]);
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) _mm256_storeu_ps(c + r * c_row, sums[r]);
}

/// C[M, N] += A[M, K]·B[K, N], each element one chain over k: gemm_f32, and a short cut for heads of eight channels.
inline void add_product(int64_t M, int64_t N, int64_t K, const float* a, int64_t a_row, int64_t a_col, const float* b,
                        int64_t b_row, float* c, int64_t c_row) noexcept {
  if (N != 8 || kLanes == 8) return gemm_f32(M, N, K, a, a_row, a_col, b, b_row, c, c_row, true);
  int64_t m = 0;
  for (; m + 12 <= M; m += 12) product_of_eight<12>(K, a + m * a_row, a_row, a_col, b, b_row, c + m * c_row, c_row);
  for (; m + 4 <= M; m += 4) product_of_eight<4>(K, a + m * a_row, a_row, a_col, b, b_row, c + m * c_row, c_row);
  for (; m < M; ++m) product_of_eight<1>(K, a + m * a_row, a_row, a_col, b, b_row, c + m * c_row, c_row);
}

/// Memory of one thread.
struct AttentionScratch {
  float *keys, *values, *scores, *slopes, *maximum, *total, *delta;
  AttentionScratch(int64_t N, int64_t queries) {
    const int64_t block = N * kKeyBlock, tile = kQueryTile * kKeyBlock;
    auto* p = static_cast<float*>(scratch(Scratch::attention, (2 * block + 2 * tile + 3 * queries) * 4));
    keys = p, values = keys + block, scores = values + block, slopes = scores + tile;
    maximum = slopes + tile, total = maximum + queries, delta = total + queries;
  }
};

/// Attention of the queries over every position they see, o laid out as q. Without o: only their log Σ exp, left in
/// s.maximum.
inline void attend(const Keys& keys, const Queries& all, float* o, const AttentionScratch& s) {
  const AttentionShape& shape = keys.shape;
  const int64_t N = shape.head, end = all.last() + 1;
  const float scale = static_cast<float>(shape.scale);
  for (int64_t i = 0; i < all.total(); ++i) s.maximum[i] = -__builtin_inff(), s.total[i] = 0;
  for (int64_t h = 0; h < all.heads && o != nullptr; ++h)
    for (int64_t i = 0; i < all.count; ++i)
      std::memset(o + h * all.head + i * all.stride, 0, static_cast<size_t>(N) * sizeof(float));
  const int64_t oldest = shape.window == 0 ? 0 : all.position - shape.window + 1;
  for (int64_t first = 0; first < end; first += kKeyBlock) {
    if (first + kKeyBlock <= oldest && first >= shape.sinks) continue;
    const int64_t count = std::min(kKeyBlock, end - first);
    keys.transposed(s.keys, s.values, keys.own_k, keys.old_k, first, count);
    int64_t value_row = 0;
    const float* const values =
        o != nullptr ? keys.rows(s.values, keys.own_v, keys.old_v, first, count, value_row) : nullptr;
    for (int64_t h = 0; h < all.heads; ++h)
      for (int64_t i = 0; i < all.count; i += kQueryTile) {
        const Queries t = all.tile(h, i);
        const Columns c = columns_of(shape, t, first);
        if (c.begin >= c.end) continue;
        gemm_f32(t.count, c.end - c.begin, N, t.q, t.stride, 1, s.keys + c.begin, kKeyBlock, s.scores + c.begin,
                 kKeyBlock, false);
        float* const out = o != nullptr ? o + (t.q - all.q) : nullptr;
        for (int64_t j = 0; j < t.count; ++j) {
          const int64_t index = h * all.count + i + j;
          const float factor = soften(s.scores + j * kKeyBlock, c, sight(shape, t.position + j * t.step, first), scale,
                                      s.maximum[index], s.total[index]);
          if (factor == 1.0f || out == nullptr) continue;
          float* const row = out + j * t.stride;
          sweep(
              N, [=](int64_t n, auto lanes)
                     __attribute__((always_inline)) { store(row + n, load(row + n, lanes) * set(factor), lanes); });
        }
        if (out != nullptr)
          add_product(t.count, N, std::min(c.end, count) - c.begin, s.scores + c.begin, kKeyBlock, 1,
                      values + c.begin * value_row, value_row, out, t.stride);
      }
  }
  for (int64_t h = 0; h < all.heads; ++h)
    for (int64_t i = 0; i < all.count; ++i) {
      const int64_t index = h * all.count + i;
      if (o == nullptr) {
        s.maximum[index] += max_of(log(set(s.total[index])));
        continue;
      }
      float* const row = o + h * all.head + i * all.stride;
      const V share = set(1.0f / s.total[index]);
      sweep(
          N, [=](int64_t n, auto lanes)
                 __attribute__((always_inline)) { store(row + n, load(row + n, lanes) * share, lanes); });
    }
}

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

inline void attention(Tensor o, Tensor q, Tensor k, Tensor v, const AttentionShape& shape, Batch batch,
                      int64_t offset) {
  const int64_t N = shape.head, A = shape.heads * N, G = shape.heads / shape.kv_heads, W = shape.kv_heads * N;
  const float *const pq = q.as<float>(), *const pk = k.as<float>(), *const pv = v.as<float>();
  float* const po = o.as<float>();
  const auto chunks = [](const Segment& s) { return (s.rows + kQueryChunk - 1) / kQueryChunk; };
  // The state's keys and then its values, or null.
  const auto stored = [&](const Segment& s, bool values) -> float* {
    if (s.state == nullptr) return nullptr;
    const int64_t slots = shape.slots(s.state->capacity());
    return s.state->at(offset + (values ? slots * W : 0), slots * W).as<float>();
  };
  int64_t items = 0, work = 0;
  for (const Segment& s : batch) {
    CHECK(s.state == nullptr || s.position() + s.rows <= s.state->capacity() ||
              (shape.window > 0 && s.state->capacity() >= shape.sinks + shape.window),
          "state full");
    items += shape.kv_heads * chunks(s);
    work += s.rows * (s.position() + s.rows) * A;
  }
  parallel_for(items, work < kSmallAttention ? items : 1, [&](int64_t begin, int64_t end) {
    int64_t item = 0;
    for (const Segment& s : batch) {
      const int64_t parts = chunks(s), here = item;
      item += shape.kv_heads * parts;
      for (int64_t at = std::max(begin, here); at < std::min(end, item); ++at) {
        const int64_t g = (at - here) / parts, first = (at - here) % parts * kQueryChunk, from = s.row * W + g * N;
        const float *const old_k = stored(s, false), *const old_v = stored(s, true);
        const Keys keys{
            pk + from, pv + from, old_k ? old_k + g * N : nullptr, old_v ? old_v + g * N : nullptr, s.position(),
            W,         shape};
        const int64_t row = s.row * A + g * G * N, rows = std::min(kQueryChunk, s.rows - first);
        const Queries queries = queries_of(pq + row, shape, s.position(), first, rows);
        attend(keys, queries, po + row + first * A, AttentionScratch(N, queries.total()));
      }
    }
  });
  for (const Segment& s : batch)
    if (s.state != nullptr) append_keys(s, pk, pv, stored(s, false), stored(s, true), shape);
}

/// One key/value head of one segment. With p the probabilities and delta = o·do:
///   dv_j = Σ p_ij do_i,   ds_ij = scale p_ij (do_i·v_j - delta_i),   dq_i = Σ ds_ij k_j,   dk_j = Σ ds_ij q_i.
inline void attend_vjp(const Keys& keys, const Queries& all, const float* o, const float* d_o, float* dq, float* dk,
                       float* dv, const AttentionScratch& s) {
  const AttentionShape& shape = keys.shape;
  const int64_t N = shape.head, W = keys.stride, end = all.last() + 1;
  const V scale = set(static_cast<float>(shape.scale));
  attend(keys, all, nullptr, s);
  const size_t bytes = static_cast<size_t>(N) * sizeof(float);
  for (int64_t h = 0; h < all.heads; ++h)
    for (int64_t i = 0; i < all.count; ++i) {
      const int64_t at = h * all.head + i * all.stride;
      V dot = zero();
      sweep(
          N, [&](int64_t n, auto lanes) __attribute__((always_inline)) {
            dot = fma(load(o + at + n, lanes), load(d_o + at + n, lanes), dot);
          });
      s.delta[h * all.count + i] = sum(dot);
      std::memset(dq + at, 0, bytes);
    }
  for (int64_t p = 0; p < end; ++p) std::memset(dk + p * W, 0, bytes), std::memset(dv + p * W, 0, bytes);
  for (int64_t first = 0; first < end; first += kKeyBlock) {
    const int64_t count = std::min(kKeyBlock, end - first);
    keys.transposed(s.keys, s.values, keys.own_k, nullptr, first, count);
    keys.transposed(s.values, s.values, keys.own_v, nullptr, first, count);
    for (int64_t h = 0; h < all.heads; ++h)
      for (int64_t i = 0; i < all.count; i += kQueryTile) {
        const Queries t = all.tile(h, i);
        const Columns c = columns_of(shape, t, first);
        if (c.begin >= c.end) continue;
        const int64_t at = t.q - all.q, width = c.end - c.begin, there = std::min(c.end, count) - c.begin;
        float *const p = s.scores + c.begin, *const ds = s.slopes + c.begin;
        gemm_f32(t.count, width, N, t.q, t.stride, 1, s.keys + c.begin, kKeyBlock, p, kKeyBlock, false);
        gemm_f32(t.count, width, N, d_o + at, t.stride, 1, s.values + c.begin, kKeyBlock, ds, kKeyBlock, false);
        for (int64_t j = 0; j < t.count; ++j) {
          const Sight w = sight(shape, t.position + j * t.step, first);
          const int64_t index = h * all.count + i + j;
          const V log_sum = set(s.maximum[index]), delta = set(s.delta[index]);
          float *const prow = s.scores + j * kKeyBlock, *const drow = s.slopes + j * kKeyBlock;
          for (int64_t col = c.begin; col < c.end; col += kLanes) {
            const V x = exp(seen(load(prow + col) * scale - log_sum, col, w));
            store(prow + col, x);
            store(drow + col, x * (load(drow + col) - delta) * scale);
          }
        }
        const int64_t key = (first + c.begin) * W;
        add_product(t.count, N, there, ds, kKeyBlock, 1, keys.own_k + key, W, dq + at, t.stride);
        add_product(there, N, t.count, p, 1, kKeyBlock, d_o + at, t.stride, dv + key, W);
        add_product(there, N, t.count, ds, 1, kKeyBlock, t.q, t.stride, dk + key, W);
      }
  }
}

inline void attention_vjp(Tensor dq, Tensor dk, Tensor dv, Tensor d_o, Tensor q, Tensor k, Tensor v, Tensor o,
                          const AttentionShape& shape, Batch batch) {
  const int64_t N = shape.head, A = shape.heads * N, G = shape.heads / shape.kv_heads, W = shape.kv_heads * N;
  const float *const pq = q.as<float>(), *const pk = k.as<float>(), *const pv = v.as<float>();
  const float *const po = o.as<float>(), *const pdo = d_o.as<float>();
  float *const pdq = dq.as<float>(), *const pdk = dk.as<float>(), *const pdv = dv.as<float>();
  parallel_for(static_cast<int64_t>(batch.size()) * shape.kv_heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const Segment& s = batch[static_cast<size_t>(item / shape.kv_heads)];
      if (s.rows == 0) continue;
      const int64_t g = item % shape.kv_heads, key = s.row * W + g * N, row = s.row * A + g * G * N;
      const Keys keys{pk + key, pv + key, nullptr, nullptr, 0, W, shape};
      const Queries queries = queries_of(pq + row, shape, 0, 0, s.rows);
      attend_vjp(keys, queries, po + row, pdo + row, pdq + row, pdk + key, pdv + key,
                 AttentionScratch(N, queries.total()));
    }
  });
}

inline void attention_lags(Tensor mass, Tensor sink, Tensor q, Tensor k, const AttentionShape& shape, Batch batch,
                           int64_t skip) {
  const int64_t N = shape.head, A = shape.heads * N, G = shape.heads / shape.kv_heads, W = shape.kv_heads * N;
  const int64_t bins = mass.cols();
  const float *const pq = q.as<float>(), *const pk = k.as<float>();
  double *const pmass = mass.as<double>(), *const psink = sink.as<double>();
  parallel_for(shape.kv_heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g)
      for (const Segment& segment : batch) {
        if (segment.rows <= skip) continue;
        const float* const own = pk + segment.row * W + g * N;
        const Keys keys{own, nullptr, nullptr, nullptr, 0, W, shape};
        const Queries all = queries_of(pq + segment.row * A + g * G * N, shape, 0, skip, segment.rows - skip);
        const AttentionScratch s(N, all.total());
        attend(keys, all, nullptr, s);
        for (int64_t first = 0; first < segment.rows; first += kKeyBlock) {
          keys.transposed(s.keys, s.values, own, nullptr, first, std::min(kKeyBlock, segment.rows - first));
          for (int64_t h = 0; h < all.heads; ++h)
            for (int64_t i = 0; i < all.count; i += kQueryTile) {
              const Queries t = all.tile(h, i);
              const Columns c = columns_of(shape, t, first);
              if (c.begin >= c.end) continue;
              gemm_f32(t.count, c.end - c.begin, N, t.q, t.stride, 1, s.keys + c.begin, kKeyBlock, s.scores + c.begin,
                       kKeyBlock, false);
              for (int64_t j = 0; j < t.count; ++j) {
                const int64_t position = t.position + j * t.step;
                const Sight w = sight(shape, position, first);
                const V scale = set(static_cast<float>(shape.scale)), log_sum = set(s.maximum[h * all.count + i + j]);
                float* const p = s.scores + j * kKeyBlock;
                for (int64_t col = c.begin; col < c.end; col += kLanes)
                  store(p + col, exp(seen(load(p + col) * scale - log_sum, col, w)));
                const int64_t head = g * G + (t.step == 0 ? i + j : h);
                double* const to = pmass + head * bins;
                int64_t col = c.begin;
                if (first == 0 && col == 0 && position > 0) psink[head] += static_cast<double>(p[col++]);
                for (; col < std::min(c.end, w.to); ++col)
                  to[std::min(position - first - col, bins - 1)] += static_cast<double>(p[col]);
              }
            }
        }
      }
  });
}

}  // namespace kernels
