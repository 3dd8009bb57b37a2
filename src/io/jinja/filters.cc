// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "io/jinja/evaluator.h"
#include "io/jinja/text.h"

namespace qwerky::jinja {
namespace {

struct Call {
  Evaluator& e;
  const std::string& name;
  const Value& input;
  const Arguments& arguments;
  const Bound* bound;  ///< null for filters that take any arguments
  const Bound& b() const { return *bound; }
};
struct Filter {
  const char* parameters;  ///< null: any
  Value (*run)(const Call&);
};

/// A text in place of any value, as soft_str makes it.
std::string soft(const Call& c) { return c.e.text_of(c.input); }

Value lowered(const Value& v, bool case_sensitive) { return v.text() && !case_sensitive ? Value(lower(*v.text())) : v; }

/// The value at "a.b.0" of an item.
Value follow(Evaluator& e, Value item, const Value& path, const Value* otherwise = nullptr) {
  if (path.is_none()) return item;
  if (path.integer()) return e.item(item, path);
  if (!path.text()) fail("an attribute: expected a name, found ", path.type());
  std::string_view rest = *path.text();
  while (true) {
    const std::string_view part = rest.substr(0, rest.find('.'));
    const bool digits = !part.empty() && part.find_first_not_of("0123456789") == part.npos;
    item = e.item(item, digits ? Value(parse_integer(part, 10).value_or(0)) : Value(part));
    if (item.is_undefined() && otherwise != nullptr && !otherwise->is_none()) item = *otherwise;
    if (part.size() == rest.size()) return item;
    rest.remove_prefix(part.size() + 1);
  }
}

/// Sort keys by attributes "a,b" (any: the item itself), texts in lower case unless case counts.
Value sort_key(Evaluator& e, const Value& item, const Value* attributes, bool case_sensitive) {
  Items keys;
  if (attributes == nullptr || !attributes->text()) {
    keys.push_back(lowered(follow(e, item, attributes != nullptr ? *attributes : Value()), case_sensitive));
  } else {
    for (std::string_view rest = *attributes->text();;) {
      const std::string_view part = rest.substr(0, rest.find(','));
      keys.push_back(lowered(follow(e, item, part), case_sensitive));
      if (part.size() == rest.size()) break;
      rest.remove_prefix(part.size() + 1);
    }
  }
  return Value::list(std::move(keys));
}

Items sorted(Evaluator& e, const Items& items, bool reverse, const std::function<Value(const Value&)>& key_of) {
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : items) keyed.emplace_back(key_of(item), item);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return reverse ? less(b.first, a.first, e.budget) : less(a.first, b.first, e.budget);
  });
  Items out;
  for (auto& [key, item] : keyed) out.push_back(std::move(item));
  return out;
}

Value iterator(Items items) { return Value::list(std::move(items), List::Kind::iterator); }

Arguments without_first(const Arguments& arguments, size_t n) {
  Arguments out = arguments;
  out.positional.erase(out.positional.begin(), out.positional.begin() + static_cast<int64_t>(n));
  return out;
}

/// select, reject, selectattr, rejectattr.
Value selected(const Call& c) {
  const bool attribute = c.name.ends_with("attr"), wanted = c.name.starts_with("select");
  const size_t first = attribute ? 1 : 0;
  Items out;
  if (!c.input.truth()) return iterator({});
  for (Value& item : iterate(c.input, c.e.budget)) {
    if (c.arguments.positional.size() < first) fail(c.name, ": the name of the attribute is missing");
    const Value tested = attribute ? follow(c.e, item, c.arguments.positional[0]) : item;
    bool passes = tested.truth();
    if (c.arguments.positional.size() > first) {
      const Value& test = c.arguments.positional[first];
      if (!test.text()) fail(c.name, ": expected the name of a test, found ", test.type());
      passes = c.e.test(*test.text(), tested, without_first(c.arguments, first + 1));
    }
    if (passes == wanted) out.push_back(std::move(item));
  }
  return iterator(std::move(out));
}

Value mapped(const Call& c) {
  Items out;
  if (!c.input.truth()) return iterator({});
  if (c.arguments.positional.empty()) {
    const Bound b(c.name, c.arguments, "attribute default?");
    for (const Value& item : iterate(c.input, c.e.budget)) out.push_back(follow(c.e, item, *b[0], b[1]));
    return iterator(std::move(out));
  }
  const Value& filter = c.arguments.positional[0];
  if (!filter.text()) fail("map: expected the name of a filter, found ", filter.type());
  for (const Value& item : iterate(c.input, c.e.budget))
    out.push_back(c.e.filter(*filter.text(), item, without_first(c.arguments, 1)));
  return iterator(std::move(out));
}

Value as_json(const Call& c) {
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

Value rounded(const Call& c) {
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

Value as_integer(const Call& c) {
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
Value as_title(const Call& c) {
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

Value indented(const Call& c) {
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

Value extreme(const Call& c) {
  const Items items = iterate(c.input, c.e.budget);
  if (items.empty()) return Value::undefined("no smallest or largest item of nothing");
  const auto key_of = [&](const Value& v) {
    return lowered(follow(c.e, v, c.b()[1] ? *c.b()[1] : Value()), c.b().truth(0));
  };
  size_t best = 0;
  Value key = key_of(items[0]);
  for (size_t i = 1; i < items.size(); ++i) {
    Value other = key_of(items[i]);
    if (c.name == "max" ? less(key, other, c.e.budget) : less(other, key, c.e.budget)) best = i, key = std::move(other);
  }
  return items[best];
}

Value unique(const Call& c) {
  Items out, seen;
  for (Value& item : iterate(c.input, c.e.budget)) {
    const Value key = lowered(follow(c.e, item, c.b()[1] ? *c.b()[1] : Value()), c.b().truth(0));
    if (key.dict() || key.is_list(List::Kind::list)) fail("unique: a ", key.type(), " has no hash");
    if (std::any_of(seen.begin(), seen.end(), [&](const Value& v) { return equal(v, key, c.e.budget); })) continue;
    seen.push_back(key);
    out.push_back(std::move(item));
  }
  return iterator(std::move(out));
}

Value joined(const Call& c) {
  const std::string separator = c.b()[0] ? c.e.text_of(*c.b()[0]) : "";
  std::string out;
  bool first = true;
  for (const Value& item : iterate(c.input, c.e.budget)) {
    if (!std::exchange(first, false)) out += separator;
    out += c.e.text_of(c.b()[1] ? follow(c.e, item, *c.b()[1]) : item);
    c.e.budget.spend_text(separator.size());
    if (out.size() > static_cast<size_t>(Limits::kTextBytes)) fail("join: the text is too long");
  }
  return out;
}

Value reversed(const Call& c) {
  if (c.input.is_undefined()) return Value::list({}, List::Kind::iterator);
  Items items = iterate(c.input, c.e.budget);
  std::reverse(items.begin(), items.end());
  if (c.input.is_list(List::Kind::iterator)) return Value::list(std::move(items));
  if (!c.input.text()) return iterator(std::move(items));
  std::string out;
  for (const Value& ch : items) out += *ch.text();
  return out;
}

Value magnitude(const Call& c) {
  if (!c.input.is_number())
    fail("abs: expected a number, found ", c.input.is_undefined() ? c.input.why() : c.input.type());
  if (c.input.as<double>()) return std::abs(c.input.real());
  return *c.input.integer() < 0 ? c.e.binary("-", int64_t{0}, c.input) : Value(*c.input.integer());
}

Value dict_sorted(const Call& c) {
  if (!c.input.dict())
    fail("dictsort: expected a dict, found ", c.input.is_undefined() ? c.input.why() : c.input.type());
  const std::string by = c.b()[1] ? c.b().text(1) : "key";
  if (by != "key" && by != "value") fail("dictsort: by must be \"key\" or \"value\"");
  Items items;
  for (const auto& [key, value] : c.input.dict()->items) items.push_back(Value::list({key, value}, List::Kind::tuple));
  return Value::list(sorted(c.e, items, c.b().truth(2), [&](const Value& pair) {
    return lowered(pair.list()->items[by == "value" ? 1 : 0], c.b().truth(0));
  }));
}

Value items_of(const Call& c) {
  if (c.input.is_undefined()) return iterator({});
  if (!c.input.dict()) fail("items: expected a dict, found ", c.input.type());
  Items items;
  for (const auto& [key, value] : c.input.dict()->items) items.push_back(Value::list({key, value}, List::Kind::tuple));
  return iterator(std::move(items));
}

Value summed(const Call& c) {
  Value out = c.b()[1] ? *c.b()[1] : Value(int64_t{0});
  if (out.text()) fail("sum: texts cannot be summed");
  for (const Value& item : iterate(c.input, c.e.budget))
    out = c.e.binary("+", out, c.b()[0] ? follow(c.e, item, *c.b()[0]) : item);
  return out;
}

Value ends(const Call& c) {
  if (c.name == "last" && c.input.is_list(List::Kind::iterator)) fail("last: a generator has no last item");
  if (c.name == "first" && c.input.is_list(List::Kind::iterator)) {  // reads one
    const List& list = *c.input.list();
    return list.next < list.items.size() ? list.items[list.next++]
                                         : Value::undefined("no first item, the sequence was empty");
  }
  const Items items = iterate(c.input, c.e.budget);
  if (items.empty()) return Value::undefined("no " + c.name + " item, the sequence was empty");
  return c.name == "first" ? items.front() : items.back();
}

/// Filters that keep what is marked safe safe.
Value cased(const Call& c) {
  const std::string text = soft(c);
  c.e.budget.spend(static_cast<int64_t>(text.size()));
  if (c.name == "title") return Value(*as_title(c).text(), c.input.is_safe());
  return Value(c.name == "upper" ? upper(text) : c.name == "lower" ? lower(text) : capitalize(text), c.input.is_safe());
}

Value trimmed(const Call& c) {
  const bool given = c.b()[0] && !c.b()[0]->is_none();
  const std::string text = soft(c);
  if (given) c.e.budget.spend(static_cast<int64_t>(text.size() * c.b().text(0).size() / 64));
  return Value(
      std::string(strip(text, true, true, given ? std::optional<std::string_view>(c.b().text(0)) : std::nullopt)),
      c.input.is_safe());
}

Value as_real(const Call& c) {
  if (c.input.is_undefined()) fail(c.input.why());
  if (c.input.is_number()) return c.input.real();
  if (const auto x = c.input.text() ? parse_real(*c.input.text()) : std::nullopt) return *x;
  return c.b()[0] ? *c.b()[0] : Value(0.0);
}

Value in_format(const Call& c) {
  if (!c.arguments.named.empty()) fail("format: arguments by name are not supported");
  return c.e.binary("%", soft(c), Value::list(c.arguments.positional, List::Kind::tuple));
}

Value size_of(const Call& c) { return length_of(c.input); }
Value as_list(const Call& c) { return Value::list(iterate(c.input, c.e.budget)); }
Value as_text(const Call& c) { return Value(soft(c), c.input.is_safe()); }
Value as_safe(const Call& c) { return Value(soft(c), true); }
Value html_escaped(const Call& c) { return Value(c.input.is_safe() ? soft(c) : escaped(soft(c)), true); }
Value or_default(const Call& c) {
  if (!c.input.is_undefined() && (c.input.truth() || !c.b().truth(1))) return c.input;
  return c.b()[0] ? *c.b()[0] : Value("");
}
Value with_replacements(const Call& c) {
  return c.e.replaced(soft(c), c.e.text_of(*c.b()[0]), c.e.text_of(*c.b()[1]), c.b().integer(2).value_or(-1));
}
Value in_order(const Call& c) {
  return Value::list(sorted(c.e, iterate(c.input, c.e.budget), c.b().truth(0),
                            [&](const Value& v) { return sort_key(c.e, v, c.b()[2], c.b().truth(1)); }));
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
