// SPDX-License-Identifier: MIT
// Softmax attention of every backend this CPU can run, against the mathematics in f64: grouped heads, windows, sinks,
// states that are rings, and that neither the split of a sequence into calls nor the threads change a bit.
#include "backend_check.h"

namespace qwerky {
namespace {

using testing::expect_reference;
using testing::expect_same_on_threads;
using testing::Get;
using testing::Operands;

struct Case {
  int heads, kv_heads, head;
  int64_t window, sinks;
  AttentionShape shape() const { return {heads, kv_heads, head, 1 / std::sqrt(double(head)), window, sinks}; }
};
constexpr Case kCases[] = {{8, 4, 8, 0, 0},   {4, 2, 20, 0, 0},  {7, 1, 64, 0, 0},   {2, 2, 16, 5, 0},
                           {4, 2, 8, 16, 3},  {2, 1, 24, 64, 2}, {3, 1, 12, 150, 0}, {2, 1, 33, 140, 130},
                           {1, 1, 128, 1, 1}, {4, 1, 8, 129, 1}};

// Scores are sums of N products of size 1; probabilities move with their error, outputs are means of values of size 1.
double ulps(const Case& c) { return 32 + c.head; }

TEST(Attention, FromZeroState) {
  for (const Case& c : kCases) {
    const int64_t R = 345;
    Operands x;
    const int o = x.add({R, c.heads * c.head}), q = x.add({R, c.heads * c.head}, -3, 3);
    const int k = x.add({R, c.kv_heads * c.head}), v = x.add({R, c.kv_heads * c.head});
    expect_reference(x, 4 * ulps(c), [=](const Backend& on, const Get& t) {
      const Segment segments[] = {{nullptr, 0, 300}, {nullptr, 300, 0}, {nullptr, 300, 1}, {nullptr, 301, 44}};
      on.attention(t(o), t(q), t(k), t(v), c.shape(), segments, 0);
    });
  }
}

TEST(Attention, ContinuesFromState) {
  for (const Case& c : kCases)
    for (const int64_t capacity : {int64_t{400}, c.window + c.sinks}) {
      if (capacity == 0 || (capacity < 400 && c.window == 0)) continue;
      const int64_t W = c.kv_heads * c.head, slots = c.shape().slots(capacity), scalars = 2 * slots * W + 3;
      Operands x;
      const int o = x.add({310, c.heads * c.head}), q = x.add({310, c.heads * c.head}, -3, 3);
      const int k = x.add({310, W}), v = x.add({310, W}), left = x.add({2, scalars});
      expect_reference(x, 4 * ulps(c), [=](const Backend& on, const Get& t) {
        State one(on.scalar(), scalars, capacity), two(on.scalar(), scalars, capacity);
        int64_t row = 0;
        // Two sequences side by side: one row, a few, more than a block, and single rows at different positions.
        for (const auto& [a, b] : {std::pair{1, 0}, {36, 1}, {170, 20}, {1, 1}, {1, 1}, {40, 38}}) {
          const Segment segments[] = {{&one, 0, a}, {&two, a, b}};
          on.attention(t(o).rows(row, a + b), t(q).rows(row, a + b), t(k).rows(row, a + b), t(v).rows(row, a + b),
                       c.shape(), segments, 3);
          one.advance(a), two.advance(b), row += a + b;
        }
        CHECK(row == 310);
        on.copy(t(left).rows(0, 1), one.at(0, scalars)), on.copy(t(left).rows(1, 1), two.at(0, scalars));
      });
    }
}

/// Where products take bf16, factors of attention hold at least 16 bits: 256 times the error of f32.
TEST(Attention, WithProductsOfBf16) {
  for (const Case& c : {Case{4, 2, 16, 0, 0}, Case{2, 1, 32, 30, 5}, Case{7, 1, 64, 0, 0}, Case{2, 2, 128, 0, 0}}) {
    const int64_t W = c.kv_heads * c.head, slots = c.shape().slots(400), scalars = 2 * slots * W;
    Operands x;
    const int o = x.add({150, c.heads * c.head}), q = x.add({150, c.heads * c.head}, -3, 3);
    const int k = x.add({150, W}), v = x.add({150, W});
    const auto run = [=](const Backend& on, const Get& t) {
      State one(on.scalar(), scalars, 400), two(on.scalar(), scalars, 400);
      int64_t row = 0;
      for (const auto& [a, b] : {std::pair{40, 1}, {1, 18}, {70, 20}}) {
        const Segment segments[] = {{&one, 0, a}, {&two, a, b}};
        on.attention(t(o).rows(row, a + b), t(q).rows(row, a + b), t(k).rows(row, a + b), t(v).rows(row, a + b),
                     c.shape(), segments, 0);
        one.advance(a), two.advance(b), row += a + b;
      }
    };
    Operands expected = x;
    testing::run_on(ReferenceOf<double>(), expected, run);
    for (const std::string& name : available_backends()) {
      if (!multiplies_bf16(name)) continue;
      Operands found = x;
      testing::run_on(*make_backend(name, Precision::bf16), found, run);
      const Tensor want = expected.get(o, DType::f64), have = found.get(o, DType::f32);
      for (int64_t e = 0; e < want.count(); ++e)
        ASSERT_NEAR(have.as<float>()[e], want.as<double>()[e], 256 * 4 * ulps(c) * std::ldexp(1, -24))
            << name << " N " << c.head << " element " << e;
    }
  }
}

TEST(Attention, Vjp) {
  for (const Case& c : kCases) {
    const int64_t R = 210, W = c.kv_heads * c.head, A = c.heads * c.head;
    Operands x;
    const int o = x.add({R, A}), q = x.add({R, A}, -3, 3), k = x.add({R, W}), v = x.add({R, W}), d_o = x.add({R, A});
    const int dq = x.add({R, A}), dk = x.add({R, W}), dv = x.add({R, W});
    // A key's gradient gathers up to R rows of G heads.
    expect_reference(x, 4 * ulps(c) + double(R) / 2, [=](const Backend& on, const Get& t) {
      const Segment segments[] = {{nullptr, 0, 170}, {nullptr, 170, 1}, {nullptr, 171, 39}};
      on.attention(t(o), t(q), t(k), t(v), c.shape(), segments, 0);
      on.attention_vjp(t(dq), t(dk), t(dv), t(d_o), t(q), t(k), t(v), t(o), c.shape(), segments);
    });
  }
}

TEST(Attention, Lags) {
  for (const Case& c : kCases)
    for (const int64_t skip : {0, 10, 38}) {
      const int64_t R = 210;
      Operands x;
      const int q = x.add({R, c.heads * c.head}, -3, 3), k = x.add({R, c.kv_heads * c.head});
      const int mass = x.add_f64({c.heads, 50}), sink = x.add_f64({c.heads});
      Operands expected = x;
      const auto run = [=](const Backend& on, const Get& t) {
        const Segment segments[] = {{nullptr, 0, 170}, {nullptr, 170, 1}, {nullptr, 171, 39}};
        on.attention_lags(t(mass), t(sink), t(q), t(k), c.shape(), segments, skip);
      };
      testing::run_on(ReferenceOf<double>(), expected, run);
      for (const std::string& name : available_backends()) {
        Operands found = x;
        testing::run_on(*make_backend(name, Precision::f32), found, run);
        for (const int i : {mass, sink}) {
          const Tensor want = expected.get(i, DType::f64), have = found.get(i, DType::f64);
          for (int64_t e = 0; e < want.count(); ++e)  // each of up to R probabilities is off by a few ulps
            ASSERT_NEAR(have.as<double>()[e], want.as<double>()[e], double(R) * 4 * ulps(c) * std::ldexp(1, -24))
                << name << " operand " << i << " element " << e;
        }
      }
    }
}

TEST(Attention, ThreadsDoNotChangeResults) {
  for (const Case& c : kCases) {
    const int64_t R = 300, W = c.kv_heads * c.head, A = c.heads * c.head;
    Operands x;
    const int o = x.add({R, A}), q = x.add({R, A}, -3, 3), k = x.add({R, W}), v = x.add({R, W}), d_o = x.add({R, A});
    const int dq = x.add({R, A}), dk = x.add({R, W}), dv = x.add({R, W});
    expect_same_on_threads(x, [=](const Backend& on, const Get& t) {
      if (on.name() == "reference") return;
      const Segment segments[] = {{nullptr, 0, 210}, {nullptr, 210, 90}};
      on.attention(t(o), t(q), t(k), t(v), c.shape(), segments, 0);
      on.attention_vjp(t(dq), t(dk), t(dv), t(d_o), t(q), t(k), t(v), t(o), c.shape(), segments);
    });
  }
}

/// Decoding row by row gives the bits of a single call, and of two sequences that share calls.
TEST(Attention, CallsDoNotChangeResults) {
  for (const Case& c : kCases) {
    const int64_t R = 290, W = c.kv_heads * c.head, A = c.heads * c.head, slots = c.shape().slots(R);
    Operands x;
    const int all = x.add({R, A}), single = x.add({R, A}), some = x.add({R, A}), q = x.add({R, A}, -3, 3);
    const int k = x.add({R, W}), v = x.add({R, W});
    const auto t = [&](int i) { return x.get(i, DType::f32); };
    for (const std::string& name : available_backends()) {
      const std::unique_ptr<Backend> on = make_backend(name, Precision::f32);
      const auto run = [&](int o, const std::vector<int64_t>& calls) {
        State state(DType::f32, 2 * slots * W, R);
        int64_t row = 0;
        for (const int64_t n : calls) {
          const Segment segment[] = {{&state, 0, n}};
          on->attention(t(o).rows(row, n), t(q).rows(row, n), t(k).rows(row, n), t(v).rows(row, n), c.shape(), segment,
                        0);
          state.advance(n), row += n;
        }
        wait_for_device();
        CHECK(row == R);
      };
      run(all, {R});
      run(single, std::vector<int64_t>(size_t(R), 1));
      run(some, {7, 130, 1, 100, 52});
      EXPECT_EQ(std::memcmp(t(all).data, t(single).data, size_t(t(all).bytes())), 0) << name << " window " << c.window;
      EXPECT_EQ(std::memcmp(t(all).data, t(some).data, size_t(t(all).bytes())), 0) << name << " window " << c.window;
    }
  }
}

}  // namespace
}  // namespace qwerky
