// SPDX-License-Identifier: MIT
// The models of tests/golden/models, made by tools/make_golden_models.py, and how to run one.
#pragma once

#include <cmath>
#include <vector>

#include "data.h"
#include "engine/model.h"

namespace qwerky::testing {

/// Every directory below golden/models, by name.
inline std::vector<Path> golden_models() {
  std::vector<Path> all;
  for (const auto& entry : std::filesystem::directory_iterator(golden("models")))
    if (entry.is_directory()) all.push_back(entry.path());
  std::sort(all.begin(), all.end());
  return all;
}

struct Expected {
  std::vector<int32_t> tokens;
  std::vector<float> logits;  // [T, V]
};

inline Expected expected_of(const Path& model) {
  const SafetensorsFile file(model / "expected.safetensors");
  const Tensor tokens = file.find("tokens"), logits = file.find("logits");
  return {{tokens.as<int32_t>(), tokens.as<int32_t>() + tokens.count()},
          {logits.as<float>(), logits.as<float>() + logits.count()}};
}

/// Logits [T, V]: in one call without a state, or with a state and `step` rows a call.
inline std::vector<float> logits_of(const Backend& on, const Decoder& model, std::span<const int32_t> tokens,
                                    int64_t step = 0) {
  Arena scratch;
  const Exec ex{on, scratch};
  const int64_t T = static_cast<int64_t>(tokens.size()), V = model.config().vocab;
  const Tensor hidden = ex.make(T, model.config().hidden), logits = ex.make(T, V);
  const auto state = step > 0 ? model.make_state(on.scalar(), T) : nullptr;
  for (int64_t at = 0, n = step > 0 ? step : T; at < T; at += n) {
    n = std::min(n, T - at);
    const Segment segment{state.get(), 0, n};
    model.forward(ex, tokens.subspan(static_cast<size_t>(at), static_cast<size_t>(n)), {&segment, 1},
                  hidden.rows(at, n));
    model.logits(ex, hidden.rows(at, n), logits.rows(at, n));
  }
  wait_for_device();
  return {logits.as<float>(), logits.as<float>() + logits.count()};
}

/// Largest |a_i - b_i|; infinite when the sizes differ or a value is NaN.
inline double worst_difference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return INFINITY;
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(double{a[i]} - double{b[i]});
    if (!(d <= worst)) worst = std::isnan(d) ? INFINITY : d;
  }
  return worst;
}

}  // namespace qwerky::testing
