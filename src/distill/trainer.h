// SPDX-License-Identifier: MIT
// Runs the stages of a recipe: lanes, optimiser, log, validation, checkpoints and exact resume.
#pragma once

#include <atomic>
#include <functional>
#include <limits>

#include "backend/collective.h"
#include "distill/sharded_gradients.h"
#include "distill/stage.h"
#include "distill/steps.h"
#include "engine/measure.h"
#include "engine/model.h"
#include "io/shards.h"

namespace qwerky {

struct TrainStatus {
  const Stage* stage = nullptr;
  int64_t stage_index = 0, step = 0, steps = 0;  ///< steps done in this stage, and its total
  double loss = 0;                               ///< mean per token (and layer, for align) since the last report
  double gradient_norm = 0, rate = 0;
  bool validated = false;  ///< whether the values below were measured for this report
  double validation_kl = std::numeric_limits<double>::quiet_NaN(),
         validation_ratio = std::numeric_limits<double>::quiet_NaN();
  double tokens_per_second = 0, share_of_peak = 0;
  double stage_eta_seconds = 0, eta_seconds = 0;  ///< to the end of this stage, and of the last one
  int64_t memory_bytes = 0;
};

/// FLOP per training token: 6 × the student's matrix elements that run, 2 × the teacher's; head included, recompute not
/// counted. In stage 1 the student's part is its mixers alone.
double flops_per_token(const Stage& stage, const Config& student, const Config* teacher);

/// Blocks as large as the weights that training holds beside them: a gradient for each lane; two moments of AdamW and,
/// where a stage asks for it, the average of the weights, which ranks share.
struct TrainerBlocks {
  explicit TrainerBlocks(const Recipe& recipe);
  int64_t lanes = 1, moments = 2;
};

struct TrainerOptions {
  Path dir;                        ///< checkpoints and log.jsonl; made if absent
  Json settings;                   ///< everything that must be equal for a resume
  double checkpoint_seconds = 60;  ///< between checkpoints, at least
  int64_t report_steps = 20;
  int64_t validate_reports = 10;  ///< validation every so many reports; 0: never
  int64_t validation_tokens = 8192;
  double peak_gflops = 0;                 ///< for the share of peak; 0: not shown
  std::vector<double> step_seconds = {};  ///< expected, of each stage, for the time left; may be empty
  std::function<void(const TrainStatus&)> report;
  const std::atomic<bool>* stop = nullptr;  ///< set by a signal handler: save and return
  int64_t stop_after_steps = 0;             ///< for tests: as if stopped after so many steps of this call
  Collective* ranks = &one_process();       ///< they share the windows of a step and the optimiser's state
  bool optimiser_on_host = false;           ///< moments and average stay in the host's memory where a device computes
  bool gradients_over_ranks = false;        ///< each holds what it owns; all make the same passes
  bool teacher_over_ranks = false;          ///< its layers are gathered from all ranks, which make the same passes
};

enum class RunEnd { finished, interrupted };

class Trainer {
 public:
  /// `student` was made for training by this rank of as many as there are. `teacher` may be null when no stage needs
  /// one; `validation` may be null.
  ///
  /// With several ranks each computes its share of a step's windows, gradients are summed to the rank that owns their
  /// part of the weights, which updates its masters and moments, and the weights are gathered again (ZeRO,
  /// arXiv 1910.02054). Losses are those of one rank up to rounding. Each rank writes what it owns; `dir` is the same
  /// for all, and a run may go on with another number of ranks.
  Trainer(const Backend& on, Model& student, const Model* teacher, const TokenStream& train,
          const TokenStream* validation, const Recipe& recipe, TrainerOptions options);

  /// Throws when a checkpoint in `dir` was made with other settings. Those of the data, "data" and "training_tokens",
  /// may be absent where they are not known yet.
  static void check_settings(const Path& dir, const Json& settings);
  /// True when a checkpoint was found and loaded; an Error when it was made with other settings.
  bool resume();
  /// Runs what is left. `before_stage(index)` is called when a stage starts at its first step.
  RunEnd run(const std::function<void(int64_t stage)>& before_stage = nullptr);
  /// Seconds per step of one stage, measured on `steps` steps without changing anything, the updates left out. Scratch
  /// memory starts anew.
  double measure_step_seconds(const Stage& stage, int64_t steps);
  /// How many stages a checkpoint in `dir` has behind it; 0 when there is none that can be read.
  static int64_t finished_stages(const Path& dir);

  int64_t memory_bytes() const;
  /// The most all lanes have held at once.
  int64_t scratch_bytes() const;
  /// Gradients, moments and average.
  int64_t optimiser_bytes() const {
    return memory_.peak_bytes() + state_memory_.peak_bytes() + (sharded_ ? sharded_->bytes() : 0);
  }

 private:
  struct Run {  // consecutive weights of one type that share a rate
    Range at;
    bool mixer;
  };
  void prepare(const Stage& stage);
  /// Stages begin with none, so that each takes what it takes alone.
  void renew_scratch();
  double step(const Stage& stage, int64_t index, int64_t step);
  double lane_step(const Stage& stage, int64_t index, int64_t step, int64_t lane, std::span<const int32_t> tokens,
                   double weight);
  void update(const Stage& stage, int64_t step);
  [[noreturn]] void diverged(const Stage& stage, int64_t step, const std::string& what) const;
  /// After that step, on all ranks.
  void check_weights(const Stage& stage, int64_t step) const;
  void save(int64_t stage, int64_t step);
  void validate(const Stage& stage, TrainStatus& status) const;
  std::vector<Run> runs_of(const Stage& stage, const Params::Which& which) const;
  /// What this rank owns of runs.
  std::vector<Run> owned_of(const std::vector<Run>& runs) const;
  /// Weights everywhere become what their owners' masters are.
  void share_weights(const std::vector<Run>& runs);
  /// ‖x‖₂ over all ranks of what trains; part(at) is this rank's.
  double norm_of_owned(const std::function<Tensor(Range at)>& part) const;
  /// Sums over ranks, of which each has what it owns.
  void sum_gradients();
  void zero_gradients();
  /// Of what this rank owns.
  Tensor gradient(Range at) const { return sharded_ ? owned_part(sharded_->sums(), at) : part(gradients_[0], at); }
  static Tensor part(Tensor block, Range at) { return block.rows(at.begin, at.count); }
  /// Of moments, average and sharded gradients, of which this rank holds what it owns alone.
  Tensor owned_part(Tensor state, Range at) const { return state.rows(at.begin - owned_.begin, at.count); }
  Path targets_dir() const { return options_.dir / "targets"; }

  const Backend& on_;
  Model& student_;
  const Model* teacher_;
  const TokenStream& train_;
  const TokenStream* validation_;
  Recipe recipe_;
  TrainerOptions options_;
  const Range owned_;                              // by this rank, of the student's block
  Arena memory_{"gradients"}, state_memory_;       // of moments and average
  std::vector<std::unique_ptr<Arena>> scratch_;    // per lane
  int64_t scratch_before_ = 0;                     // the most of stages before this one
  std::vector<Tensor> gradients_;                  // per lane; or
  std::unique_ptr<ShardedGradients> sharded_;      // of all lanes
  Tensor first_moment_, second_moment_, average_;  // of what this rank owns
  std::vector<Run> runs_;
  int64_t stage_ = 0, step_ = 0, averaged_ = 0;
  double loss_sum_ = 0;                   // since the last report
  int64_t loss_steps_ = 0, reports_ = 0;  // of this sum; in this stage
  double gradient_norm_ = 0;
};

}  // namespace qwerky
