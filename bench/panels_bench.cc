// SPDX-License-Identifier: MIT
// Products from panels on one thread, as share of the measured peak; few rows as bytes of weights a second.
#include <benchmark/benchmark.h>

#include "backend/backend.h"
#include "backend/peak.h"
#include "base/parallel.h"
#include "tensor/arena.h"
#include "tensor/panels.h"

namespace qwerky {
namespace {

const Peaks& peaks() {
  static const Peaks measured = measure_peaks(1, 0.8);
  return measured;
}

Tensor filled(Arena& arena, int64_t rows, int64_t cols) {
  Tensor t = arena.tensor(DType::f32, {rows, cols});
  for (int64_t i = 0; i < t.count(); ++i) t.as<float>()[i] = static_cast<float>(i * 2654435761 % 1024) / 512 - 1;
  return t;
}

void run(benchmark::State& state, const std::string& backend, PanelFormat format) {
  set_threads(1);
  const int64_t R = state.range(0), K = state.range(1), out = state.range(2);
  const auto on = make_backend(backend, backend == "avx512" && has_native_bf16() ? Precision::bf16 : Precision::f32);
  Arena arena;
  const Tensor x = filled(arena, R, K), y = arena.tensor(DType::f32, {R, out});
  const Tensor w = arena.panels(format, {out, K});
  on->pack(w, filled(arena, out, K), false);
  const Product product[] = {{x, w, {}, y}};
  for (auto _ : state) {
    on->linear(product);
    benchmark::ClobberMemory();
  }
  using benchmark::Counter;
  const double work = 2.0 * static_cast<double>(R * K * out);
  const bool fast = backend == "avx512";
  const double peak = 1e9 * (fast && format.group > 0 && has_native_int8()             ? peaks().int8_gops
                             : fast && format.type == DType::bf16 && has_native_bf16() ? peaks().bf16_gflops
                                                                                       : peaks().f32_gflops);
  state.counters["op/s"] = Counter(work, Counter::kIsIterationInvariantRate);
  state.counters["peak"] = Counter(work / peak, Counter::kIsIterationInvariantRate);
  if (R <= 16) state.counters["bytes/s"] = Counter(static_cast<double>(w.bytes()), Counter::kIsIterationInvariantRate);
}

const int registered = [] {
  for (const std::string& backend : available_backends())
    for (const PanelFormat& format :
         {PanelFormat{DType::f32, 0, false}, PanelFormat{DType::bf16, 0, false}, PanelFormat{DType::i8, 64, false},
          PanelFormat{DType::i8, 128, false}, PanelFormat{DType::i4, 64, false}, PanelFormat{DType::i4, 32, true}}) {
      if (backend == "reference") continue;
      auto* b = benchmark::RegisterBenchmark((backend + "/" + name_of(format)).c_str(),
                                             [=](benchmark::State& state) { run(state, backend, format); });
      for (const int64_t rows : {1, 4, 16, 64, 512}) b->Args({rows, 896, 4864});
      b->Args({1, 1536, 65536})->Args({512, 4864, 896})->Args({512, 1536, 8960})->Args({512, 64, 896});
    }
  return 0;
}();

}  // namespace
}  // namespace qwerky
