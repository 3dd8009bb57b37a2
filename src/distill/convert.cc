// SPDX-License-Identifier: MIT
#include "distill/convert.h"

#include <cmath>
#include <iomanip>

#include "backend/peak.h"
#include "base/parallel.h"
#include "base/units.h"
#include "base/version.h"
#include "distill/initialise.h"
#include "distill/prepare.h"
#include "distill/training_checkpoint.h"
#include "distill/training_log.h"
#include "engine/engine.h"
#include "engine/layer_buffers.h"

namespace qwerky {
namespace {

std::string progress_line(const TrainStatus& s) {
  std::ostringstream out;
  out << "stage " << s.stage->name << "  step " << s.step << "/" << s.steps << std::setprecision(4) << "  loss "
      << s.loss;
  if (std::isfinite(s.validation_kl)) out << "  val KL " << s.validation_kl;
  if (std::isfinite(s.validation_ratio))
    out << (std::isfinite(s.validation_kl) ? "  ppl ratio " : "  val ppl ") << s.validation_ratio;
  out << std::fixed << std::setprecision(0) << "  " << s.tokens_per_second << " tok/s";
  if (s.share_of_peak > 0) out << "  " << 100 * s.share_of_peak << " % of peak";
  out << "  ETA " << duration_text(s.eta_seconds);
  if (s.stage_eta_seconds < s.eta_seconds) out << " (stage " << duration_text(s.stage_eta_seconds) << ")";
  out << "  memory " << bytes_text(s.memory_bytes);
  return out.str();
}

/// What a run needs besides its model and data, shared by convert() and train().
struct Job {
  const RunOptions& options;
  const Say& say;
  const std::atomic<bool>& stop;
  Collective* ranks;
  Recipe recipe;
  Precision precision;
  std::unique_ptr<Backend> backend;
  Sharding sharding = {};                 // of what trains
  double peak_gflops = 0;                 // of the precision used
  std::vector<double> step_seconds = {};  // by plan(); empty when training is finished
  std::unique_ptr<DirectoryLock> lock = nullptr;

  Path out() const { return options.out; }
  bool gradients_over_ranks() const { return options.gradient_memory == "ranks" && ranks->size() > 1; }
  Path training() const { return out() / "training"; }
};

/// No other run may write there until this one ends. A dry run writes nothing.
void lock_out(Job& job) {
  if (job.ranks->first() && !job.lock && !job.options.dry_run)
    job.lock = std::make_unique<DirectoryLock>(job.training());
}

Job make_job(const RunOptions& options, const Say& say, const std::atomic<bool>& stop, Collective& ranks) {
  if (options.out.empty()) fail("--out: expected a directory to write");
  if (options.report_steps < 1) fail("--report-steps: expected at least 1, found ", options.report_steps);
  if (options.holdout < 0 || options.holdout == 1)
    fail("--holdout: expected 0 or at least 2 tokens, one of which predicts the next, found ", options.holdout);
  if (!(options.checkpoint_seconds >= 0))
    fail("--checkpoint-seconds: expected at least 0, found ", options.checkpoint_seconds);
  if (options.optimiser_memory != "device" && options.optimiser_memory != "host")
    fail("--optimiser-memory: expected device or host, found ", options.optimiser_memory);
  if (options.gradient_memory != "whole" && options.gradient_memory != "ranks")
    fail("--gradient-memory: expected whole or ranks, found ", options.gradient_memory);
  const Precision precision = resolve_precision(options.precision, DType::f32, options.backend);
  Job job{options, say, stop, &ranks, load_recipe(options.recipe, options.set), precision, nullptr};
  job.backend = make_backend(options.backend, precision);
  job.ranks = &between_devices(ranks);
  // Products of bf16 read what a bf16 copy of a weight holds. One rank alone would hold that beside all masters.
  job.sharding = {ranks.rank(), ranks.size(), ranks.size() > 1 && precision == Precision::bf16};
  if (!ranks.first()) return job;  // the first looks at what is there, before it or another changes it
  if (is_there(job.out() / "config.json") && !is_there(job.training()))
    fail("--out: ", job.out().string(),
         " already holds a model that was not made there by this command; choose another directory");
  check_writable(job.training());
  if (is_dir(job.training())) lock_out(job);
  return job;
}

/// The plan, before anything is read, sampled or written; not again when only the closing measurement is left.
/// `text_tokens`: about what the run's text holds; `copies`: of it on disk while it is prepared.
void plan(Job& job, const Config& config, const Model* teacher, int64_t text_tokens, int64_t copies, DType stored_as,
          int64_t teacher_shard_bytes = 0) {
  if (!job.ranks->first()) return;
  lock_out(job);
  const Peaks peaks = measure_peaks(threads(), 0.3);
  job.peak_gflops = job.precision == Precision::bf16 ? peaks.bf16_gflops : peaks.f32_gflops;
  const auto stages = static_cast<int64_t>(job.recipe.stages.size());
  if (!job.options.dry_run && Trainer::finished_stages(job.training()) >= stages) return;
  job.step_seconds = make_plan({.on = *job.backend,
                                .recipe = job.recipe,
                                .student = config,
                                .teacher = teacher,
                                .peak_gflops = job.peak_gflops,
                                .corpus_tokens = text_tokens,
                                .shard_bytes = 4 * copies * text_tokens,
                                .scalar_bytes = size_of(stored_as),
                                .out = job.out(),
                                .optimiser_on_host = job.options.optimiser_memory == "host",
                                .gradients_over_ranks = job.gradients_over_ranks(),
                                .teacher_shard_bytes = teacher_shard_bytes,
                                .sharding = job.sharding,
                                .ranks_on_this_machine = job.ranks->on_this_machine()},
                               job.say, job.stop)
                         .step_seconds;
}

/// What must be equal for a resume, besides the data. A checkpoint of other settings is refused.
Json settings_of(const Job& job, const Config& config, const Model* teacher) {
  Json settings{{"recipe", to_json(job.recipe)},
                {"config", write_config(config)},
                {"backend", job.backend->name()},
                {"precision", job.precision == Precision::bf16 ? "bf16" : "f32"}};
  if (teacher) settings["teacher"] = fingerprint(*teacher);
  if (job.ranks->first()) Trainer::check_settings(job.training(), settings);
  return settings;
}

Json with_data(Json settings, const std::string& data, const std::string& training_tokens) {
  settings["data"] = data, settings["training_tokens"] = training_tokens;
  return settings;
}

/// Data of another run than that to go on with replace none.
Accept accept_data(const Job& job, const Json& settings) {
  return [&](const std::string& data, const std::string& training_tokens) {
    Trainer::check_settings(job.training(), with_data(settings, data, training_tokens));
  };
}

/// Runs on the first rank, then on the others, which find what it left in files.
template <class F>
auto first_then_others(Collective& ranks, const F& f) {
  if (!ranks.first()) ranks.wait();
  auto result = f();
  if (ranks.first()) ranks.wait();
  return result;
}

/// Trains what is left, from a checkpoint or from what `initialise` makes.
RunEnd run_stages(const Job& job, Trainer& trainer, const std::function<void()>& initialise,
                  const std::function<void(int64_t)>& before_stage = nullptr) {
  const bool resumed = trainer.resume();
  if (!resumed) initialise();
  if (resumed)
    job.say(job.step_seconds.empty() ? "training is finished; what is left is the result and its measurement"
                                     : "resuming from the last checkpoint in " + job.training().string(),
            true);
  const RunEnd outcome = trainer.run(before_stage);
  if (outcome == RunEnd::interrupted) job.say("interrupted: progress is saved; repeat the same command to go on", true);
  return outcome;
}

/// Progress of the closing measurement, which stops when the user asks to.
Progress measuring(const Job& job) {
  return [&job](int64_t done, int64_t total) {
    if (job.stop) throw Interrupted();
    job.say(concat("measuring the result: window ", done, "/", total), false);
  };
}

void check_contexts(const Recipe& recipe, const Config& config, const char* whose) {
  for (const Stage& s : recipe.stages)
    if (s.context > config.max_positions)
      fail("recipe ", recipe.name, ", stage ", s.name, ": context ", s.context, " is longer than the ", whose, "'s ",
           config.max_positions, " positions (max_position_embeddings)");
}

TrainerOptions trainer_options(const Job& job, const Json& settings) {
  return {.dir = job.training(),
          .settings = settings,
          .checkpoint_seconds = job.options.checkpoint_seconds,
          .report_steps = job.options.report_steps,
          .peak_gflops = job.peak_gflops,
          .step_seconds = job.step_seconds,
          .report = [&say = job.say](const TrainStatus& s) { say(progress_line(s), s.validated); },
          .stop = &job.stop,
          .ranks = job.ranks,
          .optimiser_on_host = job.options.optimiser_memory == "host",
          .gradients_over_ranks = job.gradients_over_ranks()};
}

/// The held-out tokens of the closing measurement.
std::span<const int32_t> held_out(const RunData& data) {
  const auto ids = data.shards.validation->tokens();
  return ids.first(std::min(ids.size(), static_cast<size_t>(kMostHeldOut)));
}

void write_card(const Job& job, const RunData& data, const Model& student, const Model& teacher, const Comparison& c,
                int64_t window) {
  std::ostringstream card;
  card << "# " << job.out().filename().string() << "\n\nA " << student.config().model_type << " model converted from `"
       << teacher.path.filename().string() << "` with the recipe `" << job.recipe.name
       << "`: softmax attention replaced by " << name_of(student.config().linear_kind())
       << " without retraining from scratch.\n\n"
       << "| measured on " << c.teacher.tokens << " held-out tokens, windows of " << window
       << " | teacher | student |\n|---|---|---|\n"
       << "| perplexity | " << c.teacher.perplexity() << " | " << c.student.perplexity() << " |\n"
       << "| perplexity ratio | 1 | " << c.ratio() << " |\n| KL(teacher ‖ student), nats | 0 | " << c.kl
       << " |\n| same most likely token | 1 | " << c.top1 << " |\n"
       << "| state per sequence, f32 values | grows by " << 2 * teacher.config().kv_width() * teacher.config().layers
       << " a token | " << student.decoder->state_scalars(0) << " |\n\nData: " << data.name
       << ". Settings, seeds, hashes and losses: `conversion.json`.\n";
  write_file(job.out() / "README.md", card.str());
}

RunEnd convert_model(Job& job, const ConvertOptions& options) {
  if (options.teacher_memory != "whole" && options.teacher_memory != "layers" && options.teacher_memory != "ranks")
    fail("--teacher-memory: expected whole, layers or ranks, found ", options.teacher_memory);
  const auto teacher = load_model(options.teacher, {.rows = true, .map = options.teacher_memory != "whole"});
  LayerBuffers* layers = nullptr;
  if (options.teacher_memory != "whole") {
    auto made = std::make_unique<LayerBuffers>(*teacher, job.ranks->size());
    layers = made.get();
    teacher->layers = std::move(made);
  }
  const bool over_ranks = options.teacher_memory == "ranks" && job.ranks->size() > 1;
  const bool control = mixer_kind(options.to) == MixerKind::softmax;  // the teacher itself, trained alike
  if (control) std::erase_if(job.recipe.stages, [](const Stage& stage) { return stage.loss == "align"; });
  job.recipe.check();
  Config config =
      control ? teacher->config() : student_config(teacher->config(), mixer_kind(options.to), options.keep_softmax);
  if (job.recipe.untie) config.tied = false;
  for (int64_t* rank : {&config.rank_decay, &config.rank_shift, &config.rank_iclr, &config.rank_mix, &config.rank_gate})
    *rank = std::max<int64_t>(1, std::llround(static_cast<double>(*rank) * job.recipe.rank_scale));
  if (same_place(job.out(), options.teacher)) fail("--out: expected another directory than the teacher's");
  if (options.store != "auto" && options.store != "f32" && options.store != "bf16")
    fail("--store: expected auto, f32 or bf16, found ", options.store);
  if (job.recipe.init == "random")
    fail("recipe ", job.recipe.name, ": init random is for `train`; a conversion starts published or calibrated");
  check_contexts(job.recipe, teacher->config(), "teacher");
  const int64_t window = job.recipe.stages.front().context;
  const bool sampled = options.run.data.empty();
  constexpr int64_t kMostSampled = int64_t{1} << 40;
  if (sampled && (options.sample_tokens < 20 * window || options.sample_tokens > kMostSampled))
    fail("--sample-tokens: expected at least ", 20 * window, " (20 windows of ", window, ") and at most ", kMostSampled,
         ", found ", options.sample_tokens);
  const bool bf16 =
      options.store == "bf16" ||
      (options.store == "auto" && teacher->params.find("model.embed_tokens.weight")->weight.type == DType::bf16);
  const DType stored_as = bf16 ? DType::bf16 : DType::f32;

  const Json known = options.run.dry_run ? Json() : settings_of(job, config, teacher.get());
  plan(job, config, teacher.get(), sampled ? options.sample_tokens : check_text(options.run), sampled ? 1 : 2,
       stored_as, over_ranks ? layers->shard_bytes(job.ranks->size()) : 0);
  if (options.run.dry_run) return RunEnd::finished;
  const RunData data = first_then_others(*job.ranks, [&] {
    return sampled ? sample_data(job.out(), *teacher, *job.backend, options.sample_tokens, window, job.recipe.seed,
                                 accept_data(job, known), job.say, job.stop)
                   : read_data(options.run, *teacher->tokenizer, accept_data(job, known), job.say, job.stop);
  });

  const Json settings = with_data(known, data.shards.corpus_hash, data.shards.train->hash());
  auto student = make_student(config, job.recipe, *teacher, job.sharding);
  TrainerOptions how = trainer_options(job, settings);
  how.teacher_over_ranks = over_ranks;
  auto trainer = std::make_unique<Trainer>(*job.backend, *student, teacher.get(), *data.shards.train,
                                           data.shards.validation.get(), job.recipe, how);
  if (over_ranks) layers->shard(*job.ranks);
  const auto ids = data.shards.train->tokens();
  const Windows calibration{ids.first(std::min(static_cast<size_t>(job.recipe.calibration_tokens), ids.size())),
                            window};
  const auto initialise = [&] {
    copy_from_teacher(*student, *teacher);
    if (control) {
      job.say("control: a copy of the teacher runs the recipe's stages but alignment", true);
    } else if (job.recipe.init == "calibrated") {
      init_calibrated(*student, *teacher, *job.backend, calibration, job.recipe);
    } else {
      init_published(*student, job.recipe.seed);
    }
  };
  const auto before_stage = [&](int64_t stage) {
    if (job.recipe.stages[static_cast<size_t>(stage)].refit_output)
      fit_output(*student, *teacher, *job.backend, calibration, job.recipe.ridge);
  };
  const auto start = Clock::now();
  if (run_stages(job, *trainer, initialise, before_stage) == RunEnd::interrupted) return RunEnd::interrupted;
  const double seconds = seconds_since(start);
  trainer.reset();  // its memory is not needed any more
  if (over_ranks) layers->unshard();
  if (!job.ranks->first()) return RunEnd::finished;

  if (job.sharding.rounded && !bf16) {  // written from the masters of all ranks
    student.reset();
    student = make_student(config, job.recipe, *teacher);
    TrainingCheckpoint(job.training()).read_weights(student->params);
  }
  read_shared_from_files(*student, *teacher);
  save_model(job.out(), config, student->params, stored_as, teacher->tokenizer_path);
  const auto stored = load_model(job.out(), {.need_tokenizer = false});  // the figures are those of what was written
  const auto measurer =
      make_backend(options.run.backend, resolve_precision("auto", teacher->stored, options.run.backend));
  const Comparison c =
      compare(*measurer, *teacher->decoder, *stored->decoder, {held_out(data), window}, true, measuring(job));
  write_card(job, data, *student, *teacher, c, window);
  const Json record{{"program", program_version()},
                    {"settings", settings},
                    {"data", data.name},
                    {"teacher_path", options.teacher},
                    {"data_sha256", data.shards.corpus_hash},
                    {"documents", data.shards.documents},
                    {"documents_dropped", data.shards.dropped},
                    {"training_seconds_of_last_run", seconds},
                    {"stored_as", bf16 ? "bf16" : "f32"},
                    {"window", window},
                    {"teacher", to_json(c.teacher)},
                    {"student", to_json(c.student)},
                    {"ratio", c.ratio()},
                    {"kl", c.kl},
                    {"top1", c.top1},
                    {"alignment", c.alignment},
                    {"unexplained", c.unexplained},
                    {"stages", final_losses(job.training() / "log.jsonl")},
                    {"state_scalars", student->decoder->state_scalars(0)}};
  write_file(job.out() / "conversion.json", record.dump(1) + "\n");
  job.say(concat(std::setprecision(5), "done in ", duration_text(seconds), ": perplexity ", c.student.perplexity(),
                 " against the teacher's ", c.teacher.perplexity(), " (ratio ", c.ratio(), ", KL ", c.kl, ") on ",
                 c.teacher.tokens, " held-out tokens; state ", student->decoder->state_scalars(0),
                 " values; written to ", job.out().string()),
          true);
  return RunEnd::finished;
}

/// The tokenizer of a model to train: the one in --out, or one trained on the beginning of the text.
void make_tokenizer(const Job& job, const Path& file, int64_t vocab) {
  constexpr size_t kMost = size_t{64} << 20;
  const Beginning text = beginning_of_text(corpus_of(job.options), kMost, job.stop);
  job.say(concat("training a byte-level BPE of ", vocab, " tokens on ", text.whole ? "all " : "the first ",
                 bytes_text(static_cast<int64_t>(text.text.size())), " of the text"),
          true);
  const Json config{{"tokenizer_class", "Qwen2Tokenizer"},
                    {"bos_token", nullptr},
                    {"eos_token", "<|endoftext|>"},
                    {"add_bos_token", false}};
  write_file(job.out() / "tokenizer_config.json", config.dump(1) + "\n");
  write_file(file, train_bpe(text.text, vocab, {"<|endoftext|>"}));
}

RunEnd train_model(Job& job, const TrainOptions& options) {
  if (options.run.data.empty()) fail("--data: expected text to train on");
  Json json = read_json(options.config);
  if (!json.is_object()) fail(options.config, ": expected an object, found ", json.type_name());
  const Path tokenizer_file = job.out() / "tokenizer.json";
  const bool tokenizer_there = is_there(tokenizer_file);
  if (!tokenizer_there && options.vocab <= 0)
    fail("--vocab: expected the size of the vocabulary to train, or a tokenizer.json in ", job.out().string());
  json["vocab_size"] = tokenizer_there ? load_tokenizer(job.out())->size() : options.vocab;
  const Config planned = read_config(json, nullptr, options.config);
  check_contexts(job.recipe, planned, "model");

  plan(job, planned, nullptr, check_text(options.run), 2, DType::bf16);
  if (options.run.dry_run) return RunEnd::finished;
  const auto tokenizer = first_then_others(*job.ranks, [&] {
    if (!is_there(tokenizer_file)) make_tokenizer(job, tokenizer_file, options.vocab);
    return load_tokenizer(job.out());
  });
  json["vocab_size"] = tokenizer->size();
  if (!tokenizer->eos.empty()) json["eos_token_id"] = tokenizer->eos.front();
  const Config config = read_config(json, nullptr, options.config);
  const Json known = settings_of(job, config, nullptr);
  const RunData data = first_then_others(
      *job.ranks, [&] { return read_data(options.run, *tokenizer, accept_data(job, known), job.say, job.stop); });

  const Json settings = with_data(known, data.shards.corpus_hash, data.shards.train->hash());
  const auto model = make_model(config, nullptr, job.sharding);
  Trainer trainer(*job.backend, *model, nullptr, *data.shards.train, data.shards.validation.get(), job.recipe,
                  trainer_options(job, settings));
  const auto initialise = [&] { init_random(*model, job.recipe.seed); };
  if (run_stages(job, trainer, initialise) == RunEnd::interrupted) return RunEnd::interrupted;
  if (!job.ranks->first()) return RunEnd::finished;
  save_model(job.out(), config, model->params, DType::bf16, {});
  const auto stored = load_model(job.out());  // the figure is that of what was written
  const auto measurer =
      make_backend(options.run.backend, resolve_precision("auto", stored->stored, options.run.backend));
  const Scores s =
      score(*measurer, *stored->decoder, {held_out(data), job.recipe.stages.back().context}, measuring(job));
  const Json record{{"program", program_version()},
                    {"settings", settings},
                    {"data", data.name},
                    {"data_sha256", data.shards.corpus_hash},
                    {"stages", final_losses(job.training() / "log.jsonl")},
                    {"validation", to_json(s)}};
  write_file(job.out() / "training.json", record.dump(1) + "\n");
  job.say(concat(std::setprecision(5), "done: perplexity ", s.perplexity(), " on ", s.tokens,
                 " held-out tokens; written to ", job.out().string()),
          true);
  return RunEnd::finished;
}

/// Runs `work`; what it had saved when the user stopped it decides what there is to say.
template <class Options>
RunEnd run_job(const Options& options, const Say& say, const std::atomic<bool>& stop, Collective& ranks,
               RunEnd (*work)(Job&, const Options&)) {
  const Say silent = [](const std::string&, bool) {};
  Job job = make_job(options.run, ranks.first() ? say : silent, stop, ranks);
  try {
    return work(job, options);
  } catch (const Interrupted&) {
    const bool trained = Trainer::finished_stages(job.training()) >= static_cast<int64_t>(job.recipe.stages.size());
    say(trained ? "interrupted: training is finished and saved; repeat the same command for what is left, the "
                  "measurement of the result"
                : "interrupted before training began; repeat the same command to start",
        true);
    return RunEnd::interrupted;
  }
}

}  // namespace

RunEnd convert(const ConvertOptions& options, const Say& say, const std::atomic<bool>& stop, Collective& ranks) {
  return run_job(options, say, stop, ranks, convert_model);
}

RunEnd train(const TrainOptions& options, const Say& say, const std::atomic<bool>& stop, Collective& ranks) {
  return run_job(options, say, stop, ranks, train_model);
}

}  // namespace qwerky
