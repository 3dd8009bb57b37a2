// SPDX-License-Identifier: MIT
#include <array>
#include <cmath>
#include <map>
#include <set>

#include "io/jinja/filters.h"
#include "io/jinja/text.h"

namespace qwerky::jinja {
namespace {

struct Filter {
  const char* parameters;  ///< null: any
  Value (*run)(const FilterCall&);
};

/// A text in place of any value, as soft_str makes it.
std::string soft(const FilterCall& c) { return c.e.text_of(c.input); }

Value as_json(const FilterCall& c) {
  JsonStyle style{.ascii = c.b().truth(0), .sort_keys = c.b().truth(3)};
  if (const Value* indent = c.b()[1]; indent != nullptr && !indent->is_none()) {
    const int64_t n = indent->integer().value_or(0);
    if (n > 1000) fail("tojson: an indent of ", n, " is not supported");
    style.indent = indent->text() ? *indent->text() : std::string(static_cast<size_t>(std::max<int64_t>(0, n)), ' ');
    if (!indent->text() && !indent->integer())
      fail("tojson: indent: expected a number or text, found ", indent->type());
    style.item_separator = ",";
  }
  if (const Value* given = c.b()[2]; given != nullptr && !given->is_none()) {
    const Items parts = iterate(*given, c.e.budget);
    if (parts.size() != 2 || !parts[0].text() || !parts[1].text()) fail("tojson: separators: expected two texts");
    style.item_separator = *parts[0].text();
    style.key_separator = *parts[1].text();
  }
  return to_json(c.input, style, c.e.budget);
}

Value rounded(const FilterCall& c) {
  if (!c.input.is_number())
    fail("round: expected a number, found ", c.input.is_undefined() ? c.input.why() : c.input.type());
  const int64_t digits = c.b()[0] ? c.b().integer(0).value_or(0) : 0;
  const std::string method = c.b()[1] ? c.b().text(1) : "common";
  if (method != "common" && method != "ceil" && method != "floor")
    fail("round: the method must be common, ceil or floor");
  if (digits < 0 || digits > 300) fail("round: a precision of ", digits, " is not supported");
  if (method == "common") {
    if (c.input.integer()) return *c.input.integer();
    if (!std::isfinite(c.input.real())) return c.input;
    std::array<char, 700> text;  // rounds the exact decimal value half to even, as Python
    std::snprintf(text.data(), text.size(), "%.*f", static_cast<int>(digits), c.input.real());
    return parse_real(text.data()).value_or(0);
  }
  const double scale = std::pow(10.0, static_cast<double>(digits)), scaled = c.input.real() * scale;
  if (!std::isfinite(scaled)) fail("round: the number is too large");
  return (method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale;
}

Value as_integer(const FilterCall& c) {
  const Value otherwise = c.b()[0] ? *c.b()[0] : Value(int64_t{0});
  const int64_t base = c.b()[1] ? c.b().integer(1).value_or(10) : 10;
  if (base != 0 && (base < 2 || base > 36)) fail("int: a base of ", base, " is not supported");
  if (c.input.is_undefined()) fail(c.input.why());
  if (c.input.integer()) return *c.input.integer();
  std::optional<double> x;
  if (c.input.as<double>()) {
    x = c.input.real();
    if (std::isinf(*x)) return otherwise;
  } else if (const std::string* text = c.input.text()) {
    if (const auto n = parse_integer(*text, static_cast<int>(base))) return *n;
    x = parse_real(*text);
  }
  if (!x || !std::isfinite(*x)) return otherwise;
  if (std::abs(*x) >= 9.2e18) fail("int: ", number_text(*x), " needs more than 64 bits");
  return static_cast<int64_t>(*x);
}

/// Jinja's filter, not str.title(): words begin behind white space, "-" and opening brackets.
Value as_title(const FilterCall& c) {
  const std::string text = soft(c);
  std::string out, word;
  const auto end_word = [&] {
    if (word.empty()) return;
    const std::string_view first = characters(word, 0, 1);
    out += upper(first) + lower(std::string_view(word).substr(first.size()));
    word.clear();
  };
  for (std::string_view ch : characters(text)) {
    if (strip(ch, true, false).empty() || std::string_view("-({[<").find(ch) != std::string_view::npos) {
      end_word();
      out += ch;
    } else {
      word += ch;
    }
  }
  end_word();
  return out;
}

Value indented(const FilterCall& c) {
  if (!c.input.text() || c.input.is_safe())
    fail("indent: expected a text, found ", c.input.is_safe() ? "safe text" : c.input.type());
  const Value* width = c.b()[0];
  const std::string indent = width != nullptr && width->text()
                                 ? *width->text()
                                 : *c.e.binary("*", " ", width != nullptr ? *width : Value(int64_t{4})).text();
  const std::string whole = *c.input.text() + "\n";
  std::string out = c.b().truth(1) ? indent : "";
  bool first = true;
  for (std::string_view line : split_lines(whole, false)) {
    if (!first) out += '\n';
    if (!first && (c.b().truth(2) || !line.empty())) out += indent;
    out += line;
    first = false;
    c.e.budget.spend_text(line.size() + indent.size());
    if (out.size() > static_cast<size_t>(Limits::kTextBytes)) fail("indent: the text is too long");
  }
  return out;
}

Value magnitude(const FilterCall& c) {
  if (!c.input.is_number())
    fail("abs: expected a number, found ", c.input.is_undefined() ? c.input.why() : c.input.type());
  if (c.input.as<double>()) return std::abs(c.input.real());
  return *c.input.integer() < 0 ? c.e.binary("-", int64_t{0}, c.input) : Value(*c.input.integer());
}

/// Filters that keep what is marked safe safe.
Value cased(const FilterCall& c) {
  const std::string text = soft(c);
  c.e.budget.spend(static_cast<int64_t>(text.size()));
  if (c.name == "title") return Value(*as_title(c).text(), c.input.is_safe());
  return Value(c.name == "upper" ? upper(text) : c.name == "lower" ? lower(text) : capitalize(text), c.input.is_safe());
}

Value trimmed(const FilterCall& c) {
  const bool given = c.b()[0] && !c.b()[0]->is_none();
  const std::string text = soft(c);
  if (given) c.e.budget.spend(static_cast<int64_t>(text.size() * c.b().text(0).size() / 64));
  return Value(
      std::string(strip(text, true, true, given ? std::optional<std::string_view>(c.b().text(0)) : std::nullopt)),
      c.input.is_safe());
}

Value as_real(const FilterCall& c) {
  if (c.input.is_undefined()) fail(c.input.why());
  if (c.input.is_number()) return c.input.real();
  if (const auto x = c.input.text() ? parse_real(*c.input.text()) : std::nullopt) return *x;
  return c.b()[0] ? *c.b()[0] : Value(0.0);
}

Value in_format(const FilterCall& c) {
  if (!c.arguments.named.empty()) fail("format: arguments by name are not supported");
  return c.e.binary("%", soft(c), Value::list(c.arguments.positional, List::Kind::tuple));
}

Value size_of(const FilterCall& c) { return length_of(c.input); }
Value as_list(const FilterCall& c) { return Value::list(iterate(c.input, c.e.budget)); }
Value as_text(const FilterCall& c) { return Value(soft(c), c.input.is_safe()); }
Value as_safe(const FilterCall& c) { return Value(soft(c), true); }
Value html_escaped(const FilterCall& c) { return Value(c.input.is_safe() ? soft(c) : escaped(soft(c)), true); }
Value or_default(const FilterCall& c) {
  if (!c.input.is_undefined() && (c.input.truth() || !c.b().truth(1))) return c.input;
  return c.b()[0] ? *c.b()[0] : Value("");
}
Value with_replacements(const FilterCall& c) {
  return c.e.replaced(soft(c), c.e.text_of(*c.b()[0]), c.e.text_of(*c.b()[1]), c.b().integer(2).value_or(-1));
}

const std::map<std::string, Filter, std::less<>>& filters() {
  static const std::map<std::string, Filter, std::less<>> table = {
      {"abs", {"", magnitude}},
      {"capitalize", {"", cased}},
      {"count", {"", size_of}},
      {"d", {"default_value? boolean?", or_default}},
      {"default", {"default_value? boolean?", or_default}},
      {"dictsort", {"case_sensitive? by? reverse?", dict_sorted}},
      {"e", {"", html_escaped}},
      {"escape", {"", html_escaped}},
      {"first", {"", ends}},
      {"float", {"default?", as_real}},
      {"format", {nullptr, in_format}},
      {"indent", {"width? first? blank?", indented}},
      {"int", {"default? base?", as_integer}},
      {"items", {"", items_of}},
      {"join", {"d? attribute?", joined}},
      {"last", {"", ends}},
      {"length", {"", size_of}},
      {"list", {"", as_list}},
      {"lower", {"", cased}},
      {"map", {nullptr, mapped}},
      {"max", {"case_sensitive? attribute?", extreme}},
      {"min", {"case_sensitive? attribute?", extreme}},
      {"reject", {nullptr, selected}},
      {"rejectattr", {nullptr, selected}},
      {"replace", {"old new count?", with_replacements}},
      {"reverse", {"", reversed}},
      {"round", {"precision? method?", rounded}},
      {"safe", {"", as_safe}},
      {"select", {nullptr, selected}},
      {"selectattr", {nullptr, selected}},
      {"sort", {"reverse? case_sensitive? attribute?", in_order}},
      {"string", {"", as_text}},
      {"sum", {"attribute? start?", summed}},
      {"title", {"", cased}},
      {"tojson", {"ensure_ascii? indent? separators? sort_keys?", as_json}},
      {"trim", {"chars?", trimmed}},
      {"unique", {"case_sensitive? attribute?", unique}},
      {"upper", {"", cased}},
  };
  return table;
}

using Names = std::set<std::string, std::less<>>;
const Names& other_filters() {
  static const Names names = {"attr",   "batch",     "center",   "filesizeformat", "forceescape", "groupby",
                              "pprint", "random",    "slice",    "striptags",      "truncate",    "urlencode",
                              "urlize", "wordcount", "wordwrap", "xmlattr"};
  return names;
}

}  // namespace

Value Evaluator::filter(const std::string& name, const Value& input, const Arguments& arguments) {
  const Recursion recursion(*this);
  const auto it = filters().find(name);
  if (it == filters().end())
    fail("the filter \"", name, other_filters().contains(name) ? "\" is not supported" : "\" is not known");
  if (it->second.parameters == nullptr) return it->second.run({*this, name, input, arguments, nullptr});
  const Bound bound(name, arguments, it->second.parameters);
  return it->second.run({*this, name, input, arguments, &bound});
}

Known known_filter(const std::string& name) {
  return filters().contains(name) ? Known::yes : other_filters().contains(name) ? Known::unsupported : Known::no;
}

}  // namespace qwerky::jinja
