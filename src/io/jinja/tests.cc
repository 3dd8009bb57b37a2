// SPDX-License-Identifier: MIT
// What may stand behind `is`.
#include <map>

#include "io/jinja/evaluator.h"
#include "io/jinja/text.h"

namespace qwerky::jinja {
namespace {

struct Call {
  Evaluator& e;
  const std::string& name;
  const Value& input;
  const Bound& b;
  bool compares(const char* op) const { return e.compare(op, input, *b[0]); }
};
struct Test {
  const char* parameters;
  bool (*run)(const Call&);
};

bool remainder_is(const Call& c, int64_t divisor, int64_t rest) {
  return c.e.compare("==", c.e.binary("%", c.input, divisor), rest);
}

bool is_same(const Call& c) {
  const Value &a = c.input, &b = *c.b[0];
  if (a.is_undefined() || b.is_undefined()) return false;
  if (a.list() || b.list()) return a.list() == b.list();
  if (a.dict() || b.dict()) return a.dict() == b.dict();
  if (std::string_view(a.type()) != b.type()) return false;
  if (a.is_none() || a.as<bool>() || a.object()) return c.compares("==");
  fail("sameas: the identity of a ", a.type(), " is not supported");
}

bool is_iterable(const Call& c) {
  return c.input.text() || c.input.list() || c.input.dict() || c.input.is_undefined() ||
         dynamic_cast<Loop*>(c.input.object()) != nullptr;
}

bool is_sequence(const Call& c) {
  const bool indexed = c.input.list() && !c.input.is_list(List::Kind::view) && !c.input.is_list(List::Kind::iterator);
  return c.input.text() || indexed || c.input.dict() || c.input.is_undefined();
}

bool is_callable(const Call& c) {
  return c.input.is_undefined() || (c.input.object() && dynamic_cast<Namespace*>(c.input.object()) == nullptr);
}

bool exists(const Call& c) {
  if (!c.input.text()) return false;
  const Known known = c.name == "filter" ? known_filter(*c.input.text()) : known_test(*c.input.text());
  if (known == Known::unsupported) fail("the filter ", *c.input.text(), " is not supported");
  return known == Known::yes;
}

const std::map<std::string, Test, std::less<>>& tests() {
  constexpr auto equal = [](const Call& c) { return c.compares("=="); };
  constexpr auto unequal = [](const Call& c) { return c.compares("!="); };
  constexpr auto less = [](const Call& c) { return c.compares("<"); };
  constexpr auto less_equal = [](const Call& c) { return c.compares("<="); };
  constexpr auto greater = [](const Call& c) { return c.compares(">"); };
  constexpr auto greater_equal = [](const Call& c) { return c.compares(">="); };
  static const std::map<std::string, Test, std::less<>> table = {
      {"!=", {"other", unequal}},
      {"<", {"other", less}},
      {"<=", {"other", less_equal}},
      {"==", {"other", equal}},
      {">", {"other", greater}},
      {">=", {"other", greater_equal}},
      {"boolean", {"", [](const Call& c) { return c.input.as<bool>() != nullptr; }}},
      {"callable", {"", is_callable}},
      {"defined", {"", [](const Call& c) { return !c.input.is_undefined(); }}},
      {"divisibleby",
       {"num", [](const Call& c) { return c.e.compare("==", c.e.binary("%", c.input, *c.b[0]), int64_t{0}); }}},
      {"eq", {"other", equal}},
      {"equalto", {"other", equal}},
      {"escaped", {"", [](const Call& c) { return c.input.is_safe(); }}},
      {"even", {"", [](const Call& c) { return remainder_is(c, 2, 0); }}},
      {"false", {"", [](const Call& c) { return c.input.as<bool>() && !*c.input.as<bool>(); }}},
      {"filter", {"", exists}},
      {"float", {"", [](const Call& c) { return c.input.as<double>() != nullptr; }}},
      {"ge", {"other", greater_equal}},
      {"greaterthan", {"other", greater}},
      {"gt", {"other", greater}},
      {"in", {"seq", [](const Call& c) { return c.compares("in"); }}},
      {"integer", {"", [](const Call& c) { return c.input.as<int64_t>() != nullptr; }}},
      {"iterable", {"", is_iterable}},
      {"le", {"other", less_equal}},
      {"lessthan", {"other", less}},
      {"lower", {"", [](const Call& c) { return is_lower(c.e.text_of(c.input)); }}},
      {"lt", {"other", less}},
      {"mapping", {"", [](const Call& c) { return c.input.dict() != nullptr; }}},
      {"ne", {"other", unequal}},
      {"none", {"", [](const Call& c) { return c.input.is_none(); }}},
      {"number", {"", [](const Call& c) { return c.input.is_number(); }}},
      {"odd", {"", [](const Call& c) { return remainder_is(c, 2, 1); }}},
      {"sameas", {"other", is_same}},
      {"sequence", {"", is_sequence}},
      {"string", {"", [](const Call& c) { return c.input.text() != nullptr; }}},
      {"test", {"", exists}},
      {"true", {"", [](const Call& c) { return c.input.as<bool>() && *c.input.as<bool>(); }}},
      {"undefined", {"", [](const Call& c) { return c.input.is_undefined(); }}},
      {"upper", {"", [](const Call& c) { return is_upper(c.e.text_of(c.input)); }}},
  };
  return table;
}

}  // namespace

bool Evaluator::test(const std::string& name, const Value& input, const Arguments& arguments) {
  const auto it = tests().find(name);
  if (it == tests().end()) fail("the test \"", name, "\" is not known");
  const Bound bound(name, arguments, it->second.parameters);
  return it->second.run({*this, name, input, bound});
}

Known known_test(const std::string& name) { return tests().contains(name) ? Known::yes : Known::no; }

}  // namespace qwerky::jinja
