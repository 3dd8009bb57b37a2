// SPDX-License-Identifier: MIT
// Views, element types, arenas and states.
#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/random.h"
#include "expect_error.h"
#include "tensor/arena.h"
#include "tensor/state.h"

namespace qwerky {
namespace {

TEST(Shape, CountsAndPrints) {
  EXPECT_EQ(Shape({3, 4, 5}).count(), 60);
  EXPECT_EQ(Shape().count(), 1);
  EXPECT_EQ(Shape({0, 7}).count(), 0);
  EXPECT_EQ(Shape({4, 64}).str(), "[4, 64]");
  EXPECT_EQ(Shape().str(), "[]");
  EXPECT_NE(Shape({1, 3}), Shape({3}));
}

TEST(Tensor, ViewsShareMemory) {
  float data[12];
  for (int i = 0; i < 12; ++i) data[i] = static_cast<float>(i);
  const Tensor t(data, DType::f32, {4, 3});
  EXPECT_EQ(t.bytes(), 48);
  EXPECT_EQ(t.cols(), 3);
  EXPECT_EQ(t.row_count(), 4);
  const Tensor middle = t.rows(1, 2);
  EXPECT_EQ(middle.shape, Shape({2, 3}));
  EXPECT_EQ(middle.as<float>()[0], 3.0f);
  EXPECT_EQ(t.rows(4, 0).count(), 0);
  EXPECT_EQ(t.shaped({2, 6}).as<float>(), data);
  EXPECT_FALSE(Tensor());
  EXPECT_TRUE(t);
}

TEST(TensorDeathTest, BadViewsAbort) {
  float data[12] = {};
  const Tensor t(data, DType::f32, {4, 3});
  EXPECT_DEATH(t.rows(3, 2), "rows 3\\+2 of \\[4, 3\\]");
  EXPECT_DEATH(t.shaped({5}), "\\[4, 3\\] as \\[5\\]");
}

// bf16 is the high half of an f32: rounding checked against the two neighbours of each value.
TEST(Bf16, RoundsToTheNearestAndTiesToEven) {
  const Random random(7);
  for (uint64_t i = 0; i < 20'000; ++i) {
    const auto bits = static_cast<uint32_t>(random.bits(i));
    float x;
    std::memcpy(&x, &bits, 4);
    uint32_t low = bits & 0xffff0000u, high = low + 0x10000u;
    float below, above;
    std::memcpy(&below, &low, 4);
    std::memcpy(&above, &high, 4);
    if (!std::isfinite(x) || !std::isfinite(above)) continue;
    const double to_below = std::abs(static_cast<double>(x) - below),
                 to_above = std::abs(static_cast<double>(x) - above);
    const float got = static_cast<float>(bf16(x));
    if (to_below < to_above) {
      EXPECT_EQ(got, below) << x;
    } else if (to_above < to_below) {
      EXPECT_EQ(got, above) << x;
    } else {
      EXPECT_EQ(bf16(x).bits % 2, 0) << x;
    }
  }
  EXPECT_TRUE(std::isnan(static_cast<float>(bf16(std::numeric_limits<float>::quiet_NaN()))));
  const uint32_t smallest_nan = 0x7f800001u;  // rounding must not turn it into infinity
  float nan;
  std::memcpy(&nan, &smallest_nan, 4);
  EXPECT_TRUE(std::isnan(static_cast<float>(bf16(nan))));
  EXPECT_TRUE(std::isinf(static_cast<float>(bf16(std::numeric_limits<float>::infinity()))));
}

// Every one of the 65,536 halves against the definition: (-1)^s 2^(e-15) (1 + m/1024), subnormal 2^-14 m/1024.
TEST(F16, WidensEveryValue) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    f16 half;
    half.bits = static_cast<uint16_t>(bits);
    const float got = static_cast<float>(half);
    const int e = static_cast<int>(bits >> 10 & 31), m = static_cast<int>(bits & 1023);
    const double sign = bits >> 15 ? -1.0 : 1.0;
    if (e == 31 && m != 0) {
      ASSERT_TRUE(std::isnan(got)) << bits;
    } else if (e == 31) {
      ASSERT_EQ(got, sign * std::numeric_limits<double>::infinity()) << bits;
    } else {
      const double want = sign * (e == 0 ? std::ldexp(m, -24) : std::ldexp(1024 + m, e - 25));
      ASSERT_EQ(got, want) << bits;
      ASSERT_EQ(std::signbit(got), bits >> 15 != 0) << bits;
    }
  }
}

TEST(Arena, GivesDisjointAlignedMemoryAndReusesIt) {
  Arena arena("test");
  const Arena::Mark start = arena.mark();
  std::vector<Tensor> taken;
  for (int i = 1; i <= 300; ++i) {
    Tensor t = arena.tensor(DType::f32, {i, 37});
    EXPECT_EQ(reinterpret_cast<uintptr_t>(t.data) % 64, 0u);
    std::fill_n(t.as<float>(), t.count(), static_cast<float>(i));
    taken.push_back(t);
  }
  for (int i = 1; i <= 300; ++i) {
    const Tensor t = taken[static_cast<size_t>(i - 1)];
    for (int64_t k = 0; k < t.count(); ++k) ASSERT_EQ(t.as<float>()[k], static_cast<float>(i));
  }
  const int64_t peak = arena.peak_bytes();
  EXPECT_GE(peak, 300 * 301 / 2 * 37 * 4);
  arena.release(start);
  EXPECT_EQ(arena.tensor(DType::f32, {1, 37}).data, taken[0].data);
  EXPECT_EQ(arena.peak_bytes(), peak);
}

TEST(Arena, ZerosClearsReusedMemory) {
  Arena arena;
  const void* first = nullptr;
  {
    const Scope scope(arena);
    Tensor t = arena.tensor(DType::u8, {1000});
    std::memset(t.data, 0xff, 1000);
    first = t.data;
  }
  const Tensor t = arena.zeros(DType::u8, {1000});
  EXPECT_EQ(t.data, first);
  for (int64_t i = 0; i < 1000; ++i) ASSERT_EQ(t.as<uint8_t>()[i], 0);
}

TEST(Arena, ScopesNest) {
  Arena arena("test", 4096);
  const Tensor a = arena.tensor(DType::u8, {100});
  void* inner = nullptr;
  {
    const Scope outer(arena);
    arena.tensor(DType::u8, {2000});
    {
      const Scope scope(arena);
      inner = arena.tensor(DType::u8, {3 << 20}).data;  // another block
      EXPECT_NE(inner, nullptr);
    }
    EXPECT_EQ(arena.tensor(DType::u8, {3 << 20}).data, inner);
  }
  EXPECT_EQ(arena.tensor(DType::u8, {1}).data, static_cast<char*>(a.data) + 128);
}

TEST(Block, ZeroFilledAndRefusesTheImpossible) {
  const Block block(5'000'000, "test");
  for (int64_t i = 0; i < block.bytes(); i += 4096) ASSERT_EQ(block.data()[i], 0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(block.data()) % 64, 0u);
  EXPECT_PRED2(testing::has, testing::error_of([] { Block(int64_t{1} << 56, "weights"); }), "memory for weights");
}

TEST(State, CopiesAndResets) {
  State a(DType::f32, 10, 100), b(DType::f32, 10, 100);
  for (int64_t i = 0; i < 10; ++i) EXPECT_EQ(a.at(0, 10).as<float>()[i], 0.0f);
  a.at(4, 6).as<float>()[0] = 5.0f;
  a.advance(3);
  b.copy_from(a);
  EXPECT_EQ(b.position(), 3);
  EXPECT_EQ(b.at(0, 10).as<float>()[4], 5.0f);
  a.reset();
  EXPECT_EQ(a.position(), 0);
  EXPECT_EQ(a.at(4, 1).as<float>()[0], 0.0f);
  EXPECT_EQ(b.at(4, 1).as<float>()[0], 5.0f) << "a copy is independent";
  EXPECT_EQ(b.bytes(), 40);
  EXPECT_EQ(b.capacity(), 100);
}

TEST(StateDeathTest, OutsideAborts) {
  State a(DType::f32, 10, 100), other(DType::f32, 11, 100);
  EXPECT_DEATH(a.at(8, 3), "state of 10 scalars read at 8\\+3");
  EXPECT_DEATH(a.copy_from(other), "states of different layout");
}

TEST(Segment, PositionComesFromTheState) {
  State state(DType::f32, 1, 10);
  state.advance(4);
  EXPECT_EQ((Segment{&state, 0, 2}.position()), 4);
  EXPECT_EQ((Segment{nullptr, 2, 2}.position()), 0);
}

}  // namespace
}  // namespace qwerky
