// SPDX-License-Identifier: MIT
#include "io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <set>
#include <tuple>

#include "base/error.h"
#include "tensor/memory.h"

namespace qwerky {
namespace {

static_assert(std::endian::native == std::endian::little, "tensor data is little-endian and used in place");

constexpr int64_t kLengthBytes = 8;
constexpr int64_t kMostHeaderBytes = 100'000'000;  // the limit of the reference implementation
constexpr size_t kLongestName = 1024;
constexpr int64_t kDataAlign = 64;
constexpr int64_t kSliceElements = 1 << 20;  // converted at a time while writing
constexpr const char* kMetadata = "__metadata__";

struct StoredType {
  const char* name;
  DType type;
};
constexpr StoredType kTypes[] = {{"F32", DType::f32}, {"F16", DType::f16}, {"BF16", DType::bf16}, {"F64", DType::f64},
                                 {"I32", DType::i32}, {"I64", DType::i64}, {"U8", DType::u8}};

std::optional<DType> type_named(std::string_view name) {
  for (const StoredType& t : kTypes)
    if (name == t.name) return t.type;
  return std::nullopt;
}

const char* stored_name(DType type) {
  for (const StoredType& t : kTypes)
    if (type == t.type) return t.name;
  CHECK(false, "safetensors has no ", name_of(type));
}

/// One header entry after its own checks; offsets count from the end of the header.
struct Entry {
  std::string name;
  DType type;
  Shape shape;
  int64_t begin, end;
};

/// Integers of a JSON array, each in [0, 2^63).
std::vector<int64_t> integers(const Json& list, const char* what, const std::string& where) {
  if (!list.is_array()) fail(where, ": expected ", what, " to be an array, found ", list.type_name());
  std::vector<int64_t> out;
  for (const Json& item : list) {
    if (!item.is_number_unsigned() || item.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
      fail(where, ": expected ", what, " of non-negative integers, found ", item.dump().substr(0, 40));
    out.push_back(static_cast<int64_t>(item.get<uint64_t>()));
  }
  return out;
}

Entry read_entry(const std::string& name, const Json& json, int64_t data_bytes, const std::string& file) {
  const std::string where = concat(file, ": tensor ", name);
  if (name.size() > kLongestName || std::any_of(name.begin(), name.end(), [](unsigned char c) { return c < 0x20; }))
    fail(file, ": tensor name ", Json(name).dump().substr(0, 80), " is longer than ", kLongestName,
         " bytes or has control characters");
  if (!json.is_object()) fail(where, ": expected an object, found ", json.type_name());
  const auto field = [&](const char* key) -> const Json& {
    const auto at = json.find(key);
    if (at == json.end()) fail(where, ": the header has no \"", key, "\"");
    return *at;
  };
  const Json& dtype = field("dtype");
  if (!dtype.is_string()) fail(where, ": expected dtype to be a string, found ", dtype.type_name());
  const std::optional<DType> type = type_named(dtype.get_ref<const std::string&>());
  if (!type)
    fail(where, ": dtype ", dtype.dump().substr(0, 40),
         " is not supported; supported are F32, F16, BF16, F64, I32, I64, U8");

  const std::vector<int64_t> dims = integers(field("shape"), "shape", where);
  if (dims.size() > 4) fail(where, ": has ", dims.size(), " axes; at most 4 are supported");
  // Zero extents count as 1 here, so that no partial product of the extents can overflow later.
  int64_t most = size_of(*type);
  for (const int64_t d : dims)
    if (__builtin_mul_overflow(most, std::max<int64_t>(d, 1), &most))
      fail(where, ": the extents of its shape overflow");
  Entry entry{name, *type, Shape(dims), 0, 0};

  const std::vector<int64_t> range = integers(field("data_offsets"), "data_offsets", where);
  if (range.size() != 2) fail(where, ": expected 2 data_offsets, found ", range.size());
  entry.begin = range[0];
  entry.end = range[1];
  if (entry.begin > entry.end || entry.end > data_bytes)
    fail(where, ": data_offsets [", entry.begin, ", ", entry.end, "] lie outside the ", data_bytes,
         " bytes of data in the file");
  const int64_t bytes = entry.shape.count() * size_of(*type);
  if (entry.end - entry.begin != bytes)
    fail(where, ": shape ", entry.shape.str(), " of ", name_of(*type), " needs ", bytes, " bytes, data_offsets give ",
         entry.end - entry.begin);
  return entry;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const Path& path) : file_(std::make_unique<MappedFile>(path)), name_(path.string()) {
  parse(file_->bytes());
}

SafetensorsFile::SafetensorsFile(std::string_view bytes, const std::string& name) : name_(name) { parse(bytes); }

void SafetensorsFile::parse(std::string_view bytes) {
  const auto size = static_cast<int64_t>(bytes.size());
  if (size < kLengthBytes) fail(name_, ": not a safetensors file: ", size, " bytes, at least 8 are needed");
  uint64_t stated = 0;
  std::memcpy(&stated, bytes.data(), sizeof stated);
  if (stated > static_cast<uint64_t>(kMostHeaderBytes))
    fail(name_, ": not a safetensors file: header length ", stated, " is above the limit of ", kMostHeaderBytes);
  const auto header_bytes = static_cast<int64_t>(stated);
  if (header_bytes > size - kLengthBytes)
    fail(name_, ": truncated: the header needs ", header_bytes, " bytes, the file has ", size - kLengthBytes,
         " after its length");
  const std::string_view text = bytes.substr(kLengthBytes, static_cast<size_t>(header_bytes));
  if (!text.starts_with('{')) fail(name_, ": not a safetensors file: its header does not begin with '{'");
  const std::string_view data = bytes.substr(static_cast<size_t>(kLengthBytes + header_bytes));
  const auto data_bytes = static_cast<int64_t>(data.size());

  std::vector<Entry> entries;
  {
    const Json header = parse_json(text, name_ + " header");
    entries.reserve(header.size());
    for (const auto& [name, value] : header.items()) {
      if (name != kMetadata) {
        entries.push_back(read_entry(name, value, data_bytes, name_));
        continue;
      }
      if (!value.is_object()) fail(name_, ": expected __metadata__ to be an object, found ", value.type_name());
      for (const auto& [key, item] : value.items()) {
        if (!item.is_string()) fail(name_, ": expected strings in __metadata__, found ", item.type_name());
        metadata_[key] = item.get<std::string>();
      }
    }
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });

  // The format allows neither holes nor overlap: each tensor begins where the one before ends.
  int64_t at = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != at)
      fail(name_, ": tensor ", entry.name, ": begins at byte ", entry.begin, " of the data, expected ", at,
           entry.begin < at ? " (it overlaps another tensor)" : " (bytes before it belong to no tensor)");
    at = entry.end;
  }
  if (at != data_bytes) fail(name_, ": the header describes ", at, " bytes of data, the file has ", data_bytes);

  for (Entry& entry : entries) {
    const char* where = data.data() + entry.begin;
    if (reinterpret_cast<uintptr_t>(where) % static_cast<uintptr_t>(size_of(entry.type)) != 0) {
      Block& copy = moved_.emplace_back(entry.end - entry.begin, concat("tensor ", entry.name));
      std::memcpy(copy.data(), where, static_cast<size_t>(entry.end - entry.begin));
      where = copy.data();
    }
    tensors_.emplace(entry.name, Tensor(const_cast<char*>(where), entry.type, entry.shape));
    order_.push_back(std::move(entry.name));
  }
}

std::vector<std::string> SafetensorsFile::names() const { return order_; }

Tensor SafetensorsFile::find(std::string_view name) const {
  const auto at = tensors_.find(name);
  return at == tensors_.end() ? Tensor() : at->second;
}

void SafetensorsFile::forget(std::string_view name) const {
  if (const Tensor t = find(name); t && file_) file_->forget(t.data, t.bytes());
}

bool SafetensorsFile::prefetch(std::string_view name) const {
  const Tensor t = find(name);
  return t && file_ && file_->prefetch(t.data, t.bytes());
}

void write_safetensors(FileWriter& file, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  wait_for_device();
  std::string header = "{";
  if (!metadata.empty()) header += concat('"', kMetadata, "\":", Json(metadata).dump());
  std::set<std::string_view> seen;
  int64_t at = 0;
  for (const NamedTensor& t : tensors) {
    CHECK(seen.insert(t.name).second && t.name != kMetadata, "tensor written twice: ", t.name);
    CHECK(t.tensor, "no data to write for tensor ", t.name);
    const int64_t end = at + t.tensor.count() * size_of(t.store_as);
    const std::vector<int64_t> dims(t.tensor.shape.dim.begin(), t.tensor.shape.dim.begin() + t.tensor.shape.rank);
    if (header.size() > 1) header += ',';
    header += concat(Json(t.name).dump(), ":{\"dtype\":\"", stored_name(t.store_as), "\",\"shape\":", Json(dims).dump(),
                     ",\"data_offsets\":[", at, ',', end, "]}");
    at = end;
  }
  header += '}';
  const auto used = static_cast<int64_t>(header.size()) + kLengthBytes;
  header.append(static_cast<size_t>((kDataAlign - used % kDataAlign) % kDataAlign), ' ');
  const uint64_t length = header.size();
  file.write(&length, sizeof length);
  file.write(header);

  std::vector<char> slice;
  for (const NamedTensor& t : tensors) {
    if (t.tensor.type == t.store_as) {
      file.write(t.tensor.data, t.tensor.bytes());
      continue;
    }
    const int64_t n = t.tensor.count();
    const auto* from = static_cast<const char*>(t.tensor.data);
    for (int64_t first = 0; first < n; first += kSliceElements) {
      const int64_t count = std::min(kSliceElements, n - first);
      slice.resize(static_cast<size_t>(count * size_of(t.store_as)));
      convert(Tensor(slice.data(), t.store_as, {count}),
              Tensor(const_cast<char*>(from) + first * size_of(t.tensor.type), t.tensor.type, {count}));
      file.write(slice.data(), static_cast<int64_t>(slice.size()));
    }
  }
}

void write_safetensors(const Path& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  FileWriter file(path);
  write_safetensors(file, tensors, metadata);
  file.commit();
}

}  // namespace qwerky
