// SPDX-License-Identifier: MIT
// The recurrences of every fast backend against the reference in f64: odd sizes, segments, grouped values, any split of
// a sequence, strong and weak decays.
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "backend/backend.h"
#include "backend/reference.h"
#include "base/parallel.h"
#include "base/random.h"

namespace qwerky {
namespace {

/// The same numbers as f32 and as f64.
struct Twin {
  std::vector<float> f;
  std::vector<double> d;
  int64_t rows = 0, cols = 0;
  Twin() = default;
  Twin(int64_t r, int64_t c) : f(size_t(r * c)), d(f.size()), rows(r), cols(c) {}
  void set(size_t i, double x) { d[i] = f[i] = static_cast<float>(x); }
  Tensor narrow() { return Tensor(f.data(), DType::f32, {rows, cols}); }
  Tensor wide() { return Tensor(d.data(), DType::f64, {rows, cols}); }
};

enum class Decay { mixed, strong, weak };

/// Operands of both recurrences: 0 r, 1 log_w, 2 k, 3 v, 4 kappa, 5 a.
struct Operands {
  std::array<Twin, 6> x;
  Operands(bool seven, int heads, int kv_heads, int N, int64_t R, Decay decay, uint64_t seed) {
    const int64_t A = heads * N;
    for (size_t q = 0; q < 6; ++q) x[q] = Twin(R, q == 3 ? kv_heads * N : A);
    Random random(seed);
    uint64_t n = 0;
    const double strongest = seven ? -0.6065 : -5;
    for (size_t q = 0; q < 6; ++q)
      for (size_t i = 0; i < x[q].f.size(); ++i) {
        const double u = random.uniform(n++), z = random.normal(1000000 + n);
        if (q == 1)
          x[q].set(i, decay == Decay::strong ? strongest : decay == Decay::weak ? -1e-4 : strongest * std::pow(u, 4));
        else
          x[q].set(i, q == 5 ? u : z);
      }
    for (int64_t i = 0; i < R * heads; ++i) {  // kappa has norm 1
      double square = 0;
      for (int64_t j = 0; j < N; ++j) square += std::pow(x[4].d[size_t(i * N + j)], 2);
      for (int64_t j = 0; j < N; ++j) x[4].set(size_t(i * N + j), x[4].d[size_t(i * N + j)] / std::sqrt(square));
    }
  }
};

template <class Op>
Op six(Operands& x, bool wide, int heads, int kv_heads, int N) {
  Op p;
  p.heads = heads, p.head = N, p.scale = 1 / std::sqrt(double(N));
  std::array<Tensor*, 4> to = {&p.r, &p.log_w, &p.k, &p.v};
  for (size_t q = 0; q < 4; ++q) *to[q] = wide ? x.x[q].wide() : x.x[q].narrow();
  if constexpr (std::is_same_v<Op, Wkv6>) {
    p.kv_heads = kv_heads;
  } else {
    p.kappa = wide ? x.x[4].wide() : x.x[4].narrow();
    p.a = wide ? x.x[5].wide() : x.x[5].narrow();
  }
  return p;
}

/// Largest difference in units of the largest expected value.
double distance(const std::vector<float>& found, const std::vector<double>& expected) {
  double top = 1e-30, worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!std::isfinite(found[i])) return INFINITY;
    top = std::max(top, std::abs(expected[i]));
    worst = std::max(worst, std::abs(found[i] - expected[i]));
  }
  return worst / top;
}

/// Roundings of a sum over N channels and over rows that decays hardly shorten add up like a random walk.
double tolerance(int N, int64_t rows) { return 1.2e-7 * 4 * std::sqrt(double(N + rows)) + 1e-6; }

std::vector<std::string> fast_backends() {
  std::vector<std::string> names = available_backends();
  std::erase(names, "reference");
  return names;
}

struct Case {
  bool seven;
  int heads, kv_heads, N;
  std::vector<int64_t> lengths;  // one segment each
  Decay decay;
};

std::string describe(const Case& c, const std::string& backend) {
  std::string s = backend + " wkv" + (c.seven ? "7" : "6") + " H=" + std::to_string(c.heads) + "/" +
                  std::to_string(c.kv_heads) + " N=" + std::to_string(c.N) + " decay " + std::to_string(int(c.decay)) +
                  " rows";
  for (int64_t n : c.lengths) s += " " + std::to_string(n);
  return s;
}

std::vector<Segment> segments_of(const std::vector<int64_t>& lengths) {
  std::vector<Segment> segments;
  int64_t row = 0;
  for (int64_t n : lengths) segments.push_back({nullptr, row, n}), row += n;
  return segments;
}

void forward(const Backend& on, const Case& c, Operands& x, bool wide, Tensor o, Batch batch, int64_t offset) {
  if (c.seven)
    on.wkv7(o, six<Wkv7>(x, wide, c.heads, c.heads, c.N), batch, offset);
  else
    on.wkv6(o, six<Wkv6>(x, wide, c.heads, c.kv_heads, c.N), batch, offset);
  wait_for_device();
}

void reverse(const Backend& on, const Case& c, Operands& x, Operands& d, bool wide, Tensor d_o, Batch batch) {
  if (c.seven)
    on.wkv7_vjp(six<Wkv7>(d, wide, c.heads, c.heads, c.N), d_o, six<Wkv7>(x, wide, c.heads, c.heads, c.N), batch);
  else
    on.wkv6_vjp(six<Wkv6>(d, wide, c.heads, c.kv_heads, c.N), d_o, six<Wkv6>(x, wide, c.heads, c.kv_heads, c.N), batch);
  wait_for_device();
}

std::vector<Case> cases() {
  std::vector<Case> all;
  const std::vector<std::vector<int64_t>> lengths = {{1}, {2}, {7, 1}, {16}, {33, 5}, {64}, {100}, {3, 40, 17}};
  for (bool seven : {false, true})
    for (int N : {8, 16, 20, 32, 64, 128}) {
      size_t i = 0;
      for (const auto& l : lengths) {
        if (N == 128 && l.size() == 1 && l[0] >= 64) continue;  // slow; {100} follows with every decay
        const Decay decay = static_cast<Decay>(i % 3);
        const bool many = N <= 20;
        const int kv_heads = many ? 1 + int(i % 3) : 1, group = 1 + int((i + 1) % 3) * (many ? 1 : i % 2 == 0);
        all.push_back({seven, kv_heads * group, seven ? kv_heads * group : kv_heads, N, l, decay});
        ++i;
      }
      const int heads = N == 128 ? 1 : 2;
      for (Decay decay : {Decay::strong, Decay::weak, Decay::mixed})
        all.push_back({seven, heads, seven ? heads : 1, N, {100}, decay});
    }
  for (bool seven : {false, true})  // many chunks beside one, a whole one and rows too few for any
    for (int N : {64, 128}) all.push_back({seven, 2, seven ? 2 : 1, N, {130, 16, 15, 47}, Decay::mixed});
  for (bool seven : {false, true})
    for (int N : {9, 12, 24, 31, 40, 48, 80, 256}) all.push_back({seven, 2, seven ? 2 : 1, N, {21}, Decay::mixed});
  return all;
}

int64_t total(const std::vector<int64_t>& lengths) {
  int64_t sum = 0;
  for (int64_t n : lengths) sum += n;
  return sum;
}

TEST(Wkv, ForwardFromZero) {
  const ReferenceOf<double> reference;
  for (const Case& c : cases()) {
    const int64_t R = total(c.lengths), A = c.heads * c.N;
    Operands x(c.seven, c.heads, c.kv_heads, c.N, R, c.decay, 7);
    const auto segments = segments_of(c.lengths);
    Twin o(R, A);
    forward(reference, c, x, true, o.wide(), segments, 0);
    for (const std::string& name : fast_backends()) {
      forward(*make_backend(name, Precision::f32), c, x, false, o.narrow(), segments, 0);
      EXPECT_LT(distance(o.f, o.d), tolerance(c.N, R)) << describe(c, name);
    }
  }
}

TEST(Wkv, ContinuesAnySplit) {
  const ReferenceOf<double> reference;
  const std::vector<std::vector<int64_t>> splits = {{1, 1, 1, 97}, {64, 36}, {33, 7, 60},
                                                    {50, 1, 49},   {5, 95},  {31, 33, 36}};
  for (bool seven : {false, true})
    for (int N : {8, 16, 20, 32, 64, 128}) {
      const int heads = N == 8 ? 3 : N == 128 ? 1 : 2, kv_heads = seven ? heads : 1;
      const Case c{seven, heads, kv_heads, N, {100}, Decay::mixed};
      const int64_t A = heads * N, offset = 5, scalars = A * N + offset + 3;
      Operands x(seven, heads, kv_heads, N, 100, c.decay, 11);
      State wide(DType::f64, scalars, 0);
      Twin before(1, scalars), o(100, A);
      for (int64_t i = 0; i < scalars; ++i) before.set(size_t(i), Random(3).normal(uint64_t(i)));
      std::memcpy(wide.at(0, scalars).data, before.d.data(), before.d.size() * 8);
      const Segment whole{&wide, 0, 100};
      forward(reference, c, x, true, o.wide(), {&whole, 1}, offset);
      const double* last = wide.at(0, scalars).as<double>();
      for (const std::string& name : fast_backends())
        for (const auto& split : splits) {
          State state(DType::f32, scalars, 0);
          std::memcpy(state.at(0, scalars).data, before.f.data(), before.f.size() * 4);
          std::ranges::fill(o.f, NAN);
          int64_t row = 0;
          for (int64_t n : split) {
            const Segment part{&state, row, n};
            forward(*make_backend(name, Precision::f32), c, x, false, o.narrow(), {&part, 1}, offset);
            state.advance(n);
            row += n;
          }
          const float* end = state.at(0, scalars).as<float>();
          EXPECT_LT(distance(o.f, o.d), tolerance(N, 100)) << describe(c, name) << " split " << split[0];
          EXPECT_LT(distance({end, end + scalars}, {last, last + scalars}), tolerance(N, 100))
              << describe(c, name) << " split " << split[0];
          for (int64_t i : {int64_t(0), int64_t(4), scalars - 1})
            EXPECT_EQ(end[i], before.f[size_t(i)]) << "outside of the state";
        }
    }
}

/// One call, or several that are cut at borders: the same bits of outputs and state, rows that fill no chunk included.
TEST(Wkv, SameBitsForAnyCutAtBorders) {
  for (const std::string& name : fast_backends())
    for (bool seven : {false, true})
      for (int N : {8, 20, 64, 128, 256}) {
        const auto on = make_backend(name, Precision::f32);
        const int64_t border = on->wkv_border(N, seven), R = 87, A = 2 * N, scalars = A * N;
        if (border == 0) continue;
        const Case c{seven, 2, seven ? 2 : 1, N, {R}, Decay::mixed};
        Operands x(seven, 2, c.kv_heads, N, R, c.decay, 61);
        Twin before(1, scalars);
        for (size_t i = 0; i < before.f.size(); ++i) before.set(i, Random(67).normal(i));
        for (const int64_t start : {0, 13, 27}) {
          const auto run = [&](const std::vector<int64_t>& ends) {
            State state(DType::f32, scalars, 0);
            std::memcpy(state.at(0, scalars).data, before.f.data(), before.f.size() * 4);
            state.set_position(start);
            Twin o(R, A);
            int64_t row = 0;
            for (const int64_t end : ends) {
              const Segment part{&state, row, end - row};
              forward(*on, c, x, false, o.narrow(), {&part, 1}, 0);
              state.advance(end - row);
              row = end;
            }
            const float* left = state.at(0, scalars).as<float>();
            o.f.insert(o.f.end(), left, left + scalars);
            return o.f;
          };
          const std::vector<float> whole = run({R});
          for (const std::vector<int64_t>& at : {std::vector<int64_t>{16}, {32, 80}, {64}, {48, 64, 80, 96}}) {
            std::vector<int64_t> ends;
            for (const int64_t position : at) {
              const int64_t end = position / border * border - start;
              if (end > 0 && end < R) ends.push_back(end);
            }
            ends.push_back(R);
            EXPECT_EQ(run(ends), whole) << describe(c, name) << " from " << start << ", first cut after " << ends[0];
          }
          if (border > 1) continue;
          EXPECT_EQ(run({1, 2, 9, 40, R}), whole) << describe(c, name);
        }
      }
}

TEST(Wkv, Vjp) {
  const ReferenceOf<double> reference;
  for (const Case& c : cases()) {
    const int64_t R = total(c.lengths), A = c.heads * c.N;
    Operands x(c.seven, c.heads, c.kv_heads, c.N, R, c.decay, 13);
    Operands d(c.seven, c.heads, c.kv_heads, c.N, R, c.decay, 17);
    const auto segments = segments_of(c.lengths);
    Twin d_o(R, A);
    for (size_t i = 0; i < d_o.f.size(); ++i) d_o.set(i, Random(19).normal(i));
    reverse(reference, c, x, d, true, d_o.wide(), segments);
    for (const std::string& name : fast_backends()) {
      for (Twin& t : d.x) std::ranges::fill(t.f, NAN);
      reverse(*make_backend(name, Precision::f32), c, x, d, false, d_o.narrow(), segments);
      const char* const names[6] = {"r", "log_w", "k", "v", "kappa", "a"};
      for (size_t q = 0; q < (c.seven ? 6u : 4u); ++q)
        EXPECT_LT(distance(d.x[q].f, d.x[q].d), 4 * tolerance(c.N, R)) << describe(c, name) << " d" << names[q];
    }
  }
}

/// Values and states keep at least 16 bits with --precision bf16, factors of gradients 8; sums are f32.
TEST(Wkv, Bf16StaysNearTheReference) {
  const ReferenceOf<double> reference;
  for (bool seven : {false, true})
    for (int N : {64, 128})
      for (Decay decay : {Decay::strong, Decay::weak, Decay::mixed}) {
        const Case c{seven, 2, seven ? 2 : 1, N, {70, 33}, decay};
        const int64_t R = 103, A = 2 * N;
        Operands x(seven, 2, c.kv_heads, N, R, decay, 43), d(seven, 2, c.kv_heads, N, R, decay, 47);
        const auto segments = segments_of(c.lengths);
        Twin o(R, A), d_o(R, A);
        for (size_t i = 0; i < d_o.f.size(); ++i) d_o.set(i, Random(53).normal(i));
        forward(reference, c, x, true, o.wide(), segments, 0);
        reverse(reference, c, x, d, true, d_o.wide(), segments);
        for (const std::string& name : fast_backends()) {
          if (name == "avx2") continue;  // f32 only
          const auto on = make_backend(name, Precision::bf16);
          forward(*on, c, x, false, o.narrow(), segments, 0);
          EXPECT_LT(distance(o.f, o.d), 1e-4) << describe(c, name);
          reverse(*on, c, x, d, false, d_o.narrow(), segments);
          for (size_t q = 0; q < (seven ? 6u : 4u); ++q)
            EXPECT_LT(distance(d.x[q].f, d.x[q].d), 0.01) << describe(c, name) << " gradient " << q;
        }
      }
}

/// A row's result depends neither on the threads nor on the other rows of the call.
TEST(Wkv, SameBitsForAnyThreadsAndCompany) {
  const int before = threads();
  for (const std::string& name : fast_backends())
    for (bool seven : {false, true})
      for (int N : {8, 20, 64}) {
        const Case c{seven, 4, seven ? 4 : 2, N, {70, 90, 70}, Decay::mixed};
        const int64_t R = 230, A = 4 * N;
        Operands x(seven, 4, c.kv_heads, N, R, c.decay, 23);
        auto segments = segments_of(c.lengths);
        const auto on = make_backend(name, Precision::f32);
        Twin together(R, A), alone(R, A);
        set_threads(2);
        forward(*on, c, x, false, together.narrow(), segments, 0);
        Operands d(seven, 4, c.kv_heads, N, R, c.decay, 0), d_alone = d;
        reverse(*on, c, x, d, false, together.narrow(), segments);
        set_threads(1);
        for (const Segment& s : segments) forward(*on, c, x, false, alone.narrow(), {&s, 1}, 0);
        EXPECT_EQ(together.f, alone.f) << describe(c, name);
        for (const Segment& s : segments) reverse(*on, c, x, d_alone, false, together.narrow(), {&s, 1});
        for (size_t q = 0; q < (seven ? 6u : 4u); ++q) EXPECT_EQ(d.x[q].f, d_alone.x[q].f) << describe(c, name);
      }
  set_threads(before);
}

/// Fields of both prepares in the order k, v, decay, rate, mix, v_first, log_w, k_tilde, kappa, a, v_out, and k_k, k_a.
struct Prepared {
  std::vector<Twin> x;
  Prepared(int64_t R, int64_t A, int64_t W, uint64_t seed) {
    uint64_t n = 0;
    for (int q = 0; q < 13; ++q) {
      x.emplace_back(q < 11 ? R : 1, q < 2 ? W : A);
      for (size_t i = 0; i < x.back().f.size(); ++i) {
        const double z = Random(seed).normal(n++);
        x.back().set(i, q == 2 ? 4 * z - 2 : q < 11 ? z : double(float(bf16(float(z)))));
      }
    }
  }
  Tensor at(size_t q, bool wide) { return wide ? x[q].wide() : x[q].narrow(); }
  Rwkv6Prepare six(bool wide, int heads, int kv_heads, int N, bool balance) {
    return {heads, kv_heads, N, balance, at(0, wide), at(2, wide), at(6, wide), at(7, wide)};
  }
  Rwkv7Prepare seven(bool wide, int heads, int kv_heads, int N, bool balance, bool first) {
    Rwkv7Prepare p;
    p.heads = heads, p.kv_heads = kv_heads, p.head = N, p.balance = balance;
    p.k = at(0, wide), p.v = at(1, wide), p.decay = at(2, wide), p.rate = at(3, wide);
    if (!first) p.mix = at(4, wide);
    p.v_first = at(5, wide), p.log_w = at(6, wide), p.k_tilde = at(7, wide), p.kappa = at(8, wide), p.a = at(9, wide);
    p.v_out = at(10, wide);
    if (!balance) p.k_k = at(11, wide), p.k_a = at(12, wide);
    return p;
  }
};

void expect_close(Prepared& x, const std::vector<size_t>& fields, double tolerance, const std::string& what) {
  wait_for_device();
  for (size_t q : fields) EXPECT_LT(distance(x.x[q].f, x.x[q].d), tolerance) << what << " field " << q;
}

struct PrepareShape {
  int heads, kv_heads, N;
  int64_t rows;
};
const PrepareShape kPrepareShapes[] = {{8, 4, 8, 9},   {3, 1, 8, 5},  {5, 5, 8, 40},  {4, 2, 16, 3}, {6, 3, 20, 33},
                                       {4, 1, 24, 70}, {2, 2, 31, 4}, {14, 2, 64, 3}, {3, 1, 128, 5}};

TEST(Prepare, Six) {
  const ReferenceOf<double> reference;
  for (const auto& [heads, kv_heads, N, R] : kPrepareShapes)
    for (bool balance : {true, false}) {
      Prepared x(R, heads * N, kv_heads * N, 29), d(R, heads * N, kv_heads * N, 31);
      reference.rwkv6_prepare(x.six(true, heads, kv_heads, N, balance));
      for (const std::string& name : fast_backends()) {
        const auto on = make_backend(name, Precision::f32);
        const std::string what = name + " H=" + std::to_string(heads) + " N=" + std::to_string(N);
        on->rwkv6_prepare(x.six(false, heads, kv_heads, N, balance));
        expect_close(x, {6, 7}, 1e-6, what);
        Prepared e = d;
        reference.rwkv6_prepare_vjp(e.six(true, heads, kv_heads, N, balance), x.six(true, heads, kv_heads, N, balance));
        on->rwkv6_prepare_vjp(e.six(false, heads, kv_heads, N, balance), x.six(false, heads, kv_heads, N, balance));
        expect_close(e, {0, 2}, 3e-6, what + " gradient");
      }
    }
}

TEST(Prepare, Seven) {
  const ReferenceOf<double> reference;
  for (const auto& [heads, kv_heads, N, R] : kPrepareShapes)
    for (int mode = 0; mode < 8; ++mode) {
      const bool balance = mode & 1, first = mode & 2, half = mode & 4;  // half: gains stored as bf16
      if (half && balance) continue;
      Prepared x(R, heads * N, kv_heads * N, 37), d(R, heads * N, kv_heads * N, 41);
      std::vector<bf16> gains;
      for (size_t q : {11u, 12u})
        for (float g : x.x[q].f) gains.emplace_back(g);
      for (const std::string& name : fast_backends()) {
        const auto on = make_backend(name, Precision::f32);
        const std::string what =
            name + " H=" + std::to_string(heads) + " N=" + std::to_string(N) + " mode " + std::to_string(mode);
        Prepared y = x, e = d;
        Rwkv7Prepare p = y.seven(false, heads, kv_heads, N, balance, first);
        if (half) {
          p.k_k = Tensor(gains.data(), DType::bf16, {heads * N});
          p.k_a = Tensor(gains.data() + heads * N, DType::bf16, {heads * N});
        }
        reference.rwkv7_prepare(y.seven(true, heads, kv_heads, N, balance, first));
        on->rwkv7_prepare(p);
        expect_close(y, {5, 6, 7, 8, 9, 10}, 1e-6, what);
        reference.rwkv7_prepare_vjp(e.seven(true, heads, kv_heads, N, balance, first),
                                    y.seven(true, heads, kv_heads, N, balance, first));
        on->rwkv7_prepare_vjp(e.seven(false, heads, kv_heads, N, balance, first), p);
        expect_close(e, {0, 1, 2, 3}, 4e-6, what + " gradient");
        if (!first) expect_close(e, {4, 5}, 4e-6, what + " gradient");
        if (!balance) expect_close(e, {11, 12}, 4e-6, what + " gradient");
      }
    }
}

}  // namespace
}  // namespace qwerky
