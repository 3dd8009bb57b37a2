// SPDX-License-Identifier: MIT
// A student's scores beside its teacher's on the same documents: what differs document by document has a smaller error
// than the two scores alone suggest.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "eval/evaluate.h"

namespace qwerky {

struct Interval {
  double low, high;
};

/// A value, its standard error (none for a single document) and the 95 % interval of the normal distribution.
struct Estimate {
  double value = 0;
  std::optional<double> error;
  std::optional<Interval> interval() const;
};

/// R = Σa / Σb over documents; error √(n/(n-1) · Σ(a - R b)²) / |Σb|. With b = 1 a mean and s/√n; else the ratio
/// estimator (Cochran, Sampling Techniques, 6.4).
Estimate ratio_of_sums(std::span<const double> a, std::span<const double> b);

/// One metric of a task or group for both models.
struct PairedScore {
  std::string name, metric, filter;
  int depth = 0;  ///< below the groups that were asked for
  std::optional<int> shots;
  int64_t documents = 0;
  Estimate teacher, student;     ///< errors as lm-eval computes them
  std::optional<double> chance;  ///< expected of guessing; none where it means nothing (perplexities)
  bool ratio = false;            ///< `change` is student / teacher (perplexities), else student - teacher
  Estimate change;               ///< paired; of a ratio, value and error are those of its logarithm
  std::optional<Interval> interval;
  /// (student - chance) / (teacher - chance); none where the teacher is less than 1.96 errors above chance.
  std::optional<Estimate> relative;
  double shown_change() const;
};

/// Scores of the documents that both evaluations have finished, in the order of the table. Both must be of the same
/// tasks and data.
std::vector<PairedScore> paired_scores(const std::vector<std::string>& names, std::span<const TaskRun> teacher,
                                       std::span<const TaskRun> student, int bootstrap_iters);

/// Errors and intervals that are not there are null.
Json to_json(const PairedScore& score);

/// Columns of the table; "N/A" where a value means nothing.
std::vector<std::string> paired_headers();
std::vector<std::string> paired_cells(const PairedScore& score);

}  // namespace qwerky
