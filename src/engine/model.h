// SPDX-License-Identifier: MIT
// A model in memory: configuration, weights, decoder and tokenizer.
#pragma once

#include <functional>
#include <memory>

#include "io/checkpoint.h"
#include "io/tokenizer.h"
#include "model/decoder.h"

namespace qwerky {

struct PackFormats;

/// Two or more axes of more than one element: what may be stored as bf16.
bool is_matrix(const Shape& shape);
/// The layer that a parameter belongs to, -1 outside layers.
int64_t layer_number(const std::string& name);
/// Whether `p` is read by matrix products and nothing else.
bool only_multiplied(const Config& config, const Param& p);

struct LoadOptions {
  /// All weights as f32 in one block (masters for training); otherwise matrices keep f32 or bf16 as stored.
  bool train = false;
  /// When not training: matrices are held as bf16 whatever the file has.
  bool bf16 = false;
  /// A missing tokenizer is an Error; otherwise `tokenizer` is null.
  bool need_tokenizer = true;
  /// For inference on this backend: weights of products go into panels where it prefers them.
  const Backend* pack_for = nullptr;
  /// With pack_for: panels of these formats, also where it does not prefer them; null: f32 or bf16 as stored.
  const PackFormats* formats = nullptr;
  /// The weights will be copied or changed: a packed file is an Error. Implied by `train`.
  bool rows = false;
  /// The weights of a packed file are copied into huge pages instead of used where they are mapped.
  bool copy = false;
  /// Matrices stay where their files are mapped, read-only (`source` keeps them): an Error where they are not stored
  /// there as they would be held.
  bool map = false;
  /// Changes the configuration that was read, before anything is built from it.
  std::function<void(Config&)> edit = nullptr;
};

struct Model {
  Path path;
  Json config_json;           ///< as on disk
  DType stored = DType::f32;  ///< of the matrices on disk: f32 or bf16 (also for codes)
  Params params;
  std::unique_ptr<Decoder> decoder;
  std::unique_ptr<Tokenizer> tokenizer;
  Path tokenizer_path;
  std::unique_ptr<Arena> weights;
  std::shared_ptr<const TensorSource> source;  ///< files whose mapping holds the weights
  std::unique_ptr<LayerWeights> layers;        ///< where layers are not in memory all the time

  const Config& config() const { return decoder->config(); }
  /// Weight bytes read per decoded token: everything but the embedding table of an untied head.
  int64_t bytes_per_token() const;
  /// A weight for the host to read, also where its layer is not in memory now.
  Tensor stored_weight(const Param& p) const {
    return layers && is_matrix(p.shape) ? source->find(p.name).shaped(p.shape) : p.weight;
  }
  /// Memory that weights take at most.
  int64_t weight_bytes() const { return weights->peak_bytes() + (layers ? layers->bytes() : 0); }
};

/// open_checkpoint(), where a family that is not supported is refused before weights are looked for.
Checkpoint open_model(const Path& path);
std::unique_ptr<Model> load_model(const Path& path, const LoadOptions& options = {});
std::unique_ptr<Model> load_model(const Checkpoint& checkpoint, const LoadOptions& options = {});
/// bf16 when every matrix of the source is bf16 or codes, else f32 (f16 widens without loss).
DType stored_matrix_type(const TensorSource& source);
/// A model whose parameters are declared but have no memory.
std::unique_ptr<Model> declare_model(const Config& config);
/// A model with memory but zero weights, to be filled by an initialiser.
std::unique_ptr<Model> make_model(const Config& config, bool train, bool bf16 = false);
/// Memory that weights for training take on one rank.
int64_t training_weight_bytes(const Params& declared, const Config& config, const Params::Which& own,
                              const Sharding& sharding);
/// The same for training, where only parameters that are `own` (null: all) have memory.
std::unique_ptr<Model> make_model(const Config& config, const Params::Which& own, const Sharding& sharding);

/// Which names a checkpoint may hold although nothing reads them.
std::function<bool(std::string_view)> ignored_names(const Config& config);

/// Writes a loadable Hugging Face directory: config, weights stored as `type` (vectors always f32), the unused but
/// published tensors as zeros, and the tokenizer files of `tokenizer_from`.
void save_model(const Path& dir, const Config& config, const Params& params, DType type, const Path& tokenizer_from);

}  // namespace qwerky
