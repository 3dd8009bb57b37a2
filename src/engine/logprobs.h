// SPDX-License-Identifier: MIT
// Log-probabilities as they are told to users.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

namespace qwerky {

/// Log-probabilities of one position, from the model's logits before any sampler: natural log, softmax over the whole
/// vocabulary, in f64.
struct Logprobs {
  int32_t id = 0;  ///< the token that stands there
  /// Of it; NaN where nothing was asked for, and for the first token of a text.
  double logprob = std::numeric_limits<double>::quiet_NaN();
  std::vector<std::pair<int32_t, double>> top;  ///< likeliest first, ties by id
};

/// Of `id`, and of the `top` likeliest, at most all.
Logprobs logprobs_of(std::span<const float> logits, int32_t id, int64_t top);

/// Whether a model gave numbers at all.
bool all_finite(std::span<const float> logits);

}  // namespace qwerky
