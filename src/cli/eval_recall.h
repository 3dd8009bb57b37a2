// SPDX-License-Identifier: MIT
// `eval --tasks passkey,niah,niah_multikey,ppl_by_length`.
#pragma once

#include <string>
#include <vector>

#include "cli/flags.h"
#include "cli/text_ids.h"
#include "engine/engine.h"
#include "eval/recall.h"

namespace qwerky {

struct RecallCommand {
  std::string model;
  EngineOptions engine;
  RecallOptions recall;
  TextOptions text;        ///< niah's haystack, ppl_by_length's text
  int64_t max_length = 0;  ///< 0: what the model is made for
  bool share = true;
  std::string json, output;  ///< a file, a folder; empty: none
};

/// --lengths, --depths and --samples.
void add_recall_flags(Flags flags, RecallCommand& o);
struct RecallRun {
  Recall recall;
  int64_t tokens_read = 0;
  double seconds = 0;
};

/// With progress lines; SIGINT leaves a partial result.
RecallRun run_recall(const Engine& engine, const RecallCommand& command);
/// A grid for each task.
void print_recall(const RecallOptions& o, const Recall& recall);
/// Prints a grid for each task; the value is the exit status.
int evaluate_recall(const RecallCommand& command);

}  // namespace qwerky
