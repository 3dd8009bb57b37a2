// SPDX-License-Identifier: MIT
#include "io/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "io/tokenizer_utf8.h"

namespace qwerky {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kMagic = "GGUF";
// Limits of the format's description, and one for the alignment, which it leaves open.
constexpr uint64_t kLongestKey = 65535, kLongestName = 64;
constexpr int64_t kLeastAlignment = 8, kMostAlignment = 1 << 20;
// The smallest key with its value, and the smallest tensor info: no count may ask for more than the bytes that are
// left.
constexpr uint64_t kLeastValueBytes = 8 + 1 + 4 + 1, kLeastTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

constexpr std::array<uint8_t, kGgufTypes> kTypeBytes{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
constexpr std::array<const char*, kGgufTypes> kTypeNames{"u8",   "i8",   "u16",   "i16", "u32", "i32", "f32",
                                                         "bool", "text", "array", "u64", "i64", "f64"};

const char* name_of(GgufType type) { return kTypeNames[static_cast<size_t>(type)]; }
uint64_t bytes_of(GgufType type) { return kTypeBytes[static_cast<size_t>(type)]; }

/// Short and printable whatever the file holds.
std::string shown(std::string_view text) {
  std::string safe(text.substr(0, 80));
  for (char& c : safe)
    if (c < 0x20 || c > 0x7e) c = '?';
  return text.size() > 80 ? safe + "..." : safe;
}

}  // namespace

/// Reads forward through the bytes; every read is checked against what is left.
class GgufCursor {
 public:
  GgufCursor(std::string_view bytes, const std::string& name) : bytes_(bytes), name_(name) {}
  uint64_t left() const { return bytes_.size() - at_; }
  size_t offset() const { return at_; }
  std::string_view since(size_t begin) const { return bytes_.substr(begin, at_ - begin); }

  std::string_view take(uint64_t n, const std::string& what) {
    if (n > left())
      fail(name_, ": truncated: ", what, " needs ", n, " bytes at byte ", at_, ", the file has ", left(), " left");
    const std::string_view taken = bytes_.substr(at_, n);
    at_ += n;
    return taken;
  }
  template <class T>
  T read(const std::string& what) {
    T value;
    std::memcpy(&value, take(sizeof value, what).data(), sizeof value);
    return value;
  }
  std::string_view text(uint64_t longest, const std::string& what) {
    const auto length = read<uint64_t>(what);
    if (length > longest)
      fail(name_, ": ", what, " has a length of ", length, " bytes, at most ", longest, " are allowed");
    return take(length, what);
  }
  /// `count` things of at least `least` bytes each must fit in what is left.
  void expect_room(uint64_t count, uint64_t least, const std::string& what) const {
    if (count > left() / least)
      fail(name_, ": ", count, " ", what, " cannot lie in the ", left(), " bytes that are left of the file");
  }

 private:
  std::string_view bytes_;
  const std::string& name_;
  size_t at_ = 0;
};

bool is_gguf(std::string_view bytes) { return bytes.starts_with(kMagic); }

GgufFile::GgufFile(const Path& path) : file_(std::make_unique<MappedFile>(path)), name_(path.string()) {
  parse(file_->bytes());
}

GgufFile::GgufFile(std::string_view bytes, const std::string& name) : name_(name) { parse(bytes); }

void GgufFile::parse(std::string_view bytes) {
  if (!is_gguf(bytes)) fail(name_, ": not a GGUF file: it does not begin with \"GGUF\"");
  size_ = bytes.size();
  GgufCursor at(bytes, name_);
  at.take(kMagic.size(), "the magic number");
  version_ = at.read<uint32_t>("the version");
  if (version_ != 0 && (version_ & 0xffff) == 0)
    fail(name_, ": big-endian GGUF is not supported; convert it with gguf-py's gguf_convert_endian.py");
  if (version_ != 2 && version_ != 3) fail(name_, ": GGUF version ", version_, " is not supported; supported: 2 and 3");
  const auto tensor_count = at.read<uint64_t>("the number of tensors");
  const auto value_count = at.read<uint64_t>("the number of keys");
  at.expect_room(tensor_count, kLeastTensorBytes, "tensors");
  read_values(at, value_count);
  if (const Value* v = value("general.alignment", false)) {
    if (v->type != GgufType::u32) wrong_type("general.alignment", *v, "u32");
    alignment_ = *integer("general.alignment", kLeastAlignment, kMostAlignment);
    if (!std::has_single_bit(static_cast<uint64_t>(alignment_)))
      fail(name_, ": general.alignment: expected a power of two, found ", alignment_);
  }
  read_tensors(at, tensor_count, bytes);
}

void GgufFile::read_values(GgufCursor& at, uint64_t count) {
  at.expect_room(count, kLeastValueBytes, "keys");
  for (uint64_t i = 0; i < count; ++i) {
    const std::string_view key = at.text(kLongestKey, concat("key ", i));
    const std::string what = "key " + shown(key);
    if (key.empty() || !is_utf8(key)) fail(name_, ": ", what, " (number ", i, "): expected a name in UTF-8");
    const auto read_type = [&] {
      const auto type = at.read<uint32_t>(what);
      if (type >= kGgufTypes) fail(name_, ": ", what, ": value type ", type, " is not known");
      return static_cast<GgufType>(type);
    };
    Value value;
    value.type = read_type();
    if (value.type == GgufType::array) {
      value.array = true;
      value.type = read_type();
      if (value.type == GgufType::array) fail(name_, ": ", what, ": an array of arrays is not supported");
      value.count = at.read<uint64_t>(what);
    }
    if (value.type == GgufType::text) {
      at.expect_room(value.count, 8, "texts of " + what);
      const size_t begin = at.offset();
      for (uint64_t n = 0; n < value.count; ++n) at.text(at.left(), what);
      value.bytes = at.since(begin);
    } else {
      at.expect_room(value.count, bytes_of(value.type), "elements of " + what);
      value.bytes = at.take(value.count * bytes_of(value.type), what);
    }
    if (!values_.emplace(key, value).second) fail(name_, ": ", what, " occurs twice");
  }
}

void GgufFile::read_tensors(GgufCursor& at, uint64_t count, std::string_view bytes) {
  at.expect_room(count, kLeastTensorBytes, "tensors");
  struct Place {
    int64_t begin, end;
    size_t tensor;
  };
  std::vector<Place> places;
  tensors_.reserve(count);
  places.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    const std::string_view name = at.text(kLongestName, concat("the name of tensor ", i));
    const std::string what = "tensor " + shown(name);
    if (name.empty() || !is_utf8(name)) fail(name_, ": ", what, " (number ", i, "): expected a name in UTF-8");
    if (!by_name_.emplace(name, i).second) fail(name_, ": ", what, " occurs twice");
    GgufTensor tensor;
    tensor.name = name;
    const auto axes = at.read<uint32_t>(what);
    if (axes < 1 || axes > 4) fail(name_, ": ", what, ": has ", axes, " axes, expected 1 to 4");
    // No element is wider than four bytes or block smaller than one element: what fits here cannot overflow later.
    int64_t most = 4;
    tensor.shape.rank = static_cast<int>(axes);
    for (uint32_t axis = 0; axis < axes; ++axis) {
      const auto extent = at.read<uint64_t>(what);
      if (extent == 0 || extent > INT64_MAX || __builtin_mul_overflow(most, static_cast<int64_t>(extent), &most))
        fail(name_, ": ", what, ": extent ", extent, " on axis ", axis, " is zero, or the extents overflow");
      tensor.shape.dim[axes - 1 - axis] = static_cast<int64_t>(extent);
    }
    const auto type = at.read<uint32_t>(what);
    if (!block_type(type))
      fail(name_, ": ", what, ": ", ggml_type_name(type), " is not supported; supported: ", supported_block_types());
    tensor.type = *block_type(type);
    const BlockFormat& format = format_of(tensor.type);
    if (tensor.cols() % format.elements != 0)
      fail(name_, ": ", what, ": rows of ", tensor.cols(), " elements are not whole ", format.name, " blocks of ",
           format.elements);
    const auto offset = at.read<uint64_t>(what);
    if (offset % static_cast<uint64_t>(alignment_) != 0)
      fail(name_, ": ", what, ": offset ", offset, " is not a multiple of the alignment ", alignment_);
    const int64_t size = tensor.shape.count() / format.elements * format.bytes;
    if (offset > bytes.size() || static_cast<uint64_t>(size) > bytes.size() - offset)
      fail(name_, ": ", what, ": ", tensor.shape.str(), " of ", format.name, " needs ", size, " bytes at offset ",
           offset, ", the whole file has ", bytes.size(), ": it is truncated or damaged");
    places.push_back({static_cast<int64_t>(offset), static_cast<int64_t>(offset) + size, tensors_.size()});
    tensors_.push_back(std::move(tensor));
  }
  if (tensors_.empty()) return;

  const auto aligned = (at.offset() + static_cast<size_t>(alignment_) - 1) & ~(static_cast<size_t>(alignment_) - 1);
  const std::string_view data = bytes.substr(std::min(aligned, bytes.size()));
  std::sort(places.begin(), places.end(), [](const Place& a, const Place& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.tensor < b.tensor;
  });
  for (size_t i = 0; i < places.size(); ++i) {
    GgufTensor& tensor = tensors_[places[i].tensor];
    const auto& [begin, end, ignored] = places[i];
    if (static_cast<uint64_t>(end) > data.size())
      fail(name_, ": truncated: tensor ", shown(tensor.name), " ends at byte ", end, " of the data, the file has ",
           data.size());
    if (i > 0 && begin < places[i - 1].end)
      fail(name_, ": tensor ", shown(tensor.name), " overlaps tensor ", shown(tensors_[places[i - 1].tensor].name));
    tensor.data = data.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
  }
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto at = by_name_.find(name);
  return at == by_name_.end() ? nullptr : &tensors_[at->second];
}

std::vector<std::string> GgufFile::keys() const {
  std::vector<std::string> all;
  for (const auto& [key, ignored] : values_) all.emplace_back(key);
  return all;
}

void GgufFile::wrong_type(std::string_view key, const Value& value, const char* expected) const {
  fail(name_, ": ", key, ": expected ", expected, ", found ", value.array ? "an array of " : "", name_of(value.type));
}

const GgufFile::Value* GgufFile::value(std::string_view key, bool array) const {
  const auto at = values_.find(key);
  if (at == values_.end()) return nullptr;
  if (at->second.array != array) wrong_type(key, at->second, array ? "an array" : "one value");
  return &at->second;
}

int64_t GgufFile::integer_at(std::string_view key, const Value& value, size_t index) const {
  const auto as = [&](auto zero) {
    std::memcpy(&zero, value.bytes.data() + index * sizeof zero, sizeof zero);
    return zero;
  };
  switch (value.type) {
    case GgufType::u8: return as(uint8_t{});
    case GgufType::i8: return as(int8_t{});
    case GgufType::u16: return as(uint16_t{});
    case GgufType::i16: return as(int16_t{});
    case GgufType::u32: return as(uint32_t{});
    case GgufType::i32: return as(int32_t{});
    case GgufType::i64: return as(int64_t{});
    case GgufType::u64: return static_cast<int64_t>(std::min<uint64_t>(as(uint64_t{}), INT64_MAX));
    default: wrong_type(key, value, "an integer");
  }
}

double GgufFile::number_at(std::string_view key, const Value& value, size_t index) const {
  double number = 0;
  if (value.type == GgufType::f32) {
    float stored;
    std::memcpy(&stored, value.bytes.data() + 4 * index, 4);
    number = stored;
  } else if (value.type == GgufType::f64) {
    std::memcpy(&number, value.bytes.data() + 8 * index, 8);
  } else {
    wrong_type(key, value, "a number");
  }
  if (!std::isfinite(number)) fail(name_, ": ", key, ": expected a finite number, found ", number);
  return number;
}

std::optional<int64_t> GgufFile::integer(std::string_view key, int64_t least, int64_t most) const {
  const Value* v = value(key, false);
  if (v == nullptr) return std::nullopt;
  const int64_t number = integer_at(key, *v, 0);
  if (number < least || number > most)
    fail(name_, ": ", key, ": expected a number from ", least, " to ", most, ", found ", number);
  return number;
}

std::optional<double> GgufFile::number(std::string_view key) const {
  const Value* v = value(key, false);
  if (v == nullptr) return std::nullopt;
  const double stored = number_at(key, *v, 0);
  if (v->type != GgufType::f32) return stored;
  std::array<char, 32> decimal{};
  const auto end = std::to_chars(decimal.data(), decimal.data() + decimal.size(), static_cast<float>(stored)).ptr;
  double number = 0;
  std::from_chars(decimal.data(), end, number);
  return number;
}

std::optional<bool> GgufFile::flag(std::string_view key) const {
  const Value* v = value(key, false);
  if (v == nullptr) return std::nullopt;
  if (v->type != GgufType::boolean || static_cast<uint8_t>(v->bytes[0]) > 1) wrong_type(key, *v, "true or false");
  return v->bytes[0] != 0;
}

std::optional<std::string> GgufFile::text(std::string_view key) const {
  const Value* v = value(key, false);
  if (v == nullptr) return std::nullopt;
  if (v->type != GgufType::text) wrong_type(key, *v, "a text");
  const std::string_view content = v->bytes.substr(8);
  if (!is_utf8(content)) fail(name_, ": ", key, ": is not UTF-8");
  return std::string(content);
}

std::vector<std::string_view> GgufFile::texts(std::string_view key) const {
  const Value* v = value(key, true);
  if (v == nullptr) return {};
  if (v->type != GgufType::text) wrong_type(key, *v, "an array of texts");
  std::vector<std::string_view> all;
  all.reserve(v->count);
  GgufCursor at(v->bytes, name_);
  for (uint64_t i = 0; i < v->count; ++i) all.push_back(at.text(at.left(), "a text"));
  return all;
}

std::vector<int32_t> GgufFile::integers(std::string_view key) const {
  const Value* v = value(key, true);
  if (v == nullptr) return {};
  std::vector<int32_t> all(v->count);
  for (size_t i = 0; i < all.size(); ++i) {
    const int64_t number = integer_at(key, *v, i);
    if (number < INT32_MIN || number > INT32_MAX) fail(name_, ": ", key, ": element ", i, " is ", number);
    all[i] = static_cast<int32_t>(number);
  }
  return all;
}

std::vector<float> GgufFile::numbers(std::string_view key) const {
  const Value* v = value(key, true);
  if (v == nullptr) return {};
  std::vector<float> all(v->count);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<float>(number_at(key, *v, i));
  return all;
}

}  // namespace qwerky
