// SPDX-License-Identifier: MIT
// What a token costs as the context grows: time and state memory of one sequence, and how both are drawn.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/svg.h"
#include "qwerky/qwerky.h"

namespace qwerky {

struct ContextCost {
  int64_t context = 0;           ///< tokens the state has seen before the measured ones
  double seconds_per_token = 0;  ///< median
  int64_t state_bytes = 0;       ///< of a sequence of `context` tokens
  bool beyond = false;           ///< more positions than config.json allows
};

struct ContextCosts {
  std::string path, name, backend;  ///< name: of the mixers
  int64_t most = 0;                 ///< positions that config.json allows; 0: no limit
  std::vector<ContextCost> costs;
};

Json to_json(const ContextCosts& costs);

/// "rwkv7", "rwkv7 + softmax", "softmax"
std::string mixers_of(const Engine& engine);

/// Calls `before` with each context. Contexts whose state would not fit in memory are an Error, or with `until_full`
/// left out.
ContextCosts measure_contexts(const Engine& engine, const std::string& path, std::span<const int64_t> contexts,
                              bool until_full, const std::function<void(int64_t)>& before);

/// Sorted, each once; an Error unless every number is from 1 to 2^30.
std::vector<int64_t> checked_contexts(std::vector<int64_t> contexts);

/// One unit for all, so that numbers compare at a glance.
struct Unit {
  const char* name;
  double size;
};
Unit time_unit(std::span<const ContextCosts> all);
Unit memory_unit(std::span<const ContextCosts> all);

/// Time per token and state of one sequence.
std::vector<Chart> context_charts(std::span<const ContextCosts> all);

}  // namespace qwerky
