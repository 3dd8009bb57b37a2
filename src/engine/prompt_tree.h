// SPDX-License-Identifier: MIT
// Many prompts, each read to its end: what they begin with in common is read once, and goes on from a copied state.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "model/decoder.h"

namespace qwerky {

using Prompts = std::span<const std::vector<int32_t>>;

/// Called after each decoder call with the rows it read; false: stop.
using RowsRead = std::function<bool(int64_t rows)>;
/// Prompt i is read: its state, which may be changed and has room for `room` more tokens, and the logits [1, V] of its
/// last token.
using PromptRead = std::function<void(size_t i, State& state, Tensor logits)>;

/// Rows that read_prompts() reads.
int64_t prompt_rows(Prompts prompts, bool share);

/// In an order of its own, in calls of at most kPrefillRows rows. Prompts are not empty. Of the branches of a node the
/// largest goes on in place, so at most log2(prompts) + 2 states are alive. With `wanted`, only those prompts are read,
/// in the same calls as among all, so the last digits are the same too. Returns false when it was stopped.
bool read_prompts(const Exec& ex, const Decoder& model, Prompts prompts, bool share, int64_t room,
                  const RowsRead& on_rows, const PromptRead& on_read,
                  const std::function<bool(size_t i)>& wanted = nullptr);

/// -ln p of each of ids[first, …), all before it being read as one sequence; 1 <= first. Fewer than that many values
/// when `on_rows` stopped it.
std::vector<double> sequence_losses(const Exec& ex, const Decoder& model, std::span<const int32_t> ids, int64_t first,
                                    const RowsRead& on_rows);

}  // namespace qwerky
