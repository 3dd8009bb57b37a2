// SPDX-License-Identifier: MIT
#include "distill/trainer.h"

#include <chrono>
#include <cmath>

#include "base/parallel.h"

namespace qwerky {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point a, Clock::time_point b) { return std::chrono::duration<double>(b - a).count(); }

Json number(double x) { return std::isfinite(x) ? Json(x) : Json(); }

}  // namespace

int64_t matrix_parameters(const Config& c, bool mixers_only) {
  int64_t n = 0;
  for (MixerKind kind : c.mixers) {
    if (mixers_only && kind == MixerKind::softmax) continue;
    n += 2 * c.hidden * c.width() + 2 * c.hidden * c.kv_width();
    const int64_t in_out = c.hidden + c.width();
    if (kind != MixerKind::softmax) n += in_out * c.rank_decay + (c.gate == GateKind::full ? c.hidden * c.width() : in_out * c.rank_gate);
    if (kind == MixerKind::rwkv6 && c.token_shift) n += 2 * 5 * c.hidden * c.rank_shift;
    if (kind == MixerKind::rwkv7) n += in_out * (c.rank_iclr + c.rank_mix);
    if (!mixers_only) n += 3 * c.hidden * c.intermediate;
  }
  return mixers_only ? n : n + c.vocab * c.hidden;
}

double flops_per_token(const Stage& stage, const Config& student, const Config* teacher) {
  double flops = 6 * static_cast<double>(matrix_parameters(student, stage.loss == "align"));
  if (teacher && stage.loss != "cross_entropy") flops += 2 * static_cast<double>(matrix_parameters(*teacher, false) - (stage.loss == "align" ? teacher->vocab * teacher->hidden : 0));
  return flops;
}

Trainer::Trainer(const Backend& on, Model& student, const Model* teacher, const TokenStream& train, const TokenStream* validation,
                 const Recipe& recipe, TrainerOptions options)
    : on_(on), student_(student), teacher_(teacher), train_(train), validation_(validation), recipe_(recipe), options_(std::move(options)) {
  recipe_.check();
  int64_t lanes = 1;
  bool averages = false;
  for (const Stage& s : recipe_.stages) {
    averages |= s.average_from < 1;
    if (s.loss != "cross_entropy" && teacher == nullptr) fail("stage ", s.name, ": loss ", s.loss, " needs a teacher");
    if (train.size() < s.context + 1) fail("training data: ", train.size(), " tokens, fewer than one window of ", s.context + 1, " that stage ", s.name, " asks for");
    lanes = std::max(lanes, s.lanes);
  }
  const Shape block{student_.params.block_count()};
  first_moment_ = memory_.zeros(DType::f32, block);
  second_moment_ = memory_.zeros(DType::f32, block);
  if (averages) average_ = memory_.zeros(DType::f32, block);
  for (int64_t i = 0; i < lanes; ++i) {
    gradients_.push_back(memory_.zeros(DType::f32, block));
    scratch_.push_back(std::make_unique<Arena>("training scratch"));
  }
}

int64_t Trainer::memory_bytes() const {
  int64_t bytes = memory_.peak_bytes() + student_.params.block().bytes() + (teacher_ ? teacher_->weights->peak_bytes() : 0);
  for (const auto& arena : scratch_) bytes += arena->peak_bytes();
  return bytes;
}

Tensor Trainer::slice(Tensor block, const Run& run) const { return block.rows(run.offset, run.count); }

void Trainer::prepare(const Stage& stage) {
  student_.params.freeze_all_but(stage.train);
  runs_.clear();
  student_.params.each([&](const Param& p) {
    if (!p.trains) return;
    const bool mixer = glob_match(stage.mixer_glob, p.name);
    const int64_t padded = (p.count() + 63) / 64 * 64;
    if (!runs_.empty() && runs_.back().mixer == mixer && runs_.back().offset + runs_.back().count == p.offset) {
      runs_.back().count += padded;
    } else {
      runs_.push_back({p.offset, padded, mixer});
    }
  });
  for (const Tensor& g : gradients_) on_.zero(g);
}

/// Gradients of one step's windows, summed over lanes in order into lane 0. Returns the mean loss.
double Trainer::step(const Stage& stage, int64_t index, int64_t step) {
  const int64_t stride = stage.context + 1;
  std::vector<int32_t> tokens(static_cast<size_t>(stage.batch * stride));
  train_.windows(recipe_.seed * 1000003 + static_cast<uint64_t>(index), step, stage.batch, stride, tokens.data());
  const int64_t layers = stage.loss == "align" ? converted_layers(student_.config()) : 1;
  const double weight = 1.0 / static_cast<double>(stage.batch * stage.context * layers);
  std::vector<double> losses(static_cast<size_t>(stage.lanes));
  parallel_for(stage.lanes, 1, [&](int64_t begin, int64_t end) {
    for (int64_t lane = begin; lane < end; ++lane) {
      const int64_t first = stage.batch * lane / stage.lanes, last = stage.batch * (lane + 1) / stage.lanes;
      const WindowBatch windows{std::span(tokens).subspan(static_cast<size_t>(first * stride), static_cast<size_t>((last - first) * stride)),
                                last - first, stage.context};
      const Exec ex{on_, *scratch_[static_cast<size_t>(lane)], gradients_[static_cast<size_t>(lane)]};
      double& loss = losses[static_cast<size_t>(lane)];
      if (stage.loss == "align") loss = align_step(ex, *teacher_->decoder, *student_.decoder, windows, weight);
      if (stage.loss == "kl") loss = kl_step(ex, *teacher_->decoder, *student_.decoder, windows, weight, stage.recompute);
      if (stage.loss == "cross_entropy") loss = cross_entropy_step(ex, *student_.decoder, windows, weight, stage.recompute);
    }
  });
  double total = 0;
  for (double loss : losses) total += loss;
  for (int64_t lane = 1; lane < stage.lanes; ++lane)
    for (const Run& run : runs_) {
      on_.add(slice(gradients_[0], run), slice(gradients_[static_cast<size_t>(lane)], run));
      on_.zero(slice(gradients_[static_cast<size_t>(lane)], run));
    }
  return total;  // the weights already make it a mean
}

void Trainer::update(const Stage& stage, int64_t step) {
  double square = 0;
  for (const Run& run : runs_) square += on_.sum_of_squares(slice(gradients_[0], run));
  gradient_norm_ = std::sqrt(square);
  if (!std::isfinite(gradient_norm_)) fail("stage ", stage.name, ", step ", step, ": the gradient is not finite; lower the learning rate (", stage.rate(step, false), ")");
  const double clip = stage.clip > 0 && gradient_norm_ > stage.clip ? stage.clip / gradient_norm_ : 1;
  for (const Run& run : runs_) {
    const AdamW rule{.lr = stage.rate(step, run.mixer), .beta1 = stage.beta1, .beta2 = stage.beta2, .eps = stage.eps,
                     .weight_decay = stage.weight_decay, .step = step + 1, .grad_scale = clip};
    on_.adamw(rule, slice(student_.params.block(), run), slice(gradients_[0], run), slice(first_moment_, run), slice(second_moment_, run));
    on_.zero(slice(gradients_[0], run));
  }
  if (stage.average_from < 1 && static_cast<double>(step + 1) > stage.average_from * static_cast<double>(stage.steps())) {
    for (const Run& run : runs_) on_.add(slice(average_, run), slice(student_.params.block(), run));
    ++averaged_;
  }
}

double Trainer::measure_step_seconds(const Stage& stage, int64_t steps) {
  prepare(stage);
  step(stage, 0, 0);  // maps scratch memory
  const auto start = Clock::now();
  for (int64_t i = 0; i < steps; ++i) {
    step(stage, 0, i);
    for (const Run& run : runs_) on_.sum_of_squares(slice(gradients_[0], run));
  }
  const double seconds = seconds_between(start, Clock::now()) / static_cast<double>(steps);
  for (const Tensor& g : gradients_) on_.zero(g);
  return seconds;
}

void Trainer::save(int64_t stage, int64_t step) {
  const auto block = [&](const char* name, Tensor t) { return NamedTensor{name, t, DType::f32}; };
  Json state{{"stage", stage}, {"step", step}, {"averaged", averaged_}, {"settings", options_.settings}};
  std::vector<NamedTensor> tensors{block("weights", student_.params.block()), block("first_moment", first_moment_), block("second_moment", second_moment_)};
  if (average_) tensors.push_back(block("average", average_));
  write_safetensors(options_.dir / "checkpoint.safetensors", tensors, {{"state", state.dump()}});
}

bool Trainer::resume() {
  const Path file = options_.dir / "checkpoint.safetensors";
  if (!std::filesystem::exists(file)) return false;
  const SafetensorsFile stored(file);
  const auto it = stored.metadata().find("state");
  if (it == stored.metadata().end()) fail(file.string(), ": not a training checkpoint of this program");
  const Json state = parse_json(it->second, file.string());
  if (state.at("settings") != options_.settings) {
    std::string differing;
    for (const auto& [key, value] : options_.settings.items())
      if (!state["settings"].contains(key) || state["settings"][key] != value)
        differing += "\n  " + key + ": was " + (state["settings"].contains(key) ? state["settings"][key].dump() : "absent") + ", now " + value.dump();
    fail("resume: ", options_.dir.string(), " was started with other settings:", differing, "\nrepeat the first command to go on, or choose another --out");
  }
  const auto load = [&](const char* name, Tensor to) {
    const Tensor from = stored.find(name);
    if (!from || from.count() != to.count()) fail(file.string(), ": tensor ", name, " is missing or has another size");
    convert(to, from.shaped(to.shape));
  };
  load("weights", student_.params.block());
  load("first_moment", first_moment_), load("second_moment", second_moment_);
  if (average_) load("average", average_);
  stage_ = state.at("stage"), step_ = state.at("step"), averaged_ = state.at("averaged");
  return true;
}

void Trainer::validate(const Stage& stage, TrainStatus& status) const {
  if (validation_ == nullptr || validation_->size() < 2) return;
  const auto ids = validation_->tokens().first(static_cast<size_t>(std::min(options_.validation_tokens, validation_->size())));
  const Windows windows{ids, stage.context};
  if (teacher_) {
    const Comparison c = compare(on_, *teacher_->decoder, *student_.decoder, windows, false);
    status.validation_kl = c.kl, status.validation_ratio = c.ratio();
  } else {
    status.validation_ratio = score(on_, *student_.decoder, windows).perplexity();
  }
}

Outcome Trainer::run(const std::function<void(int64_t)>& before_stage) {
  std::filesystem::create_directories(options_.dir);
  auto saved = Clock::now();
  int64_t done = 0;
  for (; stage_ < static_cast<int64_t>(recipe_.stages.size()); ++stage_, step_ = 0) {
    const Stage& stage = recipe_.stages[static_cast<size_t>(stage_)];
    if (step_ == 0) {
      if (before_stage) before_stage(stage_);
      on_.zero(first_moment_), on_.zero(second_moment_);
      if (average_) on_.zero(average_);
      averaged_ = 0;
    }
    prepare(stage);
    const int64_t steps = stage.steps();
    TrainStatus status{.stage = &stage, .stage_index = stage_, .steps = steps};
    double loss_sum = 0, busy = 0;
    int64_t loss_steps = 0, reports = 0;
    while (step_ < steps) {
      const auto begin = Clock::now();
      const double loss = step(stage, stage_, step_);
      update(stage, step_);
      const auto end = Clock::now();
      busy += seconds_between(begin, end);
      loss_sum += loss, ++loss_steps, ++step_, ++done;
      last_loss_ = loss;
      if (step_ % options_.report_steps == 0 || step_ == steps) {
        status.step = step_, status.loss = loss_sum / static_cast<double>(loss_steps);
        status.gradient_norm = gradient_norm_, status.rate = stage.rate(step_ - 1, false);
        status.tokens_per_second = static_cast<double>(loss_steps * stage.batch * stage.context) / busy;
        const double gflops = flops_per_token(stage, student_.config(), teacher_ ? &teacher_->config() : nullptr) * status.tokens_per_second * 1e-9;
        status.share_of_peak = options_.peak_gflops > 0 ? gflops / options_.peak_gflops : 0;
        status.eta_seconds = busy / static_cast<double>(loss_steps) * static_cast<double>(steps - step_);
        status.memory_bytes = memory_bytes();
        if (options_.validate_reports > 0 && (++reports % options_.validate_reports == 0 || step_ == steps)) validate(stage, status);
        append_line(options_.dir / "log.jsonl",
                    Json{{"stage", stage_}, {"name", stage.name}, {"step", step_}, {"loss", number(status.loss)}, {"lr", status.rate},
                         {"gradient_norm", number(gradient_norm_)}, {"tokens_per_second", std::round(status.tokens_per_second)},
                         {"validation_kl", number(status.validation_kl)}, {"validation_ratio", number(status.validation_ratio)}}.dump());
        if (options_.report) options_.report(status);
        loss_sum = busy = 0, loss_steps = 0;
      }
      const bool asked = (options_.stop && options_.stop->load()) || (options_.stop_after_steps > 0 && done >= options_.stop_after_steps);
      if (asked || seconds_between(saved, Clock::now()) >= options_.checkpoint_seconds) {
        save(stage_, step_);
        saved = Clock::now();
      }
      if (asked) return Outcome::interrupted;
    }
    if (averaged_ > 0) {
      for (const Run& run : runs_) {
        const Tensor mean = slice(average_, run);
        float* to = slice(student_.params.block(), run).as<float>();
        for (int64_t i = 0; i < mean.count(); ++i) to[i] = mean.as<float>()[i] / static_cast<float>(averaged_);
      }
    }
  }
  save(stage_, 0);
  return Outcome::finished;
}

}  // namespace qwerky
