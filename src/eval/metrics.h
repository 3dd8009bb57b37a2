// SPDX-License-Identifier: MIT
// From answers to scores: per document, per task, per group, with standard errors, as lm-eval computes them.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "eval/task.h"

namespace qwerky {

/// What the model said to one document.
struct Outcome {
  std::vector<Answer> answers;  ///< one per request
  std::string text;             ///< of tasks that generate, up to the first stop
  bool truncated = false;       ///< of these, the prompt was
};

/// One document's part in a metric; `weight` counts in weighted aggregations.
struct Value {
  double x;
  int64_t weight = 1;
};

/// Values of a task's metrics under each of its filters: [filter · metrics + metric].
std::vector<Value> values_of(const Task& task, const Document& document, const Outcome& outcome);

double aggregate(Aggregation how, std::span<const Value> values);

/// Of a mean: √(variance / n) with n - 1; of a perplexity: bootstrap. Empty where lm-eval prints N/A: one value,
/// weighted aggregations, no iterations.
std::optional<double> standard_error(Aggregation how, std::span<const Value> values, int bootstrap_iters);

/// Sample standard deviation of exp(-mean) over `iters` resamples, in chunks of 1000 with the chunk's number as seed.
/// The same on any number of threads.
double bootstrap_error(std::span<const double> values, int iters);

/// Standard error of the mean over several tasks: √(Σ (nᵢ-1) nᵢ seᵢ² / (N-k) / N).
double pooled_error(std::span<const double> errors, std::span<const int64_t> sizes);

}  // namespace qwerky
