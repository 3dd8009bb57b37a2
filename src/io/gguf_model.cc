// SPDX-License-Identifier: MIT
#include "io/gguf_model.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/parallel.h"

namespace qwerky {
namespace {

constexpr int64_t kMostShards = 99999;
constexpr int64_t kStreams = 5;

/// "-00001-of-00003.gguf" of a shard's name, and the two numbers.
struct ShardName {
  std::string stem;
  int64_t index = 0, count = 0;

  std::string of(int64_t i) const {
    const auto padded = [](int64_t n) {
      const std::string digits = std::to_string(n);
      return std::string(5 - digits.size(), '0') + digits;
    };
    return stem + "-" + padded(i) + "-of-" + padded(count) + ".gguf";
  }
};

std::optional<ShardName> shard_name(std::string_view name) {
  constexpr std::string_view kPattern = "-#####-of-#####.gguf";
  if (name.size() <= kPattern.size()) return std::nullopt;
  const std::string_view end = name.substr(name.size() - kPattern.size());
  for (size_t i = 0; i < end.size(); ++i)
    if (kPattern[i] == '#' ? end[i] < '0' || end[i] > '9' : end[i] != kPattern[i]) return std::nullopt;
  return ShardName{std::string(name.substr(0, name.size() - kPattern.size())),
                   std::stoll(std::string(end.substr(1, 5))), std::stoll(std::string(end.substr(10, 5)))};
}

/// Rows worth a thread of their own.
int64_t rows_per_thread(int64_t cols) { return std::max<int64_t>(1, 65536 / cols); }

/// `to[c][r] = from[r][c]`, with `pitch` elements from row to row of `to`.
void transpose(const float* from, int64_t rows, int64_t cols, float* to, int64_t pitch) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) to[c * pitch + r] = from[r * cols + c];
}

/// All rows of a tensor as f32, row-major.
void dequantise(const GgufTensor& t, float* out) {
  const int64_t cols = t.cols(), bytes = t.row_bytes();
  parallel_for(t.rows(), rows_per_thread(cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) dequantise_row(t.type, t.data.data() + r * bytes, cols, out + r * cols);
  });
}

DType float_type(BlockType type) {
  return type == BlockType::f16 ? DType::f16 : type == BlockType::bf16 ? DType::bf16 : DType::f32;
}

bool is_float(BlockType type) { return format_of(type).group == 0; }

}  // namespace

bool is_gguf_model_name(std::string_view name) {
  const auto shard = shard_name(name);
  return shard ? shard->index == 1 : name.ends_with(".gguf");
}

GgufSource::GgufSource(const Path& path) : name_(path.string()) {
  open_shards(path);
  index();
}

GgufSource::GgufSource(std::string_view bytes, const std::string& name) : name_(name) {
  files_.push_back(std::make_unique<GgufFile>(bytes, name));
  if (files_[0]->integer("split.count", 0, kMostShards).value_or(1) > 1) fail(name_, ": is one shard of several");
  index();
}

void GgufSource::open_shards(const Path& path) {
  const auto given = shard_name(path.filename().string());
  files_.push_back(std::make_unique<GgufFile>(given ? path.parent_path() / given->of(1) : path));
  const int64_t count = files_[0]->integer("split.count", 0, kMostShards).value_or(1);
  if (count <= 1) return;
  if (!given || given->count != count)
    fail(name_, ": is one of ", count, " shards; expected them to be called NAME-00001-of-",
         ShardName{"", 1, count}.of(count).substr(10));
  for (int64_t i = 2; i <= count; ++i) {
    const GgufFile& file = *files_.emplace_back(std::make_unique<GgufFile>(path.parent_path() / given->of(i)));
    if (file.integer("split.no", 0, kMostShards) != i - 1)
      fail(file.name(), ": split.no is not ", i - 1, ": another model's shard");
  }
}

void GgufSource::index() {
  const GgufFile& meta = file();
  architecture_ = meta.text("general.architecture").value_or("");
  if (!is_gguf_architecture(architecture_))
    fail(name_, ": architecture \"", architecture_, "\" is not supported; supported in GGUF: ", gguf_architectures());
  if (architecture_ == "llama") rotary_head_ = config()["head_dim"].get<int64_t>();
  for (const auto& file : files_)
    for (const GgufTensor& tensor : file->tensors()) {
      if (tensor.name == "rope_freqs.weight") continue;  // in the configuration
      HfNames hf = hf_names(architecture_, tensor.name);
      if (hf.names.empty()) hf.names.push_back(tensor.name);
      for (size_t part = 0; part < hf.names.size(); ++part) {
        if (!entries_.emplace(hf.names[part], Entry{&tensor, hf.layout, static_cast<int>(part)}).second)
          fail(name_, ": tensor ", tensor.name, ": ", hf.names[part], " is there already");
        order_.push_back(hf.names[part]);
      }
    }
  if (const auto stated = meta.integer("split.tensors.count", 0, INT64_MAX)) {
    size_t have = 0;
    for (const auto& file : files_) have += file->tensors().size();
    if (static_cast<size_t>(*stated) != have)
      fail(name_, ": split.tensors.count is ", *stated, ", the shards hold ", have);
  }
}

const GgufTensor* GgufSource::stored(std::string_view gguf_name) const {
  for (const auto& file : files_)
    if (const GgufTensor* found = file->find(gguf_name)) return found;
  return nullptr;
}

Tensor GgufSource::find(std::string_view name) const {
  const auto at = entries_.find(name);
  if (at == entries_.end()) return {};
  const Entry& entry = at->second;
  const GgufTensor& t = *entry.tensor;
  if (entry.layout == GgufLayout::same && is_float(t.type)) {
    const DType type = float_type(t.type);
    if (reinterpret_cast<uintptr_t>(t.data.data()) % static_cast<uintptr_t>(size_of(type)) == 0)
      return {const_cast<char*>(t.data.data()), type, t.shape};
  }
  const auto made = made_.find(at->first);
  if (made != made_.end()) return made->second.tensor;
  return made_.emplace(at->first, make(entry)).first->second.tensor;
}

std::optional<TensorSource::Info> GgufSource::info(std::string_view name) const {
  const auto at = entries_.find(name);
  if (at == entries_.end()) return std::nullopt;
  const auto& [tensor, layout, part] = at->second;
  const bool codes = !is_float(tensor->type), rows = layout == GgufLayout::same || layout == GgufLayout::rotary;
  if (rows) return Info{codes ? DType::f32 : float_type(tensor->type), tensor->shape, codes};
  const Tensor made = find(name);  // the small tensors of RWKV mixers
  return Info{made.type, made.shape, codes};
}

void GgufSource::forget(std::string_view name) const {
  const auto at = made_.find(std::string(name));
  if (at != made_.end()) made_.erase(at);
}

StoredRows GgufSource::rows_of(const Entry& entry) const {
  const GgufTensor& t = *entry.tensor;
  StoredRows rows{t.type, t.rows(), t.cols(), 0, t.data.data()};
  if (entry.layout != GgufLayout::rotary) return rows;
  if (t.shape.rank == 1 && is_float(t.type)) std::swap(rows.rows, rows.cols);  // a bias: rows of one element
  if (t.shape.rank > 2 || rows.rows % rotary_head_ != 0)
    fail(name_, ": tensor ", t.name, ": expected the rows of whole heads of ", rotary_head_, ", found ", t.shape.str(),
         " of ", format_of(t.type).name);
  rows.rotary_head = rotary_head_;
  return rows;
}

std::optional<StoredRows> GgufSource::stored_rows(std::string_view name) const {
  const auto at = entries_.find(name);
  if (at == entries_.end() || at->second.tensor->shape.rank != 2) return std::nullopt;
  const GgufLayout layout = at->second.layout;
  if (layout != GgufLayout::same && layout != GgufLayout::rotary) return std::nullopt;
  return rows_of(at->second);
}

GgufSource::Made GgufSource::make(const Entry& entry) const {
  if (entry.layout != GgufLayout::same && entry.layout != GgufLayout::rotary) return rearrange(entry);
  const StoredRows from = rows_of(entry);
  const DType type = float_type(from.type);
  const int64_t bytes = from.cols * size_of(type);
  Made made{Block(from.rows * bytes, "tensor " + entry.tensor->name), {}};
  made.tensor = Tensor(made.memory.data(), type, entry.tensor->shape);
  parallel_for(from.rows, rows_per_thread(from.cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      char* to = made.memory.data() + r * bytes;
      if (is_float(from.type)) {
        std::memcpy(to, from.row(r), static_cast<size_t>(bytes));
      } else {
        dequantise_row(from.type, from.row(r), from.cols, reinterpret_cast<float*>(to));
      }
    }
  });
  return made;
}

GgufSource::Made GgufSource::rearrange(const Entry& entry) const {
  const GgufTensor& t = *entry.tensor;
  const std::string what = "tensor " + t.name;
  const Block scratch(4 * t.shape.count(), what);
  dequantise(t, reinterpret_cast<float*>(scratch.data()));
  const float* from = reinterpret_cast<const float*>(scratch.data());
  Made made;
  const auto take = [&](bool fits, const char* expected, Shape shape) {
    if (!fits) fail(name_, ": ", what, ": expected ", expected, ", found ", t.shape.str());
    made.memory = Block(4 * shape.count(), what);
    made.tensor = Tensor(made.memory.data(), DType::f32, shape);
    return made.tensor.as<float>();
  };
  const int64_t outer = t.shape.dim[0], cols = t.cols(), rank = t.shape.rank;
  switch (entry.layout) {
    case GgufLayout::transposed: {
      float* to = take(rank == 2, "two axes", {cols, outer});
      transpose(from, outer, cols, to, outer);
      break;
    }
    case GgufLayout::streams_in: {
      float* to = take(rank == 2 && outer % kStreams == 0, "rows of five streams", {cols, outer});
      const int64_t rows = outer / kStreams;
      for (size_t s = 0; s < kStreams; ++s)
        transpose(from + static_cast<int64_t>(s) * rows * cols, rows, cols, to + kGgufStreams[s] * rows, outer);
      break;
    }
    case GgufLayout::streams_out: {
      const int64_t rows = rank == 3 ? t.shape.dim[1] : 0;
      float* to = take(rank == 3 && outer == kStreams, "five matrices", {kStreams, cols, rows});
      for (size_t s = 0; s < kStreams; ++s)
        transpose(from + static_cast<int64_t>(s) * rows * cols, rows, cols, to + kGgufStreams[s] * rows * cols, rows);
      break;
    }
    default: {
      float* to = take(t.shape.count() == kStreams * cols, "five rows", {cols});
      std::memcpy(to, from + entry.part * cols, static_cast<size_t>(4 * cols));
    }
  }
  return made;
}

bool GgufSource::has_tokenizer() const {
  const auto model = file().text("tokenizer.ggml.model");
  return model && *model != "none" && *model != "no_vocab";
}

}  // namespace qwerky
