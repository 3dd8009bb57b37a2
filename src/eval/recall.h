// SPDX-License-Identifier: MIT
// What log-likelihood of short texts hides: does a model find what it read long ago, and does it still predict well?
// Needles in haystacks of given lengths and depths, and perplexity by length of context and by position.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/options.h"
#include "io/tokenizer.h"

namespace qwerky {

/// Needles at one depth of haystacks of one length.
struct RecallCell {
  std::string task;    ///< passkey, niah or niah_multikey
  int64_t length = 0;  ///< tokens of prompt and answer, at most
  double depth = 0;    ///< where the needle is, in percent of the haystack; 100: directly before the question
  int64_t samples = 0, wanted = 0;  ///< finished, and asked for; 0 finished: no value below means anything
  double generated = 0;             ///< share of samples whose greedy answer has the key; chance 0
  double ranked = 0;                ///< share of samples whose right key is likelier than every distractor
  double share = 0;                 ///< mean p(right) / Σ p over right key and distractors
  double loglikelihood = 0;         ///< mean ln p of the right key
  double chance = 0;                ///< of `ranked`, and of `share` for a model that sees no difference
  template <class V>
  void visit(V& v) {
    v("task", task, ""), v("length", length, ""), v("depth", depth, "");
    v("samples", samples, ""), v("wanted", wanted, ""), v("generated", generated, ""), v("ranked", ranked, "");
    v("share", share, ""), v("loglikelihood", loglikelihood, ""), v("chance", chance, "");
  }
};

/// Loss on the last tokens of texts of one length; the same tokens for every length, only what precedes them is longer.
struct LengthLoss {
  int64_t length = 0, tokens = 0;  ///< tokens: scored, 0 when none is finished
  double nll = 0, perplexity = 0;  ///< mean -ln p, and its exponential
  template <class V>
  void visit(V& v) {
    v("length", length, ""), v("tokens", tokens, ""), v("nll", nll, ""), v("perplexity", perplexity, "");
  }
};

/// Loss on tokens with `from` to `to` - 1 tokens before them that the model read.
struct PositionLoss {
  int64_t from = 0, to = 0, tokens = 0;
  double nll = 0, perplexity = 0;
  template <class V>
  void visit(V& v) {
    v("from", from, ""), v("to", to, ""), v("tokens", tokens, "");
    v("nll", nll, ""), v("perplexity", perplexity, "");
  }
};

/// to_json() and from_json() are those of base/options.h.
struct Recall {
  uint64_t seed = 0;
  bool partial = false;                   ///< stopped before its end
  std::vector<RecallCell> cells;          ///< by task, length, depth as they were asked for
  std::vector<LengthLoss> by_length;      ///< of ppl_by_length
  std::vector<PositionLoss> by_position;  ///< of its reads of the longest length
  template <class V>
  void visit(V& v) {
    v("seed", seed, ""), v("partial", partial, ""), v("cells", cells, "");
    v("ppl_by_length", by_length, ""), v("ppl_by_position", by_position, "");
  }
};

struct RecallOptions {
  std::vector<std::string> tasks;
  std::vector<int64_t> lengths;
  std::vector<double> depths = {0, 25, 50, 75, 100};  ///< percent
  int64_t samples = 10;                               ///< a cell; windows of ppl_by_length
  uint64_t seed = 1234;
  bool bos = false;        ///< prompts begin with BOS even where the tokenizer does not ask for it
  bool share = true;       ///< false: every prompt is read alone from its beginning
  int64_t max_length = 0;  ///< longest length that is allowed; 0: what the model is made for
};

}  // namespace qwerky
