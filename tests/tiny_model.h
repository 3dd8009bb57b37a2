// SPDX-License-Identifier: MIT
// A model of two layers with random weights, on disk. Rows of all its matrices are whole blocks of 32 when it is 192
// wide.
#pragma once

#include "base/random.h"
#include "data.h"
#include "engine/model.h"

namespace qwerky::testing {

inline Path tiny_model(const std::string& name, const std::string& type, bool tied, int64_t vocab, int64_t width = 48) {
  const Json config{{"model_type", type},       {"hidden_size", width},       {"intermediate_size", width / 2 * 3},
                    {"vocab_size", vocab},      {"num_hidden_layers", 2},     {"num_attention_heads", 3},
                    {"num_key_value_heads", 1}, {"head_dim", width / 3},      {"max_position_embeddings", 64},
                    {"rms_norm_eps", 1e-5},     {"tie_word_embeddings", tied}};
  const auto model = make_model(read_config(config, nullptr), true);
  model->params.each([&](Param& p) {
    const Random random(3, hash_name(p.name));
    for (int64_t i = 0; i < p.count(); ++i)
      p.weight.as<float>()[i] =
          static_cast<float>((p.name.ends_with("norm.weight") ? 1 : 0) + 0.2 * random.normal(static_cast<uint64_t>(i)));
  });
  const Path dir = scratch_dir(name);
  save_model(dir, model->config(), model->params, DType::f32, {});
  return dir;
}

}  // namespace qwerky::testing
