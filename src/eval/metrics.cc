// SPDX-License-Identifier: MIT
#include "eval/metrics.h"

#include <cmath>
#include <functional>

#include "base/error.h"
#include "base/parallel.h"
#include "eval/random_python.h"
#include "eval/text_rules.h"

namespace qwerky {
namespace {

/// Index of the first maximum of answers[i].loglikelihood / length(i).
int likeliest(const std::vector<Answer>& answers, const std::function<double(size_t)>& length) {
  int best = 0;
  double most = -INFINITY;
  for (size_t i = 0; i < answers.size(); ++i)
    if (const double x = answers[i].loglikelihood / length(i); x > most) {
      most = x;
      best = static_cast<int>(i);
    }
  return best;
}

/// Sums run from left to right, as Python's did before 3.12.
double mean_of(std::span<const double> values) {
  double sum = 0;
  for (double x : values) sum += x;
  return sum / static_cast<double>(values.size());
}

double deviation(std::span<const double> values) {
  const double mean = mean_of(values);
  double sum = 0;
  for (double x : values) sum += (x - mean) * (x - mean);
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

std::vector<double> numbers(std::span<const Value> values) {
  std::vector<double> x;
  for (const Value& value : values) x.push_back(value.x);
  return x;
}

}  // namespace

std::vector<Value> values_of(const Task& task, const Document& document, const Outcome& outcome) {
  std::vector<Value> values;
  const auto& answers = outcome.answers;
  const auto plain = [](size_t) { return 1.0; };
  // Code points of the choice itself; an empty one is infinitely unlikely.
  const auto per_character = [&](size_t i) { return static_cast<double>(code_points(document.choices[i])); };
  for (const std::string& filter : task.filters)
    for (const Metric& metric : task.metrics) {
      if (task.kind == Kind::generate) {
        values.push_back({gsm8k_equal(gsm8k_extract(filter, outcome.text), document.target) ? 1.0 : 0.0});
      } else if (task.kind == Kind::rolling) {
        values.push_back(
            {answers[0].loglikelihood, metric.name == "word_perplexity" ? document.words : document.bytes});
      } else if (task.kind == Kind::loglikelihood) {
        values.push_back({metric.name == "acc" ? (answers[0].greedy ? 1.0 : 0.0) : answers[0].loglikelihood});
      } else {
        const int chosen = metric.name == "acc" ? likeliest(answers, plain) : likeliest(answers, per_character);
        values.push_back({chosen == document.gold ? 1.0 : 0.0});
      }
    }
  return values;
}

double aggregate(Aggregation how, std::span<const Value> values) {
  if (how == Aggregation::mean) return mean_of(numbers(values));
  if (how == Aggregation::perplexity) return std::exp(-mean_of(numbers(values)));
  double sum = 0, weight = 0;
  for (const Value& value : values) {
    sum += value.x;
    weight += static_cast<double>(value.weight);
  }
  return how == Aggregation::weighted_perplexity ? std::exp(-(sum / weight)) : -(sum / weight) / std::log(2.0);
}

std::optional<double> standard_error(Aggregation how, std::span<const Value> values, int bootstrap_iters) {
  if (values.size() < 2 || bootstrap_iters <= 0) return std::nullopt;
  const std::vector<double> x = numbers(values);
  if (how == Aggregation::mean) return deviation(x) / std::sqrt(static_cast<double>(x.size()));
  if (how == Aggregation::perplexity && bootstrap_iters > 1) return bootstrap_error(x, bootstrap_iters);
  return std::nullopt;
}

double bootstrap_error(std::span<const double> values, int iters) {
  const int chunk = std::min(1000, iters), chunks = iters / chunk;
  const auto n = static_cast<int64_t>(values.size());
  std::vector<double> statistics(static_cast<size_t>(chunk) * static_cast<size_t>(chunks));
  parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      PythonRandom random(static_cast<uint64_t>(c));
      for (int64_t i = c * chunk; i < (c + 1) * chunk; ++i) {
        double sum = 0;
        for (int64_t k = 0; k < n; ++k) sum += values[static_cast<size_t>(random.choice(n))];
        statistics[static_cast<size_t>(i)] = std::exp(-(sum / static_cast<double>(n)));
      }
    }
  });
  return deviation(statistics);
}

double pooled_error(std::span<const double> errors, std::span<const int64_t> sizes) {
  double sum = 0, total = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const auto n = static_cast<double>(sizes[i]);
    sum += (n - 1) * errors[i] * errors[i] * n;
    total += n;
  }
  return std::sqrt(sum / (total - static_cast<double>(sizes.size())) / total);
}

}  // namespace qwerky
