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

/// Documents of a corpus. `inputs` are files or directories (searched recursively, sorted): .txt, .jsonl (one
/// object per line, text under `field`), each optionally .zst. A .txt is cut at every "<|endoftext|>" and, as long
/// as it has shown none, before lines that begin with one of `split_before`; line ends around a document are
/// dropped, blank documents skipped, and what exceeds 64 MiB is cut at a line end. Read as a stream whatever the size.
struct CorpusOptions {
  std::vector<Path> inputs = {};
  std::string field = "text";
  std::vector<std::string> split_before = {};  ///< for .txt without separators, e.g. {"Once upon a time", "Chapter "}
  Path leave_out = {};  ///< a directory whose files are none of the corpus, though it may lie below an input
};
/// Takes a document; false when it is the last that is wanted.
using EachDocument = std::function<bool(std::string&& document)>;
/// `each` gets the documents in order; whether it wanted all. Invalid UTF-8, a malformed or truncated file, a missing
/// field: an Error naming file and line; no text at all is an Error too.
bool read_corpus(const CorpusOptions& options, const EachDocument& each);

/// The same errors as far as the beginnings of the files show them: the first MiB of each, 256 MiB in all.
void check_corpus(const CorpusOptions& options);

/// About how many tokens the files hold, from their sizes alone. Throws as read_corpus when an input is absent or of an
/// unknown kind.
int64_t estimate_tokens(const CorpusOptions& options);

struct ShardOptions {
  CorpusOptions corpus;
  int64_t holdout_tokens = 0;  ///< the last tokens of the corpus, kept for validation
  /// Training documents that share a run of 100 characters with these, or with what is held out, are dropped.
  std::vector<Path> exclude_overlap = {};
  /// Gets the hashes of corpus and training tokens before shards that are there are replaced; it may throw.
  std::function<void(const std::string& corpus, const std::string& train)> accept = nullptr;
};

/// What stands before and after each document in a stream: BOS where the model adds it; EOS (<|endoftext|> where a chat
/// model has several) unless the BOS itself separates texts (llama2.c).
struct DocumentFrame {
  std::optional<int32_t> begin, end;
};
DocumentFrame document_frame(const Tokenizer& tokenizer);

/// One stream of token ids, mapped from disk: each document is BOS where the model adds it, its tokens, EOS.
class TokenStream {
 public:
  explicit TokenStream(const Path& file);  ///< throws unless the file is whole and its SHA-256 holds
  explicit TokenStream(std::vector<int32_t> tokens);
  /// As the constructor, but null for a file that is not a whole shard.
  static std::unique_ptr<TokenStream> open(const Path& file);
  std::span<const int32_t> tokens() const { return tokens_; }
  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }
  const std::string& hash() const { return hash_; }

  /// Fills `count` windows of `length` tokens for training step `step`. An epoch is size()/length windows: the
  /// stream, closed to a ring, is cut at a random place and every `length` tokens from there, and the windows come
  /// in a random order. A pure function of (seed, step, count, length). out: [count][length]. Throws when the
  /// stream is shorter than one window.
  void windows(uint64_t seed, int64_t step, int64_t count, int64_t length, int32_t* out) const;

 private:
  std::unique_ptr<MappedFile> file_;
  std::vector<int32_t> own_;
  std::span<const int32_t> tokens_;
  std::string hash_;
};

struct Shards {
  std::unique_ptr<TokenStream> train, validation;  ///< validation is null without a holdout
  int64_t documents = 0;                           ///< read
  int64_t dropped = 0;                             ///< of these, left out of training for overlap
  std::string corpus_hash;                         ///< SHA-256 over the documents
};

/// Tokenises into `cache_dir` (train.tokens, validation.tokens, manifest.json), or reads what is there when corpus
/// files, options and tokenizer are the same and the shards are whole. A document that the border of the holdout
/// cuts keeps its first part in training unless that overlaps. Progress: `progress(bytes_done, bytes_total)` of the
/// files.
Shards prepare_shards(const ShardOptions& options, const Tokenizer& tokenizer, const Path& cache_dir,
                      const std::function<void(int64_t, int64_t)>& progress = nullptr);

/// Token ids from text: one sequence of at least two decimal ids per line, separated by spaces or commas; blank lines
/// are skipped.
std::vector<std::vector<int32_t>> read_token_lines(const Path& file, int64_t vocab_size);
std::vector<std::vector<int32_t>> parse_token_lines(std::string_view text, int64_t vocab_size, const std::string& name);

}  // namespace qwerky
