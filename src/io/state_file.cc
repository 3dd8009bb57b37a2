// SPDX-License-Identifier: MIT
#include "io/state_file.h"

#include <bit>

#include "base/error.h"
#include "base/random.h"

namespace qwerky {
namespace {

static_assert(std::endian::native == std::endian::little, "data are little-endian and used in place");

constexpr std::string_view kMagic = "QWRKSTAT";
constexpr uint32_t kVersion = 1;
constexpr int64_t kPreamble = 24, kMostHeaderBytes = 1 << 20;

int64_t padded(int64_t bytes) { return (bytes + 7) / 8 * 8; }

/// h <- mix64(h ^ word) over words of 8 bytes, the last filled up with zeros: a change of one word is never missed.
uint64_t checksum(uint64_t h, const void* data, int64_t bytes) {
  const char* p = static_cast<const char*>(data);
  for (; bytes > 0; bytes -= 8, p += 8) {
    uint64_t word = 0;
    std::memcpy(&word, p, bytes >= 8 ? 8 : static_cast<size_t>(bytes));
    h = mix64(h ^ word);
  }
  return h;
}

/// A view of the file from which parts are taken in order.
class Reader {
 public:
  Reader(std::string_view bytes, const std::string& name) : bytes_(bytes), name_(name) {
    if (!bytes.starts_with(kMagic) || bytes.size() < kPreamble)
      fail(name, ": not a saved state: it does not begin with ", kMagic);
    uint32_t version = 0, reserved = 0;
    uint64_t length = 0;
    std::memcpy(&version, bytes.data() + 8, 4);
    std::memcpy(&reserved, bytes.data() + 12, 4);
    std::memcpy(&length, bytes.data() + 16, 8);
    if (version != kVersion || reserved != 0)
      fail(name, ": saved state of version ", version, ", this program reads ", kVersion);
    if (length > uint64_t{kMostHeaderBytes})
      fail(name, ": the header has ", length, " bytes, expected at most ", kMostHeaderBytes);
    at_ = kPreamble;
    header_ = parse_json(take("header", static_cast<int64_t>(length)), name + " header");
    if (!header_.is_object()) fail(name, ": expected the header to be an object, found ", header_.type_name());
  }

  std::string text(const char* key) const {
    const Json& value = at(key);
    if (!value.is_string()) fail(name_, ": expected \"", key, "\" to be a string, found ", value.type_name());
    return value;
  }
  /// Not more than the file has bytes, unless it is no amount of them.
  int64_t number(const char* key, bool amount = true) const {
    const Json& value = at(key);
    const auto most = amount ? static_cast<uint64_t>(bytes_.size()) : static_cast<uint64_t>(INT64_MAX);
    if (!value.is_number_unsigned() || value.get<uint64_t>() > most)
      fail(name_, ": expected \"", key, "\" to be a number of at most ", most, ", found ", value.dump().substr(0, 40));
    return static_cast<int64_t>(value.get<uint64_t>());
  }
  std::string_view take(const char* what, int64_t bytes) {
    const int64_t left = static_cast<int64_t>(bytes_.size()) - at_;
    if (padded(bytes) > left) fail(name_, ": truncated: ", what, " needs ", bytes, " bytes, ", left, " are left");
    const std::string_view part = bytes_.substr(static_cast<size_t>(at_), static_cast<size_t>(bytes));
    at_ += padded(bytes);
    return part;
  }
  template <class T>
  std::vector<T> values(const char* what, int64_t n) {
    const std::string_view part = take(what, n * int64_t{sizeof(T)});
    std::vector<T> all(static_cast<size_t>(n));
    if (n > 0) std::memcpy(all.data(), part.data(), part.size());
    return all;
  }
  void finish() const {
    const int64_t left = static_cast<int64_t>(bytes_.size()) - at_;
    if (left != 8) fail(name_, ": expected a checksum of 8 bytes after the data, found ", left, " bytes");
    uint64_t sum = 0;
    std::memcpy(&sum, bytes_.data() + at_, 8);
    if (sum != checksum(0, bytes_.data(), at_)) fail(name_, ": damaged: its checksum is wrong");
  }

 private:
  const Json& at(const char* key) const {
    const auto found = header_.find(key);
    if (found == header_.end()) fail(name_, ": the header has no \"", key, "\"");
    return *found;
  }

  std::string_view bytes_;
  const std::string& name_;
  int64_t at_ = 0;
  Json header_;
};

StateContents label_of(Reader& in) {
  StateContents out;
  out.label = {in.text("model"), in.text("owner"), in.text("name"), in.number("number", false)};
  out.ids = in.values<int32_t>("ids", in.number("position"));
  return out;
}

}  // namespace

StateContents parse_state(std::string_view bytes, const std::string& name) {
  Reader in(bytes, name);
  StateContents out = label_of(in);
  const std::string type = in.text("type");
  if (type != name_of(DType::f32)) fail(name, ": a state of ", Json(type).dump().substr(0, 40), ", expected f32");
  const int64_t scalars = in.number("scalars"), logits = in.number("logits");
  const std::string_view memory = in.take("state", scalars * size_of(DType::f32));
  out.logits = in.values<float>("logits", logits);
  in.finish();
  out.state = std::make_unique<State>(DType::f32, scalars, static_cast<int64_t>(out.ids.size()));
  if (scalars > 0) std::memcpy(out.state->at(0, scalars).data, memory.data(), memory.size());
  out.state->advance(static_cast<int64_t>(out.ids.size()));
  return out;
}

StateContents read_state(const Path& path) {
  const MappedFile file(path);
  return parse_state(file.bytes(), path.string());
}

StateContents read_state_label(const Path& path) {
  const MappedFile file(path);
  const std::string name = path.string();
  Reader in(file.bytes(), name);
  return label_of(in);
}

int64_t write_state(const Path& path, const StateLabel& label, std::span<const int32_t> ids, const State& state,
                    std::span<const float> logits) {
  CHECK(state.type() == DType::f32 && state.position() == static_cast<int64_t>(ids.size()) &&
        state.capacity() == state.position());
  wait_for_device();
  const std::string header =
      Json{{"model", label.model},       {"owner", label.owner},   {"name", label.name},
           {"number", label.number},     {"position", ids.size()}, {"type", name_of(state.type())},
           {"scalars", state.scalars()}, {"logits", logits.size()}}
          .dump();
  FileWriter file(path, Readers::owner);
  uint64_t sum = 0;
  const auto put = [&](const void* data, int64_t bytes) {
    constexpr std::string_view kZeros("\0\0\0\0\0\0\0", 7);
    sum = checksum(sum, data, bytes);
    file.write(data, bytes);
    file.write(kZeros.substr(0, static_cast<size_t>(padded(bytes) - bytes)));
  };
  const uint32_t version[2] = {kVersion, 0};
  const uint64_t length = header.size();
  put(kMagic.data(), 8);
  put(version, 8);
  put(&length, 8);
  put(header.data(), static_cast<int64_t>(header.size()));
  put(ids.data(), static_cast<int64_t>(ids.size_bytes()));
  put(state.at(0, state.scalars()).data, state.bytes());
  put(logits.data(), static_cast<int64_t>(logits.size_bytes()));
  file.write(&sum, 8);
  const int64_t size = file.written();
  file.commit();
  return size;
}

}  // namespace qwerky
