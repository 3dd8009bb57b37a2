// SPDX-License-Identifier: MIT
#include "base/units.h"

#include <iomanip>

#include "base/error.h"

namespace qwerky {

std::string bytes_text(int64_t bytes) {
  double amount = static_cast<double>(bytes) / 1024;
  const char* unit = " KiB";
  for (const char* larger : {" MiB", " GiB"})
    if (amount >= 1024) amount /= 1024, unit = larger;
  return concat(std::fixed, std::setprecision(1), amount, unit);
}

std::string duration_text(double seconds) {
  const auto s = static_cast<int64_t>(seconds + 0.5);
  if (s < 120) return concat(s, " s");
  if (s < 7200) return concat(s / 60, " min ", s % 60, " s");
  return concat(s / 3600, " h ", s % 3600 / 60, " min");
}

std::string first_columns(const std::string& text, size_t columns) {
  size_t characters = 0;
  for (size_t i = 0; i < text.size(); ++i)
    if ((text[i] & 0xC0) != 0x80 && characters++ == columns) return text.substr(0, i);
  return text;
}

std::string bandwidth_text(double rate, double memory, bool fits_in_cache) {
  if (fits_in_cache) return "they fit in a cache";
  if (rate <= memory)
    return concat(std::fixed, std::setprecision(0), 100 * rate / memory, " % of the measured bandwidth");
  return concat("above the measured bandwidth of ", std::fixed, std::setprecision(2), memory);
}

}  // namespace qwerky
