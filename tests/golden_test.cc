// SPDX-License-Identifier: MIT
// Forward passes against independent implementations: transformers for the softmax families, plain recurrences in f64
// for the RWKV ones. And: a model written and read again is the same model.
#include <map>

#include "golden_models.h"

namespace qwerky {
namespace {

using testing::expected_of;
using testing::golden_models;
using testing::logits_of;
using testing::scratch_dir;
using testing::worst_difference;

// Logits here are below 8 and sums have at most 48 terms: f32 rounding gives 1e-6 to 1e-5.
constexpr double kTolerance = 1e-4;
// bf16 operands carry 2^-9 each; some ten products in a row amplify that on these deliberately rough weights. Relative
// to the largest logit.
constexpr double kBf16Tolerance = 0.1;

std::unique_ptr<Model> load(const Path& dir, bool bf16 = false) {
  return load_model(dir, {.bf16 = bf16, .need_tokenizer = false});
}

double largest(const std::vector<float>& values) {
  double most = 0;
  for (float v : values) most = std::max(most, std::abs(double{v}));
  return most;
}

TEST(Golden, EveryFamilyIsThere) {
  std::map<std::string, int> families;
  for (const Path& dir : golden_models()) ++families[load(dir)->config().model_type];
  for (const char* family : {"llama", "qwen2", "qwen3", "rwkv6qwen2", "rwkv7qwen2", "qwen3rwkv7"})
    EXPECT_GT(families[family], 0) << family;
}

TEST(Golden, LogitsEqualTheIndependentOnesWholeAndInParts) {
  for (const Path& dir : golden_models()) {
    const auto model = load(dir);
    const auto want = expected_of(dir);
    ASSERT_GE(largest(want.logits), 0.5) << "a golden model that says nothing: " << dir;
    for (const std::string& name : available_backends()) {
      const auto on = make_backend(name, Precision::f32);
      for (int64_t step : {0, 1, 7})
        EXPECT_LT(worst_difference(logits_of(*on, *model->decoder, want.tokens, step), want.logits), kTolerance)
            << dir.filename() << " on " << name << ", rows a call: " << step;
    }
  }
}

TEST(Golden, LogitsInBf16StayNear) {
  for (const Path& dir : golden_models()) {
    const auto model = load(dir, true);
    const auto want = expected_of(dir);
    for (const std::string& name : available_backends()) {
      const auto on = make_backend(name, name == "avx512" && has_native_bf16() ? Precision::bf16 : Precision::f32);
      EXPECT_LT(worst_difference(logits_of(*on, *model->decoder, want.tokens), want.logits),
                kBf16Tolerance * largest(want.logits))
          << dir.filename() << " on " << name;
    }
  }
}

/// The type of the stored numbers is a matter of the writing.
Json without_dtype(Json json) {
  json.erase("dtype");
  json.erase("torch_dtype");
  return json;
}

TEST(Golden, WrittenAndReadAgainIsTheSameModel) {
  const auto on = make_backend("auto", Precision::f32);
  for (const Path& dir : golden_models()) {
    const auto model = load(dir);
    const auto tokens = expected_of(dir).tokens;
    const Path copy = scratch_dir("golden-copy");
    save_model(copy, model->config(), model->params, DType::f32, {});
    const auto again = load(copy);
    EXPECT_EQ(without_dtype(write_config(model->config())), without_dtype(write_config(again->config())))
        << dir.filename();
    EXPECT_EQ(0.0, worst_difference(logits_of(*on, *model->decoder, tokens), logits_of(*on, *again->decoder, tokens)))
        << dir.filename();
  }
}

/// Names and shapes of all tensors of a directory.
std::map<std::string, std::string> tensors_of(const Path& dir) {
  const Checkpoint checkpoint = open_checkpoint(dir);
  std::map<std::string, std::string> all;
  for (const std::string& name : checkpoint.tensors->names()) all[name] = checkpoint.tensors->find(name).shape.str();
  return all;
}

TEST(Golden, WrittenTensorsHaveThePublishedNamesAndShapes) {
  for (const Path& dir : golden_models()) {
    const auto model = load(dir);
    const Path copy = scratch_dir("golden-names");
    save_model(copy, model->config(), model->params, DType::bf16, {});
    EXPECT_EQ(tensors_of(dir), tensors_of(copy)) << dir.filename();
  }
}

TEST(Golden, WrittenConfigKeepsEveryKeyOfTheOriginal) {
  for (const Path& dir : golden_models()) {
    const auto model = load(dir);
    const Json written = write_config(model->config());
    for (const auto& [key, value] : model->config_json.items()) {
      if (value.is_null() || key == "rope_scaling" || key == "layer_types") continue;
      if (key == "head_dim" && model->config().width() == model->config().hidden) continue;  // as its absence says
      EXPECT_EQ(written.contains(key) ? written[key] : Json("absent"), value) << dir.filename() << ": " << key;
    }
  }
}

}  // namespace
}  // namespace qwerky
