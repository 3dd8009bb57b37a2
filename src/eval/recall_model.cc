// SPDX-License-Identifier: MIT
#include "eval/recall_model.h"

#include <algorithm>

#include "base/error.h"
#include "engine/prefill.h"
#include "engine/prompt_tree.h"

namespace qwerky {
namespace {

constexpr int64_t kStateBytes = int64_t{1} << 30;  ///< of states that go on side by side

std::vector<std::vector<int32_t>> ids_of(std::span<const RecallPrompt> prompts) {
  std::vector<std::vector<int32_t>> ids;
  for (const RecallPrompt& prompt : prompts) ids.push_back(prompt.ids);
  return ids;
}

int64_t longest_key(const RecallPrompt& prompt) {
  size_t n = 0;
  for (const auto& key : prompt.keys) n = std::max(n, key.size());
  return static_cast<int64_t>(n);
}

/// Answers one prompt from the state after it.
struct Answerer {
  const Exec& ex;
  const Decoder& model;
  const Tokenizer& tokenizer;

  /// -ln p of targets [n] under logits [n, V]
  std::vector<double> losses(Tensor logits, std::span<const int32_t> targets) const {
    const Tensor loss = ex.make(1, static_cast<int64_t>(targets.size()));
    ex.on.cross_entropy(loss, {}, logits, targets, 1);
    wait_for_device();
    return {loss.as<float>(), loss.as<float>() + targets.size()};
  }

  /// Each key from a copy of the state, as many side by side as their states have room.
  std::vector<double> score(const RecallPrompt& prompt, const State& state, Tensor logits) const {
    std::vector<double> scores;
    const auto most = static_cast<size_t>(std::max<int64_t>(1, kStateBytes / std::max<int64_t>(1, state.bytes())));
    for (size_t from = 0; from < prompt.keys.size(); from += most) {
      Scope scope(ex.scratch);
      const auto keys = std::span(prompt.keys).subspan(from, std::min(most, prompt.keys.size() - from));
      std::vector<std::unique_ptr<State>> states;
      std::vector<Segment> batch;
      std::vector<int32_t> ids, targets;
      for (const auto& key : keys) {
        scores.push_back(-losses(logits, {key.data(), 1})[0]);
        if (key.size() == 1) continue;
        states.push_back(model.make_state(ex.on.scalar(), state.capacity()));
        states.back()->copy_from(state);
        const auto rows = static_cast<int64_t>(key.size()) - 1;
        batch.push_back({states.back().get(), static_cast<int64_t>(ids.size()), rows});
        ids.insert(ids.end(), key.begin(), key.end() - 1);
        targets.insert(targets.end(), key.begin() + 1, key.end());
      }
      if (ids.empty()) continue;
      const auto n = static_cast<int64_t>(ids.size());
      const Tensor hidden = ex.make(n, model.config().hidden), next = ex.make(n, model.config().vocab);
      model.forward(ex, ids, batch, hidden);
      model.logits(ex, hidden, next);
      const auto rest = losses(next, targets);
      size_t row = 0;
      for (size_t i = 0; i < keys.size(); ++i)
        for (size_t k = 1; k < keys[i].size(); ++k) scores[from + i] -= rest[row++];
    }
    return scores;
  }

  /// The likeliest ids from the state on, which is used up.
  std::vector<int32_t> go_on(State& state, Tensor logits, int64_t most) const {
    std::vector<int32_t> ids;
    for (;;) {
      Scope scope(ex.scratch);
      int32_t id = 0;
      ex.on.argmax({&id, 1}, logits);
      if (std::find(tokenizer.eos.begin(), tokenizer.eos.end(), id) != tokenizer.eos.end()) break;
      ids.push_back(id);
      if (static_cast<int64_t>(ids.size()) == most) break;
      prefill(ex, model, state, {&id, 1}, logits);
    }
    return ids;
  }
};

}  // namespace

void check_lengths(const Engine& engine, std::span<const int64_t> lengths, int64_t max_length) {
  const std::string path = engine.internals().model->path.string();
  for (const int64_t length : lengths) {
    if (max_length > 0 && length > max_length)
      fail(path, ": length ", length, " is more than --max-length ", max_length);
    if (max_length == 0 && engine.max_tokens() > 0 && length > engine.max_tokens())
      fail(path, ": length ", length, " is more than the ", engine.max_tokens(),
           " positions that its softmax layers were made for; ask for shorter --lengths, or for --max-length ", length,
           " to see what it does there");
  }
}

RecallModel recall_model(const Engine& engine, bool share) {
  const Model& model = *engine.internals().model;
  const Backend& on = *engine.internals().backend;
  CHECK(model.tokenizer != nullptr);
  RecallModel recall;
  recall.rows = [share](std::span<const RecallPrompt> prompts) {
    std::vector<std::vector<int32_t>> ids;
    for (const RecallPrompt& prompt : prompts)
      if (!prompt.answered) ids.push_back(prompt.ids);
    return prompt_rows(ids, share);
  };
  recall.answer = [&model, &on, share](std::span<const RecallPrompt> prompts, const RecallModel::OnRows& on_rows,
                                       const RecallModel::OnAnswer& on_answer) {
    Arena scratch("recall scratch");
    const Exec ex{on, scratch};
    const Answerer answerer{ex, *model.decoder, *model.tokenizer};
    int64_t room = 0;
    for (const RecallPrompt& prompt : prompts) room = std::max(room, longest_key(prompt) + kAnswerSlack);
    read_prompts(
        ex, *model.decoder, ids_of(prompts), share, room, on_rows,
        [&](size_t i, State& state, Tensor logits) {
          RecallAnswer answer;
          answer.loglikelihoods = answerer.score(prompts[i], state, logits);
          if (!prompts[i].key.empty())
            answer.greedy = answerer.go_on(state, logits, longest_key(prompts[i]) + kAnswerSlack);
          on_answer(i, answer);
        },
        [prompts](size_t i) { return !prompts[i].answered; });
  };
  recall.losses = [&model, &on](std::span<const int32_t> ids, int64_t first, const RecallModel::OnRows& on_rows) {
    Arena scratch("recall scratch");
    return sequence_losses({on, scratch}, *model.decoder, ids, first, on_rows);
  };
  return recall;
}

}  // namespace qwerky
