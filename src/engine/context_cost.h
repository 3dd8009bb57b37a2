// SPDX-License-Identifier: MIT
// What a decoded token costs, in time and state, when a sequence is so long.
#pragma once

#include <span>
#include <vector>

#include "engine/engine.h"
#include "engine/measure.h"

namespace qwerky {

struct ContextCost {
  int64_t context = 0;           ///< tokens the state has seen before the measured ones
  double seconds_per_token = 0;  ///< median; one decoder call with its logits and the choice of the likeliest token
  int64_t state_bytes = 0;       ///< of a sequence of `context` tokens
  bool beyond_training = false;  ///< more positions than the model was trained for
};

struct ContextCostOptions {
  std::vector<int64_t> contexts;  ///< ascending
  int64_t tokens = 16;            ///< decoded from each depth, in each round
  int64_t rounds = 8;             ///< each from a fresh copy of the filled state; its first token is not counted
};

/// State bytes of a sequence of `tokens` tokens.
int64_t state_bytes(const Engine& engine, int64_t tokens);

/// Fills one state by prefill with tokens drawn at random (time does not depend on which) and decodes from each depth.
/// Throws when two states of the longest context do not fit in memory.
std::vector<ContextCost> measure_context_cost(const Engine& engine, const ContextCostOptions& options,
                                              const Progress& progress = nullptr);

}  // namespace qwerky
