// SPDX-License-Identifier: MIT
// `compare`, student against teacher: perplexity, KL, agreement, alignment, on text or ids.
#include <cstdio>
#include <iomanip>
#include <iostream>
#include <memory>

#include "base/parallel.h"
#include "cli/command.h"
#include "cli/measure_options.h"
#include "cli/result.h"
#include "engine/engine.h"

namespace qwerky {
namespace {

struct Options {
  std::string teacher, student;
  MeasureOptions measure;
  int64_t softmax_window = 0, sinks = 4;
};

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

int compare_models(const Options& options) {
  const MeasureOptions& o = options.measure;
  const bool need_tokenizer = needs_tokenizer(o.text);
  const Checkpoint checkpoint = open_model(options.teacher);
  const auto backend = backend_for(checkpoint, o.backend, o.precision);
  const auto teacher = load_model(checkpoint, {.need_tokenizer = need_tokenizer, .pack_for = backend.get()});
  LoadOptions other{.need_tokenizer = false, .pack_for = backend.get()};
  if (options.softmax_window > 0)  // softmax layers see only the window and the first tokens
    other.edit = [&](Config& config) {
      std::fill(config.windows.begin(), config.windows.end(), options.softmax_window);
      config.sinks = options.sinks;
    };
  const auto student = load_model(options.student, other);
  const auto ids = read_ids(o.text, teacher->tokenizer.get(), teacher->config().vocab);
  const Comparison c =
      compare(*backend, *teacher->decoder, *student->decoder, windows_of(ids, o.window), true, show_windows_done);
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

}  // namespace

void register_compare(CLI::App& app, Run& run) {
  const auto o = std::make_shared<Options>();
  app.add_option("teacher", o->teacher, "model directory or file")->required();
  app.add_option("student", o->student, "model directory or file")->required();
  app.add_option("--softmax-window", o->softmax_window,
                 "restrict the second model's softmax layers to so many tokens (0: no)")
      ->capture_default_str()
      ->check(kNotNegative);
  app.add_option("--sinks", o->sinks, "first tokens that stay visible with --softmax-window")
      ->capture_default_str()
      ->check(kNotNegative);
  add_measure_flags(app, o->measure);
  app.callback([o, &run] { run = [o] { return compare_models(*o); }; });
}

}  // namespace qwerky
