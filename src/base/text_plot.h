// SPDX-License-Identifier: MIT
// A line chart for the terminal.
#pragma once

#include "base/svg.h"

namespace qwerky {

/// The chart in Braille dots, at most `width` columns wide and `height` + 3 lines high: title, plot, axis and its
/// labels. Each line is named at its right end; the second series is dotted, so that both read without colour.
std::string text_plot(const Chart& chart, int width, int height, bool colour);

}  // namespace qwerky
