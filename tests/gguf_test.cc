// SPDX-License-Identifier: MIT
// The GGUF container: what Python's package writes, what we write, and one file for each class of published fault.
#include "io/gguf.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/random.h"
#include "data.h"
#include "expect_error.h"
#include "gguf_bytes.h"
#include "io/gguf_writer.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::GgufBytes;
using testing::has;
using testing::raw;
using testing::raw_text;

std::string error(const std::string& bytes) {
  return error_of([&] { GgufFile(bytes, "g"); });
}
std::string error(const GgufBytes& file) { return error(file.bytes()); }

TEST(Gguf, ReadsEveryKindOfValueThatPythonsPackageWrites) {
  const GgufFile file(testing::golden("gguf/python.gguf"));
  EXPECT_EQ(file.version(), 3u);
  EXPECT_EQ(file.text("general.architecture"), "llama");
  const auto integer = [&](const char* key) { return file.integer(key, INT64_MIN, INT64_MAX); };
  EXPECT_EQ(integer("t.u8"), 200);
  EXPECT_EQ(integer("t.i8"), -100);
  EXPECT_EQ(integer("t.u16"), 60000);
  EXPECT_EQ(integer("t.i16"), -30000);
  EXPECT_EQ(integer("t.u32"), 4000000000);
  EXPECT_EQ(integer("t.i32"), -2000000000);
  EXPECT_EQ(integer("t.u64"), int64_t{1} << 40);
  EXPECT_EQ(integer("t.i64"), -(int64_t{1} << 40));
  EXPECT_EQ(file.number("t.f32"), 1e-6) << "the shortest decimal, not the f32's binary value";
  EXPECT_EQ(file.number("t.f64"), 0.1);
  EXPECT_EQ(file.flag("t.true"), true);
  EXPECT_EQ(file.flag("t.false"), false);
  EXPECT_EQ(file.text("t.text"), "naïve 😀");
  EXPECT_EQ(file.texts("t.texts"), (std::vector<std::string_view>{"a", "", "café"}));
  EXPECT_EQ(file.integers("t.integers"), (std::vector<int32_t>{1, -2, 3}));
  EXPECT_EQ(file.numbers("t.numbers"), (std::vector<float>{0.5f, -1.25f}));
  EXPECT_EQ(file.text("t.absent"), std::nullopt);
  EXPECT_FALSE(file.has("t.absent"));
  ASSERT_NE(file.find("f32"), nullptr);
  EXPECT_EQ(file.find("f32")->shape, (Shape{3, 5}));
  EXPECT_EQ(file.find("absent"), nullptr);
}

TEST(Gguf, ValuesOfAnotherKindAreNamed) {
  const GgufFile file(testing::golden("gguf/python.gguf"));
  EXPECT_PRED2(has, error_of([&] { file.integer("t.f32", 0, 9); }), "t.f32: expected an integer, found f32");
  EXPECT_PRED2(has, error_of([&] { file.number("t.u8"); }), "t.u8: expected a number, found u8");
  EXPECT_PRED2(has, error_of([&] { file.text("t.u8"); }), "expected a text, found u8");
  EXPECT_PRED2(has, error_of([&] { file.flag("t.text"); }), "expected true or false, found text");
  EXPECT_PRED2(has, error_of([&] { file.text("t.texts"); }), "expected one value, found an array of text");
  EXPECT_PRED2(has, error_of([&] { file.texts("t.text"); }), "expected an array, found text");
  EXPECT_PRED2(has, error_of([&] { file.texts("t.integers"); }), "expected an array of texts, found an array of i32");
  EXPECT_PRED2(has, error_of([&] { file.integer("t.u8", 0, 100); }), "expected a number from 0 to 100, found 200");
  const std::string nan = GgufBytes().f32("x", std::nanf("")).bytes();
  EXPECT_PRED2(has, error_of([&] { GgufFile(nan, "g").number("x"); }), "expected a finite number");
  const std::string text = GgufBytes().text("x", "\xFF").bytes();
  EXPECT_PRED2(has, error_of([&] { GgufFile(text, "g").text("x"); }), "is not UTF-8");
  const std::string two = GgufBytes().value("x", GgufType::boolean, "\x02").bytes();
  EXPECT_PRED2(has, error_of([&] { GgufFile(two, "g").flag("x"); }), "expected true or false");
  const std::string huge = GgufBytes().value("x", GgufType::u64, raw(UINT64_MAX)).bytes();
  EXPECT_EQ(GgufFile(huge, "g").integer("x", 0, INT64_MAX), INT64_MAX);
}

TEST(Gguf, WhatIsWrittenIsReadBack) {
  GgufMetadata meta;
  meta.add("a.u32", uint32_t{7});
  meta.add("a.f32", 0.1f);
  meta.add("a.bool", true);
  meta.add("a.text", "text");
  meta.add("a.empty", "");
  meta.add("a.texts", std::vector<std::string>{"x", "yy"});
  meta.add("a.numbers", std::vector<float>{1, 2});
  meta.add("a.integers", std::vector<int32_t>{-1});
  const auto ramp = [](int64_t cols) {
    return [cols](int64_t first, int64_t n, float* out) {
      for (int64_t i = 0; i < n * cols; ++i) out[i] = static_cast<float>(first * cols + i) / 64;
    };
  };
  const Path path = testing::scratch_dir("gguf-write") / "x.gguf";
  write_gguf(path, meta,
             {{"vector", BlockType::f32, {3}, ramp(3)},
              {"half", BlockType::f16, {2, 3, 4}, ramp(4)},
              {"large", BlockType::bf16, {70'000, 32}, ramp(32)},  // more than one slice
              {"blocks", BlockType::q8_0, {3, 64}, ramp(64)}});
  const GgufFile file(path);
  EXPECT_EQ(file.integer("a.u32", 0, 9), 7);
  EXPECT_EQ(file.number("a.f32"), 0.1);
  EXPECT_EQ(file.flag("a.bool"), true);
  EXPECT_EQ(file.text("a.text"), "text");
  EXPECT_EQ(file.text("a.empty"), "");
  EXPECT_EQ(file.texts("a.texts"), (std::vector<std::string_view>{"x", "yy"}));
  EXPECT_EQ(file.numbers("a.numbers"), (std::vector<float>{1, 2}));
  EXPECT_EQ(file.integers("a.integers"), std::vector<int32_t>{-1});
  ASSERT_EQ(file.tensors().size(), 4u);
  EXPECT_EQ(file.find("half")->shape, (Shape{2, 3, 4}));
  for (const GgufTensor& t : file.tensors()) {
    EXPECT_EQ((t.data.data() - file.tensors()[0].data.data()) % 32, 0) << t.name;
    std::vector<float> row(static_cast<size_t>(t.cols()));
    for (const int64_t r : {int64_t{0}, t.rows() - 1}) {
      dequantise_row(t.type, t.data.data() + r * t.row_bytes(), t.cols(), row.data());
      for (int64_t c = 0; c < t.cols(); ++c) {
        const double want = static_cast<double>(r * t.cols() + c) / 64;
        EXPECT_NEAR(row[static_cast<size_t>(c)], want, 0.005 * want + 0.006) << t.name << " " << r << " " << c;
      }
    }
  }
  const auto infinite = [](int64_t, int64_t, float* out) { *out = INFINITY; };
  const auto large = [](int64_t, int64_t, float* out) { *out = 70000; };
  EXPECT_PRED2(has, error_of([&] {
                 write_gguf(path, meta, {{"t", BlockType::f32, {1}, infinite}});
               }),
               "tensor t has a value");
  EXPECT_PRED2(has, error_of([&] { write_gguf(path, meta, {{"t", BlockType::f16, {1}, large}}); }), "does not fit F16");
  EXPECT_EQ(GgufFile(path).tensors().size(), 4u) << "a failed write leaves the old file";
}

TEST(Gguf, Version2AndAnotherAlignment) {
  GgufBytes file;
  file.version = 2;
  file.u32("general.alignment", 64).floats("t", {4});
  std::string bytes = file.bytes();  // its header is padded to 32 only
  bytes.insert(bytes.size() - 32, (64 - (bytes.size() - 32) % 64) % 64, '\0');
  const GgufFile read(bytes, "g");
  EXPECT_EQ(read.alignment(), 64);
  float values[4];
  dequantise_row(BlockType::f32, read.find("t")->data.data(), 4, values);
  EXPECT_EQ(values[3], 4);
}

TEST(GgufHostile, Header) {
  EXPECT_PRED2(has, error(std::string()), "not a GGUF file");
  EXPECT_PRED2(has, error(std::string("GGML") + raw(3u)), "not a GGUF file");
  EXPECT_PRED2(has, error(std::string("GGUF")), "truncated");
  GgufBytes file;
  for (const uint32_t version : {0u, 1u, 4u}) {
    file.version = version;
    EXPECT_PRED2(has, error(file), "is not supported; supported: 2 and 3");
  }
  file.version = 3u << 24;
  EXPECT_PRED2(has, error(file), "big-endian");
}

// CVE-2024-21836, CVE-2024-23605, CVE-2024-12055, CVE-2025-0315: counts that size an allocation.
TEST(GgufHostile, CountsAreHeldAgainstTheFile) {
  GgufBytes file;
  for (const uint64_t count : {uint64_t{1}, uint64_t{1} << 32, uint64_t{1} << 58, UINT64_MAX}) {
    file = GgufBytes();
    file.tensor_count = count;
    EXPECT_PRED2(has, error(file), "tensors cannot lie in the");
    file = GgufBytes();
    file.value_count = count;
    EXPECT_PRED2(has, error(file), "keys cannot lie in the");
  }
}

// CVE-2024-21825, CVE-2024-32878, CVE-2024-41130: arrays whose length times the element's size overflows or that end
// early.
TEST(GgufHostile, ArraysAreHeldAgainstTheFile) {
  for (const uint64_t count : {uint64_t{100}, uint64_t{1} << 61, (uint64_t{1} << 61) + 1, UINT64_MAX}) {
    EXPECT_PRED2(has, error(GgufBytes().array("a", GgufType::u64, count, "12345678")), "elements of key a cannot lie");
    EXPECT_PRED2(has, error(GgufBytes().array("a", GgufType::text, count, "12345678")), "texts of key a cannot lie");
  }
  EXPECT_PRED2(
      has,
      error(GgufBytes().array("a", GgufType::text, 2, raw_text("one") + raw(uint64_t{1} << 40) + std::string(64, 'x'))),
      "key a has a length of");
  EXPECT_PRED2(has, error(GgufBytes().array("a", GgufType::array, 1, std::string(64, '\0'))), "array of arrays");
  EXPECT_PRED2(has, error(GgufBytes().value("a", GgufType{13}, std::string(64, '\0'))), "value type 13 is not known");
  EXPECT_PRED2(has, error(GgufBytes().array("a", GgufType{99}, 1, std::string(64, '\0'))),
               "value type 99 is not known");
}

// CVE-2024-23496: text lengths, with the terminator's +1 wrapping to zero.
TEST(GgufHostile, TextLengthsAreHeldAgainstTheFile) {
  for (const uint64_t length : {uint64_t{1} << 20, uint64_t{1} << 63, UINT64_MAX - 1, UINT64_MAX}) {
    const std::string broken = raw(length) + std::string(64, 'x');
    EXPECT_PRED2(has, error(GgufBytes().value("a", GgufType::text, broken)), "key a has a length of");
    GgufBytes key;
    key.values = broken;
    key.value_count = 1;
    EXPECT_PRED2(has, error(key), "key 0 has a length of");
    GgufBytes name;
    name.infos = broken;
    name.tensor_count = 1;
    EXPECT_PRED2(has, error(name), "the name of tensor 0 has a length of");
  }
  EXPECT_PRED2(has, error(GgufBytes().u32("", 1)), "expected a name in UTF-8");
  EXPECT_PRED2(has, error(GgufBytes().u32("\xFF", 1)), "expected a name in UTF-8");
  EXPECT_PRED2(has, error(GgufBytes().floats("", {1})), "expected a name in UTF-8");
  EXPECT_PRED2(has, error(GgufBytes().floats(std::string(65, 'n'), {1})), "at most 64 are allowed");
}

// CVE-2024-21802, CVE-2026-33298: axes and extents whose product or byte size overflows.
TEST(GgufHostile, ExtentsAreHeldAgainstTheFile) {
  const auto info = [](const std::vector<uint64_t>& extents, uint32_t type = 0) {
    return error(GgufBytes().info("t", extents, type, 0));
  };
  EXPECT_PRED2(has, info({}), "has 0 axes, expected 1 to 4");
  EXPECT_PRED2(has, info({1, 1, 1, 1, 1}), "has 5 axes");
  GgufBytes many;
  many.infos = raw_text("t") + raw(uint32_t{0xffffffff}) + std::string(64, '\1');
  many.tensor_count = 1;
  EXPECT_PRED2(has, error(many), "has 4294967295 axes");
  EXPECT_PRED2(has, info({0}), "is zero");
  EXPECT_PRED2(has, info({uint64_t{1} << 63}), "extents overflow");
  EXPECT_PRED2(has, info({uint64_t{1} << 32, uint64_t{1} << 32}), "extents overflow");
  EXPECT_PRED2(has, info({uint64_t{1} << 30, uint64_t{1} << 31, 1, 1}), "extents overflow")
      << "2^61 floats are 2^63 bytes";
  // Exabytes of elements whose byte size wraps to a few MB: 2^62 + 2^20 floats.
  EXPECT_PRED2(has, info({(uint64_t{1} << 42) + 1, uint64_t{1} << 20}), "extents overflow");
  EXPECT_PRED2(has, info({1024, 1024, 1024}), "needs 4294967296 bytes at offset 0, the whole file has");
  EXPECT_PRED2(has, info({32 * 1024, 1024}, 8), "needs 35651584 bytes");
  EXPECT_PRED2(has, info({33}, 8), "are not whole Q8_0 blocks of 32");
  EXPECT_PRED2(has, info({128}, 12), "are not whole Q4_K blocks of 256");
  EXPECT_PRED2(has, info({256}, 10), "Q2_K is not supported; supported: F32, F16, BF16, Q8_0");
  EXPECT_PRED2(has, info({256}, 26), "I32 is not supported");
  EXPECT_PRED2(has, info({256}, 77), "type 77 is not supported");
}

// CVE-2025-53630 and its bypass CVE-2026-27940 (sums of sizes), CVE-2026-7482 (offset and size beyond the file).
TEST(GgufHostile, OffsetsAreHeldAgainstTheFile) {
  const auto at = [](uint64_t offset) {
    return error(GgufBytes().floats("a", {8}).floats("b", {8}).info("c", {8}, 0, offset));
  };
  EXPECT_PRED2(has, at(4), "offset 4 is not a multiple of the alignment 32");
  EXPECT_PRED2(has, at(64), "truncated: tensor c ends at byte 96 of the data, the file has 64");
  EXPECT_PRED2(has, at(32), "tensor c overlaps tensor b");
  EXPECT_PRED2(has, at(0), "tensor c overlaps tensor a");
  for (const uint64_t far : {uint64_t{1} << 20, uint64_t{1} << 63, UINT64_MAX - 31})
    EXPECT_PRED2(has, at(far), "tensor c: [8] of F32 needs 32 bytes at offset");
  // Each size is fine alone; their sum wraps.
  GgufBytes sum;
  for (int i = 0; i < 4; ++i) sum.info("t" + std::to_string(i), {uint64_t{1} << 60}, 0, 0);
  EXPECT_PRED2(has, error(sum), "needs 4611686018427387904 bytes");
  EXPECT_PRED2(has, error(GgufBytes().floats("a", {8}).floats("a", {8})), "tensor a occurs twice");
  EXPECT_PRED2(has, error(GgufBytes().u32("a", 1).text("a", "x")), "key a occurs twice");
  GgufBytes no_data;
  no_data.info("t", {1}, 0, 0);
  EXPECT_PRED2(has, error(no_data), "truncated: tensor t ends at byte 4 of the data, the file has 0");
}

// GHSA-vgg9-87g3-85w8: alignments that make the padding wrap.
TEST(GgufHostile, Alignment) {
  for (const uint32_t alignment : {0u, 1u, 4u, 7u, 12u, 48u, 1u << 21, 1u << 31, 0xffffffffu})
    EXPECT_PRED2(has, error(GgufBytes().u32("general.alignment", alignment).floats("t", {4})),
                 "general.alignment: expected a");
  EXPECT_PRED2(has, error(GgufBytes().value("general.alignment", GgufType::u64, raw(uint64_t{32}))), "expected u32");
  EXPECT_PRED2(has, error(GgufBytes().text("general.alignment", "32")), "expected u32");
  EXPECT_PRED2(has, error(GgufBytes().u32("general.alignment", 1 << 20).floats("t", {4})), "the file has 0");
}

TEST(GgufHostile, EveryTruncationIsRefused) {
  const std::string whole =
      GgufBytes().u32("a", 1).texts("b", {"x", "yy"}).floats("t", {4, 2}).floats("u", {8}).bytes();
  GgufFile(whole, "g");
  for (size_t n = 0; n < whole.size(); ++n) {
    const std::string message = error(whole.substr(0, n));
    EXPECT_TRUE(has(message, "truncated") || has(message, "not a GGUF") || has(message, "cannot lie") ||
                has(message, "length") || has(message, "the whole file has"))
        << n << ": " << message;
  }
}

TEST(GgufHostile, RandomDamageNeverCrashes) {
  const std::string good = read_file(testing::golden("gguf/python.gguf"));
  constexpr size_t kDamaged = 6000;  // the header and the first tensors
  const std::string whole =
      GgufBytes().u32("a", 1).texts("b", {"x", "yy"}).floats("t", {4, 2}).floats("u", {8}).bytes();
  int refused = 0;
  for (uint64_t i = 0; i < 4000; ++i) {
    const Random random(i);
    std::string bytes = i % 4 == 0 ? good : whole;
    for (uint64_t k = 0; k < 1 + random.below(0, 4); ++k)
      bytes[random.below(2 * k + 1, std::min(kDamaged, bytes.size()))] = static_cast<char>(random.bits(2 * k + 2));
    try {
      const GgufFile file(bytes, "g");
      for (const GgufTensor& t : file.tensors()) {
        std::vector<float> row(static_cast<size_t>(t.cols()));
        for (int64_t r = 0; r < t.rows(); ++r)
          dequantise_row(t.type, t.data.data() + r * t.row_bytes(), t.cols(), row.data());
      }
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 1000);
  EXPECT_LT(refused, 3500) << "others are read to the last value";
}

}  // namespace
}  // namespace qwerky
