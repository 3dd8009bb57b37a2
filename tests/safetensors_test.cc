// SPDX-License-Identifier: MIT
#include "io/safetensors.h"

#include <signal.h>
#include <sys/resource.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/random.h"
#include "data.h"
#include "expect_error.h"

namespace qwerky {
namespace {

using testing::has;
using testing::scratch_dir;

std::string file_of(std::string header, std::string_view data) {
  const uint64_t length = header.size();
  std::string bytes(reinterpret_cast<const char*>(&length), 8);
  return bytes + header + std::string(data);
}

std::string error_of(std::string_view bytes) {
  return testing::error_of([&] { SafetensorsFile file(bytes, "t.safetensors"); });
}

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets, size_t data) {
  return file_of(R"({"w":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}",
                 std::string(data, '\1'));
}

TEST(Safetensors, ReadsTensorsInFileOrder) {
  const float values[] = {1.5f, -2.0f, 3.0f};
  std::string data(reinterpret_cast<const char*>(values), 12);
  data += std::string("\x80\x3f\x00\xc0", 4);  // bf16 1.0, -2.0
  const std::string bytes = file_of(
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[2,1],"data_offsets":[12,16]},)"
      R"("z":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},"e":{"dtype":"I64","shape":[0,4],"data_offsets":[16,16]}}   )",
      data);
  const SafetensorsFile file(bytes, "t");
  EXPECT_EQ(file.names(), (std::vector<std::string>{"z", "a", "e"}));
  EXPECT_EQ(file.metadata().at("format"), "pt");
  const Tensor z = file.find("z");
  EXPECT_EQ(z.type, DType::f32);
  EXPECT_EQ(z.shape, Shape({3}));
  EXPECT_EQ(z.as<float>()[1], -2.0f);
  EXPECT_EQ(static_cast<float>(file.find("a").as<bf16>()[1]), -2.0f);
  EXPECT_TRUE(file.find("e"));
  EXPECT_EQ(file.find("e").count(), 0);
  EXPECT_FALSE(file.find("absent"));
  EXPECT_EQ(file.describe(), "t");
}

TEST(Safetensors, EveryTypeAtEveryAlignment) {
  const struct {
    const char* name;
    DType type;
  } types[] = {{"F32", DType::f32}, {"F16", DType::f16}, {"BF16", DType::bf16}, {"F64", DType::f64},
               {"I32", DType::i32}, {"I64", DType::i64}, {"U8", DType::u8}};
  for (const auto& [name, type] : types) {
    const int64_t size = size_of(type);
    for (int64_t shift = 0; shift < 8; ++shift) {
      std::string data(static_cast<size_t>(shift + 2 * size), '\0');
      for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i + 1);
      const std::string bytes = file_of(
          concat(R"({"pad":{"dtype":"U8","shape":[)", shift, R"(],"data_offsets":[0,)", shift, R"(]},"w":{"dtype":")",
                 name, R"(","shape":[2],"data_offsets":[)", shift, ',', shift + 2 * size, "]}}"),
          data);
      const SafetensorsFile file(bytes, "t");
      const Tensor w = file.find("w");
      ASSERT_EQ(w.type, type);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(w.data) % static_cast<uintptr_t>(size), 0u) << name << shift;
      EXPECT_EQ(std::memcmp(w.data, data.data() + shift, static_cast<size_t>(2 * size)), 0) << name << shift;
    }
  }
}

TEST(Safetensors, RefusesBadFrames) {
  EXPECT_PRED2(has, error_of(""), "t.safetensors: not a safetensors file: 0 bytes");
  EXPECT_PRED2(has, error_of("1234567"), "at least 8");
  EXPECT_PRED2(has, error_of(std::string(8, '\xff') + "{}"), "above the limit");
  EXPECT_PRED2(has, error_of(std::string("\x40\0\0\0\0\0\0\0{}", 10)),
               "truncated: the header needs 64 bytes, the file has 2");
  EXPECT_PRED2(has, error_of(file_of(" {}", "")), "begin with '{'");
  EXPECT_PRED2(has, error_of(file_of("", "")), "begin with '{'");
  EXPECT_PRED2(has, error_of(file_of("{", "")), "invalid JSON at byte");
  EXPECT_PRED2(has, error_of(file_of("{} {}", "")), "invalid JSON at byte");
  EXPECT_PRED2(has, error_of(file_of("{}", "x")), "describes 0 bytes of data, the file has 1");
  EXPECT_TRUE(SafetensorsFile(file_of("{}", ""), "t").names().empty());
  std::string deep = "{\"a\":";
  for (int i = 0; i < 1000; ++i) deep += "[";
  EXPECT_PRED2(has, error_of(file_of(deep, "")), "nested more than 64");
}

TEST(Safetensors, RefusesBadEntries) {
  const auto refused = [](const std::string& bytes, const char* why) {
    EXPECT_PRED2(has, error_of(bytes), "t.safetensors: tensor w");
    EXPECT_PRED2(has, error_of(bytes), why);
  };
  EXPECT_NO_THROW(SafetensorsFile(one("\"F32\"", "[1]", "[0,4]", 4), "t"));
  refused(one("\"F8_E4M3\"", "[4]", "[0,4]", 4), "dtype \"F8_E4M3\" is not supported; supported are F32, F16, BF16");
  refused(one("4", "[1]", "[0,4]", 4), "dtype to be a string");
  refused(one("\"F32\"", "1", "[0,4]", 4), "shape to be an array");
  refused(one("\"F32\"", "[-1]", "[0,4]", 4), "non-negative integers, found -1");
  refused(one("\"F32\"", "[1.0]", "[0,4]", 4), "non-negative integers, found 1.0");
  refused(one("\"F32\"", "[18446744073709551615]", "[0,4]", 4), "non-negative integers");
  refused(one("\"F32\"", "[1,1,1,1,1]", "[0,4]", 4), "has 5 axes; at most 4");
  refused(one("\"F32\"", "[4294967296,4294967296]", "[0,4]", 4), "overflow");
  refused(one("\"F32\"", "[0,4294967296,4294967296]", "[0,0]", 0), "overflow");
  refused(one("\"F32\"", "[4611686018427387904]", "[0,0]", 0), "overflow");
  refused(one("\"F32\"", "[2]", "[0,4]", 4), "needs 8 bytes, data_offsets give 4");
  refused(one("\"F32\"", "[1]", "[4,0]", 4), "lie outside the 4 bytes");
  refused(one("\"F32\"", "[2]", "[0,8]", 4), "lie outside the 4 bytes");
  refused(one("\"F32\"", "[1]", "[9223372036854775804,9223372036854775807]", 4), "lie outside");
  refused(one("\"F32\"", "[1]", "[0]", 4), "expected 2 data_offsets, found 1");
  refused(one("\"F32\"", "[1]", "[0,4,8]", 4), "expected 2 data_offsets, found 3");
  refused(one("\"F32\"", "[1]", "[-4,0]", 4), "non-negative");
  refused(one("\"F32\"", "[1]", "[4,8]", 8), "begins at byte 4 of the data, expected 0 (bytes before it");
  EXPECT_PRED2(has, error_of(one("\"F32\"", "[1]", "[0,4]", 6)), "describes 4 bytes of data, the file has 6");
  refused(file_of(R"({"w":[]})", ""), "expected an object, found array");
  refused(file_of(R"({"w":{"shape":[],"data_offsets":[0,4]}})", "1234"), "no \"dtype\"");
  refused(file_of(R"({"w":{"dtype":"F32","data_offsets":[0,4]}})", "1234"), "no \"shape\"");
  refused(file_of(R"({"w":{"dtype":"F32","shape":[]}})", "1234"), "no \"data_offsets\"");
  const std::string entry = R"("w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  EXPECT_PRED2(has, error_of(file_of("{" + entry + "," + entry + "}", "1234")), "\"w\" appears twice");
  EXPECT_PRED2(has,
               error_of(file_of(R"({"v":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)" + entry + "}", "1234")),
               "tensor w: begins at byte 0 of the data, expected 4 (it overlaps another tensor)");
  EXPECT_PRED2(has, error_of(file_of(R"({"__metadata__":{"a":1}})", "")), "expected strings in __metadata__");
  EXPECT_PRED2(has, error_of(file_of(R"({"__metadata__":1})", "")), "expected __metadata__ to be an object");
  EXPECT_PRED2(has, error_of(file_of(R"({"a\u001b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "1234")),
               "control characters");
}

TEST(Safetensors, EveryTruncationOfAWrittenFileIsRefused) {
  const Path dir = scratch_dir("safetensors-cut");
  float data[12] = {1, 2, 3};
  write_safetensors(dir / "f", {{"a", Tensor(data, DType::f32, {3, 4}), DType::f32},
                                {"b", Tensor(data, DType::f32, {2}), DType::bf16}});
  const std::string whole = read_file(dir / "f");
  EXPECT_NO_THROW(SafetensorsFile(whole, "t"));
  for (size_t n = 0; n < whole.size(); ++n) EXPECT_THROW(SafetensorsFile(whole.substr(0, n), "t"), Error) << n;
  EXPECT_THROW(SafetensorsFile(whole + "x", "t"), Error);
}

TEST(Safetensors, WritesWhatItReads) {
  const Path dir = scratch_dir("safetensors-round");
  const Random random(1);
  const int64_t n = (1 << 20) + 4;  // more than one conversion slice
  std::vector<float> f(static_cast<size_t>(n));
  for (size_t i = 0; i < f.size(); ++i) f[i] = static_cast<float>(random.normal(i));
  double d[2] = {0.1, -1e300};
  int64_t ids[3] = {1, -2, INT64_MAX};
  uint8_t bytes[3] = {0, 127, 255};
  uint16_t half[2] = {0x3c00, 0xc000};
  const std::vector<NamedTensor> tensors = {
      {"bytes", Tensor(bytes, DType::u8, {3}), DType::u8},  // leaves what follows unaligned
      {"low", Tensor(f.data(), DType::f32, {n / 5, 1, 5}), DType::bf16},
      {"same \"quoted\" é", Tensor(f.data(), DType::f32, {n}), DType::f32},
      {"wide", Tensor(d, DType::f64, {2}), DType::f64},
      {"narrow", Tensor(d, DType::f64, {1}), DType::f32},
      {"ids", Tensor(ids, DType::i64, {3}), DType::i64},
      {"half", Tensor(half, DType::f16, {2}), DType::f16},
      {"scalar", Tensor(d, DType::f64, {}), DType::f64},
      {"none", Tensor(d, DType::f64, {0, 3}), DType::f64},
  };
  write_safetensors(dir / "f", tensors, {{"format", "pt"}, {"k", "v\n"}});
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir), {}), 1);
  uint64_t header = 0;
  std::memcpy(&header, read_file(dir / "f").data(), 8);
  EXPECT_EQ((8 + header) % 64, 0u);

  const SafetensorsFile file(dir / "f");
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}, {"k", "v\n"}}));
  std::vector<std::string> names;
  for (const NamedTensor& t : tensors) {
    names.push_back(t.name);
    const Tensor read = file.find(t.name);
    ASSERT_TRUE(read) << t.name;
    EXPECT_EQ(read.type, t.store_as);
    EXPECT_EQ(read.shape, t.tensor.shape);
    if (t.tensor.type == t.store_as) {
      EXPECT_EQ(std::memcmp(read.data, t.tensor.data, static_cast<size_t>(read.bytes())), 0) << t.name;
    }
  }
  EXPECT_EQ(file.names(), names);
  const Tensor low = file.find("low");
  for (int64_t i = 0; i < n; ++i) ASSERT_EQ(low.as<bf16>()[i].bits, bf16(f[static_cast<size_t>(i)]).bits) << i;
  EXPECT_EQ(*file.find("narrow").as<float>(), 0.1f);
}

TEST(Safetensors, RoundsToNearestEven) {
  const Path dir = scratch_dir("safetensors-round-even");
  float f[] = {1.0f, 1.00390625f /* half way, even below */, 1.01171875f /* half way, even above */, 1.00390637f,
               -0.0f};
  write_safetensors(dir / "f", {{"w", Tensor(f, DType::f32, {5}), DType::bf16}});
  const SafetensorsFile file(dir / "f");
  const bf16* w = file.find("w").as<bf16>();
  EXPECT_EQ(static_cast<float>(w[0]), 1.0f);
  EXPECT_EQ(static_cast<float>(w[1]), 1.0f);
  EXPECT_EQ(static_cast<float>(w[2]), 1.015625f);
  EXPECT_EQ(static_cast<float>(w[3]), 1.0078125f);
  EXPECT_TRUE(std::signbit(static_cast<float>(w[4])));
}

TEST(Safetensors, FullDiskLeavesTheOldFile) {
  const Path dir = scratch_dir("safetensors-full");
  std::vector<float> f(100'000);
  const Tensor t(f.data(), DType::f32, {100'000});
  write_safetensors(dir / "f", {{"small", t.rows(0, 4), DType::f32}});
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit limit{10'000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &limit);
  EXPECT_THROW(write_safetensors(dir / "f", {{"large", t, DType::bf16}}), Error);
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  EXPECT_TRUE(SafetensorsFile(dir / "f").find("small"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir), {}), 1);
}

TEST(Safetensors, ReadsAPublishedFile) {
  const Path path = testing::shared_data("models/random-llama-800K/model.safetensors");
  NEEDS_DATA(path);
  const SafetensorsFile file(path);
  EXPECT_EQ(file.names().size(), 39u);
  EXPECT_EQ(file.find("model.layers.3.mlp.down_proj.weight").shape, Shape({128, 344}));
  int64_t total = 0;
  for (const std::string& name : file.names()) total += file.find(name).count();
  EXPECT_EQ(total, 16 * 128 * 2 + 128 + 4 * (4 * 128 * 128 + 3 * 128 * 344 + 2 * 128));
}

}  // namespace
}  // namespace qwerky
