// SPDX-License-Identifier: MIT
// Answers of recall tasks on disk: a run that was stopped goes on behind them.
#pragma once

#include <map>
#include <string>

#include "eval/journal_file.h"
#include "eval/recall.h"

namespace qwerky {

/// One file for a model. Answers are found by the SHA-256 of all that was read and asked: tasks, lengths, depths, seed,
/// text and vocabulary count by the ids that they lead to, so further samples or lengths share what is finished.
class RecallJournal {
 public:
  RecallJournal() = default;  ///< keeps nothing
  RecallJournal(const Path& folder, const std::string& model_sha256);

  /// Null where it is not answered yet.
  const RecallAnswer* find(const std::string& key) const;
  void add(const std::string& key, const RecallAnswer& answer);

 private:
  JournalFile file_;
  std::map<std::string, RecallAnswer> answers_;
};

/// Of a prompt, the keys that are scored behind it, and whether a greedy answer is wanted.
std::string journal_key(const RecallPrompt& prompt);
/// Of a text whose ids from `first` on are scored.
std::string journal_key(std::span<const int32_t> ids, int64_t first);

}  // namespace qwerky
