// SPDX-License-Identifier: MIT
// `bench`: speed of a model beside what the machine could do; with --contexts, the cost of a token as the context
// grows; with --train, the training steps; with --ops, each operation alone.
#include <memory>

#include "base/error.h"
#include "cli/bench_context.h"
#include "cli/bench_ops.h"
#include "cli/bench_speed.h"
#include "cli/bench_train.h"
#include "cli/command.h"
#include "cli/result.h"
#include "model/config.h"

namespace qwerky {
namespace {

struct Options {
  std::string second;
  SpeedBenchOptions speed;
  TrainBenchOptions train;
  ContextBenchOptions context;
  bool trains = false, ops = false;
};

/// What another kind of measurement would leave out of account is refused.
void check_flags(const Flags& flags, const Options& o) {
  const bool random = !o.speed.random.empty();
  const bool contexts = !o.ops && !o.trains && (!o.context.contexts.empty() || !o.second.empty());
  const bool speed = !o.ops && !o.trains && !contexts;
  const struct {
    std::vector<const char*> flags;
    bool used;
    const char* by;
  } kinds[] = {{{"model"}, !o.ops && !random, "a measurement of that model; --ops and --random SHAPE need none"},
               {{"model2", "--contexts", "--svg"}, contexts, "--contexts with models"},
               {{"--random"}, !contexts, "measuring without --contexts"},
               {{"--to"}, (speed && random) || o.trains, "--random and --train"},
               {{"--type", "--save"}, speed && random, "--random models that are run"},
               {{"--tokenizer"}, !o.speed.save.empty(), "--save"},
               {{"--prefill", "--depths", "--batches", "--tokens", "--copy"},
                speed && o.speed.save.empty(),
                "prefill and decode"},
               {{"--context", "--batch", "--lanes", "--steps"}, o.trains, "--train"}};
  for (const auto& kind : kinds)
    for (const char* flag : kind.flags)
      if (flags.count(flag) > 0 && !kind.used) fail("bench: ", flag, " is only for ", kind.by);
  if (o.ops && o.trains) fail("bench: expected one of --ops and --train, found both");
}

}  // namespace

void register_bench(Flags flags, Run& run) {
  const auto o = std::make_shared<Options>();
  o->context.contexts.clear();
  flags.add_option("model", o->speed.model, "model directory or file");
  flags.add_option("model2", o->second, "another model, measured beside it as the context grows");
  flags.add_option("--random", o->speed.random,
                   "instead: a published shape with random weights: qwen2.5-0.5b, qwen2.5-1.5b, qwen2.5-7b");
  flags
      .add_option("--to", o->speed.to,
                  concat("mixer of the random model, student with --train: softmax | ", linear_mixers(" | ")))
      .with_default();
  flags.add_option("--type", o->speed.type, "weights of the random model: f32 | bf16 | int8 | int4").with_default();
  flags.add_option("--save", o->speed.save, "instead: write the random model into this directory, f32 or bf16");
  flags.add_option("--tokenizer", o->speed.tokenizer, "with --save: the model or tokenizer that lends its tokenizer");
  flags.add_option("--prefill", o->speed.prefill, "prompt lengths").list().with_default().positive();
  flags.add_option("--depths", o->speed.depths, "tokens that a sequence has seen when it decodes")
      .list()
      .with_default()
      .not_negative();
  flags.add_option("--batches", o->speed.batches, "sequences that decode together").list().with_default().positive();
  flags.add_option("--tokens", o->speed.tokens, "steps of decoding measured").with_default().positive();
  flags.add_option("--contexts", o->context.contexts, "instead: time per token and state memory after reading so much")
      .list();
  flags.add_option("--svg", o->context.svg, "with --contexts: also draw them into this file");
  flags.add_flag("--train", o->trains, "instead: training throughput, stage 1 and stage 2");
  flags.add_flag("--ops", o->ops,
                 "instead: each operation at a --random shape (qwen2.5-0.5b by default) against the reference and its "
                 "roofline, products beside oneDNN where it is installed");
  flags
      .add_option("--precision", o->speed.precision,
                  "of matrix products: auto (f32 with --train, else as the weights are) | f32 | bf16")
      .with_default();
  flags.add_option("--backend", o->speed.backend, "auto | reference | avx2 | avx512 | cuda").with_default();
  flags.add_option("--context", o->train.context, "with --train: tokens of a window").with_default();
  flags.add_option("--batch", o->train.batch, "with --train: windows of a step").with_default();
  flags.add_option("--lanes", o->train.lanes, "with --train: groups of windows with gradients of their own")
      .with_default();
  flags.add_option("--steps", o->train.steps, "with --train: steps measured").with_default().positive();
  flags.add_flag("--copy", o->speed.copy, "copy the weights of a packed file into huge pages instead of mapping them");
  add_json_flag(flags, o->speed.json);
  flags.callback([o, &run, flags] {
    check_flags(flags, *o);
    run = [o] {
      const SpeedBenchOptions& s = o->speed;
      if (o->ops) {
        OpsBenchOptions ops{.backend = s.backend, .precision = s.precision, .json = s.json};
        if (!s.random.empty()) ops.random = s.random;
        return bench_ops(ops);
      }
      if (o->trains) {
        TrainBenchOptions& t = o->train;
        t.model = s.model, t.random = s.random, t.to = s.to, t.backend = s.backend, t.json = s.json;
        t.precision = s.precision == "auto" ? "f32" : s.precision;
        return bench_train(t);
      }
      if (!s.save.empty()) return save_random_model(s);
      if (o->context.contexts.empty() && o->second.empty()) return bench_speed(s);
      ContextBenchOptions& c = o->context;
      if (c.contexts.empty()) c.contexts = {128, 512, 2048, 8192};
      c.backend = s.backend, c.precision = s.precision, c.json = s.json;
      for (const std::string& model : {s.model, o->second})
        if (!model.empty()) c.models.push_back(model);
      return bench_context(c);
    };
  });
}

}  // namespace qwerky
