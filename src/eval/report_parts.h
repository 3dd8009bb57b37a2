// SPDX-License-Identifier: MIT
// The report's pieces of HTML. What they are given is escaped, but for content that is HTML already.
#pragma once

#include <string>
#include <vector>

#include "eval/report.h"

namespace qwerky::report_parts {

using Cells = std::vector<std::string>;

std::string fixed(double value, int decimals);
/// Hyphens before digits as the minus signs they are.
std::string with_minus(const std::string& cell);
/// `content` is HTML; `style` one of "", by, note, partial.
std::string paragraph(const char* style, const std::string& content);
/// A column for each letter of `columns`: l left, r right, w text that wraps.
std::string table(const std::string& columns, const Cells& head, const std::vector<Cells>& rows,
                  const char* style = "");
/// Drawings side by side; nothing for none.
std::string figures(const std::vector<std::string>& drawings);
/// `content` is HTML.
std::string section(const std::string& heading, const std::string& content);

std::string recall_section(const Report& report);
std::string costs_section(const Report& report);
std::string record_section(const Report& report);

}  // namespace qwerky::report_parts
