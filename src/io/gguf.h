// SPDX-License-Identifier: MIT
// The GGUF container, versions 2 and 3, little-endian (github.com/ggml-org/ggml, docs/gguf.md): header, metadata,
// tensor infos, aligned data. Read as hostile.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/files.h"
#include "io/gguf_blocks.h"
#include "tensor/tensor.h"

namespace qwerky {

enum class GgufType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, text, array, u64, i64, f64 };
inline constexpr uint32_t kGgufTypes = 13;
inline constexpr int64_t kGgufAlignment = 32;  ///< of tensor data where general.alignment is absent

struct GgufTensor {
  std::string name;
  BlockType type = BlockType::f32;
  Shape shape;            ///< outermost first, the reverse of the file's order
  std::string_view data;  ///< row-major blocks; starts at a multiple of the alignment from the data's begin
  int64_t cols() const { return shape.dim[static_cast<size_t>(shape.rank - 1)]; }
  int64_t rows() const { return shape.count() / cols(); }
  int64_t row_bytes() const { return qwerky::row_bytes(type, cols()); }
};

/// One mapped .gguf file. Checked when opened: magic, version, byte order; counts and lengths against the bytes that
/// are left; types of values and tensors; keys and names (UTF-8, length, unique); extents whose product or byte size
/// overflows; rows that are whole blocks; the alignment (a power of two from 8 to 1 MiB); offsets that are aligned,
/// inside the file and without overlap. Arrays in arrays are refused. Memory is proportional to the number of keys and
/// tensors; values are read where they lie.
class GgufFile {
 public:
  explicit GgufFile(const Path& path);
  /// Parses bytes owned by the caller (fuzzing, tests).
  GgufFile(std::string_view bytes, const std::string& name);

  const std::string& name() const { return name_; }
  size_t size() const { return size_; }  ///< bytes of the file
  uint32_t version() const { return version_; }
  int64_t alignment() const { return alignment_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }  ///< in file order
  const GgufTensor* find(std::string_view name) const;
  std::vector<std::string> keys() const;

  // Metadata. Nothing when the key is absent; a value of another kind, or one outside its range, is an Error naming the
  // key. Integers of any width count as integers, f32 and f64 as numbers.

  bool has(std::string_view key) const { return values_.find(key) != values_.end(); }
  std::optional<int64_t> integer(std::string_view key, int64_t least, int64_t most) const;
  std::optional<double> number(std::string_view key) const;  ///< finite; the shortest decimal that gives a stored f32
  std::optional<bool> flag(std::string_view key) const;
  std::optional<std::string> text(std::string_view key) const;  ///< UTF-8
  std::vector<std::string_view> texts(std::string_view key) const;
  std::vector<int32_t> integers(std::string_view key) const;
  std::vector<float> numbers(std::string_view key) const;

 private:
  struct Value {
    GgufType type = GgufType::u8;  // of the elements of an array
    bool array = false;
    uint64_t count = 1;
    std::string_view bytes;
  };
  void parse(std::string_view bytes);
  void read_values(class GgufCursor& at, uint64_t count);
  void read_tensors(GgufCursor& at, uint64_t count, std::string_view bytes);
  const Value* value(std::string_view key, bool array) const;
  int64_t integer_at(std::string_view key, const Value& value, size_t index) const;
  double number_at(std::string_view key, const Value& value, size_t index) const;
  [[noreturn]] void wrong_type(std::string_view key, const Value& value, const char* expected) const;

  std::unique_ptr<MappedFile> file_;
  std::string name_;
  size_t size_ = 0;
  uint32_t version_ = 0;
  int64_t alignment_ = kGgufAlignment;
  std::map<std::string_view, Value> values_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string_view, size_t> by_name_;
};

/// Whether bytes begin with GGUF's magic number.
bool is_gguf(std::string_view bytes);

}  // namespace qwerky
