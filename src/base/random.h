// SPDX-License-Identifier: MIT
// Counter-based random numbers: value i of stream s is a pure function of (s, i), so a resumed run, another
// thread count or another order of use draws the same numbers.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>

namespace qwerky {

/// Finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection on 64 bits with full avalanche.
constexpr uint64_t mix64(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

/// FNV-1a of a name: gives each named thing its own stream.
constexpr uint64_t hash_name(std::string_view name) {
  uint64_t h = 0xcbf29ce484222325ULL;
  for (char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return h;
}

class Random {
 public:
  explicit constexpr Random(uint64_t seed, uint64_t stream = 0)
      : key_(mix64(seed * 0x9e3779b97f4a7c15ULL + mix64(stream + 1))) {}

  /// 64 uniform bits at position `counter`.
  constexpr uint64_t bits(uint64_t counter) const { return mix64(key_ + (counter + 1) * 0x9e3779b97f4a7c15ULL); }
  /// Uniform in [0, 1), 53 bits.
  constexpr double uniform(uint64_t counter) const { return static_cast<double>(bits(counter) >> 11) * 0x1.0p-53; }
  /// Uniform integer in [0, n); n > 0. Lemire's multiply-shift; the bias is below n / 2^64.
  constexpr uint64_t below(uint64_t counter, uint64_t n) const {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(bits(counter)) * n) >> 64);
  }
  /// Standard normal (Box-Muller; uses positions 2*counter and 2*counter + 1 of the uniform sequence).
  double normal(uint64_t counter) const {
    const double u = 1.0 - uniform(2 * counter);  // in (0, 1]
    return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * uniform(2 * counter + 1));
  }

 private:
  uint64_t key_;
};

}  // namespace qwerky
