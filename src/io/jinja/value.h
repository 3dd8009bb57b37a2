// SPDX-License-Identifier: MIT
// Python values as a template sees them. Lists and dicts never change once made (the sandbox forbids it), so they are
// shared; namespaces, macros and loops are objects that the evaluator owns until the rendering ends.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.h"
#include "base/json.h"

namespace qwerky::jinja {

/// What a hostile template may cost. One step is about one node evaluated, 64 bytes of text or one list item.
struct Limits {
  static constexpr int64_t kSteps = 5'000'000, kTextBytes = 16 << 20, kSourceBytes = 1 << 20, kRange = 100'000;
  static constexpr int kNesting = 200;    ///< of syntax, and of lists in lists
  static constexpr int kRecursion = 600;  ///< of evaluation: nodes within nodes, macros within macros
};

class Budget {
 public:
  void spend(int64_t steps) {
    if ((left_ -= steps) < 0) fail("more than ", Limits::kSteps, " steps");
  }
  /// Before a text of this many bytes is made.
  void spend_text(size_t bytes) {
    if (bytes > static_cast<size_t>(Limits::kTextBytes)) fail("a text of more than ", Limits::kTextBytes, " bytes");
    spend(1 + static_cast<int64_t>(bytes / 64));
  }

 private:
  int64_t left_ = Limits::kSteps;
};

class Value;
using Items = std::vector<Value>;

struct List {
  enum class Kind { list, tuple, range, view, iterator };  ///< view: dict.items() and its like; iterator: read once
  Kind kind = Kind::list;
  Items items;
  std::string name = {};    ///< of a view: dict_items
  mutable size_t next = 0;  ///< of an iterator: items before it have been read
  int nesting = 1;
};

struct Dict {
  std::vector<std::pair<Value, Value>> items;
  int nesting = 1;
};

/// A namespace, macro, loop, bound method or function.
struct Object {
  virtual ~Object() = default;
};

struct Undefined {
  std::shared_ptr<const std::string> why;
};
struct None {};

struct Text {
  std::shared_ptr<const std::string> bytes;
  bool safe = false;  ///< escaped already: Markup
};

class Value {
 public:
  using Data = std::variant<Undefined, None, bool, int64_t, double, Text, std::shared_ptr<const List>,
                            std::shared_ptr<const Dict>, Object*>;
  Value() : data_(None{}) {}
  Value(bool b) : data_(b) {}
  Value(int64_t i) : data_(i) {}
  Value(double x) : data_(x) {}
  Value(std::string text, bool safe = false)
      : data_(Text{std::make_shared<const std::string>(std::move(text)), safe}) {}
  Value(std::string_view text) : Value(std::string(text)) {}
  Value(const char* text) : Value(std::string(text)) {}
  Value(Object* object) : data_(object) {}
  Value(std::vector<std::pair<Value, Value>> items);
  static Value undefined(std::string why);
  static Value list(Items items, List::Kind kind = List::Kind::list, std::string name = {});

  template <class T>
  const T* as() const {
    return std::get_if<T>(&data_);
  }
  const std::string* text() const { return as<Text>() ? as<Text>()->bytes.get() : nullptr; }
  const List* list() const {
    return as<std::shared_ptr<const List>>() ? as<std::shared_ptr<const List>>()->get() : nullptr;
  }
  const Dict* dict() const {
    return as<std::shared_ptr<const Dict>>() ? as<std::shared_ptr<const Dict>>()->get() : nullptr;
  }
  Object* object() const { return as<Object*>() ? *as<Object*>() : nullptr; }
  bool is_list(List::Kind kind) const { return list() && list()->kind == kind; }
  bool is_undefined() const { return as<Undefined>() != nullptr; }
  bool is_none() const { return as<None>() != nullptr; }
  bool is_safe() const { return as<Text>() && as<Text>()->safe; }
  bool is_number() const { return as<bool>() || as<int64_t>() || as<double>(); }
  int nesting() const { return list() ? list()->nesting : dict() ? dict()->nesting : 0; }

  bool truth() const;
  /// Value of a bool or int.
  std::optional<int64_t> integer() const;
  double real() const;       ///< of a number
  const char* type() const;  ///< "dict", "NoneType"
  std::string why() const;   ///< of an undefined value: what is missing

 private:
  Data data_;
};

Value from_json(const OrderedJson& json, Budget& budget, int nesting = 0);

bool equal(const Value& a, const Value& b, Budget& budget);
/// a < b as Python orders them; Error for types without an order.
bool less(const Value& a, const Value& b, Budget& budget);
const Value* lookup(const Dict& dict, const Value& key, Budget& budget);
/// Adds or replaces. Error for a key that has no hash.
void assign(std::vector<std::pair<Value, Value>>& items, Value key, Value value, Budget& budget);
/// What a loop goes through: items, keys of a dict, characters of a text. Reads an iterator to its end.
Items iterate(const Value& value, Budget& budget);
int64_t length_of(const Value& value);

std::string to_text(const Value& value, Budget& budget);  ///< str()
struct JsonStyle {
  bool ascii = false, sort_keys = false;
  std::optional<std::string> indent = {};
  std::string item_separator = ", ", key_separator = ": ";
};
std::string to_json(const Value& value, const JsonStyle& style, Budget& budget);

}  // namespace qwerky::jinja
