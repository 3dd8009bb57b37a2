// SPDX-License-Identifier: MIT
// Runs a syntax tree. Errors name what is wrong; render() adds the line.
#pragma once

#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/jinja/parser.h"

namespace qwerky::jinja {

using Pairs = std::vector<std::pair<Value, Value>>;

struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<std::string, Value>> names;
  Value* find(const std::string& name) {
    for (auto& [key, value] : names)
      if (key == name) return &value;
    return nullptr;
  }
};

struct Namespace : Object {
  Pairs items;
};
struct Macro : Object {
  const Node* node = nullptr;
  std::shared_ptr<Scope> scope;  // where it was defined
};
struct Loop : Object {
  size_t index = 0;
  Items items;   // those that passed the filter so far
  Items source;  // what the loop goes through, of which `taken` have been looked at
  size_t taken = 0;
  const Node* node = nullptr;  // null when the loop is over
  std::optional<Value> changed;
};
struct Method : Object {  ///< of a value; of none: a global function
  Value self;
  std::string name;
};

struct Arguments {
  Items positional;
  std::vector<std::pair<std::string, Value>> named;
};

/// Arguments by parameter: "old new count?" takes two or three of them, by position or name; after "/" by position
/// only. Error where they do not fit.
class Bound {
 public:
  Bound(const std::string& what, const Arguments& arguments, std::string_view parameters);
  /// Null when it was not given.
  const Value* operator[](size_t i) const { return values_[i] ? &*values_[i] : nullptr; }
  bool truth(size_t i) const { return values_[i] && values_[i]->truth(); }
  /// The text of parameter i; Error if it is anything else.
  const std::string& text(size_t i) const;
  std::optional<int64_t> integer(size_t i) const;  ///< nothing when absent or none

 private:
  const std::string& what_;
  std::vector<std::optional<Value>> values_;
};

class Evaluator {
 public:
  explicit Evaluator(std::time_t now) : now_(now), scope_(std::make_shared<Scope>()) {}
  std::string run(const Node& root, const OrderedJson& context);
  int line() const { return line_; }

  Budget budget;
  Value item(const Value& object, const Value& key);              ///< object[key], undefined if absent
  Value attribute(const Value& object, const std::string& name);  ///< object.name
  Value call(const Value& function, const Arguments& arguments);
  Value filter(const std::string& name, const Value& input, const Arguments& arguments);
  bool test(const std::string& name, const Value& input, const Arguments& arguments);
  Value binary(const std::string& op, const Value& a, const Value& b);
  bool compare(const std::string& op, const Value& a, const Value& b);
  std::string text_of(const Value& v) { return to_text(v, budget); }
  Value make_text(std::string text) {
    budget.spend_text(text.size());
    return text;
  }
  /// str.replace; most < 0: all.
  std::string replaced(const std::string& text, const std::string& from, const std::string& to, int64_t most);

 private:
  enum class Flow { normal, broken, continued };
  struct Recursion {
    explicit Recursion(Evaluator& evaluator);
    ~Recursion() { --depth; }
    int& depth;
  };

  Value eval(const Node& node);
  Value eval_other(const Node& node);
  Value eval_slice(const Node& node);
  Value eval_call(const Node& node);
  Arguments eval_arguments(const Node& node);
  Value eval_name(const std::string& name);
  Flow exec(const Node& node);
  Flow exec_for(const Node& node);
  Flow exec_scope(const Node& body);
  void print(const Value& value);
  std::string capture(const Node& body);
  Value call_macro(const Macro& macro, const Arguments& arguments);
  Value call_method(const Method& method, const Arguments& arguments);
  Value call_function(const std::string& name, const Arguments& arguments);
  Value call_text_method(const std::string& self, const std::string& name, const Arguments& arguments);
  Value loop_attribute(Loop& loop, const std::string& name);
  bool fetch(Loop& loop, size_t index);
  void assign_to(const Node& target, const Value& value);
  template <class T>
  T* own(T object) {
    budget.spend(16);
    objects_.push_back(std::make_unique<T>(std::move(object)));
    return static_cast<T*>(objects_.back().get());
  }

  std::time_t now_;
  int line_ = 0, depth_ = 0;
  std::string out_;
  std::string captured_;
  std::vector<std::unique_ptr<Object>> objects_;  // until the end: values point at them, and they at each other
  std::shared_ptr<Scope> scope_;
};

}  // namespace qwerky::jinja
