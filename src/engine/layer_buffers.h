// SPDX-License-Identifier: MIT
// A model whose layers' matrices stay in its files, or in shards over ranks, and are in memory two layers at a time.
#pragma once

#include <vector>

#include "backend/collective.h"
#include "engine/model.h"
#include "engine/two_layers.h"

namespace qwerky {

/// Layers of even and of odd number have a buffer each, so a weight has one address for good: what is there is valid
/// from the moment the decoder enters the layer. Vectors, embedding and head are always there.
class LayerBuffers final : public TwoLayers {
 public:
  /// `model` was loaded with LoadOptions::map. Its matrices move into the buffers' places; its decoder enters layers.
  /// `ranks`: how many may share them.
  explicit LayerBuffers(Model& model, int ranks = 1);
  ~LayerBuffers() override;

  /// From now on each rank holds its part of every layer in memory, and a layer is gathered from all of them instead of
  /// read from files: all ranks make the same passes. unshard(): from files again, each rank for itself.
  void shard(Collective& ranks);
  void unshard();
  /// Bytes of a rank's part.
  int64_t shard_bytes(int ranks) const;
  int64_t bytes() const override;

 private:
  struct Place {
    std::string name;
    Tensor stored;  // in the file's mapping
    int64_t begin;  // in the buffer, bytes
  };
  void fetch(int64_t layer, int64_t after) override;
  bool ahead() const override;
  int64_t part_bytes(int ranks) const;  // of a layer
  /// Copies bytes [begin, end) of a layer as it lies in a buffer to `to`, which stands for `begin`.
  void read(int64_t layer, char* to, int64_t begin, int64_t end);

  const TensorSource& files_;
  std::vector<std::vector<Place>> layers_;
  int64_t layer_bytes_ = 0, tables_ = 0;  // of the largest layer; of matrices outside layers
  Arena memory_{"layers of the teacher"};
  Tensor buffers_[2];  // [ranks × a part of a layer] of f32, whatever the layer holds
  Collective* ranks_ = nullptr;
  bool main_thread_alone_ = false;  // asks `ranks_`
  std::unique_ptr<Arena> shard_memory_;
  std::vector<Tensor> shards_;  // of this rank, per layer
};

}  // namespace qwerky
