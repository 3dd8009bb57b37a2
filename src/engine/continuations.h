// SPDX-License-Identifier: MIT
// How likely continuations are after their contexts, many at once: what they have in common is run once. A context is a
// state; every continuation goes on from a copy of it.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "model/decoder.h"

namespace qwerky {

/// ids[first..] are scored, each given all ids before it; 1 <= first < ids.size().
struct Continuation {
  std::vector<int32_t> ids;
  int64_t first = 1;
};

struct ContinuationScore {
  double loglikelihood = 0;  ///< Σ log p, natural log
  bool greedy = true;        ///< each scored id is the first of the most likely ones
};

struct ContinuationOptions {
  bool share = true;  ///< false: every continuation runs from its beginning
  int64_t rows = 256;
  int64_t state_bytes = int64_t{1} << 30;  ///< of the states alive at one level of sharing
  std::function<void()> before_call = {};  ///< of the decoder; what it throws ends score(), which may be called again
};

/// Requests of one call are sorted into a tree of common beginnings. Its nodes run level by level, those of a level
/// side by side as segments of decoder calls. What all requests of a call have in common is kept for the next call.
class ContinuationScorer {
 public:
  /// Both must outlive it.
  ContinuationScorer(const Backend& on, const Decoder& model, const ContinuationOptions& options = {});
  ~ContinuationScorer();

  /// In the order of `requests`. Throws Error where ids or `first` are out of range.
  std::vector<ContinuationScore> score(std::span<const Continuation> requests);

  int64_t rows_asked() const { return rows_asked_; }  ///< as if nothing were shared
  int64_t rows_run() const { return rows_run_; }
  double model_seconds() const { return model_seconds_; }  ///< spent in decoder calls and on their logits

 private:
  struct Node;
  struct Job;
  struct Kept;
  struct Parent;
  void visit(Job& job, std::span<const int32_t> nodes, std::span<const Parent> parents);
  void run_chunk(Job& job, std::span<const int32_t> nodes, std::span<State* const> states);
  void read_logits(Job& job, std::span<const int32_t> nodes, Batch batch, int64_t at, Tensor hidden);
  std::unique_ptr<State> take_state(int64_t capacity);

  const Backend& on_;
  const Decoder& model_;
  ContinuationOptions options_;
  Arena scratch_;
  std::vector<std::unique_ptr<State>> free_;
  std::unique_ptr<Kept> kept_;
  int64_t rows_asked_ = 0, rows_run_ = 0;
  double model_seconds_ = 0;
};

}  // namespace qwerky
