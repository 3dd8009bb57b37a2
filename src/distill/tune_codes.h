// SPDX-License-Identifier: MIT
// Quantisation-aware tuning: moves the int4 codes, scales and vectors of a quantised model together, so that its logits
// come close to those of the model it was made from.
#pragma once

#include "engine/measure.h"
#include "engine/model.h"

namespace qwerky {

struct TuneOptions {
  int64_t steps = 0;
  int64_t batch = 8;            ///< windows of a step
  double code_rate = 0.01;      ///< AdamW's rate for codes, in codes
  double scale_rate = 0.001;    ///< for the logarithm of scales
  double vector_rate = 0.0005;  ///< for norms, biases and whatever else is f32
};

/// Minimises KL(original ‖ quantised) on full windows of `text`. Weights are ŵ = s·(q - zero) + minimum with q a real
/// number rounded in the forward; the gradient passes the rounding unchanged (Bengio et al., arXiv 1308.3432), so that
/// ∂/∂q = s ∂/∂ŵ and ∂/∂log s = Σ s (q - zero) ∂/∂ŵ over the group. Rates fall as a cosine to 0. `quantised` must own
/// its weights.
void tune_codes(const Backend& on, const Model& original, Model& quantised, const Windows& text,
                const TuneOptions& options, const Progress& progress = nullptr);

}  // namespace qwerky
