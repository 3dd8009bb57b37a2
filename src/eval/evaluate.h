// SPDX-License-Identifier: MIT
// Runs tasks against whatever answers requests: batches of documents, a journal to go on from, scores of tasks and
// groups.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "eval/generation.h"
#include "eval/metrics.h"
#include "eval/prompt.h"

namespace qwerky {

constexpr int64_t kWrittenAtOnce = 16;  ///< most texts that are asked for at once: they take long

struct EvalOptions {
  std::vector<std::string> tasks;  ///< names of tasks and groups
  Path data;                       ///< folder with the data sets
  std::optional<int> num_fewshot;  ///< examples before each document; else what the task says
  int64_t limit = 0;               ///< only the first so many documents of each task; 0: all
  uint64_t seed = 1234;            ///< of the choice of examples
  int bootstrap_iters = 100000;    ///< 0: no standard errors
  bool allow_partial = false;      ///< also evaluate data other than the published
  int64_t batch = 64;              ///< documents asked about at once, and at most lost by an interruption
  Path journal;                    ///< folder of finished documents; empty: none is kept
  std::string model_sha256;        ///< a journal of another model is not gone on with
  PromptStyle prompts = {};
  std::string gen_kwargs = {};  ///< of parse_gen_kwargs, in place of what tasks that generate say
};

struct GenerateRequest {
  std::string context;
  GenerationArguments how;
};

/// What answers. A task whose kind has no function is an Error.
struct Scorer {
  std::function<std::vector<Answer>(std::span<const Request>)> loglikelihood;
  std::function<std::vector<double>(std::span<const std::string>)> rolling;  ///< Σ log p of a whole text
  std::function<std::vector<Written>(std::span<const GenerateRequest>)> generate;
};

/// A task with its data and what is finished of it.
struct TaskRun {
  const Task* task;
  TaskData data;
  int shots;
  int64_t wanted;                              ///< documents to evaluate
  std::vector<std::vector<int64_t>> examples;  ///< per document, indices of its examples
  std::vector<Outcome> outcomes;               ///< of the first documents, in order
  PromptStyle prompts;
  OrderedJson generation;  ///< generation_kwargs

  const std::vector<Document>& pool() const { return data.pool.empty() ? data.documents : data.pool; }
  /// What the model is asked about document i.
  std::vector<Request> requests(int64_t i) const;
};

/// One metric under one filter.
struct Score {
  std::string metric, filter;
  double value;
  std::optional<double> error;
  bool higher_is_better;
};

/// A task or a group with its scores; a line or more of the table.
struct Entry {
  std::string name, alias;
  int version = 1, depth = 0;
  bool group = false;
  std::optional<int> shots;              ///< none: the group's tasks differ
  std::vector<std::string> children;     ///< of a group, those that were evaluated
  int64_t documents = 0, published = 0;  ///< evaluated, and in the published data
  bool comparable = true;                ///< all documents, all of them the published ones
  std::vector<Score> scores;
};

struct Evaluation {
  std::vector<TaskRun> runs;
  std::vector<Entry> entries;  ///< in the order of the table: by name, children after their group
  bool partial = false;        ///< stopped before its end
};

/// Called before the first batch of a task and after each.
using EvalProgress = std::function<void(const Task&, int64_t done, int64_t total)>;

/// Loads all data first, then evaluates until the end or until `scorer` throws Interrupted: a batch it leaves
/// unfinished does not count.
Evaluation evaluate(const EvalOptions& options, const Scorer& scorer, const EvalProgress& progress = nullptr);

/// Scores of what is finished. A task without a finished document has no entry.
std::vector<Entry> entries_of(const std::vector<std::string>& names, std::span<const TaskRun> runs,
                              int bootstrap_iters);

}  // namespace qwerky
