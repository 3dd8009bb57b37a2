// SPDX-License-Identifier: MIT
#include "distill/trainer.h"

#include <algorithm>
#include <cmath>
#include <exception>

#include "base/parallel.h"
#include "base/units.h"
#include "distill/training_checkpoint.h"
#include "distill/training_log.h"

namespace qwerky {
namespace {

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
      owned_(student.params.owned(options_.ranks->rank(), options_.ranks->size())),
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
  const bool same_passes = options_.teacher_over_ranks || options_.gradients_over_ranks;
  for (const Stage& s : recipe_.stages)
    if (const int64_t parts = s.lanes * options_.ranks->size(); same_passes && s.batch % parts != 0)
      fail("stage ", s.name,
           ": ranks that share the teacher's weights or gradients need windows of equal number: a batch that is a "
           "multiple of ",
           parts, " (", options_.ranks->size(), " ranks of ", s.lanes, " lanes), found ", s.batch);
  for (const Stage& s : recipe_.stages)
    if (options_.teacher_over_ranks && s.cache_targets)
      fail("stage ", s.name,
           ": ranks that share the teacher's weights run it at the same time; set cache_targets=false");
  const TrainerBlocks blocks(recipe_);
  const Shape block{student_.params.block_count()}, owned{owned_.count};
  first_moment_ = state_memory_.zeros(DType::f32, owned);
  second_moment_ = state_memory_.zeros(DType::f32, owned);
  if (blocks.moments > 2) average_ = state_memory_.zeros(DType::f32, owned);
  if (options_.gradients_over_ranks)
    sharded_ = std::make_unique<ShardedGradients>(on_, student_.params, student_.config().layers, *options_.ranks);
  for (int64_t i = 0; i < blocks.lanes; ++i) {
    if (!sharded_) gradients_.push_back(memory_.zeros(DType::f32, block));
    scratch_.push_back(std::make_unique<Arena>("training scratch"));
  }
}

int64_t Trainer::memory_bytes() const {
  return optimiser_bytes() + student_.weights->peak_bytes() + (teacher_ ? teacher_->weight_bytes() : 0) +
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

std::vector<Trainer::Run> Trainer::owned_of(const std::vector<Run>& runs) const {
  std::vector<Run> own;
  for (const Run& run : runs)
    if (const Range at = overlap(run.at, owned_); at.count > 0) own.push_back({at, run.mixer});
  return own;
}

std::vector<Trainer::Run> Trainer::runs_of(const Stage& stage, const Params::Which& which) const {
  std::vector<const Param*> list;
  student_.params.each([&](const Param& p) {
    if (p.offset >= 0 && which(p)) list.push_back(&p);
  });
  std::sort(list.begin(), list.end(), [](const Param* a, const Param* b) { return a->offset < b->offset; });
  std::vector<Run> runs;
  for (const Param* p : list) {
    const bool mixer = glob_match(stage.mixer_glob, p->name);
    int64_t offset = p->offset, left = (p->count() + 63) / 64 * 64;
    while (left > 0) {
      const bool joins = !runs.empty() && runs.back().mixer == mixer && runs.back().at.count < kMostElements &&
                         runs.back().at.end() == offset && offset != student_.params.product_count();
      if (!joins) runs.push_back({{offset, 0}, mixer});
      const int64_t n = std::min(left, kMostElements - runs.back().at.count);
      runs.back().at.count += n, offset += n, left -= n;
    }
  }
  return runs;
}

void Trainer::prepare(const Stage& stage) {
  student_.params.freeze_all_but(stage.train);
  runs_ = runs_of(stage, [](const Param& p) { return p.trains; });
  for (const Tensor& g : gradients_) on_.zero(g);
  std::vector<Range> trained;
  for (const Run& run : runs_) trained.push_back(run.at);
  if (sharded_) sharded_->train(std::move(trained));
}

void Trainer::share_weights(const std::vector<Run>& runs) {
  const Params& params = student_.params;
  for (const Run& run : owned_of(runs))
    if (const Tensor to = params.weights(run.at), from = params.masters(run.at); to.data != from.data)
      on_.copy(to, from);
  for (const Run& run : runs)
    options_.ranks->all_gather(params.weights(run.at), params.shares(run.at, options_.ranks->size()));
}

void Trainer::sum_gradients() {
  if (sharded_) return sharded_->finish();
  for (const Run& run : runs_)
    options_.ranks->reduce_scatter(part(gradients_[0], run.at), student_.params.shares(run.at, options_.ranks->size()));
}

void Trainer::zero_gradients() {
  if (sharded_) return sharded_->zero();
  for (const Run& run : runs_) on_.zero(part(gradients_[0], run.at));
}

double Trainer::norm_of_owned(const std::function<Tensor(Range)>& part) const {
  double square = 0;
  for (const Run& run : owned_of(runs_)) square += on_.sum_of_squares(part(run.at));
  options_.ranks->sum({&square, 1});
  return std::sqrt(square);
}

/// The windows of one lane of this rank, so many at once as the stage allows, added up in order.
double Trainer::lane_step(const Stage& stage, int64_t index, int64_t step, int64_t lane,
                          std::span<const int32_t> tokens, double weight) {
  const int64_t stride = stage.context + 1, lanes = options_.ranks->size() * stage.lanes,
                number = options_.ranks->rank() * stage.lanes + lane, last = stage.batch * (number + 1) / lanes;
  const int64_t group = stage.windows_at_once > 0 ? stage.windows_at_once : stage.batch;
  Exec ex{on_, *scratch_[static_cast<size_t>(lane)]};
  if (sharded_) {
    ex.layer_gradients = sharded_.get();
  } else {
    ex.gradients = gradients_[static_cast<size_t>(lane)];
  }
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

/// Gradients of this rank's windows of one step, summed over lanes in order. Returns its part of the mean loss.
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
  if (sharded_ || (teacher_ && teacher_->layers)) {  // one pass at a time, in the same order on all ranks
    for (int64_t lane = 0; lane < stage.lanes && (lane == 0 || !failures[static_cast<size_t>(lane - 1)]); ++lane)
      run_lanes(lane, lane + 1);
  } else {
    parallel_for(stage.lanes, 1, run_lanes);
  }
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
  double total = 0;
  for (double loss : losses) total += loss;
  for (int64_t lane = 1; !sharded_ && lane < stage.lanes; ++lane)
    for (const Run& run : runs_) {
      on_.add(part(gradients_[0], run.at), part(gradients_[static_cast<size_t>(lane)], run.at));
      on_.zero(part(gradients_[static_cast<size_t>(lane)], run.at));
    }
  return total;  // the weights already make it a mean
}

void Trainer::diverged(const Stage& stage, int64_t step, const std::string& what) const {
  const double rate = stage.rate(step, false), mixers = stage.rate(step, true);
  fail("stage ", stage.name, ", step ", step + 1, ": ", what, "; lower the learning rate (", rate,
       mixers != rate ? concat(", of the mixers ", mixers) : "", ")", stage.clip > 0 ? "" : " or set clip",
       TrainingCheckpoint::is_in(options_.dir) ? "; the last checkpoint stays in " + options_.dir.string() : "");
}

void Trainer::update(const Stage& stage, int64_t step) {
  const auto gradient = [&](Range at) { return this->gradient(at); };
  const auto masters = [&](Range at) { return student_.params.masters(at); };
  sum_gradients();
  gradient_norm_ = norm_of_owned(gradient);
  if (!std::isfinite(gradient_norm_)) diverged(stage, step, "the gradient is not finite");
  const double clip = stage.clip > 0 && gradient_norm_ > stage.clip ? stage.clip / gradient_norm_ : 1;
  for (const Run& run : owned_of(runs_)) {
    const AdamW rule{.lr = stage.rate(step, run.mixer),
                     .beta1 = stage.beta1,
                     .beta2 = stage.beta2,
                     .eps = stage.eps,
                     .weight_decay = stage.weight_decay,
                     .step = step + 1,
                     .grad_scale = clip};
    on_.adamw(rule, masters(run.at), gradient(run.at), owned_part(first_moment_, run.at),
              owned_part(second_moment_, run.at));
  }
  zero_gradients();
  share_weights(runs_);
  if (stage.average_from < 1 &&
      static_cast<double>(step + 1) > stage.average_from * static_cast<double>(stage.steps())) {
    ++averaged_;
    for (const Run& run : owned_of(runs_))
      on_.lerp(owned_part(average_, run.at), masters(run.at), 1.0 / static_cast<double>(averaged_));
  }
}

double Trainer::measure_step_seconds(const Stage& measured, int64_t steps) {
  Stage stage = measured;
  stage.cache_targets = false;
  if (stage.windows_at_once > 0)
    stage.batch = std::min(stage.batch, options_.ranks->size() * stage.lanes * stage.windows_at_once);  // then repeated
  prepare(stage);
  renew_scratch();
  scratch_before_ = 0;
  step(stage, 0, 0);  // maps scratch memory
  const auto start = Clock::now();
  for (int64_t i = 0; i < steps; ++i) {
    step(stage, 0, i);
    sum_gradients();
    norm_of_owned([&](Range at) { return gradient(at); });
  }
  const double seconds = seconds_since(start) / static_cast<double>(steps) * static_cast<double>(measured.batch) /
                         static_cast<double>(stage.batch);
  zero_gradients();
  return seconds;
}

void Trainer::save(int64_t stage, int64_t step) {
  std::vector<NamedTensor> tensors{{"masters", student_.params.masters(owned_), DType::f32},
                                   {"first_moment", first_moment_, DType::f32},
                                   {"second_moment", second_moment_, DType::f32}};
  if (average_) tensors.push_back({"mean", average_, DType::f32});
  TrainingCheckpoint::save(options_.dir, *options_.ranks,
                           {{"stage", stage},
                            {"step", step},
                            {"averaged", averaged_},
                            {"loss_sum", number(loss_sum_)},
                            {"loss_steps", loss_steps_},
                            {"reports", reports_},
                            {"settings", options_.settings}},
                           tensors);
}

int64_t Trainer::finished_stages(const Path& dir) {
  if (!TrainingCheckpoint::is_in(dir)) return 0;
  try {
    return TrainingCheckpoint(dir).number("stage", INT64_MAX);
  } catch (const Error&) {  // resume() says what is wrong
    return 0;
  }
}

void Trainer::check_settings(const Path& dir, const Json& settings) {
  if (!TrainingCheckpoint::is_in(dir)) return;
  Json was = TrainingCheckpoint(dir).state()["settings"];
  for (const char* known_late : {"data", "training_tokens"})
    if (was.is_object() && !settings.contains(known_late)) was.erase(known_late);
  if (was != settings)
    fail("resume: ", dir.string(), " was started with other settings:", differences(was, settings),
         "\nrepeat the first command to go on, or choose another --out");
}

bool Trainer::resume() {
  if (!TrainingCheckpoint::is_in(options_.dir)) return false;
  check_settings(options_.dir, options_.settings);
  const TrainingCheckpoint stored(options_.dir);
  const Json& state = stored.state();
  const auto stages = static_cast<int64_t>(recipe_.stages.size());
  stage_ = stored.number("stage", stages);
  const int64_t steps = stage_ < stages ? recipe_.stages[static_cast<size_t>(stage_)].steps() : 0;
  step_ = stored.number("step", steps), averaged_ = stored.number("averaged", steps);
  loss_steps_ = stored.number("loss_steps", steps), reports_ = stored.number("reports", steps);
  loss_sum_ = state.contains("loss_sum") && state["loss_sum"].is_number() ? state["loss_sum"].get<double>() : 0;
  stored.read_weights(student_.params);
  stored.each(student_.params, [&](Range theirs, const TrainingCheckpoint::Find& find) {
    const Range at = overlap(theirs, owned_);
    if (at.count == 0) return;
    const auto load = [&](const char* name, Tensor to) {
      convert(owned_part(to, at), find(name).rows(at.begin - theirs.begin, at.count));
    };
    load("first_moment", first_moment_), load("second_moment", second_moment_);
    if (average_) load("mean", average_);
  });
  return true;
}

void Trainer::check_weights(const Stage& stage, int64_t step) const {
  if (!std::isfinite(norm_of_owned([&](Range at) { return student_.params.masters(at); })))
    diverged(stage, step, "its weights are not finite");
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

RunEnd Trainer::run(const std::function<void(int64_t)>& before_stage) {
  if (stage_ == static_cast<int64_t>(recipe_.stages.size())) return RunEnd::finished;
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
    share_weights(runs_of(stage, [](const Param&) { return true; }));  // of every owner, the same everywhere
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
        if (status.validated) check_weights(stage, step_ - 1);
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
      if (asked) return RunEnd::interrupted;
    }
    check_weights(stage, steps - 1);  // the last update was followed by no loss that would tell
    if (stage.cache_targets && ranks.first()) remove_tree(targets_dir());
    if (averaged_ > 0) {
      for (const Run& run : owned_of(runs_)) on_.copy(student_.params.masters(run.at), owned_part(average_, run.at));
      share_weights(runs_);
    }
  }
  averaged_ = loss_steps_ = reports_ = 0, loss_sum_ = 0;
  save(stage_, 0);
  return RunEnd::finished;
}

}  // namespace qwerky
