// SPDX-License-Identifier: MIT
// A model on disk: configuration + named tensors + where its tokenizer lies, whatever the format.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/files.h"
#include "io/packed.h"
#include "io/safetensors.h"
#include "tensor/params.h"

namespace qwerky {

struct Checkpoint {
  Path path;                ///< as given by the user
  Json config;              ///< config.json, or the same keys made from a llama2.c header or GGUF's metadata
  std::string config_name;  ///< where it stands, for messages
  std::shared_ptr<TensorSource> tensors;  ///< Hugging Face names, [out, in] matrices
  Path tokenizer;                         ///< directory or file for load_tokenizer; empty when there is none
  const PackedFile* packed = nullptr;     ///< `tensors`, when it is a packed file: for inference only
};

/// The tensors of several safetensors files as model.safetensors.index.json maps them. A shard that is absent, a
/// tensor that its shard does not hold, a shard outside `dir`: an Error naming it.
class ShardedTensors : public TensorSource {
 public:
  ShardedTensors(const Path& dir, const Json& index);
  std::string describe() const override { return name_; }
  std::vector<std::string> names() const override { return order_; }
  Tensor find(std::string_view name) const override;
  void forget(std::string_view name) const override;
  bool prefetch(std::string_view name) const override;

 private:
  std::string name_;
  std::vector<std::unique_ptr<SafetensorsFile>> shards_;
  std::vector<std::string> order_;
  std::map<std::string, const SafetensorsFile*, std::less<>> shard_of_;
};

/// Opens a Hugging Face directory (config.json; model.safetensors, or the shards that
/// model.safetensors.index.json lists), a .gguf file (or any of its shards; `tensors` is then a GgufSource), a
/// packed file (by its first bytes), a llama2.c .bin file, or a directory with one .gguf model or one .bin model beside
/// tok*.bin / tok*.model. A llama2.c model appears as `llama`. Throws Error naming what was looked for and what was
/// found; a shard that is listed but absent is named. `check` sees a directory's config.json and its path before
/// weights are looked for, and may throw.
using ConfigCheck = void (*)(const Json& config, const std::string& where);
Checkpoint open_checkpoint(const Path& path, ConfigCheck check = nullptr);

/// Writes config.json and model.safetensors (in shards of at most `shard_bytes` with an index when larger) into
/// `dir`, which is made if absent. Each file is written atomically, config.json last; weight files of an earlier
/// write that do not belong to this one are removed once the new ones are complete.
void write_checkpoint(const Path& dir, const Json& config, const std::vector<NamedTensor>& tensors,
                      int64_t shard_bytes = int64_t{5} << 30);

}  // namespace qwerky
