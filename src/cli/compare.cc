// SPDX-License-Identifier: MIT
// `compare` (student against teacher) and `eval` (one model): perplexity, KL, agreement, alignment, on text or ids.
#include <cstdio>
#include <iomanip>
#include <iostream>
#include <memory>

#include "base/parallel.h"
#include "cli/command.h"
#include "cli/eval_tasks.h"
#include "cli/result.h"
#include "cli/text_ids.h"
#include "engine/engine.h"
#include "engine/measure.h"

namespace qwerky {
namespace {

struct Options {
  std::string teacher, student, json, backend = "auto", precision = "auto";
  TextOptions text;
  int64_t window = 256, softmax_window = 0, sinks = 4;
};

/// Windows of every sequence; the ids stay the caller's.
Windows windows_of(const std::vector<std::vector<int32_t>>& sequences, int64_t length) {
  Windows windows({}, length);
  for (const auto& ids : sequences) windows.add(ids);
  return windows;
}

void show_progress(int64_t done, int64_t total) {
  if (interrupted()) throw Interrupted();
  say(concat("window ", done, "/", total), false);
}

Json scores_json(const Scores& s) {
  Json json = to_json(s);
  json["nll_by_position"] = s.nll_by_position;
  return json;
}

/// Mean of values[begin, end).
double mean(const std::vector<double>& values, size_t begin, size_t end) {
  double sum = 0;
  for (size_t i = begin; i < end; ++i) sum += values[i];
  return sum / static_cast<double>(end - begin);
}

std::string state_size(const Decoder& d, int64_t window) {
  return d.state_scalars(0) == d.state_scalars(1 << 20)
             ? concat(d.state_scalars(0), " values")
             : concat(d.state_scalars(window), " values at ", window, " tokens");
}

int compare_models(const Options& o) {
  const bool need_tokenizer = needs_tokenizer(o.text);
  const Checkpoint checkpoint = open_model(o.teacher);
  const auto backend = backend_for(checkpoint, o.backend, o.precision);
  const auto teacher = load_model(checkpoint, {.need_tokenizer = need_tokenizer, .pack_for = backend.get()});
  LoadOptions other{.need_tokenizer = false, .pack_for = backend.get()};
  if (o.softmax_window > 0)  // softmax layers see only the window and the first tokens
    other.edit = [&](Config& config) {
      std::fill(config.windows.begin(), config.windows.end(), o.softmax_window);
      config.sinks = o.sinks;
    };
  const auto student = load_model(o.student, other);
  const auto ids = read_ids(o.text, teacher->tokenizer.get(), teacher->config().vocab);
  const Comparison c =
      compare(*backend, *teacher->decoder, *student->decoder, windows_of(ids, o.window), true, show_progress);
  say(concat("compared on ", threads(), " threads, backend ", backend->name()), true);

  std::cout << std::setprecision(5) << "measured on " << c.teacher.tokens << " tokens in windows of " << o.window
            << ", every position scored\n"
            << "                         teacher     student\n"
            << "perplexity          " << std::setw(12) << c.teacher.perplexity() << std::setw(12)
            << c.student.perplexity() << "   ratio " << c.ratio() << "\n"
            << "KL(teacher‖student) " << std::setw(24) << c.kl << " nats per token\n"
            << "same top token      " << std::setw(24) << 100 * c.top1 << " %\n"
            << "state per sequence   " << state_size(*teacher->decoder, o.window) << "; "
            << state_size(*student->decoder, o.window) << "\n";
  if (!c.alignment.empty()) {
    std::cout << "layer   mixer       ‖Δ‖₂/√D  unexplained variance\n";
    for (size_t l = 0; l < c.alignment.size(); ++l)
      std::cout << std::setw(5) << l << "   " << std::setw(8) << std::left << name_of(student->config().mixers[l])
                << std::right << std::setw(12) << c.alignment[l] << std::setw(14) << c.unexplained[l] << "\n";
  }
  std::cout << "positions       ppl teacher     student       ratio          KL\n";
  const size_t length = c.kl_by_position.size(), step = std::max<size_t>(1, length / 8);
  for (size_t begin = 0; begin < length; begin += step) {
    const size_t end = std::min(length, begin + step);
    const double t = std::exp(mean(c.teacher.nll_by_position, begin, end)),
                 s = std::exp(mean(c.student.nll_by_position, begin, end));
    std::cout << std::setw(5) << begin << " – " << std::setw(5) << std::left << end - 1 << std::right << std::setw(14)
              << t << std::setw(12) << s << std::setw(12) << s / t << std::setw(12)
              << mean(c.kl_by_position, begin, end) << "\n";
  }
  write_result(o.json, Json{{"teacher", scores_json(c.teacher)},
                            {"student", scores_json(c.student)},
                            {"ratio", c.ratio()},
                            {"kl", c.kl},
                            {"top1", c.top1},
                            {"alignment", c.alignment},
                            {"unexplained", c.unexplained},
                            {"kl_by_position", c.kl_by_position},
                            {"window", o.window},
                            {"backend", backend->name()},
                            {"state_scalars",
                             {{"teacher", teacher->decoder->state_scalars(o.window)},
                              {"student", student->decoder->state_scalars(o.window)}}}});
  return 0;
}

int evaluate(const Options& o) {
  const Checkpoint checkpoint = open_model(o.teacher);
  const auto backend = backend_for(checkpoint, o.backend, o.precision);
  const auto model = load_model(checkpoint, {.need_tokenizer = needs_tokenizer(o.text), .pack_for = backend.get()});
  const auto ids = read_ids(o.text, model->tokenizer.get(), model->config().vocab);
  const Scores s = score(*backend, *model->decoder, windows_of(ids, o.window), show_progress);
  say(concat("scored on ", threads(), " threads, backend ", backend->name()), true);
  std::cout << std::setprecision(6) << "perplexity " << s.perplexity() << " (" << s.nll << " nats per token) on "
            << s.tokens << " tokens in windows of " << o.window << "\n";
  write_result(o.json, scores_json(s));
  return 0;
}

void add_common(CLI::App& app, const std::shared_ptr<Options>& o) {
  app.add_option("--data", o->text.data, "text (.txt, .jsonl, .zst, directories), or a .tokens shard");
  app.add_option("--tokens-file", o->text.tokens_file, "token ids, one sequence a line; no tokenizer needed");
  app.add_option("--field", o->text.field, "field of .jsonl rows that holds the text")->capture_default_str();
  app.add_option("--split-before", o->text.split_before,
                 "cut .txt files without <|endoftext|> before lines that begin so");
  app.add_option("--window", o->window, "tokens of a window")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--limit", o->text.limit, "at most so many tokens, or documents of a task (0: all)")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  add_json_flag(app, o->json);
  add_backend_flags(app, o->backend, o->precision);
}

}  // namespace

void register_compare(CLI::App& app, Run& run) {
  const auto o = std::make_shared<Options>();
  app.add_option("teacher", o->teacher, "model directory or file")->required();
  app.add_option("student", o->student, "model directory or file")->required();
  app.add_option("--softmax-window", o->softmax_window,
                 "restrict the second model's softmax layers to so many tokens (0: no)")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_option("--sinks", o->sinks, "first tokens that stay visible with --softmax-window")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  add_common(app, o);
  app.callback([o, &run] { run = [o] { return compare_models(*o); }; });
}

void register_eval(CLI::App& app, Run& run) {
  const auto o = std::make_shared<Options>();
  const auto tasks = std::make_shared<TaskEvalOptions>();
  app.add_option("model", o->teacher, "model directory or file")->required();
  app.add_option("--tasks", tasks->eval.tasks, "perplexity (of --data as text), or tasks and groups of lm-eval")
      ->delimiter(',')
      ->default_str("perplexity");
  add_common(app, o);
  add_task_flags(app, *tasks);
  app.callback([o, tasks, &run] {
    if (tasks->eval.tasks.empty() || tasks->eval.tasks == std::vector<std::string>{"perplexity"}) {
      run = [o] { return evaluate(*o); };
      return;
    }
    tasks->model = o->teacher;
    tasks->engine.backend = o->backend;
    tasks->engine.precision = o->precision;
    tasks->eval.limit = o->text.limit;
    if (o->text.data.size() > 1) fail("--data: give one folder, found ", o->text.data.size());
    if (!o->text.data.empty()) tasks->eval.data = o->text.data[0];
    run = [tasks] { return evaluate_tasks(*tasks); };
  });
}

}  // namespace qwerky
