// SPDX-License-Identifier: MIT
// What the figures of svg.cc and svg_figures.cc are made of.
#pragma once

#include <cstdio>
#include <string>

#include "base/error.h"
#include "base/svg.h"

namespace qwerky::svg_elements {

/// Pixels with one decimal.
inline std::string px(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", value);
  return text;
}

inline std::string label(double x, double y, const char* anchor, const char* style, const std::string& text) {
  return concat("<text class=\"", style, "\" x=\"", px(x), "\" y=\"", px(y), "\" text-anchor=\"", anchor, "\">",
                escaped(text), "</text>\n");
}

/// A circle or a square: series are told apart without colours too.
inline std::string mark(size_t series, double x, double y) {
  if (series % 2 == 0) return concat("<circle class=\"m\" cx=\"", px(x), "\" cy=\"", px(y), "\" r=\"3.5\"/>\n");
  return concat("<rect class=\"m\" x=\"", px(x - 3.2), "\" y=\"", px(y - 3.2), "\" width=\"6.4\" height=\"6.4\"/>\n");
}

/// <g class="s0">, in the colour of a series.
inline std::string colour_group(size_t series) { return concat("<g class=\"s", series % kSeriesColours, "\">\n"); }

/// Marks, lines and names of series from x on.
std::string legend(const std::vector<std::string>& names, double x, double y);

/// An <svg> element for a page that has the rules.
inline std::string element(const std::string& title, int width, int height, const std::string& content) {
  return concat("<svg class=\"chart\" viewBox=\"0 0 ", width, " ", height, "\" role=\"img\" aria-label=\"",
                escaped(title), "\">\n", content, "</svg>\n");
}

}  // namespace qwerky::svg_elements
