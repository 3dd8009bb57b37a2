// SPDX-License-Identifier: MIT
// Paired differences, ratios and relative scores against values computed with numpy: std(ddof=1) of the differences
// over √n, the ratio estimator's √(n/(n-1) Σ(a - R b)²) / |Σb|.
#include "eval/paired.h"

#include <gtest/gtest.h>

#include <cmath>

namespace qwerky {
namespace {

/// A run of a multiple-choice task with four choices, answered rightly or wrongly as given.
TaskRun choices_run(const std::string& task, const std::vector<int>& right) {
  TaskRun run{};
  run.task = find_task(task);
  for (int r : right) {
    Document document;
    document.contexts = {"q"};
    document.choices = {"a", "b", "c", "d"};
    run.data.documents.push_back(document);
    run.outcomes.push_back({{{r ? -1.0 : -3.0, false}, {-2.0, false}, {-4.0, false}, {-4.0, false}}, ""});
  }
  run.wanted = static_cast<int64_t>(right.size());
  run.data.sha256 = task;
  return run;
}

/// A run of one log-likelihood a document.
TaskRun sums_run(const std::string& task, const std::vector<double>& sums, const std::vector<int64_t>& words = {}) {
  TaskRun run{};
  run.task = find_task(task);
  for (size_t i = 0; i < sums.size(); ++i) {
    Document document;
    document.contexts = {"c"};
    document.choices = {"w"};
    if (!words.empty()) document.words = words[i], document.bytes = 5 * words[i];
    run.data.documents.push_back(document);
    run.outcomes.push_back({{{sums[i], i % 2 == 0}}, ""});
  }
  run.wanted = static_cast<int64_t>(sums.size());
  return run;
}

std::vector<PairedScore> scores_of(const std::string& name, const TaskRun& teacher, const TaskRun& student) {
  return paired_scores({name}, {&teacher, 1}, {&student, 1}, 100);
}

TEST(EvalPaired, AccuracyByDocument) {
  const auto scores = scores_of("arc_easy", choices_run("arc_easy", {1, 1, 0, 1, 0, 1, 1, 0}),
                                choices_run("arc_easy", {1, 0, 0, 1, 1, 0, 1, 0}));
  ASSERT_EQ(scores.size(), 2u);  // acc, acc_norm
  const PairedScore& acc = scores[0];
  EXPECT_EQ(acc.metric, "acc");
  EXPECT_DOUBLE_EQ(acc.teacher.value, 0.625);
  EXPECT_DOUBLE_EQ(acc.student.value, 0.5);
  EXPECT_DOUBLE_EQ(acc.change.value, -0.125);
  EXPECT_NEAR(*acc.change.error, 0.2265817417937414, 1e-15);
  EXPECT_NEAR(acc.interval->low, -0.5690920534700871, 1e-14);
  EXPECT_NEAR(acc.interval->high, 0.31909205347008707, 1e-14);
  EXPECT_DOUBLE_EQ(*acc.chance, 0.25);
  ASSERT_TRUE(acc.relative);  // the teacher is 0.375 above chance, 1.96 errors are 0.359
  EXPECT_NEAR(acc.relative->value, 2.0 / 3, 1e-15);
  EXPECT_NEAR(*acc.relative->error, 0.5245305283129621, 1e-14);
}

TEST(EvalPaired, TeacherAtChanceHasNoRelativeScore) {
  const auto scores = scores_of("arc_easy", choices_run("arc_easy", {1, 0, 0, 1, 0, 0, 1, 0}),
                                choices_run("arc_easy", {1, 0, 0, 1, 1, 0, 1, 0}));
  EXPECT_FALSE(scores[0].relative);  // 0.375 against 0.25, 1.96 errors are 0.359
  EXPECT_EQ(paired_cells(scores[0])[7], "N/A");
}

TEST(EvalPaired, TheSameAnswersDifferByNothing) {
  const TaskRun run = choices_run("arc_easy", {1, 1, 1, 1, 1, 1, 1, 0});
  const auto scores = scores_of("arc_easy", run, run);
  EXPECT_EQ(scores[0].change.value, 0);
  EXPECT_EQ(*scores[0].change.error, 0);
  EXPECT_DOUBLE_EQ(scores[0].relative->value, 1);
  EXPECT_DOUBLE_EQ(*scores[0].relative->error, 0);
}

TEST(EvalPaired, PerplexityIsARatioOfPairedLogLikelihoods) {
  const auto scores = scores_of("lambada_openai", sums_run("lambada_openai", {-1.5, -2.0, -0.5, -3.0}),
                                sums_run("lambada_openai", {-2.5, -2.0, -1.5, -4.0}));
  const PairedScore& ppl = scores[0];
  ASSERT_EQ(ppl.metric, "perplexity");
  EXPECT_TRUE(ppl.ratio);
  EXPECT_NEAR(ppl.teacher.value, 5.754602676005731, 1e-12);
  EXPECT_NEAR(ppl.student.value, 12.182493960703473, 1e-12);
  EXPECT_NEAR(ppl.shown_change(), 2.117000016612675, 1e-14);
  EXPECT_NEAR(*ppl.change.error, 0.25, 1e-15);
  EXPECT_NEAR(ppl.interval->low, 1.29694176410174, 1e-13);
  EXPECT_NEAR(ppl.interval->high, 3.4555823510256656, 1e-13);
  EXPECT_FALSE(ppl.chance || ppl.relative);
  EXPECT_EQ(*scores[1].chance, 0);  // acc: the greedy word, nothing to guess from
}

TEST(EvalPaired, PerplexityPerWordWeighsByWords) {
  const auto scores = scores_of("wikitext", sums_run("wikitext", {-20, -50, -60}, {10, 20, 30}),
                                sums_run("wikitext", {-25, -60, -66}, {10, 20, 30}));
  ASSERT_EQ(scores[0].metric, "word_perplexity");
  EXPECT_NEAR(scores[0].shown_change(), 1.4190675485932571, 1e-14);
  EXPECT_NEAR(*scores[0].change.error, 0.114564392373896, 1e-14);
  ASSERT_EQ(scores[2].metric, "bits_per_byte");
  EXPECT_FALSE(scores[2].ratio);
  EXPECT_NEAR(scores[2].change.value, 0.35 / 5 / std::log(2.0), 1e-15);
  EXPECT_NEAR(scores[2].change.value, scores[2].student.value - scores[2].teacher.value, 1e-15);
  EXPECT_NEAR(*scores[2].change.error, 0.114564392373896 / 5 / std::log(2.0), 1e-14);
}

TEST(EvalPaired, GroupsPoolTheErrorsOfTheirTasks) {
  const std::vector<TaskRun> teacher = {choices_run("mmlu_anatomy", {1, 1, 0, 1}),
                                        choices_run("mmlu_astronomy", {1, 1, 1, 0, 1, 1})},
                             student = {choices_run("mmlu_anatomy", {1, 0, 0, 1}),
                                        choices_run("mmlu_astronomy", {0, 1, 0, 1, 1, 0})};
  const auto scores = paired_scores({"mmlu_stem"}, teacher, student, 0);
  ASSERT_EQ(scores.size(), 3u);
  const PairedScore& group = scores[0];
  EXPECT_EQ(group.name, "mmlu_stem");
  EXPECT_EQ(group.documents, 10);
  EXPECT_NEAR(group.change.value, -0.3, 1e-15);
  EXPECT_FALSE(group.relative);  // without iterations no errors, so nothing says that the teacher is above chance
  const auto with_errors = paired_scores({"mmlu_stem"}, teacher, student, 100);
  EXPECT_NEAR(*with_errors[0].change.error, 0.225924028528766, 1e-12);
  EXPECT_EQ(with_errors[1].depth, 1);
  EXPECT_EQ(with_errors[1].name, "mmlu_anatomy");
}

TEST(EvalPaired, OnlyDocumentsThatBothHaveFinished) {
  TaskRun student = choices_run("arc_easy", {1, 0, 0, 1, 1, 0, 1, 0});
  student.outcomes.resize(3);
  const auto scores = scores_of("arc_easy", choices_run("arc_easy", {1, 1, 1, 0, 0, 0, 0, 0}), student);
  EXPECT_EQ(scores[0].documents, 3);
  EXPECT_DOUBLE_EQ(scores[0].teacher.value, 1);
  EXPECT_DOUBLE_EQ(scores[0].student.value, 1.0 / 3);
  student.outcomes.clear();
  EXPECT_TRUE(scores_of("arc_easy", choices_run("arc_easy", {1}), student).empty());
}

TEST(EvalPaired, OneDocumentHasNoInterval) {
  const auto scores = scores_of("arc_easy", choices_run("arc_easy", {1}), choices_run("arc_easy", {0}));
  EXPECT_FALSE(scores[0].interval || scores[0].relative);
  EXPECT_EQ(paired_cells(scores[0])[6], "-1.0000");
}

TEST(EvalPaired, CellsHaveSignsAndIntervals) {
  PairedScore score{.name = "arc_easy",
                    .metric = "acc",
                    .filter = "none",
                    .shots = 0,
                    .documents = 8,
                    .teacher = {0.625, 0.18},
                    .student = {0.75, {}},
                    .chance = 0.25,
                    .change = {0.125, 0.01},
                    .interval = Interval{0.1054, 0.1446},
                    .relative = {}};
  EXPECT_EQ(paired_cells(score), (std::vector<std::string>{"arc_easy", "0", "8", "acc", "0.6250 ± 0.1800", "0.7500",
                                                           "+0.1250 [+0.1054, +0.1446]", "N/A", "0.2500"}));
  score.ratio = true;
  score.change = {std::log(1.5), 0.1};
  score.interval = Interval{1.2, 1.9};
  EXPECT_EQ(paired_cells(score)[6], "× 1.5000 [1.2000, 1.9000]");
  ASSERT_EQ(paired_headers().size(), paired_cells(score).size());
}

}  // namespace
}  // namespace qwerky
