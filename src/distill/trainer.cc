// SPDX-License-Identifier: MIT
#include "distill/trainer.h"

#include <algorithm>
#include <cmath>
#include <exception>

#include "base/parallel.h"
#include "base/units.h"
#include "distill/training_log.h"

namespace qwerky {
namespace {

constexpr const char* kCheckpoint = "checkpoint.safetensors";
constexpr int64_t kMostRanks = 1 << 20;

constexpr const char* kShard = "optimiser-";

/// Files of the optimiser's state that ranks after the first hold: optimiser-STAGE-STEP-RANK.safetensors.
std::string shard_prefix(const std::string& moment) { return kShard + moment + "-"; }
std::string shard_name(const std::string& moment, int rank) {
  return shard_prefix(moment) + std::to_string(rank) + ".safetensors";
}

Json number(double x) { return std::isfinite(x) ? Json(x) : Json(); }

/// A line "recipe.stages.1.lr: was 0.001, now 0.0003" for each of the first places at which two settings differ.
std::string differences(const Json& was, const Json& now) {
  constexpr size_t kMost = 12;
  const Json changes = Json::diff(was, now);
  std::string lines;
  for (size_t i = 0; i < std::min(changes.size(), kMost); ++i) {
    const auto path = changes[i].at("path").get<std::string>();
    const Json::json_pointer at(path);
    const auto shown = [](const Json* value) -> std::string {
      if (value == nullptr) return "absent";
      const std::string text = value->dump();
      return text.size() <= 80 ? text : text.substr(0, 77) + "...";
    };
    std::string name = path.substr(std::min<size_t>(1, path.size()));
    std::replace(name.begin(), name.end(), '/', '.');
    lines += "\n  " + name + ": was " + shown(was.contains(at) ? &was[at] : nullptr) + ", now " +
             shown(changes[i].contains("value") ? &changes[i]["value"] : nullptr);
  }
  return changes.size() > kMost ? lines + concat("\n  and ", changes.size() - kMost, " more") : lines;
}

/// A flat f32 tensor of a checkpoint.
Tensor checked(const SafetensorsFile& stored, const Path& file, const char* name, int64_t count) {
  const Tensor t = stored.find(name);
  if (!t || t.type != DType::f32 || t.count() != count)
    fail(file.string(), ": tensor ", name, " is missing, is not f32, or has another size than the model needs");
  return t.shaped({count});
}

/// Elements of the matrices a token passes: all layers and the head, or the linear mixers alone.
int64_t matrix_parameters(const Config& config, bool mixers_only) {
  const std::unique_ptr<Model> model = declare_model(config);
  int64_t n = 0;
  model->params.each([&](const Param& p) {
    if (p.use != Use::product && p.use != Use::product_in_out) return;
    if (!mixers_only) n += p.count();
    for (int64_t layer = 0; mixers_only && layer < config.layers; ++layer)
      if (config.is_linear(layer) && p.name.starts_with(mixer_prefix(layer))) n += p.count();
  });
  return n;
}

}  // namespace

double flops_per_token(const Stage& stage, const Config& student, const Config* teacher) {
  double flops = 6 * static_cast<double>(matrix_parameters(student, stage.loss == "align"));
  if (teacher && stage.loss != "cross_entropy")
    flops += 2 * static_cast<double>(matrix_parameters(*teacher, false) -
                                     (stage.loss == "align" ? teacher->vocab * teacher->hidden : 0));
  return flops;
}

TrainerBlocks::TrainerBlocks(const Recipe& recipe) {
  for (const Stage& s : recipe.stages) {
    lanes = std::max(lanes, s.lanes);
    if (s.average_from < 1) moments = 3;
  }
}

Trainer::Trainer(const Backend& on, Model& student, const Model* teacher, const TokenStream& train,
                 const TokenStream* validation, const Recipe& recipe, TrainerOptions options)
    : on_(on),
      student_(student),
      teacher_(teacher),
      train_(train),
      validation_(validation),
      recipe_(recipe),
      options_(std::move(options)),
      state_memory_("moments of the optimiser", 0, options_.optimiser_on_host) {
  recipe_.check();
  for (const Stage& s : recipe_.stages) {
    if (s.loss != "cross_entropy" && teacher == nullptr) fail("stage ", s.name, ": loss ", s.loss, " needs a teacher");
    if (train.size() < s.context + 1)
      fail("training data: ", train.size(), " tokens, fewer than one window of ", s.context + 1, " that stage ", s.name,
           " asks for");
  }
  for (const Stage& s : recipe_.stages)
    if (s.batch < options_.ranks->size())
      fail("stage ", s.name, ": ", options_.ranks->size(), " ranks cannot share a batch of ", s.batch,
           " windows; start fewer, or raise it (--set)");
  for (const Stage& s : recipe_.stages)
    if (const int64_t parts = s.lanes * options_.ranks->size(); options_.teacher_over_ranks && s.batch % parts != 0)
      fail("stage ", s.name,
           ": ranks that share the teacher's weights need windows of equal number: a batch that is a "
           "multiple of ",
           parts, " (", options_.ranks->size(), " ranks of ", s.lanes, " lanes), found ", s.batch);
  for (const Stage& s : recipe_.stages)
    if (options_.teacher_over_ranks && s.cache_targets)
      fail("stage ", s.name,
           ": ranks that share the teacher's weights run it at the same time; set cache_targets=false");
  const TrainerBlocks blocks(recipe_);
  const Shape block{student_.params.block_count()}, owned{shard(options_.ranks->rank(), options_.ranks->size()).count};
  first_moment_ = state_memory_.zeros(DType::f32, owned);
  second_moment_ = state_memory_.zeros(DType::f32, owned);
  if (blocks.moments > 2) average_ = state_memory_.zeros(DType::f32, owned);
  for (int64_t i = 0; i < blocks.lanes; ++i) {
    gradients_.push_back(memory_.zeros(DType::f32, block));
    scratch_.push_back(std::make_unique<Arena>("training scratch"));
  }
}

int64_t Trainer::memory_bytes() const {
  return optimiser_bytes() + student_.params.block().bytes() + (teacher_ ? teacher_->weight_bytes() : 0) +
         scratch_bytes();
}

int64_t Trainer::scratch_bytes() const {
  int64_t bytes = 0;
  for (const auto& arena : scratch_) bytes += arena->peak_bytes();
  return std::max(bytes, scratch_before_);
}

void Trainer::renew_scratch() {
  scratch_before_ = scratch_bytes();
  for (auto& arena : scratch_) arena = std::make_unique<Arena>("training scratch");
}

Tensor Trainer::slice(Tensor block, const Run& run) const { return block.rows(run.offset, run.count); }

Trainer::Run Trainer::shard(int rank, int ranks) const {
  const int64_t all = student_.params.block_count();
  const int64_t each = (all + 64 * ranks - 1) / (64 * ranks) * 64;
  const int64_t begin = std::min(all, rank * each);
  return {begin, std::min(all, begin + each) - begin, false};
}

std::vector<int64_t> Trainer::shares(const Run& run) const {
  std::vector<int64_t> counts;
  for (int rank = 0; rank < options_.ranks->size(); ++rank) {
    const Run s = shard(rank, options_.ranks->size());
    counts.push_back(
        std::max<int64_t>(0, std::min(run.offset + run.count, s.offset + s.count) - std::max(run.offset, s.offset)));
  }
  return counts;
}

std::vector<Trainer::Run> Trainer::own_runs() const {
  const Run s = shard(options_.ranks->rank(), options_.ranks->size());
  std::vector<Run> own;
  for (const Run& run : runs_)
    if (const int64_t n = shares(run)[static_cast<size_t>(options_.ranks->rank())]; n > 0)
      own.push_back({std::max(run.offset, s.offset), n, run.mixer});
  return own;
}

Tensor Trainer::state_slice(Tensor state, const Run& own) const {
  return state.rows(own.offset - shard(options_.ranks->rank(), options_.ranks->size()).offset, own.count);
}

void Trainer::prepare(const Stage& stage) {
  student_.params.freeze_all_but(stage.train);
  runs_.clear();
  student_.params.each([&](const Param& p) {
    if (!p.trains) return;
    const bool mixer = glob_match(stage.mixer_glob, p.name);
    int64_t offset = p.offset, left = (p.count() + 63) / 64 * 64;
    while (left > 0) {
      const bool joins = !runs_.empty() && runs_.back().mixer == mixer && runs_.back().count < kMostElements &&
                         runs_.back().offset + runs_.back().count == offset;
      if (!joins) runs_.push_back({offset, 0, mixer});
      const int64_t n = std::min(left, kMostElements - runs_.back().count);
      runs_.back().count += n, offset += n, left -= n;
    }
  });
  for (const Tensor& g : gradients_) on_.zero(g);
}

/// The windows of one lane of this rank, so many at once as the stage allows, added up in order.
double Trainer::lane_step(const Stage& stage, int64_t index, int64_t step, int64_t lane,
                          std::span<const int32_t> tokens, double weight) {
  const int64_t stride = stage.context + 1, lanes = options_.ranks->size() * stage.lanes,
                number = options_.ranks->rank() * stage.lanes + lane, last = stage.batch * (number + 1) / lanes;
  const int64_t group = stage.windows_at_once > 0 ? stage.windows_at_once : stage.batch;
  const Exec ex{on_, *scratch_[static_cast<size_t>(lane)], gradients_[static_cast<size_t>(lane)]};
  const TargetCache cache(targets_dir());
  double loss = 0;
  for (int64_t first = stage.batch * number / lanes; first < last; first += group) {
    const int64_t count = std::min(group, last - first);
    const WindowBatch windows{tokens.subspan(static_cast<size_t>(first * stride), static_cast<size_t>(count * stride)),
                              count, stage.context};
    if (stage.loss == "align") {
      const std::string key = concat(index, "-", step % stage.unique_steps(), "-", first);
      loss += align_step(ex, *teacher_->decoder, *student_.decoder, windows, weight,
                         stage.cache_targets ? &cache : nullptr, key);
    }
    if (stage.loss == "kl")
      loss += kl_step(ex, *teacher_->decoder, *student_.decoder, windows, weight, stage.recompute, stage.next_token);
    if (stage.loss == "cross_entropy")
      loss += cross_entropy_step(ex, *student_.decoder, windows, weight, stage.recompute);
  }
  return loss;
}

/// Gradients of this rank's windows of one step, summed over lanes in order into lane 0. Returns its part of the mean
/// loss.
double Trainer::step(const Stage& stage, int64_t index, int64_t step) {
  const int64_t stride = stage.context + 1;
  std::vector<int32_t> tokens(static_cast<size_t>(stage.batch * stride));
  train_.windows(recipe_.seed * 1000003 + static_cast<uint64_t>(index), step % stage.unique_steps(), stage.batch,
                 stride, tokens.data());
  const int64_t layers = stage.loss == "align" ? converted_layers(student_.config()) : 1;
  const double weight = 1.0 / static_cast<double>(stage.batch * stage.context * layers);
  std::vector<double> losses(static_cast<size_t>(stage.lanes));
  std::vector<std::exception_ptr> failures(static_cast<size_t>(stage.lanes));  // no exception may leave a thread
  const auto run_lanes = [&](int64_t begin, int64_t end) {
    for (int64_t lane = begin; lane < end; ++lane) {
      try {
        losses[static_cast<size_t>(lane)] = lane_step(stage, index, step, lane, tokens, weight);
      } catch (...) {
        failures[static_cast<size_t>(lane)] = std::current_exception();
      }
    }
  };
  if (teacher_ && teacher_->layers) {  // one pass over its layers at a time, in the same order on all ranks
    run_lanes(0, stage.lanes);
  } else {
    parallel_for(stage.lanes, 1, run_lanes);
  }
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
  double total = 0;
  for (double loss : losses) total += loss;
  for (int64_t lane = 1; lane < stage.lanes; ++lane)
    for (const Run& run : runs_) {
      on_.add(slice(gradients_[0], run), slice(gradients_[static_cast<size_t>(lane)], run));
      on_.zero(slice(gradients_[static_cast<size_t>(lane)], run));
    }
  return total;  // the weights already make it a mean
}

void Trainer::diverged(const Stage& stage, int64_t step, const std::string& what) const {
  const double rate = stage.rate(step, false), mixers = stage.rate(step, true);
  fail("stage ", stage.name, ", step ", step + 1, ": ", what, "; lower the learning rate (", rate,
       mixers != rate ? concat(", of the mixers ", mixers) : "", ")", stage.clip > 0 ? "" : " or set clip",
       is_there(options_.dir / kCheckpoint) ? "; the last checkpoint stays in " + options_.dir.string() : "");
}

void Trainer::update(const Stage& stage, int64_t step) {
  Collective& ranks = *options_.ranks;
  double square = 0;
  for (const Run& run : runs_) ranks.reduce_scatter(slice(gradients_[0], run), shares(run));
  const std::vector<Run> own = own_runs();
  for (const Run& run : own) square += on_.sum_of_squares(slice(gradients_[0], run));
  ranks.sum({&square, 1});
  gradient_norm_ = std::sqrt(square);
  if (!std::isfinite(gradient_norm_)) diverged(stage, step, "the gradient is not finite");
  const double clip = stage.clip > 0 && gradient_norm_ > stage.clip ? stage.clip / gradient_norm_ : 1;
  for (const Run& run : own) {
    const AdamW rule{.lr = stage.rate(step, run.mixer),
                     .beta1 = stage.beta1,
                     .beta2 = stage.beta2,
                     .eps = stage.eps,
                     .weight_decay = stage.weight_decay,
                     .step = step + 1,
                     .grad_scale = clip};
    on_.adamw(rule, slice(student_.params.block(), run), slice(gradients_[0], run), state_slice(first_moment_, run),
              state_slice(second_moment_, run));
  }
  for (const Run& run : runs_) {
    on_.zero(slice(gradients_[0], run));
    ranks.all_gather(slice(student_.params.block(), run), shares(run));
  }
  if (stage.average_from < 1 &&
      static_cast<double>(step + 1) > stage.average_from * static_cast<double>(stage.steps())) {
    ++averaged_;
    for (const Run& run : own)
      on_.lerp(state_slice(average_, run), slice(student_.params.block(), run), 1.0 / static_cast<double>(averaged_));
  }
}

double Trainer::measure_step_seconds(const Stage& measured, int64_t steps) {
  Stage stage = measured;
  stage.cache_targets = false;
  if (stage.windows_at_once > 0)
    stage.batch = std::min(stage.batch, stage.lanes * stage.windows_at_once);  // the rest repeats these
  prepare(stage);
  renew_scratch();
  scratch_before_ = 0;
  step(stage, 0, 0);  // maps scratch memory
  const auto start = Clock::now();
  for (int64_t i = 0; i < steps; ++i) {
    step(stage, 0, i);
    for (const Run& run : runs_) on_.sum_of_squares(slice(gradients_[0], run));
  }
  const double seconds = seconds_since(start) / static_cast<double>(steps) * static_cast<double>(measured.batch) /
                         static_cast<double>(stage.batch);
  for (const Tensor& g : gradients_) on_.zero(g);
  return seconds;
}

void Trainer::save(int64_t stage, int64_t step) {
  const auto block = [&](const char* name, Tensor t) { return NamedTensor{name, t, DType::f32}; };
  Collective& ranks = *options_.ranks;
  const auto optimiser = [&] {
    std::vector<NamedTensor> tensors{block("first_moment", first_moment_), block("second_moment", second_moment_)};
    if (average_) tensors.push_back(block("mean", average_));
    return tensors;
  };
  // The first rank's file names those of this moment that the others have already written; the older ones go last.
  const std::string moment = concat(stage, "-", step);
  if (!ranks.first()) write_safetensors(options_.dir / shard_name(moment, ranks.rank()), optimiser(), {});
  ranks.wait();
  if (ranks.first()) {
    Json state{{"stage", stage},
               {"step", step},
               {"averaged", averaged_},
               {"loss_sum", number(loss_sum_)},
               {"loss_steps", loss_steps_},
               {"reports", reports_},
               {"ranks", ranks.size()},
               {"settings", options_.settings}};
    std::vector<NamedTensor> tensors = optimiser();
    tensors.insert(tensors.begin(), block("weights", student_.params.block()));
    write_safetensors(options_.dir / kCheckpoint, tensors, {{"state", state.dump()}});
    for (const std::string& name : list_names(options_.dir))
      if (name.starts_with(kShard) && !name.starts_with(shard_prefix(moment))) remove_tree(options_.dir / name);
  }
  ranks.wait();
}

int64_t Trainer::finished_stages(const Path& dir) {
  if (!is_file(dir / kCheckpoint)) return 0;
  try {
    const SafetensorsFile stored(dir / kCheckpoint);
    const auto it = stored.metadata().find("state");
    const Json state = it == stored.metadata().end() ? Json() : parse_json(it->second, "state");
    if (state.is_object() && state.contains("stage") && state["stage"].is_number_integer()) return state["stage"];
  } catch (const Error&) {  // resume() says what is wrong
  }
  return 0;
}

bool Trainer::resume() {
  const Path file = options_.dir / kCheckpoint;
  if (!is_there(file)) return false;
  const SafetensorsFile stored(file);
  const auto it = stored.metadata().find("state");
  if (it == stored.metadata().end()) fail(file.string(), ": not a training checkpoint of this program");
  const Json state = parse_json(it->second, file.string());
  if (!state.is_object() || !state.contains("settings"))
    fail(file.string(), ": not a training checkpoint of this program");
  if (state["settings"] != options_.settings)
    fail("resume: ", options_.dir.string(),
         " was started with other settings:", differences(state["settings"], options_.settings),
         "\nrepeat the first command to go on, or choose another --out");
  const Tensor weights = checked(stored, file, "weights", student_.params.block_count());
  convert(student_.params.block(), weights.shaped(student_.params.block().shape));
  const auto count = [&](const char* key, int64_t most) {
    const bool fine = state.contains(key) && state[key].is_number_integer() && state[key].get<int64_t>() >= 0 &&
                      state[key].get<int64_t>() <= most;
    if (!fine)
      fail(file.string(), ": ", key, ": expected a number from 0 to ", most, ", found ",
           state.contains(key) ? state[key].dump() : "nothing");
    return state[key].get<int64_t>();
  };
  const auto stages = static_cast<int64_t>(recipe_.stages.size());
  stage_ = count("stage", stages);
  const int64_t steps = stage_ < stages ? recipe_.stages[static_cast<size_t>(stage_)].steps() : 0;
  step_ = count("step", steps), averaged_ = count("averaged", steps), loss_steps_ = count("loss_steps", steps),
  reports_ = count("reports", steps);
  loss_sum_ = state.contains("loss_sum") && state["loss_sum"].is_number() ? state["loss_sum"].get<double>() : 0;
  load_optimiser(file, stored, state.contains("ranks") ? static_cast<int>(count("ranks", kMostRanks)) : 1);
  return true;
}

/// From the files of however many ranks wrote them, what lies in this rank's shard.
void Trainer::load_optimiser(const Path& file, const SafetensorsFile& stored, int ranks) {
  if (ranks < 1) fail(file.string(), ": ranks: expected at least 1, found ", ranks);
  const Run mine = shard(options_.ranks->rank(), options_.ranks->size());
  for (int rank = 0; rank < ranks; ++rank) {
    const Run theirs = shard(rank, ranks);
    const int64_t begin = std::max(mine.offset, theirs.offset),
                  count = std::min(mine.offset + mine.count, theirs.offset + theirs.count) - begin;
    if (count <= 0) continue;
    const Path path = rank == 0 ? file : options_.dir / shard_name(concat(stage_, "-", step_), rank);
    std::optional<SafetensorsFile> other;
    if (rank > 0) other.emplace(path);
    const auto load = [&](const char* name, Tensor to) {
      const Tensor from = checked(other ? *other : stored, path, name, theirs.count);
      convert(to.rows(begin - mine.offset, count), from.rows(begin - theirs.offset, count));
    };
    load("first_moment", first_moment_), load("second_moment", second_moment_);
    if (average_) load("mean", average_);
  }
}

void Trainer::validate(const Stage& stage, TrainStatus& status) const {
  if (validation_ == nullptr || validation_->size() < 2) return;
  const auto ids =
      validation_->tokens().first(static_cast<size_t>(std::min(options_.validation_tokens, validation_->size())));
  const Windows windows{ids, stage.context};
  if (teacher_) {
    const Comparison c = compare(on_, *teacher_->decoder, *student_.decoder, windows, false);
    status.validation_kl = c.kl, status.validation_ratio = c.ratio();
  } else {
    status.validation_ratio = score(on_, *student_.decoder, windows).perplexity();
  }
}

Outcome Trainer::run(const std::function<void(int64_t)>& before_stage) {
  if (stage_ == static_cast<int64_t>(recipe_.stages.size())) return Outcome::finished;
  Collective& ranks = *options_.ranks;
  if (ranks.first()) {
    make_directory(options_.dir);
    if (stage_ == 0 && step_ == 0) remove_tree(targets_dir());  // of a run that was never saved
    trim_log(options_.dir / "log.jsonl", stage_, step_);
  }
  ranks.wait();
  auto saved = Clock::now();
  int64_t done = 0;
  for (; stage_ < static_cast<int64_t>(recipe_.stages.size()); ++stage_, step_ = 0) {
    const Stage& stage = recipe_.stages[static_cast<size_t>(stage_)];
    if (step_ == 0) {
      if (before_stage) before_stage(stage_);
      on_.zero(first_moment_), on_.zero(second_moment_);
      if (average_) on_.zero(average_);
      averaged_ = loss_steps_ = reports_ = 0, loss_sum_ = 0;
    }
    const Tensor weights = student_.params.block();
    ranks.broadcast(weights.data, weights.bytes());
    prepare(stage);
    renew_scratch();
    const int64_t steps = stage.steps();
    TrainStatus status{.stage = &stage, .stage_index = stage_, .steps = steps};
    double busy = 0;
    int64_t timed = 0;
    while (step_ < steps) {
      const auto begin = Clock::now();
      double loss = step(stage, stage_, step_);
      ranks.sum({&loss, 1});
      if (!std::isfinite(loss)) diverged(stage, step_, concat("the loss is ", loss));
      update(stage, step_);
      busy += seconds_since(begin);
      loss_sum_ += loss, ++loss_steps_, ++timed, ++step_, ++done;
      if (step_ % options_.report_steps == 0 || step_ == steps) {
        status.step = step_, status.loss = loss_sum_ / static_cast<double>(loss_steps_);
        status.gradient_norm = gradient_norm_, status.rate = stage.rate(step_ - 1, false);
        status.tokens_per_second = static_cast<double>(timed * stage.batch * stage.context) / busy;
        const double gflops = flops_per_token(stage, student_.config(), teacher_ ? &teacher_->config() : nullptr) *
                              status.tokens_per_second * 1e-9;
        status.share_of_peak = options_.peak_gflops > 0 ? gflops / (options_.peak_gflops * ranks.size()) : 0;
        status.stage_eta_seconds = busy / static_cast<double>(timed) * static_cast<double>(steps - step_);
        status.eta_seconds = status.stage_eta_seconds;
        for (size_t later = static_cast<size_t>(stage_) + 1; later < options_.step_seconds.size(); ++later)
          status.eta_seconds += options_.step_seconds[later] * static_cast<double>(recipe_.stages[later].steps());
        status.memory_bytes = memory_bytes();
        status.validated =
            options_.validate_reports > 0 && (++reports_ % options_.validate_reports == 0 || step_ == steps);
        if (status.validated && (ranks.first() || options_.teacher_over_ranks)) validate(stage, status);
        Json entry{{"stage", stage_},
                   {"name", stage.name},
                   {"step", step_},
                   {"loss", number(status.loss)},
                   {"lr", status.rate},
                   {"gradient_norm", number(gradient_norm_)},
                   {"tokens_per_second", std::round(status.tokens_per_second)}};
        if (status.validated && teacher_) entry["validation_kl"] = number(status.validation_kl);
        if (status.validated)
          entry[teacher_ ? "validation_ratio" : "validation_perplexity"] = number(status.validation_ratio);
        if (ranks.first()) append_line(options_.dir / "log.jsonl", entry.dump());
        if (ranks.first() && options_.report) options_.report(status);
        loss_sum_ = busy = 0, loss_steps_ = timed = 0;
      }
      const bool told = (options_.stop && options_.stop->load()) ||
                        (options_.stop_after_steps > 0 && done >= options_.stop_after_steps);
      const bool due = ranks.first() && seconds_since(saved) >= options_.checkpoint_seconds;
      double votes[] = {told ? 1.0 : 0.0, due ? 1.0 : 0.0};
      ranks.sum(votes);
      const bool asked = votes[0] > 0;
      if (asked || votes[1] > 0) {
        save(stage_, step_);
        saved = Clock::now();
      }
      if (asked) return Outcome::interrupted;
    }
    for (const Run& run : runs_)  // the last update was followed by no loss that would tell
      if (!std::isfinite(on_.sum_of_squares(slice(student_.params.block(), run))))
        diverged(stage, steps - 1, "its weights are not finite");
    if (stage.cache_targets && ranks.first()) remove_tree(targets_dir());
    if (averaged_ > 0) {
      for (const Run& run : own_runs()) on_.copy(slice(weights, run), state_slice(average_, run));
      for (const Run& run : runs_) ranks.all_gather(slice(weights, run), shares(run));
    }
  }
  averaged_ = loss_steps_ = reports_ = 0, loss_sum_ = 0;
  save(stage_, 0);
  return Outcome::finished;
}

}  // namespace qwerky
