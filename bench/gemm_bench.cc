// SPDX-License-Identifier: MIT
// linear and its VJP on one thread, as share of the measured peak; products of few rows as bytes of weights a second.
#include <benchmark/benchmark.h>

#include "backend/backend.h"
#include "backend/peak.h"
#include "base/parallel.h"
#include "tensor/arena.h"

namespace qwerky {
namespace {

struct Operands {
  Arena arena;
  int64_t R, K, out;
  Tensor x, w, half, y, dx, dw;
  Operands(int64_t rows, int64_t k, int64_t n) : R(rows), K(k), out(n) {
    const auto filled = [&](int64_t height, int64_t width) {
      Tensor t = arena.tensor(DType::f32, {height, width});
      for (int64_t i = 0; i < t.count(); ++i) t.as<float>()[i] = static_cast<float>(i * 2654435761 % 1024) / 512 - 1;
      return t;
    };
    x = filled(R, K);
    w = filled(out, K);
    y = filled(R, out);
    dx = filled(R, K);
    dw = filled(out, K);
    half = arena.tensor(DType::bf16, {out, K});
    for (int64_t i = 0; i < w.count(); ++i) half.as<bf16>()[i] = bf16(w.as<float>()[i]);
  }
};

const Peaks& peaks() {
  static const Peaks measured = measure_peaks(1, 0.6);
  return measured;
}

enum Pass { forward, to_input, to_weight };

void run(benchmark::State& state, const char* backend, Precision precision, bool half, Pass pass) {
  set_threads(1);
  const Operands a(state.range(0), state.range(1), state.range(2));
  const auto on = make_backend(backend, precision);
  const Tensor w = half ? a.half : a.w;
  const Product product[] = {{a.x, w, Tensor(), a.y, false}};
  const ProductVjp vjp[] = {{w, pass == to_weight ? a.dw : Tensor(), Tensor(), a.y, false}};
  for (auto _ : state) {
    if (pass == forward)
      on->linear(product);
    else
      on->linear_vjp(a.x, pass == to_input ? a.dx : Tensor(), vjp, Into::overwrite);
    benchmark::ClobberMemory();
  }
  using benchmark::Counter;
  const double work = 2.0 * static_cast<double>(a.R * a.K * a.out);
  const bool dot = precision == Precision::bf16 && std::string(backend) == "avx512" && has_native_bf16();
  const double peak = 1e9 * (dot ? peaks().bf16_gflops : peaks().f32_gflops);
  state.counters["flop/s"] = Counter(work, Counter::kIsIterationInvariantRate);
  state.counters["peak"] = Counter(work / peak, Counter::kIsIterationInvariantRate);
  if (a.R <= 8) state.counters["bytes/s"] = Counter(static_cast<double>(w.bytes()), Counter::kIsIterationInvariantRate);
}

void shapes(benchmark::internal::Benchmark* b) {
  b->Args({1024, 64, 172})->Args({1024, 172, 64})->Args({256, 64, 64})->Args({256, 64, 512});
  b->Args({512, 128, 512})->Args({512, 896, 4864})->Args({512, 4864, 896});
}
void few_rows(benchmark::internal::Benchmark* b) {
  for (const int64_t rows : {1, 2, 4, 8}) b->Args({rows, 896, 32768});
  b->Args({1, 64, 172})->Args({1, 4864, 896});
}

const int registered = [] {
  for (const std::string& backend : available_backends())
    for (const Precision precision : {Precision::f32, Precision::bf16})
      for (const bool half : {false, true}) {
        if (backend == "reference" || (precision == Precision::bf16 && (backend != "avx512" || !has_native_bf16())))
          continue;
        const std::string name =
            backend + (precision == Precision::bf16 ? "_bf16" : "_f32") + (half ? "/bf16_weights/" : "/");
        const auto add = [&](const char* pass_name, Pass pass) {
          return benchmark::RegisterBenchmark(
                     (name + pass_name).c_str(),
                     [=](benchmark::State& state) { run(state, backend.c_str(), precision, half, pass); })
              ->Apply(shapes);
        };
        add("y", forward)->Apply(few_rows);
        add("dx", to_input);
        add("dw", to_weight);
      }
  return 0;
}();

}  // namespace
}  // namespace qwerky
