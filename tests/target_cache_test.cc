// SPDX-License-Identifier: MIT
// Targets kept on disk change nothing but time, and a damaged file is made anew.
#include "distill/target_cache.h"

#include <fstream>

#include "base/random.h"
#include "data.h"
#include "distill/initialise.h"
#include "distill/trainer.h"

namespace qwerky {
namespace {

Config tiny(const char* type) {
  return read_config({{"model_type", type},
                      {"hidden_size", 16},
                      {"intermediate_size", 16},
                      {"vocab_size", 17},
                      {"num_hidden_layers", 2},
                      {"num_attention_heads", 2},
                      {"num_key_value_heads", 1},
                      {"max_position_embeddings", 64},
                      {"lora_rank_decay", 4},
                      {"lora_rank_iclr", 4},
                      {"lora_rank_value_residual_mix", 4},
                      {"lora_rank_gate", 4}},
                     nullptr);
}

std::vector<int32_t> random_tokens() {
  std::vector<int32_t> ids;
  for (uint64_t i = 0; i < 400; ++i) ids.push_back(static_cast<int32_t>(Random(3).below(i, 17)));
  return ids;
}

/// Weights after 12 steps in three passes over four steps' windows; `meddle` may damage files after step 6.
std::vector<float> trained(bool cache, const Path& dir, const std::function<void(const Path&)>& meddle = nullptr) {
  const auto teacher = make_model(tiny("qwen2"), true), student = make_model(tiny("rwkv7qwen2"), true);
  init_random(*teacher, 1);
  init_random(*student, 2);
  const auto on = make_backend("auto", Precision::f32);
  const TokenStream tokens(random_tokens());
  Recipe recipe{.name = "test",
                .stages = {Stage{.name = "align",
                                 .tokens = 12 * 4 * 8,
                                 .context = 8,
                                 .batch = 4,
                                 .warmup = 0,
                                 .passes = 3,
                                 .cache_targets = cache}}};
  TrainerOptions options{
      .dir = dir, .settings = {}, .validate_reports = 0, .report = nullptr, .stop_after_steps = meddle ? 6 : 0};
  Trainer first(*on, *student, teacher.get(), tokens, nullptr, recipe, options);
  if (meddle) {
    EXPECT_EQ(first.run(), RunEnd::interrupted);
    meddle(dir / "targets");
    options.stop_after_steps = 0;
    Trainer second(*on, *student, teacher.get(), tokens, nullptr, recipe, options);
    EXPECT_TRUE(second.resume());
    EXPECT_EQ(second.run(), RunEnd::finished);
  } else {
    EXPECT_EQ(first.run(), RunEnd::finished);
  }
  EXPECT_FALSE(std::filesystem::exists(dir / "targets")) << "removed with the end of the stage";
  wait_for_device();
  const float* w = student->params.block().as<float>();
  return {w, w + student->params.block_count()};
}

TEST(TargetCache, ChangesNothing) {
  EXPECT_EQ(trained(false, testing::scratch_dir("targets-off")), trained(true, testing::scratch_dir("targets-on")));
}

TEST(TargetCache, DamagedFilesAreMadeAnew) {
  const auto want = trained(false, testing::scratch_dir("targets-plain"));
  EXPECT_EQ(want, trained(true, testing::scratch_dir("targets-damaged"), [](const Path& dir) {
              int files = 0;
              for (const auto& entry : std::filesystem::directory_iterator(dir)) {
                if (++files % 2 == 0) {
                  std::filesystem::resize_file(entry.path(), 100);
                } else {
                  std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
                  file.seekp(-8, std::ios::end);
                  file.write("\1\2\3\4", 4);
                }
              }
              EXPECT_EQ(files, 8) << "four steps of two lanes";
            }));
}

}  // namespace
}  // namespace qwerky
