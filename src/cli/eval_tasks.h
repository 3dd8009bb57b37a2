// SPDX-License-Identifier: MIT
// `eval --tasks` for the tasks of lm-evaluation-harness.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/flags.h"
#include "engine/engine.h"
#include "eval/model_scorer.h"
#include "eval/results_json.h"

namespace qwerky {

struct TaskEvalOptions {
  std::string model;
  EngineOptions engine;
  EvalOptions eval;
  ModelScorerOptions scorer;
  std::string output;
  std::optional<std::string> chat_template;  ///< name of the model's template, "" for its default
};

/// --num-fewshot, --output and what else belongs to tasks alone.
void add_task_flags(Flags flags, TaskEvalOptions& o);
/// Before a model is loaded: names, combinations of flags. With `others` something else than lm-eval's tasks is
/// measured too, which what changes their prompts does not fit.
void check_task_options(const TaskEvalOptions& o, bool others);
struct TaskEvaluation {
  RunInfo info;
  EvalOptions options;  ///< with journal and fingerprint
  Evaluation result;
  std::string notes;  ///< a line each, on what was cut
  std::string work;   ///< time, tokens read
};

/// With an output folder, goes on where an earlier run was stopped.
TaskEvaluation run_tasks(const Engine& engine, const TaskEvalOptions& options);
/// Prints lm-eval's tables; with an output folder also writes its files, and goes on where an earlier run was stopped.
int evaluate_tasks(const TaskEvalOptions& options);

}  // namespace qwerky
