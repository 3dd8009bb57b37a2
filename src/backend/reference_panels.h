// SPDX-License-Identifier: MIT
// The mathematics of weights in panels: packing, and products with codes. See Backend::pack and Product.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "tensor/panels.h"

namespace qwerky::reference_panels {

/// Scale and minimum of n weights.
struct GroupScale {
  f16 scale, minimum;
};

inline GroupScale group_scale(const PanelFormat& f, const float* w, int64_t n) {
  float low = w[0], high = w[0];
  for (int64_t i = 1; i < n; ++i) low = std::min(low, w[i]), high = std::max(high, w[i]);
  if (f.minimum) return {f16((high - low) / 15.0f), f16(low)};
  const float largest = high >= -low ? high : low;  // with its sign
  return {f.type == DType::i8 ? f16(std::fabs(largest) / 127.0f) : f16(largest / -8.0f), {}};
}

inline int nearest_code(const PanelsOf& of, float w, float scale, float minimum) {
  if (scale == 0) return of.zero();
  const int code = static_cast<int>(std::nearbyint((w - minimum) / scale)) + of.zero();
  return std::clamp(code, of.format.type == DType::i8 ? 1 : 0, of.largest_code());
}

/// weight(n, k) gives the matrix.
template <class Weight>
void pack_matrix(Tensor panels, const Weight& weight) {
  const PanelView view(panels);
  const PanelsOf& of = view.of();
  view.clear();
  if (!of.quantised()) {
    for (int64_t n = 0; n < of.outputs; ++n)
      for (int64_t k = 0; k < of.inputs; ++k) view.set_value(n, k, weight(n, k));
    return;
  }
  std::vector<float> group(of.format.group);
  for (int64_t n = 0; n < of.outputs; ++n)
    for (int64_t g = 0; g < of.groups(); ++g) {
      const int64_t first = g * of.format.group, size = std::min<int64_t>(of.format.group, of.inputs - first);
      for (int64_t i = 0; i < size; ++i) group[static_cast<size_t>(i)] = weight(n, first + i);
      const GroupScale s = group_scale(of.format, group.data(), size);
      view.set_scale(n, g, s.scale);
      if (of.format.minimum) view.set_minimum(n, g, s.minimum);
      for (int64_t i = 0; i < size; ++i)
        view.set_code(n, first + i,
                      nearest_code(of, group[static_cast<size_t>(i)], static_cast<float>(s.scale),
                                   static_cast<float>(s.minimum)));
    }
}

/// A row of activations as a product with codes sees it: x ≈ d q in each group.
struct RoundedRow {
  std::vector<int> q;    // [K]
  std::vector<float> d;  // [groups]

  RoundedRow(const float* x, int64_t K, int64_t group) : q(static_cast<size_t>(K)) {
    for (int64_t first = 0; first < K; first += group) {
      const int64_t last = std::min(K, first + group);
      float largest = 0;
      for (int64_t k = first; k < last; ++k) largest = std::max(largest, std::fabs(x[k]));
      d.push_back(largest / 127.0f);
      for (int64_t k = first; k < last; ++k)
        q[static_cast<size_t>(k)] = largest == 0 ? 0 : static_cast<int>(std::nearbyint(x[k] / d.back()));
    }
  }
};

/// Σ_g d_g (scale_g Σ_k q_k (code_k - zero) + minimum_g Σ_k q_k) of output n.
inline double product(const PanelView& w, int64_t n, const RoundedRow& x) {
  const PanelsOf& of = w.of();
  double y = 0;
  for (int64_t g = 0; g < of.groups(); ++g) {
    int64_t dot = 0, sum = 0;
    for (int64_t k = g * of.format.group; k < std::min(of.inputs, (g + 1) * of.format.group); ++k) {
      dot += int64_t{x.q[static_cast<size_t>(k)]} * (w.code(n, k) - of.zero());
      sum += x.q[static_cast<size_t>(k)];
    }
    y += static_cast<double>(x.d[static_cast<size_t>(g)]) *
         (static_cast<double>(w.scale(n, g)) * static_cast<double>(dot) +
          static_cast<double>(w.minimum(n, g)) * static_cast<double>(sum));
  }
  return y;
}

}  // namespace qwerky::reference_panels
