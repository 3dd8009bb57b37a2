// SPDX-License-Identifier: MIT
#include "cli/bench_speed.h"

#include <iomanip>
#include <iostream>

#include "base/parallel.h"
#include "cli/command.h"
#include "cli/result.h"
#include "engine/engine.h"
#include "engine/export_packed.h"
#include "engine/op_bench.h"
#include "engine/random_model.h"
#include "engine/throughput.h"
#include "io/files.h"

namespace qwerky {
namespace {

constexpr double kGiga = 1e-9;
constexpr double kReadSeconds = 0.2;  ///< of measuring the bandwidth before and after each decoding

struct Loaded {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
  std::string name;
};

Loaded load(const SpeedBenchOptions& o) {
  Loaded loaded;
  if (!o.random.empty()) {
    const DType type = weight_type(o.type, "--type");
    loaded.backend = make_backend(
        o.backend, resolve_precision(o.precision, type == DType::f32 ? DType::f32 : DType::bf16, o.backend));
    loaded.model = random_model(published_config(o.random, o.to), *loaded.backend, PackFormats::of(type));
    loaded.name = o.random + " " + o.to + ", random weights, " + o.type;
  } else {
    if (o.model.empty()) fail("bench: expected a model directory or file, or --random SHAPE");
    const Checkpoint checkpoint = open_model(o.model);
    loaded.backend = backend_for(checkpoint, o.backend, o.precision);
    loaded.model = load_model(checkpoint, {.need_tokenizer = false, .pack_for = loaded.backend.get(), .copy = o.copy});
    loaded.name = o.model;
  }
  return loaded;
}

std::string share(double part, double whole) {
  return whole > 0 ? concat(std::fixed, std::setprecision(0), 100 * part / whole, " %") : "-";
}

}  // namespace

int save_random_model(const SpeedBenchOptions& o) {
  if (o.tokenizer.empty())
    fail("bench: --save needs --tokenizer, a directory or file with the tokenizer to put beside");
  const DType type = weight_type(o.type, "--type");
  if (type != DType::f32 && type != DType::bf16)
    fail("bench: --save writes f32 or bf16, found ", o.type, "; qwerky quantize makes the others");
  const auto model = make_model(published_config(o.random, o.to), false, type == DType::bf16);
  fill_random(model->params);
  save_model(o.save, model->config(), model->params, type, o.tokenizer);
  std::cout << o.random << " " << o.to << ", random weights, " << o.type << ", written to " << o.save << "\n";
  return 0;
}

int bench_speed(const SpeedBenchOptions& o) {
  const Loaded m = load(o);  // first, so that an error comes at once and alone
  const Peaks peaks = measure_peaks(threads(), 1.5);
  std::cout << std::fixed << std::setprecision(1) << "machine   " << threads()
            << (threads() == 1 ? " thread" : " threads") << ": read " << peaks.read_gb_s << " GB/s, f32 "
            << peaks.f32_gflops << ", bf16 " << peaks.bf16_gflops << " GFLOP/s, int8 " << peaks.int8_gops << " GOP/s\n";
  const Decoder& decoder = *m.model->decoder;
  const ProductCost cost = product_cost(*m.model);
  const Tensor& matrix = m.model->params.find("model.layers.0.mlp.up_proj.weight")->weight;
  const double peak =
      product_peak(peaks, matrix.type, *m.backend, resolve_precision(o.precision, matrix.type, o.backend));
  const ReadMeter meter(threads());
  std::cout << "model     " << m.name << ": " << std::setprecision(1)
            << 1e-6 * static_cast<double>(m.model->params.count()) << " M parameters, " << std::setprecision(3)
            << kGiga * static_cast<double>(cost.head_bytes + cost.layer_bytes) << " GB of weights a token, backend "
            << m.backend->name() << "\n";

  Json prefill = Json::array(), decode = Json::array();
  if (!o.prefill.empty()) std::cout << "prefill      rows     tok/s   GOP/s   of peak\n";
  for (const int64_t rows : o.prefill) {
    const double seconds = measure_prefill(*m.model, *m.backend, rows, o.repeats);
    const double tokens = static_cast<double>(rows) / seconds;
    const double ops =
        2 *
        (static_cast<double>(cost.layer_params) * static_cast<double>(rows) + static_cast<double>(cost.head_params)) /
        seconds * kGiga;
    std::cout << std::setw(17) << rows << std::setprecision(1) << std::setw(10) << tokens << std::setprecision(0)
              << std::setw(8) << ops << std::setw(10) << share(ops, peak) << "\n";
    prefill.push_back({{"rows", rows}, {"tokens_per_second", tokens}, {"gops", ops}, {"share_of_peak", ops / peak}});
  }
  if (!o.depths.empty() && !o.batches.empty())
    std::cout
        << "decode      batch     depth     tok/s    ms/step   GB/s   of read (GB/s)   GOP/s   of peak   state MiB\n";
  for (const int64_t batch : o.batches)
    for (const int64_t depth : o.depths) {
      const double before = meter.gb_s(kReadSeconds);
      const double seconds = measure_decode(*m.model, *m.backend, {.batch = batch, .depth = depth, .tokens = o.tokens});
      const double read = (before + meter.gb_s(kReadSeconds)) / 2 / kGiga;
      const double state =
          static_cast<double>(decoder.state_scalars(std::max<int64_t>(depth, 1)) * size_of(m.backend->scalar()));
      // A linear state is read and written; keys and values are only read, but for one row.
      bool linear = decoder.config().linear_kind() != MixerKind::softmax;
      const double bytes = static_cast<double>(cost.head_bytes + cost.layer_bytes) +
                           static_cast<double>(batch) * state * (linear ? 2 : 1);
      const double tokens = static_cast<double>(batch) / seconds, rate = bytes / seconds;
      const double ops = 2 * static_cast<double>(cost.head_params + cost.layer_params) * tokens * kGiga;
      std::cout << std::setw(17) << batch << std::setw(10) << depth << std::setprecision(1) << std::setw(10) << tokens
                << std::setprecision(2) << std::setw(11) << 1e3 * seconds << std::setprecision(1) << std::setw(7)
                << rate * kGiga << std::setw(10)
                << (rate > read && bytes <= static_cast<double>(largest_cache_bytes()) ? "cache" : share(rate, read))
                << std::setprecision(1) << std::setw(7) << read * kGiga << std::setprecision(0) << std::setw(8) << ops
                << std::setw(10) << share(ops, peak) << std::setprecision(1) << std::setw(12) << state / (1 << 20)
                << "\n";
      decode.push_back({{"batch", batch},
                        {"depth", depth},
                        {"tokens_per_second", tokens},
                        {"seconds_per_step", seconds},
                        {"gb_per_second", rate * kGiga},
                        {"share_of_read_bandwidth", rate / read},
                        {"gops", ops},
                        {"share_of_peak", ops / peak},
                        {"state_bytes", state}});
    }
  write_result(o.json, Json{{"threads", threads()},
                            {"peaks", to_json(peaks)},
                            {"model", m.name},
                            {"backend", m.backend->name()},
                            {"weight_bytes_per_token", cost.head_bytes + cost.layer_bytes},
                            {"prefill", prefill},
                            {"decode", decode}});
  return 0;
}

}  // namespace qwerky
