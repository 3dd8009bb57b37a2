// SPDX-License-Identifier: MIT
#include "engine/side_by_side.h"

#include "engine/prompt_tree.h"

namespace qwerky {

void continue_prompts(const Backend& on, const Decoder& model, std::span<const std::vector<int32_t>> prompts,
                      int64_t max_tokens, const Emit& emit, const SideBySide& how) {
  if (max_tokens < 1) return;
  const int64_t V = model.config().vocab;
  Arena scratch("generation scratch");
  const Exec ex{on, scratch};
  struct Writer {
    size_t prompt;
    std::unique_ptr<State> state;
    int32_t next;
  };
  std::vector<Writer> writers;
  // Draw number `step` of prompt i, for a row [1, V] whose likeliest id is given.
  const auto drawn = [&](size_t i, int32_t likeliest, Tensor logits, int64_t step) {
    if (how.samplers.empty() || how.samplers[i].temperature == 0) return likeliest;
    return sample({logits.as<float>(), static_cast<size_t>(V)}, how.samplers[i], step);
  };
  read_prompts(
      ex, model, prompts, how.share, max_tokens, [](int64_t) { return true; },
      [&](size_t i, State& state, Tensor logits) {
        int32_t next = 0;
        on.argmax({&next, 1}, logits);
        next = drawn(i, next, logits, 0);
        if (!emit(i, next) || max_tokens == 1) return;
        writers.push_back({i, model.make_state(on.scalar(), state.capacity()), next});
        writers.back().state->copy_from(state);
      });
  for (int64_t step = 1; step < max_tokens && !writers.empty(); ++step) {
    Scope scope(scratch);
    std::vector<int32_t> ids;
    std::vector<Segment> batch;
    for (const Writer& w : writers) {
      batch.push_back({w.state.get(), static_cast<int64_t>(ids.size()), 1});
      ids.push_back(w.next);
    }
    const auto n = static_cast<int64_t>(ids.size());
    const Tensor hidden = ex.make(n, model.config().hidden), logits = ex.make(n, V);
    model.forward(ex, ids, batch, hidden);
    model.logits(ex, hidden, logits);
    on.argmax(ids, logits);
    for (size_t i = 0; i < writers.size(); ++i)
      writers[i].next = drawn(writers[i].prompt, ids[i], logits.rows(static_cast<int64_t>(i), 1), step);
    std::erase_if(writers, [&](const Writer& w) { return !emit(w.prompt, w.next); });
  }
}

}  // namespace qwerky
