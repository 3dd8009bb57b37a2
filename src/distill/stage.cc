// SPDX-License-Identifier: MIT
#include "distill/stage.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace qwerky {

double Stage::rate(int64_t step, bool mixer) const {
  const double from = mixer && mixer_lr > 0 ? mixer_lr : lr;
  const double to = mixer && mixer_lr_final > 0 ? mixer_lr_final : schedule == "flat" ? from : lr_final;
  const double share = static_cast<double>(step) / static_cast<double>(steps());
  const double p = std::clamp((share - hold) / std::max(until - hold, 1e-9), 0.0, 1.0);
  double left = 1;  // of the way from `to` up to `from`
  if (schedule == "cosine") left = 0.5 + 0.5 * std::cos(std::numbers::pi * p);
  if (schedule == "quarter_cosine") left = std::cos(std::numbers::pi / 2 * p);  // the published trainer's "cosine"
  if (schedule == "linear") left = 1 - p;
  const double warm = step < warmup ? 0.01 + 0.99 * static_cast<double>(step) / static_cast<double>(warmup) : 1;
  return warm * (to + (from - to) * left);
}

void Stage::check() const {
  const std::string where = "stage " + (name.empty() ? loss : name);
  const auto need = [&](bool fine, const std::string& what) {
    if (!fine) fail(where, ": ", what);
  };
  need(loss == "align" || loss == "kl" || loss == "cross_entropy",
       "loss: expected align, kl or cross_entropy, found " + loss);
  need(schedule == "flat" || schedule == "cosine" || schedule == "quarter_cosine" || schedule == "linear",
       "schedule: expected flat, cosine, quarter_cosine or linear, found " + schedule);
  constexpr int64_t kMost = int64_t{1} << 24;  // of windows and of tokens in one: their product stays far from overflow
  need(tokens > 0, concat("tokens: expected a positive number, found ", tokens));
  need(context > 0 && context <= kMost, concat("context: expected 1 to ", kMost, ", found ", context));
  need(batch > 0 && batch <= kMost, concat("batch: expected 1 to ", kMost, ", found ", batch));
  need(lanes >= 1 && lanes <= batch, concat("lanes: expected 1 to ", batch, " (the batch), found ", lanes));
  need(next_token >= 0 && (next_token == 0 || loss == "kl"),
       concat("next_token: expected at least 0, and only with loss kl, found ", next_token, " with ", loss));
  need(windows_at_once >= 0, concat("windows_at_once: expected at least 0, found ", windows_at_once));
  need(passes >= 1, concat("passes: expected at least 1, found ", passes));
  need(!cache_targets || loss == "align", "cache_targets: only align has targets to keep, found loss " + loss);
  need(lr > 0 && std::isfinite(lr), concat("lr: expected a positive number, found ", lr));
  need(lr_final >= 0 && mixer_lr >= 0 && mixer_lr_final >= 0,
       "lr_final, mixer_lr and mixer_lr_final must not be negative");
  need(warmup >= 0, concat("warmup: expected at least 0 steps, found ", warmup));
  need(clip >= 0 && weight_decay >= 0, "clip and weight_decay must not be negative");
  need(average_from >= 0 && average_from <= 1, concat("average_from: expected 0 to 1, found ", average_from));
  need(hold >= 0 && hold <= 1 && until >= hold && until <= 1, "hold and until: expected 0 <= hold <= until <= 1");
  need(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1 && eps > 0,
       "beta1, beta2 must lie in [0, 1) and eps be positive");
}

void Recipe::check() const {
  if (init != "published" && init != "calibrated" && init != "random")
    fail("recipe ", name, ": init: expected published, calibrated or random, found ", init);
  if (calibration_tokens < 2)
    fail("recipe ", name, ": calibration_tokens: expected at least 2, found ", calibration_tokens);
  if (!(rank_scale > 0 && rank_scale <= 64))
    fail("recipe ", name, ": rank_scale: expected a number above 0 and up to 64, found ", rank_scale);
  if (!(half_life_scale > 0) || !(ridge > 0) || !std::isfinite(rate_bias))
    fail("recipe ", name, ": half_life_scale and ridge must be positive, rate_bias finite, found ", half_life_scale,
         ", ", ridge, " and ", rate_bias);
  if (stages.empty()) fail("recipe ", name, ": it has no stages");
  for (const Stage& s : stages) s.check();
  if (init == "calibrated" && calibration_tokens <= stages.front().context)
    fail("recipe ", name, ": calibration_tokens: expected more than one window of ", stages.front().context, ", found ",
         calibration_tokens);
}

}  // namespace qwerky
