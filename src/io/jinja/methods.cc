// SPDX-License-Identifier: MIT
// Attributes, subscripts and methods as Python's types have them, and the global functions.
#include <algorithm>
#include <array>
#include <set>

#include "io/jinja/evaluator.h"
#include "io/jinja/text.h"

namespace qwerky::jinja {
namespace {

using Names = std::set<std::string, std::less<>>;

/// Methods of Python's types; a template that asks for one gets it, and not the key of that name in a dict.
const Names* methods_of(const Value& v) {
  static const Names text = {"capitalize",   "casefold",    "center",    "count",      "encode",       "endswith",
                             "expandtabs",   "find",        "format",    "format_map", "index",        "isalnum",
                             "isalpha",      "isascii",     "isdecimal", "isdigit",    "isidentifier", "islower",
                             "isnumeric",    "isprintable", "isspace",   "istitle",    "isupper",      "join",
                             "ljust",        "lower",       "lstrip",    "maketrans",  "partition",    "removeprefix",
                             "removesuffix", "replace",     "rfind",     "rindex",     "rjust",        "rpartition",
                             "rsplit",       "rstrip",      "split",     "splitlines", "startswith",   "strip",
                             "swapcase",     "title",       "translate", "upper",      "zfill"};
  static const Names dict = {"copy", "fromkeys", "get", "items", "keys", "values"};
  static const Names list = {"copy", "count", "index"}, tuple = {"count", "index"},
                     range = {"count", "index", "start", "stop", "step"};
  static const Names number = {"real",       "imag",      "numerator", "denominator", "conjugate",
                               "bit_length", "bit_count", "to_bytes",  "from_bytes",  "as_integer_ratio",
                               "is_integer", "hex",       "fromhex"};
  static const Names view = {"isdisjoint", "mapping"};
  if (v.text()) return &text;
  if (v.dict()) return &dict;
  if (v.is_number()) return &number;
  if (!v.list()) return nullptr;
  switch (v.list()->kind) {
    case List::Kind::list: return &list;
    case List::Kind::tuple: return &tuple;
    case List::Kind::range: return &range;
    case List::Kind::view: return &view;
    default: return nullptr;
  }
}

/// Methods that change a list or dict; the sandbox hides them.
bool is_mutator(const Value& v, const std::string& name) {
  static const Names list = {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"};
  static const Names dict = {"clear", "pop", "popitem", "setdefault", "update"};
  return v.is_list(List::Kind::list) ? list.contains(name) : v.dict() != nullptr && dict.contains(name);
}

std::string name_of(const Value& key) { return key.text() ? repr(key.text()->substr(0, 80)) : key.type(); }

Value absent(const Value& object, const Value& key) {
  return Value::undefined(concat("a value of type ", object.type(), " has no attribute ", name_of(key)));
}

}  // namespace

Bound::Bound(const std::string& what, const Arguments& arguments, std::string_view parameters) : what_(what) {
  bool positional_only = parameters.starts_with('/');
  if (positional_only) parameters.remove_prefix(1);
  size_t used = 0, at = 0;
  while (!parameters.empty()) {
    std::string_view name = parameters.substr(0, parameters.find(' '));
    parameters.remove_prefix(std::min(parameters.size(), name.size() + 1));
    const bool optional = name.ends_with('?');
    if (optional) name.remove_suffix(1);
    std::optional<Value> value;
    if (at < arguments.positional.size()) value = arguments.positional[at];
    for (const auto& [key, given] : arguments.named) {
      if (key != name || positional_only) continue;
      if (value) fail(what, ": the argument ", name, " twice");
      value = given;
      ++used;
    }
    if (!value && !optional) fail(what, ": the argument ", name, " is missing");
    values_.push_back(std::move(value));
    ++at;
  }
  if (arguments.positional.size() > at)
    fail(what, ": expected at most ", at, " arguments, found ", arguments.positional.size());
  if (used < arguments.named.size()) fail(what, ": an unexpected argument ", arguments.named[0].first);
}

const std::string& Bound::text(size_t i) const {
  if (!values_[i] || !values_[i]->text())
    fail(what_, ": expected a text, found ", values_[i] ? values_[i]->type() : "nothing");
  return *values_[i]->text();
}

std::optional<int64_t> Bound::integer(size_t i) const {
  if (!values_[i] || values_[i]->is_none()) return std::nullopt;
  if (!values_[i]->integer()) fail(what_, ": expected a whole number, found ", values_[i]->type());
  return values_[i]->integer();
}

Value Evaluator::attribute(const Value& object, const std::string& name) {
  if (object.is_undefined()) fail(object.why());
  if (name.starts_with("__")) {  // of Python's objects; the sandbox hides them
    if (object.dict() && lookup(*object.dict(), name, budget))
      fail("the attribute ", repr(name.substr(0, 80)), " is not supported");
    return Value::undefined("the sandbox forbids the attribute " + repr(name.substr(0, 80)));
  }
  if (is_mutator(object, name))
    return Value::undefined("the sandbox forbids " + name + ", which changes a " + object.type());
  if (const Names* methods = methods_of(object); methods != nullptr && methods->contains(name)) {
    Method method;
    method.self = object;
    method.name = name;
    return Value(own(std::move(method)));
  }
  if (const Dict* dict = object.dict()) {
    const Value* value = lookup(*dict, name, budget);
    return value != nullptr ? *value : absent(object, name);
  }
  if (auto* space = dynamic_cast<Namespace*>(object.object())) {
    for (const auto& [key, value] : space->items)
      if (key.text() && *key.text() == name) return value;
  } else if (auto* loop = dynamic_cast<Loop*>(object.object())) {
    return loop_attribute(*loop, name);
  } else if (object.object() != nullptr) {
    fail("the attribute ", name, " of a macro or function is not supported");
  }
  return absent(object, name);
}

Value Evaluator::item(const Value& object, const Value& key) {
  if (object.is_undefined()) fail(object.why());
  if (const Dict* dict = object.dict()) {
    if (!key.dict() && !key.is_list(List::Kind::list))
      if (const Value* value = lookup(*dict, key, budget)) return *value;
  } else if (const std::optional<int64_t> index = key.integer()) {
    const List* list = object.list();
    const bool indexed =
        object.text() || (list && list->kind != List::Kind::view && list->kind != List::Kind::iterator);
    if (!indexed) return absent(object, key);
    if (object.text()) budget.spend(static_cast<int64_t>(object.text()->size() / 64));
    const int64_t size = length_of(object), at = *index < 0 ? *index + size : *index;
    if (at < 0 || at >= size)
      return Value::undefined(concat("a ", object.type(), " of ", size, " has no item ", *index));
    return list ? list->items[static_cast<size_t>(at)] : Value(characters(*object.text(), at, at + 1));
  }
  return key.text() ? attribute(object, *key.text()) : absent(object, key);
}

Value Evaluator::loop_attribute(Loop& loop, const std::string& name) {
  if (loop.node == nullptr) fail("a loop that is over is not supported");
  const auto i = static_cast<int64_t>(loop.index);
  const auto size = [&] {
    fetch(loop, SIZE_MAX);
    return static_cast<int64_t>(loop.items.size());
  };
  if (name == "index") return i + 1;
  if (name == "index0") return i;
  if (name == "first") return i == 0;
  if (name == "last") return !fetch(loop, loop.index + 1);
  if (name == "length") return size();
  if (name == "revindex") return size() - i;
  if (name == "revindex0") return size() - i - 1;
  if (name == "depth") return int64_t{1};
  if (name == "depth0") return int64_t{0};
  if (name == "previtem") return i > 0 ? loop.items[loop.index - 1] : Value::undefined("there is no previous item");
  if (name == "nextitem")
    return fetch(loop, loop.index + 1) ? loop.items[loop.index + 1] : Value::undefined("there is no next item");
  if (name == "cycle" || name == "changed") {
    Method method;
    method.self = Value(static_cast<Object*>(&loop));
    method.name = name;
    return Value(own(std::move(method)));
  }
  return Value::undefined("'loop' has no attribute '" + name + "'");
}

Value Evaluator::call_method(const Method& method, const Arguments& arguments) {
  const Value& self = method.self;
  const std::string& name = method.name;
  if (self.text()) {
    if (self.is_safe()) fail("methods of a text that is marked safe are not supported");
    budget.spend(static_cast<int64_t>(self.text()->size() / 64));
    return call_text_method(*self.text(), name, arguments);
  }
  if (auto* loop = dynamic_cast<Loop*>(self.object())) {
    if (!arguments.named.empty() || loop->node == nullptr) fail("loop.", name, ": this call is not supported");
    if (name == "cycle") {
      if (arguments.positional.empty()) fail("loop.cycle: no items");
      return arguments.positional[loop->index % arguments.positional.size()];
    }
    Value now = Value::list(arguments.positional, List::Kind::tuple);
    const bool same = loop->changed && equal(*loop->changed, now, budget);
    loop->changed = std::move(now);
    return !same;
  }
  if (const Dict* dict = self.dict()) {
    if (name == "get") {
      const Bound b(name, arguments, "/key default?");
      if (b[0]->dict() || b[0]->is_list(List::Kind::list)) fail("a ", b[0]->type(), " cannot be the key of a dict");
      const Value* value = lookup(*dict, *b[0], budget);
      return value != nullptr ? *value : b[1] != nullptr ? *b[1] : Value();
    }
    if (name == "fromkeys") fail("the method fromkeys of a dict is not supported");
    const Bound none(name, arguments, "");
    if (name == "copy") return self;
    Items items;
    budget.spend(4 * static_cast<int64_t>(dict->items.size()));
    for (const auto& [key, value] : dict->items)
      items.push_back(name == "items" ? Value::list({key, value}, List::Kind::tuple) : name == "keys" ? key : value);
    return Value::list(std::move(items), List::Kind::view, "dict_" + name);
  }
  if (self.list() && name == "copy" && arguments.positional.empty() && arguments.named.empty()) return self;
  if (self.list() && (name == "count" || name == "index")) {
    const Bound b(name, arguments, "/value");
    int64_t n = 0;
    for (const Value& v : self.list()->items) {
      const bool same = equal(v, *b[0], budget);
      if (same && name == "index") return n;
      n += name == "index" || same ? 1 : 0;
    }
    if (name == "index") fail("index: the value is not in the list");
    return n;
  }
  if (!self.is_none()) fail("the method ", name, " of a ", self.type(), " is not supported");
  return call_function(name, arguments);
}

Value Evaluator::call_function(const std::string& name, const Arguments& arguments) {
  if (name == "raise_exception") fail("raise_exception: ", text_of(*Bound(name, arguments, "message")[0]));
  if (name == "namespace" || name == "dict") {
    Pairs items;
    if (arguments.positional.size() > 1)
      fail(name, ": expected at most one argument, found ", arguments.positional.size());
    for (const Value& from : arguments.positional) {
      if (from.dict()) {
        items = from.dict()->items;
        continue;
      }
      for (const Value& pair : iterate(from, budget)) {
        const Items parts = iterate(pair, budget);
        if (parts.size() != 2) fail(name, ": expected pairs of key and value");
        assign(items, parts[0], parts[1], budget);
      }
    }
    for (const auto& [key, value] : arguments.named) assign(items, key, value, budget);
    if (name == "dict") return items;
    Namespace space;
    space.items = std::move(items);
    return Value(own(std::move(space)));
  }
  if (name == "range") {
    const Bound b(name, arguments, "/start stop? step?");
    const auto need = [&](size_t i) {
      return b.integer(i) ? *b.integer(i) : (fail("range: expected a whole number"), 0);
    };
    const int64_t begin = b[1] ? need(0) : 0, end = b[1] ? need(1) : need(0), step = b[2] ? need(2) : 1;
    if (step == 0) fail("range: step 0");
    Items items;
    for (int64_t i = begin; step > 0 ? i < end : i > end;) {
      if (items.size() == static_cast<size_t>(Limits::kRange)) fail("range: more than ", Limits::kRange, " numbers");
      items.emplace_back(i);
      if (__builtin_add_overflow(i, step, &i)) break;
    }
    budget.spend(4 * static_cast<int64_t>(items.size()));
    return Value::list(std::move(items), List::Kind::range);
  }
  // strftime_now
  const Bound b(name, arguments, "format");
  const std::string& format = b.text(0);
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') continue;
    if (++i < format.size() && format[i] == '-') ++i;
    if (i >= format.size() || std::string_view("aAbBcdeFHIjmMpSTuUwWxXyYZ%").find(format[i]) == std::string_view::npos)
      fail("strftime_now: the format ", repr(format.substr(0, 80)), " is not supported");
  }
  std::tm local{};
  localtime_r(&now_, &local);
  std::array<char, 512> text;
  const size_t n = format.empty() ? 0 : std::strftime(text.data(), text.size(), format.c_str(), &local);
  if (n == 0 && !format.empty()) fail("strftime_now: the format is too long");
  return Value(std::string(text.data(), n));
}

}  // namespace qwerky::jinja
