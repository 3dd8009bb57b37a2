// SPDX-License-Identifier: MIT
#include "cli/bench_train.h"

#include <algorithm>
#include <iomanip>
#include <iostream>

#include "backend/peak.h"
#include "base/parallel.h"
#include "base/random.h"
#include "cli/command.h"
#include "cli/result.h"
#include "distill/initialise.h"
#include "distill/trainer.h"
#include "engine/engine.h"
#include "engine/random_model.h"

namespace qwerky {

int bench_train(const TrainBenchOptions& o) {
  const auto backend = make_backend(o.backend, resolve_precision(o.precision, DType::f32, o.backend));
  std::unique_ptr<Model> teacher;
  if (!o.random.empty()) {
    teacher = make_model(published_config(o.random, "softmax"), false, o.precision == "bf16");
    fill_random(teacher->params);
  } else {
    if (o.model.empty()) fail("bench --train: expected a model directory or --random SHAPE");
    teacher = load_model(o.model, {.need_tokenizer = false});
  }
  const auto student = make_model(student_config(teacher->config(), mixer_kind(o.to), {}), true);
  copy_from_teacher(*student, *teacher);
  init_published(*student, 1);
  std::vector<int32_t> ids(static_cast<size_t>(std::max<int64_t>(o.batch * (o.context + 1) * 4, 65536)));
  const Random random(2);
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<int32_t>(random.below(i, static_cast<uint64_t>(teacher->config().vocab)));
  const TokenStream tokens(std::move(ids));

  Recipe recipe{.name = "bench",
                .stages = {Stage{.name = "1 align", .loss = "align", .train = "*.self_attn.*"},
                           Stage{.name = "2 kl", .loss = "kl"}}};
  for (Stage& s : recipe.stages)
    s.context = o.context, s.batch = o.batch, s.lanes = o.lanes, s.recompute = !o.random.empty();
  Trainer trainer(*backend, *student, teacher.get(), tokens, nullptr, recipe,
                  {.dir = {}, .settings = {}, .report = nullptr});
  // Only now, so that an error comes at once and alone.
  const Peaks peaks = measure_peaks(threads(), 1.0);
  std::cout << std::fixed << std::setprecision(1) << "machine: " << threads() << " threads, f32 " << peaks.f32_gflops
            << " GFLOP/s, bf16 " << peaks.bf16_gflops << " GFLOP/s, read " << peaks.read_gb_s << " GB/s\n";
  const double peak = o.precision == "bf16" ? peaks.bf16_gflops : peaks.f32_gflops;
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
  write_result(o.json, Json{{"peaks", to_json(peaks)}, {"stages", rows}});
  return 0;
}

}  // namespace qwerky
