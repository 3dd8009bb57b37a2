// SPDX-License-Identifier: MIT
// Draws the tokens of one sequence: penalties, truncations and the draw, each as in its source.
#pragma once

#include <deque>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/constraint.h"
#include "qwerky/qwerky.h"

namespace qwerky {

class Tokenizer;

/// One sequence's sampler. Draw number i of a seed depends on the logits, the ids accepted so far and i alone: never on
/// what else runs.
class Sampler {
 public:
  /// Throws Error naming an option that is out of range.
  Sampler(SamplerOptions options, int64_t vocab);

  /// Ids that penalties look back on, before the first draw.
  void read(std::span<const int32_t> prompt);
  /// The next id, and remembers it. `logits` [V] as the model gave them; `allowed` [V] or empty: ids with 0 are never
  /// drawn.
  int32_t draw(std::span<const float> logits, std::span<const uint8_t> allowed = {});

 private:
  struct Read {
    int32_t id;
    bool generated;  ///< else it was in the prompt
  };
  struct Seen {  ///< how often, within the window
    int64_t all = 0, generated = 0;
  };

  friend int32_t sample(std::span<const float> logits, const SamplerOptions& options, int64_t index);
  void remember(int32_t id, bool generated);
  void count(Read read, int64_t by);
  bool breaks(int32_t id) const;
  void penalise(std::span<float> logits) const;
  int32_t pick(std::span<const float> logits);

  bool penalises() const;

  SamplerOptions options_;
  int64_t vocab_;
  std::deque<Read> history_;                ///< the last that DRY or the end of a window look at
  std::unordered_map<int32_t, Seen> seen_;  ///< where there are penalties
  int64_t draws_ = 0;
  double mirostat_mu_;  ///< most surprise of the next token, in bits
};

/// Ids of all tokens whose text holds one of `texts`, for SamplerOptions::dry_breakers.
std::vector<int32_t> dry_breakers(const Tokenizer& tokenizer, std::span<const std::string> texts);

}  // namespace qwerky
