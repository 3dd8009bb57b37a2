// SPDX-License-Identifier: MIT
// Codes for one matrix, chosen by what its product is going to read.
//
// With inputs x and G = Σ x xᵀ, the error of an output of weights w is (w - ŵ) G (w - ŵ)ᵀ.
//   scale  the scale (and minimum) of each group that minimise Σ_k G_kk (w_k - ŵ_k)², codes to nearest
//   gptq   columns in order; the error of each is spread over those that follow so that the outputs change least
//          (Frantar et al., "GPTQ", arXiv 2210.17323). With G⁻¹ = Uᵀ U, U upper triangular:
//          e = (w_k - ŵ_k) / U_kk, then w_j -= e U_kj for j > k; scales as above with weights 1 / U_kk².
//          Then coordinate descent on the error itself: each code, each scale and each minimum in turn.
#pragma once

#include <string>
#include <vector>

#include "tensor/panels.h"

namespace qwerky {

enum class Calibration { none, scale, gptq };
/// "none", "scale" or "gptq"; another name is an Error that names `flag`.
Calibration calibration_named(const std::string& name, const std::string& flag);

/// Adds to the diagonal of G [K, K] a hundredth of its mean (1 where G is 0).
void damp(std::vector<double>& gram, int64_t K);
/// U [K, K] of G⁻¹ = Uᵀ U; G [K, K] symmetric and positive.
std::vector<float> inverse_factor(std::vector<double> gram, int64_t K);

/// Fills quantized `panels` [N, K] from w [N, K] in rows. `gram` [K, K]: of the inputs; without it (empty) all inputs
/// count alike. Not for Calibration::none, which is Backend::pack.
void quantize_matrix(Tensor panels, const std::vector<float>& w, std::vector<double> gram, Calibration how);

}  // namespace qwerky
