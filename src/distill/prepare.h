// SPDX-License-Identifier: MIT
// The text of a run as token shards in OUT/data: tokenised from files, or drawn from the teacher.
#pragma once

#include "distill/convert.h"
#include "io/shards.h"

namespace qwerky {

constexpr int64_t kMostHeldOut = 200'000;  ///< tokens of the held-out part that are used

struct RunData {
  Shards shards;
  std::string name;  ///< for the record
};

CorpusOptions corpus_of(const RunOptions& options);
/// About how many tokens options.data hold. Throws for data and exclude that cannot be used, as far as a look at their
/// beginnings shows.
int64_t check_text(const RunOptions& options);

// All that follow throw Interrupted when `stop` is set while they work.

/// The first documents of a text, of at most about `most` bytes (one alone may be longer), for a tokenizer.
struct Beginning {
  std::string text;
  bool whole = true;  ///< there is no more
};
Beginning beginning_of_text(const CorpusOptions& corpus, size_t most, const std::atomic<bool>& stop);

/// Gets the hashes of data and training tokens before those that are there are replaced; it may throw.
using Accept = std::function<void(const std::string& data, const std::string& training_tokens)>;

/// Tokenises options.data.
RunData read_data(const RunOptions& options, const Tokenizer& tokenizer, const Accept& accept, const Say& say,
                  const std::atomic<bool>& stop);
/// `tokens` ids in texts of at most `length`, the last 5 % held out.
RunData sample_data(const Path& out, const Model& teacher, const Backend& on, int64_t tokens, int64_t length,
                    uint64_t seed, const Accept& accept, const Say& say, const std::atomic<bool>& stop);

/// A digest of the configuration and every tensor.
std::string fingerprint(const Model& model);

}  // namespace qwerky
