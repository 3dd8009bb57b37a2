// SPDX-License-Identifier: MIT
// Figures: what is drawn, its axes, and SVG that reads on light and on dark backgrounds, as a document of its own or as
// elements of a page. A page gives the elements their looks: rules for the classes s0 … s3 (colours of series, fill and
// stroke), line, m (mark), title, tick (text), frame, grid, reference, level and cell.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qwerky {

constexpr size_t kSeriesColours = 4;

struct Series {
  std::string name;          ///< empty, of a single one: no legend
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
/// About four round numbers in [low, high].
std::vector<Tick> linear_ticks(double low, double high);
bool is_drawn(const Chart& chart, double x, double y);

/// 4 digits at most: "0.25", "96", "8192", "1.2e+05".
std::string short_number(double value);

/// An SVG document with the charts side by side, `width` × `height` pixels each.
std::string svg(std::span<const Chart> charts, int width = 440, int height = 300);
std::string svg_element(const Chart& chart, int width = 400, int height = 280);

/// A value with the interval it may lie in.
struct Dot {
  double value, low, high;
};

struct ForestRow {
  std::string label;
  std::vector<std::optional<Dot>> dots;  ///< one for each series
  std::optional<double> level = {};      ///< a short line across the row: what is expected by chance
};

/// Values with intervals, a row each (a forest plot).
struct Forest {
  std::string title, x_label;
  std::vector<std::string> series;  ///< names for the legend; none without
  std::vector<ForestRow> rows;
  std::optional<double> reference = {};  ///< a line across all rows: no difference
};
std::string svg_element(const Forest& forest, int width = 400);

/// Shares from 0 to 1 as a grid of cells; one that is not finite is left blank.
struct HeatMap {
  std::string title, x_label, y_label;
  std::vector<std::string> columns, rows;
  std::vector<std::vector<double>> values;  ///< [row][column]
};
std::string svg_element(const HeatMap& map, int width = 400);

/// Text for markup and for attributes in quotes: & < > and quotes as entities, without control characters.
std::string escaped(std::string_view text);

}  // namespace qwerky
