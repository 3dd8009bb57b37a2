// SPDX-License-Identifier: MIT
// The table that lm-eval prints, cell for cell.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "eval/evaluate.h"

namespace qwerky {

/// A Markdown table as pytablewriter lays it out: columns of numbers lose the zeros that all of them end in.
std::string markdown_table(const std::vector<std::string>& headers, const std::vector<std::vector<std::string>>& rows);

/// lm-eval's table of all entries; with `groups`, its table of groups alone.
std::string results_table(std::span<const Entry> entries, bool groups = false);

/// A line for each entry whose numbers claim no equality with lm-eval's: "n of N rows", "other rows". Empty if none.
std::string comparability_notes(std::span<const Entry> entries);

}  // namespace qwerky
