// SPDX-License-Identifier: MIT
// GGUF's tensor types: rows of blocks that share a scale. Layouts as in ggml's ggml-common.h; all little-endian.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace qwerky {

enum class BlockType : uint8_t { f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k };
inline constexpr int kBlockTypes = 11;

struct BlockFormat {
  const char* name;  ///< as llama.cpp prints it: "Q8_0"
  uint32_t id;       ///< ggml_type in the file
  int64_t elements;  ///< of one block; a row is a whole number of blocks
  int64_t bytes;     ///< of one block
  int group;         ///< elements that share a scale and a minimum; 0 for plain floats
};
const BlockFormat& format_of(BlockType type);
/// The type with this ggml_type; nothing when it is not supported.
std::optional<BlockType> block_type(uint32_t id);
/// "Q2_K" for a type that is known but not supported, "type 99" for one that is not known.
std::string ggml_type_name(uint32_t id);
/// "F32, F16, …", for messages.
std::string supported_block_types();

/// Bytes of a row of `cols` elements; `cols` must be a multiple of the block's elements.
int64_t row_bytes(BlockType type, int64_t cols);

/// One row as f32: exactly the values of llama.cpp's own dequantisation. `row` need not be aligned.
void dequantise_row(BlockType type, const char* row, int64_t cols, float* out);

/// One group of a quantised row as integers: w_j = scale · q_j + minimum, exact in f32 for every type but Q6_K, whose
/// product and Q4_K, Q5_K, Q4_1, Q5_1, whose sum is rounded once, as in dequantise_row.
///
///   type   group  q           scale              minimum
///   Q8_0   32     -127 … 127  d                  0
///   Q4_0   32     0 … 15      d                  -8 d
///   Q4_1   32     0 … 15      d                  m
///   Q5_0   32     0 … 31      d                  -16 d
///   Q5_1   32     0 … 31      d                  m
///   Q4_K   32     0 … 15      d · sc (6 bits)    -dmin · mn (6 bits)
///   Q5_K   32     0 … 31      d · sc             -dmin · mn
///   Q6_K   16     -32 … 31    d · sc (signed 8)  0
///
/// with d, m, dmin of f16. (Q8_0 files may hold -128, too.)
struct QuantGroup {
  int8_t q[32];
  float scale = 0, minimum = 0;
};
QuantGroup decode_group(BlockType type, const char* row, int64_t group);

/// Writes one row of f32 values as F32, F16, BF16, Q8_0 or Q4_0 (any other type: CHECK), rounding as llama.cpp's
/// reference quantisation does. `out` holds row_bytes(). False when a value is not finite or lies outside the type's
/// range, the row then being unusable.
bool quantise_row(BlockType type, const float* row, int64_t cols, char* out);

}  // namespace qwerky
