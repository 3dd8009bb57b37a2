// SPDX-License-Identifier: MIT
// A loaded model as what answers an evaluation: text to ids as lm-eval's `hf` model does it, then the engine's shared
// states.
#pragma once

#include <memory>

#include "engine/continuations.h"
#include "engine/engine.h"
#include "eval/evaluate.h"

namespace qwerky {

struct ModelScorerOptions {
  int64_t max_length = 0;  ///< ids a model may read, longer requests lose their beginning; 0: what config.json says
  bool share = true;       ///< false: every request runs alone from its beginning
  bool bos = false;        ///< begin every context with the model's BOS
  int64_t generate = 256;  ///< most new ids of a text whose request does not say
  int64_t side_by_side = kWrittenAtOnce;
  std::function<void()> before_call = {};  ///< of the model: may throw Interrupted
};

class ModelScorer {
 public:
  /// `engine` must outlive this and have a tokenizer.
  ModelScorer(const Engine& engine, const ModelScorerOptions& options);

  /// Must not outlive this.
  Scorer scorer();
  /// Context and continuation as ids: trailing white space of the context belongs to the continuation, and the
  /// continuation's ids are those of the joined text behind as many as the context has.
  Continuation split(const Request& request) const;

  /// Tells apart what may answer differently: models, tokenizers, backends, precisions and the options that change what
  /// is read.
  std::string fingerprint() const;

  int64_t max_length() const { return max_length_; }
  /// Of contexts: as if nothing were shared, and as it was.
  int64_t rows_asked() const { return continuations_.rows_asked() + prompts_asked_; }
  int64_t rows_run() const { return continuations_.rows_run() + prompts_run_; }
  /// Of all that answering took, the part that the model computed: not tokens, trees, copied states.
  double model_seconds() const { return continuations_.model_seconds() + writing_seconds_; }

 private:
  std::vector<Answer> loglikelihood(std::span<const Request> requests);
  std::vector<double> rolling(std::span<const std::string> texts);
  std::vector<Written> generate(std::span<const GenerateRequest> requests);
  int32_t prefix_id() const;

  const Engine& engine_;
  const Model& model_;
  const Backend& on_;
  ModelScorerOptions options_;
  int64_t max_length_;
  ContinuationScorer continuations_;
  int64_t prompts_asked_ = 0, prompts_run_ = 0;
  double writing_seconds_ = 0;
};

}  // namespace qwerky
