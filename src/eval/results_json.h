// SPDX-License-Identifier: MIT
// The files that lm-eval writes: results_TIME.json and samples_TASK_TIME.jsonl, with its keys, so that tools which read
// its files read these.
#pragma once

#include <string>

#include "eval/evaluate.h"
#include "eval/python_json.h"

namespace qwerky {

/// What a run was, besides its tasks.
struct RunInfo {
  std::string model = "qwerky", model_args, model_name, model_sha256, device;
  int64_t max_length = 0;
  double start = 0, end = 0;         ///< seconds since 1970
  double model_seconds = 0;          ///< of these, in the model
  std::string bos_token, eos_token;  ///< empty: null
};

/// "qwerky (ARGS), gen_kwargs: (None), limit: None, num_fewshot: None, batch_size: 64"
std::string header_line(const RunInfo& info, const EvalOptions& options);

OrderedJson results_json(const RunInfo& info, const EvalOptions& options, const Evaluation& evaluation);

/// One document under one filter, as a line of samples; `hashes` gets doc, prompt and target hash appended.
std::string sample_line(const TaskRun& run, int64_t document, size_t filter, std::string* hashes = nullptr);

/// FOLDER/MODEL/KIND_TIME.json, whose directory is made.
Path result_file(const Path& folder, const std::string& model, const std::string& kind, double time);

/// Writes FOLDER/MODEL/results_TIME.json and, with `samples`, a samples_TASK_TIME.jsonl for each task. Returns the
/// first.
Path write_results(const Path& folder, const RunInfo& info, const EvalOptions& options, const Evaluation& evaluation,
                   bool samples);

}  // namespace qwerky
