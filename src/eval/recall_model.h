// SPDX-License-Identifier: MIT
// A loaded model as what answers recall tasks.
#pragma once

#include "engine/engine.h"
#include "eval/recall.h"

namespace qwerky {

/// Throws, naming the model, where a length is more than `max_length`, or, when that is 0, than the positions that its
/// softmax layers were made for. Linear models have no such limit.
void check_lengths(const Engine& engine, std::span<const int64_t> lengths, int64_t max_length);

/// `engine` must outlive the result. With `share`, what prompts of a call begin with in common is read once.
RecallModel recall_model(const Engine& engine, bool share);

}  // namespace qwerky
