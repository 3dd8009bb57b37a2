// SPDX-License-Identifier: MIT
#include "eval/model_scorer.h"

#include <algorithm>

#include "base/error.h"
#include "base/units.h"
#include "engine/fingerprint.h"
#include "engine/prompt_tree.h"
#include "engine/side_by_side.h"
#include "eval/text_rules.h"

namespace qwerky {

ModelScorer::ModelScorer(const Engine& engine, const ModelScorerOptions& options)
    : engine_(engine),
      model_(*engine.internals().model),
      on_(*engine.internals().backend),
      options_(options),
      max_length_(options.max_length > 0 ? options.max_length : model_.config().max_positions),
      continuations_(on_, *model_.decoder, {.share = options.share, .before_call = options.before_call}) {
  CHECK(model_.tokenizer != nullptr);
  if (engine.max_tokens() > 0 && max_length_ > engine.max_tokens())
    fail(model_.path.string(), ": --max-length ", max_length_, " is more than the ", engine.max_tokens(),
         " positions that its softmax layers were made for");
}

Scorer ModelScorer::scorer() {
  return {[this](std::span<const Request> requests) { return loglikelihood(requests); },
          [this](std::span<const std::string> texts) { return rolling(texts); },
          [this](std::span<const GenerateRequest> requests) { return generate(requests); }};
}

int32_t ModelScorer::prefix_id() const {
  const Tokenizer& t = *model_.tokenizer;
  if (t.bos) return *t.bos;
  if (!t.eos.empty()) return t.eos.front();
  fail(model_.path.string(), ": a text without context needs BOS or an end-of-text token, the tokenizer has neither");
}

Continuation ModelScorer::split(const Request& request) const {
  const Tokenizer& t = *model_.tokenizer;
  const std::string& c = request.context;
  if (c.empty()) {
    std::vector<int32_t> ids = t.encode(request.continuation);
    if (ids.empty() || ids.front() != prefix_id() || ids.size() == 1) ids.insert(ids.begin(), prefix_id());
    return {std::move(ids), 1};
  }
  const std::string_view stripped = python_rstrip(c);
  std::vector<int32_t> context = t.encode(stripped);
  const std::vector<int32_t> whole = t.encode(c + request.continuation);
  if (whole.size() <= context.size())
    fail("continuation \"", request.continuation, "\" has no ids of its own after its context");
  const auto skipped = static_cast<int64_t>(context.size());
  if (context.empty() || (options_.bos && t.bos)) context.insert(context.begin(), prefix_id());
  const auto first = static_cast<int64_t>(context.size());
  context.insert(context.end(), whole.begin() + skipped, whole.end());
  return {std::move(context), first};
}

std::vector<Answer> ModelScorer::loglikelihood(std::span<const Request> requests) {
  std::vector<Continuation> list;
  std::vector<Answer> answers;
  for (const Request& request : requests) {
    Answer& answer = answers.emplace_back();
    Continuation c = split(request);
    if (const int64_t over = static_cast<int64_t>(c.ids.size()) - (max_length_ + 1); over > 0) {
      c.ids.erase(c.ids.begin(), c.ids.begin() + over);
      answer.cut = over >= c.first;
      c.first = std::max<int64_t>(1, c.first - over);
      answer.truncated = true;
    }
    list.push_back(std::move(c));
  }
  const std::vector<ContinuationScore> scores = continuations_.score(list);
  for (size_t i = 0; i < answers.size(); ++i)
    answers[i].loglikelihood = scores[i].loglikelihood, answers[i].greedy = scores[i].greedy;
  return answers;
}

/// Windows of max_length that follow each other; each but the first sees the ids before it that still fit.
std::vector<double> ModelScorer::rolling(std::span<const std::string> texts) {
  std::vector<double> sums;
  for (const std::string& text : texts) {
    std::vector<int32_t> ids = model_.tokenizer->encode(text);
    if (ids.empty()) fail("a text without ids cannot be scored");
    ids.insert(ids.begin(), prefix_id());
    std::vector<Continuation> windows;
    const auto n = static_cast<int64_t>(ids.size());
    for (int64_t first = 1; first < n; first += max_length_) {
      const int64_t end = std::min(n, first + max_length_), begin = std::max<int64_t>(0, end - max_length_ - 1);
      windows.push_back({{ids.begin() + begin, ids.begin() + end}, first - begin});
    }
    double sum = 0;
    for (const ContinuationScore& s : continuations_.score(windows)) sum += s.loglikelihood;
    sums.push_back(sum);
  }
  return sums;
}

std::vector<Written> ModelScorer::generate(std::span<const GenerateRequest> requests) {
  const Tokenizer& t = *model_.tokenizer;
  std::vector<Written> texts(requests.size());
  for (size_t from = 0; from < requests.size();) {
    const int64_t most = requests[from].how.most > 0 ? requests[from].how.most : options_.generate;
    const int64_t room = max_length_ - most;
    if (room < 1) fail("generation of ", most, " ids leaves no room for a prompt in a length of ", max_length_);
    std::vector<std::vector<int32_t>> prompts;
    std::vector<SamplerOptions> samplers;
    for (size_t i = from; i < requests.size() && i - from < static_cast<size_t>(options_.side_by_side) &&
                          requests[i].how.most == requests[from].how.most;
         ++i) {
      std::vector<int32_t> ids = t.encode(requests[i].context);
      if (ids.empty() || (options_.bos && t.bos)) ids.insert(ids.begin(), prefix_id());
      if (const int64_t over = static_cast<int64_t>(ids.size()) - room; over > 0) {
        ids.erase(ids.begin(), ids.begin() + over);
        texts[i].truncated = true;
      }
      prompts_asked_ += static_cast<int64_t>(ids.size());
      prompts.push_back(std::move(ids));
      samplers.push_back(requests[i].how.sampler);
    }
    prompts_run_ += prompt_rows(prompts, options_.share);
    std::vector<std::vector<int32_t>> written(prompts.size());
    const auto goes_on = [&](size_t i, int32_t id) {
      if (std::find(t.eos.begin(), t.eos.end(), id) != t.eos.end()) return false;
      written[i].push_back(id);
      texts[from + i].text = t.decode(written[i], true);
      const std::string all = t.decode(written[i], false);  // a stop may be the text of a special token
      const auto& stops = requests[from + i].how.stops;
      return std::none_of(stops.begin(), stops.end(),
                          [&](const std::string& stop) { return all.find(stop) != all.npos; });
    };
    double taking = 0;
    const auto take = [&](size_t i, int32_t id) {
      if (options_.before_call) options_.before_call();
      const Clock::time_point began = Clock::now();
      const bool more = goes_on(i, id);
      taking += seconds_since(began);
      return more;
    };
    const auto began = Clock::now();
    continue_prompts(on_, *model_.decoder, prompts, most, take, {samplers, options_.share});
    writing_seconds_ += seconds_since(began) - taking;
    from += prompts.size();
  }
  return texts;
}

std::string ModelScorer::fingerprint() const {
  return sha256(concat(model_fingerprint(engine_), " length ", max_length_, " bos ", options_.bos, " generated ",
                       options_.generate));
}

}  // namespace qwerky
