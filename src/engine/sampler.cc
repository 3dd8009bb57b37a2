// SPDX-License-Identifier: MIT
#include "engine/sampler.h"

#include <limits>

namespace qwerky {

Sampler::Sampler(const SamplerOptions& options, int64_t) : options_(options) { options_.check(); }

void Sampler::read(std::span<const int32_t> prompt) { history_.insert(history_.end(), prompt.begin(), prompt.end()); }

int32_t Sampler::draw(std::span<const float> logits, std::span<const uint8_t> allowed) {
  std::vector<float> masked(logits.begin(), logits.end());
  for (size_t i = 0; i < allowed.size(); ++i)
    if (allowed[i] == 0) masked[i] = -std::numeric_limits<float>::infinity();
  const int32_t id = sample(masked, options_, draws_++);
  history_.push_back(id);
  return id;
}

}  // namespace qwerky
