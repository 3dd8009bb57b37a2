// SPDX-License-Identifier: MIT
// Greedy text of two models after the same prompts: how long it stays the same, which log-likelihoods of given
// answers do not show.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/measure.h"
#include "eval/evaluate.h"

namespace qwerky {

using Ids = std::vector<int32_t>;

/// Prompts of one source: a task's contexts, or the beginnings of windows of a text.
struct GreedyPrompts {
  std::string source;
  std::vector<Ids> ids;
};

/// The contexts of at most `most` documents, evenly spaced among those that are finished, without white space at their
/// end; of longer ones the last `room` ids. Empty for tasks without contexts.
GreedyPrompts task_prompts(const TaskRun& run, const Tokenizer& tokenizer, int64_t most, int64_t room);
/// The first halves of at most `most` windows, evenly spaced.
GreedyPrompts window_prompts(const Windows& windows, int64_t most);

/// At most `tokens` likeliest ids behind each prompt, up to and with an id that ends a text.
std::vector<Ids> continuations(const Engine& engine, const std::vector<Ids>& prompts, int64_t tokens,
                               const std::function<void(int64_t done)>& progress = nullptr);

struct Agreement {
  std::string source;
  int64_t tokens = 0;             ///< asked of each continuation
  std::vector<int64_t> agreed;    ///< per prompt: ids before the first that differs; `tokens` when none does
  double share(int64_t k) const;  ///< of prompts whose first k ids agree
  double identical() const { return share(tokens); }
  double median_agreed() const;
};

Agreement agreement(const std::string& source, int64_t tokens, std::span<const Ids> teacher,
                    std::span<const Ids> student);

Json to_json(const Agreement& agreement);

/// All prompts of several sources as one.
Agreement pooled(std::span<const Agreement> parts);

}  // namespace qwerky
