// SPDX-License-Identifier: MIT
// Constrained JSON: which texts the automaton of a schema reads.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>

#include "engine/json_constraint.h"
#include "expect_error.h"
#include "json_automaton.h"

namespace qwerky {
namespace {

using testing::Automaton;
using testing::compile;
using testing::compile_json;
using testing::error_of;
using testing::has;
using testing::parse;
using testing::read;

std::string refusal(const std::string& schema) {
  return error_of([&] { compile(schema); });
}

/// Reads all of these, byte by byte and at once, and none of those.
void expect_texts(const Automaton& automaton, const std::vector<std::string>& good,
                  const std::vector<std::string>& bad) {
  for (const std::string& text : good) {
    EXPECT_EQ(read(automaton, text), std::pair(text.size(), true)) << text;
    ByteMatcher matcher(automaton);
    matcher.accept(text);
    EXPECT_TRUE(matcher.complete()) << text;
  }
  for (const std::string& text : bad) EXPECT_FALSE(read(automaton, text).second) << text;
}

void expect_texts(const std::string& schema, const std::vector<std::string>& good,
                  const std::vector<std::string>& bad) {
  SCOPED_TRACE(schema);
  expect_texts(compile(schema), good, bad);
}

TEST(JsonGrammar, ObjectsOfAllKinds) {
  expect_texts(json_object_automaton(),
               {"{}", " {}", "\n{ }", "{\n  }", R"({"a":1})", R"({"a": [1, 2, {"b": null}], "": true})",
                R"({"a": -0.5e-3, "b": 1E+9, "c": 10, "d": 0})", "{\"a\": [\n    ],\n  \"b\": \"\"\n}",
                "{\"\u00e9\u20ac\U0001F600\": \"\\u00e9\\n\\\"\\\\\\/\"}", R"({"a":[[[[[]]]]]})"},
               {"",
                "{",
                "[]",
                "1",
                "\"a\"",
                "{}}",
                "{} ",
                "{,}",
                R"({"a"})",
                R"({"a":})",
                R"({"a":1,})",
                R"({a:1})",
                R"({"a":01})",
                R"({"a":.5})",
                R"({"a":1.})",
                R"({"a":+1})",
                R"({"a":1e})",
                R"({"a":nul})",
                R"({"a":NaN})",
                R"({'a':1})",
                R"({"a":"\x"})",
                R"({"a":"\u12g4"})",
                "{\"a\":\"\n\"}",
                "{\"a\":\"\t\"}",
                R"({"a":[1,]})",
                R"({"a" :1})",
                R"({"a":1 ,"b":2})",
                R"({"a":tru)",
                "{\n\n}"});
}

TEST(JsonGrammar, WhiteSpaceHasAnEnd) {
  for (const std::string text : {R"({"a":[1,"b"]})", R"({"a":{"b":[],"c":{}}})"}) {
    size_t places = 0;
    for (size_t at = 0; at <= text.size(); ++at) {
      const auto with = [&](const std::string& space) {
        return read(json_object_automaton(), text.substr(0, at) + space + text.substr(at)).second;
      };
      const bool quoted = std::count(text.begin(), text.begin() + static_cast<int64_t>(at), '"') % 2 == 1;
      if (quoted || !with(" ")) continue;
      ++places;
      EXPECT_FALSE(with("  ")) << at;
      EXPECT_FALSE(with("\t")) << at;
      EXPECT_FALSE(with(" \n")) << at;
      EXPECT_TRUE(with("\n" + std::string(20, ' '))) << at;
      EXPECT_TRUE(with("\n" + std::string(20, '\t'))) << at;
      EXPECT_FALSE(with("\n" + std::string(21, ' '))) << at;
      EXPECT_FALSE(with("\n\n")) << at;
    }
    EXPECT_GE(places, 7u) << text;
  }
}

TEST(JsonGrammar, CallsOfTools) {
  const std::vector<NamedSchema> tools = {
      {"find", parse(R"({"type": "object", "properties": {"q": {"$ref": "#/$defs/q"}}, "required": ["q"],
                         "$defs": {"q": {"enum": ["fox", "owl"]}}})")},
      {"fin", parse(R"({"type": "object", "properties": {}})")}};
  const auto texts = [&](const CallForm& form, bool several) {
    return calls_automaton(tools, form, several, "tools", ByteSet().set());
  };
  const std::string find = R"({"name": "find", "arguments": {"q": "fox"}})",
                    fin = R"({"name": "fin", "arguments": {}})";
  const CallForm tagged{"<c>\n", "arguments", "\n</c>", "\n"};
  const std::string first = "<c>\n" + find + "\n</c>", second = "<c>\n" + fin + "\n</c>";
  expect_texts(texts(tagged, false), {first, second},
               {find, first + "\n" + second, "<c>\n{\"name\": \"find\", \"arguments\": {}}\n</c>",
                "<c>\n{\"name\": \"fi\", \"arguments\": {}}\n</c>", first.substr(0, first.size() - 1)});
  expect_texts(texts(tagged, true), {first, first + "\n" + second, second + "\n" + first + "\n" + first},
               {"", first + second, first + "\n"});
  expect_texts(texts({"", "arguments", "", "; "}, true), {find, find + "; " + fin}, {find + fin, fin + ";"});
  const std::vector<NamedSchema> wrong = {{"f", parse(R"({"properties": {"a": {"type": "colour"}}})")}};
  EXPECT_PRED2(has, error_of([&] { calls_automaton(wrong, tagged, false, "tools", ByteSet().set()); }),
               "tools: f: /properties/a/type");
}

TEST(JsonGrammar, StringsAreUtf8WithoutLoneSurrogates) {
  const auto automaton = compile(R"({"type": "string"})");
  const auto quoted = [](const std::string& s) { return "\"" + s + "\""; };
  for (const char* good : {"\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBF",
                           "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF", "\x7F", "\\ud7ff", "\\uE000", "\\u0000", "\\uD700"})
    EXPECT_TRUE(read(automaton, quoted(good)).second) << good;
  for (const char* bad :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xC2", "\xC2\xC2", "\xE0\x80\x80", "\xE0\x9F\xBF", "\xED\xA0\x80",
        "\xF0\x80\x80\x80", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\\ud800", "\\uDFFF", "\\u12", "\x1F"})
    EXPECT_FALSE(read(automaton, quoted(bad)).second) << bad;
}

TEST(JsonGrammar, Types) {
  expect_texts(R"({"type": "null"})", {"null", " null"}, {"nul", "0", "nulll"});
  expect_texts(R"({"type": "boolean"})", {"true", "false"}, {"True", "1"});
  expect_texts(R"({"type": ["string", "null"], "maxLength": 1})", {"null", "\"\"", "\"a\""}, {"\"ab\"", "true"});
  expect_texts(R"({"type": "integer"})", {"0", "-1", "120", "999999999999999999"},
               {"1.0", "01", "-", "-0", "1e3", "1000000000000000000"});
  expect_texts(R"({"type": "number"})", {"0", "-0", "-0.0", "1.50", "3e8", "3.1E-08"}, {"1.", "--1", "e3", "1e100"});
  expect_texts("true", {"1", "[]", "{}", "\"\"", "null"}, {"x"});
  expect_texts("{}", {"1", "[true]"}, {"x"});
  expect_texts(R"({"type": "string", "nullable": true})", {"null", "\"\""}, {"1"});
  expect_texts(R"({"title": "T", "description": "D", "default": 3, "$schema": "x", "examples": []})", {"1", "{}"},
               {""});
}

TEST(JsonGrammar, PropertiesInOrder) {
  expect_texts(
      R"({"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "null"}}, "required": ["b", "a"],
                   "additionalProperties": false})",
      {R"({"b": 1, "a": null})", R"({"b":1,"a":null})"},
      {"{}", R"({"b": 1})", R"({"a": null, "b": 1})", R"({"b": 1, "a": null, "c": 1})", R"({"b": 1, "b": 1})"});
  expect_texts(
      R"({"properties": {"a": {"type": "null"}, "b": {"type": "null"}, "c": {"type": "null"}}, "required": ["b"]})",
      {R"({"b": null})", R"({"a": null, "b": null})", R"({"b": null, "c": null})",
       R"({"a": null, "b": null, "c": null})"},
      {"{}", R"({"a": null})", R"({"c": null})", R"({"b": null, "a": null})", R"({,"b": null})", R"({"b": null,})",
       R"({"b": null, "d": 1})"});
  expect_texts(R"({"properties": {"a": true, "b": true}})",
               {"{}", R"({"a": 1})", R"({"b": []})", R"({"a": 1, "b": 2})"}, {R"({"a": 1, "a": 1})", R"({"c": 1})"});
  expect_texts(R"({"properties": {"q\"\\\u00e9\n": {"type": "null"}}, "required": ["q\"\\\u00e9\n"]})",
               {"{\"q\\\"\\\\\u00e9\\n\": null}"}, {"{\"q\": null}"});
  expect_texts(R"({"type": "object", "required": ["x"]})", {R"({"x": 1})", R"({"x": [], "y": 1})"},
               {"{}", R"({"y": 1})", R"({"x": 1, "x": 1})"});
  for (const char* empty :
       {R"({"type": "object", "additionalProperties": false})", R"({"type": "object", "properties": {}})"})
    expect_texts(empty, {"{}", "{ }"}, {R"({"a": 1})"});
}

TEST(JsonGrammar, AdditionalPropertiesAreOtherOnes) {
  const std::string schema =
      R"({"properties": {"ab": {"type": "null"}, "a\u00e9": {"type": "null"}, "q\"": {"type": "null"}},
                                 "additionalProperties": {"type": "integer"}})";
  expect_texts(schema,
               {"{}", R"({"ab": null})", R"({"ab": null, "x": 1, "abc": 2, "a": 3, "": 4, "b": 5})",
                "{\"\u00e9\": 1, \"ab\u00e9\": 1, \"aa\u00e9\": 1, \"x\\u0061\": 2}",
                "{\"a\u00e9\": null, \"a\u00e9\u00e9\": 1}"},
               {R"({"ab": 1})", R"({"x": 1, "ab": null})", R"({"x": null})", R"({"\u0061b": 1})", "{\"a\u00e9\": 1}",
                R"({"a\u0062": 1})", R"({"q\"": 1})", "{\"a\u00e8\": 1}", "{\"a\xC3\": 1}"});
  expect_texts(R"({"type": "object", "additionalProperties": {"type": "integer"}})", {"{}", R"({"a": 1, "b\n": 2})"},
               {R"({"a": "x"})"});
}

TEST(JsonGrammar, Arrays) {
  expect_texts(R"({"type": "array"})", {"[]", "[ ]", "[1, \"a\", [], {}]", "[\n  1,\n  2\n]"},
               {"[1 2]", "[,]", "[1,]"});
  expect_texts(R"({"items": {"type": "integer"}, "minItems": 2, "maxItems": 3})", {"[1, 2]", "[1,2,3]"},
               {"[]", "[1]", "[1, 2, 3, 4]", "[1, null]"});
  expect_texts(R"({"type": "array", "items": {"type": "null"}, "maxItems": 0})", {"[]"}, {"[null]"});
  expect_texts(R"({"type": "array", "items": false})", {"[]"}, {"[null]"});
  expect_texts(R"({"prefixItems": [{"type": "integer"}, {"type": "null"}]})", {"[]", "[1]", "[1, null]"},
               {"[null]", "[1, 2]", "[1, null, 3]"});
  expect_texts(R"({"prefixItems": [{"type": "integer"}, {"type": "null"}], "items": {"type": "boolean"}, "minItems": 2,
                   "maxItems": 4})",
               {"[1, null]", "[1, null, true]", "[1, null, true, false]"},
               {"[]", "[1]", "[1, null, 3]", "[1, null, true, true, true]", "[true]"});
  expect_texts(R"({"prefixItems": [true, true, true], "maxItems": 1, "items": true})", {"[]", "[1]"}, {"[1, 2]"});
  expect_texts(R"({"type": "array", "uniqueItems": false, "minItems": 1})", {"[1, 1]"}, {"[]"});
}

TEST(JsonGrammar, StringLengthsCountCharacters) {
  expect_texts(R"({"type": "string", "minLength": 2, "maxLength": 3})",
               {"\"ab\"", "\"abc\"", "\"\u00e9\U0001F600\"", R"("\n\u00e9")", R"("\"\\\"")"},
               {"\"\"", "\"a\"", "\"abcd\"", "\"\U0001F600\"", R"("\u00e9")", R"("\n\n\n\n")"});
  expect_texts(R"({"minLength": 1})", {"\"a\"", "\"" + std::string(5000, 'x') + "\""}, {"\"\""});
  expect_texts(R"({"maxLength": 0})", {"\"\""}, {"\"a\""});
}

TEST(JsonGrammar, EnumerationsAndConstants) {
  expect_texts(R"({"enum": ["red", "green", "gree", "r", 1, 1.5, null, true, [1, {"a": "b"}], ""]})",
               {"\"red\"", "\"green\"", "\"gree\"", "\"r\"", "1", "1.5", "null", "true", R"([1,{"a":"b"}])", "\"\""},
               {"\"re\"", "\"reds\"", "\"g\"", "15", "false", "2"});
  expect_texts(R"({"type": "string", "enum": ["a", 1, "b"]})", {"\"a\"", "\"b\""}, {"1"});
  expect_texts(R"({"type": "integer", "enum": [1.0, 2, 2.5]})", {"1.0", "2"}, {"2.5"});
  expect_texts(R"({"const": "x\"\u00e9"})", {"\"x\\\"\u00e9\""}, {"\"x\""});
  expect_texts(R"({"const": "a", "enum": ["b", "a"]})", {"\"a\""}, {"\"b\""});
  std::string many = "[";
  for (int i = 0; i < 2000; ++i) many += concat(i > 0 ? "," : "", "\"value-", i, "\"");
  expect_texts("{\"enum\": " + many + "]}", {"\"value-0\"", "\"value-1999\""}, {"\"value-2000\"", "\"value-\""});
}

/// Every whole number near the limits, against comparison.
TEST(JsonGrammar, IntegerLimits) {
  const std::vector<int64_t> ends{-1000, -999, -101, -100, -99, -10, -9,  -1,  0,   1,   2,
                                  9,     10,   11,   45,   99,  100, 101, 345, 999, 1000};
  for (int64_t low : ends)
    for (int64_t high : ends) {
      if (low > high) continue;
      const auto automaton = compile(concat(R"({"type": "integer", "minimum": )", low, ", \"maximum\": ", high, "}"));
      for (int64_t x = -1100; x <= 1100; x += std::abs(x) < 130 ? 1 : 7)
        ASSERT_EQ(read(automaton, std::to_string(x)).second, x >= low && x <= high) << low << " " << x << " " << high;
    }
  expect_texts(R"({"type": "integer", "minimum": 17})", {"17", "99", "100", "999999999999999999"}, {"16", "2", "-17"});
  expect_texts(R"({"type": "integer", "exclusiveMinimum": -3, "exclusiveMaximum": 2})", {"-2", "0", "1"}, {"-3", "2"});
  expect_texts(R"({"type": "integer", "minimum": 3, "exclusiveMinimum": 3, "maximum": 5.0})", {"4", "5"}, {"3", "6"});
  expect_texts(R"({"type": "integer", "minimum": -9223372036854775808, "maximum": 18446744073709551615})", {"0"},
               {"x"});
}

TEST(JsonGrammar, NumberLimits) {
  const std::vector<std::string> numbers{"-10",   "-9.99", "-9",    "-8.5",  "-1.01", "-1",  "-0.99", "-0.001", "0",
                                         "0.0",   "0.001", "0.5",   "0.999", "1",     "1.0", "1.001", "1.5",    "2",
                                         "8.999", "9",     "9.000", "9.001", "9.5",   "10",  "11.25"};
  const std::vector<int> ends{-9, -1, 0, 1, 9};
  for (int low : ends)
    for (int high : ends)
      for (int open = 0; open < 4; ++open) {
        if (low > high || (low == high && open > 0)) continue;
        const auto automaton =
            compile(concat(R"({"type": "number", ")", open & 1 ? "exclusiveMinimum" : "minimum", "\": ", low, ", \"",
                           open & 2 ? "exclusiveMaximum" : "maximum", "\": ", high, "}"));
        for (const std::string& text : numbers) {
          const double x = std::stod(text);
          const bool in = (open & 1 ? x > low : x >= low) && (open & 2 ? x < high : x <= high);
          ASSERT_EQ(read(automaton, text).second, in) << low << " " << text << " " << high << " " << open;
        }
      }
  expect_texts(R"({"type": "number", "exclusiveMinimum": 0})", {"0.5", "1", "123.25", "0.01"},
               {"0", "0.0", "-1", "1e5"});
}

TEST(JsonGrammar, Patterns) {
  const auto pattern = [](const std::string& p) { return OrderedJson{{"type", "string"}, {"pattern", p}}.dump(); };
  expect_texts(pattern("^[A-Z]{2,3}-\\d+$"), {R"("AB-1")", R"("ABC-123")"},
               {R"("A-1")", R"("ABCD-1")", R"("AB-")", R"("xAB-1")"});
  expect_texts(pattern("^(foo|ba(r|z)*)$"), {R"("foo")", R"("ba")", R"("barzr")"}, {R"("")", R"("fooo")"});
  expect_texts(pattern("b+"), {R"("b")", R"("abc")", "\"\u00e9b\\n\""}, {R"("")", R"("ac")"});
  expect_texts(pattern("^a|b$"), {R"("a")", R"("axx")", R"("xxb")"}, {R"("xa")", R"("bx")"});
  expect_texts(pattern("^[^a-c]$"), {R"("d")", "\"\u00e9\"", R"("\"")", R"("\\")", R"("\n")", R"("\u0001")"},
               {R"("a")", R"("dd")", R"("\u0064")", R"("")"});
  expect_texts(pattern("^.$"), {R"("x")", "\"\U0001F600\""}, {R"("\n")", "\"\u2028\"", "\"\xE2\x80\""});
  expect_texts(pattern("^\\w+@\\w+\\.com$"), {R"("a_1@b.com")"}, {R"("a@bxcom")"});
  expect_texts(pattern("^\"\\\\/\u00e9$"), {"\"\\\"\\\\/\u00e9\""}, {R"("a")"});
  expect_texts(pattern("^[\\d\\-x]{3}?$"), {R"("1-x")"}, {R"("1-y")"});
  expect_texts(pattern("^a{0}b{2,}$"), {R"("bb")", R"("bbbb")"}, {R"("b")", R"("abb")"});
  expect_texts(pattern(""), {R"("")", R"("x")"}, {"1"});
  for (const auto& [bad, message] :
       std::vector<std::pair<std::string, std::string>>{{"(?=a)", "a (? group"},
                                                        {"\\bx", "the escape \\b"},
                                                        {"(a)\\1", "the escape \\1"},
                                                        {"a**", "a second count"},
                                                        {"(a?)*", "a count of what may be empty"},
                                                        {"[a", "an unfinished expression"},
                                                        {"(a", "a group without )"},
                                                        {"a)", "an unmatched )"},
                                                        {"a{2", "a { without }"},
                                                        {"a{3,2}", "ends before it begins"},
                                                        {"a{2000}", "from 0 to 1000"},
                                                        {"[\u00e9]", "beyond ASCII"},
                                                        {"a$b", "what stands behind $"},
                                                        {"(^a)", "'^' without a backslash"},
                                                        {"[z-a]", "a range that ends"},
                                                        {"*", "'*' without a backslash"},
                                                        {"a\\", "an unfinished expression"}})
    EXPECT_PRED2(has, refusal(pattern(bad)), message) << bad;
  EXPECT_PRED2(has, refusal(pattern(std::string(200, '(') + std::string(200, ')'))), "nesting of more than 50");
}

TEST(JsonGrammar, Formats) {
  expect_texts(R"({"type": "string", "format": "date"})", {R"("2024-02-28")", R"("1999-12-31")"},
               {R"("2024-02-30")", R"("2024-13-01")", R"("2024-04-31")", R"("24-1-1")"});
  expect_texts(R"({"type": "string", "format": "date-time"})",
               {R"("2024-02-28T23:59:59Z")", R"("2024-02-28T00:00:00.123+02:00")"},
               {R"("2024-02-28")", R"("2024-02-28T24:00:00Z")"});
  expect_texts(R"({"type": "string", "format": "uuid"})", {R"("123e4567-e89b-12d3-a456-426614174000")"},
               {R"("123e4567")"});
  expect_texts(R"({"type": "string", "format": "ipv4"})", {R"("0.0.0.0")", R"("255.249.100.9")"},
               {R"("256.0.0.1")", R"("1.2.3")"});
  expect_texts(R"({"type": "string", "format": "email"})", {R"("a.b@example.com")"},
               {R"("a@")", R"(".a@b.c")", R"("a@b")"});
}

TEST(JsonGrammar, AlternativesAndReferences) {
  expect_texts(R"({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]})", {"1", "[1]"},
               {"null"});
  expect_texts(R"({"oneOf": [{"const": 1}, {"const": 12}]})", {"1", "12"}, {"2"});
  // A list of integers as nested pairs, and a tree, by references that lead back.
  expect_texts(
      R"({"$ref": "#/$defs/list", "$defs": {"list": {"anyOf": [{"type": "null"}, {"type": "object", "properties":
                   {"head": {"type": "integer"}, "tail": {"$ref": "#/$defs/list"}}, "required": ["head", "tail"]}]}}})",
      {"null", R"({"head": 1, "tail": {"head": 2, "tail": null}})"}, {R"({"head": 1})", R"({"head": 1, "tail": 2})"});
  expect_texts(R"({"type": "object", "properties": {"name": {"type": "string"}, "children": {"type": "array", "items":
                   {"$ref": "#"}}}, "required": ["name", "children"]})",
               {R"({"name": "a", "children": [{"name": "b", "children": []}]})"},
               {R"({"name": "a", "children": [1]})"});
  expect_texts(
      R"({"properties": {"a/b~c": {"type": "null"}, "d": {"$ref": "#/properties/a~1b~0c"}}, "required": ["d"]})",
      {R"({"d": null})"}, {R"({"d": 1})"});
  expect_texts(R"({"anyOf": [{"type": "null"}, {"type": "integer"}], "$defs": {"x": {"$ref": "#/anyOf/1"}}})", {"1"},
               {"[]"});
  expect_texts(R"({"$ref": "#/definitions/a", "definitions": {"a": {"type": "integer"}}, "description": "d"})", {"1"},
               {"null"});
  expect_texts(R"({"$ref": "#/$defs/a", "nullable": true, "$defs": {"a": {"type": "object", "properties": {"next":
                   {"$ref": "#/$defs/a", "nullable": true}}, "required": ["next"]}}})",
               {"null", R"({"next": {"next": null}})"}, {"{}"});
}

TEST(JsonGrammar, PartsThatMerge) {
  expect_texts(R"({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"type": "integer", "minimum": 3}}})", {"3"},
               {"2"});
  expect_texts(R"({"allOf": [{"$ref": "#/$defs/a"}, {"properties": {"y": {"type": "null"}}, "required": ["y"]}],
                   "$defs": {"a": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}}})",
               {R"({"x": 1, "y": null})"}, {R"({"x": 1})", R"({"y": null})"});
  expect_texts(R"({"$ref": "#/$defs/a", "minLength": 2, "$defs": {"a": {"type": "string", "maxLength": 3}}})",
               {R"("ab")"}, {R"("a")", R"("abcd")"});
  // Beside a keyword, a reference into what it stands in.
  expect_texts(R"({"$ref": "#/$defs/a", "type": "object", "$defs": {"a": {"type": "object", "properties":
                   {"x": {"$ref": "#/$defs/a", "type": "object"}}}}})",
               {"{}", R"({"x":{}})", R"({"x":{"x":{"x":{}}}})"}, {R"({"x":1})", R"({"y":{}})", R"({"x":{)"});
  expect_texts(
      R"({"allOf": [{"properties": {"a": {"type": "null"}}}, {"properties": {"a": {"type": "null"}, "b": {}}}]})",
      {R"({"a":null,"b":1})"}, {R"({"a":1})"});
  EXPECT_PRED2(has,
               refusal(R"({"allOf": [{"properties": {"a": {"type": "null"}}}, {"properties": {"a": {"enum": [1]}}}]})"),
               "schema: /properties/a: stands in two parts that are merged, and differs");
  EXPECT_PRED2(has, refusal(R"({"allOf": [{"type": "string"}, {"type": "integer"}]})"),
               "schema: /allOf/1/type: stands in two parts that are merged, and differs");
  EXPECT_PRED2(has, refusal(R"({"allOf": [{"properties": {"a": {}}}, {"additionalProperties": false}]})"),
               "/allOf/1/additionalProperties: cannot be enforced in what is merged");
  EXPECT_PRED2(has, refusal(R"({"type": "object", "allOf": [{"$ref": "#"}]})"), "references lead to one another");
}

TEST(JsonGrammar, WhatCannotBeEnforcedIsNamedWithItsPlace) {
  const auto named = [](const std::string& schema, const std::string& message) {
    EXPECT_PRED2(has, refusal(schema), "schema: " + message) << schema;
  };
  for (const char* keyword : {"multipleOf", "not", "if", "patternProperties", "propertyNames", "minProperties",
                              "contains", "dependentRequired", "unevaluatedProperties", "$dynamicRef", "$anchor",
                              "contentEncoding", "extends", "minLenght"})
    named(concat(R"({"type": "object", "properties": {"a/b": {")", keyword, "\": 1}}}"),
          concat("/properties/a~1b/", keyword, ": this keyword cannot be enforced"));
  named(R"({"items": {"uniqueItems": true}})", "/items/uniqueItems: cannot be enforced");
  named(R"({"type": "text"})",
        "/type: expected object, array, string, number, integer, boolean or null, found \"text\"");
  named(R"({"type": ["string", 1]})", "/type: expected");
  named(R"([1])", "the schema: expected an object, found array");
  named(R"({"properties": {"x": 1}})", "/properties/x: expected an object, found number");
  named(R"({"properties": []})", "/properties: expected an object, found array");
  named(R"({"required": "a"})", "/required: expected an array, found string");
  named(R"({"required": [1]})", "/required: expected strings, found number");
  named(R"({"anyOf": {}})", "/anyOf: expected an array, found object");
  named(R"({"anyOf": [{}, {"x": 1}]})", "/anyOf/1/x: this keyword cannot be enforced");
  named(R"({"anyOf": [{}], "type": "string"})", "/type: cannot be enforced beside anyOf");
  named(R"({"anyOf": [{}], "oneOf": [{}]})", "/oneOf: cannot be enforced beside anyOf");
  named(R"({"enum": ["a"], "maxLength": 3})", "/maxLength: cannot be enforced beside enum or const");
  named(R"({"minLength": -1})", "the schema: minLength: expected a whole number from 0 to 2147483647, found -1");
  named(R"({"maxItems": 1.5})", "the schema: maxItems: expected a whole number");
  named(R"({"minimum": 0.5})", "/minimum: 0.5: only whole numbers can be enforced as limits");
  named(R"({"type": "integer", "exclusiveMinimum": true})", "/exclusiveMinimum: expected a number, found boolean");
  named(R"({"minimum": 1e20})", "/minimum: 1e+20: numbers are written with at most 18 digits");
  named(R"({"pattern": "a", "maxLength": 3})", "/pattern: cannot be enforced beside minLength, maxLength");
  named(R"j({"properties": {"e": {"pattern": "(?=x)"}}})j", "/properties/e/pattern: a (? group at byte 1 of \"(?=x)\"");
  named(R"({"format": "hostname"})", "/format: \"hostname\" cannot be enforced");
  named(R"({"$ref": "other.json"})", "/$ref: only references into this schema");
  named(R"({"$ref": "#/$defs/none"})", "/$ref: \"#/$defs/none\": there is no such place");
  named(R"({"$ref": 3})", "/$ref: expected a string, found number");
  named(R"({"properties": {"q": {"$ref": "#/$defs/d"}}, "$defs": {"d": {"items": {"not": {}}}}})",
        "/$defs/d/items/not: this keyword cannot be enforced");
  named(R"({"properties": {"a": {}}, "required": ["b"], "additionalProperties": false})",
        "/required: \"b\" is none of the properties, and additionalProperties is false");
  named(R"({"nullable": 1})", "the schema: nullable: expected a boolean");
}

TEST(JsonGrammar, WhatNoTextSatisfies) {
  for (const char* schema :
       {"false", R"({"enum": []})", R"({"type": []})", R"({"minItems": 3, "maxItems": 2})",
        R"({"minLength": 3, "maxLength": 2})", R"({"type": "integer", "minimum": 3, "maximum": 2})",
        R"({"type": "number", "minimum": 2, "exclusiveMaximum": 2})", R"({"$ref": "#"})",
        R"({"properties": {"a": {"$ref": "#"}}, "required": ["a"]})", R"({"items": {"$ref": "#"}, "minItems": 1})",
        R"({"type": "string", "enum": [1]})", R"({"anyOf": []})", R"({"items": false, "minItems": 1})",
        R"({"prefixItems": [true], "minItems": 2})"})
    EXPECT_PRED2(has, refusal(schema), "schema: no JSON text satisfies this schema") << schema;
  // Parts that cannot be finished are never entered.
  expect_texts(
      R"({"anyOf": [{"$ref": "#"}, {"properties": {"a": {"$ref": "#/anyOf/1"}}, "required": ["a"]}, {"const": 1}]})",
      {"1"}, {"{"});
  EXPECT_EQ(read(compile(R"({"anyOf": [false, {"type": "array", "items": false}]})"), "[").first, 1u);
  EXPECT_EQ(read(compile(R"({"properties": {"a": false, "b": true}})"), "{\"a").first, 2u);
}

TEST(JsonGrammar, LargeSchemasEndInAMessageOrWork) {
  std::string deep = "true", chain = R"({"$ref": "#/$defs/d0", "$defs": {)";
  for (int i = 0; i < 60; ++i) deep = R"({"type": "array", "items": )" + deep + "}";
  expect_texts(deep, {"[]", "[[]]"}, {"[1]"});
  for (int i = 0; i < 1000; ++i) chain += concat("\"d", i, R"(": {"items": {"$ref": "#/$defs/d)", i + 1, "\"}}, ");
  EXPECT_PRED2(has, refusal(chain + R"("d1000": {}}})"), "nested more than 200 deep");
  EXPECT_PRED2(has, refusal(R"({"const": ")" + std::string(300000, 'x') + "\"}"), "more than 262144 steps");
  EXPECT_PRED2(has, refusal(R"({"properties": {")" + std::string(300, 'x') + R"(": {}}, "additionalProperties": {}})"),
               "property names of more than 256 bytes");
  EXPECT_PRED2(has, refusal(R"({"pattern": ")" + std::string(7 << 20, 'a') + "\"}"),
               "schema: /pattern: a pattern of 7340032 bytes; at most 16384 are supported");
  const std::string open = refusal(R"({"pattern": ")" + std::string(16000, 'a') + "(\"}");
  EXPECT_PRED2(has, open, "at byte 16001 of \"aaa");
  EXPECT_LT(open.size(), 400u);
  // A large part is merged into many places: none of them copies it.
  std::string large = R"({"$defs": {"big": {"type": "object", "properties": {"p": {"type": "null", "examples": [0)";
  for (int i = 0; i < 30000; ++i) large += ",0";
  large += R"(]}}}}, "type": "object", "properties": {)";
  for (int i = 0; i < 200; ++i)
    large += concat(i == 0 ? "" : ", ", "\"a", i, R"(": {"$ref": "#/$defs/big", "type": "object"})");
  const OrderedJson schema = parse(large + "}}");
  const auto peak = [] {  // in KiB
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
  };
  const long before = peak();
  expect_texts(compile_json(schema), {R"({"a0":{"p":null},"a199":{}})"}, {R"({"a7":{"p":1})"});
  EXPECT_LT(peak() - before, 32 << 10);
  // 2^20 parts to merge, were they all looked at.
  std::string doubling = R"({"$ref": "#/$defs/d0", "type": "object", "$defs": {)";
  for (int i = 0; i < 20; ++i)
    doubling +=
        concat("\"d", i, R"(": {"allOf": [{"$ref": "#/$defs/d)", i + 1, R"("}, {"$ref": "#/$defs/d)", i + 1, "\"}]}, ");
  EXPECT_PRED2(has, refusal(doubling + R"("d20": {"required": []}}})"), "more than 10000 keywords to merge");
  // Many alternatives at once: the later are not followed, the text can always be finished.
  std::string many = R"({"anyOf": [)";
  for (int i = 0; i < 3000; ++i)
    many += concat(i > 0 ? "," : "", R"({"type": "array", "items": {"type": "string"}, "minItems": )", i, "}");
  ByteMatcher matcher(compile(many + "]}"));
  matcher.accept("[");
  EXPECT_LE(matcher.ways().size(), ByteMatcher::kMostWays);
  matcher.accept("\"a\"");
  matcher.accept("]");
  EXPECT_TRUE(matcher.complete());
}

TEST(JsonGrammar, WhatBytesCannotWriteIsNoWay) {
  const std::string schema = R"({"enum": ["a\u00e9", "b"]})";
  EXPECT_EQ(read(compile_json(parse(schema), json_bytes()), "\"a").first, 1u);
  EXPECT_TRUE(read(compile_json(parse(schema), json_bytes()), "\"b\"").second);
  EXPECT_PRED2(has, error_of([] {
                 compile_json(OrderedJson{{"const", "\u00e9"}}, json_bytes());
               }),
               "no JSON text satisfies");
}

}  // namespace
}  // namespace qwerky
