// SPDX-License-Identifier: MIT
// The op attention: many rows at once as matrix products, few rows by attention_few.inl, and what threads share.
// clang-format off
#include "backend/attention_keys.inl"
#include "backend/attention_few.inl"
// clang-format on

namespace kernels {

constexpr int64_t kQueryTile = 24;           ///< queries that share scores: a multiple of the rows of register tiles
constexpr int64_t kQueryChunk = 96;          ///< rows of a segment that one item of work takes
constexpr int64_t kAttentionWork = 1 << 16;  ///< multiply-adds worth a thread
constexpr int64_t kFewFloats = 1 << 21;      ///< results of blocks kept at once, as far as whole segments allow

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

/// C[M, N] (+)= A[M, K]·B[K, N], each element one chain over k: gemm_f32, and a short cut for heads of eight channels.
inline void add_product(int64_t M, int64_t N, int64_t K, const float* a, int64_t a_row, int64_t a_col, const float* b,
                        int64_t b_row, float* c, int64_t c_row, bool accumulate) noexcept {
  if (N != 8 || kLanes == 8) return gemm_f32(M, N, K, a, a_row, a_col, b, b_row, c, c_row, accumulate);
  for (int64_t i = 0; i < M && !accumulate; ++i) std::memset(c + i * c_row, 0, 8 * sizeof(float));
  int64_t m = 0;
  for (; m + 12 <= M; m += 12) product_of_eight<12>(K, a + m * a_row, a_row, a_col, b, b_row, c + m * c_row, c_row);
  for (; m + 4 <= M; m += 4) product_of_eight<4>(K, a + m * a_row, a_row, a_col, b, b_row, c + m * c_row, c_row);
  for (; m < M; ++m) product_of_eight<1>(K, a + m * a_row, a_row, a_col, b, b_row, c + m * c_row, c_row);
}

/// Memory of one thread.
struct AttentionScratch {
  float *keys, *values, *scores, *slopes, *part, *maximum, *total, *delta;
  AttentionScratch(int64_t N, int64_t queries) {
    const int64_t block = N * kKeyBlock, tile = kQueryTile * kKeyBlock;
    auto* p = static_cast<float*>(
        scratch(Scratch::attention, (2 * block + 2 * tile + kQueryTile * N + 3 * queries) * int64_t{sizeof(float)}));
    keys = p, values = keys + block, scores = values + block, slopes = scores + tile, part = slopes + tile;
    maximum = part + kQueryTile * N, total = maximum + queries, delta = total + queries;
  }
};

/// Attention of the queries over every position they see, o laid out as q. Without o: only their log Σ exp, left in
/// s.maximum.
inline void attend(const Keys& keys, const Queries& all, float* o, const AttentionScratch& s) {
  const AttentionShape& shape = keys.shape;
  const int64_t N = shape.head, end = all.last() + 1;
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
        o != nullptr ? keys.rows(s.values, keys.own_v, keys.old_v, first, count, N, value_row) : nullptr;
    for (int64_t h = 0; h < all.heads; ++h)
      for (int64_t i = 0; i < all.count; i += kQueryTile) {
        const Queries t = all.tile(h, i);
        const Columns c = columns_of(shape, t.position, t.last(), first);
        if (c.begin >= c.end) continue;
        gemm_f32(t.count, c.end - c.begin, N, t.q, t.stride, 1, s.keys + c.begin, kKeyBlock, s.scores + c.begin,
                 kKeyBlock, false);
        float *const maximum = s.maximum + h * all.count + i, *const total = s.total + h * all.count + i;
        float tops[kQueryTile], sums[kQueryTile], before[kQueryTile], block[kQueryTile];
        for (int64_t j = 0; j < t.count; ++j) {
          const BlockSum b = soften(s.scores + j * kKeyBlock, c, sight(shape, t.position + j * t.step, first),
                                    static_cast<float>(shape.scale));
          tops[j] = b.maximum, sums[j] = b.total;
        }
        sweep(
            t.count, [&](int64_t j, auto lanes) __attribute__((always_inline)) {
              const V top = load(tops + j, lanes), old = load(maximum + j, lanes), sum = load(total + j, lanes);
              const Shrink f = shrink(old, top);
              store(before + j, f.before, lanes);
              store(block + j, f.block, lanes);
              store(maximum + j, max(old, top), lanes);
              store(total + j, select(set(-__builtin_inff()) < top, merged(sum, load(sums + j, lanes), f), sum), lanes);
            });
        if (o == nullptr) continue;
        add_product(t.count, N, std::min(c.end, count) - c.begin, s.scores + c.begin, kKeyBlock, 1,
                    values + c.begin * value_row, value_row, s.part, N, false);
        for (int64_t j = 0; j < t.count; ++j) {
          if (tops[j] == -__builtin_inff()) continue;
          float *const row = o + (t.q - all.q) + j * t.stride, *const part = s.part + j * N;
          const Shrink f{set(before[j]), set(block[j])};
          sweep(
              N, [=](int64_t n, auto lanes) __attribute__((always_inline)) {
                store(row + n, merged(load(row + n, lanes), load(part + n, lanes), f), lanes);
              });
        }
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

/// A segment of many rows: its items are chunks of rows times heads.
struct ManyRows {
  Segment segment;
  Keys keys;       ///< of head 0
  const float* q;  ///< of the segment's first row
  float* o;

  const AttentionShape& shape() const { return keys.shape; }
  int64_t chunks() const { return (segment.rows + kQueryChunk - 1) / kQueryChunk; }
  int64_t rows(int64_t i) const { return std::min(kQueryChunk, segment.rows - i * kQueryChunk); }
  /// Multiply-adds of chunk i and one key/value head, more or less.
  int64_t work(int64_t i) const {
    int64_t seen = segment.position() + i * kQueryChunk + (rows(i) + 1) / 2;
    if (shape().window > 0) seen = std::min(seen, shape().window + shape().sinks);
    return 2 * rows(i) * seen * (shape().heads / shape().kv_heads) * shape().head;
  }
  int64_t work() const {
    int64_t sum = 0;
    for (int64_t i = 0; i < chunks(); ++i) sum += work(i) * shape().kv_heads;
    return sum;
  }
  void run(int64_t i, int64_t g) const {
    const int64_t N = shape().head, A = shape().heads * N, at = g * (shape().heads / shape().kv_heads) * N;
    const Queries queries = queries_of(q + at, shape(), segment.position(), i * kQueryChunk, rows(i));
    attend(keys.head(g), queries, o + at + i * kQueryChunk * A, AttentionScratch(N, queries.total()));
  }
  /// The items whose multiply-adds start in [begin, end), counted from the segment's first.
  void run_range(int64_t begin, int64_t end) const {
    int64_t at = 0;
    for (int64_t i = 0; i < chunks(); ++i)
      for (int64_t g = 0; g < shape().kv_heads; ++g, at += work(i))
        if (begin <= at && at < end) run(i, g);
  }
};

inline void attention(Tensor o, Tensor q, Tensor k, Tensor v, const AttentionShape& shape, Batch batch,
                      int64_t offset) {
  const int64_t N = shape.head, A = shape.heads * N, W = shape.kv_heads * N;
  const float *const pq = q.as<float>(), *const pk = k.as<float>(), *const pv = v.as<float>();
  float* const po = o.as<float>();
  // The state's keys and then its values, or null.
  const auto stored = [&](const Segment& s, bool values) -> float* {
    if (s.state == nullptr) return nullptr;
    const int64_t slots = shape.slots(s.state->capacity());
    return s.state->at(offset + (values ? slots * W : 0), slots * W).as<float>();
  };
  const auto append = [&](const Segment& s) { append_keys(s, pk, pv, stored(s, false), stored(s, true), shape); };
  // A row's own key may go to the state first unless rows before it still see what it replaces there.
  const auto appended_first = [&](const Segment& s) { return s.state && (shape.window == 0 || s.rows == 1); };
  const auto keys_of = [&](const Segment& s) {
    const int64_t before = s.position() + (appended_first(s) ? s.rows : 0);
    return Keys{pk + s.row * W, pv + s.row * W, stored(s, false), stored(s, true), before, W, shape};
  };
  const auto is_few = [&](const Segment& s) { return s.rows * (shape.heads / shape.kv_heads) <= kFewQueriesMost; };
  for (const Segment& s : batch) {
    CHECK(s.state == nullptr || s.position() + s.rows <= s.state->capacity() ||
              (shape.window > 0 && s.state->capacity() >= shape.sinks + shape.window),
          "state full");
    if (appended_first(s)) append(s);
  }
  // In turns, so that what blocks leave behind stays small beside the states.
  for (size_t next = 0; next < batch.size();) {
    const size_t first = next;
    int64_t floats = 0, few = 0, many = 0, queries = 0;
    for (; next < batch.size(); ++next) {
      const Segment& s = batch[next];
      if (s.rows == 0) continue;
      if (!is_few(s)) {
        many += ManyRows{s, keys_of(s), pq + s.row * A, po + s.row * A}.work();
        continue;
      }
      const FewRows f(s, keys_of(s), pq + s.row * A, po + s.row * A);
      if (floats > 0 && floats + f.floats() > kFewFloats) break;
      floats += f.floats(), few += f.work(), queries = std::max(queries, f.queries());
    }
    float* const results = static_cast<float*>(scratch(Scratch::attention_blocks, floats * int64_t{sizeof(float)}));
    // f(few rows) and g(many rows, multiply-adds before) for every segment.
    const auto each = [&](const auto& on_few, const auto& on_many) {
      float* place = results;
      int64_t work = 0;
      for (size_t i = first; i < next; ++i) {
        const Segment& s = batch[i];
        if (s.rows == 0) continue;
        if (is_few(s)) {
          FewRows f(s, keys_of(s), pq + s.row * A, po + s.row * A);
          f.place(place);
          place += f.floats();
          on_few(f, work);
          work += f.work();
        } else {
          const ManyRows m{s, keys_of(s), pq + s.row * A, po + s.row * A};
          on_many(m, work);
          work += m.work();
        }
      }
    };
    parallel_for(few + many, kAttentionWork, [&](int64_t begin, int64_t end) {
      FewPipeline pipeline(queries, W, N);
      each(
          [&](const FewRows& f, int64_t before) {
            f.each_block(begin - before, end - before,
                         [&](int64_t j, int64_t g0, int64_t g1) { pipeline.push(f, j, g0, g1); });
          },
          [](const ManyRows&, int64_t) {});
      pipeline.finish();
      each([](const FewRows&, int64_t) {},
           [&](const ManyRows& m, int64_t before) { m.run_range(begin - before, end - before); });
    });
    parallel_for(floats, kAttentionWork, [&](int64_t begin, int64_t end) {
      int64_t at = 0;
      each(
          [&](const FewRows& f, int64_t) {
            for (int64_t i = 0; i < f.queries(); ++i, at += f.floats() / f.queries())
              if (begin <= at && at < end) f.merge(i);
          },
          [](const ManyRows&, int64_t) {});
    });
  }
  for (const Segment& s : batch)
    if (s.state != nullptr && !appended_first(s)) append(s);
}

}  // namespace kernels
// clang-format off
#include "backend/attention_vjp.inl"
// clang-format on
