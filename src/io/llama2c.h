// SPDX-License-Identifier: MIT
// llama2.c's legacy .bin: seven int32 (dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len), then f32
// tensors in a fixed order. There is no magic, so every field is checked and the size must be exactly what they imply.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/files.h"
#include "tensor/arena.h"
#include "tensor/params.h"

namespace qwerky {

/// Whether the header is sound and implies exactly this size.
bool is_llama2c(std::string_view bytes);

/// The model under Hugging Face names and conventions: views of the mapped file, but for the rows of q_proj and k_proj,
/// which are copied in the order of halves (llama2.c rotates adjacent pairs).
class Llama2cFile : public TensorSource {
 public:
  explicit Llama2cFile(const Path& path);
  /// Parses bytes owned by the caller (fuzzing, tests).
  Llama2cFile(std::string_view bytes, const std::string& name);
  std::string describe() const override { return name_; }
  std::vector<std::string> names() const override { return order_; }
  Tensor find(std::string_view name) const override;
  /// The keys a `llama` config.json would have.
  const Json& config() const { return config_; }

 private:
  void parse(std::string_view bytes);
  std::unique_ptr<MappedFile> file_;
  std::string name_;
  Json config_;
  Block rotated_;  // rows of q_proj and k_proj
  Block moved_;    // the tensors, where the caller's bytes are not aligned for f32
  std::vector<std::string> order_;
  std::map<std::string, Tensor, std::less<>> tensors_;
};

}  // namespace qwerky
