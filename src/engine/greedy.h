// SPDX-License-Identifier: MIT
// Several prompts continued side by side, always with the likeliest token: one decoder call a step for all that still
// write.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "model/decoder.h"

namespace qwerky {

/// Gets every new id of prompt i; false: this one is done.
using Emit = std::function<bool(size_t i, int32_t id)>;

/// Prompts must not be empty. At most `max_tokens` ids for each.
void continue_greedily(const Backend& on, const Decoder& model, std::span<const std::vector<int32_t>> prompts,
                       int64_t max_tokens, const Emit& emit);

}  // namespace qwerky
