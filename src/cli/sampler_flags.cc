// SPDX-License-Identifier: MIT
#include "cli/sampler_flags.h"

#include <sstream>

#include "base/error.h"
#include "engine/sampler.h"

namespace qwerky {

void SamplerFlags::add_to(Flags flags) {
  SamplerOptions& o = options;
  const auto add = [&](const char* flag, auto& value, const char* help) {
    flags.add_option(flag, value, help).with_default().group("Sampler");
  };
  add("--temperature", o.temperature, "0: the most likely token each time");
  add("--top-k", o.top_k, "draw from the k likeliest tokens (0: all)");
  add("--top-p", o.top_p, "draw from the likeliest tokens of this mass");
  add("--min-p", o.min_p, "draw from tokens with at least this share of the likeliest one's probability");
  add("--typical-p", o.typical_p, "draw from the most typical tokens of this mass");
  add("--presence-penalty", o.presence_penalty, "off the logit of every token that was written");
  add("--frequency-penalty", o.frequency_penalty, "off the logit, for each time the token was written");
  add("--repetition-penalty", o.repetition_penalty, "divides the logits of tokens in the prompt or written (1: off)");
  add("--penalty-window", o.penalty_window, "tokens that penalties and DRY look back on (0: all)");
  add("--dry-multiplier", o.dry_multiplier, "DRY: penalty of a repetition (0: off)");
  add("--dry-base", o.dry_base, "DRY: growth of the penalty with each repeated token");
  add("--dry-allowed-length", o.dry_allowed_length, "DRY: tokens that may be repeated");
  add("--dry-breaker", dry_breakers, "DRY: texts across which no repetition is looked for; repeatable");
  add("--xtc-probability", o.xtc_probability, "XTC: how often top choices are excluded");
  add("--xtc-threshold", o.xtc_threshold, "XTC: probability from which a token is a top choice");
  add("--mirostat", o.mirostat, "2: mirostat 2 in place of top-k, top-p, min-p, typical-p and XTC (0: off)");
  add("--mirostat-tau", o.mirostat_tau, "mirostat: surprise to aim at, in bits");
  add("--mirostat-eta", o.mirostat_eta, "mirostat: learning rate");
  add("--logit-bias", logit_bias, "ID=BIAS: added to the logit of a token; repeatable");
  add("--seed", o.seed, "seed of the draws");
}

SamplerOptions SamplerFlags::resolve(const Tokenizer& tokenizer) const {
  SamplerOptions out = options;
  for (const std::string& text : logit_bias) {
    std::istringstream in(text);
    int32_t id = 0;
    char equals = 0;
    double bias = 0;
    if (!(in >> id >> equals >> bias) || equals != '=' || !(in >> std::ws).eof())
      fail("--logit-bias: expected ID=BIAS, such as 42=-5, found ", text);
    out.logit_bias.emplace_back(id, bias);
  }
  if (out.dry_multiplier > 0) out.dry_breakers = qwerky::dry_breakers(tokenizer, dry_breakers);
  return out;
}

}  // namespace qwerky
