// SPDX-License-Identifier: MIT
// How far a student is from its teacher on given text, and the perplexity of one model.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "model/decoder.h"

namespace qwerky {

/// Consecutive windows of token ids: window i of a sequence reads ids [i·length, (i+1)·length) and predicts each next
/// id, so every id but a sequence's first is scored once. A sequence's last window may be shorter; none crosses
/// sequences.
class Windows {
 public:
  /// `ids` must outlive this.
  Windows(std::span<const int32_t> ids, int64_t window) : length(window) { add(ids); }
  /// A further sequence.
  void add(std::span<const int32_t> ids);
  int64_t count() const { return static_cast<int64_t>(windows_.size()); }
  std::span<const int32_t> inputs(int64_t i) const {
    return windows_[static_cast<size_t>(i)].first(windows_[static_cast<size_t>(i)].size() - 1);
  }
  std::span<const int32_t> targets(int64_t i) const { return windows_[static_cast<size_t>(i)].subspan(1); }

  int64_t length;

 private:
  std::vector<std::span<const int32_t>> windows_;  // inputs and the last target
};

struct Scores {
  int64_t tokens = 0;
  double nll = 0;                       ///< mean of -log p(next id), natural log
  std::vector<double> nll_by_position;  ///< mean per position within the window
  double perplexity() const;
};

/// Without the values by position.
Json to_json(const Scores& scores);

struct Comparison {
  Scores teacher, student;
  double kl = 0;                    ///< mean Σ p_T (log p_T - log p_S) over positions
  double top1 = 0;                  ///< share of positions at which both rank the same id first
  std::vector<double> alignment;    ///< per layer: mean ‖y_T - y_S‖₂ / √D, both mixers on the teacher's input
  std::vector<double> unexplained;  ///< per layer: Σ‖y_T - y_S‖² / Σ‖y_T‖²
  std::vector<double> kl_by_position;
  double ratio() const { return student.perplexity() / teacher.perplexity(); }
};

/// Means over positions [begin, end) of a window.
struct PositionBand {
  size_t begin, end;
  double teacher, student;  ///< perplexities
  double kl;
};
/// About `count` bands of equal width; the last may be narrower.
std::vector<PositionBand> position_bands(const Comparison& comparison, size_t count);

/// May be called from several threads at once.
using Progress = std::function<void(int64_t done, int64_t total)>;

Scores score(const Backend& on, const Decoder& model, const Windows& windows, const Progress& progress = nullptr);
/// Both models on the same windows. With `layers`, also the stage-1 alignment errors of every converted layer.
Comparison compare(const Backend& on, const Decoder& teacher, const Decoder& student, const Windows& windows,
                   bool layers, const Progress& progress = nullptr);

/// f(first row, rows) for slices whose logits fit in memory: [tokens, vocabulary] is never held whole. What f takes
/// from the arena ends with the slice.
void in_logit_slices(const Exec& ex, int64_t vocab, int64_t rows, const std::function<void(int64_t, int64_t)>& f);

/// Runs job(i, scratch) for i in [0, n): side by side when one model is small, one after the other (with threads inside
/// each operation) when it is large. Results must not depend on which.
void for_each_window(int64_t n, int64_t parameters, const std::function<void(int64_t, Arena&)>& job);

}  // namespace qwerky
