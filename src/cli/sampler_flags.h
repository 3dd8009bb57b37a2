// SPDX-License-Identifier: MIT
// The sampler's options as flags, for every command that writes text.
#pragma once

#include <string>
#include <vector>

#include "cli/flags.h"
#include "io/tokenizer.h"
#include "qwerky/qwerky.h"

namespace qwerky {

struct SamplerFlags {
  SamplerOptions options;
  /// The texts of the sequence breakers that DRY's author proposes.
  std::vector<std::string> dry_breakers = {"\n", ":", "\"", "*"};

  std::vector<std::string> logit_bias;  ///< ID=BIAS

  void add_to(Flags flags);
  /// The options, with the biases, and the breakers' ids when DRY is on.
  SamplerOptions resolve(const Tokenizer& tokenizer) const;
};

}  // namespace qwerky
