// SPDX-License-Identifier: MIT
#include "io/gguf_writer.h"

#include <atomic>
#include <set>

#include "base/error.h"
#include "base/parallel.h"

namespace qwerky {
namespace {

constexpr uint32_t kVersion = 3;
constexpr int64_t kSliceElements = 1 << 20;  // converted at a time

template <class T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_text(std::string& out, std::string_view text) {
  append(out, static_cast<uint64_t>(text.size()));
  out += text;
}

int64_t padding(int64_t at) { return (kGgufAlignment - at % kGgufAlignment) % kGgufAlignment; }

int64_t cols_of(const GgufOut& t) { return t.shape.dim[static_cast<size_t>(t.shape.rank - 1)]; }
int64_t bytes_of(const GgufOut& t) { return t.shape.count() / cols_of(t) * row_bytes(t.type, cols_of(t)); }

void write_tensor(FileWriter& file, const GgufOut& t, const Path& path) {
  const int64_t cols = cols_of(t), rows = t.shape.count() / cols;
  const int64_t bytes = row_bytes(t.type, cols), step = std::max<int64_t>(1, kSliceElements / cols);
  std::vector<float> values(static_cast<size_t>(std::min(step, rows) * cols));
  std::vector<char> blocks(static_cast<size_t>(std::min(step, rows) * bytes));
  std::atomic<bool> fits = true;
  for (int64_t first = 0; first < rows; first += step) {
    const int64_t n = std::min(step, rows - first);
    t.rows(first, n, values.data());
    parallel_for(n, std::max<int64_t>(1, 65536 / cols), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        if (!quantise_row(t.type, values.data() + r * cols, cols, blocks.data() + r * bytes)) fits = false;
    });
    if (!fits)
      fail(path.string(), ": tensor ", t.name, " has a value that is not finite or does not fit ",
           format_of(t.type).name, "; BF16 and F32 have the widest range");
    file.write(blocks.data(), n * bytes);
  }
}

}  // namespace

void GgufMetadata::key(std::string_view name, GgufType type) {
  append_text(bytes_, name);
  append(bytes_, static_cast<uint32_t>(type));
  ++count_;
}

void GgufMetadata::array(std::string_view name, GgufType type, size_t count) {
  key(name, GgufType::array);
  append(bytes_, static_cast<uint32_t>(type));
  append(bytes_, static_cast<uint64_t>(count));
}

void GgufMetadata::add(std::string_view name, uint32_t value) { key(name, GgufType::u32), append(bytes_, value); }
void GgufMetadata::add(std::string_view name, float value) { key(name, GgufType::f32), append(bytes_, value); }
void GgufMetadata::add(std::string_view name, bool value) {
  key(name, GgufType::boolean), append(bytes_, static_cast<uint8_t>(value));
}
void GgufMetadata::add(std::string_view name, std::string_view value) {
  key(name, GgufType::text), append_text(bytes_, value);
}
void GgufMetadata::add(std::string_view name, const std::vector<std::string>& values) {
  array(name, GgufType::text, values.size());
  for (const std::string& value : values) append_text(bytes_, value);
}
void GgufMetadata::add(std::string_view name, const std::vector<float>& values) {
  array(name, GgufType::f32, values.size());
  for (const float value : values) append(bytes_, value);
}
void GgufMetadata::add(std::string_view name, const std::vector<int32_t>& values) {
  array(name, GgufType::i32, values.size());
  for (const int32_t value : values) append(bytes_, value);
}

void write_gguf(const Path& path, const GgufMetadata& metadata, const std::vector<GgufOut>& tensors) {
  std::string header = "GGUF";
  append(header, kVersion);
  append(header, static_cast<uint64_t>(tensors.size()));
  append(header, metadata.count());
  header += metadata.bytes();
  std::set<std::string_view> seen;
  int64_t at = 0;
  for (const GgufOut& t : tensors) {
    CHECK(seen.insert(t.name).second, "tensor written twice: ", t.name);
    CHECK(t.shape.rank >= 1 && t.shape.count() > 0, "empty tensor ", t.name);
    append_text(header, t.name);
    append(header, static_cast<uint32_t>(t.shape.rank));
    for (int axis = t.shape.rank - 1; axis >= 0; --axis)
      append(header, static_cast<uint64_t>(t.shape.dim[static_cast<size_t>(axis)]));
    append(header, format_of(t.type).id);
    append(header, static_cast<uint64_t>(at));
    at += bytes_of(t);
    at += padding(at);
  }
  header.append(static_cast<size_t>(padding(static_cast<int64_t>(header.size()))), '\0');

  FileWriter file(path);
  file.write(header);
  for (const GgufOut& t : tensors) {
    write_tensor(file, t, path);
    if (t.done) t.done();
    file.write(std::string(static_cast<size_t>(padding(bytes_of(t))), '\0'));
  }
  file.commit();
}

}  // namespace qwerky
