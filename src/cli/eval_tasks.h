// SPDX-License-Identifier: MIT
// `eval --tasks` for the tasks of lm-evaluation-harness.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "eval/model_scorer.h"

namespace qwerky {

struct TaskEvalOptions {
  std::string model;
  EngineOptions engine;
  EvalOptions eval;
  ModelScorerOptions scorer;
  std::string output;
};

/// --num-fewshot, --output and what else belongs to tasks alone.
void add_task_flags(CLI::App& app, TaskEvalOptions& o);
/// Prints lm-eval's tables; with an output folder also writes its files, and goes on where an earlier run was stopped.
int evaluate_tasks(const TaskEvalOptions& options);

}  // namespace qwerky
