// SPDX-License-Identifier: MIT
// One training step on some windows, for each loss. All add gradients of `loss · weight`, summed over rows, to
// ex.gradients, and return the sum of the rows' losses.
#pragma once

#include <span>

#include "distill/stage.h"
#include "distill/target_cache.h"
#include "model/decoder.h"

namespace qwerky {

/// `count` windows of `length` inputs; next tokens follow each (stride length + 1).
struct WindowBatch {
  std::span<const int32_t> tokens;  ///< [count][length + 1]
  int64_t count, length;
  std::vector<int32_t> inputs() const { return ids(0); }
  std::vector<int32_t> targets() const { return ids(1); }
  std::vector<Segment> segments() const;
  /// Each window from its id `first` on.
  std::vector<int32_t> ids(int64_t first) const;
};

/// Stage 1: every student mixer gets the teacher's normed input and is pulled to the teacher's mixer output:
/// Σ_layers Σ_rows ‖y_T - y_S‖₂ / √D. The residual stream is the teacher's. With a cache, its values come from, or go
/// to, the cache's file `key`.
double align_step(const Exec& ex, const Decoder& teacher, const Decoder& student, const WindowBatch& windows,
                  double weight, const TargetCache* cache = nullptr, const std::string& key = {});
/// Stage 2: Σ_rows KL(teacher ‖ student) over the vocabulary, in slices of rows. The gradient, not the returned loss,
/// also has `next_token` times that of -log p(next).
double kl_step(const Exec& ex, const Decoder& teacher, const Decoder& student, const WindowBatch& windows,
               double weight, bool recompute, double next_token = 0);
/// Stage 3, and training from random weights: Σ_rows -log p(next).
double cross_entropy_step(const Exec& ex, const Decoder& student, const WindowBatch& windows, double weight,
                          bool recompute);

/// Layers that stage 1 trains: the student's mixer is linear.
int64_t converted_layers(const Config& student);

}  // namespace qwerky
