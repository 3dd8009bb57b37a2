// SPDX-License-Identifier: MIT
// What `compare` measures with one model after the other: tasks on the same documents, greedy text after the same
// prompts, the cost of a token as the context grows.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "cli/eval_recall.h"
#include "cli/eval_tasks.h"
#include "engine/context_cost.h"
#include "eval/agreement.h"
#include "eval/paired.h"

namespace qwerky {

struct PairOptions {
  RecallCommand recall;                                    ///< no names: none
  TaskEvalOptions tasks;                                   ///< no names: none
  std::vector<int64_t> contexts = {128, 512, 2048, 8192};  ///< to measure costs at; empty: none
  int64_t agreement_tokens = 64;                           ///< 0: no text is generated
  int64_t agreement_prompts = 64;
};

struct PairMeasurement {
  std::vector<TaskEvaluation> tasks;  ///< of the teacher and the student; empty without tasks
  std::vector<PairedScore> scores;
  std::vector<Agreement> agreement;
  std::vector<Recall> recall;  ///< of the teacher and the student, at the lengths that each is made for
  std::vector<ContextCosts> costs;
  std::vector<std::array<std::string, 3>> models;  ///< what, of the teacher, of the student
  std::string stopped;  ///< where SIGINT came; empty: nowhere. The rest is what was finished by then
};

/// `prompts`: of text, besides those of the tasks. One model is in memory at a time.
PairMeasurement measure_pair(const std::string& teacher, const std::string& student, const PairOptions& options,
                             std::vector<GreedyPrompts> prompts);

/// Tables of scores, agreement and recall.
void print_pair(const PairOptions& options, const PairMeasurement& m);

}  // namespace qwerky
