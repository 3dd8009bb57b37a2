// SPDX-License-Identifier: MIT
// `eval`, one model: perplexity of text or ids, the tasks of lm-evaluation-harness, recall at length.
#include <algorithm>
#include <functional>
#include <iomanip>
#include <iostream>
#include <memory>

#include "base/parallel.h"
#include "cli/command.h"
#include "cli/eval_recall.h"
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

void register_eval(Flags flags, Run& run) {
  const auto o = std::make_shared<MeasureOptions>();
  const auto tasks = std::make_shared<TaskEvalOptions>();
  const auto recall = std::make_shared<RecallCommand>();
  flags.add_option("model", tasks->model, "model directory or file").required();
  flags
      .add_option(
          "--tasks", tasks->eval.tasks,
          "perplexity (of --data as text), tasks and groups of lm-eval, passkey, niah, niah_multikey, ppl_by_length")
      .list()
      .with_default("perplexity");
  add_measure_flags(flags, *o);
  add_task_flags(flags, *tasks);
  add_recall_flags(flags, *recall);
  flags.callback([o, tasks, recall, &run] {
    if (tasks->eval.tasks.empty() || tasks->eval.tasks == std::vector<std::string>{"perplexity"}) {
      tasks->eval.tasks.clear();
      check_task_options(*tasks, true);
      run = [o, tasks] { return evaluate_perplexity(tasks->model, *o); };
      return;
    }
    tasks->engine.backend = o->backend;
    tasks->engine.precision = o->precision;
    tasks->eval.limit = o->text.limit;
    // The folder of lm-eval's tasks comes first, if there are any; what else --data names is text.
    std::vector<std::string>& names = tasks->eval.tasks;
    const auto ours = std::stable_partition(names.begin(), names.end(), std::not_fn(is_recall_task));
    *recall = {
        tasks->model, tasks->engine, std::move(recall->recall), o->text, tasks->scorer.max_length, tasks->scorer.share,
        o->json,      tasks->output};
    for (auto name = ours; name != names.end(); ++name)
      if (std::find(ours, name, *name) == name) recall->recall.tasks.push_back(*name);
    recall->recall.seed = tasks->eval.seed;
    recall->recall.bos = tasks->scorer.bos;
    names.erase(ours, names.end());
    std::vector<std::string>& data = recall->text.data;
    if (!names.empty()) recall->text.limit = 0;  // theirs counts documents
    if (!names.empty() && !data.empty()) {
      tasks->eval.data = data[0];
      data.erase(data.begin());
      if (recall->recall.tasks.empty() && !data.empty()) fail("--data: give one folder, found ", data.size() + 1);
    }
    run = [tasks, recall] {
      check_task_options(*tasks, !recall->recall.tasks.empty());
      const int status = recall->recall.tasks.empty() ? 0 : evaluate_recall(*recall);
      return status != 0 || tasks->eval.tasks.empty() ? status : evaluate_tasks(*tasks);
    };
  });
}

}  // namespace qwerky
