// SPDX-License-Identifier: MIT
// Weights in panels: the layout itself, packing and products of every backend against the reference, and that a row's
// result depends on that row alone.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <tuple>

#include "backend/reference.h"
#include "base/parallel.h"
#include "owned.h"
#include "tensor/arena.h"
#include "tensor/panels.h"

namespace qwerky {
namespace {

const std::vector<PanelFormat> kFormats = {{DType::f32, 0, false}, {DType::bf16, 0, false}, {DType::i8, 32, false},
                                           {DType::i8, 64, false}, {DType::i8, 128, false}, {DType::i4, 32, false},
                                           {DType::i4, 64, false}, {DType::i4, 128, false}, {DType::i4, 32, true},
                                           {DType::i4, 64, true}};

bool quantised(const PanelFormat& f) { return f.group != 0; }

/// Panels with memory of their own, filled by the reference.
struct Packed {
  Arena arena{"test"};
  Tensor t;
  Packed(const PanelFormat& format, Tensor rows, bool in_out) {
    t = arena.panels(format, in_out ? Shape{rows.dim(1), rows.dim(0)} : rows.shape);
    Reference().pack(t, rows, in_out);
  }
};

TEST(F16, RoundsToNearestEven) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const f16 half = f16::of_bits(static_cast<uint16_t>(bits));
    const float value = static_cast<float>(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(static_cast<float>(f16(value))));
    } else {
      ASSERT_EQ(f16(value).bits, bits) << value;
    }
    if ((bits & 0x7fff) >= 0x7bff) continue;  // the next number is infinite
    const f16 next = f16::of_bits(static_cast<uint16_t>(bits + 1));
    const float middle = 0.5f * (value + static_cast<float>(next));
    ASSERT_EQ(f16(middle).bits, bits % 2 == 0 ? bits : bits + 1) << "between " << value << " and its neighbour";
  }
  EXPECT_EQ(f16(65519.0f).bits, 0x7bff);
  EXPECT_EQ(f16(65520.0f).bits, 0x7c00);
  EXPECT_EQ(f16(-1e9f).bits, 0xfc00);
  EXPECT_EQ(f16(1e-9f).bits, 0);
}

TEST(Panels, HoldWhatIsWritten) {
  for (const PanelFormat& format : kFormats) {
    const int64_t N = 130, K = 77;
    Arena arena;
    const Tensor t = arena.panels(format, {N, K});
    const PanelView view(t);
    const PanelsOf& of = view.of();
    EXPECT_EQ(t.bytes(), of.bytes());
    EXPECT_EQ(of.panels(), 3);
    view.clear();
    for (int64_t n = 0; n < N; ++n)
      for (int64_t k = 0; k < K; ++k) ASSERT_EQ(view.value(n, k), 0) << name_of(format);
    const auto number = [&](int64_t n, int64_t k) {
      return static_cast<int>((n * 31 + k * 7) % (of.largest_code() + 1));
    };
    for (int64_t n = 0; n < N; ++n) {
      for (int64_t k = 0; k < K; ++k)
        quantised(format) ? view.set_code(n, k, number(n, k)) : view.set_value(n, k, static_cast<float>(number(n, k)));
      for (int64_t g = 0; quantised(format) && g < of.groups(); ++g) {
        view.set_scale(n, g, f16(static_cast<float>(n + g)));
        if (format.minimum) view.set_minimum(n, g, f16(static_cast<float>(n - g)));
      }
    }
    for (int64_t n = 0; n < N; ++n)
      for (int64_t k = 0; k < K; ++k) {
        const int64_t g = quantised(format) ? k / format.group : 0;
        const auto want = static_cast<float>(
            quantised(format) ? (n + g) * (number(n, k) - of.zero()) + (format.minimum ? n - g : 0) : number(n, k));
        ASSERT_EQ(view.value(n, k), want) << name_of(format) << " " << n << "," << k;
      }
  }
}

/// A byte of int4 holds inputs 8i+j and 8i+4+j; int8 words hold four consecutive inputs; 64 outputs side by side.
TEST(Panels, LieInMemoryAsDocumented) {
  Arena arena;
  const Tensor t = arena.panels({DType::i4, 32, true}, {70, 40});
  const PanelView view(t);
  view.clear();
  view.set_code(65, 37, 5);
  view.set_code(65, 33, 9);
  view.set_scale(65, 1, f16(2.0f));
  view.set_minimum(65, 1, f16(-1.0f));
  const auto* bytes = static_cast<const uint8_t*>(t.data);
  const int64_t group = 2 * 128 + 4 * 256, at = 2 * group + group;  // panel 1, group 1
  EXPECT_EQ(bytes[at + 256 + 1 * 4 + 1], 0x59);
  f16 scale, minimum;
  std::memcpy(&scale, bytes + at + 2, 2);
  std::memcpy(&minimum, bytes + at + 128 + 2, 2);
  EXPECT_EQ(static_cast<float>(scale), 2.0f);
  EXPECT_EQ(static_cast<float>(minimum), -1.0f);
}

TEST(Panels, RoundingErrorIsHalfAStep) {
  const Owned w(DType::f32, {70, 200}, 1);
  for (const PanelFormat& format : kFormats) {
    if (!quantised(format)) continue;
    const Packed packed(format, w.t, false);
    const PanelView view(packed.t);
    for (int64_t n = 0; n < 70; ++n)
      for (int64_t k = 0; k < 200; ++k) {
        const double step = std::fabs(double(view.scale(n, k / format.group)));
        // The largest value may be cut by the rounding of the scale to f16, 2^-11 of 127 or 15 steps, and the code
        // after the last one of symmetric int4 (+8) does not exist.
        const double bound = format.type == DType::i4 && !format.minimum ? 1.01 : 0.57;
        EXPECT_LE(std::fabs(double(view.value(n, k)) - double(w.t.as<float>()[n * 200 + k])), bound * step);
      }
  }
}

TEST(Panels, PackingEqualsTheReferenceBitForBit) {
  const std::vector<std::tuple<int64_t, int64_t>> sizes = {{1, 1},   {64, 64},   {63, 33},
                                                           {65, 31}, {130, 200}, {200, 129}};
  for (const Fast& fast : fast_backends())
    for (const PanelFormat& format : kFormats)
      for (const DType type : {DType::f32, DType::bf16, DType::f16})
        for (const auto& [N, K] : sizes)
          for (const bool in_out : {false, true}) {
            Owned w(type, in_out ? Shape{K, N} : Shape{N, K}, 7);
            if (type == DType::f32 && w.t.count() > 100)  // a group of zeros, and of one value
              for (int64_t i = 0; i < 64; ++i) w.t.as<float>()[i] = i < 32 ? 0.0f : -0.25f;
            const Packed want(format, w.t, in_out);
            Arena arena;
            const Tensor got = arena.panels(format, want.t.shape);
            std::memset(got.data, 0x5a, static_cast<size_t>(got.bytes()));
            fast.backend->pack(got, w.t, in_out);
            expect_same_bits(got, want.t,
                             concat(fast.label, " ", name_of(format), " ", name_of(type), " N=", N, " K=", K, in_out));
          }
}

TEST(Panels, StacksArePackedMatrixByMatrix) {
  const Owned w(DType::bf16, {3, 20, 70}, 3);
  for (const Fast& fast : fast_backends()) {
    Arena arena;
    const Tensor stack = arena.panels({DType::bf16, 0, false}, {3, 70, 20});
    fast.backend->pack(stack, w.t, true);
    for (int64_t i = 0; i < 3; ++i) {
      const Packed one(stack.panels, w.t.matrix(i), true);
      expect_same_bits(stack.matrix(i), one.t, fast.label);
    }
  }
}

/// R, K, out
using Size = std::tuple<int64_t, int64_t, int64_t>;
class PanelProducts : public ::testing::TestWithParam<Size> {};

TEST_P(PanelProducts, AgreeWithReference) {
  const auto [R, K, out] = GetParam();
  const Reference reference;
  for (const Fast& fast : fast_backends())
    for (const PanelFormat& format : kFormats) {
      const std::string what = concat(fast.label, " ", name_of(format), " R=", R, " K=", K, " out=", out);
      const Owned x(DType::f32, {R, K}, 1), w(DType::f32, {out, K}, 2), b(DType::f32, {out}, 4);
      const Packed packed(format, w.t, false);
      // bf16 products round x as well.
      const bool pairs = fast.rounds && format.type == DType::bf16;
      const Owned rx = rounded(x.t, pairs);
      Owned y(DType::f32, {R, out}, 5), y2(DType::f32, {R, out}, 6), want(DType::f32, {R, out}, 0),
          want2(DType::f32, {R, out}, 0);
      fast.backend->linear(std::vector{Product{x.t, packed.t, b.t, y.t}, Product{x.t, packed.t, {}, y2.t}});
      reference.linear(std::vector{Product{rx.t, packed.t, b.t, want.t}, Product{rx.t, packed.t, {}, want2.t}});
      // With codes the sum of a group is exact; its terms, of size sqrt(K), are rounded three times at most.
      const double bound = quantised(format)
                               ? tolerance(3 * (K / format.group + 1)) * std::sqrt(static_cast<double>(K)) / 2
                               : tolerance(K);
      expect_near(y.t, want.t, bound, what);
      expect_near(y2.t, want2.t, bound, what + " without bias");
    }
}

INSTANTIATE_TEST_SUITE_P(Sizes, PanelProducts,
                         ::testing::Values(Size{1, 1, 1}, Size{1, 64, 64}, Size{2, 33, 17}, Size{3, 7, 100},
                                           Size{4, 128, 65}, Size{7, 65, 130}, Size{12, 300, 47}, Size{13, 96, 63},
                                           Size{1, 1500, 200}, Size{5, 2200, 70}, Size{270, 70, 70}));

/// What a model multiplies is what its file holds: the dequantised matrix, but for the rounding of x.
TEST(PanelProducts, CodesStandForTheDequantisedMatrix) {
  const int64_t K = 200, out = 70;
  const Owned w(DType::f32, {out, K}, 2);
  Owned x(DType::f32, {1, K}, 1), y(DType::f32, {1, out}, 0);
  for (int64_t k = 0; k < K; ++k) x.t.as<float>()[k] = static_cast<float>((k * 37) % 255 - 127);  // exact codes
  for (int64_t g = 0; g < K; g += 32) x.t.as<float>()[g] = 127;
  for (const Fast& fast : fast_backends())
    for (const PanelFormat& format : kFormats) {
      if (!quantised(format)) continue;
      const Packed packed(format, w.t, false);
      const PanelView view(packed.t);
      fast.backend->linear(std::vector{Product{x.t, packed.t, {}, y.t}});
      wait_for_device();
      for (int64_t n = 0; n < out; ++n) {
        double want = 0, size = 0;
        for (int64_t k = 0; k < K; ++k) {
          const double term = double(view.value(n, k)) * double(x.t.as<float>()[k]);
          want += term;
          size += std::fabs(term);
        }
        EXPECT_NEAR(y.t.as<float>()[n], want, 1e-5 * size) << fast.label << " " << name_of(format);
      }
    }
}

TEST(PanelProducts, RowsDoNotDependOnBatchOrThreads) {
  const int64_t R = 300, K = 577, out = 131;
  const int before = threads();
  for (const Fast& fast : fast_backends()) {
    if (!fast.same_order()) continue;
    for (const PanelFormat& format : kFormats) {
      const Owned x(DType::f32, {R, K}, 1), w(DType::f32, {out, K}, 2), b(DType::f32, {out}, 3);
      const Packed packed(format, w.t, false);
      Owned y(DType::f32, {R, out}, 0);
      set_threads(1);
      fast.backend->linear(std::vector{Product{x.t, packed.t, b.t, y.t}});
      for (const int n : {1, 3})
        for (const int64_t rows : {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{13}, int64_t{70}, R})
          for (const int64_t r : {int64_t{0}, int64_t{17}, R - rows}) {
            if (r + rows > R) continue;
            set_threads(n);
            Owned part(DType::f32, {rows, out}, 9);
            fast.backend->linear(std::vector{Product{x.t.rows(r, rows), packed.t, b.t, part.t}});
            expect_same_bits(part.t, y.t.rows(r, rows),
                             concat(fast.label, " ", name_of(format), " rows=", rows, " threads=", n));
          }
    }
  }
  set_threads(before);
}

TEST(PanelProducts, GatedOnesEqualTheirParts) {
  for (const Fast& fast : fast_backends())
    for (const PanelFormat& format : kFormats)
      for (const auto& [R, K, F] : {Size{1, 65, 130}, Size{13, 200, 63}, Size{270, 33, 70}}) {
        const Owned x(DType::f32, {R, K}, 1), g(DType::f32, {F, K}, 2), u(DType::f32, {F, K}, 3);
        const Packed gate(format, g.t, false), up(format, u.t, false), other(kFormats.front(), u.t, false);
        Owned y(DType::f32, {R, F}, 4), want(DType::f32, {R, F}, 5), a(DType::f32, {R, F}, 6), b(DType::f32, {R, F}, 7);
        for (const Tensor& second : {up.t, other.t}) {
          const Product products[] = {{x.t, gate.t, {}, a.t}, {x.t, second, {}, b.t}};
          fast.backend->linear(products);
          fast.backend->swiglu(want.t, a.t, b.t);
          fast.backend->linear_swiglu(y.t, products[0], products[1]);
          expect_same_bits(y.t, want.t, concat(fast.label, " ", name_of(format), " R=", R));
        }
      }
}

/// More products than one fork-join holds, of several inputs and formats, in rows and in panels.
TEST(PanelProducts, ManyEqualSingleOnes) {
  const int64_t R = 5;
  for (const Fast& fast : fast_backends()) {
    std::vector<Owned> x, w, y, single;
    std::vector<std::unique_ptr<Packed>> packed;
    std::vector<Product> products;
    for (int64_t i = 0; i < 40; ++i) {
      const int64_t K = 40 + 30 * (i / 3 % 4), out = 1 + 9 * i;
      const auto seed = static_cast<uint64_t>(i) + 2;
      x.emplace_back(DType::f32, Shape{R, K}, seed);
      w.emplace_back(DType::f32, Shape{out, K}, seed + 100);
      y.emplace_back(DType::f32, Shape{R, out}, 0);
      single.emplace_back(DType::f32, Shape{R, out}, 0);
      packed.push_back(std::make_unique<Packed>(kFormats[static_cast<size_t>(i) % kFormats.size()], w.back().t, false));
    }
    for (const size_t step : {size_t{1}, size_t{5}}) {
      products.clear();
      for (size_t i = 0; i < x.size(); ++i)  // with step 5, some weights stay in rows
        products.push_back({x[i / 3 * 3].t, step == 5 && i % step == 0 ? w[i].t : packed[i]->t, {}, y[i].t});
      fast.backend->linear(products);
      for (size_t i = 0; i < x.size(); ++i) {
        Product one = products[i];
        one.y = single[i].t;
        fast.backend->linear({&one, 1});
        expect_same_bits(y[i].t, single[i].t, concat(fast.label, " product ", i));
      }
    }
  }
}

TEST(PanelProducts, NaNComesThroughInItsRowOnly) {
  Owned x(DType::f32, {3, 70}, 1);
  const Owned w(DType::f32, {5, 70}, 2);
  x.t.as<float>()[70 + 40] = std::numeric_limits<float>::quiet_NaN();
  Owned y(DType::f32, {3, 5}, 0);
  for (const Fast& fast : fast_backends())
    for (const PanelFormat& format : kFormats) {
      const Packed packed(format, w.t, false);
      fast.backend->linear(std::vector{Product{x.t, packed.t, {}, y.t}});
      wait_for_device();
      for (int64_t i = 0; i < 15; ++i)
        EXPECT_EQ(std::isnan(y.t.as<float>()[i]), i / 5 == 1) << fast.label << " " << name_of(format) << " " << i;
    }
}

TEST(EmbedFromPanels, AgreesWithReferenceExactly) {
  const std::vector<int32_t> tokens = {3, 0, 68, 10, 7, 3};
  const Owned w(DType::f32, {70, 37}, 1);
  for (const Fast& fast : fast_backends())
    for (const PanelFormat& format : kFormats) {
      const Packed packed(format, w.t, false);
      Owned y(DType::f32, {6, 37}, 3), want(DType::f32, {6, 37}, 4);
      fast.backend->embed(y.t, packed.t, tokens);
      Reference().embed(want.t, packed.t, tokens);
      expect_same_bits(y.t, want.t, fast.label + name_of(format));
    }
}

TEST(PanelFormats, OthersAreRefused) {
  for (const PanelFormat& format : kFormats) EXPECT_NO_THROW(check_format(format, "x"));
  EXPECT_THROW(check_format({DType::i8, 48, false}, "x"), Error);
  EXPECT_THROW(check_format({DType::i8, 64, true}, "x"), Error);
  EXPECT_THROW(check_format({DType::bf16, 32, false}, "x"), Error);
  EXPECT_THROW(check_format({DType::f64, 0, false}, "x"), Error);
}

}  // namespace
}  // namespace qwerky
