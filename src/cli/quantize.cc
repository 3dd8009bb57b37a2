// SPDX-License-Identifier: MIT
#include "engine/quantize.h"

#include <iomanip>
#include <iostream>
#include <memory>

#include "cli/command.h"
#include "cli/text_ids.h"
#include "distill/tune_codes.h"

namespace qwerky {
namespace {

struct Options {
  std::string model, out, calibrate;  // by default gptq with text, else none
  std::vector<std::string> measure;
  TextOptions text;
  QuantizeOptions quantize;
  TuneOptions tune;
  int64_t window = 256, tokens = 65536, measure_tokens = 32768;
};

/// The first `n` ids from `from` on, cut where the sequence ends.
std::span<const int32_t> part(const std::vector<int32_t>& ids, int64_t from, int64_t n) {
  const auto size = static_cast<int64_t>(ids.size());
  from = std::min(from, size);
  return std::span(ids).subspan(static_cast<size_t>(from), static_cast<size_t>(std::min(n, size - from)));
}

int run_quantize(const Options& o) {
  QuantizeOptions options = o.quantize;
  options.calibration = calibration_named(o.calibrate.empty() ? "gptq" : o.calibrate, "--calibrate");
  if (!o.calibrate.empty() && options.calibration != Calibration::none && o.text.data.empty())
    fail("--calibrate ", o.calibrate, ": expected --data, text to calibrate on");
  const Checkpoint checkpoint = open_model(o.model);
  const Config config = read_config(checkpoint.config, checkpoint.tensors.get(), checkpoint.config_name);
  quantized_formats(options, config);  // complains before any text is read
  check_writable_file(o.out);
  TextOptions other = o.text;
  other.data = o.measure;
  std::unique_ptr<Tokenizer> tokenizer;
  for (const TextOptions* text : std::initializer_list<const TextOptions*>{&o.text, &other})
    if (!tokenizer && !text->data.empty() && needs_tokenizer(*text)) {
      if (checkpoint.tokenizer.empty()) fail(o.model, ": has no tokenizer to read text with; give a .tokens shard");
      tokenizer = load_tokenizer(checkpoint.tokenizer);
    }
  std::vector<int32_t> ids, apart;
  if (!o.text.data.empty()) ids = read_ids(o.text, tokenizer.get(), config.vocab).front();
  if (!other.data.empty()) apart = read_ids(other, tokenizer.get(), config.vocab).front();
  for (const auto& [flag, given, read] :
       {std::tuple("--data", !o.text.data.empty(), &ids), std::tuple("--measure", !other.data.empty(), &apart)})
    if (given && read->size() < 2) fail(flag, ": expected text of at least 2 tokens, found ", read->size());

  // Without other text to measure on, the last part of the data is kept apart, at most half of it.
  int64_t calibrating = static_cast<int64_t>(ids.size());
  Windows calibrate({}, o.window), measure({}, o.window);
  if (!apart.empty()) {
    measure.add(part(apart, 0, o.measure_tokens));
  } else if (!ids.empty()) {
    calibrating -= std::min(o.measure_tokens, calibrating / 2);
    measure.add(part(ids, calibrating, o.measure_tokens));
  }
  Windows tuning({}, o.window);
  tuning.add(part(ids, 0, calibrating));
  calibrating = std::min(calibrating, o.tokens);
  if (options.calibration != Calibration::none) calibrate.add(part(ids, 0, calibrating));

  Json card = Json::object();
  if (calibrate.count() > 0) card["calibration_tokens"] = calibrating;
  Improve tune;
  if (o.tune.steps > 0) {
    if (o.text.data.empty()) fail("--tune: expected --data, text to tune on");
    card["tuning_steps"] = o.tune.steps;
    tune = [&](const Model& original, Model& quantized) {
      tune_codes(*make_backend("auto", Precision::f32), original, quantized, tuning, o.tune,
                 [](int64_t i, int64_t n) { say(concat("tuned step ", i, "/", n), false); });
    };
  }
  const auto report = [](int64_t i, int64_t n) { say(concat("quantized part ", i, "/", n), false); };
  const Quantized done = quantize(checkpoint, options, calibrate, measure, card, o.out, report, tune);
  if (options.calibration != Calibration::none && done.calibration == Calibration::none)
    say("no --data to calibrate on: weights are rounded to nearest", true);
  std::cout << done.format << ", calibrated on " << (calibrate.count() > 0 ? calibrating : 0) << " tokens, "
            << std::fixed << std::setprecision(2) << static_cast<double>(done.bytes) / (1 << 20) << " MiB, written to "
            << o.out << "\n";
  if (done.measured)
    std::cout << std::setprecision(4) << "perplexity " << done.cost.teacher.perplexity() << " -> "
              << done.cost.student.perplexity() << ", ratio " << done.cost.ratio() << "; KL " << std::setprecision(5)
              << done.cost.kl << " nats; same top token " << std::setprecision(2) << 100 * done.cost.top1 << " %; on "
              << done.cost.teacher.tokens << " other tokens\n";
  return 0;
}

}  // namespace

void register_quantize(Flags flags, Run& run) {
  const auto o = std::make_shared<Options>();
  flags.add_option("model", o->model, "model directory or file").required();
  flags.add_option("--out", o->out, "packed file to write").required();
  flags.add_option("--type", o->quantize.type, "of the layers' matrices: int8 | int4").with_default();
  flags.add_option("--group", o->quantize.group, "inputs that share a scale: 32 | 64 | 128 (0: 32 in narrow models)")
      .with_default();
  flags.add_flag("--minimum", o->quantize.minimum, "int4: a minimum for each group beside its scale");
  flags.add_option("--head", o->quantize.head, "f32 | bf16 | int8 | int4; also an embedding that is the head")
      .with_default();
  flags.add_option("--embedding", o->quantize.embedding,
                   "f32 | bf16 | int8 (default) | int4, where it is not the head");
  flags.add_option("--low-rank", o->quantize.low_rank, "RWKV's low-rank matrices: f32 | bf16 | int8 | int4")
      .with_default();
  flags.add_option("--data", o->text.data,
                   "text to calibrate on (.txt, .jsonl, .zst, directories), or a .tokens shard");
  flags.add_option("--measure", o->measure, "other text to measure the cost on (default: the last part of --data)");
  flags.add_option("--field", o->text.field, "field of .jsonl rows that holds the text").with_default();
  flags.add_option("--split-before", o->text.split_before,
                   "cut .txt files without <|endoftext|> before lines that begin so");
  flags.add_option("--calibrate", o->calibrate, "none | scale | gptq (default with --data)");
  flags.add_option("--tokens", o->tokens, "most tokens to calibrate on").with_default().positive();
  flags.add_option("--measure-tokens", o->measure_tokens, "most tokens to measure on").with_default().positive();
  flags.add_option("--window", o->window, "tokens of a window").with_default().positive();
  flags
      .add_option("--tune", o->tune.steps,
                  "then so many steps that move int4 codes, scales and vectors towards the model's logits on --data")
      .with_default()
      .not_negative();
  flags.add_option("--tune-batch", o->tune.batch, "windows of such a step").with_default().positive();
  flags.add_option("--tune-rate", o->tune.code_rate, "its rate, in codes").with_default().positive();
  flags
      .add_option("--layers-at-once", o->quantize.layers_at_once,
                  "layers calibrated in one pass over the text (0: one, more in large models)")
      .with_default()
      .not_negative();
  flags.callback([o, &run] { run = [o] { return run_quantize(*o); }; });
}

}  // namespace qwerky
