// SPDX-License-Identifier: MIT
#include "engine/op_bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <thread>

#include "base/units.h"
#include "engine/throughput.h"

namespace qwerky {
namespace {

constexpr double kReferenceOperations = 6e7;  // at about 10 ns each
/// Bytes of all copies of operands that come from memory: about as many as ReadMeter reads, so that a cache that keeps
/// some of them helps both alike.
constexpr double kBeyondCaches = 256 << 20;
constexpr int kTurns = 5;
constexpr double kReadSeconds = 0.02;  // of the meter in a turn
/// Lets the other's threads fall asleep: OpenMP's spin for some milliseconds after their work.
constexpr auto kPause = std::chrono::milliseconds(10);

double value(const Tensor& t, int64_t i) {
  return t.type == DType::i32 ? t.as<int32_t>()[i] : static_cast<double>(t.as<float>()[i]);
}

double difference(const Tensor& found, const Tensor& wanted) {
  double worst = 0, largest = 0;
  for (int64_t i = 0; i < wanted.count(); ++i) {
    const double d = std::abs(value(found, i) - value(wanted, i));
    if (!(d <= worst)) worst = std::isnan(d) ? std::numeric_limits<double>::infinity() : d;
    largest = std::max(largest, std::abs(value(wanted, i)));
  }
  return worst == 0 ? 0 : worst / largest;
}

}  // namespace

Agreement compare_with_reference(const OpCase& c, const Backend& on, Arena& memory) {
  const double per_row = std::max(1.0, c.operations / static_cast<double>(c.rows));
  const int64_t rows = std::clamp<int64_t>(static_cast<int64_t>(kReferenceOperations / per_row), 1, c.rows);
  const auto reference = make_backend("reference", Precision::f32);
  const Scope scope(memory);
  Operands ours(memory, on);
  const int64_t ours_rows = c.by_row ? c.rows : rows;
  const OpRun found = c.make(ours, ours_rows);
  Operands copy(memory, *reference, &ours);
  const OpRun wanted = c.make(copy, rows);
  found.call(on), wanted.call(*reference);
  wait_for_device();
  Agreement agreement{0, rows};
  for (size_t i = 0; i < wanted.outputs.size(); ++i)
    agreement.difference = std::max(agreement.difference, difference(found.outputs[i], wanted.outputs[i]));
  return agreement;
}

OpTime time_op(const OpCase& c, const Backend& on, Arena& memory, double seconds, const ReadMeter* meter,
               const Peer& peer) {
  const int64_t copies = c.streams ? 1 + static_cast<int64_t>(kBeyondCaches / c.bytes) : 1;
  const Scope scope(memory);
  std::deque<Operands> operands;
  std::vector<OpRun> runs;
  for (int64_t i = 0; i < copies; ++i) {
    operands.emplace_back(memory, on, i == 0 ? nullptr : &operands.front());
    runs.push_back(c.make(operands.back(), c.rows));
  }
  const PeerCall other = peer ? peer(c, copies) : nullptr;
  const auto turn = [&](const PeerCall& call, int64_t& next, std::vector<double>& times) {
    call(next++ % copies);
    wait_for_device();
    const auto begin = Clock::now();
    do {
      const auto start = Clock::now();
      call(next++ % copies);
      wait_for_device();
      times.push_back(seconds_since(start));
    } while (seconds_since(begin) < seconds / kTurns);
  };
  std::vector<double> times, other_times, reads;
  int64_t next = 0, other_next = 0;
  for (int i = 0; i < kTurns; ++i) {
    if (meter) reads.push_back(meter->gb_s(kReadSeconds));
    turn([&](int64_t k) { runs[static_cast<size_t>(k)].call(on); }, next, times);
    if (!other) continue;
    std::this_thread::sleep_for(kPause);
    turn(other, other_next, other_times);
    std::this_thread::sleep_for(kPause);
  }
  return {median(std::move(times)), other ? median(std::move(other_times)) : 0, meter ? median(std::move(reads)) : 0};
}

double product_peak(const Peaks& peaks, DType weights, const Backend& on, Precision precision) {
  if (on.name() != "avx512") return peaks.f32_gflops;
  if (weights == DType::i8 || weights == DType::i4) return has_native_int8() ? peaks.int8_gops : peaks.f32_gflops;
  return weights == DType::bf16 && precision == Precision::bf16 ? peaks.bf16_gflops : peaks.f32_gflops;
}

Roof roof(const OpCase& c, double read_gb_s, double peak_gflops) {
  const double memory = c.bytes * 1e-9 / read_gb_s, arithmetic = c.operations * 1e-9 / peak_gflops;
  return {std::max(memory, arithmetic), memory >= arithmetic};
}

}  // namespace qwerky
