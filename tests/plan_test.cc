// SPDX-License-Identifier: MIT
// The plan against what a run then takes, and what it refuses.
#include "distill/plan.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "data.h"
#include "distill/initialise.h"
#include "distill/trainer.h"
#include "expect_error.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::has;

const std::atomic<bool> kGoOn = false;

struct Bench {
  Sharding sharding = {};
  bool layered = false;  // gradients
  std::unique_ptr<Backend> on = make_backend("auto", Precision::f32);
  std::unique_ptr<Model> teacher;
  Recipe recipe{.name = "test", .init = "published", .stages = {}};
  std::vector<std::string> lines;

  Bench() {
    const Json config{{"model_type", "qwen2"},    {"hidden_size", 32},      {"intermediate_size", 64},
                      {"vocab_size", 53},         {"num_hidden_layers", 2}, {"num_attention_heads", 4},
                      {"num_key_value_heads", 2}, {"head_dim", 8},          {"max_position_embeddings", 4096}};
    teacher = make_model(read_config(config, nullptr), true);
    init_random(*teacher, 1);
    for (const char* loss : {"align", "kl"})
      recipe.stages.push_back({.name = loss, .loss = loss, .tokens = 12 * 8 * 96, .context = 96, .batch = 12});
    recipe.stages[1].lanes = 3;
  }
  Config student_shape() const { return student_config(teacher->config(), MixerKind::rwkv7, {}); }
  Plan plan(double seconds = 5, const std::atomic<bool>& stop = kGoOn, int64_t shard_bytes = 1000) {
    lines.clear();
    const Config student = student_shape();
    return make_plan(
        {.on = *on,
         .recipe = recipe,
         .student = student,
         .teacher = teacher.get(),
         .peak_gflops = 1,
         .corpus_tokens = 5000,
         .shard_bytes = shard_bytes,
         .scalar_bytes = 4,
         .out = std::filesystem::temp_directory_path() / "qwerky-plan-nothing-here",
         .gradients_over_ranks = layered,
         .sharding = sharding,
         .stage_seconds = seconds},
        [&](const std::string& line, bool) { lines.push_back(line); }, stop);
  }
  /// Bytes that a run of the recipe holds beside the teacher.
  int64_t taken() const {
    const auto student = make_student(student_shape(), recipe, *teacher, sharding);
    copy_from_teacher(*student, *teacher);
    init_published(*student, 1);
    std::vector<int32_t> ids(3000);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(Random(1).below(i, 53));
    const TokenStream text(std::move(ids));
    const std::unique_ptr<Collective> ranks = first_of(sharding.ranks);
    Trainer trainer(*on, *student, teacher.get(), text, nullptr, recipe,
                    {.dir = testing::scratch_dir("plan-run"),
                     .settings = {},
                     .report = nullptr,
                     .ranks = ranks.get(),
                     .gradients_over_ranks = layered});
    trainer.run();
    return trainer.memory_bytes() - teacher->weights->peak_bytes();
  }
};

TEST(Plan, MemoryIsWhatTheRunTakes) {
  Bench s;
  const Plan plan = s.plan();
  ASSERT_EQ(plan.step_seconds.size(), 2u);
  for (double seconds : plan.step_seconds) EXPECT_GT(seconds, 0);
  EXPECT_EQ(plan.memory_bytes, s.taken());
  ASSERT_EQ(s.lines.size(), 6u);
  EXPECT_PRED2(has, s.lines[0], "plan: student of ");
  EXPECT_PRED2(has, s.lines[1], "9216 tokens in 8 steps of 12 × 96");
  EXPECT_PRED2(has, s.lines[3], "scratch");
  EXPECT_PRED2(has, s.lines[4], "plan: disk");
  EXPECT_PRED2(has, s.lines[5], "18432 training tokens, 3.7 times the text of about 5000");
  for (const std::string& line : s.lines) EXPECT_FALSE(has(line, "from steps of")) << line;
}

/// Within 5 % also where stages freeze what the student then shares with its teacher, and where steps are too long to
/// be measured whole.
TEST(Plan, MemoryOfEachKindOfStage) {
  for (const char* kind : {"stage 1", "stage 2", "stage 2, mixers alone", "stage 2, mixers alone, recomputing"})
    for (double seconds : {5.0, 0.0}) {
      Bench s;
      Stage& stage = s.recipe.stages[kind == std::string("stage 1") ? 0 : 1];
      stage.context = 768, stage.batch = 6, stage.tokens = 2 * 6 * 768;
      if (has(kind, "mixers") || has(kind, "stage 1")) stage.train = "*.self_attn.*";
      stage.recompute = has(kind, "recomputing");
      s.recipe.stages = {stage};
      const auto planned = static_cast<double>(s.plan(seconds).memory_bytes), taken = static_cast<double>(s.taken());
      EXPECT_NEAR(planned / taken, 1, 0.05) << kind << ", " << seconds << " s for its measurement";
      EXPECT_EQ(has(s.lines[0], "of them the teacher's"), has(kind, "mixers") || has(kind, "stage 1"));
    }
}

/// Ranks share moments, with products of bf16 masters, and gradients where asked to.
TEST(Plan, MemoryOfARank) {
  double before = 1e30;
  for (const auto& [rounded, layered] : {std::pair{false, false}, {true, false}, {true, true}}) {
    Bench s;
    s.sharding = {0, 4, rounded}, s.layered = layered;
    for (Stage& stage : s.recipe.stages) stage.lanes = 1;
    const auto planned = static_cast<double>(s.plan().memory_bytes), taken = static_cast<double>(s.taken());
    EXPECT_NEAR(planned / taken, 1, 0.05) << rounded << layered;
    EXPECT_LT(planned, before);
    before = planned;
  }
}

TEST(Plan, GoesOnFromSmallerSteps) {
  Bench s;
  for (Stage& stage : s.recipe.stages) stage.context = 512;
  const Plan whole = s.plan(), part = s.plan(0);
  EXPECT_PRED2(has, s.lines[2], "from steps of 3 × 128");
  const double ratio = static_cast<double>(part.memory_bytes) / static_cast<double>(whole.memory_bytes);
  EXPECT_GT(ratio, 0.8);
  EXPECT_LT(ratio, 2);
}

TEST(Plan, RefusesWhatCannotWork) {
  Bench s;
  s.recipe.stages[1].batch = 1 << 20, s.recipe.stages[1].context = 4096;
  EXPECT_PRED2(has, error_of([&] { s.plan(); }), "of memory beside the teacher, this machine has");
  EXPECT_EQ(s.lines.size(), 6u) << "the plan stands before the refusal";
  s = Bench();
  EXPECT_PRED2(has, error_of([&] { s.plan(0, kGoOn, int64_t{1} << 52); }), "more on the disk of");
  s.recipe.stages[0].lanes = s.recipe.stages[0].batch = 1 << 24;
  EXPECT_PRED2(has, error_of([&] { s.plan(); }), "for weights, gradients and optimiser alone");
}

TEST(Plan, StopsWhenAsked) {
  Bench s;
  const std::atomic<bool> stop = true;
  EXPECT_THROW(s.plan(5, stop), Interrupted);
}

TEST(Plan, RefusesMoreThanTenYears) {
  Bench s;
  s.recipe.stages[0].tokens = 1'000'000'000'000'000'000;
  const std::string why = error_of([&] { s.plan(0.1); });
  EXPECT_PRED2(has, why, "plan: with the 1000000000000000000 tokens of stage align the run takes ");
  EXPECT_PRED2(has, why, " h at the measured ");
  EXPECT_PRED2(has, why, "--set stages.0.tokens=");
}

}  // namespace
}  // namespace qwerky
