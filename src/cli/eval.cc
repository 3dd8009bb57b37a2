// SPDX-License-Identifier: MIT
// `eval`, one model: perplexity of text or ids, or the tasks of lm-evaluation-harness.
#include <iomanip>
#include <iostream>
#include <memory>

#include "base/parallel.h"
#include "cli/command.h"
#include "cli/eval_tasks.h"
#include "cli/measure_options.h"
#include "cli/result.h"
#include "engine/engine.h"

namespace qwerky {
namespace {

int evaluate_perplexity(const std::string& path, const MeasureOptions& o) {
  const Checkpoint checkpoint = open_model(path);
  const auto backend = backend_for(checkpoint, o.backend, o.precision);
  const auto model = load_model(checkpoint, {.need_tokenizer = needs_tokenizer(o.text), .pack_for = backend.get()});
  const auto ids = read_ids(o.text, model->tokenizer.get(), model->config().vocab);
  const Scores s = score(*backend, *model->decoder, windows_of(ids, o.window), show_windows_done);
  say(concat("scored on ", threads(), " threads, backend ", backend->name()), true);
  std::cout << std::setprecision(6) << "perplexity " << s.perplexity() << " (" << s.nll << " nats per token) on "
            << s.tokens << " tokens in windows of " << o.window << "\n";
  write_result(o.json, scores_json(s));
  return 0;
}

}  // namespace

void register_eval(CLI::App& app, Run& run) {
  const auto o = std::make_shared<MeasureOptions>();
  const auto tasks = std::make_shared<TaskEvalOptions>();
  app.add_option("model", tasks->model, "model directory or file")->required();
  app.add_option("--tasks", tasks->eval.tasks, "perplexity (of --data as text), or tasks and groups of lm-eval")
      ->delimiter(',')
      ->default_str("perplexity");
  add_measure_flags(app, *o);
  add_task_flags(app, *tasks);
  app.callback([o, tasks, &run] {
    if (tasks->eval.tasks.empty() || tasks->eval.tasks == std::vector<std::string>{"perplexity"}) {
      run = [o, tasks] { return evaluate_perplexity(tasks->model, *o); };
      return;
    }
    tasks->engine.backend = o->backend;
    tasks->engine.precision = o->precision;
    tasks->eval.limit = o->text.limit;
    if (o->text.data.size() > 1) fail("--data: give one folder, found ", o->text.data.size());
    if (!o->text.data.empty()) tasks->eval.data = o->text.data[0];
    run = [tasks] { return evaluate_tasks(*tasks); };
  });
}

}  // namespace qwerky
