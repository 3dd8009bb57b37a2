// SPDX-License-Identifier: MIT
#include "base/svg.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/error.h"
#include "base/svg_elements.h"

namespace qwerky {

using namespace svg_elements;

namespace {

// Middle tones: contrast of at least 3 on white and on black, told apart by colour-blind readers; marks differ too.
constexpr const char* kColours[kSeriesColours] = {"#d97706", "#3b82f6", "#0d9e74", "#c2569b"};
constexpr size_t kMostMarks = 24;                                // a longer series is a line alone
constexpr int kLeft = 56, kRight = 24, kTop = 60, kBottom = 48;  // pixels around the plot

struct Range {
  double low = HUGE_VAL, high = -HUGE_VAL;
  void add(double value) { low = std::min(low, value), high = std::max(high, value); }
};

}  // namespace

std::string escaped(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default:
        if (static_cast<unsigned char>(c) >= 0x20) out += c;  // XML 1.0 has no other control characters
    }
  }
  return out;
}

std::vector<Tick> linear_ticks(double low, double high) {
  const double raw = (high - low) / 4, power = std::pow(10.0, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (double nice : {1.0, 2.0, 2.5, 5.0})
    if (nice * power >= raw * (1 - 1e-9)) {
      step = nice * power;
      break;
    }
  std::vector<Tick> ticks;
  for (double i = std::ceil(low / step - 1e-9) + 0.0; i * step <= high * (1 + 1e-9); ++i)
    ticks.push_back({i * step, short_number(i * step)});
  return ticks;
}

std::string short_number(double value) {
  char text[32];
  if (std::abs(value) >= 1e4 && std::abs(value) < 1e7 && value == std::floor(value)) {
    std::snprintf(text, sizeof text, "%.0f", value);
  } else {
    std::snprintf(text, sizeof text, "%.4g", value);
  }
  return text;
}

bool is_drawn(const Chart& chart, double x, double y) {
  return std::isfinite(x) && std::isfinite(y) && (!chart.log_x || x > 0) && (!chart.log_y || y > 0);
}

double Axis::place(double value) const {
  return log ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
}

Axis x_axis(const Chart& chart) {
  Range range;
  std::vector<double> values;
  for (const Series& s : chart.series)
    for (size_t i = 0; i < s.x.size(); ++i)
      if (is_drawn(chart, s.x[i], s.y[i])) range.add(s.x[i]), values.push_back(s.x[i]);
  Axis axis{.low = range.low, .high = range.high, .log = chart.log_x, .ticks = {}};
  if (values.empty()) axis.low = 1, axis.high = 10;
  if (axis.low == axis.high) {  // one place alone stands in the middle
    if (axis.log)
      axis.low /= 2, axis.high *= 2;
    else
      axis.low -= 1, axis.high += 1;
  }
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  if (values.size() <= 8) {
    for (double v : values) axis.ticks.push_back({v, short_number(v)});
  } else if (axis.log) {
    for (double e = std::ceil(std::log10(axis.low)); std::pow(10.0, e) <= axis.high; ++e)
      axis.ticks.push_back({std::pow(10.0, e), short_number(std::pow(10.0, e))});
  } else {
    axis.ticks = linear_ticks(axis.low, axis.high);
  }
  return axis;
}

Axis y_axis(const Chart& chart) {
  Range range;
  for (const Series& s : chart.series)
    for (size_t i = 0; i < s.x.size(); ++i)
      if (is_drawn(chart, s.x[i], s.y[i])) range.add(s.y[i]);
  if (range.low > range.high) range = {1, 10};
  Axis axis{.low = 0, .high = 1, .log = chart.log_y, .ticks = {}};
  if (chart.log_y) {
    const double first = std::floor(std::log10(range.low)),
                 last = std::max(first + 1, std::ceil(std::log10(range.high)));
    axis.low = std::pow(10.0, first), axis.high = std::pow(10.0, last);
    const double step = std::ceil((last - first) / 6);
    for (double e = first; e <= last; e += step)
      axis.ticks.push_back({std::pow(10.0, e), short_number(std::pow(10.0, e))});
  } else {
    if (range.low > 0) range.low = 0;
    if (range.high <= range.low) range.high = range.low + 1;
    axis.low = range.low, axis.high = range.high + 0.05 * (range.high - range.low);
    axis.ticks = linear_ticks(axis.low, axis.high);
  }
  return axis;
}

std::string svg_elements::legend(const std::vector<std::string>& names, double x, double y) {
  std::string out;
  for (size_t s = 0; s < names.size(); ++s) {
    out += colour_group(s) + concat("<path class=\"line\" d=\"M", px(x), " ", px(y), "h18\"/>\n") + mark(s, x + 9, y) +
           "</g>\n" + label(x + 23, y + 4, "start", "tick", names[s]);
    x += 36 + 7.2 * static_cast<double>(names[s].size());
  }
  return out;
}

namespace {

/// A chart whose left edge is at `origin`.
std::string drawn(const Chart& chart, double origin, int width, int height) {
  const Axis ax = x_axis(chart), ay = y_axis(chart);
  const double left = origin + kLeft, right = origin + width - kRight, top = kTop, bottom = height - kBottom;
  const auto x = [&](double v) { return left + ax.place(v) * (right - left); };
  const auto y = [&](double v) { return bottom - ay.place(v) * (bottom - top); };
  std::string out = label(left - 44, 18, "start", "title", chart.title);
  for (const Tick& t : ay.ticks) {
    out += concat("<path class=\"grid\" d=\"M", px(left), " ", px(y(t.value)), "H", px(right), "\"/>\n");
    out += label(left - 6, y(t.value) + 4, "end", "tick", t.label);
  }
  for (const Tick& t : ax.ticks) {
    out += concat("<path class=\"frame\" d=\"M", px(x(t.value)), " ", px(bottom), "v4\"/>\n");
    out += label(x(t.value), bottom + 18, "middle", "tick", t.label);
  }
  out += concat("<path class=\"frame\" d=\"M", px(left), " ", px(top), "V", px(bottom), "H", px(right), "\"/>\n");
  out += label((left + right) / 2, bottom + 38, "middle", "tick", chart.x_label);
  out += label(left - 44, top - 14, "start", "tick", chart.y_label);
  std::vector<std::string> names;
  for (size_t s = 0; s < chart.series.size(); ++s) {
    const Series& series = chart.series[s];
    names.push_back(series.name);
    std::string points, marks;
    for (size_t i = 0; i < series.x.size(); ++i) {
      if (!is_drawn(chart, series.x[i], series.y[i])) continue;
      points += concat(points.empty() ? "" : " ", px(x(series.x[i])), ",", px(y(series.y[i])));
      if (series.x.size() <= kMostMarks) marks += mark(s, x(series.x[i]), y(series.y[i]));
    }
    if (!points.empty())
      out += colour_group(s) + "<polyline class=\"line\" points=\"" + points + "\"/>\n" + marks + "</g>\n";
  }
  return names.size() == 1 && names[0].empty() ? out : out + legend(names, left + 70, 36);
}

}  // namespace

std::string svg(std::span<const Chart> charts, int width, int height) {
  const int total = width * static_cast<int>(charts.size());
  std::string out = concat("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", total, "\" height=\"", height,
                           "\" viewBox=\"0 0 ", total, " ", height, "\" role=\"img\">\n<style>\n",
                           "text { font: 12px system-ui, 'DejaVu Sans', sans-serif; fill: #7a828c }\n",
                           ".title { font-size: 14px; font-weight: 600 }\n",
                           ".frame { stroke: #7a828c; fill: none }\n.grid { stroke: #7a828c; stroke-opacity: .25 }\n");
  for (size_t s = 0; s < kSeriesColours; ++s)
    out += concat(".s", s, " { fill: ", kColours[s], "; stroke: ", kColours[s], " }\n");
  out +=
      ".line { fill: none; stroke-width: 2; stroke-linejoin: round }\n"
      "@media (prefers-color-scheme: dark) { text { fill: #a9b1ba } }\n</style>\n";
  for (size_t c = 0; c < charts.size(); ++c) out += drawn(charts[c], static_cast<double>(c) * width, width, height);
  return out + "</svg>\n";
}

std::string svg_element(const Chart& chart, int width, int height) {
  return element(chart.title, width, height, drawn(chart, 0, width, height));
}

}  // namespace qwerky
