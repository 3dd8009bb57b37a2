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

using Clock = std::chrono::steady_clock;
inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace qwerky
