// SPDX-License-Identifier: MIT
#include "eval/evaluate.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/random.h"
#include "eval/journal.h"

namespace qwerky {
namespace {

std::string up_to_stop(std::string text, const std::vector<std::string>& stops) {
  for (const std::string& stop : stops) text = text.substr(0, text.find(stop));
  return text;
}

template <class Ask, class Questions>
auto ask(const Task& task, const std::string& where, const char* what, const Ask& function,
         const Questions& questions) {
  if (!function) fail(task.name, ": the model cannot ", what);
  const auto answers = [&] {
    try {
      return function(questions);
    } catch (const Error& e) {
      fail(where, ": ", e.what());
    }
  }();
  CHECK(answers.size() == questions.size(), task.name, ": ", questions.size(), " asked, ", answers.size(), " answered");
  return answers;
}

void check_finite(const Task& task, int64_t document, double x) {
  if (!std::isfinite(x)) fail(task.name, ": the model's log-likelihood of document ", document, " is ", x);
}

/// Outcomes of documents [begin, end).
std::vector<Outcome> answer(const TaskRun& run, int64_t begin, int64_t end, uint64_t seed, const Scorer& scorer) {
  const Task& task = *run.task;
  std::vector<Outcome> outcomes(static_cast<size_t>(end - begin));
  const std::string where = concat(task.name, ", documents ", begin, " to ", end - 1);
  const auto document = [&](size_t i) -> const Document& { return run.data.documents[static_cast<size_t>(begin) + i]; };
  if (task.kind == Kind::generate) {
    std::vector<GenerateRequest> questions;
    const GenerationArguments how = generation_of(run.generation);
    for (int64_t i = begin; i < end; ++i) {
      questions.push_back({run.requests(i)[0].context, how});
      // The document's own: the same draws in any batch.
      questions.back().how.sampler.seed = Random(seed, hash_name(task.name)).bits(static_cast<uint64_t>(i));
    }
    const auto written = ask(task, where, "generate", scorer.generate, questions);
    for (size_t i = 0; i < outcomes.size(); ++i) {
      outcomes[i].text = up_to_stop(written[i].text, how.stops);
      outcomes[i].truncated = written[i].truncated;
    }
    return outcomes;
  }
  if (task.kind == Kind::rolling) {
    std::vector<std::string> texts;
    for (size_t i = 0; i < outcomes.size(); ++i) texts.push_back(document(i).choices[0]);
    const auto sums = ask(task, where, "score whole texts", scorer.rolling, texts);
    for (size_t i = 0; i < outcomes.size(); ++i) {
      check_finite(task, begin + static_cast<int64_t>(i), sums[i]);
      outcomes[i].answers = {{sums[i], false}};
    }
    return outcomes;
  }
  std::vector<Request> requests;
  std::vector<size_t> owner;
  for (size_t i = 0; i < outcomes.size(); ++i)
    for (Request& request : run.requests(begin + static_cast<int64_t>(i))) {
      requests.push_back(std::move(request));
      owner.push_back(i);
    }
  const auto answers = ask(task, where, "score continuations", scorer.loglikelihood, requests);
  for (size_t r = 0; r < answers.size(); ++r) {
    check_finite(task, begin + static_cast<int64_t>(owner[r]), answers[r].loglikelihood);
    outcomes[owner[r]].answers.push_back(answers[r]);
  }
  return outcomes;
}

TaskRun prepare(const Task& task, const EvalOptions& options) {
  const int shots = options.num_fewshot.value_or(task.shots);
  if (shots < 0) fail("number of examples: expected 0 or more, found ", shots);
  TaskRun run{.task = &task,
              .data = load_task(task, options.data, shots > 0, options.allow_partial),
              .shots = shots,
              .wanted = 0,
              .examples = {},
              .outcomes = {},
              .prompts = options.prompts,
              .generation = task.generation};
  if (task.kind == Kind::generate) {
    run.generation.update(parse_gen_kwargs(options.gen_kwargs));
    generation_of(run.generation);  // refused before anything is asked
  }
  run.wanted = static_cast<int64_t>(run.data.documents.size());
  if (options.limit > 0) run.wanted = std::min(run.wanted, options.limit);
  run.examples = draw_examples(task, std::span(run.data.documents).first(static_cast<size_t>(run.wanted)), run.pool(),
                               shots, options.seed, draws_twice(options.prompts));
  return run;
}

Entry entry_of(const TaskRun& run, int bootstrap_iters) {
  const Task& task = *run.task;
  Entry entry{.name = task.name,
              .alias = task.alias,
              .version = task.version,
              .shots = run.shots,
              .children = {},
              .documents = static_cast<int64_t>(run.outcomes.size()),
              .published = task.documents.rows,
              .scores = {}};
  entry.comparable = run.data.published && entry.documents == entry.published;
  std::vector<std::vector<Value>> columns(task.filters.size() * task.metrics.size());
  for (size_t i = 0; i < run.outcomes.size(); ++i) {
    const std::vector<Value> values = values_of(task, run.data.documents[i], run.outcomes[i]);
    for (size_t c = 0; c < columns.size(); ++c) columns[c].push_back(values[c]);
  }
  size_t c = 0;
  for (const std::string& filter : task.filters)
    for (const Metric& metric : task.metrics) {
      entry.scores.push_back({metric.name, filter, aggregate(metric.how, columns[c]),
                              standard_error(metric.how, columns[c], bootstrap_iters), metric.higher_is_better});
      ++c;
    }
  return entry;
}

/// The score of a group: the mean of its tasks' acc over all their documents.
Entry group_of(const Group& group, std::span<const Entry> tasks) {
  Entry entry{.name = group.name,
              .alias = group.alias,
              .version = group.version,
              .group = true,
              .shots = tasks[0].shots,
              .children = {},
              .scores = {}};
  double sum = 0;
  std::vector<double> errors;
  std::vector<int64_t> sizes;
  for (const Entry& task : tasks) {
    const Score& score = task.scores[0];
    sum += score.value * static_cast<double>(task.documents);
    sizes.push_back(task.documents);
    if (score.error) errors.push_back(*score.error);
    if (task.shots != entry.shots) entry.shots.reset();
    entry.documents += task.documents;
    entry.published += task.published;
    entry.comparable &= task.comparable;
  }
  Score score = tasks[0].scores[0];
  score.value = sum / static_cast<double>(entry.documents);
  score.error = errors.size() == sizes.size() ? std::optional(pooled_error(errors, sizes)) : std::nullopt;
  entry.scores = {score};
  return entry;
}

/// Appends the entries of a name and of all below it; returns the tasks among them.
std::vector<Entry> append(const std::string& name, int depth, std::span<const TaskRun> runs, int bootstrap_iters,
                          std::vector<Entry>& entries) {
  const Group* group = find_group(name);
  if (group == nullptr) {
    for (const TaskRun& run : runs)
      if (run.task->name == name && !run.outcomes.empty()) {
        entries.push_back(entry_of(run, bootstrap_iters));
        entries.back().depth = depth;
        return {entries.back()};
      }
    return {};
  }
  const size_t at = entries.size();
  std::vector<std::string> children = group->children, present;
  std::sort(children.begin(), children.end());
  std::vector<Entry> tasks;
  entries.emplace_back();
  int64_t missing = 0;
  for (const std::string& child : children) {
    const std::vector<Entry> below = append(child, depth + 1, runs, bootstrap_iters, entries);
    if (!below.empty()) present.push_back(child);
    missing += below.empty() ? 1 : 0;
    tasks.insert(tasks.end(), below.begin(), below.end());
  }
  if (tasks.empty()) {
    entries.pop_back();
    return {};
  }
  entries[at] = group_of(*group, tasks);
  entries[at].depth = depth;
  entries[at].children = present;
  entries[at].published = 0;
  for (const Task* task : tasks_of({name})) entries[at].published += task->documents.rows;
  entries[at].comparable &= missing == 0 && entries[at].documents == entries[at].published;
  return tasks;
}

}  // namespace

std::vector<Request> TaskRun::requests(int64_t i) const {
  std::vector<const Document*> before;
  for (int64_t j : examples[static_cast<size_t>(i)]) before.push_back(&pool()[static_cast<size_t>(j)]);
  return requests_of(*task, data.documents[static_cast<size_t>(i)], before, prompts);
}

std::vector<Entry> entries_of(const std::vector<std::string>& names, std::span<const TaskRun> runs,
                              int bootstrap_iters) {
  // A name below another that was asked for has its place there.
  std::vector<std::string> tops = names;
  std::sort(tops.begin(), tops.end());
  tops.erase(std::unique(tops.begin(), tops.end()), tops.end());
  std::vector<std::string> below;
  const std::function<void(const std::string&)> descend = [&](const std::string& name) {
    if (const Group* group = find_group(name))
      for (const std::string& child : group->children) {
        below.push_back(child);
        descend(child);
      }
  };
  for (const std::string& name : tops) descend(name);
  std::vector<Entry> entries;
  for (const std::string& name : tops)
    if (std::find(below.begin(), below.end(), name) == below.end()) append(name, 0, runs, bootstrap_iters, entries);
  return entries;
}

Evaluation evaluate(const EvalOptions& options, const Scorer& scorer, const EvalProgress& progress) {
  Evaluation result;
  for (const Task* task : tasks_of(options.tasks)) result.runs.push_back(prepare(*task, options));
  for (TaskRun& run : result.runs) {
    Journal journal = options.journal.empty() ? Journal() : Journal(options.journal, run, options);
    run.outcomes = journal.finished();
    if (static_cast<int64_t>(run.outcomes.size()) > run.wanted) run.outcomes.resize(static_cast<size_t>(run.wanted));
    const auto report = [&] {
      if (progress) progress(*run.task, static_cast<int64_t>(run.outcomes.size()), run.wanted);
    };
    if (static_cast<int64_t>(run.outcomes.size()) < run.wanted && !result.partial) report();
    while (static_cast<int64_t>(run.outcomes.size()) < run.wanted && !result.partial) {
      const auto begin = static_cast<int64_t>(run.outcomes.size());
      const int64_t most = run.task->kind == Kind::generate ? std::min(options.batch, kWrittenAtOnce) : options.batch;
      try {
        std::vector<Outcome> more = answer(run, begin, std::min(run.wanted, begin + most), options.seed, scorer);
        journal.add(begin, more);
        std::move(more.begin(), more.end(), std::back_inserter(run.outcomes));
        report();
      } catch (const Interrupted&) {
        result.partial = true;  // of later tasks only what the journal has
      }
    }
  }
  result.entries = entries_of(options.tasks, result.runs, options.bootstrap_iters);
  return result;
}

}  // namespace qwerky
