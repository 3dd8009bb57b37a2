// SPDX-License-Identifier: MIT
// Step 0: the student's values before training. What the teacher has under the same name is copied; what is new gets
// the published values or values calibrated on the teacher's own attention.
#pragma once

#include <functional>

#include "distill/stage.h"
#include "engine/measure.h"
#include "engine/model.h"

namespace qwerky {

/// Normal(0, 0.02), residual projections scaled by 1/√(2L), norms 1, biases 0; RWKV tensors as published.
void init_random(Model& model, uint64_t seed);
/// Whether the student holds a parameter itself: a stage trains it, it belongs to a new mixer, or the teacher (null:
/// there is none) has no such values. The arguments must outlive what is returned.
std::function<bool(const Param& p)> owned_by_student(const Config& config, const Recipe& recipe, const Model* teacher);
/// A student without values yet: what it owns; the rest is the teacher's memory, which must outlive it.
std::unique_ptr<Model> make_student(const Config& config, const Recipe& recipe, const Model& teacher,
                                    const Sharding& sharding = {});
/// Copies every tensor the two models have by name and shape, and do not share.
void copy_from_teacher(Model& student, const Model& teacher);
/// What the student shares becomes what the host reads, for save_model(): it computes no more.
void read_shared_from_files(Model& student, const Model& teacher);
/// Published values of the new tensors (RADLADS, reset_parameters).
void init_published(Model& student, uint64_t seed);
/// Values from the teacher's statistics on `ids`: half-lives at the quantiles of each head's look-back, neutral gate,
/// small removal rate, first-value mix near 0; then the output projections by fit_output.
void init_calibrated(Model& student, const Model& teacher, const Backend& on, const Windows& windows,
                     const Recipe& recipe);
/// W_o = Y_Tᵀ O (OᵀO + λ mean(diag) I)⁻¹ per converted layer: O what the projection reads, Y_T the teacher's mixer
/// output, on the teacher's inputs.
void fit_output(Model& student, const Model& teacher, const Backend& on, const Windows& windows, double ridge);

/// Look-back of every head of a softmax model: mass per lag, sink (position 0) excluded.  [layers][heads][bins]
struct LookBack {
  int64_t bins = 0;
  std::vector<std::vector<double>> mass, sink;  ///< per layer: [heads · bins], [heads]; mass sums to 1 per head
  /// The lag below which `share` of the head's mass lies, interpolated.
  double quantile(int64_t layer, int64_t head, double share) const;
};
LookBack measure_look_back(const Model& teacher, const Backend& on, const Windows& windows);

}  // namespace qwerky
