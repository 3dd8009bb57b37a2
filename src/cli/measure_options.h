// SPDX-License-Identifier: MIT
// What `compare` and `eval` share: text or ids to measure on, in windows.
#pragma once

#include <string>
#include <vector>

#include "cli/flags.h"
#include "cli/text_ids.h"
#include "engine/measure.h"

namespace qwerky {

struct MeasureOptions {
  TextOptions text;
  std::string json, backend = "auto", precision = "auto";
  int64_t window = 256;
};

void add_measure_flags(Flags flags, MeasureOptions& o);
/// Windows of every sequence; the ids stay the caller's.
Windows windows_of(const std::vector<std::vector<int32_t>>& sequences, int64_t length);
/// A progress line; throws Interrupted after SIGINT.
void show_windows_done(int64_t done, int64_t total);
/// Scores with the loss at each position.
Json scores_json(const Scores& scores);

}  // namespace qwerky
