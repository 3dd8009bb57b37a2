// SPDX-License-Identifier: MIT
// Text corpora, tokenised once into memory-mapped shards; which tokens a training step sees is a pure
// function of (seed, step).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "io/files.h"
#include "io/tokenizer.h"

namespace qwerky {

/// Documents of a corpus. `inputs` are files or directories (searched recursively, sorted): .txt, .jsonl
/// (one object per line, text under `field`), each optionally .zst. A .txt is split at "<|endoftext|>" lines if it
/// has any, else it is one document. Invalid UTF-8, an empty corpus, a malformed line: an Error naming file and line.
/// `each` gets every document in order.
struct CorpusOptions {
  std::vector<Path> inputs;
  std::string field = "text";
};
void read_corpus(const CorpusOptions& options, const std::function<void(std::string&& document)>& each);

struct ShardOptions {
  CorpusOptions corpus;
  int64_t holdout_tokens = 0;          ///< the last tokens of the corpus, kept for validation
  std::vector<Path> exclude_overlap;   ///< texts: documents that share a run of `overlap_chars` characters with any are dropped
  int64_t overlap_chars = 100;
};

/// One stream of token ids, mapped from disk: documents joined by EOS (BOS in front where the model adds it).
class TokenStream {
 public:
  explicit TokenStream(const Path& file);
  explicit TokenStream(std::vector<int32_t> tokens);
  std::span<const int32_t> tokens() const { return tokens_; }
  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }
  const std::string& hash() const { return hash_; }

  /// Fills `count` windows of `length` tokens for training step `step`: windows are non-overlapping chunks of the
  /// stream at a per-epoch random offset, in an order that is a permutation per epoch; the same (seed, step) gives
  /// the same windows always. out: [count][length].
  void windows(uint64_t seed, int64_t step, int64_t count, int64_t length, int32_t* out) const;

 private:
  std::unique_ptr<MappedFile> file_;
  std::vector<int32_t> own_;
  std::span<const int32_t> tokens_;
  std::string hash_;
};

struct Shards {
  std::unique_ptr<TokenStream> train, validation;
  int64_t documents = 0, dropped = 0;  ///< dropped for overlap with exclude_overlap
  std::string corpus_hash;             ///< SHA-256 over the documents
};

/// Tokenises into `cache_dir` (or reads what is there when corpus files, options and tokenizer are the same: a
/// manifest with sizes, times and hashes decides). Progress: `progress(bytes_done, bytes_total)`.
Shards prepare_shards(const ShardOptions& options, const Tokenizer& tokenizer, const Path& cache_dir,
                      const std::function<void(int64_t, int64_t)>& progress = nullptr);

/// Token ids from text: one sequence of decimal ids per line, separated by spaces or commas.
std::vector<std::vector<int32_t>> read_token_lines(const Path& file, int64_t vocab_size);

}  // namespace qwerky
