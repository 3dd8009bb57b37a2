// SPDX-License-Identifier: MIT
// Against lm-evaluation-harness 0.4.8 itself (tools/make_eval_goldens.py): the same small rows and the same made-up
// model give the same samples, scores and tables, and the given data sets give the same requests, without and with
// examples, as plain text and as conversations.
#include <gtest/gtest.h>

#include <functional>
#include <sstream>

#include "data.h"
#include "eval/evaluate.h"
#include "eval/results_json.h"
#include "eval/table.h"
#include "io/tokenizer.h"
#include "repetitions.h"

namespace qwerky {
namespace {

using testing::golden;
using testing::scratch_dir;
using testing::shared_data;

uint64_t number(const std::string& text) { return std::stoull(sha256(text).substr(0, 8), nullptr, 16); }

/// The model of make_eval_goldens.py; collects json.dumps of what it is asked.
Scorer fake(std::string* asked = nullptr) {
  const auto note = [asked](const std::string& context, const std::string& continuation) {
    if (asked == nullptr) return;
    *asked += asked->empty() ? "[" : ", ";
    *asked += "[" + python_quoted(context, true) + ", " + python_quoted(continuation, true) + "]";
  };
  Scorer scorer;
  scorer.loglikelihood = [note](std::span<const Request> requests) {
    std::vector<Answer> answers;
    for (const Request& r : requests) {
      note(r.context, r.continuation);
      const uint64_t n = number(r.context + std::string(1, '\0') + r.continuation);
      answers.push_back({-static_cast<double>(n % 5000) / 1000, n % 2 == 0});
    }
    return answers;
  };
  scorer.rolling = [](std::span<const std::string> texts) {
    std::vector<double> sums;
    for (const std::string& text : texts)
      sums.push_back(-static_cast<double>(number(std::string(1, '\0') + text) % 5000) / 1000);
    return sums;
  };
  scorer.generate = [](std::span<const GenerateRequest> requests) {
    static const std::vector<std::string> kTexts = {" so $18.\n#### 18", " it is 1,004 or -7 \n#### 1,004.\n", " none",
                                                    " 18"};
    std::vector<Written> texts;
    for (const GenerateRequest& r : requests) texts.push_back({kTexts[number(r.context) % 4]});
    return texts;
  };
  return scorer;
}

const std::vector<std::string> kSmall = {"arc_easy", "arc_challenge", "hellaswag",        "lambada_openai",
                                         "piqa",     "sciq",          "winogrande",       "wikitext",
                                         "gsm8k",    "mmlu_anatomy",  "mmlu_formal_logic"};

EvalOptions small_options(int shots) {
  return {.tasks = kSmall,
          .data = golden("eval") / "data",
          .num_fewshot = shots,
          .bootstrap_iters = 10,
          .allow_partial = true,
          .batch = 2,
          .journal = {},
          .model_sha256 = "fake"};
}

Evaluation small_evaluation(int shots) {
  const EvalOptions options = small_options(shots);
  Evaluation evaluation = evaluate(options, fake());
  auto names = kSmall;
  names.push_back("mmlu");  // the two subjects that are there
  evaluation.entries = entries_of(names, evaluation.runs, options.bootstrap_iters);
  return evaluation;
}

class Shots : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(EvalGolden, Shots, ::testing::Values(0, 2));

TEST_P(Shots, SamplesAreEqualByteForByte) {
  const Evaluation evaluation = small_evaluation(GetParam());
  for (const TaskRun& run : evaluation.runs) {
    std::string lines;
    for (size_t filter = 0; filter < run.task->filters.size(); ++filter)
      for (int64_t i = 0; i < run.wanted; ++i) lines += sample_line(run, i, filter) + "\n";
    const std::string name = "samples_" + run.task->name + "_" + std::to_string(GetParam()) + "shot.jsonl";
    EXPECT_EQ(lines, read_file(golden("eval") / name)) << name;
  }
}

TEST_P(Shots, ResultsAndTablesAreEqual) {
  const Evaluation evaluation = small_evaluation(GetParam());
  const Json want = read_json(golden("eval") / "results.json")[std::to_string(GetParam()) + "shot"];
  EXPECT_EQ(results_table(evaluation.entries), want["table"].get<std::string>());
  EXPECT_EQ(results_table(evaluation.entries, true), want["groups_table"].get<std::string>());

  const Json json = parse_json(python_dumps(results_json({}, small_options(GetParam()), evaluation)), "results");
  for (const auto& [task, scores] : want["results"].items())
    for (const auto& [key, value] : scores.items()) {
      const Json& found = json["results"][task][key];
      if (key == "alias") {  // v0.4.8 has the table's indentation in it
        EXPECT_EQ(found.get<std::string>(),
                  value.get<std::string>().substr(value.get<std::string>().find_first_not_of(" -")));
      } else if (value.is_string()) {
        EXPECT_EQ(found, value) << task << " " << key;
      } else {
        EXPECT_NEAR(found.get<double>(), value.get<double>(), 1e-14 * std::abs(value.get<double>()))
            << task << " " << key;
      }
    }
  EXPECT_EQ(json["versions"], want["versions"]);
  EXPECT_EQ(json["n-shot"], want["n-shot"]);
  EXPECT_EQ(json["higher_is_better"], want["higher_is_better"]);
  EXPECT_EQ(json["n-samples"], want["n-samples"]);
  for (const auto& [group, children] : want["group_subtasks"].items())
    if (!children.empty()) {
      EXPECT_EQ(json["group_subtasks"][group], children) << group;
    }
  for (const auto& [task, config] : want["configs"].items()) {
    for (const char* key :
         {"task", "description", "target_delimiter", "fewshot_delimiter", "num_fewshot", "output_type", "repeats"})
      EXPECT_EQ(json["configs"][task][key], config[key]) << task << " " << key;
    EXPECT_EQ(json["configs"][task]["metadata"]["version"], config["metadata"]["version"]);
    for (size_t m = 0; m < config["metric_list"].size(); ++m)
      for (const char* key : {"metric", "aggregation", "higher_is_better"})
        if (config["metric_list"][m].contains(key)) {
          EXPECT_EQ(json["configs"][task]["metric_list"][m][key], config["metric_list"][m][key]) << task;
        }
  }
}

/// Of a tokenizer with BOS "<s>" and this template.
PromptStyle chat_style(const std::string& chat_template) {
  const auto dir = scratch_dir("eval-chat");
  write_file(dir / "tokenizer.json", train_bpe("some words to learn from", 257, {"<s>"}));
  write_file(dir / "tokenizer_config.json", Json{{"bos_token", "<s>"}, {"chat_template", chat_template}}.dump());
  PromptStyle style;
  use_chat_template(style, *load_tokenizer(dir), "made-up", "");
  return style;
}

/// Chat templates, system instructions, generation arguments: hashes of the same files of samples.
TEST(EvalGolden, OptionsGiveTheSameSamples) {
  const Json settings = read_json(golden("eval") / "options.json");
  EXPECT_EQ(settings.size(), 8u);
  for (const Json& want : settings) {
    EvalOptions options = small_options(want["shots"].get<int>());
    if (want["template"].is_string()) options.prompts = chat_style(want["template"].get<std::string>());
    if (want.contains("system_instruction")) options.prompts.system = want["system_instruction"].get<std::string>();
    options.prompts.multiturn = want.value("fewshot_as_multiturn", false);
    options.gen_kwargs = want.value("gen_kwargs", "");
    const Evaluation evaluation = evaluate(options, fake());
    const OrderedJson json = results_json({}, options, evaluation);
    const std::string setting = python_dumps(OrderedJson(want["results"]));
    for (const TaskRun& run : evaluation.runs) {
      if (!want["tasks"].contains(run.task->name)) continue;
      std::string lines;
      for (size_t filter = 0; filter < run.task->filters.size(); ++filter)
        for (int64_t i = 0; i < run.wanted; ++i) lines += sample_line(run, i, filter) + "\n";
      const Json& task = want["tasks"][run.task->name];
      const Json first = parse_json(lines.substr(0, lines.find('\n')), "sample");
      EXPECT_EQ(first["arguments"]["gen_args_0"], task["arguments"]) << run.task->name << setting;
      EXPECT_EQ(sha256(lines), task["sha256"].get<std::string>()) << run.task->name << setting;
    }
    for (const auto& [key, value] : want["results"].items()) {
      const OrderedJson& found = key == "gen_kwargs"          ? json["config"][key]
                                 : key == "generation_kwargs" ? json["configs"]["gsm8k"][key]
                                                              : json[key];
      EXPECT_EQ(Json(found), value) << key << setting;
    }
  }
}

TEST(EvalGolden, RequestsOfWholeDataSetsAreEqual) {
  NEEDS_DATA(shared_data("eval"));
  const Json want = read_json(golden("eval") / "requests.json");
  EXPECT_EQ(want.size(), 29u);
  const PromptStyle chat = chat_style(read_json(golden("eval") / "options.json")[0]["template"].get<std::string>());
  size_t at = 0;
  for (const auto& [key, expected] : want.items()) {            // "arc_easy 5", "arc_easy 5 chat", "arc_easy 5 turns"
    if (testing::kAddressSanitizer && at++ % 9 != 1) continue;  // an ARC, LAMBADA, MMLU and PIQA, each in another way
    std::istringstream words(key);
    std::string task, how, asked;
    int shots = 0;
    words >> task >> shots >> how;
    EvalOptions options{.tasks = {task},
                        .data = shared_data("eval"),
                        .num_fewshot = shots,
                        .bootstrap_iters = 10,
                        .allow_partial = true,
                        .journal = {},
                        .model_sha256 = {}};
    if (!how.empty()) options.prompts = chat;
    options.prompts.multiturn = how == "turns";
    const Evaluation evaluation = evaluate(options, fake(&asked));
    EXPECT_EQ(sha256(asked + "]"), expected["sha256"].get<std::string>()) << key;
    for (const Score& score : evaluation.entries[0].scores) {
      const double value = expected["results"][score.metric + "," + score.filter];
      EXPECT_NEAR(score.value, value, 1e-14 * value) << key;
      const double error = expected["results"][score.metric + "_stderr," + score.filter];
      EXPECT_NEAR(score.error.value(), error, 1e-11 * error) << key;
    }
  }
}

TEST(EvalGolden, TablesOfRandomNumbersAreEqual) {
  const Json cases = read_json(golden("eval") / "table.json");
  EXPECT_GE(cases.size(), 50u);
  for (const Json& one : cases) {
    std::vector<Entry> entries;
    for (const auto& [task, scores] : one["results"].items()) {
      Entry entry{.name = task,
                  .alias = task,
                  .version = one["versions"][task].get<int>(),
                  .shots = one["n-shot"][task].get<int>(),
                  .children = {},
                  .scores = {}};
      for (const char* metric : {"acc", "acc_norm", "perplexity"})
        if (const auto found = scores.find(std::string(metric) + ",none"); found != scores.end()) {
          const Json& error = scores[std::string(metric) + "_stderr,none"];
          entry.scores.push_back({metric, "none", found->get<double>(),
                                  error.is_string() ? std::nullopt : std::optional(error.get<double>()),
                                  one["higher_is_better"][task][metric].get<bool>()});
        }
      entries.push_back(entry);
    }
    EXPECT_EQ(results_table(entries), one["table"].get<std::string>());
  }
}

/// The tables that lm-eval prints for real models: read, printed again, equal.
TEST(EvalGolden, PublishedTablesAreEqual) {
  NEEDS_DATA(shared_data("golden/lm-eval"));
  int tables = 0;
  for (const std::string& name : list_names(shared_data("golden/lm-eval"))) {
    if (!name.ends_with(".txt")) continue;
    const std::string text = read_file(shared_data("golden/lm-eval") / name) + "\n";
    std::vector<std::vector<std::string>> rows;
    for (size_t at = 0, end; (end = text.find('\n', at)) != text.npos; at = end + 1) {
      std::vector<std::string> cells;
      for (size_t bar = at, next; (next = text.find('|', bar + 1)) < end; bar = next) {
        std::string cell = text.substr(bar + 1, next - bar - 1);
        if (const size_t last = cell.find_last_not_of(' '); last == cell.npos) {
          cell.clear();
        } else {
          cell.erase(last + 1);
        }
        if (!cells.empty() && cell != "   N/A") cell.erase(0, cell.find_first_not_of(' '));
        cells.push_back(cell);
      }
      if (!cells.empty()) rows.push_back(cells);
    }
    ASSERT_GE(rows.size(), 3u) << name;
    rows.erase(rows.begin(), rows.begin() + 2);
    EXPECT_EQ(markdown_table({"Tasks", "Version", "Filter", "n-shot", "Metric", "", "Value", "", "Stderr"}, rows), text)
        << name;
    ++tables;
  }
  EXPECT_EQ(tables, 4);
}

}  // namespace
}  // namespace qwerky
