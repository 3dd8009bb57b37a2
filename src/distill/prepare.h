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

/// Tokenises options.data. Both throw Interrupted when `stop` is set while they work.
RunData read_data(const RunOptions& options, const Tokenizer& tokenizer, const Say& say, const std::atomic<bool>& stop);
/// `tokens` ids in texts of at most `length`, the last 5 % held out.
RunData sample_data(const Path& out, const Model& teacher, const Backend& on, int64_t tokens, int64_t length,
                    uint64_t seed, const Say& say, const std::atomic<bool>& stop);

/// A digest of the configuration and every tensor.
std::string fingerprint(const Model& model);

}  // namespace qwerky
