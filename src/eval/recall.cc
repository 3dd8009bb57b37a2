// SPDX-License-Identifier: MIT
#include "eval/recall.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include "base/error.h"

namespace qwerky {
namespace {

constexpr const char* kLosses = "ppl_by_length";
constexpr int64_t kMostLast = 256;    ///< tokens that ppl_by_length scores at the end of a text
constexpr int64_t kFirstBucket = 64;  ///< of positions; each further one ends at twice the position

/// All prompts of a task and a length.
struct Trial {
  std::string task;
  int64_t length;
  RecallPrompts prompts;
  size_t cell;  ///< index of the first of its cells, one a depth
};

void check(const RecallOptions& o) {
  for (const std::string& task : o.tasks)
    if (!is_recall_task(task)) fail("task \"", task, "\" is not one of recall");
  if (o.lengths.empty() || o.depths.empty()) fail("recall: expected at least one length and one depth");
  for (const int64_t length : o.lengths)
    if (length < 2) fail("length: expected at least 2 tokens, found ", length);
  for (const double depth : o.depths)
    if (!(depth >= 0 && depth <= 100)) fail("depth: expected 0 to 100 percent, found ", depth);
  if (o.samples < 1) fail("samples: expected at least 1, found ", o.samples);
}

/// Adds one sample to the means of a cell. What a key gains is its log-likelihood behind the needles less that behind
/// the same question without them: what the model thinks of the digits themselves cancels.
void add(RecallCell& cell, const RecallPrompt& prompt, const RecallAnswer& answer, const RecallAnswer& control,
         const Tokenizer& tokenizer) {
  std::vector<double> gains;
  for (size_t k = 0; k < prompt.keys.size(); ++k) {
    gains.push_back(answer.loglikelihoods.at(k) - control.loglikelihoods.at(k));
    if (!std::isfinite(gains[k]))
      fail(cell.task, ", length ", cell.length, ": the log-likelihoods of a key are ", answer.loglikelihoods[k],
           " and ", control.loglikelihoods[k]);
  }
  const auto n = static_cast<double>(++cell.samples), others = static_cast<double>(gains.size() - 1);
  const auto mean = [n](double& value, double x) { value += (x - value) / n; };
  mean(cell.generated, tokenizer.decode(answer.greedy, true).find(prompt.key) != std::string::npos ? 1 : 0);
  mean(cell.ranked, gains[0] > *std::max_element(gains.begin() + 1, gains.end()) ? 1 : 0);
  mean(cell.margin, gains[0] - std::accumulate(gains.begin() + 1, gains.end(), 0.0) / others);
  mean(cell.loglikelihood, answer.loglikelihoods[0]);
}

template <class Loss>
void add(Loss& loss, std::span<const double> values) {
  for (const double x : values) loss.nll += (x - loss.nll) / static_cast<double>(++loss.tokens);
  if (loss.tokens > 0) loss.perplexity = std::exp(loss.nll);
}

/// The same in ascending order, each once.
template <class T>
std::vector<T> ordered(std::vector<T> list) {
  std::sort(list.begin(), list.end());
  list.erase(std::unique(list.begin(), list.end()), list.end());
  return list;
}

}  // namespace

const std::vector<std::string>& recall_tasks() {
  static const std::vector<std::string> names = {"passkey", "niah", "niah_multikey", kLosses};
  return names;
}

bool is_recall_task(const std::string& name) {
  return std::find(recall_tasks().begin(), recall_tasks().end(), name) != recall_tasks().end();
}

int64_t parse_length(const std::string& text) {
  int64_t n = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, n);
  const bool thousands = rest != end && (*rest == 'k' || *rest == 'K') && rest + 1 == end;
  if (error != std::errc() || (rest != end && !thousands) || n < 1 || n > (int64_t{1} << 40))
    fail("length: expected a number of tokens such as 4096 or 64k, found \"", text, "\"");
  return thousands ? n * 1024 : n;
}

Recall measure_recall(const RecallOptions& given, const Tokenizer& tokenizer, const RecallModel& model,
                      const std::function<bool(const RecallProgress&)>& progress) {
  check(given);
  RecallOptions o = given;
  o.lengths = ordered(o.lengths), o.depths = ordered(o.depths);
  Recall result{.seed = o.seed, .cells = {}, .by_length = {}, .by_position = {}};
  RecallProgress now{};

  // All prompts and texts first: what is wrong shows before anything runs, and the whole work is known.
  std::vector<Trial> trials;
  for (const std::string& task : o.tasks) {
    if (task == kLosses) continue;
    for (const int64_t length : o.lengths) {
      trials.push_back({task, length, recall_prompts(task, length, o, tokenizer), result.cells.size()});
      now.total_rows += model.rows(trials.back().prompts.controls) + model.rows(trials.back().prompts.needles);
      for (const double depth : o.depths)
        result.cells.push_back({.task = task,
                                .length = length,
                                .depth = depth,
                                .wanted = o.samples,
                                .chance = 1 / static_cast<double>(kRecallKeys)});
    }
  }
  int64_t texts = 0;
  const int64_t longest = o.lengths.back();
  if (std::find(o.tasks.begin(), o.tasks.end(), kLosses) != o.tasks.end()) {
    const auto n = static_cast<int64_t>(o.ids.size());
    texts = std::min(o.samples, (n - 1) / longest);
    if (texts < 1) fail(kLosses, ": length ", longest, " needs ", longest + 1, " tokens of text, --data holds ", n);
    result.last_tokens = std::min(kMostLast, o.lengths.front() / 2);
    for (const int64_t length : o.lengths) {
      result.by_length.push_back({.length = length});
      now.total_rows += texts * length;
    }
    for (int64_t from = 0, to = kFirstBucket; from < longest; from = to, to *= 2)
      result.by_position.push_back({.from = from, .to = std::min(to, longest)});
  }

  const auto on_rows = [&](int64_t rows) {
    now.rows += rows;
    if (!progress(now)) result.partial = true;
    return !result.partial;
  };
  for (const Trial& trial : trials) {
    if (result.partial) break;
    const auto& [needles, controls] = trial.prompts;
    now.task = trial.task, now.length = trial.length, now.done = 0;
    now.wanted = static_cast<int64_t>(needles.size());
    std::vector<RecallAnswer> without(controls.size());
    model.answer(controls, on_rows, [&](size_t i, const RecallAnswer& answer) { without[i] = answer; });
    if (result.partial) break;
    model.answer(needles, on_rows, [&, &needles = needles](size_t i, const RecallAnswer& answer) {
      const auto sample = i % without.size();
      add(result.cells[trial.cell + i / without.size()], needles[i], answer, without[sample], tokenizer);
      ++now.done;
    });
  }
  now.task = kLosses, now.done = 0, now.wanted = texts * static_cast<int64_t>(o.lengths.size());
  for (int64_t text = 0; text < texts && !result.partial; ++text)
    for (LengthLoss& loss : result.by_length) {
      now.length = loss.length;
      const bool whole = loss.length == longest;
      const auto ids =
          o.ids.subspan(static_cast<size_t>((text + 1) * longest - loss.length), static_cast<size_t>(loss.length) + 1);
      const auto values = model.losses(ids, whole ? 1 : loss.length + 1 - result.last_tokens, on_rows);
      if (result.partial) break;
      ++now.done;
      add(loss, std::span(values).last(static_cast<size_t>(result.last_tokens)));
      if (!whole) continue;
      for (PositionLoss& p : result.by_position)
        add(p, std::span(values).subspan(static_cast<size_t>(p.from), static_cast<size_t>(p.to - p.from)));
    }
  return result;
}

}  // namespace qwerky
