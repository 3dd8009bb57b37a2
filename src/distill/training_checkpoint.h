// SPDX-License-Identifier: MIT
// Where a run stands, on disk: checkpoint.safetensors of the first rank, and of each other rank
// optimiser-STAGE-STEP-RANK.safetensors. A file holds what its rank owns of the student's block.
#pragma once

#include <functional>

#include "backend/collective.h"
#include "base/json.h"
#include "io/safetensors.h"
#include "tensor/params.h"

namespace qwerky {

class TrainingCheckpoint {
 public:
  static bool is_in(const Path& dir);
  /// All ranks call it, each with its own tensors. A kill at any moment leaves the last checkpoint or this one.
  static void save(const Path& dir, Collective& ranks, Json state, const std::vector<NamedTensor>& tensors);

  /// Throws Error when there is none that can be read.
  explicit TrainingCheckpoint(const Path& dir);
  const Json& state() const { return state_; }
  /// A number of the state, from 0 to `most`.
  int64_t number(const char* key, int64_t most) const;

  /// A tensor of a file, f32 [Range::count].
  using Find = std::function<Tensor(const char* name)>;
  /// What each rank of the run that wrote it owned, however many there are now.
  void each(const Params& params, const std::function<void(Range owned, const Find& find)>& f) const;
  /// Weights from the masters.
  void read_weights(Params& params) const;

 private:
  Path dir_, file_;
  SafetensorsFile first_;
  Json state_;
};

}  // namespace qwerky
