// SPDX-License-Identifier: MIT
// Writes small SentencePiece models (protobuf ModelProto) for tests.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace qwerky::testing {

inline std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}
inline std::string number_field(int field, uint64_t value) {
  return varint(static_cast<uint64_t>(field) << 3) + varint(value);
}
inline std::string bytes_field(int field, std::string_view bytes) {
  return varint(static_cast<uint64_t>(field) << 3 | 2) + varint(bytes.size()) + std::string(bytes);
}
inline std::string float_field(int field, float value) {
  std::string bytes(4, '\0');
  std::memcpy(bytes.data(), &value, 4);
  return varint(static_cast<uint64_t>(field) << 3 | 5) + bytes;
}
/// type: 1 normal, 2 unknown, 3 control, 6 byte.
inline std::string piece_field(std::string_view text, float score, int type) {
  return bytes_field(1, bytes_field(1, text) + float_field(2, score) + number_field(3, static_cast<uint64_t>(type)));
}

/// A BPE model with byte fallback: <unk>, <s>, </s>, the bytes, then "▁a" "bc" and the characters "▁" "a" "b" "c".
inline std::string tiny_sentencepiece() {
  std::string out = piece_field("<unk>", 0, 2) + piece_field("<s>", 0, 3) + piece_field("</s>", 0, 3);
  for (int b = 0; b < 256; ++b) {
    char text[8];
    std::snprintf(text, sizeof text, "<0x%02X>", static_cast<unsigned>(b));
    out += piece_field(text, 0, 6);
  }
  out += piece_field(
             "\xE2\x96\x81"
             "a",
             -1, 1) +
         piece_field("bc", -2, 1);                                                                    // 259, 260
  out += piece_field("\xE2\x96\x81", -10, 1) + piece_field("a", -11, 1) + piece_field("b", -12, 1) +  // 261, 262, 263
         piece_field("c", -13, 1);                                                                    // 264
  out += bytes_field(2, number_field(3, 2) + number_field(35, 1));         // BPE, byte_fallback
  out += bytes_field(3, bytes_field(1, "identity") + number_field(4, 0));  // keep spaces
  return out;
}

}  // namespace qwerky::testing
