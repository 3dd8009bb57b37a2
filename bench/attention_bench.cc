// SPDX-License-Identifier: MIT
// Softmax attention against a long state, by threads: bytes of keys and values a second, and as share of the read
// bandwidth measured in the same run. Prefill and the VJP as share of the f32 peak.
#include <benchmark/benchmark.h>

#include <cmath>
#include <deque>
#include <map>
#include <thread>

#include "backend/backend.h"
#include "backend/peak.h"
#include "base/parallel.h"
#include "base/random.h"

namespace qwerky {
namespace {

constexpr int64_t kLarge = int64_t{512} << 20;  ///< bytes of state beyond any cache

struct Heads {
  const char* name;
  int heads, kv_heads, head;
  int64_t width() const { return int64_t{heads} * head; }
  int64_t kv_width() const { return int64_t{kv_heads} * head; }
  AttentionShape shape() const { return {heads, kv_heads, head, 1 / std::sqrt(double(head)), 0, 0}; }
};
constexpr Heads kShapes[] = {{"toy_8x8", 8, 4, 8},
                             {"0.5B_14x64", 14, 2, 64},
                             {"1.5B_12x128", 12, 2, 128},
                             {"7B_28x128", 28, 4, 128},
                             {"llama_32x64_kv8", 32, 8, 64},
                             {"llama_32x128_kv8", 32, 8, 128},
                             {"mha_32x128_kv32", 32, 32, 128}};

const Peaks& peaks(int threads) {
  static std::map<int, Peaks> measured;
  const auto [at, isnew] = measured.try_emplace(threads);
  if (isnew) at->second = measure_peaks(threads, 1.5);
  return at->second;
}

/// f32 memory of small numbers.
struct Numbers {
  Arena arena;
  Tensor make(int64_t rows, int64_t cols) {
    Tensor t = arena.tensor(DType::f32, {rows, cols});
    fill(t);
    return t;
  }
  static void fill(const Tensor& t) {
    float* p = t.as<float>();
    for (int64_t i = 0; i < t.count(); ++i)
      p[i] = static_cast<float>(static_cast<uint32_t>(i) * 2654435761u >> 16) / 32768.0f - 1;
  }
};

/// `segments` sequences that have seen `seen` tokens each take `rows` more.
void continues(benchmark::State& bench, const std::string& backend, const Heads& h, int64_t segments, int64_t seen,
               int64_t rows, int threads) {
  const Peaks& peak = peaks(threads);
  set_threads(threads);
  const auto on = make_backend(backend, Precision::f32);
  const int64_t W = h.kv_width(), R = segments * rows;
  Numbers numbers;
  const Tensor q = numbers.make(R, h.width()), o = numbers.make(R, h.width()), k = numbers.make(R, W),
               v = numbers.make(R, W);
  std::deque<State> states;
  std::vector<Segment> batch;
  for (int64_t s = 0; s < segments; ++s) {
    states.emplace_back(DType::f32, 2 * (seen + rows) * W, seen + rows);
    Numbers::fill(states.back().at(0, 2 * (seen + rows) * W));
    states.back().advance(seen);
    batch.push_back({&states.back(), s * rows, rows});
  }
  on->attention(o, q, k, v, h.shape(), batch, 0);
  for (auto _ : bench) on->attention(o, q, k, v, h.shape(), batch, 0);
  const auto rate = [](double x) { return benchmark::Counter(x, benchmark::Counter::kIsIterationInvariantRate); };
  const double bytes = static_cast<double>(segments * 2 * seen * W * 4);
  const double flops = static_cast<double>(R * h.width()) * (double(seen) + double(rows + 1) / 2) * 4;
  if (rows == 1) {
    bench.counters["bytes/s"] = rate(bytes);
    bench.counters["of_read"] = rate(bytes / (1e9 * peak.read_gb_s));
  } else {
    bench.counters["flop/s"] = rate(flops);
    bench.counters["of_f32"] = rate(flops / (1e9 * peak.f32_gflops));
  }
}

/// One segment of `rows` from zero state.
void reverses(benchmark::State& bench, const std::string& backend, const Heads& h, int64_t rows, int threads) {
  const Peaks& peak = peaks(threads);
  set_threads(threads);
  const auto on = make_backend(backend, Precision::f32);
  const int64_t A = h.width(), W = h.kv_width();
  Numbers numbers;
  const Tensor q = numbers.make(rows, A), o = numbers.make(rows, A), d_o = numbers.make(rows, A);
  const Tensor k = numbers.make(rows, W), v = numbers.make(rows, W), dq = numbers.make(rows, A);
  const Tensor dk = numbers.make(rows, W), dv = numbers.make(rows, W);
  const Segment all[] = {{nullptr, 0, rows}};
  on->attention(o, q, k, v, h.shape(), all, 0);
  for (auto _ : bench) on->attention_vjp(dq, dk, dv, d_o, q, k, v, o, h.shape(), all);
  // Six products, of which one recomputes scores once more; half of the keys are seen.
  const double flops = static_cast<double>(rows * (rows + 1) / 2 * A) * 2 * 6;
  bench.counters["flop/s"] = benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
  bench.counters["of_f32"] =
      benchmark::Counter(flops / (1e9 * peak.f32_gflops), benchmark::Counter::kIsIterationInvariantRate);
}

const int kRegistered = [] {
  const auto add = [](const std::string& name, auto f) {
    benchmark::RegisterBenchmark(name.c_str(), f)->UseRealTime()->Unit(benchmark::kMicrosecond);
  };
  const int most = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  for (const std::string& b : available_backends()) {
    if (b == "reference") continue;
    for (const Heads& h : kShapes)
      for (int t = 1; t <= most; t = t < most && 2 * t > most ? most : 2 * t) {
        const std::string at = b + "/" + h.name + "/threads:" + std::to_string(t) + "/";
        const auto decode = [&](const std::string& what, int64_t segments, int64_t seen, int64_t rows) {
          add(at + what, [=](benchmark::State& s) { continues(s, b, h, segments, seen, rows, t); });
        };
        const int64_t position = 2 * h.kv_width() * 4, large = kLarge / position;
        for (const int64_t seen : {256, 1024, 4096, 16384}) decode("decode:" + std::to_string(seen), 1, seen, 1);
        decode("decode:large", 1, large, 1);
        decode("decode:large/segments:16", 16, large / 16, 1);
        decode("rows:512/seen:0", 1, 0, 512);
        decode("rows:512/seen:4096", 1, 4096, 512);
        decode("rows:8/seen:16384", 1, 16384, 8);
        add(at + "vjp:512", [=](benchmark::State& s) { reverses(s, b, h, 512, t); });
      }
  }
  return 0;
}();

}  // namespace
}  // namespace qwerky
