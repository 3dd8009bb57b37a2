// SPDX-License-Identifier: MIT
// Finished documents of a task on disk: an interrupted evaluation goes on behind them. One file for each combination of
// model, task, settings and data; documents are in order, so another --limit shares them.
#pragma once

#include <vector>

#include "eval/evaluate.h"
#include "eval/journal_file.h"

namespace qwerky {

class Journal {
 public:
  Journal() = default;  ///< keeps nothing
  /// Reads what earlier runs finished; a line cut by a kill is dropped, and with it all behind it.
  Journal(const Path& folder, const TaskRun& run, const EvalOptions& options);
  const std::vector<Outcome>& finished() const { return finished_; }
  /// Appends documents [begin, begin + outcomes.size()).
  void add(int64_t begin, const std::vector<Outcome>& outcomes);

 private:
  JournalFile file_;
  std::vector<Outcome> finished_;
};

}  // namespace qwerky
