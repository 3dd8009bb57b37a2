// SPDX-License-Identifier: MIT
// What this machine can do at most, measured: the yardstick for "share of peak".
#pragma once

#include <cstdint>
#include <memory>

#include "base/json.h"

namespace qwerky {

/// Rates of all measuring threads together. 0 where the CPU lacks the instruction.
struct Peaks {
  double read_gb_s = 0;    ///< reads of memory far larger than the caches, 1e9 bytes/s (a median)
  double f32_gflops = 0;   ///< fused multiply-adds in registers, 2 operations each
  double bf16_gflops = 0;  ///< vdpbf16ps in registers
  double int8_gops = 0;    ///< vpdpbusd in registers, 8 operations each lane
};

Json to_json(const Peaks& peaks);

/// Best of several short runs of each loop on `threads` threads, about `seconds` in all.
Peaks measure_peaks(int threads, double seconds);

/// Bytes of the largest cache of this machine; 0 where the system does not tell. Weights that fit are read faster than
/// from memory.
int64_t largest_cache_bytes();

/// Reads of memory far larger than the caches, as long as asked for: what a model that streams its weights is held
/// against. On a shared machine the bandwidth changes from second to second, so measure it beside the model.
class ReadMeter {
 public:
  explicit ReadMeter(int threads);
  ~ReadMeter();
  /// Median over passes of all threads together, 1e9 bytes/s.
  double gb_s(double seconds) const;

 private:
  struct Memory;
  std::unique_ptr<Memory> memory_;
};

}  // namespace qwerky
