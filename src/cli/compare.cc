// SPDX-License-Identifier: MIT
// `compare`, student against teacher: perplexity, KL, agreement and alignment on text or ids; tasks on the same
// documents, recall at length; all of it as a page.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <iomanip>
#include <iostream>
#include <memory>

#include "base/parallel.h"
#include "base/version.h"
#include "cli/command.h"
#include "cli/compare_tasks.h"
#include "cli/measure_options.h"
#include "cli/result.h"
#include "engine/engine.h"
#include "eval/report.h"
#include "eval/table.h"

namespace qwerky {
namespace {

struct Options {
  std::string teacher, student, report;
  MeasureOptions measure;
  std::vector<std::string> text;  // what is text beside --tasks
  int64_t text_tokens = 0;
  int64_t softmax_window = 0, sinks = 4;
  PairOptions pair;
  bool tasks() const { return !pair.tasks.eval.tasks.empty(); }
  bool pairs() const { return tasks() || !pair.recall.recall.tasks.empty() || !report.empty(); }
  bool reads_text() const { return !measure.text.data.empty() || !measure.text.tokens_file.empty(); }
};

/// What the text says, and the ids that it was.
struct TextComparison {
  Comparison result;
  std::vector<std::vector<int32_t>> ids;
  std::vector<std::string> mixers;  // of the student
  std::string backend;
  int64_t teacher_state, student_state;  // values of a sequence as long as a window
};

std::string state_size(const Decoder& d, int64_t window) {
  return d.state_scalars(0) == d.state_scalars(1 << 20)
             ? concat(d.state_scalars(0), " values")
             : concat(d.state_scalars(window), " values at ", window, " tokens");
}

TextComparison compare_text(const Options& options) {
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
  const auto& mixers = student->config().mixers;
  if (options.softmax_window > 0 && std::find(mixers.begin(), mixers.end(), MixerKind::softmax) == mixers.end())
    fail("--softmax-window: ", options.student, " has no softmax layer to restrict; leave it out");
  TextComparison text;
  text.ids = read_ids(o.text, teacher->tokenizer.get(), teacher->config().vocab);
  text.backend = backend->name();
  text.teacher_state = teacher->decoder->state_scalars(o.window);
  text.student_state = student->decoder->state_scalars(o.window);
  for (const MixerKind kind : mixers) text.mixers.emplace_back(name_of(kind));
  text.result =
      compare(*backend, *teacher->decoder, *student->decoder, windows_of(text.ids, o.window), true, show_windows_done);
  say(concat("compared on ", threads(), " threads, backend ", backend->name()), true);

  const Comparison& c = text.result;
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
      std::cout << std::setw(5) << l << "   " << std::setw(8) << std::left << text.mixers[l] << std::right
                << std::setw(12) << c.alignment[l] << std::setw(14) << c.unexplained[l] << "\n";
  }
  std::cout << "positions       ppl teacher     student       ratio          KL\n";
  for (const PositionBand& b : position_bands(c, 8))
    std::cout << std::setw(5) << b.begin << " – " << std::setw(5) << std::left << b.end - 1 << std::right
              << std::setw(14) << b.teacher << std::setw(12) << b.student << std::setw(12) << b.student / b.teacher
              << std::setw(12) << b.kl << "\n";
  return text;
}

Json text_json(const Options& o, const TextComparison& text) {
  const Comparison& c = text.result;
  return {{"teacher", scores_json(c.teacher)},
          {"student", scores_json(c.student)},
          {"ratio", c.ratio()},
          {"kl", c.kl},
          {"top1", c.top1},
          {"alignment", c.alignment},
          {"unexplained", c.unexplained},
          {"kl_by_position", c.kl_by_position},
          {"window", o.measure.window},
          {"backend", text.backend},
          {"state_scalars", {{"teacher", text.teacher_state}, {"student", text.student_state}}}};
}

/// 2025-01-31 12:00 UTC
std::string utc_now() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  gmtime_r(&now, &parts);
  return concat(std::put_time(&parts, "%Y-%m-%d %H:%M UTC"));
}

/// SHA-256 of ids as little-endian 32-bit numbers, one sequence behind the other.
std::string sha256_of(const std::vector<std::vector<int32_t>>& sequences) {
  Sha256 hash;
  for (const auto& ids : sequences)
    hash.update({reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int32_t)});
  return hash.hex();
}

Facts settings(const Options& o, const PairMeasurement& m) {
  Facts facts;
  const auto add = [&](const char* name, const auto&... value) { facts.emplace_back(name, concat(value...)); };
  if (!m.tasks.empty()) {
    const EvalOptions& e = m.tasks[0].options;
    const ModelScorerOptions& s = o.pair.tasks.scorer;
    add("examples before each document", e.num_fewshot ? std::to_string(*e.num_fewshot) : "as each task says");
    add("documents of each task", e.limit > 0 ? concat("the first ", e.limit) : "all");
    add("seed of the choice of examples", e.seed);
    add("resamples for errors of perplexities", e.bootstrap_iters, ", seeds 0, 1, …");
    add("longest request", m.tasks[0].info.max_length, " tokens",
        m.tasks.size() > 1 ? concat("; ", m.tasks[1].info.max_length, " of the student") : "");
    add("BOS before contexts", s.bos ? "yes" : "no");
    add("contexts shared between requests", s.share ? "yes" : "no");
    if (e.prompts.render)
      add("contexts", "in each model's chat template", e.prompts.multiturn ? ", examples as turns" : "");
    if (e.prompts.system) add("system instruction", *e.prompts.system);
    if (!e.gen_kwargs.empty()) add("arguments of generation", e.gen_kwargs);
  }
  if (o.reads_text()) add("window of text", o.measure.window, " tokens");
  if (o.softmax_window > 0)
    add("softmax layers of the student see", o.softmax_window, " tokens and the first ", o.sinks);
  if (!m.agreement.empty())
    add("text generated for agreement", "greedy, ", o.pair.agreement_tokens, " tokens after at most ",
        o.pair.agreement_prompts, " prompts of each source");
  if (const RecallOptions& r = o.pair.recall.recall; !r.tasks.empty())
    add("recall", r.samples, " samples of each length and depth, seed ", r.seed, ", in ",
        r.haystack.empty() && o.pair.recall.text.data.empty() ? "made-up sentences" : "the text");
  return facts;
}

std::string page(const Options& o, const std::optional<TextComparison>& text, const PairMeasurement& m) {
  Report report;
  report.teacher = o.teacher, report.student = o.student;
  report.date = utc_now(), report.version = program_version();
  report.scores = m.scores;
  if (!m.scores.empty()) report.score_notes = comparability_notes(m.tasks[1].result.entries);
  for (const TaskEvaluation& e : m.tasks) report.score_notes += e.notes;
  if (!m.stopped.empty()) {
    report.partial = concat("Partial: stopped at ", m.stopped, ". Here is what was finished by then; ",
                            o.pair.tasks.output.empty() ? "the command at the end begins again."
                                                        : "the command at the end goes on with tasks and recall.");
    for (size_t i = 0; i < m.tasks.size(); ++i)
      for (const Entry& e : m.tasks[i].result.entries)
        report.finished.emplace_back(concat(e.name, ", ", i == 0 ? "teacher" : "student"),
                                     concat(e.documents, " of ", e.published, " documents, ", e.scores[0].metric, " ",
                                            std::fixed, std::setprecision(4), e.scores[0].value));
  }
  if (text) report.text = text->result, report.mixers = text->mixers;
  report.agreement = m.agreement;
  report.recall = m.recall;
  report.costs = m.costs;
  report.models = m.models;
  if (!m.tasks.empty())
    for (const TaskRun& run : m.tasks.back().result.runs)
      report.data.push_back({run.task->name, run.data.file, run.data.sha256,
                             concat(run.outcomes.size(), " of ", run.task->documents.rows, " documents")});
  if (text) {
    std::string files = o.measure.text.tokens_file;
    for (const std::string& file : o.measure.text.data) files += (files.empty() ? "" : " ") + file;
    report.data.push_back(
        {"text, as ids", files, sha256_of(text->ids), concat(text->result.teacher.tokens, " tokens predicted")});
  }
  report.settings = settings(o, m);
  if (const std::string name = processor_name(); !name.empty()) report.machine.emplace_back("processor", name);
  report.machine.emplace_back("threads", std::to_string(threads()));
  report.command = command_line();
  return report_html(report);
}

int compare_models(const Options& o) {
  check_task_options(o.pair.tasks, o.reads_text() || !o.pair.recall.recall.tasks.empty() || !o.tasks());
  if (const Path folder = Path(o.report).parent_path(); !o.report.empty()) {
    if (!folder.empty() && !is_dir(folder)) fail("--report ", o.report, ": ", folder.string(), " is not a directory");
    check_writable(folder.empty() ? Path(".") : folder);
  }
  std::optional<TextComparison> text;
  PairMeasurement m;
  if (o.reads_text() || !o.pairs()) try {
      text = compare_text(o);
    } catch (const Interrupted&) {
      if (!o.pairs()) throw;
      m.stopped = "the comparison on text";
    }
  if (!o.pairs()) {
    write_result(o.measure.json, text_json(o, *text));
    return 0;
  }
  std::vector<GreedyPrompts> prompts;
  if (text) prompts.push_back(window_prompts(windows_of(text->ids, o.measure.window), o.pair.agreement_prompts));
  if (m.stopped.empty()) m = measure_pair(o.teacher, o.student, o.pair, std::move(prompts));
  print_pair(o.pair, m);
  Json json = text ? text_json(o, *text) : Json::object();
  json["partial"] = !m.stopped.empty();
  for (const PairedScore& s : m.scores) json["tasks"].push_back(to_json(s));
  for (const Agreement& a : m.agreement) json["agreement"].push_back(to_json(a));
  for (const Recall& r : m.recall) json["recall"].push_back(to_json(r));
  for (const ContextCosts& c : m.costs) json["costs"].push_back(to_json(c));
  write_result(o.measure.json, json);
  if (!o.report.empty()) {
    write_file(o.report, page(o, text, m));
    say("report: " + o.report, true);
  }
  return m.stopped.empty() ? 0 : kInterrupted;
}

/// Which of the flags mean what, with tasks and without.
void settle(Options& o, bool with_lengths) {
  TextOptions& text = o.measure.text;
  RecallOptions& recall = o.pair.recall.recall;
  std::vector<std::string>& names = o.pair.tasks.eval.tasks;
  for (const std::string& name : names)
    if (is_recall_task(name) && std::find(recall.tasks.begin(), recall.tasks.end(), name) == recall.tasks.end())
      recall.tasks.push_back(name);
  std::erase_if(names, is_recall_task);
  if (recall.tasks.empty() && with_lengths) recall.tasks = {"passkey", "niah"};
  recall.seed = o.pair.tasks.eval.seed, recall.bos = o.pair.tasks.scorer.bos;
  o.pair.tasks.engine = {.backend = o.measure.backend, .precision = o.measure.precision};
  if (o.tasks()) {
    if (text.data.size() != 1)
      fail("--data: with --tasks, give the folder with the data sets (docs/evaluation.md lists the files), found ",
           text.data.size(), "; text goes to --text");
    if (o.softmax_window > 0) fail("--softmax-window: changes the comparison on text alone; leave out --tasks");
    o.pair.tasks.eval.data = text.data[0];
    o.pair.tasks.eval.limit = text.limit;
    text.data.clear();
    text.limit = 0;
  }
  text.data.insert(text.data.end(), o.text.begin(), o.text.end());
  if (o.text_tokens > 0) text.limit = o.text_tokens;
  o.pair.tasks.engine.tokenizer = o.tasks() || !recall.tasks.empty() || needs_tokenizer(text);
  o.pair.recall.text = text;
  o.pair.recall.output = o.pair.tasks.output;
  o.pair.recall.max_length = o.pair.tasks.scorer.max_length;
  o.pair.recall.share = o.pair.tasks.scorer.share;
  std::vector<int64_t>& contexts = o.pair.contexts;
  if (contexts == std::vector<int64_t>{0} || o.report.empty()) contexts.clear();
  contexts = checked_contexts(contexts);
}

}  // namespace

void register_compare(Flags flags, Run& run) {
  const auto o = std::make_shared<Options>();
  flags.add_option("teacher", o->teacher, "model directory or file").required();
  flags.add_option("student", o->student, "model directory or file").required();
  flags
      .add_option("--tasks", o->pair.tasks.eval.tasks,
                  "tasks and groups of lm-eval, on the same documents of --data DIR; passkey, niah, niah_multikey, "
                  "ppl_by_length")
      .list();
  flags.add_option("--report", o->report, "write everything into this HTML file");
  flags.add_option("--text", o->text, "text to compare on, where --data is the folder of the tasks");
  flags.add_option("--text-tokens", o->text_tokens, "at most so many tokens of text, where --limit counts documents")
      .not_negative();
  flags
      .add_option("--contexts", o->pair.contexts,
                  "with --report: time and memory of a token after so many (0: not measured)")
      .list()
      .with_default();
  flags
      .add_option("--agreement-tokens", o->pair.agreement_tokens,
                  "with --tasks or --report: greedy tokens that both models generate (0: none)")
      .with_default()
      .between(0, 1 << 20);
  flags.add_option("--agreement-prompts", o->pair.agreement_prompts, "prompts of each task, and of text")
      .with_default()
      .positive();
  flags
      .add_option("--softmax-window", o->softmax_window,
                  "restrict the second model's softmax layers to so many tokens (0: no)")
      .with_default()
      .not_negative();
  flags.add_option("--sinks", o->sinks, "first tokens that stay visible with --softmax-window")
      .with_default()
      .not_negative();
  add_measure_flags(flags, o->measure);
  add_task_flags(flags, o->pair.tasks);
  add_recall_flags(flags, o->pair.recall);
  flags.callback([o, flags, &run] {
    settle(*o, flags.count("--lengths") > 0);
    run = [o] { return compare_models(*o); };
  });
}

}  // namespace qwerky
