// SPDX-License-Identifier: MIT
// Charts: axes, and the SVG as well-formed XML with the points where they belong.
#include "base/svg.h"

#include <gtest/gtest.h>

#include <cmath>

#include "markup.h"

namespace qwerky {
namespace {

using testing::occurrences;
using testing::well_formed;

Chart chart() {
  return {.title = "time",
          .x_label = "tokens",
          .y_label = "µs",
          .series = {{"softmax", {128, 512, 2048, 8192}, {50, 60, 100, 260}},
                     {"rwkv7", {128, 512, 2048, 8192}, {40, 40, 40, 40}}},
          .log_x = true};
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

TEST(Svg, LongSeriesAreLinesAlone) {
  Chart c = chart();
  for (Series& s : c.series) {
    s.x.clear(), s.y.clear();
    for (int i = 1; i <= 25; ++i) s.x.push_back(i), s.y.push_back(i);
  }
  EXPECT_EQ(occurrences(svg_element(c), "<circle"), 1u);  // the legend's
}

TEST(Svg, ASingleSeriesWithoutNameHasNoLegend) {
  Chart c = chart();
  c.series = {{"", {1, 2}, {3, 4}}};
  EXPECT_EQ(occurrences(svg_element(c), "<circle"), 2u);
}

TEST(Forest, PlacesValuesAndIntervals) {
  Forest f{.title = "f", .x_label = "x", .series = {"a", "b"}, .rows = {}, .reference = 0};
  f.rows.push_back({"row <1>", {Dot{0, -1, 1}, Dot{1, NAN, NAN}}, 0.5});
  f.rows.push_back({"row 2", {std::nullopt, Dot{NAN, 0, 1}}});
  const std::string image = svg_element(f);
  EXPECT_TRUE(well_formed(image));
  EXPECT_NE(image.find("row &lt;1&gt;"), std::string::npos);
  EXPECT_EQ(occurrences(image, "<circle"), 1u + 1);  // and the legend's
  EXPECT_EQ(occurrences(image, "<rect"), 1u + 1);    // one without interval; the one that is no number is left out
  EXPECT_EQ(occurrences(image, "class=\"level\""), 1u);
  EXPECT_EQ(occurrences(image, "class=\"reference\""), 1u);
  EXPECT_EQ(image.find("nan"), std::string::npos);
  EXPECT_EQ(image.find("…"), std::string::npos) << "a label that fits is whole";
  f.rows[0].label = std::string(60, 'a') + "end";
  EXPECT_NE(svg_element(f).find("aend<"), std::string::npos);
  EXPECT_NE(svg_element(f).find(">…a"), std::string::npos);
  const std::string empty = svg_element(Forest{.title = "none", .x_label = "", .series = {}, .rows = {}});
  EXPECT_TRUE(well_formed(empty));
  EXPECT_EQ(empty.find("nan"), std::string::npos);
}

TEST(HeatMap, HasACellForEachValue) {
  const HeatMap map{.title = "h",
                    .x_label = "length",
                    .y_label = "depth",
                    .columns = {"1k", "4k"},
                    .rows = {"0 %", "100 %"},
                    .values = {{1, 0.5}, {0, NAN}}};
  const std::string image = svg_element(map);
  EXPECT_TRUE(well_formed(image));
  EXPECT_EQ(occurrences(image, "class=\"cell\""), 3u);
  EXPECT_EQ(occurrences(image, ">50<"), 1u);
  EXPECT_EQ(image.find("nan"), std::string::npos);
}

}  // namespace
}  // namespace qwerky
