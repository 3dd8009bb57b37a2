// SPDX-License-Identifier: MIT
// A teacher whose layers are in memory two at a time trains a student to the same bits as one that is there whole, and
// a student shares with its teacher what no stage trains. Layers are fetched while others compute, in an order that
// depends on the passes alone, never over one that computes.
#include "engine/layer_buffers.h"

#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <future>
#include <thread>

#include "base/parallel.h"
#include "base/random.h"
#include "data.h"
#include "distill/initialise.h"
#include "distill/trainer.h"
#include "expect_error.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::has;

constexpr int64_t kLayers = 12, kVocab = 53;

/// A model of many layers in several files.
Path many_layers(const std::string& name, DType type) {
  const Json config{
      {"model_type", "qwen2"},        {"hidden_size", 128},       {"intermediate_size", 512}, {"vocab_size", kVocab},
      {"num_hidden_layers", kLayers}, {"num_attention_heads", 4}, {"num_key_value_heads", 2}, {"head_dim", 32},
      {"max_position_embeddings", 64}};
  const auto model = make_model(read_config(config, nullptr), true);
  init_random(*model, 5);
  std::vector<NamedTensor> tensors;
  model->params.each([&](const Param& p) { tensors.push_back({p.name, p.weight, type}); });
  const Path dir = testing::scratch_dir(name);
  write_checkpoint(dir, write_config(model->config()), tensors, 1 << 20);
  return dir;
}

std::unique_ptr<Model> load(const Path& dir, bool map) {
  auto model = load_model(dir, {.need_tokenizer = false, .rows = true, .map = map});
  if (map) model->layers = std::make_unique<LayerBuffers>(*model);
  return model;
}

Recipe recipe(bool recompute) {
  Recipe r{.name = "test", .init = "calibrated", .calibration_tokens = 64, .stages = {}};
  for (const char* loss : {"align", "kl"})
    r.stages.push_back({.name = loss,
                        .loss = loss,
                        .train = "*.self_attn.*",
                        .tokens = 2 * 4 * 16,
                        .context = 16,
                        .batch = 4,
                        .lanes = 2,
                        .recompute = recompute});
  return r;
}

struct Result {
  std::vector<float> weights;
  std::vector<double> losses;
  int64_t teacher_bytes, student_bytes;
};

Result trained(const Path& dir, bool map, bool recompute) {
  const auto teacher = load(dir, map);
  const auto on = make_backend("auto", Precision::f32);
  const Recipe r = recipe(recompute);
  const auto student = make_student(student_config(teacher->config(), MixerKind::rwkv7, {}), r, *teacher);
  std::vector<int32_t> ids(500);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(Random(1).below(i, kVocab));
  const TokenStream text{std::vector<int32_t>(ids)};
  copy_from_teacher(*student, *teacher);
  init_calibrated(*student, *teacher, *on, {std::span(ids).first(64), 16}, r);
  Result result;
  Trainer trainer(*on, *student, teacher.get(), text, &text, r,
                  {.dir = testing::scratch_dir("layers-run"),
                   .settings = {},
                   .report_steps = 1,
                   .validate_reports = 1,
                   .validation_tokens = 40,
                   .report = [&](const TrainStatus& s) {
                     result.losses.push_back(s.loss);
                     result.losses.push_back(s.validation_kl);
                   }});
  trainer.run();
  const Tensor block = student->params.block();
  result.weights.assign(block.as<float>(), block.as<float>() + block.count());
  result.teacher_bytes = teacher->weight_bytes();
  result.student_bytes = student->weights->peak_bytes();
  return result;
}

/// One core is left by the threads that compute (where there are several), to fetch layers ahead.
class CoreLeft {
 public:
  CoreLeft() { set_threads(std::max(1, cores() - 1)); }
  ~CoreLeft() { set_threads(before_); }

 private:
  const int before_ = threads();
};

TEST(LayerBuffers, TheSameBitsInTheMemoryOfTwoLayers) {
  for (DType type : {DType::f32, DType::bf16}) {
    const Path dir = many_layers("many-layers", type);
    for (bool recompute : {false, true}) {
      const Result whole = trained(dir, false, recompute), layers = trained(dir, true, recompute);
      EXPECT_EQ(whole.losses, layers.losses) << name_of(type);
      EXPECT_EQ(whole.weights, layers.weights) << name_of(type);
      const CoreLeft core;
      const Result ahead = trained(dir, true, recompute);
      EXPECT_EQ(whole.losses, ahead.losses) << name_of(type);
      EXPECT_EQ(whole.weights, ahead.weights) << name_of(type);
      EXPECT_LT(static_cast<double>(layers.teacher_bytes), 2.5 / kLayers * static_cast<double>(whole.teacher_bytes));
    }
  }
}

/// Two places for layers, and the threads that fill them.
class Recorded final : public TwoLayers {
 public:
  explicit Recorded(bool ahead) : ahead_(ahead) {}
  ~Recorded() override { forget(); }
  using TwoLayers::forget;
  int64_t bytes() const override { return 0; }
  /// Layer `layer` computes, and the next one's fetch may only end while it does.
  void run(int64_t layer, int64_t next) {
    EXPECT_TRUE(computing < 0 || place_[computing % 2] == computing) << computing << " was overwritten";
    enter(layer, next);
    computing = layer;
    EXPECT_EQ(place_[layer % 2], layer);
    may_end_.store(next);
    may_end_.notify_all();
  }

  std::vector<std::pair<int64_t, int64_t>> order;  // what was fetched, and what was likely to follow
  int64_t fails = -1, computing = -1;

 private:
  bool ahead() const override { return ahead_; }
  void fetch(int64_t layer, int64_t after) override {
    order.emplace_back(layer, after);
    const bool beside = std::this_thread::get_id() != caller_;
    EXPECT_TRUE(ahead_ || !beside);
    if (beside)
      for (int64_t seen; (seen = may_end_.load()) != layer;) may_end_.wait(seen);
    if (layer == fails) fail("layer ", layer, " is gone");
    place_[layer % 2] = layer;
  }
  const bool ahead_;
  const std::thread::id caller_ = std::this_thread::get_id();
  std::array<int64_t, 2> place_{-1, -1};
  std::atomic<int64_t> may_end_{-1};
};

void there_and_back(Recorded& weights, int64_t layers) {
  for (int64_t i = 0; i < layers; ++i) weights.run(i, i + 1 < layers ? i + 1 : -1);
  for (int64_t i = layers; i-- > 0;) weights.run(i, i - 1);
}

TEST(LayerBuffers, ALayerIsFetchedWhileTheOneBeforeComputes) {
  Recorded ahead(true), waits(false);
  for (Recorded* weights : {&ahead, &waits}) {
    there_and_back(*weights, 5);
    there_and_back(*weights, 3);  // 0 and 1 are still there
    weights->forget();
    weights->computing = -1;
    weights->run(1, 0);
    weights->forget();  // waits
  }
  const std::vector<std::pair<int64_t, int64_t>> order{{0, 1}, {1, 2},  {2, 3}, {3, 4},  {4, 5}, {2, 1},
                                                       {1, 0}, {0, -1}, {2, 3}, {0, -1}, {1, 0}, {0, -1}};
  EXPECT_EQ(ahead.order, order);
  EXPECT_EQ(waits.order, order);
}

TEST(LayerBuffers, AFetchThatFailsIsTheErrorOfTheLayerThatNeedsIt) {
  for (bool ahead : {true, false}) {
    Recorded weights(ahead);
    weights.fails = 2;
    weights.run(0, 1);
    if (ahead) weights.run(1, 2);
    EXPECT_EQ(error_of([&] { ahead ? weights.enter(2, 3) : weights.enter(1, 2); }), "layer 2 is gone");
    weights.fails = -1;
    weights.run(2, 3);  // is fetched once more
    weights.run(3, -1);
  }
}

TEST(LayerBuffers, PassesOfSeveralThreadsTakeTurns) {
  const CoreLeft core;
  const Path dir = many_layers("turns-layers", DType::bf16);
  const auto whole = load(dir, false), layers = load(dir, true);
  const auto on = make_backend("auto", Precision::f32);
  const auto hidden_of = [&](const Model& model, int32_t token) {
    Arena scratch;
    const Exec ex{*on, scratch};
    const std::vector<int32_t> ids(8, token);
    const Segment segment{nullptr, 0, 8};
    const Tensor hidden = ex.make(8, model.config().hidden);
    model.decoder->forward(ex, ids, {&segment, 1}, hidden);
    return std::vector<float>(hidden.as<float>(), hidden.as<float>() + hidden.count());
  };
  std::vector<std::future<std::vector<float>>> others;
  for (int32_t token = 0; token < 4; ++token)
    others.push_back(std::async(std::launch::async, [&, token] { return hidden_of(*layers, token); }));
  for (int32_t token = 0; token < 4; ++token)
    EXPECT_EQ(others[static_cast<size_t>(token)].get(), hidden_of(*whole, token));
}

TEST(LayerBuffers, AStudentSharesWhatNoStageTrains) {
  const auto teacher = load(many_layers("shared-layers", DType::bf16), false);
  const Recipe r = recipe(false);
  const auto student = make_student(student_config(teacher->config(), MixerKind::rwkv7, {}), r, *teacher);
  int64_t own = 0;
  student->params.each([&](const Param& p) {
    const Param* from = teacher->params.find(p.name);
    if (has(p.name, ".self_attn.")) {
      EXPECT_EQ(p.weight.type, DType::f32) << p.name;
      own += p.count();
    } else {
      ASSERT_NE(from, nullptr);
      EXPECT_EQ(p.weight.data, from->weight.data) << p.name;
    }
  });
  EXPECT_LT(own, student->params.count() / 2);
  EXPECT_LT(student->weights->peak_bytes(), 4 * own + 64 * 4 * kLayers * 32);
}

/// Pages of files that this process maps and has in memory, in bytes.
int64_t resident_of_files() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (word == "RssFile:") {
      int64_t kib = 0;
      status >> kib;
      return kib << 10;
    }
  return -1;
}

TEST(LayerBuffers, PagesOfFilesLeaveMemoryAgain) {
  const CoreLeft core;
  const auto teacher = load(many_layers("resident-layers", DType::f32), true);
  const int64_t before = resident_of_files();
  if (before < 0) GTEST_SKIP() << "the system does not tell what is resident";
  int64_t layers = 0, most = 0;
  teacher->params.each([&](const Param& p) { layers += p.weight.bytes(); });
  const auto on = make_backend("auto", Precision::f32);
  Arena scratch;
  const Exec ex{*on, scratch};
  const std::vector<int32_t> ids(8, 3);
  const Segment segment{nullptr, 0, 8};
  teacher->decoder->forward(ex, ids, {&segment, 1}, ex.make(8, teacher->config().hidden),
                            [&](int64_t, const Io&) { most = std::max(most, resident_of_files()); });
  EXPECT_LT(most - before, layers / 4) << "of " << layers;
}

TEST(LayerBuffers, RefusesWhatCannotStayInItsFile) {
  const Path dir = many_layers("f32-layers", DType::f32);
  const auto whole = load(dir, false);
  std::vector<NamedTensor> tensors;
  whole->params.each([&](const Param& p) {
    tensors.push_back({p.name, p.weight, has(p.name, "layers.3.mlp.up") ? DType::bf16 : DType::f32});
  });
  write_checkpoint(dir, whole->config_json, tensors);
  const std::string why = error_of([&] { load(dir, true); });
  EXPECT_PRED2(has, why, "tensor model.layers.3.mlp.up_proj.weight is bf16; layers are read from their files only");
}

}  // namespace
}  // namespace qwerky
