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
  need(loss == "align" || loss == "kl" || loss == "cross_entropy", "loss: expected align, kl or cross_entropy, found " + loss);
  need(schedule == "flat" || schedule == "cosine" || schedule == "quarter_cosine" || schedule == "linear",
       "schedule: expected flat, cosine, quarter_cosine or linear, found " + schedule);
  need(tokens > 0 && context > 0 && batch > 0, "tokens, context and batch must be positive");
  need(lanes >= 1 && lanes <= batch, concat("lanes: expected 1 to ", batch, " (the batch), found ", lanes));
  need(lr > 0 && std::isfinite(lr), concat("lr: expected a positive number, found ", lr));
  need(hold >= 0 && hold <= 1 && until >= hold && until <= 1, "hold and until: expected 0 <= hold <= until <= 1");
  need(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1 && eps > 0, "beta1, beta2 must lie in [0, 1) and eps be positive");
}

void Recipe::check() const {
  if (init != "published" && init != "calibrated" && init != "random") fail("recipe ", name, ": init: expected published, calibrated or random, found ", init);
  if (stages.empty()) fail("recipe ", name, ": it has no stages");
  for (const Stage& s : stages) s.check();
}

}  // namespace qwerky
