// SPDX-License-Identifier: MIT
// What log-likelihood of short texts hides: does a model find what it read long ago, and does it still predict well?
// Needles in haystacks of given lengths and depths, and perplexity by length of context and by position.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/options.h"
#include "io/files.h"
#include "io/tokenizer.h"

namespace qwerky {

/// Needles at one depth of haystacks of one length.
struct RecallCell {
  std::string task;    ///< passkey, niah or niah_multikey
  int64_t length = 0;  ///< tokens of prompt and answer, at most
  double depth = 0;    ///< where the needle is, in percent of the haystack; 100: directly before the question
  int64_t samples = 0, wanted = 0;  ///< finished, and asked for; 0 finished: no value below means anything
  double generated = 0;             ///< share of samples whose greedy answer has the key; chance 0
  double ranked = 0;                ///< share of samples whose right key the needle made likelier than any distractor
  double margin = 0;         ///< by how much: mean gain of the right key less that of the distractors, nats; chance 0
  double loglikelihood = 0;  ///< mean ln p of the right key
  double chance = 0;         ///< of `ranked`
  template <class V>
  void visit(V& v) {
    v("task", task, ""), v("length", length, ""), v("depth", depth, "");
    v("samples", samples, ""), v("wanted", wanted, ""), v("generated", generated, ""), v("ranked", ranked, "");
    v("margin", margin, ""), v("loglikelihood", loglikelihood, ""), v("chance", chance, "");
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

/// Loss of the predictions made at positions `from` to `to` - 1 of what was read.
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
  int64_t last_tokens = 0;                ///< that ppl_by_length scores at the end of each text
  template <class V>
  void visit(V& v) {
    v("seed", seed, ""), v("partial", partial, ""), v("cells", cells, "");
    v("ppl_by_length", by_length, ""), v("ppl_by_position", by_position, ""), v("last_tokens", last_tokens, "");
  }
};

struct RecallOptions {
  std::vector<std::string> tasks = {};                ///< of is_recall_task()
  std::vector<int64_t> lengths = {1024, 4096};        ///< tokens
  std::vector<double> depths = {0, 25, 50, 75, 100};  ///< percent
  int64_t samples = 10;                               ///< needles a cell; texts of ppl_by_length, at most
  uint64_t seed = 1234;
  bool bos = false;                   ///< prompts begin with BOS even where the tokenizer does not ask for it
  std::string haystack = {};          ///< text for niah; empty: made-up sentences
  std::span<const int32_t> ids = {};  ///< one long text for ppl_by_length
  Path journal = {};                  ///< folder of what is finished; empty: none is kept
  std::string model_sha256 = {};      ///< a journal of another model is not gone on with
};

/// passkey, niah, niah_multikey, ppl_by_length
const std::vector<std::string>& recall_tasks();
bool is_recall_task(const std::string& name);

/// "4096", "64k" (of 1024)
int64_t parse_length(const std::string& text);

constexpr int64_t kRecallKeys = 10;  ///< the right key and distractors
constexpr int64_t kAnswerSlack = 8;  ///< tokens that a greedy answer may have besides the key

/// A haystack with its needles, and the question.
struct RecallPrompt {
  std::vector<int32_t> ids;
  std::string key;                         ///< what the question asks for; empty: no greedy answer is wanted
  std::vector<std::vector<int32_t>> keys;  ///< as continuations of `ids`: the right one, then the distractors
  bool answered = false;                   ///< by an earlier run
};

/// Of one task and length. The keys of a sample are the same at every depth and length.
struct RecallPrompts {
  std::vector<RecallPrompt> needles;   ///< by depth, then by sample
  std::vector<RecallPrompt> controls;  ///< by sample: its question and keys, but no needle
};

/// Prompt, answer and slack have at most `length` tokens. Throws where the length leaves no room.
RecallPrompts recall_prompts(const std::string& task, int64_t length, const RecallOptions& options,
                             const Tokenizer& tokenizer);

struct RecallAnswer {
  std::vector<int32_t> greedy;         ///< ids of the answer
  std::vector<double> loglikelihoods;  ///< of the keys, in their order
};

/// What reads. Both call `on_rows` after each part of their work and stop when it returns false.
struct RecallModel {
  using OnRows = std::function<bool(int64_t rows)>;
  using OnAnswer = std::function<void(size_t prompt, const RecallAnswer& answer)>;
  /// Rows that answering these prompts takes, without those that are answered.
  std::function<int64_t(std::span<const RecallPrompt>)> rows;
  /// Answers prompts, in any order, each greedily with at most as many ids as the key has and kAnswerSlack more. Those
  /// that are answered only say where others share what they read: the rest comes out as if all were asked.
  std::function<void(std::span<const RecallPrompt>, const OnRows&, const OnAnswer&)> answer;
  /// -ln p of ids[first, …) given all ids before each; fewer when stopped.
  std::function<std::vector<double>(std::span<const int32_t> ids, int64_t first, const OnRows&)> losses;
};

struct RecallProgress {
  std::string task;
  int64_t length;
  int64_t done, wanted;      ///< answers or texts of this task and length
  int64_t rows, total_rows;  ///< tokens that this run has read, and those that it has to, of all tasks
};

/// `progress` may return false: what is finished is then the result, marked as partial. With a journal, goes on where
/// an earlier run was stopped; the result is that of a run that was not.
Recall measure_recall(const RecallOptions& options, const Tokenizer& tokenizer, const RecallModel& model,
                      const std::function<bool(const RecallProgress&)>& progress);

}  // namespace qwerky
