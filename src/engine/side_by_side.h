// SPDX-License-Identifier: MIT
// Several prompts continued side by side: what they begin with is read once, and one decoder call a step writes for all
// that still write.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "model/decoder.h"
#include "qwerky/qwerky.h"

namespace qwerky {

/// Gets every new id of prompt i; false: this one is done.
using Emit = std::function<bool(size_t i, int32_t id)>;

struct SideBySide {
  std::span<const SamplerOptions> samplers = {};  ///< one for each prompt; none: always the likeliest id
  bool share = true;                              ///< false: every prompt is read from its beginning
};

/// Prompts must not be empty. At most `max_tokens` ids for each.
void continue_prompts(const Backend& on, const Decoder& model, std::span<const std::vector<int32_t>> prompts,
                      int64_t max_tokens, const Emit& emit, const SideBySide& how = {});

}  // namespace qwerky
