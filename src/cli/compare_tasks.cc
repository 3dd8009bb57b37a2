// SPDX-License-Identifier: MIT
#include "cli/compare_tasks.h"

#include <iomanip>
#include <iostream>

#include "base/units.h"
#include "cli/command.h"
#include "engine/fingerprint.h"
#include "eval/table.h"

namespace qwerky {
namespace {

/// What the report says of a model, in the order of its table.
std::vector<std::pair<const char*, std::string>> facts_of(const Engine& engine, const std::string& path) {
  const Model& model = *engine.internals().model;
  const Config& c = model.config();
  int64_t parameters = 0, bytes = 0;
  model.params.each([&](const Param& p) {
    parameters += p.count();
    if (p.weight) bytes += p.weight.bytes();
  });
  return {{"path", path},
          {"architecture", concat(c.model_type, ", ", c.layers, " layers, width ", c.hidden, ", vocabulary ", c.vocab)},
          {"mixers", mixers_of(engine)},
          {"parameters", std::to_string(parameters)},
          {"weights in memory", bytes_text(bytes)},
          {"positions allowed", std::to_string(c.max_positions)},
          {"backend", concat(engine.internals().backend->name(), ", products in ",
                             engine.internals().precision == Precision::bf16 ? "bf16" : "f32")},
          {"fingerprint (hash of configuration, weights, tokenizer and backend)", model_fingerprint(engine)}};
}

/// One of the two models, at work.
class Side {
 public:
  Side(std::string path, const PairOptions& o)
      : path_(std::move(path)),
        o_(o),
        engine_(path_, {.backend = o.tasks.engine.backend,
                        .precision = o.tasks.engine.precision,
                        .tokenizer = o.tasks.engine.tokenizer}) {}

  const Engine& engine() const { return engine_; }

  TaskEvaluation tasks() const {
    TaskEvalOptions mine = o_.tasks;
    mine.model = path_;
    TaskEvaluation e = run_tasks(engine_, mine);
    say(concat(path_, ": ", e.work), true);
    if (!mine.output.empty())
      say("results: " + write_results(mine.output, e.info, e.options, e.result, true).string(), true);
    return e;
  }

  std::vector<std::vector<Ids>> continue_all(const std::vector<GreedyPrompts>& prompts) const {
    std::vector<std::vector<Ids>> all;
    for (const GreedyPrompts& p : prompts)
      all.push_back(continuations(engine_, p.ids, o_.agreement_tokens, [&](int64_t done) {
        check_interrupted();
        say(concat(path_, ": text after ", done, "/", p.ids.size(), " prompts of ", p.source), false);
      }));
    return all;
  }

  Recall recall() const {
    RecallCommand mine = o_.recall;
    const int64_t most = mine.max_length > 0 ? mine.max_length : engine_.max_tokens();
    std::erase_if(mine.recall.lengths, [&](int64_t length) { return most > 0 && length > most; });
    return mine.recall.lengths.empty() ? Recall() : run_recall(engine_, mine).recall;
  }

  ContextCosts costs() const {
    return measure_contexts(engine_, path_, o_.contexts, true, [&](int64_t context) {
      check_interrupted();
      say(concat(path_, ": after ", context, " tokens"), false);
    });
  }

  std::vector<std::pair<const char*, std::string>> facts() const { return facts_of(engine_, path_); }

 private:
  std::string path_;
  const PairOptions& o_;
  Engine engine_;
};

}  // namespace

PairMeasurement measure_pair(const std::string& teacher, const std::string& student, const PairOptions& o,
                             std::vector<GreedyPrompts> prompts) {
  PairMeasurement m;
  const std::vector<std::string>& names = o.tasks.eval.tasks;
  std::vector<std::vector<Ids>> written;
  std::string stage;
  try {
    for (const size_t column : {1, 2}) {
      const char* const role = column == 1 ? "teacher" : "student";
      const auto begin = [&](const char* what) {
        stage = concat("the ", role, "'s ", what);
        check_interrupted();
      };
      const Side side(column == 1 ? teacher : student, o);
      const auto facts = side.facts();
      for (size_t i = 0; i < facts.size(); ++i) {
        if (m.models.size() == i) m.models.push_back({facts[i].first, "", ""});
        m.models[i][column] = facts[i].second;
      }
      begin("tasks");
      if (!names.empty()) {
        m.tasks.push_back(side.tasks());
        if (m.tasks.back().result.partial) throw Interrupted();
        if (m.tasks.size() == 1 && o.agreement_tokens > 0)
          for (const TaskRun& run : m.tasks[0].result.runs)
            if (GreedyPrompts more =
                    task_prompts(run, *side.engine().internals().model->tokenizer, o.agreement_prompts,
                                 std::max<int64_t>(1, m.tasks[0].info.max_length - o.agreement_tokens));
                !more.ids.empty())
              prompts.push_back(std::move(more));
      }
      begin("generated text");
      if (o.agreement_tokens > 0) {
        const auto texts = side.continue_all(prompts);
        for (size_t p = 0; p < written.size(); ++p)
          m.agreement.push_back(agreement(prompts[p].source, o.agreement_tokens, written[p], texts[p]));
        written = texts;
      }
      begin("recall");
      if (!o.recall.recall.tasks.empty()) {
        m.recall.push_back(side.recall());
        if (m.recall.back().partial) throw Interrupted();
      }
      begin("cost at length");
      if (!o.contexts.empty()) {
        m.costs.push_back(side.costs());
        m.costs.back().name += concat(", ", role);
      }
    }
  } catch (const Interrupted&) {
    m.stopped = stage;
  }
  if (m.tasks.size() == 2)
    m.scores = paired_scores(names, m.tasks[0].result.runs, m.tasks[1].result.runs, o.tasks.eval.bootstrap_iters);
  return m;
}

void print_pair(const PairOptions& o, const PairMeasurement& m) {
  if (!m.scores.empty()) {
    std::vector<std::vector<std::string>> rows;
    for (const PairedScore& s : m.scores) rows.push_back(paired_cells(s));
    std::cout << markdown_table(paired_headers(), rows);
    std::cout << comparability_notes(m.tasks[1].result.entries);
    for (const TaskEvaluation& e : m.tasks)
      if (!e.notes.empty()) std::cout << e.info.model_name << ": " << e.notes;
  }
  if (!m.stopped.empty())
    std::cout << "partial: stopped at " << m.stopped << "; the same command goes on (with --output)\n";
  if (!m.agreement.empty()) {
    std::vector<std::vector<std::string>> rows;
    for (const Agreement& a : m.agreement)
      rows.push_back({a.source, std::to_string(a.agreed.size()),
                      concat(std::fixed, std::setprecision(4), a.identical()),
                      concat(std::fixed, std::setprecision(1), a.median_agreed())});
    std::cout << "\n"
              << markdown_table({"Greedy text after", "Prompts", concat("Identical for ", m.agreement[0].tokens),
                                 "Median tokens before the first difference"},
                                rows);
  }
  for (size_t i = 0; i < m.recall.size(); ++i)
    if (!m.recall[i].cells.empty() || !m.recall[i].by_length.empty()) {
      std::cout << (i == 0 ? "teacher\n" : "student\n");
      print_recall(o.recall.recall, m.recall[i]);
    }
}

}  // namespace qwerky
