// SPDX-License-Identifier: MIT
// Block formats against values that Python's gguf package computed (tests/golden/gguf, tools/make_golden_gguf.py).
#include "io/gguf_blocks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "base/random.h"
#include "data.h"
#include "io/gguf.h"

namespace qwerky {
namespace {

class Golden : public ::testing::Test {
 protected:
  const GgufFile file{testing::golden("gguf/python.gguf")};

  std::vector<float> values(const std::string& name) const {
    const GgufTensor* t = file.find(name);
    EXPECT_NE(t, nullptr) << name;
    std::vector<float> all(static_cast<size_t>(t->shape.count()));
    for (int64_t r = 0; r < t->rows(); ++r)
      dequantise_row(t->type, t->data.data() + r * t->row_bytes(), t->cols(), all.data() + r * t->cols());
    return all;
  }
};

TEST_F(Golden, EveryTypeGivesThePackagesValues) {
  int types = 0;
  for (const char* name : {"bf16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"}) {
    const std::vector<float> got = values(name), want = values(name + std::string(".expected"));
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i], want[i]) << name << " element " << i;
    ++types;
  }
  EXPECT_EQ(types, 9);
}

TEST_F(Golden, GroupsGiveTheSameValuesAndEveryCodeOccurs) {
  for (const char* name : {"Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"}) {
    const GgufTensor& t = *file.find(name);
    const std::vector<float> want = values(name);
    const int group = format_of(t.type).group;
    std::set<int> codes;
    for (int64_t r = 0; r < t.rows(); ++r)
      for (int64_t g = 0; g < t.cols() / group; ++g) {
        const QuantGroup q = decode_group(t.type, t.data.data() + r * t.row_bytes(), g);
        for (int i = 0; i < group; ++i) {
          codes.insert(q.q[i]);
          ASSERT_EQ(q.scale * static_cast<float>(q.q[i]) + q.minimum,
                    want[static_cast<size_t>(r * t.cols() + g * group + i)])
              << name << " group " << g << " element " << i;
        }
      }
    const int bits = name[1] - '0';
    const int least = bits < 6 ? 0 : -(1 << (bits - 1));
    EXPECT_GE(*codes.begin(), least) << name;
    EXPECT_LE(*codes.rbegin(), least + (1 << bits) - 1) << name;
    EXPECT_GE(codes.size(), bits == 8 ? 200u : 1u << bits) << name;
  }
}

TEST_F(Golden, WritesThePackagesBytes) {
  const std::vector<float> source = values("values");
  for (const char* name : {"F16", "BF16", "Q8_0", "Q4_0"}) {
    const GgufTensor& want = *file.find(std::string("values.") + name);
    std::string got(static_cast<size_t>(want.row_bytes()), '\0');
    for (int64_t r = 0; r < 2; ++r) {
      EXPECT_TRUE(quantise_row(want.type, source.data() + 64 * r, 64, got.data()));
      EXPECT_EQ(got, want.data.substr(static_cast<size_t>(r * want.row_bytes()), got.size())) << name << " row " << r;
    }
  }
}

TEST(Blocks, F16RoundsToNearestEvenEverywhere) {
  // Every binary16, and the points between it and its neighbour.
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const auto stored = [](uint32_t b) {
      const auto half = static_cast<uint16_t>(b);
      float value = 0;
      dequantise_row(BlockType::f16, reinterpret_cast<const char*>(&half), 1, &value);
      return value;
    };
    const auto rounded = [](float value, bool fits = true) {
      uint16_t half = 0;
      EXPECT_EQ(quantise_row(BlockType::f16, &value, 1, reinterpret_cast<char*>(&half)), fits) << value;
      return half;
    };
    const float low = stored(bits), high = bits == 0x7bff ? 65536.0f : stored(bits + 1);
    ASSERT_EQ(rounded(low), bits);
    ASSERT_EQ(rounded(-low), bits | 0x8000);
    const float middle = (low + high) / 2;
    ASSERT_EQ(rounded(std::nextafter(middle, 0.0f)), bits);
    ASSERT_EQ(rounded(middle, bits != 0x7bff), bits + (bits & 1));
    ASSERT_EQ(rounded(std::nextafter(middle, 1e9f), bits != 0x7bff), bits + 1);
  }
}

TEST(Blocks, QuantisedRowsAreAsCloseAsTheirScaleAllows) {
  constexpr int64_t kCols = 96;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const Random random(seed);
    std::vector<float> row(kCols), back(kCols);
    const float size = std::exp2(static_cast<float>(static_cast<int>(random.below(9999, 24)) - 14));
    for (size_t i = 0; i < row.size(); ++i) row[i] = size * static_cast<float>(random.normal(i));
    for (const BlockType type : {BlockType::q8_0, BlockType::q4_0}) {
      std::string bytes(static_cast<size_t>(row_bytes(type, kCols)), '\0');
      ASSERT_TRUE(quantise_row(type, row.data(), kCols, bytes.data()));
      dequantise_row(type, bytes.data(), kCols, back.data());
      for (size_t i = 0; i < row.size(); ++i) {
        const float scale = std::abs(decode_group(type, bytes.data(), static_cast<int64_t>(i) / 32).scale);
        // Half a step; Q4_0's far end is a step away (codes reach 7 on that side, 8 on the other). f16 rounds the
        // scale.
        const float most = type == BlockType::q8_0 ? 0.5f + 127 * 0x1p-11f : 1 + 8 * 0x1p-11f;
        ASSERT_LE(std::abs(row[i] - back[i]), most * scale + 0x1p-24f * 127) << format_of(type).name << " " << i;
      }
    }
  }
}

TEST(Blocks, ExtremesAreWrittenOrRefused) {
  std::vector<float> row(32, 0), back(32, 1);
  char bytes[34];
  for (const BlockType type : {BlockType::q8_0, BlockType::q4_0}) {
    EXPECT_TRUE(quantise_row(type, row.data(), 32, bytes));
    dequantise_row(type, bytes, 32, back.data());
    EXPECT_EQ(back, row) << "all zero";
    for (const float tiny : {1e-45f, 1e-39f, 1e-30f}) {
      row[3] = tiny;
      EXPECT_TRUE(quantise_row(type, row.data(), 32, bytes));
      dequantise_row(type, bytes, 32, back.data());
      EXPECT_EQ(back[3], 0) << "below the smallest scale";
    }
    for (const float wrong : {INFINITY, -INFINITY, std::nanf(""), 3e38f, -1e8f}) {
      row[3] = wrong;
      EXPECT_FALSE(quantise_row(type, row.data(), 32, bytes)) << wrong;
    }
    row[3] = 0;
  }
}

TEST(Blocks, TypesByTheirNumbers) {
  EXPECT_EQ(block_type(12), BlockType::q4_k);
  EXPECT_EQ(block_type(30), BlockType::bf16);
  EXPECT_EQ(block_type(4), std::nullopt);
  EXPECT_EQ(ggml_type_name(12), "Q4_K");
  EXPECT_EQ(ggml_type_name(10), "Q2_K");
  EXPECT_EQ(ggml_type_name(4), "type 4");
  EXPECT_EQ(row_bytes(BlockType::q6_k, 512), 420);
}

}  // namespace
}  // namespace qwerky
