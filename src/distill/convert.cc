// SPDX-License-Identifier: MIT
#include "distill/convert.h"

#include <chrono>
#include <cmath>
#include <iomanip>

#include "backend/peak.h"
#include "base/parallel.h"
#include "distill/initialise.h"
#include "engine/engine.h"
#include "io/shard_file.h"

namespace qwerky {
namespace {

constexpr int64_t kFinalTokens = 200'000;  // held-out tokens of the closing comparison, at most

std::string mib(int64_t bytes) {
  const bool small = bytes < 1 << 20;
  return concat(std::fixed, std::setprecision(1), static_cast<double>(bytes) / (small ? 1 << 10 : 1 << 20),
                small ? " KiB" : " MiB");
}

std::string duration(double seconds) {
  const auto s = static_cast<int64_t>(seconds + 0.5);
  if (s < 120) return concat(s, " s");
  if (s < 7200) return concat(s / 60, " min ", s % 60, " s");
  return concat(s / 3600, " h ", s % 3600 / 60, " min");
}

std::string progress_line(const TrainStatus& s) {
  std::ostringstream out;
  out << "stage " << s.stage->name << "  step " << s.step << "/" << s.steps << std::setprecision(4) << "  loss "
      << s.loss;
  if (std::isfinite(s.validation_kl)) out << "  val KL " << s.validation_kl;
  if (std::isfinite(s.validation_ratio))
    out << (std::isfinite(s.validation_kl) ? "  ppl ratio " : "  val ppl ") << s.validation_ratio;
  out << std::fixed << std::setprecision(0) << "  " << s.tokens_per_second << " tok/s";
  if (s.share_of_peak > 0) out << "  " << 100 * s.share_of_peak << " % of peak";
  out << "  ETA " << duration(s.eta_seconds) << "  memory " << mib(s.memory_bytes);
  return out.str();
}

/// Thrown out of the preparation of data when the user asks to stop: nothing is lost that the same command does not
/// redo.
struct Stopped {};

/// What a run needs besides its model: data, backend and trainer, shared by convert() and train().
struct Job {
  const RunOptions& options;
  const Say& say;
  const std::atomic<bool>& stop;
  Recipe recipe;
  std::unique_ptr<Backend> backend;
  Shards data;
  std::string data_name;

  Path out() const { return options.out; }
  Path training() const { return out() / "training"; }
  void preparing(const std::string& line) const {
    if (stop) throw Stopped();
    say(line, false);
  }
};

Job make_job(const RunOptions& options, const Say& say, const std::atomic<bool>& stop) {
  if (options.out.empty()) fail("--out: expected a directory to write");
  Job job{options, say, stop, load_recipe(options.recipe, options.set), nullptr, {}, {}};
  const Precision precision = options.precision == "bf16" ? Precision::bf16 : Precision::f32;
  if (options.precision != "auto" && options.precision != "f32" && options.precision != "bf16")
    fail("--precision: expected auto, f32 or bf16, found ", options.precision);
  job.backend = make_backend(options.backend, precision);
  return job;
}

/// Before any work: the place for the result can be written, and holds no other model.
void prepare_out(const Job& job) {
  std::error_code error;
  if (std::filesystem::exists(job.out() / "config.json", error) && !std::filesystem::exists(job.training(), error))
    fail("--out: ", job.out().string(),
         " already holds a model that was not made there by this command; choose another directory");
  std::filesystem::create_directories(job.training(), error);
  if (error) fail("--out: cannot make the directory ", job.training().string(), ": ", error.message());
  FileWriter probe(job.training() / "checkpoint.safetensors");  // fails now rather than after hours
}

Outcome stopped_early(const Job& job) {
  job.say("interrupted before training began; repeat the same command to start", true);
  return Outcome::interrupted;
}

void read_data(Job& job, const Tokenizer& tokenizer) {
  ShardOptions shards;
  for (const std::string& input : job.options.data) {
    shards.corpus.inputs.emplace_back(input);
    job.data_name += (job.data_name.empty() ? "" : ", ") + input;
  }
  for (const std::string& input : job.options.exclude) shards.exclude_overlap.emplace_back(input);
  shards.corpus.field = job.options.field;
  shards.corpus.split_before = job.options.split_before;
  shards.holdout_tokens = job.options.holdout;
  if (shards.holdout_tokens == 0) {  // 1 % of what the files hold at about 4 bytes per token
    int64_t bytes = 0;
    for (const Path& input : shards.corpus.inputs)
      if (std::filesystem::is_regular_file(input)) bytes += static_cast<int64_t>(std::filesystem::file_size(input));
    shards.holdout_tokens = std::clamp<int64_t>(bytes / 400, 4096, kFinalTokens);
  }
  job.data = prepare_shards(shards, tokenizer, job.out() / "data", [&](int64_t done, int64_t total) {
    job.preparing(concat("tokenising ", done * 100 / std::max<int64_t>(total, 1), " %"));
  });
  job.say(concat("data: ", job.data.documents, " documents, ", job.data.train->size(), " training tokens, ",
                 job.data.validation->size(), " held out, ", job.data.dropped,
                 " documents dropped because they share text with the held-out part"),
          true);
}

/// A digest of the configuration and every tensor.
std::string fingerprint(const Model& model) {
  Sha256 hash;
  hash.update(write_config(model.config()).dump());
  model.params.each([&](const Param& p) {
    if (p.weight) hash.update({static_cast<const char*>(p.weight.data), static_cast<size_t>(p.weight.bytes())});
  });
  return hash.hex();
}

/// Text drawn from the teacher, kept in OUT/data as tokenised text is: train.tokens and validation.tokens (the last 5
/// %).
void sample_data(Job& job, const Model& teacher, int64_t tokens) {
  const int64_t length = job.recipe.stages.front().context;
  if (tokens < 20 * length)
    fail("--sample-tokens: expected at least ", 20 * length, " (20 windows of ", length, "), found ", tokens);
  const Path dir = job.out() / "data", train = dir / "train.tokens", validation = dir / "validation.tokens",
             manifest = dir / "sampled.json";
  Json record{{"tokens", tokens}, {"length", length}, {"seed", job.recipe.seed}, {"teacher", fingerprint(teacher)}};
  job.say("no --data given: the text is sampled from the teacher itself", true);
  const auto open = [&] {
    job.data.train = TokenStream::open(train), job.data.validation = TokenStream::open(validation);
    if (job.data.train && job.data.validation)
      record["train"] = job.data.train->hash(), record["validation"] = job.data.validation->hash();
  };
  const auto is_file = [](const Path& path) {
    std::error_code absent;
    return std::filesystem::is_regular_file(path, absent);
  };
  if (is_file(manifest) && is_file(train) && is_file(validation)) open();
  if (!record.contains("train") || Json::parse(read_file(manifest), nullptr, /*allow_exceptions=*/false) != record) {
    const std::vector<int32_t> ids = sample_corpus(
        teacher, *job.backend, tokens, length, job.recipe.seed,
        [&](int64_t done, int64_t total) { job.preparing(concat("sampling ", done, "/", total, " tokens")); });
    std::filesystem::create_directories(dir);
    const size_t kept = ids.size() - ids.size() / 20;
    const auto write = [](const Path& file, std::span<const int32_t> part) {
      ShardWriter shard(file);
      shard.write(part);
      shard.commit();
    };
    write(train, std::span(ids).first(kept));
    write(validation, std::span(ids).subspan(kept));
    open();
    write_file(manifest, record.dump(1) + "\n");
  }
  job.data.corpus_hash = sha256(record.dump());
  job.data_name = concat(tokens, " tokens sampled from the teacher");
  job.say(concat("data: ", job.data.train->size(), " training tokens, ", job.data.validation->size(), " held out"),
          true);
}

/// Prints what the run will take, and fails when it cannot work.
void plan(const Job& job, const Model& student, const Model* teacher, Trainer& trainer, const Peaks& peaks) {
  const int64_t count = student.params.count();
  job.say(concat("student: ", count, " parameters in ", student.config().layers, " layers, state ",
                 mib(4 * student.decoder->state_scalars(0)), " per sequence"),
          true);
  double seconds = 0;
  for (const Stage& s : job.recipe.stages) {
    const int64_t sample_steps =
        s.batch * s.context * flops_per_token(s, student.config(), teacher ? &teacher->config() : nullptr) < 1e11 ? 3
                                                                                                                  : 1;
    const double step = trainer.measure_step_seconds(s, sample_steps);
    const double rate = static_cast<double>(s.batch * s.context) / step;
    const double gflops = rate * flops_per_token(s, student.config(), teacher ? &teacher->config() : nullptr) * 1e-9;
    seconds += step * static_cast<double>(s.steps());
    job.say(concat("plan: stage ", s.name, ": ", s.tokens, " tokens in ", s.steps(), " steps of ", s.batch, " × ",
                   s.context, ", ", std::fixed, std::setprecision(0), rate, " tokens/s (",
                   100 * gflops / (job.options.precision == "bf16" ? peaks.bf16_gflops : peaks.f32_gflops),
                   " % of the measured peak), ", duration(step * static_cast<double>(s.steps()))),
            true);
  }
  int64_t disk = 4 * student.params.block_count() * 6;
  for (const Stage& stage : job.recipe.stages)
    if (stage.cache_targets)
      disk += TargetCache::bytes(teacher->config(), stage.unique_steps() * stage.batch * stage.context);
  job.say(
      concat("plan: memory ", mib(trainer.memory_bytes()), " (weights ", mib(student.params.block().bytes()),
             teacher ? concat(", teacher ", mib(teacher->weights->peak_bytes())) : "",
             ", gradients, moments and scratch the rest); disk ", mib(disk), "; about ", duration(seconds), " in all"),
      true);
  if (const int64_t free = free_disk_bytes(job.out()); free < disk)
    fail("plan: ", job.out().string(), " has ", mib(free), " free, the run needs ", mib(disk));
}

void check_memory(int64_t parameters, int64_t lanes, int64_t teacher_bytes) {
  const int64_t need = teacher_bytes + parameters * 4 * (4 + lanes);
  if (const int64_t have = available_memory_bytes(); need > have)
    fail("plan: training needs ", mib(need), " for weights, gradients and optimiser alone (", parameters,
         " parameters, ", lanes, " lanes); this machine has ", mib(have), " available");
}

int64_t count_parameters(const Config& config) {
  Params params;
  const Decoder decoder(config, params);  // declares without memory
  return params.count();
}

void check_contexts(const Recipe& recipe, const Config& config, const char* whose) {
  for (const Stage& s : recipe.stages)
    if (s.context > config.max_positions)
      fail("recipe ", recipe.name, ", stage ", s.name, ": context ", s.context, " is longer than the ", whose, "'s ",
           config.max_positions, " positions (max_position_embeddings)");
}

int64_t most_lanes(const Recipe& recipe) {
  int64_t lanes = 1;
  for (const Stage& s : recipe.stages) lanes = std::max(lanes, s.lanes);
  return lanes;
}

TrainerOptions trainer_options(const Job& job, const Json& settings, const Peaks& peaks) {
  return {.dir = job.training(),
          .settings = settings,
          .checkpoint_seconds = job.options.checkpoint_seconds,
          .report_steps = job.options.report_steps,
          .peak_gflops = job.options.precision == "bf16" ? peaks.bf16_gflops : peaks.f32_gflops,
          .report = [&say = job.say](const TrainStatus& s) { say(progress_line(s), s.validated); },
          .stop = &job.stop};
}

/// The held-out tokens of the closing measurement.
std::span<const int32_t> held_out(const Job& job) {
  const auto ids = job.data.validation->tokens();
  return ids.first(std::min(ids.size(), static_cast<size_t>(kFinalTokens)));
}

Json scores_json(const Scores& s) { return {{"tokens", s.tokens}, {"nll", s.nll}, {"perplexity", s.perplexity()}}; }

void write_card(const Job& job, const Model& student, const Model& teacher, const Comparison& c, int64_t window) {
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
       << " a token | " << student.decoder->state_scalars(0) << " |\n\nData: " << job.data_name
       << ". Settings, seeds, hashes and losses: `conversion.json`.\n";
  write_file(job.out() / "README.md", card.str());
}

}  // namespace

Outcome convert(const ConvertOptions& options, const Say& say, const std::atomic<bool>& stop) {
  Job job = make_job(options.run, say, stop);
  const auto teacher = load_model(options.teacher, {.rows = true});
  const bool control = mixer_kind(options.to) == MixerKind::softmax;  // the teacher itself, trained alike
  if (control) std::erase_if(job.recipe.stages, [](const Stage& stage) { return stage.loss == "align"; });
  job.recipe.check();
  Config config =
      control ? teacher->config() : child_config(teacher->config(), mixer_kind(options.to), options.keep_softmax);
  if (job.recipe.untie) config.tied = false;
  for (int64_t* rank : {&config.rank_decay, &config.rank_shift, &config.rank_iclr, &config.rank_mix, &config.rank_gate})
    *rank = std::max<int64_t>(1, std::llround(static_cast<double>(*rank) * job.recipe.rank_scale));
  std::error_code absent;
  if (job.out() == Path(options.teacher) || std::filesystem::equivalent(job.out(), options.teacher, absent))
    fail("--out: expected another directory than the teacher's");
  if (options.store != "auto" && options.store != "f32" && options.store != "bf16")
    fail("--store: expected auto, f32 or bf16, found ", options.store);
  if (job.recipe.init == "random")
    fail("recipe ", job.recipe.name, ": init random is for `train`; a conversion starts published or calibrated");
  check_contexts(job.recipe, teacher->config(), "teacher");
  check_memory(count_parameters(config), most_lanes(job.recipe), teacher->weights->peak_bytes());
  const auto student = make_model(config, true);
  prepare_out(job);
  try {
    options.run.data.empty() ? sample_data(job, *teacher, options.sample_tokens) : read_data(job, *teacher->tokenizer);
  } catch (const Stopped&) {
    return stopped_early(job);
  }

  const Peaks peaks = measure_peaks(threads(), 0.3);
  const Json settings{{"recipe", to_json(job.recipe)},
                      {"teacher", fingerprint(*teacher)},
                      {"config", write_config(config)},
                      {"data", job.data.corpus_hash},
                      {"training_tokens", job.data.train->hash()},
                      {"backend", job.backend->name()},
                      {"precision", options.run.precision}};
  Trainer trainer(*job.backend, *student, teacher.get(), *job.data.train, job.data.validation.get(), job.recipe,
                  trainer_options(job, settings, peaks));
  const int64_t window = job.recipe.stages.front().context;
  const Windows calibration{job.data.train->tokens().first(
                                static_cast<size_t>(std::min(job.recipe.calibration_tokens, job.data.train->size()))),
                            window};

  const bool resumed = trainer.resume();
  if (!resumed) {
    copy_from_teacher(*student, *teacher);
    if (control) {
      say("control: a copy of the teacher runs the recipe's stages but alignment", true);
    } else if (job.recipe.init == "calibrated") {
      init_calibrated(*student, *teacher, *job.backend, calibration, job.recipe);
    } else {
      init_published(*student, job.recipe.seed);
    }
  }
  plan(job, *student, teacher.get(), trainer, peaks);
  if (options.run.dry_run) return Outcome::finished;
  say(resumed ? "resuming from the last checkpoint in " + job.training().string()
              : "starting from the teacher's weights",
      true);

  const auto start = std::chrono::steady_clock::now();
  const Outcome outcome = trainer.run([&](int64_t stage) {
    if (job.recipe.stages[static_cast<size_t>(stage)].refit_output)
      fit_output(*student, *teacher, *job.backend, calibration, job.recipe.ridge);
  });
  if (outcome == Outcome::interrupted) {
    say("interrupted: progress is saved; repeat the same command to go on", true);
    return outcome;
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  const Windows windows{held_out(job), window};
  const bool bf16 =
      options.store == "bf16" ||
      (options.store == "auto" && teacher->params.find("model.embed_tokens.weight")->weight.type == DType::bf16);
  save_model(job.out(), config, student->params, bf16 ? DType::bf16 : DType::f32, teacher->tokenizer_path);
  const auto stored = load_model(job.out(), {.need_tokenizer = false});  // the figures are those of what was written
  const auto measuring = make_backend(options.run.backend, resolve_precision("auto", teacher->stored));
  const Comparison c = compare(*measuring, *teacher->decoder, *stored->decoder, windows, true);
  write_card(job, *student, *teacher, c, window);
  Json record{{"program", "qwerky 0.1.0"},
              {"settings", settings},
              {"data", job.data_name},
              {"teacher_path", options.teacher},
              {"data_sha256", job.data.corpus_hash},
              {"documents", job.data.documents},
              {"documents_dropped", job.data.dropped},
              {"training_seconds_of_last_run", seconds},
              {"stored_as", bf16 ? "bf16" : "f32"},
              {"window", window},
              {"teacher", scores_json(c.teacher)},
              {"student", scores_json(c.student)},
              {"ratio", c.ratio()},
              {"kl", c.kl},
              {"top1", c.top1},
              {"alignment", c.alignment},
              {"unexplained", c.unexplained},
              {"state_scalars", student->decoder->state_scalars(0)}};
  write_file(job.out() / "conversion.json", record.dump(1) + "\n");
  say(concat(std::setprecision(5), "done in ", duration(seconds), ": perplexity ", c.student.perplexity(),
             " against the teacher's ", c.teacher.perplexity(), " (ratio ", c.ratio(), ", KL ", c.kl, ") on ",
             c.teacher.tokens, " held-out tokens; state ", student->decoder->state_scalars(0), " values; written to ",
             job.out().string()),
      true);
  return outcome;
}

Outcome train(const TrainOptions& options, const Say& say, const std::atomic<bool>& stop) {
  Job job = make_job(options.run, say, stop);
  if (options.run.data.empty()) fail("--data: expected text to train on");
  Json json = read_json(options.config);
  if (!json.is_object()) fail(options.config, ": expected an object, found ", json.type_name());
  prepare_out(job);
  const Path tokenizer_file = job.out() / "tokenizer.json";
  if (!std::filesystem::exists(tokenizer_file)) {
    if (options.vocab <= 0)
      fail("--vocab: expected the size of the vocabulary to train, or a tokenizer.json in ", job.out().string());
    say(concat("training a byte-level BPE of ", options.vocab, " tokens"), true);
    std::string text;
    CorpusOptions corpus{.field = options.run.field, .split_before = options.run.split_before};
    for (const std::string& input : options.run.data) corpus.inputs.emplace_back(input);
    read_corpus(corpus, [&](std::string&& document) { text += document + "\n"; });
    write_file(job.out() / "tokenizer_config.json", Json{{"tokenizer_class", "Qwen2Tokenizer"},
                                                         {"bos_token", nullptr},
                                                         {"eos_token", "<|endoftext|>"},
                                                         {"add_bos_token", false}}
                                                            .dump(1) +
                                                        "\n");
    write_file(tokenizer_file, train_bpe(text, options.vocab, {"<|endoftext|>"}));
  }
  const auto tokenizer = load_tokenizer(job.out());
  json["vocab_size"] = tokenizer->size();
  if (!tokenizer->eos.empty()) json["eos_token_id"] = tokenizer->eos.front();
  const Config config = read_config(json, nullptr);
  check_contexts(job.recipe, config, "model");
  try {
    read_data(job, *tokenizer);
  } catch (const Stopped&) {
    return stopped_early(job);
  }
  check_memory(count_parameters(config), most_lanes(job.recipe), 0);
  const auto model = make_model(config, true);

  const Peaks peaks = measure_peaks(threads(), 0.3);
  const Json settings{{"recipe", to_json(job.recipe)},  {"config", write_config(config)},
                      {"data", job.data.corpus_hash},   {"training_tokens", job.data.train->hash()},
                      {"backend", job.backend->name()}, {"precision", options.run.precision}};
  Trainer trainer(*job.backend, *model, nullptr, *job.data.train, job.data.validation.get(), job.recipe,
                  trainer_options(job, settings, peaks));
  if (!trainer.resume()) init_random(*model, job.recipe.seed);
  plan(job, *model, nullptr, trainer, peaks);
  if (options.run.dry_run) return Outcome::finished;
  const Outcome outcome = trainer.run();
  if (outcome == Outcome::interrupted) {
    say("interrupted: progress is saved; repeat the same command to go on", true);
    return outcome;
  }
  save_model(job.out(), config, model->params, DType::bf16, {});
  const auto stored = load_model(job.out());  // the figure is that of what was written
  const auto measuring = make_backend(options.run.backend, resolve_precision("auto", stored->stored));
  const Scores s = score(*measuring, *stored->decoder, {held_out(job), job.recipe.stages.back().context});
  write_file(job.out() / "training.json", Json{{"program", "qwerky 0.1.0"},
                                               {"settings", settings},
                                               {"data", job.data_name},
                                               {"data_sha256", job.data.corpus_hash},
                                               {"validation", scores_json(s)}}
                                                  .dump(1) +
                                              "\n");
  say(concat(std::setprecision(5), "done: perplexity ", s.perplexity(), " on ", s.tokens,
             " held-out tokens; written to ", job.out().string()),
      true);
  return outcome;
}

}  // namespace qwerky
