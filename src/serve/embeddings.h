// SPDX-License-Identifier: MIT
// /v1/embeddings: the mean of a text's final hidden rows, of length 1. Computed beside the batcher, on its own thread.
#pragma once

#include <mutex>

#include "serve/exchange.h"

namespace qwerky::serve {

class Embedder {
 public:
  /// mean over the ids of the decoder's rows after the last norm, over its Euclidean length   [D]
  std::vector<float> embed(const Asked& asked, std::span<const int32_t> ids);
  /// Computes and answers. Throws RequestError for what cannot be embedded, and when nobody waits for it any more.
  void answer(const Asked& asked, const EmbeddingRequest& request);

 private:
  std::mutex one_at_a_time_;
  Arena scratch_{"embedding scratch"};
};

}  // namespace qwerky::serve
