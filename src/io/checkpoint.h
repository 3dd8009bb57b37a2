// SPDX-License-Identifier: MIT
// A model on disk: configuration + named tensors + where its tokenizer lies, whatever the format.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/files.h"
#include "io/safetensors.h"
#include "tensor/params.h"

namespace qwerky {

struct Checkpoint {
  Path path;                              ///< as given by the user
  Json config;                            ///< config.json, or the same keys made from a llama2.c header
  std::unique_ptr<TensorSource> tensors;  ///< Hugging Face names, [out, in] matrices
  Path tokenizer;                         ///< directory or file for load_tokenizer; empty when there is none
};

/// Opens a Hugging Face directory (config.json; model.safetensors, or the shards that
/// model.safetensors.index.json lists), a llama2.c .bin file, or a directory with one .bin model beside
/// tok*.bin / tok*.model. A llama2.c model appears as `llama` with the extra config key "rope_interleaved": true.
/// Throws Error naming what was looked for and what was found; a shard that is listed but absent is named.
Checkpoint open_checkpoint(const Path& path);

/// Writes config.json and model.safetensors (in shards of at most `shard_bytes` with an index when larger) into
/// `dir`, which is made if absent. Each file is written atomically, config.json last.
void write_checkpoint(const Path& dir, const Json& config, const std::vector<NamedTensor>& tensors,
                      int64_t shard_bytes = int64_t{5} << 30);

}  // namespace qwerky
