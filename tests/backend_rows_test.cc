// SPDX-License-Identifier: MIT
// Row operations of every backend this CPU can run, against the mathematics in f64; rows and threads do not mix.
#include "backend_check.h"

namespace qwerky {
namespace {

using testing::expect_reference;
using testing::expect_same_on_threads;
using testing::Get;
using testing::Operands;
using testing::Operation;

constexpr int64_t kColumns[] = {1, 7, 8, 16, 31, 64, 100, 172, 896};
// A few roundings per element, and a sum of n terms of which every lane adds n / 8.
double ulps(int64_t n) { return 24 + static_cast<double>(n) / 4; }

TEST(Rows, Add) {
  for (const int64_t D : kColumns) {
    Operands x;
    x.add({3, D}), x.add({3, D});
    expect_reference(x, 2, [](const Backend& on, const Get& t) { on.add(t(0), t(1)); });
  }
}

TEST(Rows, RmsNorm) {
  for (const DType gain : {DType::f32, DType::bf16})
    for (const int64_t D : kColumns) {
      Operands x;
      const int y = x.add({5, D}), in = x.add({5, D}), g = x.add({D}, 0.5, 2, gain), b = x.add({5, D}),
                s = x.add({5, D});
      expect_reference(x, ulps(D), [=](const Backend& on, const Get& t) { on.rmsnorm(t(y), t(in), t(g), 1e-6); });
      expect_reference(x, ulps(D),
                       [=](const Backend& on, const Get& t) { on.add_rmsnorm(t(s), t(y), t(in), t(b), t(g), 1e-6); });
      expect_reference(x, ulps(D),
                       [=](const Backend& on, const Get& t) { on.add_rmsnorm(t(in), t(y), t(in), t(b), t(g), 1e-6); });
    }
}

TEST(Rows, RmsNormVjp) {
  for (const DType gain : {DType::f32, DType::bf16})
    for (const int64_t D : kColumns)
      for (const Into into : {Into::overwrite, Into::add}) {
        const int64_t R = 70;  // more than two blocks of rows
        Operands x;
        const int dx = x.add({R, D}), dg = x.add({D}), dy = x.add({R, D}), in = x.add({R, D}, 0.1, 2);
        const int g = x.add({D}, 0.5, 2, gain);
        const Operation all = [=](const Backend& on, const Get& t) {
          on.rmsnorm_vjp(t(dx), t(dg), t(dy), t(in), t(g), 1e-6, into);
        };
        expect_reference(x, 4 * ulps(D), all);
        expect_reference(x, 4 * ulps(D), [=](const Backend& on, const Get& t) {
          on.rmsnorm_vjp(t(dx), Tensor(), t(dy), t(in), t(g), 1e-6, into);
        });
        if (into == Into::overwrite)
          expect_reference(x, 4 * ulps(D), [=](const Backend& on, const Get& t) {
            on.rmsnorm_vjp(t(dx), t(dg), t(dy), t(in), t(g), 1e-6, into);
            on.rmsnorm_vjp(t(dy), t(dg), t(dy), t(in), t(g), 1e-6, into);
          });
      }
}

TEST(Rows, Lerp) {
  for (const int64_t n : {1, 15, 16, 17, 1000})
    for (const double t : {0.0, 1e-3, 1.0 / 3, 1.0}) {
      Operands x;
      const int y = x.add({n}, -4, 4), to = x.add({n}, -4, 4);
      expect_reference(x, 8, [=](const Backend& on, const Get& get) { on.lerp(get(y), get(to), t); });
    }
}

TEST(Rows, CopiesRoundToNearest) {
  for (const std::string& name : available_backends())
    for (const int64_t n : {1, 15, 64, 1000}) {
      Operands x;
      const int y = x.add({n}, 0, 0, DType::bf16), from = x.add({n}, -4, 4);
      const std::unique_ptr<Backend> backend = make_backend(name, Precision::f32);
      testing::run_on(*backend, x, [=](const Backend& on, const Get& get) { on.copy(get(y), get(from)); });
      const float* exact = x.get(from, DType::f32).as<float>();
      for (int64_t i = 0; i < n; ++i)
        ASSERT_EQ(static_cast<float>(x.get(y, DType::bf16).as<bf16>()[i]), static_cast<float>(bf16(exact[i]))) << name;
    }
}

TEST(Rows, GroupNorm) {
  for (const DType gain : {DType::f32, DType::bf16})
    for (const int heads : {1, 3, 8})
      for (const int64_t N : {4, 8, 20, 32, 64}) {
        const int64_t R = 70, A = heads * N;
        Operands x;
        const int y = x.add({R, A}), in = x.add({R, A}, -1, 3), g = x.add({A}, 0.5, 2, gain),
                  b = x.add({A}, -1, 1, gain);
        const int dx = x.add({R, A}), dg = x.add({A}), db = x.add({A}), dy = x.add({R, A});
        // Four channels may lie close together: their scale magnifies roundings up to 1 / sqrt(eps).
        expect_reference(x, 40 * ulps(A),
                         [=](const Backend& on, const Get& t) { on.groupnorm(t(y), t(in), t(g), t(b), heads, 1e-2); });
        expect_reference(x, 400 * ulps(A), [=](const Backend& on, const Get& t) {
          on.groupnorm_vjp(t(dx), t(dg), t(db), t(dy), t(in), t(g), heads, 1e-2);
        });
      }
}

TEST(Rows, Activations) {
  for (const Activation f : {Activation::tanh, Activation::sigmoid})
    for (const int64_t n : {1, 16, 33})
      for (const int64_t first : {0, 5}) {
        Operands x;
        const int y = x.add({4, n}), in = x.add({4, n + 7}, -30, 30), dx = x.add({4, n + 7}), dy = x.add({4, n});
        expect_reference(x, 8, [=](const Backend& on, const Get& t) { on.activate(t(y), t(in), f, first); });
        expect_reference(x, 8, [=](const Backend& on, const Get& t) { on.activate_vjp(t(dx), t(dy), t(y), f, first); });
      }
}

TEST(Rows, GatesAndSwiglu) {
  for (const int64_t D : kColumns) {
    Operands x;
    const int y = x.add({3, D}), a = x.add({3, D}, -20, 20), b = x.add({3, D}), da = x.add({3, D}), db = x.add({3, D});
    expect_reference(x, 16, [=](const Backend& on, const Get& t) { on.swiglu(t(y), t(a), t(b)); });
    expect_reference(x, 16, [=](const Backend& on, const Get& t) { on.swiglu_vjp(t(da), t(db), t(y), t(a), t(b)); });
    for (const bool squash : {false, true}) {
      expect_reference(x, 16, [=](const Backend& on, const Get& t) { on.gate(t(y), t(b), t(a), squash); });
      expect_reference(x, 16, [=](const Backend& on, const Get& t) { on.gate(t(y), t(y), t(a), squash); });
      expect_reference(x, 16,
                       [=](const Backend& on, const Get& t) { on.gate_vjp(t(db), t(da), t(y), t(b), t(a), squash); });
    }
  }
}

TEST(Rows, Rope) {
  for (const int64_t N : {2, 8, 16, 20, 64, 128})
    for (const int64_t heads : {1, 3, 8})
      for (const bool transpose : {false, true}) {
        Operands x;
        const int in = x.add({3, heads * N}), table = x.add({3, N});
        expect_reference(x, 8, [=](const Backend& on, const Get& t) { on.rope(t(in), t(table), transpose); });
      }
}

TEST(Rows, TokenShift) {
  for (const int64_t D : kColumns)
    for (const bool with_state : {false, true}) {
      Operands x;
      const int delta = x.add({9, D}), in = x.add({9, D}), last = x.add({2, D});
      expect_reference(x, 4, [=](const Backend& on, const Get& t) {
        State one(on.scalar(), D + 3, 0), two(on.scalar(), D + 3, 0);
        on.copy(one.at(3, D), t(last).rows(0, 1)), on.copy(two.at(3, D), t(last).rows(1, 1));
        const Segment segments[] = {
            {with_state ? &one : nullptr, 0, 5}, {nullptr, 5, 0}, {with_state ? &two : nullptr, 5, 1}, {nullptr, 6, 3}};
        on.token_shift(t(delta), t(in), segments, 3);
        on.copy(t(last).rows(0, 1), one.at(3, D)), on.copy(t(last).rows(1, 1), two.at(3, D));
      });
      expect_reference(x, 4, [=](const Backend& on, const Get& t) {
        const Segment segments[] = {{nullptr, 0, 5}, {nullptr, 5, 1}, {nullptr, 6, 3}};
        on.token_shift_vjp(t(delta), t(in), segments);
      });
    }
}

TEST(Rows, ShiftMix) {
  for (const DType weight : {DType::f32, DType::bf16})
    for (const int64_t D : kColumns)
      for (const bool dynamic : {false, true}) {
        const int64_t R = 70;
        Operands x;
        const int y = x.add({R, D}), in = x.add({R, D}), delta = x.add({R, D}), mu = x.add({D}, -1, 1, weight);
        const int m = x.add({R, D}), dx = x.add({R, D}), dd = x.add({R, D}), dmu = x.add({D}), dm = x.add({R, D});
        expect_reference(x, 8, [=](const Backend& on, const Get& t) {
          on.shift_mix(t(y), t(in), t(delta), t(mu), dynamic ? t(m) : Tensor());
        });
        const Operation back = [=](const Backend& on, const Get& t) {
          on.shift_mix_vjp(t(dx), t(dd), t(dmu), dynamic ? t(dm) : Tensor(), t(y), t(delta), t(mu),
                           dynamic ? t(m) : Tensor());
        };
        expect_reference(x, 8 + 4 * std::sqrt(double(R)), back);
      }
}

/// 700 rows of 96 columns are enough for several threads.
TEST(Rows, ThreadsDoNotChangeResults) {
  const int64_t R = 700, D = 96;
  Operands x;
  const int y = x.add({R, D}), a = x.add({R, D}), b = x.add({R, D}), g = x.add({D}), c = x.add({R, D}), dg = x.add({D});
  const int db = x.add({D}), e = x.add({R, D});
  expect_same_on_threads(x, [=](const Backend& on, const Get& t) { on.swiglu(t(y), t(a), t(b)); });
  expect_same_on_threads(x,
                         [=](const Backend& on, const Get& t) { on.add_rmsnorm(t(c), t(y), t(a), t(b), t(g), 1e-6); });
  expect_same_on_threads(
      x, [=](const Backend& on, const Get& t) { on.rmsnorm_vjp(t(c), t(dg), t(y), t(a), t(g), 1e-6, Into::add); });
  for (const int heads : {3, 12})
    expect_same_on_threads(x, [=](const Backend& on, const Get& t) {
      on.groupnorm_vjp(t(c), t(dg), t(db), t(y), t(a), t(g), heads, 1e-5);
      on.groupnorm(t(e), t(a), t(g), t(g), heads, 1e-5);
    });
  expect_same_on_threads(x, [=](const Backend& on, const Get& t) {
    on.shift_mix_vjp(t(c), t(e), t(dg), Tensor(), t(y), t(a), t(g), t(b));
  });
}

/// A row alone gives the bits it gives among others.
TEST(Rows, RowsDoNotSeeEachOther) {
  for (const std::string& name : available_backends()) {
    const std::unique_ptr<Backend> on = make_backend(name, Precision::f32);
    for (const int64_t D : {24, 96, 200}) {
      Operands x;
      const int many = x.add({11, D}), one = x.add({11, D}), a = x.add({11, D}), g = x.add({D});
      const auto t = [&](int i) { return x.get(i, DType::f32); };
      const auto same = [&](const char* op) {
        wait_for_device();
        EXPECT_EQ(std::memcmp(t(many).data, t(one).data, static_cast<size_t>(t(one).bytes())), 0) << name << " " << op;
      };
      on->rmsnorm(t(many), t(a), t(g), 1e-6);
      for (int r = 0; r < 11; ++r) on->rmsnorm(t(one).rows(r, 1), t(a).rows(r, 1), t(g), 1e-6);
      same("rmsnorm");
      for (const int heads : {1, static_cast<int>(D / 8)}) {
        on->groupnorm(t(many), t(a), t(g), t(g), heads, 1e-5);
        for (int r = 0; r < 11; ++r) on->groupnorm(t(one).rows(r, 1), t(a).rows(r, 1), t(g), t(g), heads, 1e-5);
        same("groupnorm");
      }
      on->gate(t(many), t(a), t(a), true);
      for (int r = 0; r < 11; ++r) on->gate(t(one).rows(r, 1), t(a).rows(r, 1), t(a).rows(r, 1), true);
      same("gate");
    }
  }
}

}  // namespace
}  // namespace qwerky
