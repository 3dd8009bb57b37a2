// SPDX-License-Identifier: MIT
// Row operations, softmax attention, losses and the optimiser on one thread. Bytes are what an operation must read and
// write once; "rows" counts rows per second.
#include <benchmark/benchmark.h>

#include <cmath>
#include <functional>
#include <numeric>

#include "backend/backend.h"
#include "base/parallel.h"

namespace qwerky {
namespace {

/// Zero-initialised f32 tensors with small varied content.
class Pool {
 public:
  Tensor make(Shape shape) {
    auto& memory = memory_.emplace_back(static_cast<size_t>(shape.count()));
    for (size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<float>(std::sin(static_cast<double>(i) * 0.7));
    return Tensor(memory.data(), DType::f32, shape);
  }

 private:
  std::vector<std::vector<float>> memory_;
};

const Backend& backend() {
  static const std::unique_ptr<Backend> best = make_backend("auto", Precision::f32);
  return *best;
}

void measure(benchmark::State& state, int64_t rows, int64_t floats, const std::function<void()>& run) {
  set_threads(1);
  run();
  for (auto _ : state) run();
  state.SetBytesProcessed(state.iterations() * floats * 4);
  state.counters["rows"] =
      benchmark::Counter(static_cast<double>(state.iterations() * rows), benchmark::Counter::kIsRate);
}

/// An operation on [rows, D] that reads and writes `tensors` such tensors.
using RowOperation = void (*)(Pool&, int64_t rows, int64_t D, std::function<void()>& run);
void rows_of(benchmark::State& state, RowOperation make, int tensors) {
  const int64_t rows = 256, D = state.range(0);
  Pool pool;
  std::function<void()> run;
  make(pool, rows, D, run);
  measure(state, rows, tensors * rows * D, run);
}

#define ROW_BENCH(name, tensors, setup)                                                         \
  BENCHMARK_CAPTURE(                                                                            \
      rows_of, name,                                                                            \
      [](Pool& p, int64_t R, int64_t D, std::function<void()>& run) {                           \
        const auto rows = [&] { return p.make({R, D}); };                                       \
        const auto columns = [&] { return p.make({D}); };                                       \
        const Tensor a = rows(), b = rows(), c = rows(), d = rows(), e = rows(), f = rows();    \
        const Tensor g = columns(), h = columns(), dg = columns(), dh = columns();              \
        static_cast<void>(a), static_cast<void>(b), static_cast<void>(c), static_cast<void>(d); \
        static_cast<void>(e), static_cast<void>(f), static_cast<void>(g), static_cast<void>(h); \
        static_cast<void>(dg), static_cast<void>(dh);                                           \
        const int heads8 = static_cast<int>(D / 8), heads64 = static_cast<int>(D / 64);         \
        static_cast<void>(heads8), static_cast<void>(heads64);                                  \
        run = [=] { setup; };                                                                   \
      },                                                                                        \
      tensors)                                                                                  \
      ->Arg(64)                                                                                 \
      ->Arg(896)

ROW_BENCH(add, 3, backend().add(a, b));
ROW_BENCH(rmsnorm, 2, backend().rmsnorm(a, b, g, 1e-6));
ROW_BENCH(rmsnorm_vjp, 3, backend().rmsnorm_vjp(a, dg, b, c, g, 1e-6, Into::overwrite));
ROW_BENCH(add_rmsnorm, 4, backend().add_rmsnorm(a, b, c, d, g, 1e-6));
ROW_BENCH(groupnorm_8, 2, backend().groupnorm(a, b, g, h, heads8, 1e-5));
ROW_BENCH(groupnorm_8_vjp, 3, backend().groupnorm_vjp(a, dg, dh, b, c, g, heads8, 1e-5));
ROW_BENCH(groupnorm_64, 2, backend().groupnorm(a, b, g, h, heads64, 1e-5));
ROW_BENCH(groupnorm_64_vjp, 3, backend().groupnorm_vjp(a, dg, dh, b, c, g, heads64, 1e-5));
ROW_BENCH(tanh, 2, backend().activate(a, b, Activation::tanh, 0));
ROW_BENCH(sigmoid, 2, backend().activate(a, b, Activation::sigmoid, 0));
ROW_BENCH(swiglu, 3, backend().swiglu(a, b, c));
ROW_BENCH(swiglu_vjp, 5, backend().swiglu_vjp(a, b, c, d, e));
ROW_BENCH(gate, 3, backend().gate(a, b, c, false));
ROW_BENCH(gate_vjp, 5, backend().gate_vjp(a, b, c, d, e, true));
ROW_BENCH(shift_mix, 4, backend().shift_mix(a, b, c, g, d));
ROW_BENCH(shift_mix_vjp, 8, backend().shift_mix_vjp(a, b, dg, c, d, e, g, f));
ROW_BENCH(align, 3, backend().align(a.rows(0, 1).shaped({D}), b, c, d, 1));

void rope(benchmark::State& state) {
  Pool pool;
  const Tensor x = pool.make({256, state.range(0)}), table = pool.make({256, state.range(1)});
  measure(state, 256, 256 * (2 * state.range(0) + state.range(1)), [&] { backend().rope(x, table, false); });
}
BENCHMARK(rope)->Args({64, 8})->Args({896, 64});

void token_shift(benchmark::State& state) {
  Pool pool;
  const int64_t D = state.range(0);
  const Tensor x = pool.make({256, D}), delta = pool.make({256, D});
  const Segment all[] = {{nullptr, 0, 256}};
  measure(state, 256, 256 * 2 * D, [&] { backend().token_shift(delta, x, all, 0); });
}
BENCHMARK(token_shift)->Arg(64)->Arg(896);

/// Arguments: heads, key/value heads, channels, rows.
void attention(benchmark::State& state, bool vjp) {
  const int H = static_cast<int>(state.range(0)), Hk = static_cast<int>(state.range(1));
  const int N = static_cast<int>(state.range(2));
  const int64_t R = state.range(3), A = H * N, W = Hk * N;
  Pool pool;
  const Tensor q = pool.make({R, A}), k = pool.make({R, W}), v = pool.make({R, W}), o = pool.make({R, A});
  const Tensor d_o = pool.make({R, A}), dq = pool.make({R, A}), dk = pool.make({R, W}), dv = pool.make({R, W});
  const AttentionShape shape{H, Hk, N, 1 / std::sqrt(double(N)), 0, 0};
  const Segment all[] = {{nullptr, 0, R}};
  measure(state, R, 2 * R * (A + W), [&] {
    if (vjp)
      backend().attention_vjp(dq, dk, dv, d_o, q, k, v, o, shape, all);
    else
      backend().attention(o, q, k, v, shape, all, 0);
  });
  // Two products forward; six backward, of which two recompute scores. Half of the keys are seen.
  const double flops = static_cast<double>(R * (R + 1) / 2 * A) * 2 * (vjp ? 6 : 2);
  state.counters["flop/s"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * flops, benchmark::Counter::kIsRate);
}
BENCHMARK_CAPTURE(attention, forward, false)->Args({8, 4, 8, 256})->Args({8, 4, 32, 512})->Args({14, 2, 64, 1024});
BENCHMARK_CAPTURE(attention, backward, true)->Args({8, 4, 8, 256})->Args({8, 4, 32, 512})->Args({14, 2, 64, 1024});

/// One row against a state of so many tokens: bytes are the keys and values.
void decode(benchmark::State& state) {
  const int64_t seen = state.range(0), N = 64, A = 14 * N, W = 2 * N;
  Pool pool;
  const Tensor q = pool.make({1, A}), k = pool.make({1, W}), v = pool.make({1, W}), o = pool.make({1, A});
  State memory(DType::f32, 2 * (seen + 1) * W, seen + 1);
  memory.advance(seen);
  const Segment one[] = {{&memory, 0, 1}};
  measure(state, 1, 2 * seen * W, [&] { backend().attention(o, q, k, v, {14, 2, 64, 0.125, 0, 0}, one, 0); });
}
BENCHMARK(decode)->Arg(1024)->Arg(8192);

void kl(benchmark::State& state) {
  Pool pool;
  const int64_t V = state.range(0), R = 16;
  const Tensor s = pool.make({R, V}), t = pool.make({R, V}), d = pool.make({R, V}), loss = pool.make({R});
  measure(state, R, 3 * R * V, [&] { backend().kl(loss, d, s, t, 1); });
}
BENCHMARK(kl)->Arg(512)->Arg(2048)->Arg(151936);

void cross_entropy(benchmark::State& state) {
  Pool pool;
  const int64_t V = state.range(0), R = 16;
  const Tensor x = pool.make({R, V}), d = pool.make({R, V}), loss = pool.make({R});
  const std::vector<int32_t> targets(static_cast<size_t>(R), 7);
  measure(state, R, 2 * R * V, [&] { backend().cross_entropy(loss, d, x, targets, 1); });
}
BENCHMARK(cross_entropy)->Arg(512)->Arg(2048)->Arg(151936);

void argmax(benchmark::State& state) {
  Pool pool;
  const Tensor x = pool.make({1, state.range(0)});
  std::vector<int32_t> best(1);
  measure(state, 1, state.range(0), [&] { backend().argmax(best, x); });
}
BENCHMARK(argmax)->Arg(512)->Arg(151936);

void sum_of_squares(benchmark::State& state) {
  Pool pool;
  const Tensor x = pool.make({state.range(0)});
  measure(state, 1, state.range(0), [&] { benchmark::DoNotOptimize(backend().sum_of_squares(x)); });
}
BENCHMARK(sum_of_squares)->Arg(1 << 16)->Arg(1 << 24);

void adamw(benchmark::State& state) {
  Pool pool;
  const int64_t n = state.range(0);
  const Tensor w = pool.make({n}), dw = pool.make({n}), m = pool.make({n}), v = pool.make({n});
  measure(state, 1, 7 * n, [&] { backend().adamw({}, w, dw, m, v); });
}
BENCHMARK(adamw)->Arg(1 << 16)->Arg(1 << 24);

}  // namespace
}  // namespace qwerky
