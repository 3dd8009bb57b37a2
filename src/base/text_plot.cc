// SPDX-License-Identifier: MIT
#include "base/text_plot.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/error.h"

namespace qwerky {
namespace {

constexpr const char* kColours[] = {"\033[33m", "\033[36m", "\033[32m", "\033[35m"};
constexpr const char* kPlain = "\033[0m";

/// A cell of 2 × 4 dots; bits as U+2800 numbers them.
constexpr uint8_t kDots[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};

struct Cell {
  uint8_t dots = 0;
  int series = -1;  // the last that drew here
};

std::string braille(uint8_t dots) {
  if (dots == 0) return " ";
  return {static_cast<char>(0xE2), static_cast<char>(0xA0 | (dots >> 6)), static_cast<char>(0x80 | (dots & 0x3F))};
}

/// Columns of UTF-8 text whose characters are one column wide.
int columns(const std::string& text) {
  return static_cast<int>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string padded_left(const std::string& text, int width) {
  return std::string(static_cast<size_t>(std::max(0, width - columns(text))), ' ') + text;
}

class Canvas {
 public:
  Canvas(int width, int height) : width_(width), height_(height), cells_(static_cast<size_t>(width * height)) {}

  /// x and y in [0, 1] from the lower left corner.
  void line(double x0, double y0, double x1, double y1, int series) {
    const int ax = column(x0), ay = row(y0), bx = column(x1), by = row(y1);
    const int steps = std::max({std::abs(bx - ax), std::abs(by - ay), 1});
    for (int i = 0; i <= steps; ++i) {
      if (series % 2 == 1 && i % 3 == 2 && i != steps) continue;  // dotted
      dot(ax + static_cast<int>(std::lround(static_cast<double>((bx - ax) * i) / steps)),
          ay + static_cast<int>(std::lround(static_cast<double>((by - ay) * i) / steps)), series);
    }
  }
  const Cell& at(int x, int y) const { return cells_[static_cast<size_t>(y * width_ + x)]; }
  /// The line of cells that holds height y.
  int cell_row(double y) const { return row(y) / 4; }
  int cell_column(double x) const { return column(x) / 2; }

 private:
  int column(double x) const { return static_cast<int>(std::lround(std::clamp(x, 0.0, 1.0) * (2 * width_ - 1))); }
  int row(double y) const { return static_cast<int>(std::lround((1 - std::clamp(y, 0.0, 1.0)) * (4 * height_ - 1))); }
  void dot(int x, int y, int series) {
    Cell& cell = cells_[static_cast<size_t>(y / 4 * width_ + x / 2)];
    cell.dots |= kDots[y % 4][x % 2];
    cell.series = series;
  }

  int width_, height_;
  std::vector<Cell> cells_;
};

}  // namespace

std::string text_plot(const Chart& chart, int width, int height, bool colour) {
  const Axis ax = x_axis(chart), ay = y_axis(chart);
  int left = 0, right = 0;
  for (const Tick& t : ay.ticks) left = std::max(left, columns(t.label));
  for (const Series& s : chart.series) right = std::max(right, columns(s.name));
  const int plot = std::max(16, width - left - 4 - right - 1);
  height = std::max(height, 4);
  Canvas canvas(plot, height);
  const auto paint = [&](int series, const std::string& text) {
    return colour ? kColours[static_cast<size_t>(series) % std::size(kColours)] + text + kPlain : text;
  };

  std::vector<std::string> names(static_cast<size_t>(height));  // at the right of each line
  for (size_t s = 0; s < chart.series.size(); ++s) {
    const Series& series = chart.series[s];
    bool begun = false;
    double px = 0, py = 0;
    for (size_t i = 0; i < series.x.size(); ++i) {
      if (!is_drawn(chart, series.x[i], series.y[i])) continue;
      const double x = ax.place(series.x[i]), y = ay.place(series.y[i]);
      canvas.line(begun ? px : x, begun ? py : y, x, y, static_cast<int>(s));
      px = x, py = y, begun = true;
    }
    if (!begun) continue;
    int row = canvas.cell_row(py);
    for (int away = 0; away < 2 * height; ++away) {  // the nearest free line
      const int candidate = row + (away % 2 == 0 ? away / 2 : -(away + 1) / 2);
      if (candidate < 0 || candidate >= height || !names[static_cast<size_t>(candidate)].empty()) continue;
      names[static_cast<size_t>(candidate)] = " " + paint(static_cast<int>(s), series.name);
      break;
    }
  }

  std::vector<std::string> marks(static_cast<size_t>(height));
  for (const Tick& t : ay.ticks)
    if (const double y = ay.place(t.value); y > -1e-9 && y < 1 + 1e-9)
      marks[static_cast<size_t>(canvas.cell_row(y))] = t.label;

  const auto part = [](const char* before, const std::string& text) { return text.empty() ? "" : before + text; };
  std::string out = concat(chart.title, part(", ", chart.y_label), part(", by ", chart.x_label),
                           chart.log_y ? " (logarithmic)" : "", "\n");
  for (int y = 0; y < height; ++y) {
    const std::string& mark = marks[static_cast<size_t>(y)];
    out += concat("  ", padded_left(mark, left), mark.empty() ? " │" : " ┤");
    std::string line;
    for (int x = 0; x < plot;) {  // runs of one series
      const int series = canvas.at(x, y).series;
      std::string run;
      for (; x < plot && canvas.at(x, y).series == series; ++x) run += braille(canvas.at(x, y).dots);
      line += series < 0 ? run : paint(series, run);
    }
    line += names[static_cast<size_t>(y)];
    out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  std::string axis, labels(static_cast<size_t>(plot + 1 + right), ' ');
  std::vector<bool> ticked(static_cast<size_t>(plot), false);
  size_t used = 0;
  for (const Tick& t : ax.ticks) {
    const int at = canvas.cell_column(ax.place(t.value));
    ticked[static_cast<size_t>(at)] = true;
    const size_t begin = static_cast<size_t>(std::max(0, at + 1 - static_cast<int>(t.label.size()) / 2));
    if (begin < used || begin + t.label.size() > labels.size()) continue;  // it would touch its neighbour
    labels.replace(begin, t.label.size(), t.label);
    used = begin + t.label.size() + 1;
  }
  for (int x = 0; x < plot; ++x) axis += ticked[static_cast<size_t>(x)] ? "┬" : "─";
  const std::string indent(static_cast<size_t>(left + 3), ' ');
  return out + indent + "└" + axis + "\n" + indent + labels.substr(0, labels.find_last_not_of(' ') + 1) + "\n";
}

}  // namespace qwerky
