// SPDX-License-Identifier: MIT
// Published shapes with random weights: speed and memory can be measured without any download.
#pragma once

#include "engine/packing.h"

namespace qwerky {

/// config.json of "qwen2.5-0.5b", "qwen2.5-1.5b" or "qwen2.5-7b"; another name is an Error that lists these.
Json published_shape(const std::string& name);
/// The same converted to a mixer: "softmax", "rad-rwkv6" or "rad-rwkv7", with the published ranks.
Config published_config(const std::string& shape, const std::string& mixer);

/// Weights uniform in [-0.02, 0.02), as rows of f32 or bf16.
void fill_random(Params& params);
/// A model for inference with such weights in panels of these formats; never holds them twice.
std::unique_ptr<Model> random_model(const Config& config, const Backend& on, const PackFormats& formats);

}  // namespace qwerky
