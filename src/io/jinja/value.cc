// SPDX-License-Identifier: MIT
#include "io/jinja/value.h"

#include <algorithm>
#include <cmath>

#include "io/jinja/text.h"
#include "io/tokenizer_utf8.h"

namespace qwerky::jinja {
namespace {

int checked_nesting(int deepest) {
  if (deepest >= Limits::kNesting) fail("lists nested more than ", Limits::kNesting, " deep");
  return deepest + 1;
}

void append_text(std::string& out, const Value& v, bool as_repr, Budget& budget);

void append_items(std::string& out, const Items& items, Budget& budget) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += ", ";
    append_text(out, items[i], true, budget);
  }
}

void append_list(std::string& out, const Value& v, Budget& budget) {
  const List& list = *v.list();
  const bool tuple = list.kind == List::Kind::tuple, view = list.kind == List::Kind::view;
  if (!tuple && !view && list.kind != List::Kind::list) fail("printing of a ", v.type(), " is not supported");
  out += view ? list.name + "([" : tuple ? "(" : "[";
  append_items(out, list.items, budget);
  if (tuple && list.items.size() == 1) out += ',';
  out += view ? "])" : tuple ? ")" : "]";
}

void append_text(std::string& out, const Value& v, bool as_repr, Budget& budget) {
  const size_t before = out.size();
  if (const std::string* text = v.text()) {
    if (v.is_safe() && as_repr) out += "Markup(";
    out += as_repr ? repr(*text) : *text;
    if (v.is_safe() && as_repr) out += ')';
  } else if (v.is_undefined()) {
    if (as_repr) out += "Undefined";
  } else if (v.is_none()) {
    out += "None";
  } else if (v.as<bool>()) {
    out += *v.as<bool>() ? "True" : "False";
  } else if (v.as<int64_t>()) {
    out += std::to_string(*v.as<int64_t>());
  } else if (v.as<double>()) {
    out += number_text(*v.as<double>());
  } else if (v.list()) {
    append_list(out, v, budget);
  } else if (v.dict()) {
    out += '{';
    const char* comma = "";
    for (const auto& [key, value] : v.dict()->items) {
      out += std::exchange(comma, ", ");
      append_text(out, key, true, budget);
      out += ": ";
      append_text(out, value, true, budget);
    }
    out += '}';
  } else {
    fail("printing of a ", v.type(), " is not supported");
  }
  budget.spend_text(out.size() - before);
}

struct JsonWriter {
  const JsonStyle& style;
  Budget& budget;
  std::string out = {};

  void line(int depth) {
    if (!style.indent) return;
    out += '\n';
    for (int i = 0; i < depth; ++i) out += *style.indent;
  }
  std::string key_of(const Value& key) const {
    if (key.text()) return *key.text();
    if (key.is_none() || key.is_number()) return JsonWriter{style, budget}.written(key);
    fail("tojson: keys of type ", key.type(), " are not JSON");
  }
  std::string written(const Value& v) {
    write(v, 0);
    return std::move(out);
  }
  /// Opens, writes n parts through `part`, closes.
  template <class F>
  void sequence(char open, char close, size_t n, int depth, const F& part) {
    out += open;
    for (size_t i = 0; i < n; ++i) {
      if (i > 0) out += style.item_separator;
      line(depth + 1);
      part(i);
    }
    if (n > 0) line(depth);
    out += close;
  }
  void write(const Value& v, int depth) {
    const size_t before = out.size();
    if (v.text()) {
      out += json_quoted(*v.text(), style.ascii);
    } else if (v.is_none()) {
      out += "null";
    } else if (v.as<bool>()) {
      out += *v.as<bool>() ? "true" : "false";
    } else if (v.as<double>() && !std::isfinite(*v.as<double>())) {
      out += std::isnan(*v.as<double>()) ? "NaN" : *v.as<double>() < 0 ? "-Infinity" : "Infinity";
    } else if (v.is_number()) {
      append_text(out, v, true, budget);
    } else if (v.is_list(List::Kind::list) || v.is_list(List::Kind::tuple)) {
      sequence('[', ']', v.list()->items.size(), depth, [&](size_t i) { write(v.list()->items[i], depth + 1); });
    } else if (v.dict()) {
      auto items = v.dict()->items;
      if (style.sort_keys)
        std::stable_sort(items.begin(), items.end(),
                         [&](const auto& a, const auto& b) { return less(a.first, b.first, budget); });
      sequence('{', '}', items.size(), depth, [&](size_t i) {
        (out += json_quoted(key_of(items[i].first), style.ascii)) += style.key_separator;
        write(items[i].second, depth + 1);
      });
    } else {
      fail("tojson: a value of type ", v.type(), " is not JSON", v.is_undefined() ? ": " + v.why() : "");
    }
    budget.spend_text(out.size() - before);
  }
};

/// A number; x86's long double holds every int64 and every double exactly.
long double wide(const Value& v) {
  static_assert(std::numeric_limits<long double>::digits >= 64);
  return v.integer() ? static_cast<long double>(*v.integer()) : static_cast<long double>(v.real());
}

bool all_equal(const Items& a, const Items& b, Budget& budget) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [&](const Value& x, const Value& y) { return equal(x, y, budget); });
}

}  // namespace

Value::Value(std::vector<std::pair<Value, Value>> items) {
  int deepest = 0;
  for (const auto& [key, value] : items) deepest = std::max({deepest, key.nesting(), value.nesting()});
  data_ = std::make_shared<const Dict>(Dict{std::move(items), checked_nesting(deepest)});
}

Value Value::undefined(std::string why) {
  Value v;
  v.data_ = Undefined{std::make_shared<const std::string>(std::move(why))};
  return v;
}

Value Value::list(Items items, List::Kind kind, std::string name) {
  int deepest = 0;
  for (const Value& item : items) deepest = std::max(deepest, item.nesting());
  Value v;
  v.data_ = std::make_shared<const List>(
      List{.kind = kind, .items = std::move(items), .name = std::move(name), .nesting = checked_nesting(deepest)});
  return v;
}

bool Value::truth() const {
  if (is_undefined() || is_none()) return false;
  if (is_number()) return real() != 0;
  if (text()) return !text()->empty();
  if (list()) return list()->kind == List::Kind::iterator || !list()->items.empty();
  if (dict()) return !dict()->items.empty();
  return true;
}

std::optional<int64_t> Value::integer() const {
  if (as<bool>()) return *as<bool>() ? 1 : 0;
  if (as<int64_t>()) return *as<int64_t>();
  return std::nullopt;
}

double Value::real() const { return as<double>() ? *as<double>() : static_cast<double>(integer().value_or(0)); }

const char* Value::type() const {
  constexpr const char* kLists[] = {"list", "tuple", "range", "dict view", "generator"};
  if (list()) return kLists[static_cast<int>(list()->kind)];
  constexpr const char* kTypes[] = {"Undefined", "NoneType", "bool", "int", "float", "str", "list", "dict", "object"};
  return kTypes[data_.index()];
}

std::string Value::why() const { return is_undefined() ? *as<Undefined>()->why : std::string(); }

Value from_json(const OrderedJson& json, Budget& budget, int nesting) {
  if (nesting > Limits::kNesting) fail("values nested more than ", Limits::kNesting, " deep");
  budget.spend(1);
  switch (json.type()) {
    case OrderedJson::value_t::boolean: return json.get<bool>();
    case OrderedJson::value_t::number_integer: return json.get<int64_t>();
    case OrderedJson::value_t::number_unsigned:
      if (json.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
        fail("the number ", json.dump(), " needs more than 63 bits");
      return json.get<int64_t>();
    case OrderedJson::value_t::number_float: return json.get<double>();
    case OrderedJson::value_t::string: {
      const auto& text = json.get_ref<const std::string&>();
      budget.spend_text(text.size());
      std::string storage;
      return std::string(valid_utf8(text, storage));
    }
    case OrderedJson::value_t::array: {
      Items items;
      for (const auto& item : json) items.push_back(from_json(item, budget, nesting + 1));
      return Value::list(std::move(items));
    }
    case OrderedJson::value_t::object: {
      std::vector<std::pair<Value, Value>> items;
      std::string storage;
      for (const auto& [key, item] : json.items())
        items.emplace_back(valid_utf8(key, storage), from_json(item, budget, nesting + 1));
      return items;
    }
    default: return {};
  }
}

bool equal(const Value& a, const Value& b, Budget& budget) {
  budget.spend(1);
  if (a.is_number() && b.is_number()) return wide(a) == wide(b);
  if (a.text() && b.text()) {
    budget.spend(static_cast<int64_t>(std::min(a.text()->size(), b.text()->size()) / 256));
    return *a.text() == *b.text();
  }
  if (a.list() && b.list()) {
    if (a.list() == b.list()) return true;
    if (a.list()->kind != b.list()->kind || a.is_list(List::Kind::iterator)) return false;
    if (a.is_list(List::Kind::view)) fail("== of dict views is not supported");
    return all_equal(a.list()->items, b.list()->items, budget);
  }
  if (a.dict() && b.dict()) {
    if (a.dict()->items.size() != b.dict()->items.size()) return false;
    return std::all_of(a.dict()->items.begin(), a.dict()->items.end(), [&](const auto& item) {
      const Value* other = lookup(*b.dict(), item.first, budget);
      return other != nullptr && equal(item.second, *other, budget);
    });
  }
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined()) ||
         (a.object() && a.object() == b.object());
}

bool less(const Value& a, const Value& b, Budget& budget) {
  budget.spend(1);
  if (a.is_undefined() || b.is_undefined()) fail(a.is_undefined() ? a.why() : b.why());
  if (a.is_number() && b.is_number()) return wide(a) < wide(b);
  if (a.text() && b.text()) {
    budget.spend(static_cast<int64_t>(std::min(a.text()->size(), b.text()->size()) / 256));
    return *a.text() < *b.text();  // the order of UTF-8 is that of code points
  }
  if (a.list() && b.list() && a.list()->kind == b.list()->kind &&
      (a.is_list(List::Kind::list) || a.is_list(List::Kind::tuple))) {
    const Items &x = a.list()->items, &y = b.list()->items;
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i)
      if (!equal(x[i], y[i], budget)) return less(x[i], y[i], budget);
    return x.size() < y.size();
  }
  fail("no order between ", a.type(), " and ", b.type());
}

const Value* lookup(const Dict& dict, const Value& key, Budget& budget) {
  budget.spend(static_cast<int64_t>(dict.items.size() / 8));
  if (const std::string* text = key.text()) {
    for (const auto& [k, v] : dict.items)
      if (k.text() && *k.text() == *text) return &v;
    return nullptr;
  }
  for (const auto& [k, v] : dict.items)
    if (equal(k, key, budget)) return &v;
  return nullptr;
}

void assign(std::vector<std::pair<Value, Value>>& items, Value key, Value value, Budget& budget) {
  if (key.dict() || key.is_list(List::Kind::list)) fail("a ", key.type(), " cannot be the key of a dict");
  budget.spend(4 + static_cast<int64_t>(items.size() / 8));
  for (auto& [k, v] : items)
    if (equal(k, key, budget)) return void(v = std::move(value));
  items.emplace_back(std::move(key), std::move(value));
}

Items iterate(const Value& value, Budget& budget) {
  Items out;
  if (const List* list = value.list()) {
    budget.spend(static_cast<int64_t>(list->items.size()));
    if (list->kind != List::Kind::iterator) return list->items;
    out.assign(list->items.begin() + static_cast<int64_t>(list->next), list->items.end());
    list->next = list->items.size();
  } else if (const Dict* dict = value.dict()) {
    budget.spend(static_cast<int64_t>(dict->items.size()));
    for (const auto& item : dict->items) out.push_back(item.first);
  } else if (const std::string* text = value.text()) {
    budget.spend(4 * static_cast<int64_t>(text->size()));
    for (std::string_view c : characters(*text)) out.emplace_back(c);
  } else if (!value.is_undefined()) {
    fail("a value of type ", value.type(), " cannot be gone through");
  }
  return out;
}

int64_t length_of(const Value& value) {
  if (value.text()) return length(*value.text());
  if (value.list() && !value.is_list(List::Kind::iterator)) return static_cast<int64_t>(value.list()->items.size());
  if (value.dict()) return static_cast<int64_t>(value.dict()->items.size());
  if (value.is_undefined()) return 0;
  fail("a value of type ", value.type(), " has no length");
}

std::string to_text(const Value& value, Budget& budget) {
  std::string out;
  append_text(out, value, false, budget);
  return out;
}

std::string to_json(const Value& value, const JsonStyle& style, Budget& budget) {
  return JsonWriter{style, budget}.written(value);
}

}  // namespace qwerky::jinja
