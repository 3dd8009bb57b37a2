// SPDX-License-Identifier: MIT
// A GGUF file as a model: the config.json its metadata amount to, and its tensors under Hugging Face names and layouts.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/gguf.h"
#include "io/gguf_names.h"
#include "tensor/arena.h"
#include "tensor/params.h"

namespace qwerky {

/// The rows of a matrix as the file stores them, in the order of the Hugging Face tensor.
struct StoredRows {
  BlockType type = BlockType::f32;
  int64_t rows = 0, cols = 0;
  int64_t rotary_head = 0;  ///< above 0: rows of each head of this size lie interleaved (GgufLayout::rotary)
  const char* data = nullptr;

  /// Row r of the Hugging Face tensor: row_bytes(type, cols) bytes, not aligned.
  const char* row(int64_t r) const {
    if (rotary_head > 0) {
      const int64_t i = r % rotary_head, half = rotary_head / 2;
      r += 2 * (i % half) + i / half - i;
    }
    return data + r * row_bytes(type, cols);
  }
};

/// One file, or the shards NAME-00001-of-0000N.gguf … of which any is given. find() returns plain floats where they
/// lie; what is quantised or laid out otherwise is made on demand, quantised values as f32, and kept until forget().
/// For one thread at a time.
class GgufSource : public TensorSource {
 public:
  /// Refuses architectures and split files it does not support, by name.
  explicit GgufSource(const Path& path);
  /// One file from bytes owned by the caller (fuzzing, tests).
  GgufSource(std::string_view bytes, const std::string& name);

  std::string describe() const override { return name_; }
  std::vector<std::string> names() const override { return order_; }
  Tensor find(std::string_view name) const override;
  std::optional<Info> info(std::string_view name) const override;
  void forget(std::string_view name) const override;

  /// The stored blocks of a matrix by its Hugging Face name, for repacking without a detour over floats. Nothing for
  /// tensors that are absent, not of two axes, or laid out otherwise than by rows.
  std::optional<StoredRows> stored_rows(std::string_view name) const;

  /// The keys of a config.json; see gguf_config.cc.
  Json config() const;
  /// The first file: metadata and vocabulary.
  const GgufFile& file() const { return *files_.front(); }
  /// Whether the file holds a vocabulary (tokenizer.ggml.model other than "none").
  bool has_tokenizer() const;

 private:
  struct Entry {
    const GgufTensor* tensor = nullptr;
    GgufLayout layout = GgufLayout::same;
    int part = 0;  // of `lerp`
  };
  struct Made {
    Block memory;
    Tensor tensor;
  };
  void open_shards(const Path& path);
  void index();
  const GgufTensor* stored(std::string_view gguf_name) const;
  StoredRows rows_of(const Entry& entry) const;
  Made make(const Entry& entry) const;
  Made rearrange(const Entry& entry) const;  // the layouts of the RWKV mixer's small tensors
  Json rope_scaling(int64_t head, double theta, int64_t positions) const;

  std::string name_, architecture_;
  int64_t rotary_head_ = 0;
  std::vector<std::unique_ptr<GgufFile>> files_;
  std::vector<std::string> order_;
  std::map<std::string, Entry, std::less<>> entries_;
  mutable std::map<std::string, Made> made_;
};

/// Whether a directory listing's name is a GGUF model, and for a shard whether it is the first.
bool is_gguf_model_name(std::string_view name);

}  // namespace qwerky
