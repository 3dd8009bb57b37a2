// SPDX-License-Identifier: MIT
#include "io/gguf_blocks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "tensor/tensor.h"

namespace qwerky {
namespace {

constexpr std::array<BlockFormat, kBlockTypes> kFormats{{
    {"F32", 0, 1, 4, 0},
    {"F16", 1, 1, 2, 0},
    {"BF16", 30, 1, 2, 0},
    {"Q8_0", 8, 32, 34, 32},
    {"Q4_0", 2, 32, 18, 32},
    {"Q4_1", 3, 32, 20, 32},
    {"Q5_0", 6, 32, 22, 32},
    {"Q5_1", 7, 32, 24, 32},
    {"Q4_K", 12, 256, 144, 32},
    {"Q5_K", 13, 256, 176, 32},
    {"Q6_K", 14, 256, 210, 16},
}};

float load_f16(const char* at) {
  f16 value;
  std::memcpy(&value.bits, at, 2);
  return static_cast<float>(value);
}

/// Round to nearest even; a finite value beyond the range becomes infinity.
uint16_t to_f16(float value) { return f16(value).bits; }

uint8_t byte_at(const char* at, int64_t i) { return static_cast<uint8_t>(at[i]); }

/// Scale and minimum (6 bits each) of sub-block j of a Q4_K or Q5_K block. Twelve bytes hold eight pairs: bytes 0-3 and
/// 4-7 give the first four of each in their low six bits; their top two bits complete the nibbles of bytes 8-11.
void k_scales(const char* packed, int64_t j, int& scale, int& minimum) {
  if (j < 4) {
    scale = byte_at(packed, j) & 63;
    minimum = byte_at(packed, j + 4) & 63;
  } else {
    scale = (byte_at(packed, j + 4) & 15) | ((byte_at(packed, j - 4) >> 6) << 4);
    minimum = (byte_at(packed, j + 4) >> 4) | ((byte_at(packed, j) >> 6) << 4);
  }
}

/// Codes of 16 bytes: low nibbles first, then high nibbles.
void nibbles(const char* packed, int8_t* q) {
  for (int i = 0; i < 16; ++i) {
    q[i] = static_cast<int8_t>(byte_at(packed, i) & 15);
    q[i + 16] = static_cast<int8_t>(byte_at(packed, i) >> 4);
  }
}

/// Adds bit i of a little-endian word as the fifth bit of code i.
void fifth_bits(const char* packed, int8_t* q) {
  uint32_t bits;
  std::memcpy(&bits, packed, 4);
  for (int i = 0; i < 32; ++i) q[i] = static_cast<int8_t>(q[i] | (((bits >> i) & 1u) << 4));
}

/// Group j of a block of 256 in Q4_K (d, dmin, 12 bytes of scales, 128 of nibbles) or Q5_K (32 bytes of fifth bits
/// before the nibbles). Two groups share 32 bytes of nibbles, low and high; group j has bit j of the fifth bits.
QuantGroup decode_k(const char* block, int64_t j, bool five) {
  QuantGroup g;
  int scale = 0, minimum = 0;
  k_scales(block + 4, j, scale, minimum);
  g.scale = load_f16(block) * static_cast<float>(scale);
  g.minimum = -(load_f16(block + 2) * static_cast<float>(minimum));
  const char* fifth = block + 16;
  const char* packed = block + (five ? 48 : 16) + 32 * (j / 2);
  for (int i = 0; i < 32; ++i) {
    int q = (byte_at(packed, i) >> (4 * (j % 2))) & 15;
    if (five) q |= ((byte_at(fifth, i) >> j) & 1) << 4;
    g.q[i] = static_cast<int8_t>(q);
  }
  return g;
}

/// Group j (16 elements) of a Q6_K block: 128 bytes of low nibbles, 64 of upper bit pairs, 16 scales, d. Each half of
/// the block (128 elements) is four runs of 32: runs 0 and 1 take the low nibbles of its 64 bytes, runs 2 and 3 the
/// high ones; all four take bit pair `run` of its 32 upper bytes.
QuantGroup decode_q6(const char* block, int64_t j) {
  QuantGroup g;
  g.scale = load_f16(block + 208) * static_cast<float>(static_cast<int8_t>(block[192 + j]));
  const int64_t half = j / 8, run = j / 2 % 4, from = j % 2 * 16;
  const char* low = block + 64 * half + 32 * (run % 2) + from;
  const char* high = block + 128 + 32 * half + from;
  for (int i = 0; i < 16; ++i) {
    const int nibble = (byte_at(low, i) >> (4 * (run / 2))) & 15, upper = (byte_at(high, i) >> (2 * run)) & 3;
    g.q[i] = static_cast<int8_t>((nibble | (upper << 4)) - 32);
  }
  return g;
}

bool store_f16(const float* row, int64_t cols, char* out) {
  bool fits = true;
  for (int64_t i = 0; i < cols; ++i) {
    const uint16_t bits = to_f16(row[i]);
    fits = fits && (bits & 0x7c00u) != 0x7c00u;
    std::memcpy(out + 2 * i, &bits, 2);
  }
  return fits;
}

bool store_bf16(const float* row, int64_t cols, char* out) {
  bool fits = true;
  for (int64_t i = 0; i < cols; ++i) {
    const bf16 value(row[i]);
    fits = fits && (value.bits & 0x7f80u) != 0x7f80u;
    std::memcpy(out + 2 * i, &value.bits, 2);
  }
  return fits;
}

bool store_f32(const float* row, int64_t cols, char* out) {
  std::memcpy(out, row, static_cast<size_t>(4 * cols));
  return std::all_of(row, row + cols, [](float x) { return std::isfinite(x); });
}

/// 1 / d; 0 where it would overflow, for such a d is 0 as f16 and the codes do not matter.
float inverse_of(float d) { return std::abs(d) >= std::numeric_limits<float>::min() ? 1 / d : 0; }

/// d = max |x| / 127 as f16, codes by the unrounded d.
bool store_q8_0(const float* x, char* out) {
  float largest = 0;
  for (int i = 0; i < 32; ++i) {
    if (!std::isfinite(x[i])) return false;
    largest = std::max(largest, std::abs(x[i]));
  }
  const float d = largest / 127, inverse = inverse_of(d);
  const uint16_t bits = to_f16(d);
  std::memcpy(out, &bits, 2);
  for (int i = 0; i < 32; ++i) out[2 + i] = static_cast<char>(static_cast<int8_t>(std::round(x[i] * inverse)));
  return (bits & 0x7c00u) != 0x7c00u;
}

/// d = x / -8 of the x of largest magnitude, so that it gets the code -8 + 8 = 0; the others round to 0 … 15.
bool store_q4_0(const float* x, char* out) {
  float extreme = 0;
  for (int i = 0; i < 32; ++i) {
    if (!std::isfinite(x[i])) return false;
    if (std::abs(x[i]) > std::abs(extreme)) extreme = x[i];
  }
  const float d = extreme / -8, inverse = inverse_of(d);
  const uint16_t bits = to_f16(d);
  std::memcpy(out, &bits, 2);
  const auto code = [&](float v) { return std::min(15, static_cast<int>(v * inverse + 8.5f)); };
  for (int i = 0; i < 16; ++i) out[2 + i] = static_cast<char>(code(x[i]) | (code(x[i + 16]) << 4));
  return (bits & 0x7c00u) != 0x7c00u;
}

}  // namespace

const BlockFormat& format_of(BlockType type) { return kFormats[static_cast<size_t>(type)]; }

std::optional<BlockType> block_type(uint32_t id) {
  for (size_t i = 0; i < kFormats.size(); ++i)
    if (kFormats[i].id == id) return static_cast<BlockType>(i);
  return std::nullopt;
}

std::string ggml_type_name(uint32_t id) {
  if (const auto type = block_type(id)) return format_of(*type).name;
  // ggml.h; ids that are not here were withdrawn or never given.
  static constexpr struct {
    uint32_t id;
    const char* name;
  } kOthers[] = {{9, "Q8_1"},     {10, "Q2_K"},  {11, "Q3_K"},   {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"},
                 {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"}, {22, "IQ2_S"},   {23, "IQ4_XS"},
                 {24, "I8"},      {25, "I16"},   {26, "I32"},    {27, "I64"},   {28, "F64"},     {29, "IQ1_M"},
                 {34, "TQ1_0"},   {35, "TQ2_0"}, {39, "MXFP4"}};
  for (const auto& other : kOthers)
    if (other.id == id) return other.name;
  return concat("type ", id);
}

std::string supported_block_types() {
  std::string all;
  for (const BlockFormat& f : kFormats) all += (all.empty() ? "" : ", ") + std::string(f.name);
  return all;
}

int64_t row_bytes(BlockType type, int64_t cols) {
  const BlockFormat& f = format_of(type);
  CHECK(cols % f.elements == 0, "row of ", cols, " as ", f.name);
  return cols / f.elements * f.bytes;
}

QuantGroup decode_group(BlockType type, const char* row, int64_t group) {
  const BlockFormat& f = format_of(type);
  const int64_t per_block = f.elements / f.group;
  const char* block = row + group / per_block * f.bytes;
  QuantGroup g;
  switch (type) {
    case BlockType::q8_0:
      g.scale = load_f16(block);
      std::memcpy(g.q, block + 2, 32);
      return g;
    case BlockType::q4_0:
      nibbles(block + 2, g.q);
      g.scale = load_f16(block);
      g.minimum = -8 * g.scale;
      return g;
    case BlockType::q4_1:
      nibbles(block + 4, g.q);
      g.scale = load_f16(block);
      g.minimum = load_f16(block + 2);
      return g;
    case BlockType::q5_0:
      nibbles(block + 6, g.q);
      fifth_bits(block + 2, g.q);
      g.scale = load_f16(block);
      g.minimum = -16 * g.scale;
      return g;
    case BlockType::q5_1:
      nibbles(block + 8, g.q);
      fifth_bits(block + 4, g.q);
      g.scale = load_f16(block);
      g.minimum = load_f16(block + 2);
      return g;
    case BlockType::q4_k: return decode_k(block, group % per_block, false);
    case BlockType::q5_k: return decode_k(block, group % per_block, true);
    case BlockType::q6_k: return decode_q6(block, group % per_block);
    default: CHECK(false, "no groups in ", f.name);
  }
}

void dequantise_row(BlockType type, const char* row, int64_t cols, float* out) {
  const BlockFormat& f = format_of(type);
  CHECK(cols % f.elements == 0, "row of ", cols, " as ", f.name);
  switch (type) {
    case BlockType::f32: std::memcpy(out, row, static_cast<size_t>(4 * cols)); return;
    case BlockType::f16:
      for (int64_t i = 0; i < cols; ++i) out[i] = load_f16(row + 2 * i);
      return;
    case BlockType::bf16:
      for (int64_t i = 0; i < cols; ++i) {
        bf16 value;
        std::memcpy(&value.bits, row + 2 * i, 2);
        out[i] = static_cast<float>(value);
      }
      return;
    default:
      for (int64_t at = 0; at < cols; at += f.group) {
        const QuantGroup g = decode_group(type, row, at / f.group);
        for (int i = 0; i < f.group; ++i) out[at + i] = g.scale * static_cast<float>(g.q[i]) + g.minimum;
      }
  }
}

bool quantise_row(BlockType type, const float* row, int64_t cols, char* out) {
  const BlockFormat& f = format_of(type);
  CHECK(cols % f.elements == 0, "row of ", cols, " as ", f.name);
  bool fits = true;
  switch (type) {
    case BlockType::f32: return store_f32(row, cols, out);
    case BlockType::f16: return store_f16(row, cols, out);
    case BlockType::bf16: return store_bf16(row, cols, out);
    case BlockType::q8_0:
      for (int64_t i = 0; i < cols / 32; ++i) fits = store_q8_0(row + 32 * i, out + 34 * i) && fits;
      return fits;
    case BlockType::q4_0:
      for (int64_t i = 0; i < cols / 32; ++i) fits = store_q4_0(row + 32 * i, out + 18 * i) && fits;
      return fits;
    default: CHECK(false, "cannot write ", f.name);
  }
}

}  // namespace qwerky
