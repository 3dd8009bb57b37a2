// SPDX-License-Identifier: MIT
#include "distill/plan.h"

#include <cmath>
#include <iomanip>

#include "base/random.h"
#include "base/units.h"
#include "distill/initialise.h"
#include "distill/trainer.h"

namespace qwerky {
namespace {

constexpr int64_t kFirstRows = 128;  // rows of the first probe
constexpr int64_t kMadeUpTokens = 1 << 16;
constexpr double kMostSeconds = 10 * 365.25 * 86400;  // ten years: a slip of the keyboard, not a plan

struct Cost {
  double step_seconds = 0;
  int64_t scratch_bytes = 0;
  std::string measured;  // "" when whole steps were measured
};

/// Steps of all ranks, of which this one's part is measured, that grow, first in the length of a window, then in
/// windows, up to the stage's own shape as long as time and memory allow. Beyond that, time is proportional to tokens,
/// and scratch memory goes on along its last slope.
Cost measure_stage(Trainer& trainer, const Stage& stage, int ranks, int64_t scratch_left, double budget,
                   const std::atomic<bool>& stop) {
  const int64_t lanes = stage.lanes * ranks, a_lane = (stage.batch + lanes - 1) / lanes;
  const int64_t at_once = stage.windows_at_once > 0 ? std::min(stage.windows_at_once, a_lane) : a_lane;
  const double all_rows = static_cast<double>(at_once * stage.context);
  Stage probe = stage;
  probe.windows_at_once = 0;
  probe.context = std::min(stage.context, kFirstRows);
  Cost cost;
  double rows_before = 0, bytes_before = 0;
  for (int64_t windows = 1;;) {
    if (stop) throw Interrupted();
    probe.batch = lanes * windows;
    double seconds = trainer.measure_step_seconds(probe, 1);
    const bool whole = windows == at_once && probe.context == stage.context;
    if (whole)
      seconds = trainer.measure_step_seconds(probe, std::clamp<int64_t>(std::llround(budget / 4 / seconds), 1, 5));
    const double rows = static_cast<double>(windows * probe.context),
                 bytes = static_cast<double>(trainer.scratch_bytes());
    const double slope = std::max(0.0, (bytes - bytes_before) / (rows - rows_before));
    cost.scratch_bytes = static_cast<int64_t>(bytes + slope * (all_rows - rows));
    cost.step_seconds =
        seconds * static_cast<double>(stage.batch * stage.context) / static_cast<double>(probe.batch * probe.context);
    if (!whole) cost.measured = concat(probe.batch, " × ", probe.context);
    if (whole) cost.measured.clear();
    if (whole || 6 * seconds > budget || cost.scratch_bytes > scratch_left) return cost;
    rows_before = rows, bytes_before = bytes;
    if (probe.context < stage.context) {
      probe.context = std::min(2 * probe.context, stage.context);
    } else {
      windows = std::min(2 * windows, at_once);
    }
  }
}

TokenStream made_up_tokens(const Recipe& recipe, int64_t vocab) {
  int64_t count = kMadeUpTokens;
  for (const Stage& s : recipe.stages) count = std::max(count, s.context + 1);
  std::vector<int32_t> ids(static_cast<size_t>(count));
  const Random random(1, hash_name("made-up tokens"));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(random.below(i, static_cast<uint64_t>(vocab)));
  return TokenStream(std::move(ids));
}

}  // namespace

Plan make_plan(const PlanInput& in, const Say& say, const std::atomic<bool>& stop) {
  const Recipe& recipe = in.recipe;
  const int64_t available = available_memory_bytes() / in.ranks_on_this_machine;  // the teacher is in memory already
  const TrainerBlocks blocks(recipe);
  const int ranks = in.sharding.ranks;
  Params declared;
  const Decoder shape(in.student, declared);  // declares without memory
  int64_t own = 0;
  const auto owned = owned_by_student(in.student, recipe, in.teacher);
  declared.each([&](const Param& p) { own += owned(p) ? p.count() : 0; });
  const int64_t least = training_weight_bytes(declared, in.student, owned, in.sharding);
  const int64_t growth = shape.state_scalars_per_token();
  say(concat("plan: ", in.teacher ? "student" : "model", " of ", declared.count(), " parameters in ", in.student.layers,
             " layers, ", own < declared.count() ? concat(declared.count() - own, " of them the teacher's, ") : "",
             "state ", bytes_text(4 * shape.state_scalars(0)),
             growth > 0 ? concat(" and ", 4 * growth, " B a token") : "", " per sequence"),
      true);
  const bool on_host = in.optimiser_on_host && device_memory() != nullptr;
  const int64_t gradients = 4 * own * (in.gradients_over_ranks ? 1 : blocks.lanes * ranks) / ranks;
  if (const int64_t need = least + gradients + (on_host ? 0 : 4 * own * blocks.moments / ranks); need > available)
    fail("plan: training needs ", bytes_text(need), " for weights, gradients and optimiser alone (", own,
         " parameters, ", blocks.lanes, " lanes); this machine has ", bytes_text(available), " available");

  const auto student = in.teacher ? make_student(in.student, recipe, *in.teacher, in.sharding)
                                  : make_model(in.student, nullptr, in.sharding);
  if (in.teacher) {
    copy_from_teacher(*student, *in.teacher);
    init_published(*student, recipe.seed);
  } else {
    init_random(*student, recipe.seed);
  }
  const TokenStream tokens = made_up_tokens(recipe, in.student.vocab);
  const std::unique_ptr<Collective> among_ranks = first_of(ranks);
  Trainer trainer(in.on, *student, in.teacher, tokens, nullptr, recipe,
                  {.dir = {},
                   .settings = {},
                   .report = nullptr,
                   .ranks = among_ranks.get(),
                   .optimiser_on_host = in.optimiser_on_host,
                   .gradients_over_ranks = in.gradients_over_ranks});
  const int64_t weights = student->weights->peak_bytes(), block = size_of(DType::f32) * student->params.block_count(),
                optimiser = trainer.optimiser_bytes(), held = weights + optimiser,
                elsewhere = on_host ? blocks.moments * block / ranks : 0;

  Plan plan;
  double seconds = 0;
  int64_t scratch = 0, trained_tokens = 0, targets = 0;
  for (size_t i = 0; i < recipe.stages.size(); ++i) {
    const Stage& s = recipe.stages[i];
    const Cost cost = measure_stage(trainer, s, ranks, available - held + elsewhere, in.stage_seconds, stop);
    const double stage_seconds = cost.step_seconds * static_cast<double>(s.steps());
    const double rate = static_cast<double>(s.batch * s.context) / cost.step_seconds;
    const double gflops = rate * flops_per_token(s, in.student, in.teacher ? &in.teacher->config() : nullptr) * 1e-9;
    plan.step_seconds.push_back(cost.step_seconds);
    seconds += stage_seconds;
    if (seconds > kMostSeconds)
      fail("plan: with the ", s.tokens, " tokens of stage ", s.name, " the run takes ", std::fixed,
           std::setprecision(0), seconds / 3600, " h at the measured ", rate,
           " tokens/s; more than ten years are refused: lower that number (--set stages.", i, ".tokens=1e9)");
    scratch = std::max(scratch, cost.scratch_bytes);
    trained_tokens += s.steps() * s.batch * s.context;
    if (s.cache_targets) targets += TargetCache::bytes(in.teacher->config(), s.unique_steps() * s.batch * s.context);
    say(concat("plan: stage ", s.name, ": ", s.tokens, " tokens in ", s.steps(), " steps of ", s.batch, " × ",
               s.context, ", ", std::fixed, std::setprecision(0), rate, " tokens/s (", 100 * gflops / in.peak_gflops,
               " % of the measured peak)", cost.measured.empty() ? "" : ", from steps of " + cost.measured, ", ",
               duration_text(stage_seconds), ", scratch ", bytes_text(cost.scratch_bytes)),
        true);
  }
  plan.memory_bytes = held + scratch;
  const int64_t teacher = in.teacher ? in.teacher->weight_bytes() + in.teacher_shard_bytes : 0;
  say(concat("plan: memory ", bytes_text(plan.memory_bytes + teacher), ": weights ", bytes_text(weights),
             in.teacher ? ", teacher " + bytes_text(teacher) : "", ", gradients and optimiser ", bytes_text(optimiser),
             ", scratch ", bytes_text(scratch), " (measured on made-up tokens); ", bytes_text(available), " available",
             in.teacher ? " beside the teacher" : ""),
      true);
  const int64_t checkpoint = block * (1 + blocks.moments), result = in.scalar_bytes * declared.count();
  const int64_t free = free_disk_bytes(in.out), there = bytes_under(in.out);  // of an earlier start
  plan.disk_bytes = 2 * checkpoint + result + in.shard_bytes + targets;
  say(concat("plan: disk ", bytes_text(plan.disk_bytes), ": checkpoint ", bytes_text(checkpoint),
             " and its successor, result ", bytes_text(result), ", token shards about ", bytes_text(in.shard_bytes),
             targets > 0 ? ", kept targets " + bytes_text(targets) : "", "; ", bytes_text(free), " free"),
      true);
  say(concat("plan: ", trained_tokens, " training tokens, ", std::fixed, std::setprecision(1),
             static_cast<double>(trained_tokens) / static_cast<double>(in.corpus_tokens), " times the text of about ",
             in.corpus_tokens, "; ", duration_text(seconds),
             " in all, besides the preparation of text, validation and the closing comparison"),
      true);
  if (plan.memory_bytes - elsewhere + in.teacher_shard_bytes > available)
    fail("plan: the run needs ", bytes_text(plan.memory_bytes), " of memory beside the teacher, this machine has ",
         bytes_text(available), " available; lower batch, windows_at_once or lanes, or set recompute (--set)");
  if (plan.disk_bytes - there > free)
    fail("plan: the run needs ", bytes_text(plan.disk_bytes - there), " more on the disk of ", in.out.string(),
         ", which has ", bytes_text(free), " free");
  return plan;
}

}  // namespace qwerky
