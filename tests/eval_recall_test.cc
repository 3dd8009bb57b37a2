// SPDX-License-Identifier: MIT
// Recall tasks: prompts from seeds, what made-up readers score on them, and that a model's answers are those of a plain
// session, whatever is shared.
#include "eval/recall.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "data.h"
#include "engine/continuations.h"
#include "eval/recall_model.h"
#include "expect_error.h"
#include "tiny_model.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::has;

const std::string kTeacher = QWERKY_SOURCE_DIR "/models/teacher";
const std::string kNeedleTasks[] = {"passkey", "niah", "niah_multikey"};

const Tokenizer& tokenizer() {
  static const auto loaded = load_tokenizer(kTeacher);
  return *loaded;
}
std::vector<RecallPrompt> prompts_of(const std::string& task, int64_t length, const RecallOptions& options = {}) {
  return recall_prompts(task, length, options, tokenizer()).needles;
}
std::string text_of(const RecallPrompt& prompt) { return tokenizer().decode(prompt.ids); }
std::string digits_of(const std::vector<int32_t>& key) { return tokenizer().decode(key).substr(1); }

TEST(RecallPrompts, AreTheSameFromTheSameSeed) {
  for (const std::string& task : kNeedleTasks) {
    const auto once = prompts_of(task, 512), again = prompts_of(task, 512), longer = prompts_of(task, 700),
               other = prompts_of(task, 512, {.seed = 7});
    ASSERT_EQ(once.size(), 50u);
    std::set<std::string> keys;
    for (size_t i = 0; i < once.size(); ++i) {
      EXPECT_EQ(once[i].ids, again[i].ids);
      EXPECT_EQ(once[i].keys, again[i].keys);
      EXPECT_EQ(once[i].keys, longer[i].keys) << "a sample keeps its keys at another length";
      EXPECT_EQ(once[i].keys, once[i % 10].keys) << "and at another depth";
      EXPECT_NE(once[i].key, other[i].key);
      EXPECT_EQ(digits_of(once[i].keys[0]), once[i].key);
      EXPECT_EQ((std::set<std::vector<int32_t>>(once[i].keys.begin(), once[i].keys.end()).size()),
                static_cast<size_t>(kRecallKeys));
      keys.insert(once[i].key);
    }
    EXPECT_EQ(keys.size(), 10u) << "samples differ";
  }
}

/// Never longer than asked for, and shorter by less than a sentence.
void expect_lengths(const Tokenizer& t, const std::string& task, int64_t length, const RecallOptions& options,
                    int64_t sentence) {
  for (const RecallPrompt& prompt : recall_prompts(task, length, options, t).needles) {
    size_t key = 0;
    for (const auto& ids : prompt.keys) key = std::max(key, ids.size());
    const auto used = static_cast<int64_t>(prompt.ids.size() + key) + kAnswerSlack;
    EXPECT_LE(used, length) << task;
    EXPECT_GT(used, length - sentence) << task;
  }
}

TEST(RecallPrompts, HaveTheLengthThatIsAskedFor) {
  for (const std::string& task : kNeedleTasks)
    for (const int64_t length : {300, 512, 1000, 4096}) expect_lengths(tokenizer(), task, length, {.samples = 3}, 40);
}

TEST(RecallPrompts, HoldNeedlesAndQuestionsInAnyVocabulary) {
  for (const char* name : {"gpt2", "llama2", "llama3", "qwen", "smollm2"}) {
    const auto path = testing::shared_data("tokenizers") / name;
    NEEDS_DATA(path);
    const auto t = load_tokenizer(path);
    const RecallOptions options{.depths = {0, 50, 100}, .samples = 2};
    for (const std::string& task : kNeedleTasks) {
      expect_lengths(*t, task, 400, options, 40);
      for (const RecallPrompt& prompt : recall_prompts(task, 400, options, *t).needles) {
        auto whole = prompt.ids;
        if (t->adds_bos) whole.erase(whole.begin());
        const std::string text = t->decode(whole);
        whole.insert(whole.end(), prompt.keys[0].begin(), prompt.keys[0].end());
        EXPECT_PRED2(has, text, " is " + prompt.key + ".") << name;
        EXPECT_EQ(t->decode(whole), text + " " + prompt.key) << name;
        EXPECT_EQ(t->encode(t->decode(whole), false), whole) << name << ": ids are not those of the text";
      }
    }
  }
}

TEST(RecallPrompts, NeedlesAreAtTheirDepth) {
  const RecallOptions options{.depths = {0, 30, 100}, .samples = 4};
  for (const std::string& task : kNeedleTasks) {
    const auto prompts = prompts_of(task, 2048, options);
    for (size_t i = 0; i < prompts.size(); ++i) {
      const std::string text = text_of(prompts[i]);
      const auto needle = static_cast<double>(text.find(" is " + prompts[i].key)),
                 question = static_cast<double>(text.rfind(" What is the"));
      EXPECT_NEAR(needle / question, options.depths[i / 4] / 100, 0.05) << task;
      if (task == "niah_multikey") continue;  // others may come between
      const std::string begin =
                            task == "passkey" ? "Keep it in mind. The pass key is " : "Keep them in mind. The secret",
                        end = prompts[i].key + (task == "passkey" ? " is the pass key" : "") + ". What is the";
      EXPECT_EQ(has(text, begin), i / 4 == 0) << text;
      EXPECT_EQ(has(text, end), i / 4 == 2) << text;
    }
  }
}

TEST(RecallPrompts, ManyNeedlesHaveManyNames) {
  for (const RecallPrompt& prompt : prompts_of("niah_multikey", 512)) {
    const std::string text = text_of(prompt), begin = "secret number of ";
    std::set<std::string> names;
    std::string asked;
    for (size_t k = 0; k < prompt.keys.size(); ++k) {
      const size_t at = text.find(" is " + digits_of(prompt.keys[k]) + ".");
      EXPECT_EQ(at != text.npos, k < 4) << "the first distractors are other needles' keys";
      if (at == text.npos) continue;
      const size_t name = text.rfind(begin, at) + begin.size();
      names.insert(text.substr(name, at - name));
      if (k == 0) asked = text.substr(name, at - name);
    }
    EXPECT_EQ(names.size(), 4u);
    EXPECT_TRUE(text.ends_with(" The secret number of " + asked + " is"));
  }
}

TEST(RecallPrompts, TheHaystackMayBeText) {
  std::string text;
  for (int i = 0; i < 200; ++i) text += concat("Tom saw ", i, " birds. He was happy.\n\n");
  const RecallOptions options{.samples = 1, .haystack = text};
  for (const RecallPrompt& prompt : prompts_of("niah", 700, options))
    EXPECT_PRED2(has, text_of(prompt), "Tom saw 17 birds. He was happy.");
  EXPECT_FALSE(has(text_of(prompts_of("passkey", 700, options)[0]), "birds")) << "passkey has its own sentences";
  expect_lengths(tokenizer(), "niah", 700, options, 40);
  const RecallOptions endless{.samples = 1, .haystack = std::string(9000, 'a')};  // no sentence ends in it
  expect_lengths(tokenizer(), "niah", 700, endless, 1);
  EXPECT_PRED2(has, error_of([&] { prompts_of("niah", 700, {.haystack = "Too short."}); }),
               "niah: length 700 needs as many tokens of text, --data holds 5");
}

TEST(RecallPrompts, TooShortLengthsAreRefused) {
  EXPECT_PRED2(has, error_of([] { prompts_of("passkey", 60); }), "passkey: length 60 is too short: needles");
  EXPECT_EQ(parse_length("4096"), 4096);
  EXPECT_EQ(parse_length("64k"), 65536);
  for (const char* wrong : {"", "k", "-1", "0", "4kk", "1M", "1.5k", "9999999999999k"})
    EXPECT_PRED2(has, error_of([&] { parse_length(wrong); }), "expected a number of tokens");
}

/// Answers by `score`, a log-likelihood for each key of a prompt; its greedy answer is the likeliest key.
RecallModel made_up(std::function<double(const RecallPrompt&, size_t key)> score) {
  RecallModel model;
  model.rows = [](std::span<const RecallPrompt> prompts) {
    return std::ranges::count(prompts, false, &RecallPrompt::answered);
  };
  model.answer = [score](std::span<const RecallPrompt> prompts, const RecallModel::OnRows& on_rows,
                         const RecallModel::OnAnswer& on_answer) {
    for (size_t i = 0; i < prompts.size(); ++i) {
      if (prompts[i].answered) continue;
      if (!on_rows(1)) return;
      RecallAnswer answer;
      for (size_t k = 0; k < prompts[i].keys.size(); ++k) answer.loglikelihoods.push_back(score(prompts[i], k));
      const auto best = std::max_element(answer.loglikelihoods.begin(), answer.loglikelihoods.end());
      answer.greedy = prompts[i].keys[static_cast<size_t>(best - answer.loglikelihoods.begin())];
      on_answer(i, answer);
    }
  };
  // A loss that falls with the position in the text.
  model.losses = [](std::span<const int32_t> ids, int64_t first, const RecallModel::OnRows& on_rows) {
    std::vector<double> losses;
    for (auto i = static_cast<size_t>(first); i < ids.size(); ++i)
      losses.push_back(ids[i] + 1 / static_cast<double>(i));
    return on_rows(static_cast<int64_t>(ids.size()) - 1) ? losses : std::vector<double>{};
  };
  return model;
}

/// Numbers that anyone likes more or less.
double liking(const RecallPrompt& prompt, size_t key) {
  return static_cast<double>(Random(hash_name(digits_of(prompt.keys[key]))).below(0, 9));
}
/// Finds the number that the question asks for.
double found(const RecallPrompt& prompt, size_t key) {
  const std::string text = text_of(prompt), question = text.substr(text.rfind("? The ") + 1);
  return liking(prompt, key) + (has(text, question + " " + digits_of(prompt.keys[key])) ? 8 : 0);
}
/// Says any number that it read.
double copied(const RecallPrompt& prompt, size_t key) {
  return liking(prompt, key) + (has(text_of(prompt), digits_of(prompt.keys[key])) ? 8 : 0);
}
/// Remembers nothing that tells keys apart, and is not the same twice.
double guessed(const RecallPrompt& prompt, size_t key) {
  return liking(prompt, key) + Random(hash_name(digits_of(prompt.keys[key])), prompt.ids.size()).uniform(1);
}

const auto go_on = [](const RecallProgress&) { return true; };

TEST(Recall, WhoeverReadsScoresAllAndWhoeverGuessesChance) {
  const RecallOptions options{
      .tasks = {"passkey", "niah", "niah_multikey"}, .lengths = {512, 300}, .depths = {50, 0}, .samples = 60};
  const Recall all = measure_recall(options, tokenizer(), made_up(found), go_on);
  ASSERT_EQ(all.cells.size(), 12u);
  EXPECT_EQ(all.cells[0].length, 300);
  EXPECT_EQ(all.cells[0].depth, 0);
  EXPECT_EQ(all.cells[1].depth, 50);
  EXPECT_EQ(all.cells[2].length, 512);
  EXPECT_EQ(all.cells[4].task, "niah");
  for (const RecallCell& cell : all.cells) {
    EXPECT_EQ(cell.samples, 60);
    EXPECT_EQ(cell.ranked, 1) << cell.task;
    EXPECT_NEAR(cell.margin, 8, 1e-12);
    EXPECT_EQ(cell.chance, 0.1);
  }
  const Recall chance = measure_recall(options, tokenizer(), made_up(guessed), go_on);
  double ranked = 0, margin = 0;
  for (const RecallCell& cell : chance.cells) ranked += cell.ranked / 12, margin += cell.margin / 12;
  // Keys of 180 samples are drawn: standard error √(0.09 / 180) = 0.022 where depths and lengths repeat one another.
  EXPECT_NEAR(ranked, 0.1, 0.07);
  EXPECT_NEAR(margin, 0, 0.1);
  const Recall blind = measure_recall(options, tokenizer(), made_up(liking), go_on);
  for (const RecallCell& cell : blind.cells) {
    EXPECT_EQ(cell.ranked, 0) << "no difference is no recall";
    EXPECT_EQ(cell.margin, 0);
  }
  const Recall copies = measure_recall(options, tokenizer(), made_up(copied), go_on);
  for (const RecallCell& cell : copies.cells)
    EXPECT_EQ(cell.ranked, cell.task == "niah_multikey" ? 0 : 1) << "several needles tell finding from copying";
  const auto nothing = [](const RecallPrompt&, size_t) { return NAN; };
  EXPECT_PRED2(has, error_of([&] { measure_recall(options, tokenizer(), made_up(nothing), go_on); }),
               "log-likelihood of a key is nan");
}

TEST(Recall, AGreedyAnswerThatHasTheKeyCounts) {
  const RecallOptions options{.tasks = {"niah"}, .lengths = {300}, .depths = {0}, .samples = 8};
  RecallModel model = made_up(liking);
  model.answer = [](std::span<const RecallPrompt> prompts, const RecallModel::OnRows&, const RecallModel::OnAnswer& f) {
    for (size_t i = 0; i < prompts.size(); ++i) {
      const std::string said = i < 2 ? prompts[i].key : "1234";
      f(i, {tokenizer().encode(" It is " + said + "!"), std::vector<double>(prompts[i].keys.size(), -2.5)});
    }
  };
  const Recall recall = measure_recall(options, tokenizer(), model, go_on);
  EXPECT_NEAR(recall.cells[0].generated, 0.25, 1e-12);
  EXPECT_NEAR(recall.cells[0].loglikelihood, -2.5, 1e-12);
}

TEST(Recall, AStoppedRunKeepsWhatIsFinished) {
  const RecallOptions options{.tasks = {"passkey", "niah"}, .lengths = {300}, .depths = {0, 100}, .samples = 4};
  const Recall recall = measure_recall(options, tokenizer(), made_up(found), [](const RecallProgress& now) {
    EXPECT_EQ(now.total_rows, 2 * (4 + 8));
    return now.rows <= 4 + 6;
  });
  EXPECT_TRUE(recall.partial);
  ASSERT_EQ(recall.cells.size(), 4u);
  for (const auto& [cell, samples] : {std::pair{0, 4}, {1, 2}, {2, 0}, {3, 0}}) {
    EXPECT_EQ(recall.cells[static_cast<size_t>(cell)].samples, samples);
    EXPECT_EQ(recall.cells[static_cast<size_t>(cell)].wanted, 4);
    EXPECT_EQ(recall.cells[static_cast<size_t>(cell)].ranked, samples > 0 ? 1 : 0);
  }
  Recall read;
  from_json(read, to_json(recall), "recall");
  EXPECT_EQ(to_json(read), to_json(recall));
  EXPECT_EQ(read.cells[1].samples, 2);
}

/// A folder for journals, empty.
RecallOptions journaled(const std::string& name, RecallOptions options) {
  options.journal = testing::scratch_dir(name);
  options.model_sha256 = "m";
  return options;
}

TEST(Recall, AnInterruptedRunGoesOn) {
  std::vector<int32_t> ids;
  for (int i = 0; i < 1000; ++i) ids.push_back(i * i % 7);
  RecallOptions o{
      .tasks = {"passkey", "niah_multikey", "ppl_by_length"}, .lengths = {300, 400}, .depths = {0, 100}, .samples = 3};
  o.ids = ids;
  const Json whole = to_json(measure_recall(o, tokenizer(), made_up(copied), go_on));
  o = journaled("recall-resume", o);
  int64_t read = 0, runs = 0;
  for (bool partial = true; partial; ++runs) {  // each stops after the fifth part of its work
    int64_t now_read = 0;
    const Recall recall = measure_recall(o, tokenizer(), made_up(copied), [&](const RecallProgress& now) {
      EXPECT_LE(now.rows, now.total_rows);
      EXPECT_LE(now.done, now.wanted);
      now_read = now.rows;
      return now.task == "ppl_by_length" ? now.done > 0 || runs > 9 : now.rows < 6;
    });
    read += now_read;
    partial = recall.partial;
    EXPECT_EQ(to_json(recall) == whole, !partial);
    ASSERT_LT(runs, 20);
  }
  EXPECT_GT(runs, 3);
  const auto again = [&](const RecallOptions& options) {
    int64_t rows = 0;
    const Recall recall = measure_recall(options, tokenizer(), made_up(copied), [&](const RecallProgress& now) {
      rows = now.rows;
      return true;
    });
    EXPECT_EQ(to_json(recall) == whole, options.seed == o.seed && options.samples == o.samples);
    return rows;
  };
  EXPECT_EQ(again(o), 0) << "all is there";

  // Bound to the model, the seed and the text; further samples and depths share what is finished.
  RecallOptions other = o;
  other.model_sha256 = "m2";
  EXPECT_EQ(again(other), 4 * 9 + 2 * 700);
  other = o, other.seed = 7;
  EXPECT_EQ(again(other), 4 * 9);
  other = o, other.samples = 2;
  EXPECT_EQ(again(other), 0);
  other.samples = 4;
  EXPECT_EQ(again(other), 4 * 3) << "two needles and a control for each task and length";
  ids[999] += 1;
  EXPECT_EQ(again(o), 0) << "text that is not read";
  ids[500] += 1;
  EXPECT_EQ(measure_recall(o, tokenizer(), made_up(copied), go_on).by_length[0].tokens, 300);
}

TEST(Recall, WhatIsNoAnswerInAJournalIsAskedAgain) {
  const RecallOptions o =
      journaled("recall-hostile", {.tasks = {"passkey"}, .lengths = {300}, .depths = {0}, .samples = 2});
  const Json whole = to_json(measure_recall(o, tokenizer(), made_up(found), go_on));
  const Path journal = o.journal / list_names(o.journal)[0];
  const std::string text = read_file(journal);
  const size_t first = text.find('\n') + 1;
  const std::string key = Json::parse(text.substr(first, text.find('\n', first) - first))["key"].dump();
  for (const std::string& line :
       {std::string("[]"), std::string("{\"key\":1}"), "{\"key\":" + key + "}",
        "{\"key\":" + key + R"(,"greedy":[-1],"values":[1]})", "{\"key\":" + key + R"(,"greedy":[],"values":["x"]})",
        "{\"key\":" + key + R"(,"greedy":[],"values":[1]})", "{\"key\":" + key}) {
    write_file(journal, text.substr(0, first) + line + (line.ends_with('}') || line.ends_with(']') ? "\n" : ""));
    int64_t rows = 0;
    const Recall recall = measure_recall(o, tokenizer(), made_up(found), [&](const RecallProgress& now) {
      rows = now.rows;
      return true;
    });
    EXPECT_EQ(rows, 4) << line;
    EXPECT_EQ(to_json(recall), whole) << line;
  }
}

TEST(Recall, PerplexityByLengthScoresTheSameTokens) {
  std::vector<int32_t> ids;
  for (int i = 0; i < 1000; ++i) ids.push_back(i % 3);
  RecallOptions options{.tasks = {"ppl_by_length"}, .lengths = {400, 100, 200}, .samples = 5};
  options.ids = ids;
  std::vector<int64_t> rows;
  const Recall recall = measure_recall(options, tokenizer(), made_up(found), [&](const RecallProgress& now) {
    rows.push_back(now.rows);
    EXPECT_EQ(now.total_rows, 2 * 700);
    return true;
  });
  EXPECT_FALSE(recall.partial);
  EXPECT_EQ(rows.back(), 1400);
  EXPECT_EQ(recall.last_tokens, 50);
  ASSERT_EQ(recall.by_length.size(), 3u);
  for (const LengthLoss& l : recall.by_length) {
    double want = 0;
    for (const int64_t end : {400, 800})
      for (int64_t k = 0; k < 50; ++k)
        want += (ids[static_cast<size_t>(end - k)] + 1 / static_cast<double>(l.length - k)) / 100;
    EXPECT_EQ(l.tokens, 100);
    EXPECT_NEAR(l.nll, want, 1e-12);
    EXPECT_NEAR(l.perplexity, std::exp(want), 1e-9);
  }
  ASSERT_EQ(recall.by_position.size(), 4u);  // from 0, 64, 128, 256
  EXPECT_EQ(recall.by_position[3].from, 256);
  EXPECT_EQ(recall.by_position[3].to, 400);
  int64_t tokens = 0;
  for (const PositionLoss& p : recall.by_position) tokens += p.tokens;
  EXPECT_EQ(tokens, 800);
  double first = 0;
  for (const int64_t begin : {0, 400})
    for (int64_t k = 1; k <= 64; ++k) first += (ids[static_cast<size_t>(begin + k)] + 1 / static_cast<double>(k)) / 128;
  EXPECT_NEAR(recall.by_position[0].nll, first, 1e-12);

  const Recall stopped =
      measure_recall(options, tokenizer(), made_up(found), [](const RecallProgress& now) { return now.rows < 700; });
  EXPECT_TRUE(stopped.partial);
  EXPECT_EQ(stopped.by_length[1].tokens, 50);
  EXPECT_EQ(stopped.by_length[2].tokens, 0);
  options.lengths = {1000};
  EXPECT_PRED2(has, error_of([&] { measure_recall(options, tokenizer(), made_up(found), go_on); }),
               "ppl_by_length: length 1000 needs 1001 tokens of text, --data holds 1000");
}

TEST(Recall, WrongOptionsAreRefused) {
  const auto message = [](const RecallOptions& o) {
    return error_of([&] { measure_recall(o, tokenizer(), made_up(found), go_on); });
  };
  EXPECT_PRED2(has, message({.tasks = {"piqa"}}), "\"piqa\" is not one of recall");
  EXPECT_PRED2(has, message({.tasks = {"niah"}, .lengths = {}}), "at least one length");
  EXPECT_PRED2(has, message({.tasks = {"niah"}, .depths = {101}}), "0 to 100 percent, found 101");
  EXPECT_PRED2(has, message({.tasks = {"niah"}, .depths = {NAN}}), "0 to 100 percent");
  EXPECT_PRED2(has, message({.tasks = {"niah"}, .samples = 0}), "samples: expected at least 1");
}

TEST(RecallModel, LengthsBeyondSoftmaxPositionsAreRefusedByName) {
  const Engine teacher(kTeacher);
  const int64_t lengths[] = {2048, 4096};
  check_lengths(teacher, std::span(lengths).first(1), 0);
  check_lengths(teacher, lengths, 4096);
  EXPECT_PRED2(has, error_of([&] { check_lengths(teacher, lengths, 0); }),
               "models/teacher: length 4096 is more than the 2048 positions");
  EXPECT_PRED2(has, error_of([&] { check_lengths(teacher, lengths, 3000); }), "more than --max-length 3000");
}

/// Softmax and linear, with and without sharing, against a session that reads one prompt from its beginning.
TEST(RecallModel, AnswersAreThoseOfAPlainSession) {
  const Path linear = testing::tiny_model("recall", "rwkv7qwen2", true, 2048);
  copy_tokenizer(kTeacher, linear);
  for (const std::string& path : {kTeacher, linear.string()}) {
    const Engine engine(path, {.precision = "f32"});
    auto prompts = prompts_of("niah_multikey", 300, {.depths = {0, 50, 100}, .samples = 2});
    prompts.push_back(prompts[3]);  // the same again
    prompts.push_back(prompts[4]);  // and one that goes on where another ends
    prompts.back().ids.push_back(17), prompts.back().ids.push_back(3);
    for (const bool share : {true, false}) {
      const RecallModel model = recall_model(engine, share);
      int64_t rows = 0, answered = 0;
      const auto on_rows = [&](int64_t n) { return rows += n, true; };
      model.answer(prompts, on_rows, [&](size_t i, const RecallAnswer& answer) {
        ++answered;
        Session session(engine, 400);
        GenerateOptions options;
        options.max_tokens = static_cast<int64_t>(prompts[i].keys[0].size()) + kAnswerSlack;
        EXPECT_EQ(answer.greedy, generate(session, engine, prompts[i].ids, options).ids) << path;
        std::vector<Continuation> keys;
        for (const auto& key : prompts[i].keys) {
          keys.push_back({prompts[i].ids, static_cast<int64_t>(prompts[i].ids.size())});
          keys.back().ids.insert(keys.back().ids.end(), key.begin(), key.end());
        }
        ContinuationScorer plain(*engine.internals().backend, *engine.internals().model->decoder, {.share = false});
        const auto scores = plain.score(keys);
        ASSERT_EQ(answer.loglikelihoods.size(), scores.size());
        for (size_t k = 0; k < scores.size(); ++k)
          EXPECT_NEAR(answer.loglikelihoods[k], scores[k].loglikelihood, 1e-3) << path;
      });
      EXPECT_EQ(answered, static_cast<int64_t>(prompts.size()));
      EXPECT_EQ(rows, model.rows(prompts)) << "the work is known before it is done";
      int64_t all = 0;
      for (const RecallPrompt& prompt : prompts) all += static_cast<int64_t>(prompt.ids.size());
      EXPECT_TRUE(share ? rows < all * 2 / 3 : rows == all) << rows << " of " << all;
      int64_t until = 0;
      model.answer(
          prompts, [&](int64_t) { return ++until < 3; }, [](size_t, const RecallAnswer&) {});
      EXPECT_EQ(until, 3) << "stops when told";
    }
    std::vector<int32_t> ids = prompts[0].ids;
    ids.insert(ids.end(), prompts[1].ids.begin(), prompts[1].ids.end());  // more than a call reads
    const auto losses = recall_model(engine, true).losses(ids, 200, [](int64_t) { return true; });
    ASSERT_EQ(losses.size(), ids.size() - 200);
    ContinuationScorer plain(*engine.internals().backend, *engine.internals().model->decoder);
    const Continuation rest{ids, 200};
    double sum = 0;
    for (const double x : losses) sum -= x;
    EXPECT_NEAR(sum, plain.score({&rest, 1})[0].loglikelihood, 1e-2);
  }
}

/// Stopped again and again and gone on with, a model says bit for bit what it says in one run.
TEST(RecallModel, AnInterruptedRunSaysTheSame) {
  const Path linear = testing::tiny_model("recall-resume", "rwkv7qwen2", true, 2048);
  copy_tokenizer(kTeacher, linear);
  const Engine engine(linear.string(), {.precision = "f32"});
  RecallOptions o{.tasks = {"passkey", "niah"}, .lengths = {300, 600}, .depths = {0, 50, 100}, .samples = 3};
  const RecallModel model = recall_model(engine, true);
  int64_t rows = 0, read = 0;
  const Json whole = to_json(measure_recall(o, tokenizer(), model, [&](const RecallProgress& now) {
    rows = now.rows;
    return true;
  }));
  o = journaled("recall-model-resume", o);
  Recall recall;
  recall.partial = true;
  for (int runs = 0; recall.partial && runs < 50; ++runs) {
    int64_t last = 0;
    recall = measure_recall(o, tokenizer(), model, [&](const RecallProgress& now) { return (last = now.rows) < 1500; });
    read += last;
  }
  EXPECT_EQ(to_json(recall), whole);
  EXPECT_GT(read, rows);
}

}  // namespace
}  // namespace qwerky
