// SPDX-License-Identifier: MIT
// The driver: batches, limits, a journal that is gone on with, results marked as partial, files on disk.
#include "eval/evaluate.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/parallel.h"
#include "data.h"
#include "eval/results_json.h"
#include "eval/table.h"
#include "eval/text_rules.h"
#include "expect_error.h"
#include "io/tokenizer.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::golden;
using testing::has;
using testing::scratch_dir;

/// Prefers the longer continuation; counts what it is asked.
Scorer counting(int64_t* asked) {
  Scorer scorer;
  scorer.loglikelihood = [asked](std::span<const Request> requests) {
    std::vector<Answer> answers;
    for (const Request& r : requests) answers.push_back({-1.0 / static_cast<double>(r.continuation.size()), true});
    *asked += static_cast<int64_t>(requests.size());
    return answers;
  };
  scorer.generate = [asked](std::span<const GenerateRequest> requests) {
    *asked += static_cast<int64_t>(requests.size());
    return std::vector<Written>(requests.size(), {"#### 18\nQuestion: 19", true});
  };
  return scorer;
}

EvalOptions options(const std::string& journal, std::vector<std::string> tasks = {"lambada_openai", "arc_easy"}) {
  return {.tasks = std::move(tasks),
          .data = golden("eval") / "data",
          .num_fewshot = std::nullopt,
          .bootstrap_iters = 10,
          .allow_partial = true,
          .batch = 2,
          .journal = journal.empty() ? Path() : Path(scratch_dir(journal)),
          .model_sha256 = "m1"};
}

std::string results(const Evaluation& evaluation, const EvalOptions& o) {
  return python_dumps(results_json({}, o, evaluation)["results"]);
}

TEST(EvalEvaluate, InterruptedRunGoesOn) {
  int64_t asked = 0;
  const EvalOptions whole_options = options("");
  const std::string whole = results(evaluate(whole_options, counting(&asked)), whole_options);
  ASSERT_EQ(asked, 5 + 12);

  const EvalOptions o = options("eval-resume");
  asked = 0;
  Scorer stopped = counting(&asked);
  stopped.loglikelihood = [&asked, all = stopped.loglikelihood](std::span<const Request> requests) {
    if (asked == 4) throw Interrupted();
    return all(requests);
  };
  const Evaluation first = evaluate(o, stopped);
  EXPECT_TRUE(first.partial);
  EXPECT_EQ(asked, 4);
  EXPECT_EQ(first.entries.size(), 1u);  // nothing of arc_easy yet
  EXPECT_PRED2(has, comparability_notes(first.entries), "lambada_openai: 4 of 5153 rows");
  EXPECT_EQ(results_json({}, o, first)["qwerky_partial"], true);

  // What a kill leaves: half a line.
  const Path journal = o.journal / list_names(o.journal)[0];
  write_file(journal, read_file(journal) + "{\"document\":4,\"logl");
  asked = 0;
  std::vector<int64_t> seen;
  const Evaluation rest =
      evaluate(o, counting(&asked), [&](const Task&, int64_t done, int64_t) { seen.push_back(done); });
  EXPECT_FALSE(rest.partial);
  EXPECT_EQ(asked, 1 + 12);
  EXPECT_EQ(seen, (std::vector<int64_t>{4, 5, 0, 2, 3}));
  EXPECT_EQ(results(rest, o), whole);

  asked = 0;
  EXPECT_EQ(results(evaluate(o, counting(&asked)), o), whole);
  EXPECT_EQ(asked, 0);
}

TEST(EvalEvaluate, JournalIsOfOneModelAndOneSetting) {
  int64_t asked = 0;
  EvalOptions o = options("eval-bound", {"arc_easy"});
  evaluate(o, counting(&asked));
  const auto asks = [&](const EvalOptions& other) {
    asked = 0;
    evaluate(other, counting(&asked));
    return asked;
  };
  EXPECT_EQ(asks(o), 0);
  EvalOptions other = o;
  other.model_sha256 = "m2";
  EXPECT_EQ(asks(other), 12);
  other = o;
  other.num_fewshot = 1;
  EXPECT_EQ(asks(other), 12);
  other.seed = 7;
  EXPECT_EQ(asks(other), 12);
  other = o;
  other.prompts.system = "Be right.";
  EXPECT_EQ(asks(other), 12);
  other.prompts.render = [](const OrderedJson& messages) { return messages.dump(); };
  other.prompts.chat_template = "{{ messages }}";
  EXPECT_EQ(asks(other), 12);
  other.prompts.multiturn = true;
  EXPECT_EQ(asks(other), 12);
  other.prompts.chat_template = "{{ messages | tojson }}";
  EXPECT_EQ(asks(other), 12);
  EXPECT_EQ(asks(other), 0);
  other = o;
  other.limit = 1;
  EXPECT_EQ(asks(other), 0);  // the first document is there
  EXPECT_EQ(asks(o), 0);

  // Lines that are not those of the documents are asked for again.
  for (const char* line : {"[1]", "{\"document\":1}", R"({"document":1,"greedy":[true],"loglikelihood":[-1]})",
                           R"({"document":7,"greedy":[true],"loglikelihood":[-1]})"}) {
    for (const std::string& name : list_names(o.journal)) remove_tree(o.journal / name);
    evaluate(o, counting(&asked));
    const Path journal = o.journal / list_names(o.journal)[0];
    std::string text = read_file(journal);
    text.insert(text.find("\n", text.find("\"document\":0")) + 1, std::string(line) + "\n");
    write_file(journal, text);
    EXPECT_EQ(asks(o), 3 + 5 + 4 - 3) << line;  // documents of 3, 5 and 4 choices
  }
}

/// What lost its beginning is told again of documents that an earlier run finished.
TEST(EvalEvaluate, TheJournalKeepsWhatWasTruncated) {
  for (const char* name : {"lambada_openai", "gsm8k"}) {
    EvalOptions o = options(concat("eval-truncated-", name), {name});
    int64_t asked = 0;
    Scorer scorer = counting(&asked);
    scorer.loglikelihood = [&](std::span<const Request> requests) {
      std::vector<Answer> answers;
      for (size_t i = 0; i < requests.size(); ++i) answers.push_back({-1, false, asked % 2 == 0, asked++ == 2});
      return answers;
    };
    const auto flags = [&] {
      std::vector<bool> list;
      const Evaluation evaluation = evaluate(o, scorer);
      for (const Outcome& outcome : evaluation.runs[0].outcomes) {
        list.push_back(outcome.truncated);
        for (const Answer& a : outcome.answers) list.push_back(a.truncated), list.push_back(a.cut);
      }
      return list;
    };
    const auto first = flags();
    EXPECT_EQ(std::count(first.begin(), first.end(), true), name == std::string("gsm8k") ? 5 : 4);
    const int64_t before = asked;
    EXPECT_EQ(flags(), first);
    EXPECT_EQ(asked, before);
    const Path journal = o.journal / list_names(o.journal)[0];  // flags of another type mean nothing
    write_file(journal, replace_all(read_file(journal), "\"truncated\":[true]", "\"truncated\":7"));
    EXPECT_EQ(flags().size(), first.size());
    EXPECT_EQ(asked, before);
  }
}

TEST(EvalEvaluate, GenerationStopsAndIsJournaled) {
  int64_t asked = 0;
  EvalOptions o = options("eval-generate", {"gsm8k"});
  const Evaluation evaluation = evaluate(o, counting(&asked));
  EXPECT_EQ(asked, 5);
  EXPECT_EQ(evaluation.runs[0].shots, 5);
  EXPECT_EQ(evaluation.runs[0].outcomes[0].text, "#### 18\n");
  EXPECT_DOUBLE_EQ(evaluation.entries[0].scores[0].value, 0.4);
  EXPECT_EQ(results(evaluate(o, counting(&asked)), o), results(evaluation, o));
  EXPECT_EQ(asked, 5);
}

/// The seeds that the documents' texts are drawn with.
std::vector<uint64_t> seeds_of(EvalOptions o) {
  o.gen_kwargs = "do_sample=true,temperature=0.5,max_gen_toks=9";
  std::vector<uint64_t> seeds;
  Scorer scorer;
  scorer.generate = [&](std::span<const GenerateRequest> requests) {
    for (const GenerateRequest& r : requests) {
      EXPECT_EQ(r.how.sampler.temperature, 0.5);
      EXPECT_EQ(r.how.sampler.top_k, 50);
      EXPECT_EQ(r.how.most, 9);
      seeds.push_back(r.how.sampler.seed);
    }
    return std::vector<Written>(requests.size());
  };
  evaluate(o, scorer);
  return seeds;
}

/// An interruption waits for what was asked last: texts are asked for in smaller batches.
TEST(EvalEvaluate, FewTextsAreAskedForAtOnce) {
  EvalOptions o = options("", {"gsm8k"});
  const auto dir = scratch_dir("eval-many");
  std::string rows;
  for (int i = 0; i < 40; ++i)
    rows += R"({"question":"q","answer":"#### 1"})"
            "\n";
  write_file(dir / "gsm8k.test.jsonl", rows);
  o.data = dir, o.num_fewshot = 0, o.batch = 64;
  std::vector<int64_t> done;
  int64_t asked = 0;
  evaluate(o, counting(&asked), [&](const Task&, int64_t n, int64_t) { done.push_back(n); });
  EXPECT_EQ(done, (std::vector<int64_t>{0, 16, 32, 40}));
}

TEST(EvalEvaluate, DrawsBelongToTheDocument) {
  EvalOptions o = options("", {"gsm8k"});
  const std::vector<uint64_t> seeds = seeds_of(o);
  EXPECT_EQ(std::set(seeds.begin(), seeds.end()).size(), 5u);
  o.batch = 5;
  EXPECT_EQ(seeds_of(o), seeds);
  o.seed = 1;
  EXPECT_NE(seeds_of(o), seeds);
}

TEST(EvalEvaluate, GenerationArgumentsAreBoundAndRefused) {
  int64_t asked = 0;
  EvalOptions o = options("eval-kwargs", {"gsm8k"});
  evaluate(o, counting(&asked));
  o.gen_kwargs = "until=## 1";
  const Evaluation cut = evaluate(o, counting(&asked));
  EXPECT_EQ(asked, 10);
  EXPECT_EQ(cut.runs[0].outcomes[0].text, "##");
  EXPECT_EQ(header_line({}, o), "qwerky (), gen_kwargs: (until=## 1), limit: None, num_fewshot: None, batch_size: 2");
  for (const auto& [text, message] : std::map<std::string, std::string>{
           {"beams=2", "\"beams\" is not supported; these are: do_sample, max_gen_toks, temperature"},
           {"until", "expected KEY=VALUE between commas, found \"until\""},
           {"until=", "until: expected a text"},
           {"until=5", "until: expected a text, found 5"},
           {"max_gen_toks=0", "at least 1, found 0"},
           {"max_gen_toks=1.5", "at least 1, found 1.5"},
           {"top_k=-1", "top_k: expected"},
           {"top_p=2", "top_p: expected a number from 0 to 1, found 2"},
           {"temperature=hot", "temperature: expected a number of at least 0, found \"hot\""},
           {"temperature=nan", "temperature: expected a number of at least 0"},
           {"do_sample=1", "do_sample: expected true or false"},
           {"do_sample=true", "temperature: expected a number above 0 with do_sample=true, found 0"}}) {
    o.gen_kwargs = text;
    EXPECT_PRED2(has, error_of([&] { evaluate(o, counting(&asked)); }), message) << text;
  }
  EXPECT_EQ(asked, 10);
}

TEST(EvalEvaluate, ChatTemplatesOfAModel) {
  const auto dir = scratch_dir("eval-templates");
  write_file(dir / "tokenizer.json", train_bpe("some words to learn from", 257, {"<s>"}));
  const auto render = [&](const char* config, const std::string& name) {
    write_file(dir / "tokenizer_config.json", config);
    const auto tokenizer = load_tokenizer(dir);
    PromptStyle style;
    use_chat_template(style, *tokenizer, "M", name);
    return style.render(OrderedJson::array());
  };
  const char* const several = R"({"chat_template": [{"name": "default", "template": "a"},
                                                    {"name": "rag", "template": "b"}]})";
  EXPECT_EQ(render(several, ""), "a");
  EXPECT_EQ(render(several, "rag"), "b");
  EXPECT_PRED2(has, error_of([&] { render(several, "x"); }),
               "M: the model has no chat template named \"x\"; it has: "
               "default, rag");
  EXPECT_PRED2(has, error_of([&] { render(R"({"chat_template": [{"name": "rag", "template": "b"}]})", ""); }),
               "M: the model has no chat template; it has: rag");
  EXPECT_EQ(render(R"({"chat_template": "c"})", ""), "c");
  EXPECT_PRED2(has, error_of([&] { render(R"({"chat_template": "c"})", "x"); }), "no chat template named \"x\"");
  EXPECT_PRED2(has, error_of([&] { render("{}", ""); }), "M: the model has no chat template (chat_template in");
}

/// A template's error stands when the system message is not what it refuses.
TEST(EvalEvaluate, OnlySystemMessagesAreLeftOut) {
  const auto dir = scratch_dir("eval-refusing");
  write_file(dir / "tokenizer.json", train_bpe("some words to learn from", 257, {"<s>"}));
  write_file(
      dir / "chat_template.jinja",
      "{% for m in messages %}{{ raise_exception('no ' + m.role) if m.role != 'user' else m.content }}{% endfor %}");
  const auto tokenizer = load_tokenizer(dir);
  PromptStyle style;
  use_chat_template(style, *tokenizer, "M", "");
  const auto message = [](const char* role) { return OrderedJson{{"role", role}, {"content", "x"}}; };
  EXPECT_EQ(style.render(OrderedJson::array({message("user")})), "x");
  EXPECT_FALSE(*style.system_refused);
  EXPECT_EQ(style.render(OrderedJson::array({message("system"), message("user")})), "x");
  EXPECT_TRUE(*style.system_refused);
  EXPECT_PRED2(has, error_of([&] {
                 style.render(OrderedJson::array({message("system"), message("assistant")}));
               }),
               "no assistant");
}

TEST(EvalEvaluate, LimitAndFiles) {
  int64_t asked = 0;
  EvalOptions o = options("", {"lambada_openai"});
  o.limit = 1;
  const Evaluation evaluation = evaluate(o, counting(&asked));
  EXPECT_FALSE(evaluation.entries[0].scores[0].error);  // of one value there is none
  EXPECT_PRED2(has, results_table(evaluation.entries), "|   N/A|");
  RunInfo info{.model_args = "pretrained=a/b",
               .model_name = "a//b:c",
               .model_sha256 = {},
               .device = {},
               .start = 1741175696.25,
               .end = 1741175697.5,
               .bos_token = {},
               .eos_token = {}};
  EXPECT_EQ(header_line(info, o),
            "qwerky (pretrained=a/b), gen_kwargs: (None), limit: 1, num_fewshot: None, batch_size: 2");
  const auto dir = scratch_dir("eval-files");
  const Path path = write_results(dir, info, o, evaluation, true);
  EXPECT_EQ(path.parent_path().filename(), "a__b__c");
  EXPECT_PRED2(has, path.filename().string(), "-57.500000.json");
  const Json json = read_json(path);
  EXPECT_EQ(json["config"]["limit"], 1);
  EXPECT_EQ(json["n-samples"]["lambada_openai"], (Json{{"original", 5}, {"effective", 1}}));
  EXPECT_EQ(json["results"]["lambada_openai"]["qwerky_rows"], "1 of 5153");
  EXPECT_EQ(json["task_hashes"]["lambada_openai"].get<std::string>().size(), 64u);
  EXPECT_EQ(json["total_evaluation_time_seconds"], "1.25");
  for (const char* key :
       {"git_hash", "pretty_env_info", "transformers_version", "max_length", "chat_template", "start_time"})
    EXPECT_TRUE(json.contains(key)) << key;
  EXPECT_EQ(list_names(path.parent_path()).size(), 2u);
}

TEST(EvalEvaluate, WrongModelsAreRefused) {
  Scorer none;
  EXPECT_PRED2(has, error_of([&] { evaluate(options("", {"wikitext"}), none); }), "wikitext: the model cannot");
  Scorer broken;
  broken.loglikelihood = [](std::span<const Request> requests) {
    return std::vector<Answer>(requests.size(), {std::nan(""), false});
  };
  EXPECT_PRED2(has, error_of([&] { evaluate(options("", {"piqa"}), broken); }), "log-likelihood of document 0 is nan");
  broken.loglikelihood = [](std::span<const Request>) -> std::vector<Answer> { fail("no ids"); };
  EXPECT_PRED2(has, error_of([&] { evaluate(options("", {"piqa"}), broken); }), "piqa, documents 0 to 1: no ids");
  EvalOptions o = options("", {"mmlu_anatomy"});
  o.num_fewshot = 6;
  int64_t asked = 0;
  EXPECT_PRED2(has, error_of([&] { evaluate(o, counting(&asked)); }), "its pool has 5");
}

TEST(EvalEvaluate, BootstrapIsTheSameOnAnyNumberOfThreads) {
  std::vector<double> values;
  for (int i = 0; i < 100; ++i) values.push_back(-1.0 / (i + 1));
  set_threads(1);
  const double one = bootstrap_error(values, 5000);
  set_threads(3);
  EXPECT_EQ(bootstrap_error(values, 5000), one);
}

}  // namespace
}  // namespace qwerky
