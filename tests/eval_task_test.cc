// SPDX-License-Identifier: MIT
// Tasks without a model: prompts computed by hand on small rows, hostile rows, Python's rules for text and random
// numbers, and the oracle of lm-eval's own tests (v0.3.0): the SHA-256 of all requests of whole data sets, and the
// metrics of a model whose r-th answer is minus the r-th random().
#include "eval/task.h"

#include <gtest/gtest.h>

#include <set>

#include "data.h"
#include "eval/metrics.h"
#include "eval/random_python.h"
#include "eval/text_rules.h"
#include "expect_error.h"
#include "io/tokenizer_utf8.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::golden;
using testing::has;
using testing::scratch_dir;
using testing::shared_data;
using Texts = std::vector<std::string>;
using Indices = std::vector<int64_t>;

const Task& task(const std::string& name) { return *tasks_of({name}).at(0); }

std::vector<Document> documents(const std::string& name, const std::string& bytes,
                                const std::string& file = "x.jsonl") {
  std::vector<Document> list;
  for (const Row& row : parse_rows(bytes, file)) list.push_back(task(name).read(row));
  return list;
}

/// "context|continuation", one a request, after the task's description.
Texts requests(const std::string& name, const std::string& bytes, const std::string& file = "x.jsonl") {
  Texts list;
  for (const Document& document : documents(name, bytes, file))
    for (const Request& r : requests_of(task(name), document, task(name).description))
      list.push_back(r.context + "|" + r.continuation);
  return list;
}

std::string example(const std::string& name, const std::string& bytes, const std::string& file = "x.jsonl") {
  return example_of(task(name), documents(name, bytes, file).at(0));
}

const std::string kArc = R"({"id":"x1","question":"Why?","choices":{"text":["a b","c","d"],"label":["1","2","3"]},)"
                         R"("answerKey":"3"})";
const std::string kSciq = R"({"question":"What?","distractor3":"c","distractor1":"a","distractor2":"b",)"
                          R"("correct_answer":"d","support":")";
const std::string kWinogrande = R"({"sentence":"Al told Bo _  went. ","option1":"Al","option2":"Bo","answer":"2"})";
const std::string kMmlu = "\" Which\nof \"\"these\"\"? \",1,\"2, 3\",x ,None,C\n";
const std::string kPiqa = R"({"goal":"G","sol1":"one ","sol2":"two","label":1})";

TEST(EvalTask, PromptsComputedByHand) {
  const Texts arc = {"Question: Why?\nAnswer:| a b", "Question: Why?\nAnswer:| c", "Question: Why?\nAnswer:| d"};
  EXPECT_EQ(requests("arc_easy", kArc), arc);
  EXPECT_EQ(requests("arc_challenge", R"({"id":"x1","question":{"stem":"Why?","choices":[{"text":"a b","label":"1"},)"
                                      R"({"text":"c","label":"2"},{"text":"d","label":"3"}]},"answerKey":"3"})"),
            arc);
  EXPECT_EQ(example("arc_easy", kArc), "Question: Why?\nAnswer: d\n\n");
  EXPECT_EQ(documents("arc_easy", kArc)[0].gold, 2);

  EXPECT_EQ(requests("hellaswag", R"({"activity_label":"Cup","ctx_a":"A man  sits.","ctx_b":"he says CPR [x] so",)"
                                  R"("endings":["[step] Get [title] it."," b","c\u00a0","d [e"],"label":2})"),
            (Texts{"Cup: A man sits. He says cpr so|  Get. it.", "Cup: A man sits. He says cpr so| b",
                   "Cup: A man sits. He says cpr so| c", "Cup: A man sits. He says cpr so| d [e"}));

  EXPECT_EQ(requests("lambada_openai", R"({"text":"a\nb  “c” d."})"), (Texts{"a\nb  “c”| d."}));
  EXPECT_EQ(example("lambada_openai", R"({"text":"a b"})"), "a  b\n\n");

  EXPECT_EQ(requests("piqa", kPiqa), (Texts{"Question: G\nAnswer:| one ", "Question: G\nAnswer:| two"}));
  EXPECT_EQ(example("piqa", kPiqa), "Question: G\nAnswer: two\n\n");

  EXPECT_EQ(requests("sciq", kSciq + "\"}")[3], "\nQuestion: What?\nAnswer:| d");
  EXPECT_EQ(requests("sciq", kSciq + " So. \"}")[0], "So. \nQuestion: What?\nAnswer:| a");
  EXPECT_EQ(requests("sciq", "[" + kSciq + "s\"}]", "test.json")[1], "s\nQuestion: What?\nAnswer:| b");
  EXPECT_EQ(example("sciq", kSciq + "s\"}"), "s\nQuestion: What?\nAnswer: d\n\n");

  EXPECT_EQ(requests("winogrande", kWinogrande), (Texts{"Al told Bo Al| went.", "Al told Bo Bo| went."}));
  EXPECT_EQ(example("winogrande", kWinogrande), "Al told Bo Bo went.\n\n");

  const std::string about = "The following are multiple choice questions (with answers) about us foreign policy.\n\n";
  EXPECT_EQ(requests("mmlu_us_foreign_policy", kMmlu, "x.csv")[2],
            about + "Which\nof \"these\"?\nA. 1\nB. 2, 3\nC. x \nD. None\nAnswer:| C");
  EXPECT_EQ(example("mmlu_us_foreign_policy", kMmlu, "x.csv"),
            "Which\nof \"these\"?\nA. 1\nB. 2, 3\nC. x \nD. None\nAnswer: C\n\n");
  EXPECT_EQ(requests("mmlu_anatomy", "question,choice0,choice1,choice2,choice3,answer\nQ,w,x,y,z,3\n", "x.csv").size(),
            4u);

  EXPECT_EQ(requests("wikitext", "\n = T = \n\n a , b \n = = S = = \n x\n = U = \n y\n", "wiki.test.raw"),
            (Texts{"| = T =\n\na, b\n== S ==\nx", "| = U =\ny\n"}));
  EXPECT_EQ(requests("gsm8k", R"({"question":"Q","answer":"A\n#### 1"})"), Texts{"Question: Q\nAnswer:|"});
  EXPECT_EQ(example("gsm8k", R"({"question":"Q","answer":"A\n#### 1"})"), "Question: Q\nAnswer: A\n#### 1\n\n");
}

TEST(EvalTask, MalformedRowsNameFileAndLine) {
  const auto refuses = [](const std::string& name, const std::string& bytes, const std::string& what,
                          const std::string& file = "x.jsonl") {
    const std::string message = error_of([&] { documents(name, bytes, file); });
    EXPECT_PRED2(has, message, what);
    EXPECT_PRED2(has, message, file + ":") << message;
  };
  refuses("arc_easy", kArc + "\n{]", "x.jsonl:2");
  refuses("arc_easy", kArc + "\n\n" + kArc, "x.jsonl:2");
  refuses("arc_easy", "[1]", "expected an object");
  refuses("arc_easy", R"({"question":"Q","choices":{"text":["a","b"],"label":["A","B"]},"answerKey":"C"})",
          "answerKey");
  refuses("arc_easy", R"({"question":"Q","choices":{"text":["a","b"],"label":["A"]},"answerKey":"A"})",
          "found 2 and 1");
  refuses("arc_easy", R"({"question":"Q","choices":{"text":"ab","label":["A"]},"answerKey":"A"})", "list of texts");
  refuses("arc_easy", R"({"id":"Q"})", "\"question\" is missing");
  refuses("arc_easy", R"({"id":7,"question":"Q","choices":{"text":["a","b"],"label":["A","B"]},"answerKey":"A"})",
          "\"id\": expected text, found number");
  refuses("hellaswag", R"({"activity_label":"a","endings":["1","2","3"],"label":"0"})", "four endings, found 3");
  refuses("hellaswag", R"({"activity_label":"a","endings":["1","2","3","4"],"label":""})", "0 to 3");
  refuses("lambada_openai", R"({"text":"word"})", "no space");
  refuses("lambada_openai", R"({"text":" word"})", "expected a context");
  refuses("lambada_openai", R"({"text":7})", "expected text, found number");
  refuses("piqa", R"({"goal":"G","sol1":"1","sol2":"2","label":-1})", "has no answers");
  refuses("winogrande", R"({"sentence":"no blank","option1":"a","option2":"b","answer":"1"})", "one \"_\", found 0");
  refuses("winogrande", R"({"sentence":"_ and _","option1":"a","option2":"b","answer":"1"})", "found 2");
  refuses("winogrande", R"({"sentence":"_","option1":"a","option2":"b","answer":""})", "\"1\" or \"2\"");
  refuses("mmlu_anatomy", "q,a,b,c,d,E\n", "A, B, C or D", "x.csv");
  refuses("mmlu_anatomy", "q,a,b,c,d,A\nq,a,b,c,A\n", "x.csv:2: expected six columns, found 5", "x.csv");
  refuses("mmlu_anatomy", R"({"question":"q","choices":["a","b","c"],"answer":0})", "four choices");
  refuses("mmlu_anatomy", R"({"question":"q","choices":["a","b","c","d"],"answer":4})", "0 to 3");
  refuses("gsm8k", R"({"question":"q","answer":"7"})", "####");
}

TEST(EvalTask, CsvFollowsRfc4180) {
  const auto records = parse_csv("a,\"b,\"\"c\"\"\r\nd\",\r\n\"\",NA\n", "x");
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].fields, (Texts{"a", "b,\"c\"\r\nd", ""}));
  EXPECT_EQ(records[1].fields, (Texts{"", "NA"}));
  EXPECT_EQ(records[1].line, 3);
  EXPECT_PRED2(has, error_of([] { parse_csv("a\n\"b\nc", "x"); }), "x:2: a quoted field does not end");
  EXPECT_PRED2(has, error_of([] { parse_csv("\"b\"c", "x"); }), "after the closing quote");
  EXPECT_PRED2(has, error_of([] { parse_csv("b\"c", "x"); }), "a quote inside");
  EXPECT_PRED2(has, error_of([] { parse_csv("\xff", "x"); }), "not UTF-8");
}

TEST(EvalTask, FilesAreFoundCountedAndHashed) {
  const auto dir = scratch_dir("eval-data");
  const Task& piqa = task("piqa");
  const std::string missing = error_of([&] { load_task(piqa, dir, false, false); });
  for (const char* part : {"piqa.validation.jsonl", "physicaliqa-train-dev/dev.jsonl", "1838 rows", "yonatanbisk"})
    EXPECT_PRED2(has, missing, part);
  make_directory(dir / "piqa");
  const std::string row = R"({"goal":"G","sol1":"one ","sol2":"two"})";
  write_file(dir / "piqa/valid.jsonl", row + "\n" + row + "\n");
  EXPECT_PRED2(has, error_of([&] { load_task(piqa, dir, false, true); }), "valid-labels.lst is missing");
  write_file(dir / "piqa/valid-labels.lst", "1\n");
  EXPECT_PRED2(has, error_of([&] { load_task(piqa, dir, false, true); }), "each of 2 rows, found 1");
  write_file(dir / "piqa/valid-labels.lst", "1\nx\n");
  EXPECT_PRED2(has, error_of([&] { load_task(piqa, dir, false, true); }),
               "valid-labels.lst:2: expected a whole number");
  write_file(dir / "piqa/valid-labels.lst", "1\n0\n");
  EXPECT_PRED2(has, error_of([&] { load_task(piqa, dir, false, false); }), "expected the 1838 rows");
  const TaskData data = load_task(piqa, dir, false, true);
  EXPECT_FALSE(data.published);
  EXPECT_EQ(data.documents[0].gold, 1);
  // As many rows as published, but others.
  std::string rows, labels;
  for (int i = 0; i < 1838; ++i) rows += row + "\n", labels += "1\n";
  write_file(dir / "piqa/valid.jsonl", rows);
  write_file(dir / "piqa/valid-labels.lst", labels);
  EXPECT_PRED2(has, error_of([&] { load_task(piqa, dir, false, false); }), "lm-eval's is 6048a3a2");
  EXPECT_FALSE(load_task(piqa, dir, false, true).published);
}

TEST(EvalTask, EmptyContextsAreRefused) {
  for (const auto& [name, row] :
       {std::pair{"winogrande", R"({"sentence":"_ is big","option1":" ","option2":"He","answer":"1"})"},
        {"lambada_openai", R"({"text":"  word"})"}}) {
    const auto dir = scratch_dir("eval-empty");
    const Task& of = task(name);
    write_file(dir / of.documents.files[0], std::string(row) + "\n");
    EXPECT_PRED2(has, error_of([&] { load_task(of, dir, false, true); }), ".jsonl:1: the context is empty");
  }
}

TEST(EvalTask, NamesAndGroups) {
  EXPECT_EQ(tasks_of({"mmlu", "mmlu_anatomy", "mmlu_stem"}).size(), 57u);
  int64_t rows = 0;
  for (const Task* t : tasks_of({"mmlu"})) rows += t->documents.rows;
  EXPECT_EQ(rows, 14042);
  const std::pair<const char*, int64_t> groups[] = {
      {"mmlu_humanities", 4705}, {"mmlu_other", 3107}, {"mmlu_social_sciences", 3077}, {"mmlu_stem", 3153}};
  for (const auto& [name, expected] : groups) {
    rows = 0;
    for (const Task* t : tasks_of({name})) rows += t->documents.rows;
    EXPECT_EQ(rows, expected) << name;
  }
  EXPECT_PRED2(has, error_of([] { tasks_of({"hellaswaq"}); }), "nearest: hellaswag");
  EXPECT_PRED2(has, error_of([] { tasks_of({"mmlu_stems"}); }), "nearest: mmlu_stem");
  EXPECT_PRED2(has, error_of([] { tasks_of({"piqa", "perplexity"}); }), "measure it apart from other tasks");
}

TEST(EvalTask, PythonsRandomNumbers) {
  PythonRandom bits(1234);
  for (uint32_t expected : {4150886329u, 3342196574u, 1892932127u, 501869158u}) EXPECT_EQ(bits.bits32(), expected);
  PythonRandom set(1234);
  EXPECT_EQ(set.sample(1119, 5), (Indices{902, 239, 15, 185, 71}));
  EXPECT_EQ(set.sample(1119, 5), (Indices{171, 201, 726, 484, 35}));
  EXPECT_EQ(PythonRandom(1234).sample(40398, 6), (Indices{28883, 7657, 490, 5940, 38156, 2288}));
  EXPECT_EQ(PythonRandom(1234).sample(20, 5), (Indices{14, 3, 0, 2, 1}));
  PythonRandom choices(0);
  for (int64_t expected : {4351, 3905, 2167, 1334, 2634, 2086}) EXPECT_EQ(choices.choice(5153), expected);
}

TEST(EvalTask, ExamplesAreDrawnAsLmEvalDoes) {
  std::vector<Document> pool(20);
  for (size_t i = 0; i < pool.size(); ++i) pool[i].row["i"] = i;
  // piqa draws one more than asked for and drops the document itself, whatever its place.
  const std::vector<Document> self = {pool[3]};
  EXPECT_EQ(draw_examples(task("piqa"), self, pool, 4, 1234)[0], (Indices{14, 0, 2, 1}));
  EXPECT_EQ(draw_examples(task("arc_easy"), self, pool, 5, 1234)[0], (Indices{14, 0, 2, 1}));  // drops, draws no other
  EXPECT_EQ(draw_examples(task("mmlu_anatomy"), self, pool, 3, 1234)[0], (Indices{0, 1, 2}));
  EXPECT_PRED2(has, error_of([&] { draw_examples(task("piqa"), self, pool, 20, 1); }), "20 examples need 21 rows");
}

TEST(EvalTask, PythonsText) {
  const Json cases = read_json(golden("eval") / "capitalize.json");
  for (size_t i = 0; i < cases["words"].size(); ++i)
    EXPECT_EQ(python_capitalize(cases["words"][i].get<std::string>()), cases["capitalized"][i].get<std::string>());
  std::string all;
  for (int32_t c = 0x20; c < 0x2fff; ++c) {
    if (is_python_space(c)) continue;
    std::string word;
    append_utf8(word, c);
    all += python_capitalize(word + word + "A") + "\n";
  }
  for (const Json& word : cases["capitalized"]) all += word.get<std::string>() + "\n";
  all.pop_back();
  EXPECT_EQ(sha256(all), cases["sha256"].get<std::string>());
  EXPECT_EQ(python_strip(" \u3000\t\u001Ca b\u0085\u2028"), "a b");
  EXPECT_EQ(python_strip("\u200B"), "\u200B");
  EXPECT_EQ(code_points("aé😀"), 3);
  // From the specification of the format.
  EXPECT_EQ(hellaswag_clean("[substeps] Get a cup. [title] Fill it [step] Now."), " Get a cup.. Fill it Now.");
  EXPECT_EQ(hellaswag_clean("[header] How to x [title] Do y. [step]"), " How to x. Do y. ");
  EXPECT_EQ(hellaswag_clean("a   b [c\nd] e"), "a  b [c\nd] e");
  EXPECT_EQ(wikitext_detokenize("( a ( b ) \" c d \" ' e ' /' 5/' 6/ x"), "(a ( b) \"c d\" 'e' /'[0-9]/' 6/ x");
  EXPECT_EQ(python_repr(0.1), "0.1");
  EXPECT_EQ(python_repr(-12.5), "-12.5");
  EXPECT_EQ(python_repr(1e16), "1e+16");
  EXPECT_EQ(python_repr(123456789012345680.0), "1.2345678901234568e+17");
  EXPECT_EQ(python_repr(1e-5), "1e-05");
  EXPECT_EQ(python_repr(100.0), "100.0");
  EXPECT_EQ(python_quoted("\"\\\n\x01\x7f é😀", true), R"("\"\\\n\u0001\u007f \u00e9\ud83d\ude00")");
  EXPECT_EQ(python_dumps({{"a", {1, 2.0, nullptr}}, {"b", OrderedJson::object()}}, {.indent = 1}),
            "{\n \"a\": [\n  1,\n  2.0,\n  null\n ],\n \"b\": {}\n}");
}

TEST(EvalTask, Gsm8kFilters) {
  EXPECT_EQ(gsm8k_extract("strict-match", "#### x\n#### -1,000.\n#### 5"), "-1,000.");
  EXPECT_EQ(gsm8k_extract("strict-match", "####5 ####  6"), "[invalid]");
  EXPECT_EQ(gsm8k_extract("flexible-extract", "is $1,234.50 or -7 apples"), "-7");
  EXPECT_EQ(gsm8k_extract("flexible-extract", "pays -$12."), "-$12.");
  EXPECT_EQ(gsm8k_extract("flexible-extract", "no."), "[invalid]");
  EXPECT_TRUE(gsm8k_equal("$1,234.", "Thus.\n#### 1234"));
  EXPECT_FALSE(gsm8k_equal("12", "x\n#### 13"));
}

/// Requests of the whole split, and the metrics of the random model over documents in the oracle's order.
void expect_oracle(const std::string& name, double acc, double acc_norm, double perplexity = 0) {
  NEEDS_DATA(shared_data("eval"));
  const Task& t = task(name);
  const TaskData data = load_task(t, shared_data("eval"), false, false);
  EXPECT_TRUE(data.published);
  EXPECT_EQ(request_hash(t, data.documents), t.requests_sha256);
  std::vector<const Document*> order;
  for (const Document& document : data.documents) order.push_back(&document);
  PythonRandom(42).shuffle(order);
  PythonRandom random(42);
  std::vector<std::vector<Value>> columns(t.metrics.size());
  for (const Document* document : order) {
    Outcome outcome;
    for (size_t r = requests_of(t, *document, "").size(); r > 0; --r) {
      outcome.answers.push_back({-random.random(), false});
      if (t.kind == Kind::loglikelihood) random.random();  // asked twice
    }
    const auto values = values_of(t, *document, outcome);
    for (size_t m = 0; m < values.size(); ++m) columns[m].push_back(values[m]);
  }
  for (size_t m = 0; m < columns.size(); ++m) {
    const double found = aggregate(t.metrics[m].how, columns[m]);
    if (t.metrics[m].name == "perplexity") {
      EXPECT_DOUBLE_EQ(found, perplexity);
    } else {
      EXPECT_DOUBLE_EQ(found, t.metrics[m].name == "acc" ? acc : acc_norm) << t.metrics[m].name;
    }
  }
}

TEST(EvalOracle, ArcEasy) { expect_oracle("arc_easy", 0.2474747474747475, 0.24074074074074073); }
TEST(EvalOracle, Piqa) { expect_oracle("piqa", 0.514145810663765, 0.5114254624591947); }
TEST(EvalOracle, Lambada) { expect_oracle("lambada_openai", 0, 0, 1.6479047769869253); }

TEST(EvalOracle, IncompleteArcChallengeIsRefused) {
  NEEDS_DATA(shared_data("eval"));
  EXPECT_PRED2(has, error_of([] { load_task(task("arc_challenge"), shared_data("eval"), false, false); }),
               "expected the 1172 rows");
}

TEST(EvalMetrics, BootstrapGolden) {
  PythonRandom random(42);
  std::vector<Value> values;
  for (int i = 0; i < 5153; ++i) {
    values.push_back({-random.random()});
    random.random();
  }
  EXPECT_DOUBLE_EQ(aggregate(Aggregation::perplexity, values), 1.6479047769869253);
  EXPECT_NEAR(standard_error(Aggregation::perplexity, values, 10).value(), 0.006497321146240192, 1e-15);
  EXPECT_FALSE(standard_error(Aggregation::perplexity, values, 0));
  EXPECT_FALSE(standard_error(Aggregation::perplexity, values, 1)) << "one resample has no deviation";
  EXPECT_FALSE(standard_error(Aggregation::mean, std::span(values).first(1), 10));
}

/// Standard errors follow from n and acc alone: the published table of Qwerky-72B, and 57 subjects of a real run.
TEST(EvalMetrics, PublishedErrorsFollowFromCounts) {
  const auto error = [](int64_t n, double acc) {
    std::vector<Value> values(static_cast<size_t>(n), Value{0});
    for (int64_t i = 0; i < std::llround(acc * static_cast<double>(n)); ++i) values[static_cast<size_t>(i)].x = 1;
    return standard_error(Aggregation::mean, values, 1).value();
  };
  const std::tuple<const char*, double, double> card[] = {{"arc_challenge", 0.6152, 0.0142},
                                                          {"arc_challenge", 0.6297, 0.0141},
                                                          {"arc_easy", 0.8565, 0.0072},
                                                          {"arc_easy", 0.8304, 0.0077},
                                                          {"hellaswag", 0.6780, 0.0047},
                                                          {"hellaswag", 0.8587, 0.0035},
                                                          {"lambada_openai", 0.7502, 0.0060},
                                                          {"piqa", 0.8237, 0.0089},
                                                          {"piqa", 0.8368, 0.0086},
                                                          {"sciq", 0.971, 0.0053},
                                                          {"sciq", 0.957, 0.0064},
                                                          {"winogrande", 0.7806, 0.0116}};
  for (const auto& [name, acc, expected] : card)
    EXPECT_NEAR(error(task(name).documents.rows, acc), expected, 0.00005) << name;
  NEEDS_DATA(shared_data("golden/lm-eval"));
  std::set<std::string> checked;
  for (const std::string& file : list_names(shared_data("golden/lm-eval"))) {
    if (!file.ends_with(".json")) continue;
    const Json json = read_json(shared_data("golden/lm-eval") / file);
    for (const auto& [key, scores] : json["results"].items()) {
      const std::string name = key.starts_with("hendrycksTest-") ? "mmlu_" + key.substr(14) : key;
      if (find_task(name) == nullptr || !scores.contains("acc_stderr")) continue;
      EXPECT_NEAR(error(find_task(name)->documents.rows, scores["acc"]), scores["acc_stderr"].get<double>(), 1e-12)
          << file << " " << key;
      checked.insert(name);
    }
  }
  EXPECT_GE(checked.size(), 57u);
}

TEST(EvalMetrics, PooledError) {
  const double errors[] = {0.1, 0.2};
  const int64_t sizes[] = {3, 5};
  EXPECT_DOUBLE_EQ(pooled_error(errors, sizes), std::sqrt((2 * 0.01 * 3 + 4 * 0.04 * 5) / 6 / 8));
}

TEST(EvalMetrics, FirstOfEqualsAndEmptyChoices) {
  const Document d = documents("piqa", R"({"goal":"G","sol1":"","sol2":"ab","label":0})")[0];
  const auto values = values_of(task("piqa"), d, {{{-1, false}, {-1, false}}, ""});
  EXPECT_EQ(values[0].x, 1);  // the first of equals
  EXPECT_EQ(values[1].x, 0);  // -1 / 0 characters is the least
}

}  // namespace
}  // namespace qwerky
