// SPDX-License-Identifier: MIT
#include "engine/logprobs.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace qwerky {

Logprobs logprobs_of(std::span<const float> logits, int32_t id, int64_t top) {
  const double most = double{*std::ranges::max_element(logits)};
  double sum = 0;
  for (const float x : logits) sum += std::exp(double{x} - most);
  const double normaliser = most + std::log(sum);
  const auto logit = [&](int32_t i) { return logits[static_cast<size_t>(i)]; };
  const auto V = static_cast<int32_t>(logits.size());
  std::vector<int32_t> all(logits.size()), best(static_cast<size_t>(std::clamp<int64_t>(top, 0, V)));
  std::iota(all.begin(), all.end(), 0);
  std::ranges::partial_sort_copy(
      all, best, [&](int32_t a, int32_t b) { return logit(a) > logit(b) || (logit(a) == logit(b) && a < b); });
  Logprobs out{id, double{logit(id)} - normaliser, {}};
  for (const int32_t i : best) out.top.emplace_back(i, double{logit(i)} - normaliser);
  return out;
}

bool all_finite(std::span<const float> logits) {
  float sum = 0;  // 0 as long as all are; NaN from the first that is not
  for (const float x : logits) sum += x * 0;
  return sum == 0;
}

}  // namespace qwerky
