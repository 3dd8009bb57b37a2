// SPDX-License-Identifier: MIT
#include "eval/recall.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <tuple>

#include "base/error.h"
#include "eval/recall_journal.h"

namespace qwerky {
namespace {

constexpr const char* kLosses = "ppl_by_length";
constexpr int64_t kMostLast = 256;    ///< tokens that ppl_by_length scores at the end of a text
constexpr int64_t kFirstBucket = 64;  ///< of positions; each further one ends at twice the position

/// Prompts, and the answers to those of them that have one.
struct Asked {
  std::vector<RecallPrompt> prompts;
  std::vector<RecallAnswer> answers;

  Asked(std::vector<RecallPrompt> list, const RecallJournal& journal)
      : prompts(std::move(list)), answers(prompts.size()) {
    for (size_t i = 0; i < prompts.size(); ++i)
      if (const RecallAnswer* known = journal.find(journal_key(prompts[i]));
          known != nullptr && known->loglikelihoods.size() == prompts[i].keys.size())
        answers[i] = *known, prompts[i].answered = true;
  }
  int64_t answered() const { return std::ranges::count(prompts, true, &RecallPrompt::answered); }
};

/// All prompts of a task and a length.
struct Trial {
  std::string task;
  int64_t length;
  Asked controls, needles;
  size_t cell;  ///< index of the first of its cells, one a depth
};

/// What ppl_by_length reads.
struct Text {
  std::span<const int32_t> ids;
  int64_t first;             ///< scored from here on
  size_t length;             ///< index of its length
  std::string key;           ///< in the journal
  std::vector<double> sums;  ///< of -ln p: of the last tokens, then by position where all are scored; empty: not read
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
  for (size_t k = 0; k < prompt.keys.size(); ++k)
    gains.push_back(answer.loglikelihoods.at(k) - control.loglikelihoods.at(k));
  const auto n = static_cast<double>(++cell.samples), others = static_cast<double>(gains.size() - 1);
  const auto mean = [n](double& value, double x) { value += (x - value) / n; };
  mean(cell.generated, tokenizer.decode(answer.greedy, true).find(prompt.key) != std::string::npos ? 1 : 0);
  mean(cell.ranked, gains[0] > *std::max_element(gains.begin() + 1, gains.end()) ? 1 : 0);
  mean(cell.margin, gains[0] - std::accumulate(gains.begin() + 1, gains.end(), 0.0) / others);
  mean(cell.loglikelihood, answer.loglikelihoods[0]);
}

/// Adds `sum`, of -ln p of so many tokens.
template <class Loss>
void add(Loss& loss, double sum, int64_t tokens) {
  loss.nll = (loss.nll * static_cast<double>(loss.tokens) + sum) / static_cast<double>(loss.tokens + tokens);
  loss.tokens += tokens;
  loss.perplexity = std::exp(loss.nll);
}

double sum_of(std::span<const double> values) { return std::accumulate(values.begin(), values.end(), 0.0); }

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

  RecallJournal journal = o.journal.empty() ? RecallJournal() : RecallJournal(o.journal, o.model_sha256);

  // All prompts and texts first: what is wrong shows before anything runs, and the whole work is known.
  std::vector<Trial> trials;
  for (const std::string& task : o.tasks) {
    if (task == kLosses) continue;
    for (const int64_t length : o.lengths) {
      RecallPrompts prompts = recall_prompts(task, length, o, tokenizer);
      trials.push_back({task, length, Asked(std::move(prompts.controls), journal),
                        Asked(std::move(prompts.needles), journal), result.cells.size()});
      now.total_rows += model.rows(trials.back().controls.prompts) + model.rows(trials.back().needles.prompts);
      for (const double depth : o.depths)
        result.cells.push_back({.task = task,
                                .length = length,
                                .depth = depth,
                                .wanted = o.samples,
                                .chance = 1 / static_cast<double>(kRecallKeys)});
    }
  }
  std::vector<Text> texts;
  const int64_t longest = o.lengths.back();
  if (std::find(o.tasks.begin(), o.tasks.end(), kLosses) != o.tasks.end()) {
    const auto n = static_cast<int64_t>(o.ids.size()), count = std::min(o.samples, (n - 1) / longest);
    if (count < 1) fail(kLosses, ": length ", longest, " needs ", longest + 1, " tokens of text, --data holds ", n);
    result.last_tokens = std::min(kMostLast, o.lengths.front() / 2);
    for (const int64_t length : o.lengths) result.by_length.push_back({.length = length});
    for (int64_t from = 0, to = kFirstBucket; from < longest; from = to, to *= 2)
      result.by_position.push_back({.from = from, .to = std::min(to, longest)});
    for (int64_t end = longest; end <= count * longest; end += longest)
      for (size_t i = 0; i < o.lengths.size(); ++i) {
        const int64_t length = o.lengths[i];
        Text text{o.ids.subspan(static_cast<size_t>(end - length), static_cast<size_t>(length) + 1),
                  length == longest ? 1 : length + 1 - result.last_tokens,
                  i,
                  {},
                  {}};
        text.key = journal_key(text.ids, text.first);
        const RecallAnswer* known = journal.find(text.key);
        if (known != nullptr && known->loglikelihoods.size() == 1 + (text.first == 1 ? result.by_position.size() : 0))
          text.sums = known->loglikelihoods;
        now.total_rows += text.sums.empty() ? length : 0;
        texts.push_back(std::move(text));
      }
  }

  const auto on_rows = [&](int64_t rows) {
    now.rows += rows;
    if (!progress(now)) result.partial = true;
    return !result.partial;
  };
  for (Trial& trial : trials) {
    now.task = trial.task, now.length = trial.length, now.done = trial.needles.answered();
    now.wanted = static_cast<int64_t>(trial.needles.prompts.size());
    for (Asked* asked : {&trial.controls, &trial.needles}) {
      if (result.partial) break;
      model.answer(asked->prompts, on_rows, [&](size_t i, const RecallAnswer& answer) {
        for (const double x : answer.loglikelihoods)
          if (!std::isfinite(x)) fail(trial.task, ", length ", trial.length, ": the log-likelihood of a key is ", x);
        asked->answers[i] = answer;
        journal.add(journal_key(asked->prompts[i]), answer);
        now.done += asked == &trial.needles ? 1 : 0;
      });
    }
    // In the order of the samples: that of the answers may differ from run to run.
    const auto& [needles, controls] = std::tie(trial.needles, trial.controls);
    for (size_t i = 0; i < needles.prompts.size(); ++i) {
      const size_t sample = i % controls.prompts.size();
      if (!needles.answers[i].loglikelihoods.empty() && !controls.answers[sample].loglikelihoods.empty())
        add(result.cells[trial.cell + i / controls.prompts.size()], needles.prompts[i], needles.answers[i],
            controls.answers[sample], tokenizer);
    }
  }
  now.task = kLosses, now.done = 0, now.wanted = static_cast<int64_t>(texts.size());
  for (Text& text : texts) {
    LengthLoss& loss = result.by_length[text.length];
    now.length = loss.length;
    if (text.sums.empty() && !result.partial) {
      const auto values = model.losses(text.ids, text.first, on_rows);
      if (!result.partial) {
        text.sums = {sum_of(std::span(values).last(static_cast<size_t>(result.last_tokens)))};
        for (const PositionLoss& p : text.first == 1 ? result.by_position : std::vector<PositionLoss>())
          text.sums.push_back(
              sum_of(std::span(values).subspan(static_cast<size_t>(p.from), static_cast<size_t>(p.to - p.from))));
        journal.add(text.key, {{}, text.sums});
      }
    }
    if (text.sums.empty()) continue;  // stopped; what an earlier run finished still counts
    ++now.done;
    add(loss, text.sums[0], result.last_tokens);
    for (size_t p = 1; p < text.sums.size(); ++p)
      add(result.by_position[p - 1], text.sums[p], result.by_position[p - 1].to - result.by_position[p - 1].from);
  }
  return result;
}

}  // namespace qwerky
