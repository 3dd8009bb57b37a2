// SPDX-License-Identifier: MIT
// Reading a prompt: many tokens of one sequence, of which only the last needs logits.
#pragma once

#include <algorithm>
#include <span>

#include "model/decoder.h"

namespace qwerky {

/// Rows of one decoder call: few enough that what passes between operations stays in the caches, enough that products
/// run at full rate (128 to 256 are best at the 0.5B shape, 512 are 3 to 6 % slower).
constexpr int64_t kPrefillRows = 256;

/// Appends `ids` to `state`; `logits` [1, V], if not null, become those of the last of them.
void prefill(const Exec& ex, const Decoder& decoder, State& state, std::span<const int32_t> ids, Tensor logits);

}  // namespace qwerky
