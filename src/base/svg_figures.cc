// SPDX-License-Identifier: MIT
// Forest plots and heat maps.
#include <algorithm>
#include <cmath>

#include "base/svg_elements.h"

namespace qwerky {

using namespace svg_elements;

namespace {

constexpr double kCharacter = 6.6;  // pixels of a character, at most, on average

/// The last `most` bytes, the first of them an ellipsis where something was cut.
std::string end_of(const std::string& text, size_t most) {
  if (text.size() <= most) return text;
  size_t at = text.size() - most + 1;
  while (at < text.size() && (text[at] & 0xC0) == 0x80) ++at;  // not inside a character
  return "…" + text.substr(at);
}

}  // namespace

std::string svg_element(const Forest& forest, int width) {
  constexpr double kRow = 24, kBottom = 46, kRight = 16;
  double low = HUGE_VAL, high = -HUGE_VAL;
  const auto span = [&](double v) {
    if (std::isfinite(v)) low = std::min(low, v), high = std::max(high, v);
  };
  size_t longest = 0;
  for (const ForestRow& row : forest.rows) {
    longest = std::max(longest, row.label.size());
    for (const auto& dot : row.dots)
      if (dot) span(dot->low), span(dot->value), span(dot->high);
    if (row.level) span(*row.level);
  }
  if (forest.reference) span(*forest.reference);
  if (low > high) low = 0, high = 1;
  const double margin = low < high ? 0.04 * (high - low) : 1;
  const Axis axis{low - margin, high + margin, false, linear_ticks(low - margin, high + margin)};
  const double left = std::min(0.5 * width, 12 + kCharacter * static_cast<double>(longest)), right = width - kRight;
  const double top = forest.series.empty() ? 32 : 52;
  const double bottom = top + kRow * static_cast<double>(forest.rows.size());
  const auto x = [&](double v) { return left + axis.place(v) * (right - left); };
  const auto vertical = [&](const char* style, double v, double from, double to) {
    return concat("<path class=\"", style, "\" d=\"M", px(x(v)), " ", px(from), "V", px(to), "\"/>\n");
  };

  std::string out = label(4, 18, "start", "title", forest.title) + legend(forest.series, 4, 36);
  for (const Tick& t : axis.ticks)
    out += vertical("grid", t.value, top, bottom) + label(x(t.value), bottom + 18, "middle", "tick", t.label);
  if (forest.reference) out += vertical("reference", *forest.reference, top, bottom);
  for (size_t r = 0; r < forest.rows.size(); ++r) {
    const ForestRow& row = forest.rows[r];
    const double middle = top + kRow * (static_cast<double>(r) + 0.5);
    out += label(left - 8, middle + 4, "end", "tick",
                 end_of(row.label, static_cast<size_t>((left - 12) / kCharacter + 0.5)));
    if (row.level && std::isfinite(*row.level)) out += vertical("level", *row.level, middle - 9, middle + 9);
    for (size_t s = 0; s < row.dots.size(); ++s) {
      const auto& dot = row.dots[s];
      if (!dot || !std::isfinite(dot->value)) continue;
      const double y = middle + 9 * (static_cast<double>(s) - static_cast<double>(row.dots.size() - 1) / 2);
      out += colour_group(s);
      if (std::isfinite(dot->low) && std::isfinite(dot->high))
        out += concat("<path class=\"line\" d=\"M", px(x(dot->low)), " ", px(y), "H", px(x(dot->high)), "\"/>\n");
      out += mark(s, x(dot->value), y) + "</g>\n";
    }
  }
  out += concat("<path class=\"frame\" d=\"M", px(left), " ", px(bottom), "H", px(right), "\"/>\n") +
         label(right, bottom + 38, "end", "tick", forest.x_label);
  return element(forest.title, width, static_cast<int>(bottom + kBottom), out);
}

std::string svg_element(const HeatMap& map, int width) {
  constexpr double kLeft = 56, kRight = 8, kTop = 56, kRow = 28, kBottom = 46;
  const double cell = (width - kLeft - kRight) / static_cast<double>(std::max<size_t>(1, map.columns.size()));
  const double bottom = kTop + kRow * static_cast<double>(map.rows.size());
  std::string out = label(4, 18, "start", "title", map.title) + label(4, kTop - 12, "start", "tick", map.y_label);
  for (size_t r = 0; r < map.rows.size(); ++r) {
    const double y = kTop + kRow * static_cast<double>(r);
    out += label(kLeft - 6, y + kRow / 2 + 4, "end", "tick", map.rows[r]);
    for (size_t c = 0; c < map.columns.size(); ++c) {
      const double value = map.values[r][c], x = kLeft + cell * static_cast<double>(c);
      if (!std::isfinite(value)) continue;
      out += concat("<rect class=\"cell\" x=\"", px(x + 1), "\" y=\"", px(y + 1), "\" width=\"", px(cell - 2),
                    "\" height=\"", px(kRow - 2), "\" fill-opacity=\"", short_number(0.05 + 0.55 * value), "\"/>\n");
      out += label(x + cell / 2, y + kRow / 2 + 4, "middle", "value", short_number(std::round(100 * value)));
    }
  }
  for (size_t c = 0; c < map.columns.size(); ++c)
    out += label(kLeft + cell * (static_cast<double>(c) + 0.5), bottom + 18, "middle", "tick", map.columns[c]);
  out += label((kLeft + width - kRight) / 2, bottom + 38, "middle", "tick", map.x_label);
  return element(map.title, width, static_cast<int>(bottom + kBottom), out);
}

}  // namespace qwerky
