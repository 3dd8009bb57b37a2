// SPDX-License-Identifier: MIT
#include "engine/greedy.h"

#include "engine/prefill.h"

namespace qwerky {

void continue_greedily(const Backend& on, const Decoder& model, std::span<const std::vector<int32_t>> prompts,
                       int64_t max_tokens, const Emit& emit) {
  const int64_t V = model.config().vocab;
  int64_t longest = 0;
  for (const auto& prompt : prompts) {
    CHECK(!prompt.empty(), "an empty prompt");
    longest = std::max(longest, static_cast<int64_t>(prompt.size()));
  }
  Arena scratch("generation scratch");
  const Exec ex{on, scratch};
  struct Writer {
    size_t prompt;
    std::unique_ptr<State> state;
    int32_t next;
  };
  std::vector<Writer> writers;
  const auto wants_more = [&](size_t i, int32_t id) { return emit(i, id) && max_tokens > 1; };
  for (size_t i = 0; i < prompts.size() && max_tokens > 0; ++i) {
    Scope scope(scratch);
    Writer w{i, model.make_state(on.scalar(), longest + max_tokens), 0};
    const Tensor logits = ex.make(1, V);
    prefill(ex, model, *w.state, prompts[i], logits);
    on.argmax({&w.next, 1}, logits);
    if (wants_more(i, w.next)) writers.push_back(std::move(w));
  }
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
    for (size_t i = 0; i < writers.size(); ++i) writers[i].next = ids[i];
    std::erase_if(writers, [&](const Writer& w) { return !emit(w.prompt, w.next); });
  }
}

}  // namespace qwerky
