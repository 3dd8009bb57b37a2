// SPDX-License-Identifier: MIT
#include "engine/context_cost.h"

#include <algorithm>
#include <chrono>

#include "base/random.h"

namespace qwerky {
namespace {

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<int64_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

int64_t state_bytes(const Engine& engine, int64_t tokens) {
  const Engine::Internals& in = engine.internals();
  return in.model->decoder->state_scalars(tokens) * size_of(in.backend->scalar());
}

std::vector<ContextCost> measure_context_cost(const Engine& engine, const ContextCostOptions& options,
                                              const Progress& progress) {
  using Clock = std::chrono::steady_clock;
  CHECK(!options.contexts.empty() && std::is_sorted(options.contexts.begin(), options.contexts.end()));
  CHECK(options.tokens >= 2 && options.rounds >= 1);
  const int64_t longest = options.contexts.back(), capacity = longest + options.tokens;
  if (const int64_t need = 2 * state_bytes(engine, capacity), have = available_memory_bytes(); need > have)
    fail("context ", longest, ": two states of ", engine.internals().model->path.string(), " need ", need >> 20,
         " MiB, this machine has ", have >> 20, " MiB available; ask for a shorter context");

  const Random random(1, hash_name("context cost"));
  Session filled(engine, capacity);
  std::vector<ContextCost> costs;
  for (int64_t context : options.contexts) {
    while (filled.position() < context) {
      constexpr int64_t kPart = 512;  // a progress report each
      std::vector<int32_t> ids(static_cast<size_t>(std::min(kPart, context - filled.position())));
      for (size_t i = 0; i < ids.size(); ++i)
        ids[i] = static_cast<int32_t>(
            random.below(static_cast<uint64_t>(filled.position()) + i, static_cast<uint64_t>(engine.vocab())));
      filled.append(ids);
      if (progress) progress(filled.position(), longest);
    }
    std::vector<double> seconds;
    for (int64_t round = 0; round < options.rounds; ++round) {
      Session session = filled.fork();
      for (int64_t i = 0; i < options.tokens; ++i) {
        const auto start = Clock::now();
        const int32_t id = sample(session.logits(), {}, 0);
        session.append({&id, 1});
        if (i > 0) seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
      }
    }
    const int64_t trained = engine.max_tokens();
    costs.push_back(
        {context, median(std::move(seconds)), state_bytes(engine, context), trained > 0 && context > trained});
  }
  return costs;
}

}  // namespace qwerky
