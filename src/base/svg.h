// SPDX-License-Identifier: MIT
// Line charts: what is drawn, its axes, and an SVG that reads on light and on dark backgrounds.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace qwerky {

struct Series {
  std::string name;
  std::vector<double> x, y;  ///< same length; a point that is not finite is left out
};

struct Chart {
  std::string title, x_label, y_label;
  std::vector<Series> series;
  bool log_x = false, log_y = false;  ///< logarithmic axes leave out points that are not positive
};

struct Tick {
  double value;
  std::string label;
};

/// One direction of a chart: what it spans and where it is labelled. A linear axis begins at 0 when all values are
/// positive; a logarithmic y axis spans whole powers of ten.
struct Axis {
  double low = 0, high = 1;
  bool log = false;
  std::vector<Tick> ticks;
  /// 0 at low, 1 at high.
  double place(double value) const;
};

Axis x_axis(const Chart& chart);
Axis y_axis(const Chart& chart);
bool is_drawn(const Chart& chart, double x, double y);

/// 4 digits at most: "0.25", "96", "8192", "1.2e+05".
std::string short_number(double value);

/// An SVG document with the charts side by side, `width` × `height` pixels each.
std::string svg(std::span<const Chart> charts, int width = 440, int height = 300);

}  // namespace qwerky
