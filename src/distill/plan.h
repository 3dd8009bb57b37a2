// SPDX-License-Identifier: MIT
// What a run will take, measured on made-up tokens before anything is read, sampled or written.
#pragma once

#include <atomic>
#include <functional>

#include "distill/stage.h"
#include "engine/model.h"

namespace qwerky {

/// One line of news for the user; `final` lines stay, others overwrite each other.
using Say = std::function<void(const std::string& line, bool final)>;

struct PlanInput {
  const Backend& on;
  const Recipe& recipe;
  const Config& student;
  const Model* teacher;   ///< null when the recipe needs none
  double peak_gflops;     ///< of the precision used
  int64_t corpus_tokens;  ///< about so many tokens of text, the held-out ones included
  int64_t shard_bytes;    ///< on disk for them while they are made
  int64_t scalar_bytes;   ///< of a stored weight of the result
  Path out;
  bool optimiser_on_host = false;
  bool gradients_over_ranks = false;
  int64_t teacher_shard_bytes = 0;  ///< of its layers that a rank will hold, not in memory yet
  Sharding sharding = {};           ///< among ranks that share each step's windows, as fast as this one
  int ranks_on_this_machine = 1;
  double stage_seconds = 5;  ///< about what measuring a stage may take
};

struct Plan {
  std::vector<double> step_seconds;  ///< of each stage
  int64_t memory_bytes = 0;          ///< the most a rank of the run holds beside the teacher
  int64_t disk_bytes = 0;
};

/// Prints parameters, tokens, rates, time, memory per arena and disk. Rates and scratch memory come from real steps on
/// a student of its own, on shorter or fewer windows where whole steps would take long. Throws when the run needs more
/// memory than is available, more disk than is free or more than ten years, and Interrupted when `stop` is set.
Plan make_plan(const PlanInput& in, const Say& say, const std::atomic<bool>& stop);

}  // namespace qwerky
