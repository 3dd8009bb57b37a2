// SPDX-License-Identifier: MIT
// The main job: teacher directory in, student directory out.
#pragma once

#include "distill/plan.h"
#include "distill/trainer.h"

namespace qwerky {

/// What both `convert` and `train` are told about data, backend and run.
struct RunOptions {
  std::vector<std::string> data;
  std::string field = "text";
  std::vector<std::string> split_before;
  int64_t holdout = 0;
  std::vector<std::string> exclude;
  std::string out;
  std::string recipe = "small";
  std::vector<std::string> set;
  std::string backend = "auto", precision = "auto";
  std::string optimiser_memory = "device", gradient_memory = "whole";
  bool dry_run = false;
  double checkpoint_seconds = 60;
  int64_t report_steps = 20;

  template <class V>
  void visit(V& v) {
    v("data", data,
      "text: files or directories (.txt, .jsonl, each optionally .zst); the last ones hold the held-out text");
    v("field", field, "field of .jsonl rows that holds the text");
    v("split_before", split_before, "cut .txt files without <|endoftext|> before lines that begin so");
    v("holdout", holdout, "tokens at the end of the data kept for validation (0: 1 %, at most 200000)");
    v("exclude", exclude, "texts; documents that share 100 characters in a row with them are not trained on");
    v("out", out, "directory to write");
    v("recipe", recipe, "recipe: a name (small, demo, radlads, radlads-2a, published-small, teacher) or a .json file");
    v("set", set, "change a recipe value, e.g. --set stages.1.lr=3e-4 --set init=published");
    v("backend", backend, "auto | reference | avx2 | avx512 | cuda");
    v("precision", precision, "of matrix products while training: auto (f32) | f32 | bf16");
    v("optimiser_memory", optimiser_memory, "with cuda: moments stay in memory of the device | host");
    v("gradient_memory", gradient_memory, "over ranks: whole | ranks (a layer at a time, summed to its owners)");
    v("dry_run", dry_run, "print the plan and stop; nothing is written");
    v("checkpoint_seconds", checkpoint_seconds, "seconds between checkpoints");
    v("report_steps", report_steps, "steps between progress lines");
  }
};

struct ConvertOptions {
  std::string teacher;
  std::string to = "rad-rwkv7";
  std::vector<int64_t> keep_softmax;
  std::string store = "auto";
  int64_t sample_tokens = 1'000'000;
  std::string teacher_memory = "whole";
  RunOptions run;
};

struct TrainOptions {
  std::string config;
  int64_t vocab = 0;
  RunOptions run;
};

/// Both throw Error; both return interrupted when `stop` was set, with everything saved that the same call needs to go
/// on. With several ranks all call it with the same options and see the same file system; the first prepares the data,
/// writes, measures and speaks.
RunEnd convert(const ConvertOptions& options, const Say& say, const std::atomic<bool>& stop,
               Collective& ranks = one_process());
RunEnd train(const TrainOptions& options, const Say& say, const std::atomic<bool>& stop,
             Collective& ranks = one_process());

/// Text drawn from the teacher itself at temperature 1: `tokens` ids, sequences of at most `length`, each from the
/// beginning of a text. A pure function of (teacher, seed).
std::vector<int32_t> sample_corpus(const Model& teacher, const Backend& on, int64_t tokens, int64_t length,
                                   uint64_t seed, const Progress& progress);

}  // namespace qwerky
