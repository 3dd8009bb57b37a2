// SPDX-License-Identifier: MIT
// Gradients over ranks (ZeRO stage 2, arXiv 1910.02054): those of a layer's matrices are in memory while a backward
// pass is in it, then summed to the ranks that own their parts.
#pragma once

#include <vector>

#include "backend/backend.h"
#include "backend/collective.h"
#include "model/layer_gradients.h"

namespace qwerky {

/// All ranks make the same passes. Gradients of vectors and of the embedding are whole, and summed once a step.
class ShardedGradients final : public LayerGradients {
 public:
  /// Of parameters in `params`' block, of a model of so many layers.
  ShardedGradients(const Backend& on, const Params& params, int64_t layers, Collective& ranks);

  /// What trains from now on.
  void train(std::vector<Range> ranges);
  Tensor of(const Param& p) override;
  void leave(int64_t layer) override;
  /// Ends a step: sums() are those of all its passes, on all ranks.
  void finish();
  /// Of the part of the block that this rank owns. zero(): for the next step.
  Tensor sums() const { return sums_; }
  void zero() { on_.zero(sums_); }
  int64_t bytes() const { return memory_.peak_bytes(); }

 private:
  /// Adds what trains of the gradients `from`, which lie at a place of the block, to the owners' sums, and clears it.
  void give(Range at, Tensor from);

  const Backend& on_;
  const Params& params_;
  Collective& ranks_;
  const Range owned_, rest_at_;
  std::vector<Range> layers_;  // of matrices in the block; the last is the head's
  std::vector<Range> trains_;
  int64_t layer_ = -1;  // whose gradients are in buffer_
  Arena memory_{"gradients"};
  Tensor sums_, rest_, buffer_;
};

}  // namespace qwerky
