// SPDX-License-Identifier: MIT
#include "backend/peak.h"

#include <immintrin.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstring>
#include <numeric>
#include <thread>
#include <vector>

#include "backend/backend.h"
#include "backend/target.h"
#include "base/units.h"
#include "tensor/arena.h"

namespace qwerky {
namespace {

constexpr int64_t kRounds = 100'000;                // of a register loop: tens of microseconds
constexpr int64_t kReadBytes = int64_t{128} << 20;  // per thread, beyond any cache level

}  // namespace

QWERKY_TARGET_BEGIN("avx2,fma")
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
    _mm_prefetch(reinterpret_cast<const char*>(p + i + 1024), _MM_HINT_NTA);
    _mm_prefetch(reinterpret_cast<const char*>(p + i + 1040), _MM_HINT_NTA);
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
QWERKY_TARGET_END

QWERKY_TARGET_BEGIN("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni")
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
QWERKY_TARGET_END

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

/// Rates of passes of all threads together, begun together, until `seconds` have passed. work(thread) returns its
/// amount.
template <class F>
std::vector<double> pass_rates(int threads, double seconds, const F& work) {
  std::vector<double> rates;
  std::vector<double> amounts(static_cast<size_t>(threads));
  std::atomic<bool> stop{false};
  std::barrier<> together(threads);
  const auto run = [&](int me) {
    while (true) {
      together.arrive_and_wait();
      if (stop) return;
      amounts[static_cast<size_t>(me)] = work(me);
      together.arrive_and_wait();
    }
  };
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back(run, t);
  const auto start = Clock::now();
  do {
    together.arrive_and_wait();
    const auto begin = Clock::now();
    amounts[0] = work(0);
    together.arrive_and_wait();
    rates.push_back(std::accumulate(amounts.begin(), amounts.end(), 0.0) / seconds_since(begin));
  } while (seconds_since(start) < seconds);
  stop = true;
  together.arrive_and_wait();
  for (std::thread& t : others) t.join();
  std::sort(rates.begin(), rates.end());
  return rates;
}

}  // namespace

struct ReadMeter::Memory {
  std::vector<Block> blocks;
};

ReadMeter::ReadMeter(int threads) : memory_(std::make_unique<Memory>()) {
  for (int t = 0; t < threads; ++t) {
    memory_->blocks.emplace_back(kReadBytes, "bandwidth measurement");
    std::memset(memory_->blocks.back().data(), 1, kReadBytes);
  }
}

ReadMeter::~ReadMeter() = default;

double ReadMeter::gb_s(double seconds) const {
  const bool vectors = std::ranges::count(available_backends(), "avx2") > 0;
  const auto rates = pass_rates(static_cast<int>(memory_->blocks.size()), seconds, [&](int t) {
    const char* p = memory_->blocks[static_cast<size_t>(t)].data();
    if (vectors) {
      avx2::read_loop(reinterpret_cast<const float*>(p), kReadBytes / 4);
    } else {
      const void* found = std::memchr(p, 0, kReadBytes);
      asm volatile("" : "+r"(found));
    }
    return static_cast<double>(kReadBytes);
  });
  return 1e-9 * rates[rates.size() / 2];
}

Json to_json(const Peaks& p) {
  return {{"read_gb_s", p.read_gb_s},
          {"f32_gflops", p.f32_gflops},
          {"bf16_gflops", p.bf16_gflops},
          {"int8_gops", p.int8_gops}};
}

int64_t largest_cache_bytes() {
  int64_t most = 0;
  for (int level : {_SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE, _SC_LEVEL4_CACHE_SIZE})
    most = std::max<int64_t>(most, sysconf(level));
  return most;
}

Peaks measure_peaks(int threads, double seconds) {
  const std::vector<std::string> names = available_backends();
  const auto has = [&](const char* name) { return std::find(names.begin(), names.end(), name) != names.end(); };
  // Two turns: threads that have just started may share a core for as long as one of them lasts.
  constexpr int kTurns = 2;
  const double each = seconds / 4;
  Peaks peaks;
  for (int turn = 0; turn < kTurns; ++turn) {
    const auto raise = [&](double& peak, const auto& loop) {
      peak = std::max(peak, 1e-9 * pass_rates(threads, each / kTurns, [&](int) { return loop(kRounds); }).back());
    };
    has("avx512") ? raise(peaks.f32_gflops, avx512::fma_loop)
    : has("avx2") ? raise(peaks.f32_gflops, avx2::fma_loop)
                  : raise(peaks.f32_gflops, scalar_loop);
    if (has_native_bf16()) raise(peaks.bf16_gflops, avx512::dot_loop);
    if (has_native_int8()) raise(peaks.int8_gops, avx512::byte_loop);
  }
  peaks.read_gb_s = ReadMeter(threads).gb_s(each);
  return peaks;
}

}  // namespace qwerky
