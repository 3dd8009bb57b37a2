// SPDX-License-Identifier: MIT
// Draws the tokens of one sequence: penalties, truncations and the draw, each as in its source.
#pragma once

#include <span>
#include <vector>

#include "engine/constraint.h"
#include "qwerky/qwerky.h"

namespace qwerky {

/// One sequence's sampler. Draw number i of a seed depends on the logits, the ids accepted so far and i alone: never on
/// what else runs.
class Sampler {
 public:
  /// Throws Error naming an option that is out of range.
  Sampler(const SamplerOptions& options, int64_t vocab);

  /// Ids that penalties look back on, before the first draw.
  void read(std::span<const int32_t> prompt);
  /// The next id, and remembers it. `logits` [V] as the model gave them; `allowed` [V] or empty: ids with 0 are never
  /// drawn.
  int32_t draw(std::span<const float> logits, std::span<const uint8_t> allowed = {});

 private:
  SamplerOptions options_;
  std::vector<int32_t> history_;
  int64_t draws_ = 0;
  double mirostat_mu_ = 0;
};

}  // namespace qwerky
