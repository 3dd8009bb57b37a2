// SPDX-License-Identifier: MIT
#include "tensor/params.h"

#include <gtest/gtest.h>

#include <limits>
#include <map>

#include "expect_error.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::has;

/// Tensors held in memory, in the order they were added.
class MemorySource : public TensorSource {
 public:
  template <class T>
  T* add(const std::string& name, Shape shape, T fill) {
    const Tensor t = arena_.tensor(dtype_of<T>(), shape);
    std::fill_n(t.as<T>(), shape.count(), fill);
    order_.push_back(name);
    tensors_[name] = t;
    return t.as<T>();
  }
  std::string describe() const override { return "memory"; }
  std::vector<std::string> names() const override { return order_; }
  Tensor find(std::string_view name) const override {
    const auto at = tensors_.find(std::string(name));
    return at == tensors_.end() ? Tensor() : at->second;
  }
  void forget(std::string_view name) const override { forgotten.emplace_back(name); }
  mutable std::vector<std::string> forgotten;

 private:
  Arena arena_;
  std::vector<std::string> order_;
  std::map<std::string, Tensor> tensors_;
};

TEST(Params, BindTellsTheSourceWhatWasCopiedAndKeepsWhatIsBorrowed) {
  MemorySource source;
  source.add<float>("a", {2}, 1);
  source.add<bf16>("b", {2, 2}, bf16(1));
  Params copies, views;
  for (Params* params : {&copies, &views}) {
    params->declare("a", {2});
    params->declare("b", {2, 2});
  }
  views.bind(source, true);
  EXPECT_TRUE(source.forgotten.empty());
  Arena arena;
  copies.allocate(arena, DType::f32);
  copies.bind(source, false);
  EXPECT_EQ(source.forgotten, (std::vector<std::string>{"a", "b"}));
}

TEST(Params, DeclaredInOrderAndFoundByName) {
  Params params;
  Param& a = params.declare("a", {2, 3});
  Param& b = params.declare("b", {4});
  for (int i = 0; i < 1000; ++i) params.declare("more." + std::to_string(i), {1});
  EXPECT_EQ(params.find("a"), &a);
  EXPECT_EQ(params.find("b"), &b);
  EXPECT_EQ(params.find("c"), nullptr);
  EXPECT_EQ(a.count(), 6);
  std::vector<std::string> names;
  params.each([&](const Param& p) { names.push_back(p.name); });
  EXPECT_EQ(names.size(), 1002u);
  EXPECT_EQ(names[1], "b");
  EXPECT_EQ(params.count(), 1010);
}

TEST(ParamsDeathTest, DeclaringTwiceAborts) {
  Params params;
  params.declare("a", {1});
  EXPECT_DEATH(params.declare("a", {1}), "declared twice: a");
}

TEST(Params, AllocatesOneZeroedBlock) {
  for (const DType type : {DType::f32, DType::bf16, DType::f64, DType::c128}) {
    Params params;
    Param& a = params.declare("a", {3, 5});
    Param& b = params.declare("b", {70});
    Arena arena;
    params.allocate(arena, type);
    EXPECT_EQ(a.offset, 0);
    EXPECT_EQ(b.offset, 64);
    EXPECT_GE(params.block_count(), 64 + 70);
    EXPECT_EQ(params.block().type, type);
    EXPECT_EQ(params.block().count(), params.block_count());
    EXPECT_EQ(b.weight.data, static_cast<char*>(params.block().data) + 64 * size_of(type));
    EXPECT_EQ(b.weight.shape, Shape({70}));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(b.weight.data) % 64, 0u);
    const auto* bytes = static_cast<const char*>(params.block().data);
    for (int64_t i = 0; i < params.block().bytes(); ++i) ASSERT_EQ(bytes[i], 0);
  }
}

TEST(Params, ProductsFirstAndMastersOfAPart) {
  const auto product = [](const Param& p) { return p.use == Use::product; };
  for (const bool rounded : {false, true})
    for (const int ranks : {1, 2, 3, 7}) {
      std::vector<float> covered(448);
      for (int rank = 0; rank < ranks; ++rank) {
        Params params;
        Param& vector = params.declare("vector", {70});
        Param& a = params.declare("a", {10, 10}, Use::product);
        Param& other = params.declare("other", {2, 2}, Use::product);
        Param& b = params.declare("b", {5, 20}, Use::product);
        Arena arena;
        params.allocate(arena, DType::f32, [&](const Param& p) { return &p != &other; }, product,
                        {rank, ranks, rounded});
        EXPECT_EQ(a.offset, 0);
        EXPECT_EQ(b.offset, 128);
        EXPECT_EQ(vector.offset, 256);
        EXPECT_EQ(other.offset, -1);
        EXPECT_EQ(params.product_count(), 256);
        EXPECT_EQ(params.block_count(), 384);
        EXPECT_EQ(!params.block(), rounded);
        EXPECT_EQ(b.weight.type, rounded ? DType::bf16 : DType::f32);
        EXPECT_EQ(vector.weight.type, DType::f32);
        EXPECT_EQ(b.weight.data, params.weights({128, 100}).data);

        std::vector<float> values(100);
        for (size_t i = 0; i < values.size(); ++i) values[i] = 1 + static_cast<float>(i) / 1024;
        for (Param* p : {&a, &b, &vector}) params.set(*p, Tensor(values.data(), DType::f32, p->shape));
        const Range owned = params.owned(rank, ranks);
        const Tensor masters = params.masters(owned);
        for (int64_t i = 0; i < owned.count; ++i)
          covered[static_cast<size_t>(owned.begin + i)] += masters.as<float>()[i];
        for (int64_t i = 0; i < 70; ++i) EXPECT_EQ(vector.weight.as<float>()[i], values[static_cast<size_t>(i)]);
        for (int64_t i = 0; i < 100 && rounded; ++i)
          EXPECT_EQ(static_cast<float>(b.weight.as<bf16>()[i]),
                    static_cast<float>(bf16(values[static_cast<size_t>(i)])));
      }
      for (const auto& [offset, count] : {std::pair{0, 100}, {128, 100}, {256, 70}})  // of one rank each
        for (int i = 0; i < count; ++i)
          EXPECT_EQ(covered[static_cast<size_t>(offset + i)], 1 + static_cast<float>(i) / 1024) << offset << " " << i;
    }
}

TEST(Params, BindCopiesWithConversion) {
  MemorySource source;
  source.add<bf16>("a", {1, 1, 3}, bf16(1.5f));
  source.add<double>("b", {2}, 0.1);
  source.add<f16>("c", {2}, f16::of_bits(0xc100));  // -2.5
  source.add<float>("position_ids", {9}, 0.0f);
  const auto ignore = [](std::string_view name) { return name == "position_ids"; };
  for (const DType type : {DType::f32, DType::bf16, DType::f64, DType::c128}) {
    Params params;
    Param& a = params.declare("a", {3});
    Param& b = params.declare("b", {1, 2});
    Param& c = params.declare("c", {2});
    Arena arena;
    params.allocate(arena, type);
    params.bind(source, false, ignore);
    EXPECT_EQ(params.count(), 7);
    float got[3][2];
    const Param* bound[] = {&a, &b, &c};
    for (int i = 0; i < 3; ++i)
      convert(Tensor(got[i], DType::f32, {2}), bound[i]->weight.shaped({bound[i]->count()}).rows(0, 2));
    EXPECT_EQ(got[0][1], 1.5f);
    EXPECT_EQ(got[1][1], type == DType::bf16 ? static_cast<float>(bf16(0.1f)) : 0.1f);
    EXPECT_EQ(got[2][0], -2.5f);
    EXPECT_EQ(a.weight.shape, Shape({3})) << "the declared shape, whatever the file's";
  }
}

TEST(Params, BindBorrowsWithoutCopying) {
  MemorySource source;
  const bf16* stored = source.add<bf16>("a", {1, 3}, bf16(1.0f));
  Params params;
  Param& a = params.declare("a", {3});
  params.bind(source, true);
  EXPECT_EQ(a.weight.data, stored);
  EXPECT_EQ(a.weight.type, DType::bf16);
  EXPECT_EQ(a.weight.shape, Shape({3}));
  EXPECT_EQ(a.offset, -1);
}

TEST(Params, MatricesMayHaveATypeOfTheirOwn) {
  MemorySource source;
  source.add<float>("matrix", {2, 3}, 1.5f);
  source.add<float>("vector", {1, 3}, 0.1f);
  Params params;
  Param& matrix = params.declare("matrix", {2, 3});
  Param& vector = params.declare("vector", {1, 3});
  Arena arena;
  params.allocate(arena, DType::bf16, DType::f32);
  params.bind(source, false);
  EXPECT_EQ(static_cast<float>(matrix.weight.as<bf16>()[5]), 1.5f);
  EXPECT_EQ(vector.weight.as<float>()[2], 0.1f);
  EXPECT_FALSE(params.block());
}

TEST(Params, AllProblemsInOneError) {
  MemorySource source;
  source.add<float>("good", {2}, 1.0f);
  source.add<float>("shape", {2, 3}, 1.0f);
  source.add<int64_t>("integer", {2}, 1);
  source.add<float>("unused", {2}, 1.0f);
  source.add<float>("never read", {7}, 1.0f);
  source.add<float>("not finite", {1}, std::numeric_limits<float>::quiet_NaN());
  Params params;
  params.declare("good", {2});
  params.declare("absent", {7, 8});
  params.declare("absurd", {int64_t{1} << 24, int64_t{1} << 20});
  params.declare_unused("never read", {7});
  params.declare("shape", {3, 2});
  params.declare("integer", {2});
  params.declare("not finite", {1});
  const std::string error = error_of([&] { params.check(source); });  // nothing is allocated
  EXPECT_PRED2(has, error, "memory: 5 tensors do not fit");
  EXPECT_PRED2(has, error, "tensor absent: missing, expected [7, 8]");
  EXPECT_PRED2(has, error, "tensor absurd: missing, expected [16777216, 1048576]");
  EXPECT_PRED2(has, error, "tensor shape: expected [3, 2], file has [2, 3]");
  EXPECT_PRED2(has, error, "tensor integer: expected f32, bf16 or f16, file has i64");
  EXPECT_PRED2(has, error, "tensor unused: in the file but not part of this architecture");
  for (const char* fine : {"good", "never read", "finite"}) EXPECT_FALSE(has(error, fine));
  EXPECT_EQ(error_of([&] { params.bind(source, true); }), error);
}

TEST(Params, AllThatIsNotFiniteInOneError) {
  MemorySource source;
  source.add<float>("good", {2}, 1.0f);
  source.add<float>("nan", {1000}, 1.0f)[999] = std::numeric_limits<float>::quiet_NaN();
  source.add<bf16>("infinite", {3}, bf16(1.0f))[1] = bf16(std::numeric_limits<float>::infinity());
  source.add<f16>("half", {3}, f16::of_bits(0x3c00))[2] = f16::of_bits(0x7c01);
  source.add<double>("wide", {3}, 1.0)[0] = -std::numeric_limits<double>::infinity();
  Params params;
  for (const char* name : {"good", "nan", "infinite", "half", "wide"}) params.declare(name, source.find(name).shape);
  EXPECT_NO_THROW(params.check(source));
  Arena arena;
  params.allocate(arena, DType::f32);
  const std::string error = error_of([&] { params.bind(source, false); });
  EXPECT_PRED2(has, error, "memory: 4 tensors do not fit");
  for (const char* name : {"nan", "infinite", "half", "wide"})
    EXPECT_PRED2(has, error, concat("tensor ", name, ": contains NaN or infinity"));
  EXPECT_FALSE(has(error, "good"));
}

TEST(Params, ManyProblemsAreCounted) {
  const MemorySource source;
  Params params;
  for (int i = 0; i < 40; ++i) params.declare("layer." + std::to_string(i), {2});
  const std::string error = error_of([&] { params.bind(source, true); });
  EXPECT_PRED2(has, error, "40 tensors do not fit");
  EXPECT_PRED2(has, error, "layer.11:");
  EXPECT_FALSE(has(error, "layer.12:"));
  EXPECT_PRED2(has, error, "and 28 more");
}

TEST(Params, FreezeTakesAGlob) {
  MemorySource source;
  Params params;
  for (const char* name : {"layers.0.self_attn.q", "layers.0.mlp.up", "layers.1.self_attn.q", "embed"}) {
    params.declare(name, {2});
    source.add<float>(name, {2}, 1.0f);
  }
  params.bind(source, true);
  const auto training = [&] {
    std::string names;
    params.each([&](const Param& p) { names += p.trains ? p.name + " " : ""; });
    return names;
  };
  params.freeze_all_but("layers.*.self_attn.*");
  EXPECT_EQ(training(), "layers.0.self_attn.q layers.1.self_attn.q ");
  params.freeze_all_but("embed|*.up");
  EXPECT_EQ(training(), "layers.0.mlp.up embed ");
  params.freeze_all_but("");
  EXPECT_EQ(training(), "");
  EXPECT_PRED2(has, error_of([&] { params.freeze_all_but("layers.*.self_atn.*"); }), "'layers.*.self_atn.*'");
}

TEST(Glob, Matches) {
  EXPECT_TRUE(glob_match("*", ""));
  EXPECT_TRUE(glob_match("*", "anything"));
  EXPECT_TRUE(glob_match("a*c", "abbc"));
  EXPECT_TRUE(glob_match("a*c", "ac"));
  EXPECT_TRUE(glob_match("a*b*c", "a.b.b.c"));
  EXPECT_TRUE(glob_match("x|a.b", "a.b"));
  EXPECT_TRUE(glob_match("", ""));
  EXPECT_FALSE(glob_match("a", "ab"));
  EXPECT_FALSE(glob_match("b", "ab"));
  EXPECT_FALSE(glob_match("a*c", "abcd"));
  EXPECT_FALSE(glob_match("a.b", "axb")) << "only the star is special";
  EXPECT_FALSE(glob_match("", "a"));
  std::string stars;
  for (int i = 0; i < 200; ++i) stars += "*a";
  EXPECT_FALSE(glob_match(stars + "b", std::string(2000, 'a'))) << "and in no time";
}

TEST(Convert, EveryPairOfTypes) {
  const float values[] = {0.0f, 1.0f, -2.5f, 0.333251953125f, 65504.0f, -6.103515625e-05f};  // exact in f16
  constexpr int64_t n = 6;
  Arena arena;
  const Tensor f(const_cast<float*>(values), DType::f32, {n});
  const Tensor half = arena.tensor(DType::f16, {n});
  const uint16_t bits[] = {0, 0x3c00, 0xc100, 0x3555, 0x7bff, 0x8400};
  std::memcpy(half.data, bits, sizeof bits);
  for (const DType from : {DType::f32, DType::bf16, DType::f16, DType::f64, DType::c128}) {
    Tensor src = half;
    if (from != DType::f16) convert(src = arena.tensor(from, {n}), f);
    for (const DType to : {DType::f32, DType::bf16, DType::f64, DType::c128}) {
      const Tensor dst = arena.tensor(to, {n}), back = arena.tensor(DType::f32, {n});
      convert(dst, src);
      convert(back, dst);
      const bool rounded = from == DType::bf16 || to == DType::bf16;
      for (int64_t i = 0; i < n; ++i) {
        const float want = rounded ? static_cast<float>(bf16(values[i])) : values[i];
        EXPECT_EQ(back.as<float>()[i], want) << name_of(from) << " to " << name_of(to);
      }
    }
  }
}

}  // namespace
}  // namespace qwerky
