// SPDX-License-Identifier: MIT
// Writes GGUF version 3.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/gguf.h"

namespace qwerky {

/// Keys and values, in the order they were added.
class GgufMetadata {
 public:
  void add(std::string_view key, uint32_t value);
  void add(std::string_view key, float value);
  void add(std::string_view key, bool value);
  void add(std::string_view key, std::string_view value);
  void add(std::string_view key, const char* value) { add(key, std::string_view(value)); }
  void add(std::string_view key, const std::vector<std::string>& values);
  void add(std::string_view key, const std::vector<float>& values);
  void add(std::string_view key, const std::vector<int32_t>& values);

  uint64_t count() const { return count_; }
  const std::string& bytes() const { return bytes_; }

 private:
  void key(std::string_view name, GgufType type);
  void array(std::string_view name, GgufType type, size_t count);
  std::string bytes_;
  uint64_t count_ = 0;
};

struct GgufOut {
  std::string name;
  BlockType type = BlockType::f32;
  Shape shape;  ///< outermost first
  /// Writes rows [first, first + n) of the last axis as f32 into out.
  std::function<void(int64_t first, int64_t n, float* out)> rows;
  /// Called when all rows are written; may be null.
  std::function<void()> done = nullptr;
};

/// Writes one file atomically. Throws Error naming the tensor when a value is not finite or outside its type's range.
void write_gguf(const Path& path, const GgufMetadata& metadata, const std::vector<GgufOut>& tensors);

}  // namespace qwerky
