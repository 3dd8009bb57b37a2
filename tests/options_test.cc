// SPDX-License-Identifier: MIT
// The visitor that yields JSON both ways: round trips, unknown keys, wrong types.
#include "base/options.h"

#include <gtest/gtest.h>

#include <limits>

#include "expect_error.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::has;

struct Inner {
  std::string name = "inner";
  double rate = 0.5;
  template <class V>
  void visit(V& v) {
    v("name", name, "");
    v("rate", rate, "");
  }
};

struct Outer {
  int64_t count = 3;
  int32_t small = 1;
  uint64_t seed = 1;
  bool flag = false;
  std::vector<std::string> words = {"a"};
  std::vector<Inner> list;
  Inner one;
  template <class V>
  void visit(V& v) {
    v("count", count, "");
    v("small", small, "");
    v("seed", seed, "");
    v("flag", flag, "");
    v("words", words, "");
    v("list", list, "");
    v("one", one, "");
  }
};

std::string message(const Json& json) {
  return error_of([&] {
    Outer o;
    from_json(o, json, "recipe x");
  });
}

TEST(Options, RoundTrip) {
  Outer o;
  o.count = int64_t{1} << 60, o.small = -7, o.seed = std::numeric_limits<uint64_t>::max(), o.flag = true;
  o.words = {"b", "", "ü"}, o.list = {{"x", 1e-300}, {"y", -2}}, o.one.rate = 0.1;
  Outer back;
  from_json(back, Json::parse(to_json(o).dump()), "x");
  EXPECT_EQ(to_json(back), to_json(o));
  EXPECT_EQ(back.count, o.count);
  EXPECT_EQ(back.seed, o.seed);
  EXPECT_EQ(back.list[0].rate, 1e-300);
}

TEST(Options, AbsentKeysKeepTheirDefaults) {
  Outer o;
  from_json(o, Json::parse(R"({"list": [{"rate": 2}], "flag": true})"), "x");
  EXPECT_EQ(o.count, 3);
  EXPECT_TRUE(o.flag);
  ASSERT_EQ(o.list.size(), 1u);
  EXPECT_EQ(o.list[0].name, "inner");
  EXPECT_EQ(o.list[0].rate, 2);
}

TEST(Options, WholeNumbersMayBeWrittenAsFloats) {
  Outer o;
  from_json(o, Json::parse(R"({"count": 1.667e6, "small": 2.0})"), "x");
  EXPECT_EQ(o.count, 1667000);
  EXPECT_EQ(o.small, 2);
}

TEST(Options, UnknownKeysAreNamed) {
  const std::string text = message(Json::parse(R"({"cuont": 1})"));
  EXPECT_PRED2(has, text, "recipe x: unknown key \"cuont\"");
  EXPECT_PRED2(has, text, "count, flag");
  EXPECT_PRED2(has, message(Json::parse(R"({"list": [{}, {"rat": 1}]})")), "recipe x.list[1]: unknown key \"rat\"");
}

TEST(Options, WrongTypesAreNamed) {
  for (const auto& [json, part] : std::vector<std::pair<const char*, const char*>>{
           {R"({"count": "3"})", "recipe x.count: expected a whole number"},
           {R"({"count": 1.5})",
            "recipe x.count: expected a whole number from -9223372036854775808 to 9223372036854775807, found 1.5"},
           {R"({"count": null})", "recipe x.count"},
           {R"({"count": true})", "recipe x.count"},
           {R"({"flag": 1})", "recipe x.flag: expected true or false"},
           {R"({"words": "a"})", "recipe x.words: expected a list"},
           {R"({"words": [1]})", "recipe x.words[0]: expected text"},
           {R"({"list": [3]})", "recipe x.list[0]: expected an object"},
           {R"({"one": {"rate": "fast"}})", "recipe x.one.rate: expected a number"},
           {R"([1])", "recipe x: expected an object"}})
    EXPECT_PRED2(has, message(Json::parse(json)), part);
}

TEST(Options, NumbersMustFitTheirField) {
  for (const char* json : {R"({"count": 1e30})", R"({"count": -1e300})", R"({"count": 9223372036854775808})",
                           R"({"small": 2147483648})", R"({"small": -3e9})", R"({"seed": -1})", R"({"seed": 1e20})"})
    EXPECT_PRED2(has, message(Json::parse(json)), "expected a whole number") << json;
}

}  // namespace
}  // namespace qwerky
