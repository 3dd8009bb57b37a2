// SPDX-License-Identifier: MIT
// Amounts as people read them, and time as it passes.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace qwerky {

/// "12.0 KiB", "3.4 MiB", "5.6 GiB"
std::string bytes_text(int64_t bytes);
/// "97 s", "12 min 3 s", "5 h 20 min"
std::string duration_text(double seconds);
/// The beginning of UTF-8 text that takes at most so many columns, one for each character.
std::string first_columns(const std::string& text, size_t columns);

/// What reading weights at `rate` is of what memory gives, both in 1e9 bytes/s: "61 % of the measured bandwidth". What
/// is faster than memory is no share of it: it comes from a cache if it fits in one.
std::string bandwidth_text(double rate, double memory, bool fits_in_cache);

using Clock = std::chrono::steady_clock;
inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace qwerky
