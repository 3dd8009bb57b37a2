// SPDX-License-Identifier: MIT
// Products and embeddings of every backend against the reference, and that a row's result depends on that row alone.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <tuple>

#include "backend/peak.h"
#include "backend/reference.h"
#include "base/parallel.h"
#include "expect_error.h"
#include "owned.h"

namespace qwerky {
namespace {

/// R, K, out
using Size = std::tuple<int64_t, int64_t, int64_t>;

class Linear : public ::testing::TestWithParam<Size> {};

TEST_P(Linear, AgreesWithReference) {
  const auto [R, K, out] = GetParam();
  const Reference reference;
  for (const Fast& fast : fast_backends())
    for (const DType type : {DType::f32, DType::bf16})
      for (const bool in_out : {false, true}) {
        const std::string what =
            concat(fast.label, " R=", R, " K=", K, " out=", out, " ", name_of(type), in_out ? " T" : "");
        const Shape wshape = in_out ? Shape{K, out} : Shape{out, K};
        const Owned x(DType::f32, {R, K}, 1), w(type, wshape, 2), w2(DType::f32, wshape, 3), b(DType::f32, {out}, 4);
        Owned y(DType::f32, {R, out}, 5), y2(DType::f32, {R, out}, 6), want(DType::f32, {R, out}, 0);
        const Product products[] = {{x.t, w.t, b.t, y.t, in_out}, {x.t, w2.t, Tensor(), y2.t, in_out}};
        fast.backend->linear(products);
        const Owned rx = rounded(x.t, fast.rounds), rw = rounded(w.t, fast.rounds), rw2 = rounded(w2.t, fast.rounds);
        const Product first[] = {{rx.t, rw.t, b.t, want.t, in_out}},
                      second[] = {{rx.t, rw2.t, Tensor(), want.t, in_out}};
        reference.linear(first);
        expect_near(y.t, want.t, tolerance(K), what + " y");
        reference.linear(second);
        expect_near(y2.t, want.t, tolerance(K), what + " y2");
      }
}

TEST_P(Linear, VjpAgreesWithReference) {
  const auto [R, K, out] = GetParam();
  const Reference reference;
  for (const Fast& fast : fast_backends())
    for (const DType type : {DType::f32, DType::bf16})
      for (const bool in_out : {false, true})
        for (const Into into : {Into::overwrite, Into::add}) {
          const std::string what =
              concat(fast.label, " R=", R, " K=", K, " out=", out, " ", name_of(type), in_out ? " T" : "");
          const Shape wshape = in_out ? Shape{K, out} : Shape{out, K};
          const Owned x(DType::f32, {R, K}, 1), w(type, wshape, 2), w2(DType::f32, wshape, 3),
              dy(DType::f32, {R, out}, 4), dy2(DType::f32, {R, out}, 5);
          const Owned rx = rounded(x.t, fast.rounds), rw = rounded(w.t, fast.rounds), rw2 = rounded(w2.t, fast.rounds),
                      rdy = rounded(dy.t, fast.rounds), rdy2 = rounded(dy2.t, fast.rounds);
          Owned dx(DType::f32, {R, K}, 6), dw(DType::f32, wshape, 7), db(DType::f32, {out}, 8);
          Owned want_dx(DType::f32, {R, K}, 6), want_dw(DType::f32, wshape, 7), want_db(DType::f32, {out}, 8), skip;
          const ProductVjp got[] = {{w.t, dw.t, Tensor(), dy.t, in_out}, {w2.t, Tensor(), db.t, dy2.t, in_out}};
          fast.backend->linear_vjp(x.t, dx.t, got, into);
          const ProductVjp want[] = {{rw.t, want_dw.t, Tensor(), rdy.t, in_out},
                                     {rw2.t, Tensor(), Tensor(), rdy2.t, in_out}};
          reference.linear_vjp(rx.t, want_dx.t, want, into);
          const ProductVjp bias_only[] = {{w2.t, Tensor(), want_db.t, dy2.t, in_out}};
          reference.linear_vjp(x.t, Tensor(), bias_only, into);
          expect_near(dx.t, want_dx.t, tolerance(2 * out + 1), what + " dx");
          expect_near(dw.t, want_dw.t, tolerance(R), what + " dw");
          expect_near(db.t, want_db.t, tolerance(R), what + " db");
        }
}

INSTANTIATE_TEST_SUITE_P(Sizes, Linear,
                         ::testing::Values(Size{1, 1, 1}, Size{1, 64, 64}, Size{2, 33, 17}, Size{3, 7, 100},
                                           Size{5, 8, 8}, Size{7, 65, 130}, Size{12, 300, 47}, Size{13, 96, 63},
                                           Size{25, 513, 129}, Size{31, 64, 172}, Size{100, 20, 24}, Size{400, 37, 65},
                                           Size{300, 600, 5}, Size{27, 515, 300}, Size{4200, 9, 70}));

/// Row r of any call == the call with that row alone, with any number of threads; gradients of weights likewise.
TEST(LinearOrder, RowsDoNotDependOnBatchOrThreads) {
  const int64_t R = 300, K = 577, out = 131;
  const int before = threads();
  for (const Fast& fast : fast_backends()) {
    if (!fast.same_order()) continue;
    for (const DType type : {DType::f32, DType::bf16})
      for (const bool in_out : {false, true}) {
        const Shape wshape = in_out ? Shape{K, out} : Shape{out, K};
        const Owned x(DType::f32, {R, K}, 1), w(type, wshape, 2), b(DType::f32, {out}, 3), dy(DType::f32, {R, out}, 4);
        Owned y(DType::f32, {R, out}, 0), dx(DType::f32, {R, K}, 0), dw(DType::f32, wshape, 5),
            db(DType::f32, {out}, 6);
        set_threads(1);
        const Product whole[] = {{x.t, w.t, b.t, y.t, in_out}};
        const ProductVjp whole_vjp[] = {{w.t, dw.t, db.t, dy.t, in_out}};
        fast.backend->linear(whole);
        fast.backend->linear_vjp(x.t, dx.t, whole_vjp, Into::overwrite);
        for (const int n : {1, 2})
          for (const int64_t rows : {int64_t{1}, int64_t{2}, int64_t{13}, int64_t{70}, R}) {
            set_threads(n);
            const std::string what =
                concat(fast.label, " ", name_of(type), in_out ? " T" : "", " rows=", rows, " threads=", n);
            Owned part(DType::f32, {rows, out}, 9), part_dx(DType::f32, {rows, K}, 9);
            for (const int64_t r : {int64_t{0}, int64_t{17}, R - rows}) {
              if (r + rows > R) continue;
              const Product some[] = {{x.t.rows(r, rows), w.t, b.t, part.t, in_out}};
              fast.backend->linear(some);
              expect_same_bits(part.t, y.t.rows(r, rows), what + " y");
              const ProductVjp some_vjp[] = {{w.t, Tensor(), Tensor(), dy.t.rows(r, rows), in_out}};
              fast.backend->linear_vjp(x.t.rows(r, rows), part_dx.t, some_vjp, Into::overwrite);
              expect_same_bits(part_dx.t, dx.t.rows(r, rows), what + " dx");
            }
            if (rows == R) {
              Owned dw2(DType::f32, wshape, 5), db2(DType::f32, {out}, 6);
              const ProductVjp again[] = {{w.t, dw2.t, db2.t, dy.t, in_out}};
              fast.backend->linear_vjp(x.t, Tensor(), again, Into::overwrite);
              expect_same_bits(dw2.t, dw.t, what + " dw");
              expect_same_bits(db2.t, db.t, what + " db");
            }
          }
      }
  }
  set_threads(before);
}

/// One pass over x handles a limited number of products: more than that, and outputs of different widths.
TEST(LinearOrder, ManyProductsEqualSingleOnes) {
  const int64_t R = 21, K = 70;
  for (const Fast& fast : fast_backends()) {
    const Owned x(DType::f32, {R, K}, 1);
    std::vector<Owned> w, y, single;
    std::vector<Product> products;
    for (int64_t i = 0; i < 37; ++i) {
      const auto seed = static_cast<uint64_t>(i) + 2;
      w.emplace_back(i % 3 ? DType::f32 : DType::bf16, Shape{1 + 9 * i, K}, seed);
      y.emplace_back(DType::f32, Shape{R, 1 + 9 * i}, seed);
      single.emplace_back(DType::f32, Shape{R, 1 + 9 * i}, seed);
    }
    for (size_t i = 0; i < w.size(); ++i) products.push_back({x.t, w[i].t, Tensor(), y[i].t, false});
    fast.backend->linear(products);
    for (size_t i = 0; i < w.size(); ++i) {
      const Product one[] = {{x.t, w[i].t, Tensor(), single[i].t, false}};
      fast.backend->linear(one);
      expect_same_bits(y[i].t, single[i].t, concat(fast.label, " product ", i));
    }
  }
}

TEST(LinearOrder, NoRowsAndNothingToSum) {
  for (const Fast& fast : fast_backends()) {
    const Owned none(DType::f32, {0, 8}, 1), w(DType::f32, {5, 8}, 2), b(DType::f32, {5}, 3);
    Owned y(DType::f32, {0, 5}, 4), dw(DType::f32, {5, 8}, 5), want(DType::f32, {5, 8}, 5);
    const Product p[] = {{none.t, w.t, b.t, y.t, false}};
    fast.backend->linear(p);
    const ProductVjp v[] = {{w.t, dw.t, Tensor(), y.t, false}};
    fast.backend->linear_vjp(none.t, Tensor(), v, Into::overwrite);
    expect_same_bits(dw.t, want.t, "dw of no rows");
  }
}

TEST(Embed, AgreesWithReferenceExactly) {
  const Reference reference;
  const std::vector<int32_t> tokens = {3, 0, 3, 10, 7, 3, 1, 10};
  const int64_t R = static_cast<int64_t>(tokens.size());
  for (const Fast& fast : fast_backends())
    for (const int64_t D : {int64_t{1}, int64_t{8}, int64_t{37}, int64_t{64}})
      for (const DType type : {DType::f32, DType::bf16}) {
        const Owned table(type, {11, D}, 1), dy(DType::f32, {R, D}, 2);
        Owned y(DType::f32, {R, D}, 3), want(DType::f32, {R, D}, 4);
        fast.backend->embed(y.t, table.t, tokens);
        reference.embed(want.t, table.t, tokens);
        expect_same_bits(y.t, want.t, fast.label + " embed");
        Owned dtable(DType::f32, {11, D}, 5), want_table(DType::f32, {11, D}, 5);
        fast.backend->embed_vjp(dtable.t, dy.t, tokens);
        reference.embed_vjp(want_table.t, dy.t, tokens);
        expect_near(dtable.t, want_table.t, tolerance(3), fast.label + " embed_vjp");
      }
}

TEST(Select, NamesAndErrors) {
  EXPECT_EQ(available_backends().back(), "reference");
  for (const std::string& name : available_backends()) EXPECT_EQ(make_backend(name, Precision::f32)->name(), name);
  const auto bf16 = [](const char* name) { return testing::error_of([&] { make_backend(name, Precision::bf16); }); };
  EXPECT_EQ(make_backend("auto", Precision::f32)->name(), available_backends().front());
  if (multiplies_bf16("auto")) {
    EXPECT_EQ(make_backend("auto", Precision::bf16)->name(), available_backends().front());
  } else {
    EXPECT_PRED2(testing::has, bf16("auto"), "precision bf16: ");
  }
  EXPECT_PRED2(testing::has, bf16("reference"), "the reference backend multiplies in f32 only; use --precision f32");
  EXPECT_THROW(make_backend("sse", Precision::f32), Error);
}

TEST(Peak, IsPlausible) {
  const Peaks one = measure_peaks(1, 0.15);
  EXPECT_GT(one.read_gb_s, 0.1);
  EXPECT_GT(one.f32_gflops, 0.1);
  EXPECT_EQ(one.bf16_gflops > 0, has_native_bf16());
}

}  // namespace
}  // namespace qwerky
