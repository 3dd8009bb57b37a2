// SPDX-License-Identifier: MIT
// Continuous batching: many sequences read and written together, one decoder call a step.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/constraint.h"
#include "engine/engine.h"
#include "engine/logprobs.h"
#include "engine/snapshot.h"
#include "engine/state_cache.h"

namespace qwerky {

/// refused: what was asked cannot be enforced (TooManyWays).
enum class Finish { length, end_of_text, stopped, cancelled, deadline, refused, failed };

struct Usage {
  int64_t prompt_tokens = 0, reused_tokens = 0, generated_tokens = 0;
  double queued_seconds = 0, prefill_seconds = 0, decode_seconds = 0;
};

/// Token ids that several generations share.
class SharedIds {
 public:
  SharedIds() : SharedIds(std::vector<int32_t>()) {}
  SharedIds(std::initializer_list<int32_t> ids) : SharedIds(std::vector<int32_t>(ids)) {}
  SharedIds(std::vector<int32_t> ids) : ids_(std::make_shared<const std::vector<int32_t>>(std::move(ids))) {}
  operator const std::vector<int32_t>&() const { return *ids_; }
  auto begin() const { return ids_->begin(); }
  auto end() const { return ids_->end(); }
  size_t size() const { return ids_->size(); }

 private:
  std::shared_ptr<const std::vector<int32_t>> ids_;
};

/// One text to read and go on with.
struct Generation {
  std::string owner;                ///< whose snapshots it may find and leave
  SharedIds prompt;                 ///< not empty
  std::vector<int64_t> boundaries;  ///< lengths of beginnings of the prompt to keep snapshots of, ascending; where
                                    ///< cuts matter (docs/batching.md), a multiple of 16 or 128 below is meant
  SnapshotPtr start;                ///< goes on from here (prompt comes after it); null: from the beginning
  int64_t max_tokens = 16;          ///< 0: only read
  bool stop_at_end = true;          ///< at an end-of-text id, which is then not emitted
  SamplerOptions sampler;
  std::unique_ptr<Constraint> constraint;
  int prompt_logprobs = -1;  ///< likeliest ids to tell for each position of the prompt; -1: none at all
  int logprobs = -1;         ///< the same for each generated id; -1: NaN
  bool reuse = true;         ///< may start from a snapshot of the cache
  bool keep_end = true;      ///< makes a snapshot of all it has read, and leaves it in the cache
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();

  // Called on the thread that steps; must not block, must not throw.
  std::function<void(std::vector<Logprobs>)> on_prompt;  ///< once, one entry per prompt token
  std::function<bool(const Logprobs&)> on_token;         ///< false: stop
  /// When no more is written: how many of the ids that were written `end` is to have read. None: all that needed
  /// reading, which the last did not.
  std::function<int64_t()> on_last;
  /// Once, always. What was written is whole when only on_last's reading failed or came too late: then `end` is null.
  std::function<void(Finish, const Usage&, SnapshotPtr end, const std::string& error)> on_end;
};

struct BatcherOptions {
  int64_t parallel = 64;       ///< sequences that run at once
  int64_t queue = 512;         ///< that wait; more are refused
  bool fair = false;           ///< several owners: one may hold at most as many places as it leaves free
  int64_t prefill_rows = 256;  ///< rows of prompts in one step, so that nobody's next token waits for longer
  int64_t capacity = 0;        ///< tokens a sequence may hold; 0: the model's limit, or unlimited
};

struct BatcherCounts {
  int64_t running = 0, waiting = 0, finished = 0, refused = 0;
  int64_t prompt_tokens = 0, generated_tokens = 0, steps = 0;
};

/// A sequence's results never depend on what runs beside it: where its rows are cut into segments is a function of its
/// prompt and boundaries alone.
class Batcher {
 public:
  /// All must outlive it. `cache` may be null.
  Batcher(const Engine& engine, StateCache* cache, const BatcherOptions& options);
  ~Batcher();

  using Id = uint64_t;
  // From any thread.
  /// Nothing when the queue is full, or what the owner may hold of it, or when no more is admitted: then nothing is
  /// called. Throws Error for ids outside the vocabulary, an empty prompt, too many tokens for the capacity, or sampler
  /// options out of range.
  std::optional<Id> submit(Generation&& generation);
  void cancel(Id id);
  BatcherCounts counts() const;
  int64_t most_at_once() const;  ///< that one owner may have running and waiting
  void stop();                   ///< run() returns; what is not finished ends as cancelled
  /// No more is admitted; run() returns when all is finished.
  void drain();

  // From one thread.
  bool step();  ///< one decoder call over all that run; false when there is nothing to do
  void run();   ///< steps, sleeps while there is nothing to do, until stop() or drain()

 private:
  struct Sequence;
  struct Internals;
  std::unique_ptr<Internals> internals_;
};

}  // namespace qwerky
