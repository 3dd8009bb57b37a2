// SPDX-License-Identifier: MIT
#include "io/packed.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <mutex>
#include <optional>

#include "base/error.h"
#include "base/parallel.h"
#include "tensor/panels.h"

namespace qwerky {
namespace {

static_assert(std::endian::native == std::endian::little, "data are little-endian and used in place");

constexpr std::string_view kMagic = "QWRKPACK";
constexpr uint32_t kVersion = 1;
constexpr int64_t kPreamble = 24;  // magic, version, zero, length
constexpr int64_t kMostHeaderBytes = 100'000'000;
constexpr int64_t kPage = 4096, kAlign = 64;
constexpr size_t kLongestName = 1024;
constexpr int64_t kMostExtent = int64_t{1} << 40;

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/// Reads one object of the header; every complaint names it.
class Fields {
 public:
  Fields(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    if (!json.is_object()) fail(where_, ": expected an object, found ", json.type_name());
  }
  const Json& at(const char* key) const {
    const auto found = json_.find(key);
    if (found == json_.end()) fail(where_, ": the header has no \"", key, "\"");
    return *found;
  }
  const std::string& text(const char* key) const {
    const Json& value = at(key);
    if (!value.is_string()) fail(where_, ": expected \"", key, "\" to be a string, found ", value.type_name());
    return value.get_ref<const std::string&>();
  }
  int64_t count(const Json& value, const char* key) const {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
      fail(where_, ": expected \"", key, "\" to be a non-negative integer, found ", value.dump().substr(0, 40));
    return static_cast<int64_t>(value.get<uint64_t>());
  }
  int64_t count(const char* key) const { return count(at(key), key); }
  bool has(const char* key) const { return json_.contains(key); }
  const std::string& where() const { return where_; }

 private:
  const Json& json_;
  std::string where_;
};

std::optional<DType> type_named(std::string_view name) {
  for (const DType type : {DType::f32, DType::bf16, DType::i8, DType::i4})
    if (name == name_of(type)) return type;
  return std::nullopt;
}

Shape shape_of(const Fields& f) {
  const Json& list = f.at("shape");
  if (!list.is_array() || list.empty() || list.size() > 4) fail(f.where(), ": expected a shape of 1 to 4 extents");
  std::vector<int64_t> dims;
  int64_t count = 1;
  for (const Json& item : list) {
    dims.push_back(f.count(item, "shape"));
    if (dims.back() == 0 || dims.back() > kMostExtent || __builtin_mul_overflow(count, dims.back(), &count) ||
        count > kMostExtent)
      fail(f.where(), ": the extents of its shape are 0 or too large");
  }
  return Shape(dims);
}

/// The tensor an entry describes, without memory.
Tensor tensor_of(const Fields& f) {
  const std::optional<DType> type = type_named(f.text("type"));
  if (!type) fail(f.where(), ": type ", Json(f.text("type")).dump(), " is not f32, bf16, int8 or int4");
  Tensor t(nullptr, *type, shape_of(f));
  const std::string& layout = f.text("layout");
  if (layout == "panels") {
    const int64_t group = f.has("group") ? f.count("group") : 0;
    if (group > 128) fail(f.where(), ": groups of ", group, ", expected 32, 64 or 128");
    t.layout = Layout::panels;
    t.panels = {*type, static_cast<uint8_t>(group), f.has("minimum") && f.at("minimum") == true};
    check_format(t.panels, f.where());
    if (t.shape.rank != 2 && t.shape.rank != 3) fail(f.where(), ": panels hold matrices, found ", t.shape.str());
  } else if (layout != "rows") {
    fail(f.where(), ": layout ", Json(layout).dump(), " is not rows or panels");
  } else if (*type != DType::f32 && *type != DType::bf16) {
    fail(f.where(), ": rows hold f32 or bf16, found ", name_of(*type));
  }
  return t;
}

/// A file inside may not be taken for a path.
void check_name(const std::string& name, const std::string& file) {
  if (name.empty() || name.size() > kLongestName ||
      std::any_of(name.begin(), name.end(), [](unsigned char c) { return c < 0x20 || c == '/' || c == '\\'; }))
    fail(file, ": name ", Json(name).dump().substr(0, 80), " is empty, longer than ", kLongestName,
         " bytes or has slashes or control characters");
}

std::string_view bytes_of(const Tensor& t) {
  return {static_cast<const char*>(t.data), static_cast<size_t>(t.bytes())};
}

Json entry_json(const Tensor& t) {
  const std::vector<int64_t> dims(t.shape.dim.begin(), t.shape.dim.begin() + t.shape.rank);
  Json json{{"shape", dims}, {"type", name_of(t.type)}, {"layout", t.layout == Layout::rows ? "rows" : "panels"}};
  if (t.layout == Layout::panels && t.panels.group != 0) json["group"] = int{t.panels.group};
  if (t.layout == Layout::panels && t.panels.minimum) json["minimum"] = true;
  return json;
}

std::vector<std::string> hashes(const std::vector<std::string_view>& parts) {
  std::vector<std::string> sums(parts.size());
  parallel_for(static_cast<int64_t>(parts.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) sums[static_cast<size_t>(i)] = sha256(parts[static_cast<size_t>(i)]);
  });
  return sums;
}

}  // namespace

bool is_packed(std::string_view bytes) { return bytes.starts_with(kMagic); }

PackedFile::PackedFile(const Path& path) : file_(std::make_unique<MappedFile>(path)), name_(path.string()) {
  parse(file_->bytes());
}

PackedFile::PackedFile(std::string_view bytes, const std::string& name) : name_(name) { parse(bytes); }

void PackedFile::parse(std::string_view bytes) {
  bytes_ = static_cast<int64_t>(bytes.size());
  if (!is_packed(bytes) || bytes_ < kPreamble) fail(name_, ": not a packed model: it does not begin with ", kMagic);
  uint32_t version = 0, reserved = 0;
  uint64_t length = 0;
  std::memcpy(&version, bytes.data() + 8, 4);
  std::memcpy(&reserved, bytes.data() + 12, 4);
  std::memcpy(&length, bytes.data() + 16, 8);
  if (version != kVersion || reserved != 0)
    fail(name_, ": packed model of version ", version, ", this program reads ", kVersion, "; export the model again");
  if (length > static_cast<uint64_t>(std::min(kMostHeaderBytes, bytes_ - kPreamble)))
    fail(name_, ": truncated: the header has ", length, " bytes, the file ", bytes_);
  const Json json = parse_json(bytes.substr(kPreamble, length), name_ + " header");
  const Fields header(json, name_);
  config_ = header.at("config");
  card_ = header.at("card");
  if (!config_.is_object() || !card_.is_object()) fail(name_, ": expected config and card to be objects");

  // Each entry begins where the one before ends, but for alignment.
  int64_t at = round_up(kPreamble + static_cast<int64_t>(length), kPage), end = at;
  const auto place = [&](const Fields& f, int64_t size) {
    const int64_t offset = f.count("offset");
    if (offset != at) fail(f.where(), ": begins at byte ", offset, ", expected ", at);
    if (size > bytes_ - at)
      fail(f.where(), ": truncated: needs ", size, " bytes from ", at, " on, the file has ", bytes_);
    const std::string_view data = bytes.substr(static_cast<size_t>(at), static_cast<size_t>(size));
    end = at + size;
    at = round_up(end, kAlign);
    sums_.push_back({f.where(), f.text("sha256"), data});
    return data;
  };
  const auto each = [&](const char* key, const auto& take) {
    const Json& list = header.at(key);
    if (!list.is_array()) fail(name_, ": expected ", key, " to be an array, found ", list.type_name());
    for (const Json& item : list) {
      const std::string name = Fields(item, name_).text("name");
      check_name(name, name_);
      take(name, Fields(item, concat(name_, ": ", key, " ", name)));
    }
  };
  each("tensors", [&](const std::string& name, const Fields& f) {
    Tensor t = tensor_of(f);
    t.data = const_cast<char*>(place(f, t.bytes()).data());
    if (!tensors_.emplace(name, t).second) fail(f.where(), ": appears twice");
    order_.push_back(name);
  });
  each("files", [&](const std::string& name, const Fields& f) {
    if (!files_.emplace(name, place(f, f.count("bytes"))).second) fail(f.where(), ": appears twice");
  });
  if (bytes_ != end) fail(name_, ": the header describes ", end, " bytes, the file has ", bytes_);
  if (reinterpret_cast<uintptr_t>(bytes.data()) % kAlign != 0) fail(name_, ": its memory is not aligned");
}

Tensor PackedFile::find(std::string_view name) const {
  const auto at = tensors_.find(name);
  return at == tensors_.end() ? Tensor() : at->second;
}

void PackedFile::verify() const {
  std::vector<std::string_view> parts;
  for (const Sum& sum : sums_) parts.push_back(sum.data);
  const std::vector<std::string> found = hashes(parts);
  for (size_t i = 0; i < found.size(); ++i)
    if (found[i] != sums_[i].sha256)
      fail(sums_[i].what, ": damaged: its SHA-256 is ", found[i], ", the header has ", sums_[i].sha256);
}

std::string PackedFile::checksums() const {
  std::string all;
  for (const Sum& sum : sums_) all += sum.sha256 + '\n';
  return all;
}

int64_t write_packed(const Path& path, const PackedContents& contents) {
  std::vector<std::string_view> parts;
  for (const auto& [name, t] : contents.tensors) parts.push_back(bytes_of(t));
  for (const auto& [name, text] : contents.files) parts.push_back(text);
  const std::vector<std::string> sums = hashes(parts);

  // Offsets depend on the length of the header, which depends on them: they are found from the largest on.
  const auto header_from = [&](int64_t at) {
    Json tensors = Json::array(), files = Json::array();
    size_t i = 0;
    const auto add = [&](Json& list, const std::string& name, Json json) {
      json["name"] = name, json["offset"] = at, json["sha256"] = sums[i];
      at = round_up(at + static_cast<int64_t>(parts[i++].size()), kAlign);
      list.push_back(std::move(json));
    };
    for (const auto& [name, t] : contents.tensors) add(tensors, name, entry_json(t));
    for (const auto& [name, text] : contents.files) add(files, name, {{"bytes", text.size()}});
    return Json{{"config", contents.config}, {"card", contents.card}, {"tensors", tensors}, {"files", files}}.dump();
  };
  int64_t begin = kPage;
  std::string header = header_from(begin);
  while (round_up(kPreamble + static_cast<int64_t>(header.size()), kPage) != begin) {
    begin = round_up(kPreamble + static_cast<int64_t>(header.size()), kPage);
    header = header_from(begin);
  }

  FileWriter file(path);
  const uint64_t length = header.size();
  const uint32_t version = kVersion, reserved = 0;
  file.write(kMagic);
  file.write(&version, 4);
  file.write(&reserved, 4);
  file.write(&length, 8);
  file.write(header);
  const std::string zeros(kPage, '\0');
  const auto pad_to = [&](int64_t to) {
    file.write(std::string_view(zeros).substr(0, static_cast<size_t>(to - file.written())));
  };
  pad_to(begin);
  for (const std::string_view part : parts) {
    pad_to(round_up(file.written(), kAlign));
    file.write(part);
  }
  const int64_t size = file.written();
  file.commit();
  return size;
}

}  // namespace qwerky
