// SPDX-License-Identifier: MIT
#include "engine/random_model.h"

#include "base/random.h"

namespace qwerky {
namespace {

/// Numbers that are used again and again: time does not depend on them.
std::vector<float> numbers() {
  std::vector<float> values(1 << 16);
  const Random random(1, hash_name("random model"));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(0.04 * random.uniform(i) - 0.02);
  return values;
}

/// Fills rows of f32 or bf16.
void fill(Tensor rows, const std::vector<float>& values) {
  const auto period = static_cast<int64_t>(values.size());
  for (int64_t i = 0; i < rows.count(); i += period) {
    const int64_t n = std::min(period, rows.count() - i);
    convert(Tensor(static_cast<char*>(rows.data) + i * size_of(rows.type), rows.type, {n}),
            Tensor(const_cast<float*>(values.data()), DType::f32, {n}));
  }
}

}  // namespace

Json published_shape(const std::string& name) {
  const auto qwen = [](int64_t hidden, int64_t layers, int64_t heads, int64_t kv, int64_t ffn, int64_t vocab,
                       bool tied) {
    return Json{{"model_type", "qwen2"},       {"hidden_size", hidden},
                {"num_hidden_layers", layers}, {"num_attention_heads", heads},
                {"num_key_value_heads", kv},   {"intermediate_size", ffn},
                {"vocab_size", vocab},         {"tie_word_embeddings", tied},
                {"rope_theta", 1e6},           {"max_position_embeddings", 32768},
                {"rms_norm_eps", 1e-6}};
  };
  if (name == "qwen2.5-0.5b") return qwen(896, 24, 14, 2, 4864, 151936, true);
  if (name == "qwen2.5-1.5b") return qwen(1536, 28, 12, 2, 8960, 151936, true);
  if (name == "qwen2.5-7b") return qwen(3584, 28, 28, 4, 18944, 152064, false);
  fail("--random: \"", name, "\" is not known; known: qwen2.5-0.5b, qwen2.5-1.5b, qwen2.5-7b");
}

Config published_config(const std::string& shape, const std::string& mixer) {
  const Config teacher = read_config(published_shape(shape), nullptr);
  const MixerKind kind = mixer_kind(mixer);
  return kind == MixerKind::softmax ? teacher : student_config(teacher, kind, {});
}

void fill_random(Params& params) {
  const std::vector<float> values = numbers();
  params.each([&](Param& p) { fill(p.weight, values); });
}

std::unique_ptr<Model> random_model(const Config& config, const Backend& on, const PackFormats& formats) {
  const std::vector<float> values = numbers();
  auto model = declare_model(config);
  model->stored = formats.weights.type == DType::f32 ? DType::f32 : DType::bf16;
  const Packer packer(on, formats, *model->weights);
  model->params.each([&](Param& p) {
    Arena once("random weights");
    const Tensor rows = once.tensor(model->stored, p.shape);
    fill(rows, values);
    packer.place(p, rows);
  });
  return model;
}

}  // namespace qwerky
