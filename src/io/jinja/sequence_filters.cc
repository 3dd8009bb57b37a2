// SPDX-License-Identifier: MIT
#include <algorithm>
#include <functional>

#include "io/jinja/filters.h"
#include "io/jinja/text.h"

namespace qwerky::jinja {
namespace {

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

}  // namespace

/// select, reject, selectattr, rejectattr.
Value selected(const FilterCall& c) {
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

Value mapped(const FilterCall& c) {
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

Value extreme(const FilterCall& c) {
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

Value unique(const FilterCall& c) {
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

Value joined(const FilterCall& c) {
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

Value reversed(const FilterCall& c) {
  if (c.input.is_undefined()) return Value::list({}, List::Kind::iterator);
  Items items = iterate(c.input, c.e.budget);
  std::reverse(items.begin(), items.end());
  if (c.input.is_list(List::Kind::iterator)) return Value::list(std::move(items));
  if (!c.input.text()) return iterator(std::move(items));
  std::string out;
  for (const Value& ch : items) out += *ch.text();
  return out;
}

Value dict_sorted(const FilterCall& c) {
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

Value items_of(const FilterCall& c) {
  if (c.input.is_undefined()) return iterator({});
  if (!c.input.dict()) fail("items: expected a dict, found ", c.input.type());
  Items items;
  for (const auto& [key, value] : c.input.dict()->items) items.push_back(Value::list({key, value}, List::Kind::tuple));
  return iterator(std::move(items));
}

Value summed(const FilterCall& c) {
  Value out = c.b()[1] ? *c.b()[1] : Value(int64_t{0});
  if (out.text()) fail("sum: texts cannot be summed");
  for (const Value& item : iterate(c.input, c.e.budget))
    out = c.e.binary("+", out, c.b()[0] ? follow(c.e, item, *c.b()[0]) : item);
  return out;
}

Value ends(const FilterCall& c) {
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

Value in_order(const FilterCall& c) {
  return Value::list(sorted(c.e, iterate(c.input, c.e.budget), c.b().truth(0),
                            [&](const Value& v) { return sort_key(c.e, v, c.b()[2], c.b().truth(1)); }));
}

}  // namespace qwerky::jinja
