// SPDX-License-Identifier: MIT
// `bench --train`: what this machine can do, and what the training steps reach of it. Without --train: the cost of a
// token as the context grows (bench_context.cc).
#include <algorithm>
#include <chrono>
#include <iomanip>
#include <iostream>
#include <memory>

#include "backend/peak.h"
#include "base/parallel.h"
#include "base/random.h"
#include "cli/bench_context.h"
#include "cli/command.h"
#include "distill/initialise.h"
#include "distill/trainer.h"

namespace qwerky {
namespace {

struct Options {
  std::string model, second, random, to = "rad-rwkv7", backend = "auto", precision = "auto", json, svg;
  std::vector<int64_t> contexts = {128, 512, 2048, 8192};
  bool train = false;
  int64_t context = 256, batch = 4, lanes = 2, steps = 5;
};

/// Published shapes, by name.
Json shape(const std::string& name) {
  const auto qwen = [](int64_t hidden, int64_t layers, int64_t heads, int64_t kv, int64_t ffn, int64_t vocab,
                       bool tied) {
    return Json{{"model_type", "qwen2"},       {"hidden_size", hidden},
                {"num_hidden_layers", layers}, {"num_attention_heads", heads},
                {"num_key_value_heads", kv},   {"intermediate_size", ffn},
                {"vocab_size", vocab},         {"tie_word_embeddings", tied},
                {"rope_theta", 1e6},           {"max_position_embeddings", 32768},
                {"rms_norm_eps", 1e-6}};
  };
  if (name == "qwen2.5-0.5b") return qwen(896, 24, 14, 2, 4864, 151936, true);
  if (name == "qwen2.5-1.5b") return qwen(1536, 28, 12, 2, 8960, 151936, true);
  fail("--random: \"", name, "\" is not known; known: qwen2.5-0.5b, qwen2.5-1.5b");
}

int bench_train(const Options& o) {
  const Peaks peaks = measure_peaks(threads(), 1.0);
  std::cout << std::fixed << std::setprecision(1) << "machine: " << threads() << " threads, f32 " << peaks.f32_gflops
            << " GFLOP/s, bf16 " << peaks.bf16_gflops << " GFLOP/s, read " << peaks.read_gb_s << " GB/s\n";
  std::unique_ptr<Model> teacher;
  if (!o.random.empty()) {
    teacher = make_model(read_config(shape(o.random), nullptr), false, o.precision == "bf16");
    const Random random(1);
    teacher->params.each([&](Param& p) {
      std::vector<float> row(4096);
      for (int64_t i = 0; i < p.count(); i += 4096) {
        const int64_t n = std::min<int64_t>(4096, p.count() - i);
        for (int64_t j = 0; j < n; ++j)
          row[static_cast<size_t>(j)] =
              static_cast<float>(0.02 * (2 * random.uniform(static_cast<uint64_t>(i + j)) - 1));
        convert(Tensor(static_cast<char*>(p.weight.data) + i * size_of(p.weight.type), p.weight.type, {n}),
                Tensor(row.data(), DType::f32, {n}));
      }
    });
  } else {
    if (o.model.empty()) fail("bench --train: expected a model directory or --random SHAPE");
    teacher = load_model(o.model, {.need_tokenizer = false});
  }
  const auto student = make_model(child_config(teacher->config(), mixer_kind(o.to), {}), true);
  copy_from_teacher(*student, *teacher);
  init_published(*student, 1);
  std::vector<int32_t> ids(static_cast<size_t>(std::max<int64_t>(o.batch * (o.context + 1) * 4, 65536)));
  const Random random(2);
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<int32_t>(random.below(i, static_cast<uint64_t>(teacher->config().vocab)));
  const TokenStream tokens(std::move(ids));

  const auto backend = make_backend(o.backend, o.precision == "bf16" ? Precision::bf16 : Precision::f32);
  const double peak = o.precision == "bf16" ? peaks.bf16_gflops : peaks.f32_gflops;
  Recipe recipe{.name = "bench",
                .stages = {Stage{.name = "1 align", .loss = "align", .train = "*.self_attn.*"},
                           Stage{.name = "2 kl", .loss = "kl"}}};
  for (Stage& s : recipe.stages)
    s.context = o.context, s.batch = o.batch, s.lanes = o.lanes, s.recompute = !o.random.empty();
  Trainer trainer(*backend, *student, teacher.get(), tokens, nullptr, recipe,
                  {.dir = {}, .settings = {}, .report = nullptr});
  Json rows = Json::array();
  std::cout << "model " << (o.random.empty() ? o.model : o.random) << " -> " << o.to << ", " << o.precision
            << ", steps of " << o.batch << " × " << o.context << " tokens in " << o.lanes << " lanes, backend "
            << backend->name() << "\n"
            << "stage        tokens/s   GFLOP/s   of peak   memory MiB\n";
  for (const Stage& s : recipe.stages) {
    const double seconds = trainer.measure_step_seconds(s, o.steps),
                 rate = static_cast<double>(o.batch * o.context) / seconds;
    const double gflops = rate * flops_per_token(s, student->config(), &teacher->config()) * 1e-9;
    std::cout << std::left << std::setw(9) << s.name << std::right << std::setw(12) << rate << std::setw(10) << gflops
              << std::setw(8) << 100 * gflops / peak << " %" << std::setw(12)
              << static_cast<double>(trainer.memory_bytes()) / (1 << 20) << "\n";
    rows.push_back({{"stage", s.name},
                    {"tokens_per_second", rate},
                    {"gflops", gflops},
                    {"share_of_peak", gflops / peak},
                    {"memory_bytes", trainer.memory_bytes()}});
  }
  if (!o.json.empty())
    write_file(
        o.json,
        Json{{"peaks",
              {{"f32_gflops", peaks.f32_gflops}, {"bf16_gflops", peaks.bf16_gflops}, {"read_gb_s", peaks.read_gb_s}}},
             {"stages", rows}}
                .dump(1) +
            "\n");
  return 0;
}

}  // namespace

void register_bench(CLI::App& app, Run& run) {
  const auto o = std::make_shared<Options>();
  app.add_option("model", o->model, "model directory or file");
  app.add_option("model2", o->second, "another model, measured beside it as the context grows");
  app.add_option("--contexts", o->contexts, "time per token and state memory at these depths")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--svg", o->svg, "also draw them into this file");
  app.add_flag("--train", o->train, "instead: training throughput, stage 1 and stage 2");
  app.add_option("--random", o->random, "a published shape with random weights: qwen2.5-0.5b, qwen2.5-1.5b");
  app.add_option("--to", o->to, "rad-rwkv6 | rad-rwkv7")->capture_default_str();
  app.add_option("--precision", o->precision,
                 "of matrix products: auto (f32 with --train, else as the weights are) | f32 | bf16")
      ->capture_default_str();
  app.add_option("--backend", o->backend, "auto | reference | avx2 | avx512")->capture_default_str();
  app.add_option("--context", o->context, "tokens of a window")->capture_default_str();
  app.add_option("--batch", o->batch, "windows of a step")->capture_default_str();
  app.add_option("--lanes", o->lanes, "groups of windows with gradients of their own")->capture_default_str();
  app.add_option("--steps", o->steps, "steps measured")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--json", o->json, "also write the result as JSON");
  app.callback([o, &run] {
    run = [o] {
      if (o->train) {
        if (o->precision == "auto") o->precision = "f32";
        return bench_train(*o);
      }
      ContextBenchOptions context{.models = {},
                                  .contexts = o->contexts,
                                  .backend = o->backend,
                                  .precision = o->precision,
                                  .svg = o->svg,
                                  .json = o->json};
      for (const std::string& model : {o->model, o->second})
        if (!model.empty()) context.models.push_back(model);
      return bench_context(context);
    };
  });
}

}  // namespace qwerky
