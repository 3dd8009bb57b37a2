// SPDX-License-Identifier: MIT
#include "backend/peak.h"

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "backend/backend.h"
#include "tensor/arena.h"

namespace qwerky {
namespace {

constexpr int64_t kRounds = 100'000;                // of a register loop: tens of microseconds
constexpr int64_t kReadBytes = int64_t{256} << 20;  // per thread, beyond any cache level

}  // namespace

#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace avx2 {
namespace {

/// Multiply-adds of 8 floats; returns the operations done. The empty asm keeps every accumulator in a register.
double fma_loop(int64_t rounds) noexcept {
  const __m256 a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(0.25f);
  __m256 c[12];
  for (__m256& x : c) x = _mm256_setzero_ps();
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (__m256& x : c) x = _mm256_fmadd_ps(x, a, b);
  }
  for (__m256& x : c) asm volatile("" : "+x"(x));
  return static_cast<double>(rounds) * 12 * 8 * 2;
}

/// Loads all of [p, p + n).
void read_loop(const float* p, int64_t n) noexcept {
  __m256 s0 = _mm256_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
  for (int64_t i = 0; i < n; i += 32) {
    _mm_prefetch(reinterpret_cast<const char*>(p + i + 512), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(p + i + 528), _MM_HINT_T0);
    s0 = _mm256_or_ps(s0, _mm256_load_ps(p + i));
    s1 = _mm256_or_ps(s1, _mm256_load_ps(p + i + 8));
    s2 = _mm256_or_ps(s2, _mm256_load_ps(p + i + 16));
    s3 = _mm256_or_ps(s3, _mm256_load_ps(p + i + 24));
  }
  s0 = _mm256_or_ps(_mm256_or_ps(s0, s1), _mm256_or_ps(s2, s3));
  asm volatile("" : "+x"(s0));
}

}  // namespace
}  // namespace avx2
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni")
namespace avx512 {
namespace {

double fma_loop(int64_t rounds) noexcept {
  const __m512 a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(0.25f);
  __m512 c[12];
  for (__m512& x : c) x = _mm512_setzero_ps();
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (__m512& x : c) x = _mm512_fmadd_ps(x, a, b);
  }
  for (__m512& x : c) asm volatile("" : "+v"(x));
  return static_cast<double>(rounds) * 12 * 16 * 2;
}

double dot_loop(int64_t rounds) noexcept {
  const __m512bh a = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0x3f003f00));  // 0.5, 0.5
  __m512 c[12];
  for (__m512& x : c) x = _mm512_setzero_ps();
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (__m512& x : c) x = _mm512_dpbf16_ps(x, a, a);
  }
  for (__m512& x : c) asm volatile("" : "+v"(x));
  return static_cast<double>(rounds) * 12 * 32 * 2;
}

double byte_loop(int64_t rounds) noexcept {
  const __m512i a = _mm512_set1_epi32(0x01010101);
  __m512i c[12];
  for (__m512i& x : c) x = _mm512_setzero_si512();
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (__m512i& x : c) x = _mm512_dpbusd_epi32(x, a, a);
  }
  for (__m512i& x : c) asm volatile("" : "+v"(x));
  return static_cast<double>(rounds) * 12 * 64 * 2;
}

}  // namespace
}  // namespace avx512
#pragma GCC pop_options

namespace {

double scalar_loop(int64_t rounds) noexcept {
  float c[8] = {};
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 8
    for (float& x : c) {
      x = x * 0.5f + 0.25f;
      asm volatile("" : "+x"(x));
    }
  }
  return static_cast<double>(rounds) * 8 * 2;
}

/// Best sum over threads of work()/time, all threads running together: each repeats until `seconds` have passed.
template <class F>
double best_rate(int threads, double seconds, const F& work) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> best(static_cast<size_t>(threads), 0);
  std::atomic<int> waiting{threads};
  const auto run = [&](int me) {
    waiting.fetch_sub(1);
    while (waiting.load() > 0) std::this_thread::yield();
    const auto start = Clock::now();
    const auto elapsed = [](Clock::time_point since) {
      return std::chrono::duration<double>(Clock::now() - since).count();
    };
    do {
      const auto begin = Clock::now();
      const double amount = work(me);
      best[static_cast<size_t>(me)] = std::max(best[static_cast<size_t>(me)], amount / elapsed(begin));
    } while (elapsed(start) < seconds);
  };
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back(run, t);
  run(0);
  for (std::thread& t : others) t.join();
  double sum = 0;
  for (double rate : best) sum += rate;
  return sum;
}

}  // namespace

Peaks measure_peaks(int threads, double seconds) {
  const std::vector<std::string> names = available_backends();
  const auto has = [&](const char* name) { return std::find(names.begin(), names.end(), name) != names.end(); };
  Peaks peaks;
  const double each = seconds / 4;
  peaks.f32_gflops =
      1e-9 * best_rate(threads, each, [&](int) {
        return has("avx512") ? avx512::fma_loop(kRounds) : has("avx2") ? avx2::fma_loop(kRounds) : scalar_loop(kRounds);
      });
  if (has_native_bf16())
    peaks.bf16_gflops = 1e-9 * best_rate(threads, each, [](int) { return avx512::dot_loop(kRounds); });
  if (has_native_int8())
    peaks.int8_gops = 1e-9 * best_rate(threads, each, [](int) { return avx512::byte_loop(kRounds); });
  std::vector<Block> memory;
  for (int t = 0; t < threads; ++t) {
    memory.emplace_back(kReadBytes, "bandwidth measurement");
    std::memset(memory.back().data(), 1, kReadBytes);
  }
  peaks.read_gb_s = 1e-9 * best_rate(threads, each, [&](int t) {
                      const char* p = memory[static_cast<size_t>(t)].data();
                      if (has("avx2")) {
                        avx2::read_loop(reinterpret_cast<const float*>(p), kReadBytes / 4);
                      } else {
                        const void* found = std::memchr(p, 0, kReadBytes);
                        asm volatile("" : "+r"(found));
                      }
                      return static_cast<double>(kReadBytes);
                    });
  return peaks;
}

}  // namespace qwerky
