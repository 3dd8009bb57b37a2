// SPDX-License-Identifier: MIT
// lm-eval's generation_kwargs: where a generated text ends, how long it may be, how its ids are drawn.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "qwerky/qwerky.h"

namespace qwerky {

/// "KEY=VALUE,…" as lm-eval's --gen_kwargs reads it: true, false, whole numbers, numbers, else texts. A key that is not
/// supported is an Error.
OrderedJson parse_gen_kwargs(const std::string& text);

struct GenerationArguments {
  std::vector<std::string> stops;  ///< the text ends before the first of these
  int64_t most = 0;                ///< new ids; 0: what the scorer takes
  SamplerOptions sampler;          ///< of temperature 0 unless do_sample
};

/// What kwargs mean, a task's own with those of --gen-kwargs in their place. Throws Error where a value does not fit.
GenerationArguments generation_of(const OrderedJson& kwargs);

}  // namespace qwerky
