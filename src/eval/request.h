// SPDX-License-Identifier: MIT
// What an evaluation asks of a model: how likely is this continuation after this context?
#pragma once

#include <string>

namespace qwerky {

struct Request {
  std::string context, continuation;
};

struct Answer {
  double loglikelihood;    ///< Σ log p of the continuation's tokens, natural log
  bool greedy;             ///< each of its tokens is the first most likely one
  bool truncated = false;  ///< the request was too long and lost its beginning
  bool cut = false;        ///< and more than the context, so some of the continuation was not scored
};

/// What a model wrote.
struct Written {
  std::string text;
  bool truncated = false;  ///< the prompt was too long and lost its beginning
};

}  // namespace qwerky
