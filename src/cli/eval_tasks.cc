// SPDX-License-Identifier: MIT
#include "cli/eval_tasks.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iomanip>
#include <iostream>

#include "base/units.h"
#include "cli/command.h"
#include "eval/results_json.h"
#include "eval/table.h"

namespace qwerky {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

/// One line per task: done, documents a second, time left. What a journal had counts for neither.
class Reporter {
 public:
  void operator()(const Task& task, int64_t done, int64_t total) {
    if (task.name != name_) {
      name_ = task.name;
      before_ = done;
      began_ = Clock::now();
      return;
    }
    const double rate = static_cast<double>(done - before_) / std::max(1e-9, seconds_since(began_));
    say(concat(name_, "  ", done, "/", total, " documents  ", std::fixed, std::setprecision(rate < 10 ? 1 : 0), rate,
               "/s", done < total ? "  ETA " + duration_text(static_cast<double>(total - done) / rate) : ""),
        done == total);
  }

 private:
  std::string name_;
  int64_t before_ = 0;
  Clock::time_point began_;
};

}  // namespace

void add_task_flags(Flags flags, TaskEvalOptions& o) {
  flags
      .add_option("--num-fewshot", o.eval.num_fewshot, "examples before each document (default: the task's own number)")
      .between(0, 1000);
  flags.add_option("--output", o.output, "folder for lm-eval's result files; a stopped evaluation goes on from it");
  flags.add_option("--seed", o.eval.seed, "of the choice of examples, and of the draws of do_sample").with_default();
  flags.add_option("--bootstrap-iters", o.eval.bootstrap_iters, "of the standard error of a perplexity; 0: no errors")
      .with_default()
      .not_negative();
  flags.add_flag("--allow-partial", o.eval.allow_partial,
                 "also evaluate data that are not the published ones, and say so");
  flags
      .add_option("--max-length", o.scorer.max_length,
                  "ids a model may read; longer requests lose their beginning (0: what config.json allows)")
      .with_default()
      .not_negative();
  flags.add_option("--gen-kwargs", o.eval.gen_kwargs,
                   "KEY=VALUE,… in place of what tasks that generate say: do_sample, max_gen_toks, temperature, top_k, "
                   "top_p, until");
  flags
      .add_option("--apply-chat-template", o.chat_template,
                  "contexts are conversations in the model's chat template, or in its template of this name")
      .value_optional();
  flags.add_option("--system-instruction", o.eval.prompts.system, "stands before each task's description");
  flags.add_flag("--fewshot-as-multiturn", o.eval.prompts.multiturn,
                 "with --apply-chat-template: examples are turns of the conversation");
  flags.add_flag("--add-bos", o.scorer.bos, "begin every context with BOS");
  flags.add_flag("!--no-sharing", o.scorer.share, "run every request alone from its beginning");
  flags.add_option("--documents", o.eval.batch, "documents asked about at once").with_default().positive();
}

void check_task_options(const TaskEvalOptions& o, bool others) {
  const PromptStyle& prompts = o.eval.prompts;
  if (others && (o.chat_template || prompts.system || prompts.multiturn || !o.eval.gen_kwargs.empty()))
    fail("text and recall have no chat template, system instruction, turns or gen-kwargs; measure them apart from ",
         "lm-eval's tasks");
  if (prompts.multiturn && !o.chat_template) fail("--fewshot-as-multiturn: only with --apply-chat-template");
  tasks_of(o.eval.tasks);
  parse_gen_kwargs(o.eval.gen_kwargs);
}

TaskEvaluation run_tasks(const Engine& engine, const TaskEvalOptions& o) {
  const Tokenizer& tokenizer = *engine.internals().model->tokenizer;
  ModelScorerOptions scoring = o.scorer;
  scoring.before_call = check_interrupted;
  ModelScorer scorer(engine, scoring);
  TaskEvaluation e;
  e.options = o.eval;
  PromptStyle& prompts = e.options.prompts;
  if (o.chat_template) use_chat_template(prompts, tokenizer, o.model, *o.chat_template);
  e.options.model_sha256 = scorer.fingerprint();
  if (!o.output.empty()) e.options.journal = Path(o.output) / "journal";

  RunInfo& info = e.info;
  info.model_args = concat("pretrained=", o.model);
  info.model_name = o.model;
  info.model_sha256 = e.options.model_sha256;
  info.device = engine.internals().backend->name();
  info.max_length = scorer.max_length();
  if (tokenizer.bos) info.bos_token = tokenizer.piece(*tokenizer.bos);
  if (!tokenizer.eos.empty()) info.eos_token = tokenizer.piece(tokenizer.eos.front());
  info.start = now();
  Reporter report;
  e.result = evaluate(e.options, scorer.scorer(),
                      [&](const Task& task, int64_t done, int64_t total) { report(task, done, total); });
  info.end = now();
  info.model_seconds = scorer.model_seconds();

  int64_t truncated = 0, cut = 0;
  for (const TaskRun& run : e.result.runs)
    for (const Outcome& outcome : run.outcomes) {
      truncated += outcome.truncated + std::ranges::count(outcome.answers, true, &Answer::truncated);
      cut += std::ranges::count(outcome.answers, true, &Answer::cut);
    }
  if (truncated > 0)
    e.notes += concat(truncated, " requests were longer than ", scorer.max_length(), " ids and lost their beginning\n");
  if (cut > 0)
    e.notes += concat(cut, " of their continuations are longer than that and were scored without their ",
                      "beginning (lm-eval stops at these)\n");
  if (prompts.render)  // what a journal had was not rendered
    for (const TaskRun& run : e.result.runs)
      if (run.wanted > 0) run.requests(0);
  if (prompts.render && *prompts.system_refused)
    e.notes += "the chat template refuses system messages: such contexts were rendered without, as lm-eval does\n";
  for (const TaskRun& run : e.result.runs)
    if (run.task->kind == Kind::generate && run.generation["temperature"] != 0.0 &&
        run.generation["do_sample"] == false)
      e.notes += concat(run.task->name, ": the likeliest ids: a temperature draws only with do_sample=true\n");
  const int64_t run = scorer.rows_run(), asked = scorer.rows_asked();
  std::ostringstream work;
  const double seconds = info.end - info.start;
  work << std::fixed << std::setprecision(1) << seconds << " s, " << 100 * info.model_seconds / seconds
       << " % in the model; " << run << " tokens read";
  if (run > 0 && asked > run)
    work << ", " << static_cast<double>(asked) / static_cast<double>(run) << " times as many without sharing";
  e.work = work.str();
  return e;
}

int evaluate_tasks(const TaskEvalOptions& o) {
  if (o.eval.data.empty()) fail("--data: give the folder with the data sets (docs/evaluation.md lists the files)");
  const TaskEvaluation e = run_tasks(Engine(o.model, o.engine), o);
  const Evaluation& result = e.result;
  std::cout << header_line(e.info, e.options) << "\n" << results_table(result.entries);
  const bool groups =
      std::any_of(result.entries.begin(), result.entries.end(), [](const Entry& entry) { return entry.group; });
  if (groups) std::cout << "\n" << results_table(result.entries, true);
  std::cout << comparability_notes(result.entries) << e.notes;
  if (result.partial) std::cout << "partial: stopped before the end; the same command goes on\n";
  say(e.work, true);
  if (!o.output.empty()) {
    const Path file = write_results(o.output, e.info, e.options, result, true);
    say("results: " + file.string(), true);
  }
  return result.partial ? kInterrupted : 0;
}

}  // namespace qwerky
