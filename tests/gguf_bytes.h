// SPDX-License-Identifier: MIT
// Builds GGUF files byte by byte, sound or broken.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "io/gguf.h"

namespace qwerky::testing {

template <class T>
std::string raw(T value) {
  std::string out(sizeof value, '\0');
  std::memcpy(out.data(), &value, sizeof value);
  return out;
}
inline std::string raw_text(std::string_view text) { return raw(uint64_t{text.size()}) + std::string(text); }

struct GgufBytes {
  uint32_t version = 3;
  uint64_t value_count = 0, tensor_count = 0;
  std::string values, infos, data;

  GgufBytes& value(std::string_view key, GgufType type, std::string bytes) {
    values += raw_text(key) + raw(static_cast<uint32_t>(type)) + bytes;
    ++value_count;
    return *this;
  }
  GgufBytes& text(std::string_view key, std::string_view value) {
    return this->value(key, GgufType::text, raw_text(value));
  }
  GgufBytes& u32(std::string_view key, uint32_t value) { return this->value(key, GgufType::u32, raw(value)); }
  GgufBytes& f32(std::string_view key, float value) { return this->value(key, GgufType::f32, raw(value)); }
  GgufBytes& array(std::string_view key, GgufType type, uint64_t count, const std::string& elements) {
    return value(key, GgufType::array, raw(static_cast<uint32_t>(type)) + raw(count) + elements);
  }
  GgufBytes& texts(std::string_view key, const std::vector<std::string>& all) {
    std::string elements;
    for (const std::string& v : all) elements += raw_text(v);
    return array(key, GgufType::text, all.size(), elements);
  }
  template <class T>
  GgufBytes& numbers(std::string_view key, GgufType type, const std::vector<T>& all) {
    std::string elements;
    for (const T v : all) elements += raw(v);
    return array(key, type, all.size(), elements);
  }
  /// A tensor info alone; extents innermost first, as in the file.
  GgufBytes& info(std::string_view name, const std::vector<uint64_t>& extents, uint32_t type, uint64_t offset) {
    infos += raw_text(name) + raw(static_cast<uint32_t>(extents.size()));
    for (const uint64_t n : extents) infos += raw(n);
    infos += raw(type) + raw(offset);
    ++tensor_count;
    return *this;
  }
  /// A tensor with its data.
  GgufBytes& tensor(std::string_view name, const std::vector<uint64_t>& extents, BlockType type, std::string bytes) {
    info(name, extents, format_of(type).id, data.size());
    data += bytes;
    data.append((32 - data.size() % 32) % 32, '\0');
    return *this;
  }
  GgufBytes& floats(std::string_view name, const std::vector<uint64_t>& extents, float first = 1, float step = 1) {
    uint64_t n = 1;
    for (const uint64_t e : extents) n *= e;
    std::string bytes;
    for (uint64_t i = 0; i < n; ++i) bytes += raw(first + step * static_cast<float>(i));
    return tensor(name, extents, BlockType::f32, bytes);
  }

  std::string bytes() const {
    std::string out = "GGUF" + raw(version) + raw(tensor_count) + raw(value_count) + values + infos;
    out.append((32 - out.size() % 32) % 32, '\0');
    return out + data;
  }
};

}  // namespace qwerky::testing
