// SPDX-License-Identifier: MIT
#include "engine/fingerprint.h"

namespace qwerky {

std::string model_fingerprint(const Engine& engine) {
  const Model& model = *engine.internals().model;
  std::string all = model.config_json.dump() + engine.internals().backend->name() +
                    (engine.internals().precision == Precision::bf16 ? " bf16" : " f32");
  model.params.each([&](const Param& p) {
    if (!p.weight) return;
    all += concat(p.name, p.shape.str(), name_of(p.weight.type));
    constexpr int64_t kSamples = 64, kBytes = 16;
    const int64_t bytes = p.weight.bytes(), step = std::max<int64_t>(kBytes, bytes / kSamples);
    for (int64_t at = 0; at + kBytes <= bytes; at += step)
      all.append(static_cast<const char*>(p.weight.data) + at, static_cast<size_t>(kBytes));
  });
  return sha256(all);
}

}  // namespace qwerky
