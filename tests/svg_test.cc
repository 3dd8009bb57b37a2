// SPDX-License-Identifier: MIT
// Charts: axes, and the SVG as well-formed XML with the points where they belong.
#include "base/svg.h"

#include <gtest/gtest.h>

#include <cmath>

namespace qwerky {
namespace {

Chart chart() {
  return {.title = "time",
          .x_label = "tokens",
          .y_label = "µs",
          .series = {{"softmax", {128, 512, 2048, 8192}, {50, 60, 100, 260}},
                     {"rwkv7", {128, 512, 2048, 8192}, {40, 40, 40, 40}}},
          .log_x = true};
}

size_t occurrences(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

/// Every tag closes the one opened last.
bool well_formed(const std::string& xml) {
  std::vector<std::string> open;
  for (size_t at = xml.find('<'); at != std::string::npos; at = xml.find('<', at + 1)) {
    const size_t end = xml.find('>', at);
    if (end == std::string::npos) return false;
    const std::string tag = xml.substr(at + 1, end - at - 1);
    if (tag[0] == '/') {
      if (open.empty() || open.back() != tag.substr(1)) return false;
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(tag.substr(0, tag.find(' ')));
    }
  }
  return open.empty();
}

TEST(Axis, LogarithmicPlacesEqualRatiosEquallyFarApart) {
  const Axis axis = x_axis(chart());
  EXPECT_DOUBLE_EQ(axis.place(128), 0);
  EXPECT_NEAR(axis.place(512), 1.0 / 3, 1e-12);
  EXPECT_NEAR(axis.place(8192), 1, 1e-12);
  ASSERT_EQ(axis.ticks.size(), 4u);
  EXPECT_EQ(axis.ticks[3].label, "8192");
}

TEST(Axis, LinearBeginsAtZeroAndHoldsEverything) {
  const Axis axis = y_axis(chart());
  EXPECT_EQ(axis.low, 0);
  EXPECT_GT(axis.high, 260);
  EXPECT_EQ(axis.ticks.front().label, "0");
  for (const Tick& t : axis.ticks) EXPECT_LE(t.value, axis.high);
  EXPECT_GE(axis.ticks.size(), 3u);
}

TEST(Axis, LogarithmicHeightSpansPowersOfTen) {
  Chart c = chart();
  c.log_y = true;
  const Axis axis = y_axis(c);
  EXPECT_DOUBLE_EQ(axis.low, 10);
  EXPECT_DOUBLE_EQ(axis.high, 1000);
}

TEST(Axis, OddDataIsNoDivisionByZero) {
  for (bool log : {false, true}) {
    for (const Series& s : {Series{"none", {}, {}}, Series{"one", {5}, {5}}, Series{"zero", {1, 2}, {0, 0}},
                            Series{"nan", {1, 2, 3}, {NAN, 1, INFINITY}}}) {
      Chart c{.title = "t", .x_label = "x", .y_label = "y", .series = {s}, .log_x = log, .log_y = log};
      for (const Axis& axis : {x_axis(c), y_axis(c)}) {
        EXPECT_TRUE(std::isfinite(axis.low) && std::isfinite(axis.high)) << s.name;
        EXPECT_LT(axis.low, axis.high) << s.name;
      }
      const std::string image = svg({&c, 1});
      EXPECT_TRUE(well_formed(image));
      EXPECT_EQ(image.find("nan,"), std::string::npos) << s.name;
    }
  }
}

TEST(Svg, HasALineAndMarksForEachSeries) {
  const Chart c = chart();
  const std::string image = svg({&c, 1}, 440, 300);
  EXPECT_TRUE(well_formed(image));
  EXPECT_EQ(occurrences(image, "<polyline"), 2u);
  EXPECT_EQ(occurrences(image, "<circle"), 4u + 1);  // points and legend
  EXPECT_EQ(occurrences(image, "<rect class"), 4u + 1);
  EXPECT_NE(image.find("points=\"56.0,"), std::string::npos) << "the first point stands on the left edge";
  EXPECT_EQ(occurrences(image, ">softmax<"), 1u);
}

TEST(Svg, TextIsEscaped) {
  Chart c = chart();
  c.title = "a < b & \"c\"\x01";
  const std::string image = svg({&c, 1});
  EXPECT_TRUE(well_formed(image));
  EXPECT_NE(image.find("a &lt; b &amp; &quot;c&quot;<"), std::string::npos);
}

}  // namespace
}  // namespace qwerky
