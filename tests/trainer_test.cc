// SPDX-License-Identifier: MIT
// Training on tiny random models: exact resume, independence of threads, schedules, freezing, losses that go down.
#include "distill/trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "base/parallel.h"
#include "base/random.h"
#include "data.h"
#include "distill/initialise.h"
#include "distill/training_log.h"
#include "expect_error.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::has;
using testing::scratch_dir;

constexpr int64_t kVocab = 19;

Json tiny_config(const std::string& type = "qwen2") {
  return {{"model_type", type},       {"hidden_size", 16},      {"intermediate_size", 24},
          {"vocab_size", kVocab},     {"num_hidden_layers", 2}, {"num_attention_heads", 2},
          {"num_key_value_heads", 1}, {"head_dim", 8},          {"max_position_embeddings", 64},
          {"rms_norm_eps", 1e-5}};
}

/// A text with structure: most ids follow from the one before.
TokenStream text() {
  std::vector<int32_t> ids{1};
  const Random random(5);
  for (uint64_t i = 0; i < 3000; ++i)
    ids.push_back(static_cast<int32_t>(random.uniform(i) < 0.8 ? (ids.back() * 7 + 3) % kVocab
                                                               : static_cast<int64_t>(random.below(i, kVocab))));
  return TokenStream(std::move(ids));
}

std::unique_ptr<Model> teacher_model(bool tied = false) {
  Json json = tiny_config();
  json["tie_word_embeddings"] = tied;
  auto model = make_model(read_config(json, nullptr), true);
  init_random(*model, 3);
  model->params.each([](Param& p) {  // far from uniform, so that there is something to match
    if (p.name.ends_with("norm.weight")) return;
    for (int64_t i = 0; i < p.count(); ++i) p.weight.as<float>()[i] *= 8;
  });
  return model;
}

std::unique_ptr<Model> student_model(const Model& teacher, MixerKind kind, const std::vector<int64_t>& keep = {},
                                     const Sharding& sharding = {}) {
  auto model = make_model(student_config(teacher.config(), kind, keep), nullptr, sharding);
  copy_from_teacher(*model, teacher);
  init_published(*model, 7);
  return model;
}

Stage stage_of(const std::string& loss, int64_t steps) {
  return {.name = loss,
          .loss = loss,
          .tokens = steps * 4 * 12,
          .context = 12,
          .batch = 4,
          .lr = 3e-3,
          .lr_final = 1e-4,
          .schedule = "cosine",
          .warmup = 3,
          .lanes = 2};
}

std::vector<float> weights(const Model& m) {
  const Tensor block = m.params.block();
  wait_for_device();
  return {block.as<float>(), block.as<float>() + block.count()};
}

/// What the checkpoint of a directory holds: weights and moments.
std::vector<float> checkpoint(const Path& dir) {
  const SafetensorsFile file(dir / "checkpoint.safetensors");
  std::vector<float> all;
  for (const std::string& name : file.names()) {
    const Tensor t = file.find(name);
    all.insert(all.end(), t.as<float>(), t.as<float>() + t.count());
  }
  return all;
}

/// The log without what depends on the clock.
std::vector<std::string> losses(const Path& dir) {
  std::vector<std::string> lines;
  std::ifstream file(dir / "log.jsonl");
  for (std::string line; std::getline(file, line);) {
    Json entry = Json::parse(line);
    entry.erase("tokens_per_second");
    lines.push_back(entry.dump());
  }
  return lines;
}

struct Bench {
  std::unique_ptr<Backend> on = make_backend("auto", Precision::f32);
  std::unique_ptr<Model> teacher = teacher_model();
  TokenStream train = text();
  Recipe recipe{.name = "test", .init = "published", .stages = {}};
  bool layered = false;  // gradients, a layer at a time

  /// Runs one Trainer on `student` in `dir`, resuming what is there.
  RunEnd run(Model& student, const Path& dir, int64_t stop_after = 0,
             const std::function<void(int64_t)>& before = nullptr) {
    TrainerOptions options{.dir = dir,
                           .settings = {{"recipe", to_json(recipe)}},
                           .report_steps = 3,
                           .validate_reports = 2,
                           .validation_tokens = 60,
                           .report = nullptr,
                           .stop_after_steps = stop_after,
                           .gradients_over_ranks = layered};
    Trainer trainer(*on, student, teacher.get(), train, &train, recipe, options);
    trainer.resume();
    return trainer.run(before);
  }
};

/// 10 steps at once, and 10 steps stopped after each of `stops` steps, in a new Trainer on a new model each time.
void expect_exact_resume(Bench s, MixerKind kind, const std::vector<int64_t>& stops, const std::string& name) {
  SCOPED_TRACE(name);
  const Path whole = scratch_dir("trainer-whole"), parts = scratch_dir("trainer-parts");
  const auto once = student_model(*s.teacher, kind);
  ASSERT_EQ(s.run(*once, whole), RunEnd::finished);
  for (int64_t stop : stops) {
    const auto interrupted = student_model(*s.teacher, kind);
    ASSERT_EQ(s.run(*interrupted, parts, stop), RunEnd::interrupted);
  }
  const auto rest = student_model(*s.teacher, kind);
  ASSERT_EQ(s.run(*rest, parts), RunEnd::finished);
  EXPECT_EQ(weights(*once), weights(*rest));
  EXPECT_EQ(checkpoint(whole), checkpoint(parts));
  EXPECT_EQ(losses(whole), losses(parts));
  EXPECT_FALSE(losses(whole).empty());
}

TEST(Trainer, ResumesExactly) {
  for (const char* loss : {"align", "kl", "cross_entropy"})
    for (MixerKind kind : {MixerKind::rwkv6, MixerKind::rwkv7}) {
      Bench s;
      s.recipe.stages = {stage_of(loss, 10)};
      expect_exact_resume(std::move(s), kind, {5}, std::string(loss) + " " + name_of(kind));
    }
}

/// Copies in bf16 beside masters give, on products of bf16, the bits that masters alone give: losses, masters, moments
/// and the average. What such products do not read alone stays f32.
TEST(Trainer, RoundedWeightsAndMasters) {
  if (!multiplies_bf16("auto")) GTEST_SKIP() << "no products of bf16 here";
  for (MixerKind kind : {MixerKind::rwkv6, MixerKind::rwkv7})
    for (bool tied : {false, true}) {
      SCOPED_TRACE(concat(name_of(kind), tied ? " tied" : ""));
      Bench s;
      s.on = make_backend("auto", Precision::bf16);
      s.teacher = teacher_model(tied);
      s.recipe.stages = {stage_of("align", 4), stage_of("kl", 6)};
      s.recipe.stages[0].train = "*.self_attn.*";
      s.recipe.stages[1].average_from = 0.3;
      const Path whole = scratch_dir("trainer-masters"), rounded = scratch_dir("trainer-rounded");
      const auto once = student_model(*s.teacher, kind);
      ASSERT_EQ(s.run(*once, whole), RunEnd::finished);
      std::unique_ptr<Model> student;
      for (int64_t stop : {3, 4, 0}) {
        student = student_model(*s.teacher, kind, {}, {.rounded = true});
        ASSERT_EQ(s.run(*student, rounded, stop), stop > 0 ? RunEnd::interrupted : RunEnd::finished);
      }
      EXPECT_EQ(losses(whole), losses(rounded));
      EXPECT_EQ(checkpoint(whole), checkpoint(rounded));
      int64_t halves = 0;
      student->params.each([&](const Param& p) {
        const Tensor master = once->params.find(p.name)->weight;
        const bool half = is_matrix(p.shape) && p.name != "model.embed_tokens.weight";
        ASSERT_EQ(p.weight.type, half ? DType::bf16 : DType::f32) << p.name;
        Arena arena;
        const Tensor expected = arena.tensor(p.weight.type, p.shape);
        convert(expected, master);
        EXPECT_EQ(std::memcmp(p.weight.data, expected.data, static_cast<size_t>(expected.bytes())), 0) << p.name;
        halves += half ? p.count() : 0;
      });
      EXPECT_LE(student->weights->peak_bytes(), once->weights->peak_bytes() + 2 * halves + 64 * 200);
    }
}

/// One lane and one pass a step: the sum has one term. More of them add in another order.
TEST(Trainer, GradientsALayerAtATime) {
  for (const char* loss : {"align", "kl", "cross_entropy"})
    for (MixerKind kind : {MixerKind::rwkv6, MixerKind::rwkv7})
      for (bool tied : {false, true})
        for (int64_t at_once : {0, 1}) {
          SCOPED_TRACE(concat(loss, " ", name_of(kind), tied ? " tied " : " ", at_once));
          Bench s;
          s.teacher = teacher_model(tied);
          s.recipe.stages = {stage_of(loss, 5)};
          Stage& stage = s.recipe.stages[0];
          stage.lanes = at_once == 0 ? 1 : 2, stage.windows_at_once = at_once,
          stage.recompute = kind == MixerKind::rwkv6;
          if (loss == std::string("kl")) stage.train = "*.self_attn.*|*norm.weight";
          const auto whole = student_model(*s.teacher, kind, {1}), layered = student_model(*s.teacher, kind, {1});
          const Path once = scratch_dir("trainer-gradients"), dir = scratch_dir("trainer-layered");
          ASSERT_EQ(s.run(*whole, once), RunEnd::finished);
          s.layered = true;
          ASSERT_EQ(s.run(*layered, dir, 2), RunEnd::interrupted);
          ASSERT_EQ(s.run(*layered, dir), RunEnd::finished);
          if (at_once == 0) {
            EXPECT_EQ(weights(*whole), weights(*layered));
          }
          const auto loss_of = [](const Path& of) { return Json::parse(losses(of).back())["loss"].get<double>(); };
          EXPECT_NEAR(loss_of(dir) / loss_of(once), 1, at_once == 0 ? 0 : 1e-5);
        }
}

TEST(Trainer, ResumesAcrossStagesAndAverages) {
  Bench s;
  s.recipe.stages = {stage_of("align", 4), stage_of("kl", 6)};
  s.recipe.stages[0].train = "*.self_attn.*";
  s.recipe.stages[1].average_from = 0.3;
  expect_exact_resume(std::move(s), MixerKind::rwkv7, {1, 3, 2, 3}, "stops after 1, 4 (the border), 6 and 9 steps");
}

TEST(Trainer, FinishedRunStaysAsItIs) {
  Bench s;
  s.recipe.stages = {stage_of("kl", 4)};
  const Path dir = scratch_dir("trainer-done");
  const auto first = student_model(*s.teacher, MixerKind::rwkv7), second = student_model(*s.teacher, MixerKind::rwkv7);
  ASSERT_EQ(s.run(*first, dir), RunEnd::finished);
  const auto log = losses(dir);
  int64_t begun = 0;
  ASSERT_EQ(s.run(*second, dir, 0, [&](int64_t) { ++begun; }), RunEnd::finished);
  EXPECT_EQ(begun, 0);
  EXPECT_EQ(weights(*first), weights(*second));
  EXPECT_EQ(log, losses(dir));
}

TEST(Trainer, BeginsEachStageOnce) {
  Bench s;
  s.recipe.stages = {stage_of("align", 3), stage_of("kl", 3)};
  const Path dir = scratch_dir("trainer-stages");
  std::vector<int64_t> begun;
  const auto note = [&](int64_t stage) { begun.push_back(stage); };
  for (int i = 0; i < 2; ++i) {
    const auto student = student_model(*s.teacher, MixerKind::rwkv6);
    ASSERT_EQ(s.run(*student, dir, 2, note), RunEnd::interrupted);
  }
  const auto student = student_model(*s.teacher, MixerKind::rwkv6);
  ASSERT_EQ(s.run(*student, dir, 0, note), RunEnd::finished);
  EXPECT_EQ(begun, (std::vector<int64_t>{0, 1}));
}

TEST(Trainer, ThreadsDoNotMatter) {
  const int before = threads();
  for (MixerKind kind : {MixerKind::rwkv6, MixerKind::rwkv7}) {
    std::vector<std::vector<float>> results;
    for (int n : {1, 2, 3}) {
      set_threads(n);
      Bench s;
      s.recipe.stages = {stage_of("align", 3), stage_of("kl", 3)};
      s.recipe.stages[1].lanes = 3;
      const auto student = student_model(*s.teacher, kind);
      s.run(*student, scratch_dir("trainer-threads"));
      results.push_back(weights(*student));
    }
    EXPECT_EQ(results[0], results[1]);
    EXPECT_EQ(results[0], results[2]);
  }
  set_threads(before);
}

TEST(Trainer, RefusesOtherSettings) {
  Bench s;
  s.recipe.stages = {stage_of("align", 2), stage_of("kl", 4)};
  const Path dir = scratch_dir("trainer-settings");
  const auto student = student_model(*s.teacher, MixerKind::rwkv7);
  s.run(*student, dir, 3);
  s.recipe.stages[1].lr = 0.25;
  s.recipe.seed = 9;
  const std::string message = error_of([&] { s.run(*student, dir); });
  EXPECT_PRED2(has, message, "other settings");
  EXPECT_PRED2(has, message, "recipe.stages.1.lr: was 0.003, now 0.25");
  EXPECT_PRED2(has, message, "recipe.seed: was 1, now 9");
  EXPECT_PRED2(has, message, dir.string());
  s.recipe.stages.pop_back();
  EXPECT_PRED2(has, error_of([&] { s.run(*student, dir); }), "recipe.stages.1: was {");
}

TEST(Trainer, RefusesDamagedCheckpoints) {
  Bench s;
  s.recipe.stages = {stage_of("kl", 4)};
  const Path dir = scratch_dir("trainer-damage"), file = dir / "checkpoint.safetensors";
  const auto student = student_model(*s.teacher, MixerKind::rwkv7);
  s.run(*student, dir, 2);
  const std::string whole = read_file(file);
  const auto message_for = [&](const std::string& bytes) {
    write_file(file, bytes);
    return error_of([&] { s.run(*student, dir); });
  };
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string bytes = whole;
    const size_t at = bytes.find(from);
    EXPECT_NE(at, bytes.npos) << from;
    return bytes.replace(at, from.size(), to);
  };
  for (const std::string& bytes :
       {whole.substr(0, whole.size() / 2), whole.substr(0, 5), std::string(), std::string(200, 'x')})
    EXPECT_PRED2(has, message_for(bytes), file.string());
  // The state is JSON within JSON: its quotes are escaped.
  for (const auto& [from, to] :
       std::vector<std::pair<std::string, std::string>>{{R"(\"step\":2)", R"(\"step\":9)"},
                                                        {R"(\"stage\":0)", R"(\"stage\":7)"},
                                                        {R"(\"averaged\":0)", R"(\"averagex\":0)"},
                                                        {R"(\"settings\":)", R"(\"settingx\":)"},
                                                        {R"(\"reports\":0)", R"(\"reports\":[)"},
                                                        {R"("state":)", R"("statx":)"},
                                                        {R"("masters":)", R"("masterx":)"},
                                                        {R"("F32")", R"("I32")"}})
    EXPECT_PRED2(has, message_for(replaced(from, to)), file.string()) << from;
  write_file(file, whole);
  EXPECT_EQ(s.run(*student, dir), RunEnd::finished);
}

TEST(Trainer, LogBeyondTheCheckpointIsWrittenAgain) {
  Bench s;
  s.recipe.stages = {stage_of("kl", 12)};
  const Path whole = scratch_dir("trainer-log-whole"), dir = scratch_dir("trainer-log");
  const auto once = student_model(*s.teacher, MixerKind::rwkv7), student = student_model(*s.teacher, MixerKind::rwkv7);
  s.run(*once, whole);
  s.run(*student, dir, 4);
  append_line(dir / "log.jsonl", R"({"stage":0,"step":6,"loss":1})");  // as after a kill between two checkpoints
  std::ofstream(dir / "log.jsonl", std::ios::app) << R"({"stage":0,"st)";
  s.run(*student, dir);
  EXPECT_EQ(losses(whole), losses(dir));
}

TEST(Trainer, FrozenParametersStay) {
  Bench s;
  s.recipe.stages = {stage_of("align", 3)};
  s.recipe.stages[0].train = "*.self_attn.*";
  s.recipe.stages[0].weight_decay = 0.1;
  const auto student = student_model(*s.teacher, MixerKind::rwkv7);
  const auto before = student_model(*s.teacher, MixerKind::rwkv7);
  s.run(*student, scratch_dir("trainer-frozen"));
  int64_t moved = 0;
  student->params.each([&](const Param& p) {
    const Tensor was = before->params.find(p.name)->weight;
    const bool same = std::memcmp(p.weight.data, was.data, static_cast<size_t>(was.bytes())) == 0;
    if (p.name.find(".self_attn.") == p.name.npos) {
      EXPECT_TRUE(same) << p.name;
    } else {
      moved += !same;
    }
  });
  EXPECT_GT(moved, 10);
  s.recipe.stages[0].train = "*.no_such_thing.*";
  EXPECT_PRED2(has, error_of([&] { s.run(*student, scratch_dir("trainer-glob")); }), "no_such_thing");
}

double mean_loss(const Path& dir, bool last) {
  const auto lines = losses(dir);
  return Json::parse(last ? lines.back() : lines.front())["loss"];
}

TEST(Trainer, LossesGoDown) {
  for (MixerKind kind : {MixerKind::rwkv6, MixerKind::rwkv7})
    for (const char* loss : {"align", "kl", "cross_entropy"}) {
      Bench s;
      s.recipe.stages = {stage_of(loss, 30)};
      s.recipe.stages[0].lr = 1e-2;
      const Path dir = scratch_dir("trainer-down");
      const auto student = student_model(*s.teacher, kind, {1});
      s.run(*student, dir);
      EXPECT_LT(mean_loss(dir, true), 0.85 * mean_loss(dir, false)) << loss << " " << name_of(kind);
    }
}

TEST(Trainer, AverageIsTheMeanOfTheLastSteps) {
  Bench s;
  s.recipe.stages = {stage_of("kl", 4)};
  std::vector<std::vector<float>> after;  // weights after 3 and 4 steps
  for (int64_t steps : {3, 4}) {
    const auto student = student_model(*s.teacher, MixerKind::rwkv6);
    s.run(*student, scratch_dir("trainer-average"), steps);
    after.push_back(weights(*student));
  }
  s.recipe.stages[0].average_from = 0.5;
  const auto student = student_model(*s.teacher, MixerKind::rwkv6);
  s.run(*student, scratch_dir("trainer-average"));
  const auto mean = weights(*student);
  double most = 0;
  for (size_t i = 0; i < mean.size(); ++i)
    most = std::max(most, std::abs(static_cast<double>(mean[i]) -
                                   0.5 * (static_cast<double>(after[0][i]) + static_cast<double>(after[1][i]))));
  EXPECT_LT(most, 1e-6);
  EXPECT_NE(mean, after[1]);
}

TEST(Trainer, MeasuringChangesNothing) {
  Bench s;
  s.recipe.stages = {stage_of("kl", 3)};
  const auto a = student_model(*s.teacher, MixerKind::rwkv7), b = student_model(*s.teacher, MixerKind::rwkv7);
  s.run(*a, scratch_dir("trainer-measure-a"));
  TrainerOptions options{.dir = scratch_dir("trainer-measure-b"), .settings = {}, .report = nullptr};
  Trainer trainer(*s.on, *b, s.teacher.get(), s.train, nullptr, s.recipe, options);
  const auto before = weights(*b);
  EXPECT_GT(trainer.measure_step_seconds(s.recipe.stages[0], 2), 0);
  EXPECT_EQ(before, weights(*b));
  trainer.run();
  EXPECT_EQ(weights(*a), weights(*b));
}

TEST(Trainer, TimeLeftCountsLaterStages) {
  Bench s;
  s.recipe.stages = {stage_of("align", 3), stage_of("kl", 4)};
  const auto student = student_model(*s.teacher, MixerKind::rwkv7);
  std::vector<TrainStatus> reports;
  TrainerOptions options{.dir = scratch_dir("trainer-eta"),
                         .settings = {},
                         .report_steps = 1,
                         .step_seconds = {5, 1000},
                         .report = [&](const TrainStatus& status) { reports.push_back(status); }};
  Trainer(*s.on, *student, s.teacher.get(), s.train, nullptr, s.recipe, options).run();
  ASSERT_EQ(reports.size(), 7u);
  for (size_t i = 0; i < reports.size(); ++i) {
    const double later = reports[i].eta_seconds - reports[i].stage_eta_seconds;
    EXPECT_NEAR(later, i < 3 ? 4000 : 0, 1e-6) << i;
  }
  EXPECT_EQ(reports.back().eta_seconds, 0);
}

TEST(Trainer, NamesWhatIsMissing) {
  Bench s;
  s.recipe.stages = {stage_of("kl", 2)};
  const auto student = student_model(*s.teacher, MixerKind::rwkv7);
  EXPECT_PRED2(has, error_of([&] {
                 Trainer(*s.on, *student, nullptr, s.train, nullptr, s.recipe,
                         {.dir = {}, .settings = {}, .report = nullptr});
               }),
               "needs a teacher");
  const TokenStream few(std::vector<int32_t>{1, 2, 3});
  EXPECT_PRED2(has, error_of([&] {
                 Trainer(*s.on, *student, s.teacher.get(), few, nullptr, s.recipe,
                         {.dir = {}, .settings = {}, .report = nullptr});
               }),
               "training data: 3 tokens");
}

TEST(Stage, Rates) {
  Stage s{.name = "",
          .tokens = 100 * 8,
          .context = 4,
          .batch = 2,
          .lr = 1,
          .lr_final = 0.1,
          .schedule = "linear",
          .warmup = 0};
  ASSERT_EQ(s.steps(), 100);
  EXPECT_DOUBLE_EQ(s.rate(0, false), 1);
  EXPECT_DOUBLE_EQ(s.rate(50, false), 0.55);
  EXPECT_DOUBLE_EQ(s.rate(100, false), 0.1);
  s.schedule = "cosine";
  EXPECT_DOUBLE_EQ(s.rate(25, false), 0.1 + 0.9 * (0.5 + 0.5 * std::cos(M_PI / 4)));
  EXPECT_DOUBLE_EQ(s.rate(50, false), 0.55);
  s.schedule = "quarter_cosine";
  EXPECT_DOUBLE_EQ(s.rate(50, false), 0.1 + 0.9 * std::sqrt(0.5));
  s.schedule = "flat";
  EXPECT_DOUBLE_EQ(s.rate(99, false), 1);
  s.warmup = 10;
  EXPECT_DOUBLE_EQ(s.rate(0, false), 0.01);
  EXPECT_DOUBLE_EQ(s.rate(5, false), 0.505);
  EXPECT_DOUBLE_EQ(s.rate(10, false), 1);
  s.schedule = "cosine", s.hold = 0.2, s.until = 0.6;
  EXPECT_DOUBLE_EQ(s.rate(20, false), 1);
  EXPECT_DOUBLE_EQ(s.rate(40, false), 0.55);
  EXPECT_DOUBLE_EQ(s.rate(60, false), 0.1);
  EXPECT_DOUBLE_EQ(s.rate(99, false), 0.1);
  s.mixer_lr = 4, s.mixer_lr_final = 2;
  EXPECT_DOUBLE_EQ(s.rate(40, true), 3);
  EXPECT_DOUBLE_EQ(s.rate(40, false), 0.55);
}

TEST(Stage, ChecksItsValues) {
  const auto message = [](const std::function<void(Stage&)>& change) {
    Recipe r{.name = "r", .stages = {stage_of("kl", 2)}};
    change(r.stages[0]);
    return error_of([&] { r.check(); });
  };
  EXPECT_PRED2(has, message([](Stage& s) { s.loss = "mse"; }), "found mse");
  EXPECT_PRED2(has, message([](Stage& s) { s.schedule = "step"; }), "found step");
  EXPECT_PRED2(has, message([](Stage& s) { s.lanes = 5; }), "lanes");
  EXPECT_PRED2(has, message([](Stage& s) { s.lr = NAN; }), "lr");
  EXPECT_PRED2(has, message([](Stage& s) { s.tokens = 0; }), "tokens");
  EXPECT_PRED2(has, message([](Stage& s) { s.batch = int64_t{1} << 62; }), "batch");
  EXPECT_PRED2(has, message([](Stage& s) { s.context = -1; }), "context");
  EXPECT_PRED2(has, message([](Stage& s) { s.warmup = -1; }), "warmup");
  EXPECT_PRED2(has, message([](Stage& s) { s.average_from = -0.5; }), "average_from");
  EXPECT_PRED2(has, message([](Stage& s) { s.beta1 = 1; }), "beta1");
}

TEST(Trainer, StopsWhereTheLossIsNotFinite) {
  Bench s;
  s.recipe.stages = {stage_of("align", 8), stage_of("kl", 8)};
  s.recipe.stages[0].lr = 1e30, s.recipe.stages[0].clip = 0, s.recipe.stages[0].schedule = "flat";
  s.recipe.stages[0].warmup = 0, s.recipe.stages[0].mixer_lr = 2e30;
  const Path dir = scratch_dir("trainer-diverged");
  auto student = student_model(*s.teacher, MixerKind::rwkv7);
  ASSERT_EQ(s.run(*student, dir, 1), RunEnd::interrupted);  // one step, and a checkpoint
  const auto before = checkpoint(dir);
  const std::string why = error_of([&] { s.run(*student, dir); });
  EXPECT_PRED2(has, why, "stage align, step 2: the loss is ");
  EXPECT_PRED2(has, why, "lower the learning rate (1e+30, of the mixers 2e+30)");
  EXPECT_PRED2(has, why, "the last checkpoint stays in " + dir.string());
  EXPECT_EQ(checkpoint(dir), before);
}

TEST(Trainer, TheLastUpdateOfAStageIsLookedAt) {
  Bench s;
  s.recipe.stages = {stage_of("align", 1), stage_of("kl", 2)};
  s.recipe.stages[0].lr = 3e38, s.recipe.stages[0].weight_decay = 1e3, s.recipe.stages[0].warmup = 0;
  const auto student = student_model(*s.teacher, MixerKind::rwkv7);
  const std::string why = error_of([&] { s.run(*student, scratch_dir("trainer-last-update")); });
  EXPECT_PRED2(has, why, "stage align, step 1: its weights are not finite");
}

TEST(TrainingLog, TellsTheFinalLosses) {
  Bench s;
  s.recipe.stages = {stage_of("align", 4), stage_of("kl", 5)};
  const Path dir = scratch_dir("trainer-final");
  const auto student = student_model(*s.teacher, MixerKind::rwkv6);
  ASSERT_EQ(s.run(*student, dir), RunEnd::finished);
  const Json final = final_losses(dir / "log.jsonl");
  ASSERT_EQ(final.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(final[i]["stage"], i);
    EXPECT_EQ(final[i]["name"], i == 0 ? "align" : "kl");
    EXPECT_EQ(final[i]["step"], i == 0 ? 4 : 5);
    for (const char* key : {"loss", "validation_kl", "validation_ratio"}) EXPECT_GT(final[i][key], 0) << key;
  }
  EXPECT_EQ(final[1]["loss"], Json::parse(losses(dir).back())["loss"]);
  EXPECT_TRUE(final_losses(dir / "none").empty());
}

}  // namespace
}  // namespace qwerky
