// SPDX-License-Identifier: MIT
// Rows per second of the WKV recurrences and of what prepares them, on one thread, and for scale the f32 arithmetic
// rate that the plain recurrence would need: 2 flop for each of its multiply-adds per state element (WKV-6: 3, WKV-7:
// 5; VJP: 10 and 20).
#include <benchmark/benchmark.h>

#include <cmath>

#include "backend/backend.h"
#include "base/parallel.h"
#include "base/random.h"

namespace qwerky {
namespace {

struct Numbers {
  std::vector<float> x;
  int64_t rows, cols;
  Numbers(int64_t r, int64_t c, uint64_t seed, double low, double high) : x(size_t(r * c)), rows(r), cols(c) {
    for (size_t i = 0; i < x.size(); ++i) x[i] = float(low + (high - low) * Random(seed).uniform(i));
  }
  Tensor tensor() { return Tensor(x.data(), DType::f32, {rows, cols}); }
};

struct Operands {
  Numbers r, log_w, k, v, kappa, a;
  Operands(int64_t R, int64_t A, int64_t W, int N)
      : r(R, A, 1, -1, 1),
        log_w(R, A, 2, -0.6, -0.001),
        k(R, A, 3, -1, 1),
        v(R, W, 4, -1, 1),
        kappa(R, A, 5, -1.7 / std::sqrt(double(N)), 1.7 / std::sqrt(double(N))),
        a(R, A, 6, 0, 1) {}
};

template <class Op>
Op operands(Operands& x, int heads, int kv_heads, int N) {
  Op p;
  p.heads = heads, p.head = N;
  p.r = x.r.tensor(), p.log_w = x.log_w.tensor(), p.k = x.k.tensor(), p.v = x.v.tensor();
  if constexpr (std::is_same_v<Op, Wkv6>)
    p.kv_heads = kv_heads;
  else
    p.kappa = x.kappa.tensor(), p.a = x.a.tensor();
  return p;
}

/// Arguments: N, heads, kv_heads, rows.
template <class Op, bool kVjp>
void recurrence(benchmark::State& state, const std::string& backend) {
  constexpr bool kSix = std::is_same_v<Op, Wkv6>;
  const int N = int(state.range(0)), H = int(state.range(1)), kv_heads = kSix ? int(state.range(2)) : H;
  const int64_t R = state.range(3), A = H * N, W = kv_heads * N;
  set_threads(1);
  const auto on = make_backend(backend, Precision::f32);
  Operands x(R, A, W, N), d(R, A, W, N);
  Numbers o(R, A, 7, -1, 1);
  State memory(DType::f32, A * N, 0);
  const Segment segment{R == 1 ? &memory : nullptr, 0, R};
  const Op p = operands<Op>(x, H, kv_heads, N), dp = operands<Op>(d, H, kv_heads, N);
  for (auto _ : state)
    if constexpr (kSix && kVjp)
      on->wkv6_vjp(dp, o.tensor(), p, {&segment, 1});
    else if constexpr (kSix)
      on->wkv6(o.tensor(), p, {&segment, 1}, 0);
    else if constexpr (kVjp)
      on->wkv7_vjp(dp, o.tensor(), p, {&segment, 1});
    else
      on->wkv7(o.tensor(), p, {&segment, 1}, 0);
  const double rows = double(state.iterations()) * double(R), terms = kSix ? (kVjp ? 10 : 3) : (kVjp ? 20 : 5);
  state.counters["rows/s"] = benchmark::Counter(rows, benchmark::Counter::kIsRate);
  state.counters["us/row"] = benchmark::Counter(rows / 1e6, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["flop/s"] = benchmark::Counter(rows * 2 * terms * double(A) * N, benchmark::Counter::kIsRate);
}

/// Arguments: N, heads, kv_heads, rows, balance.
template <bool kSeven, bool kVjp>
void prepare(benchmark::State& state, const std::string& backend) {
  const int N = int(state.range(0)), H = int(state.range(1)), kv_heads = int(state.range(2));
  const int64_t R = state.range(3), A = H * N, W = kv_heads * N;
  set_threads(1);
  const auto on = make_backend(backend, Precision::f32);
  std::vector<Numbers> x, d;
  for (uint64_t q = 0; q < 11; ++q) {
    x.emplace_back(R, q < 2 ? W : A, q, -2, 2);
    d.emplace_back(R, q < 2 ? W : A, q, -2, 2);
  }
  Numbers gains(2, A, 20, 0.5, 1), dgains(2, A, 20, 0.5, 1);
  const auto seven = [&](std::vector<Numbers>& y, Numbers& g) {
    Rwkv7Prepare p;
    p.heads = H, p.kv_heads = kv_heads, p.head = N, p.balance = state.range(4) != 0;
    p.k = y[0].tensor(), p.v = y[1].tensor(), p.decay = y[2].tensor(), p.rate = y[3].tensor(), p.mix = y[4].tensor();
    p.k_k = Tensor(g.x.data(), DType::f32, {A}), p.k_a = Tensor(g.x.data() + A, DType::f32, {A});
    p.v_first = y[5].tensor(), p.log_w = y[6].tensor(), p.k_tilde = y[7].tensor(), p.kappa = y[8].tensor();
    p.a = y[9].tensor(), p.v_out = y[10].tensor();
    return p;
  };
  const auto six = [&](std::vector<Numbers>& y) {
    Rwkv6Prepare p;
    p.heads = H, p.kv_heads = kv_heads, p.head = N, p.balance = state.range(4) != 0;
    p.k = y[0].tensor(), p.decay = y[2].tensor(), p.log_w = y[6].tensor(), p.k_tilde = y[7].tensor();
    return p;
  };
  for (auto _ : state)
    if constexpr (kSeven && kVjp)
      on->rwkv7_prepare_vjp(seven(d, dgains), seven(x, gains));
    else if constexpr (kSeven)
      on->rwkv7_prepare(seven(x, gains));
    else if constexpr (kVjp)
      on->rwkv6_prepare_vjp(six(d), six(x));
    else
      on->rwkv6_prepare(six(x));
  state.counters["us/row"] = benchmark::Counter(double(state.iterations()) * double(R) / 1e6,
                                                benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

const int kRegistered = [] {
  for (const std::string& b : available_backends()) {
    if (b == "reference") continue;
    const auto shapes = [](benchmark::internal::Benchmark* x) {
      x->Args({8, 8, 4, 256})->Args({16, 8, 4, 256})->Args({20, 8, 4, 256})->Args({32, 4, 2, 512});
      x->Args({64, 14, 2, 512})->Args({128, 12, 2, 512});
      x->Args({64, 2, 1, 128})->Args({48, 8, 4, 256})->Args({256, 4, 2, 256})->Unit(benchmark::kMicrosecond);
    };
    const auto decode = [](benchmark::internal::Benchmark* x) {
      x->Args({8, 8, 4, 1})->Args({64, 14, 2, 1})->Args({128, 12, 2, 1})->Unit(benchmark::kMicrosecond);
    };
    const auto with_modes = [](benchmark::internal::Benchmark* x) {
      x->Args({8, 8, 4, 256, 1})->Args({8, 8, 4, 256, 0})->Args({20, 8, 4, 256, 1})->Args({64, 14, 2, 256, 1});
      x->Args({64, 14, 2, 256, 0})->Unit(benchmark::kMicrosecond);
    };
    const auto add = [&](const char* name, auto f) {
      return benchmark::RegisterBenchmark((b + "/" + name).c_str(), f, b);
    };
    add("wkv6", recurrence<Wkv6, false>)->Apply(shapes)->Apply(decode);
    add("wkv6_vjp", recurrence<Wkv6, true>)->Apply(shapes);
    add("wkv7", recurrence<Wkv7, false>)->Apply(shapes)->Apply(decode);
    add("wkv7_vjp", recurrence<Wkv7, true>)->Apply(shapes);
    add("rwkv6_prepare", prepare<false, false>)->Apply(with_modes);
    add("rwkv6_prepare_vjp", prepare<false, true>)->Apply(with_modes);
    add("rwkv7_prepare", prepare<true, false>)->Apply(with_modes);
    add("rwkv7_prepare_vjp", prepare<true, true>)->Apply(with_modes);
  }
  return 0;
}();

}  // namespace
}  // namespace qwerky
