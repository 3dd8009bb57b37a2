// SPDX-License-Identifier: MIT
// Constrained JSON: what a model can write under the masks of a schema.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "data.h"
#include "engine/json_constraint.h"
#include "expect_error.h"
#include "json_automaton.h"
#include "json_schema_check.h"
#include "repetitions.h"

namespace qwerky {
namespace {

using testing::Automaton;
using testing::compile;
using testing::compile_json;
using testing::error_of;
using testing::has;
using testing::parse;
using testing::read;
using testing::SchemaCheck;

/// What the teacher's tokenizer can write, token by token.
class JsonTokens : public ::testing::Test {
 protected:
  static const Tokenizer& tokenizer() {
    static const auto loaded = load_tokenizer(std::string(QWERKY_SOURCE_DIR) + "/models/teacher");
    return *loaded;
  }
  static std::shared_ptr<const TokenBytes> tokens() {
    static const auto made = std::make_shared<TokenBytes>(tokenizer(), tokenizer().eos);
    return made;
  }
  static std::unique_ptr<Constraint> constraint(const Automaton& automaton) {
    return make_json_constraint(automaton, tokens());
  }
  static std::vector<uint8_t> mask_of(Constraint& c) {
    std::vector<uint8_t> mask(static_cast<size_t>(tokenizer().size()) + 7, 9);
    c.allowed(mask);
    return mask;
  }
  static bool is_end(int32_t id) {
    return std::find(tokenizer().eos.begin(), tokenizer().eos.end(), id) != tokenizer().eos.end();
  }

  /// A model that writes at random, and after `patience` tokens whatever comes nearest to an end. The text, or nothing
  /// after 1,500 tokens. `each` sees every step: constraint and mask, the automaton's text so far.
  template <class Each>
  static std::optional<std::string> write(const Automaton& automaton, uint64_t seed, int patience, Each each) {
    auto c = constraint(automaton);
    std::string text;
    const Random random(seed);
    for (int step = 0; step < 1500; ++step) {
      const auto mask = mask_of(*c);
      each(*c, mask, text);
      bool within_string = false;
      for (size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '"') within_string = !within_string;
        if (text[i] == '\\') ++i;
      }
      double best = -1;
      int32_t chosen = -1;
      for (int32_t id = 0; id < static_cast<int32_t>(mask.size()); ++id) {
        if (mask[static_cast<size_t>(id)] == 0) continue;
        double score = random.uniform((static_cast<uint64_t>(step) << 20) + static_cast<uint64_t>(id));
        if (step >= patience) {
          const std::string piece = is_end(id) ? "" : tokenizer().piece(id);
          if (is_end(id) || piece == (within_string ? "\"" : "}")) score += 9;
          if (!within_string && piece == "]") score += 9;
          if (!within_string && piece == "\"") score += 3;
        }
        if (score > best) best = score, chosen = id;
      }
      if (chosen < 0) {
        ADD_FAILURE() << "a dead end behind " << text;
        return std::nullopt;
      }
      c->accept(chosen);
      if (is_end(chosen)) return text;
      text += tokenizer().piece(chosen);
    }
    return std::nullopt;
  }
  static std::optional<std::string> write(const Automaton& automaton, uint64_t seed, int patience) {
    return write(automaton, seed, patience, [](auto&&...) {});
  }
};

TEST_F(JsonTokens, TheMaskIsWhatTheAutomatonReads) {
  for (
      const char* schema :
      {"{}", R"({"type": "string", "maxLength": 6})", R"({"properties": {"a": {"type": "string", "minLength": 3,
           "maxLength": 9}, "b": {"enum": ["one", "once", "on"]}}, "additionalProperties": {"type": "integer", "minimum": 7, "maximum": 1234}})",
       R"({"anyOf": [{"type": "string"}, {"type": "string", "pattern": "^[a-f]+$"}, {"type": "string", "maxLength": 2}]})"}) {
    const Automaton automaton = compile(schema);
    for (uint64_t seed = 0; seed < testing::repetitions(4u, 1u); ++seed) {
      int looked = 0;
      write(automaton, seed, 12, [&](Constraint& c, const std::vector<uint8_t>& mask, const std::string& text) {
        if (++looked > 25) return;
        ByteMatcher start(automaton);
        start.accept(text);
        for (int32_t id = 0; id < static_cast<int32_t>(mask.size()); ++id) {
          bool expected = false;
          if (id < tokenizer().size() && is_end(id)) {
            expected = start.complete();
          } else if (id < tokenizer().size() && !tokenizer().is_special(id) && !tokenizer().piece(id).empty()) {
            ByteMatcher after = start;
            after.accept(tokenizer().piece(id));
            expected = !after.ways().empty();
          }
          ASSERT_EQ(mask[static_cast<size_t>(id)] != 0, expected) << text << "|" << id;
        }
        EXPECT_EQ(mask_of(*c.clone()), mask);
      });
    }
  }
}

TEST_F(JsonTokens, RandomWritingIsAnObject) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const auto text = write(json_object_automaton(), seed, static_cast<int>(seed));
    ASSERT_TRUE(text) << seed;
    EXPECT_TRUE(parse(*text).is_object()) << *text;
  }
}

TEST_F(JsonTokens, RandomWritingSatisfiesItsSchema) {
  for (
      const char* text : {
          R"({"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0,
               "maximum": 120}, "tags": {"type": "array", "items": {"enum": ["a", "bb", "abc"]}, "minItems": 1, "maxItems": 3},
               "parent": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["name", "age", "parent"], "additionalProperties": false})",
          R"({"type": "array", "items": {"type": "number", "exclusiveMinimum": -2, "maximum": 7}, "minItems": 2})",
          R"({"type": "object", "properties": {"id": {"pattern": "^[a-z]{3}-[0-9]{2,4}$"}, "score": {"type": ["number", "null"]}},
               "required": ["id"], "additionalProperties": {"type": "boolean"}})",
          R"({"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string", "minLength": 5}}})",
          R"({"oneOf": [{"properties": {"kind": {"const": "circle"}, "r": {"type": "number"}}, "required": ["kind", "r"]},
               {"properties": {"kind": {"const": "square"}, "side": {"type": "integer"}}, "required": ["kind", "side"]}]})"}) {
    const OrderedJson schema = parse(text);
    const Automaton automaton = compile_json(schema, tokens()->alone());
    for (uint64_t seed = 0; seed < 30; ++seed) {
      const auto written = write(automaton, seed, static_cast<int>(seed * 2));
      ASSERT_TRUE(written) << schema << seed;
      EXPECT_TRUE(SchemaCheck(schema).valid(parse(*written))) << schema << "\n" << *written;
    }
  }
}

/// Schemas by chance, of everything that is supported.
class RandomSchema {
 public:
  explicit RandomSchema(uint64_t seed) : random_(seed, hash_name("schema")) {}

  OrderedJson make() {
    OrderedJson root = schema(3);
    if (!root.is_object()) root = OrderedJson{{"type", "array"}, {"items", root}};
    root["$defs"] = {{"x", schema(2)}, {"y", schema(2)}};
    return root;
  }

 private:
  int below(int n) { return static_cast<int>(random_.below(counter_++, static_cast<uint64_t>(n))); }
  bool chance(int percent) { return below(100) < percent; }
  std::string name() {
    return std::string(1, static_cast<char>('a' + below(5))) + (chance(30) ? "\u00e9" : chance(20) ? "\"" : "");
  }

  OrderedJson value() {
    switch (below(5)) {
      case 0: return below(200) - 100;
      case 1: return name();
      case 2: return nullptr;
      case 3: return OrderedJson::array({below(9), name()});
      default: return OrderedJson{{name(), chance(50)}};
    }
  }

  OrderedJson schema(int depth) {
    OrderedJson s = OrderedJson::object();
    switch (depth == 0 ? below(6) : below(11)) {
      case 0:
        s["type"] = "string";
        if (chance(40)) s["minLength"] = below(4);
        if (chance(40)) s["maxLength"] = 3 + below(9);
        return s;
      case 1: {
        s["type"] = chance(50) ? "integer" : "number";
        const int low = below(400) - 200;
        if (chance(50)) s[chance(50) ? "minimum" : "exclusiveMinimum"] = low;
        if (chance(50)) s[chance(50) ? "maximum" : "exclusiveMaximum"] = low + 2 + below(200);
        return s;
      }
      case 2:
        for (int i = 0; i < 1 + below(4); ++i) s["enum"].push_back(value());
        return s;
      case 3: return chance(10) ? OrderedJson(chance(70)) : OrderedJson{{"const", value()}};
      case 4: return OrderedJson{{"type", {"null", chance(50) ? "boolean" : "string"}}};
      case 5: return OrderedJson{{"type", "string"}, {"pattern", chance(50) ? "^[a-d]{1,3}(x|yz)*$" : "[a-y]\\d?"}};
      case 6:
        for (int i = 0; i < 1 + below(3); ++i)
          s[chance(50) && i == 0 ? "oneOf" : s.contains("oneOf") ? "oneOf" : "anyOf"].push_back(schema(depth - 1));
        return s;
      case 7: return OrderedJson{{"$ref", chance(50) ? "#/$defs/x" : chance(70) ? "#/$defs/y" : "#"}};
      case 8:
        s["type"] = "array";
        if (chance(70)) s["items"] = schema(depth - 1);
        if (chance(30)) s["prefixItems"] = {schema(depth - 1), schema(depth - 1)};
        if (chance(40)) s["minItems"] = below(3);
        if (chance(40)) s["maxItems"] = 1 + below(4);
        return s;
      default:
        s["type"] = "object";
        for (int i = 0; i < below(5); ++i) {
          const std::string n = name();
          s["properties"][n] = schema(depth - 1);
          if (chance(50)) s["required"].push_back(n);
        }
        if (chance(30)) s["additionalProperties"] = chance(50) ? OrderedJson(chance(50)) : schema(depth - 1);
        if (chance(10)) s["required"].push_back("other");
        return s;
    }
  }

  Random random_;
  uint64_t counter_ = 0;
};

TEST_F(JsonTokens, RandomSchemasHaveNoDeadEnds) {
  int compiled = 0, written = 0;
  for (uint64_t seed = 0; seed < testing::repetitions(300u, 60u); ++seed) {
    const OrderedJson schema = RandomSchema(seed).make();
    Automaton automaton;
    try {
      automaton = compile_json(schema, tokens()->alone());
    } catch (const Error& e) {
      const std::string message = e.what();
      EXPECT_TRUE(has(message, "no JSON text satisfies") || has(message, "is none of the properties"))
          << message << schema;
      continue;
    }
    ++compiled;
    for (uint64_t walk = 0; walk < 3; ++walk) {
      const auto text = write(automaton, seed * 10 + walk, static_cast<int>(walk) * 15);
      if (!text) continue;  // recursion that has not ended; a dead end would have failed
      ++written;
      EXPECT_TRUE(SchemaCheck(schema).valid(parse(*text))) << schema << "\n" << *text;
    }
  }
  EXPECT_GT(compiled, testing::repetitions(240, 48));
  EXPECT_GT(written, 3 * compiled * 95 / 100);
}

TEST_F(JsonTokens, EndsOnlyWhenComplete) {
  auto c = constraint(compile(R"({"type": "integer"})"));
  const int32_t end = tokenizer().eos.front();
  EXPECT_EQ(mask_of(*c)[static_cast<size_t>(end)], 0);
  const auto one = tokenizer().encode("1", false);
  ASSERT_EQ(one.size(), 1u);
  c->accept(one[0]);
  EXPECT_EQ(mask_of(*c)[static_cast<size_t>(end)], 1);
  EXPECT_EQ(mask_of(*c)[static_cast<size_t>(one[0])], 1);
  c->accept(end);
  const auto mask = mask_of(*c);
  EXPECT_EQ(std::count(mask.begin(), mask.end(), 1), static_cast<int64_t>(tokenizer().eos.size()));
  auto closed = constraint(json_object_automaton());
  for (int32_t id : tokenizer().encode("{\"a\": 1}", false)) closed->accept(id);
  EXPECT_EQ(mask_of(*closed), mask);
}

TEST_F(JsonTokens, AClonesTextIsItsOwn) {
  auto a = constraint(compile(R"({"enum": ["ab", "ac"]})"));
  for (int32_t id : tokenizer().encode("\"a", false)) a->accept(id);
  const auto before = mask_of(*a);
  auto b = a->clone();
  b->accept(tokenizer().encode("b", false).at(0));
  EXPECT_EQ(mask_of(*a), before);
  EXPECT_NE(mask_of(*b), before);
}

TEST_F(JsonTokens, LongTextsKeepTheirMemory) {
  auto c = constraint(compile(R"({"type": "array", "items": {"type": "string", "maxLength": 90000}})"));
  c->accept(tokenizer().encode("[", false).at(0));
  c->accept(tokenizer().encode("\"", false).at(0));
  const int32_t x = tokenizer().encode("x", false).at(0);
  for (int i = 0; i < 89999; ++i) c->accept(x);  // a node a character: the forgotten ones are not missed
  EXPECT_EQ(mask_of(*c)[static_cast<size_t>(x)], 1);
  c->accept(x);
  EXPECT_EQ(mask_of(*c)[static_cast<size_t>(x)], 0);
  for (const char* rest : {"\"", "]"}) c->accept(tokenizer().encode(rest, false).at(0));
  EXPECT_EQ(mask_of(*c)[static_cast<size_t>(tokenizer().eos.front())], 1);
}

/// A thousand alternatives that go on at one place cost hardly more than one; a thousand that go on at a thousand are
/// an error of the text, since others wait for its mask.
TEST_F(JsonTokens, ManyWaysToReadATextCostLittleOrEnd) {
  std::string same = "[a-z]", optional = "[a-z]?";
  for (int i = 1; i < 1000; ++i) same += "|[a-z]", optional += "[a-z]?";
  ByteMatcher matcher(compile(R"({"type": "string", "pattern": "^(?:)" + same + R"(){300,1000}$"})"));
  matcher.accept("\"a");
  ByteMatcher::Ways next;
  ASSERT_GE(matcher.ways().size(), 1000u);
  matcher.step(matcher.ways(), 'b', next);
  EXPECT_LE(matcher.step(matcher.ways(), 'c', next), 3 * ByteMatcher::kMostWays);

  const auto ambiguous = constraint(compile(R"({"type": "string", "pattern": "^)" + optional + R"($"})"));
  for (const char* text : {"\"", "a"}) ambiguous->accept(tokenizer().encode(text).front());
  EXPECT_PRED2(has, error_of([&] { mask_of(*ambiguous); }), "too many ways to read the text so far");
}

TEST_F(JsonTokens, NeedsAnEnd) {
  EXPECT_PRED2(has, error_of([] { TokenBytes bytes(tokenizer(), {}); }), "needs a token that ends a text");
}

TEST(TokenBytes, EveryKindOfVocabularyHasTheBytes) {
  for (const char* name : {"smollm2", "gpt2", "qwen", "llama2", "llama3"}) {
    const auto dir = testing::shared_data(std::string("tokenizers/") + name);
    NEEDS_DATA(dir);
    SCOPED_TRACE(name);
    const auto tokenizer = load_tokenizer(dir);
    const auto last = static_cast<int32_t>(tokenizer->size() - 1);
    const auto tokens = std::make_shared<TokenBytes>(*tokenizer, std::vector<int32_t>{last});
    auto c = make_json_constraint(json_object_automaton(), tokens);
    std::vector<uint8_t> mask(static_cast<size_t>(tokenizer->size()));
    c->allowed(mask);
    EXPECT_GT(std::count(mask.begin(), mask.end(), 1), 2);
    for (int32_t id = 0; id < tokenizer->size(); ++id)
      if (mask[static_cast<size_t>(id)] != 0) {
        EXPECT_NE(std::string("{ \n\t").find(tokenizer->piece(id)[0]), std::string::npos) << tokenizer->piece(id);
      }
    const auto without = [&] { TokenBytes(*tokenizer, {tokenizer->encode("!", false).back()}); };
    if (name == std::string("llama2")) {  // SentencePiece has a piece for each byte besides
      EXPECT_NO_THROW(without());
    } else {
      EXPECT_PRED2(has, error_of(without), "JSON output needs a token for byte 33 alone");
    }
  }
}

}  // namespace
}  // namespace qwerky
