// SPDX-License-Identifier: MIT
#include "io/jinja/evaluator.h"

#include <algorithm>
#include <array>

#include "io/jinja/text.h"

namespace qwerky::jinja {

Evaluator::Recursion::Recursion(Evaluator& evaluator) : depth(evaluator.depth_) {
  if (depth >= Limits::kRecursion) fail("evaluation nested more than ", Limits::kRecursion, " deep");
  evaluator.budget.spend(1);
  ++depth;
}

std::string Evaluator::run(const Node& root, const OrderedJson& context) {
  if (!context.is_object()) fail("expected an object of variables, found ", context.type_name());
  for (const auto& [name, value] : context.items()) scope_->names.emplace_back(name, from_json(value, budget));
  exec(root);
  return std::move(out_);
}

// Statements.

Evaluator::Flow Evaluator::exec(const Node& node) {
  const Recursion recursion(*this);
  line_ = node.line;
  const auto kid = [&](size_t i) -> const Node& { return *node.kids[i]; };
  switch (node.op) {
    case Op::body:
      for (const auto& statement : node.kids)
        if (const Flow flow = exec(*statement); flow != Flow::normal) return flow;
      return Flow::normal;
    case Op::data: print(Value(node.text)); return Flow::normal;
    case Op::print: print(eval(kid(0))); return Flow::normal;
    case Op::if_:
      for (size_t i = 0; i + 1 < node.kids.size(); i += 2)
        if (eval(kid(i)).truth()) return exec(kid(i + 1));
      return node.kids.size() % 2 == 1 ? exec(kid(node.kids.size() - 1)) : Flow::normal;
    case Op::for_: return exec_for(node);
    case Op::set: assign_to(kid(0), eval(kid(1))); return Flow::normal;
    case Op::set_block:
      captured_ = capture(kid(2));
      assign_to(kid(0), eval(kid(1)));
      return Flow::normal;
    case Op::macro: {
      Macro macro;
      macro.node = &node;
      macro.scope = scope_;
      assign_to(node, Value(own(std::move(macro))));
      return Flow::normal;
    }
    case Op::scope: return exec_scope(kid(0));
    case Op::break_: return Flow::broken;
    case Op::continue_: return Flow::continued;
    default: fail("not a statement");
  }
}

Evaluator::Flow Evaluator::exec_scope(const Node& body) {
  const auto outer = std::exchange(scope_, std::make_shared<Scope>(Scope{scope_, {}}));
  const Flow flow = exec(body);
  scope_ = outer;
  return flow;
}

/// Makes sure of items [0, index] where there are so many. The filter is asked as late as Jinja asks it, for what it
/// reads may change while the loop runs.
bool Evaluator::fetch(Loop& loop, size_t index) {
  while (loop.items.size() <= index && loop.taken < loop.source.size()) {
    const Value& next = loop.source[loop.taken++];
    if (const Node* filter = loop.node->kids[2].get()) {
      const auto outer = std::exchange(scope_, std::make_shared<Scope>(Scope{scope_, {}}));
      assign_to(*loop.node->kids[0], next);
      const bool passes = eval(*filter).truth();
      scope_ = outer;
      if (!passes) continue;
    }
    loop.items.push_back(next);
  }
  return index < loop.items.size();
}

Evaluator::Flow Evaluator::exec_for(const Node& node) {
  Loop* loop = own(Loop());
  loop->node = &node;
  loop->source = iterate(eval(*node.kids[1]), budget);
  const auto outer = scope_;
  for (; fetch(*loop, loop->index); ++loop->index) {
    budget.spend(2);
    scope_ = std::make_shared<Scope>(Scope{outer, {}});
    assign_to(*node.kids[0], loop->items[loop->index]);
    scope_->names.emplace_back("loop", Value(static_cast<Object*>(loop)));
    const Flow flow = exec(*node.kids[3]);
    scope_ = outer;
    if (flow == Flow::broken) break;
  }
  const bool none = loop->items.empty();
  loop->items = loop->source = {};
  loop->node = nullptr;
  return none && node.kids[4] ? exec_scope(*node.kids[4]) : Flow::normal;
}

void Evaluator::assign_to(const Node& target, const Value& value) {
  if (target.op == Op::tuple) {
    if (value.is_undefined()) fail(value.why());
    const Items items = iterate(value, budget);
    if (items.size() != target.kids.size())
      fail("cannot unpack ", items.size(), " values into ", target.kids.size(), " names");
    for (size_t i = 0; i < items.size(); ++i) assign_to(*target.kids[i], items[i]);
  } else if (target.op == Op::member) {
    const Value object = eval_name(target.text);
    auto* space = dynamic_cast<Namespace*>(object.object());
    if (space == nullptr) fail("cannot set ", target.text, ".", target.names[0], ": ", target.text, " is no namespace");
    assign(space->items, target.names[0], value, budget);
  } else if (Value* there = scope_->find(target.text)) {
    *there = value;
  } else {
    budget.spend(static_cast<int64_t>(scope_->names.size() / 8));
    scope_->names.emplace_back(target.text, value);
  }
}

void Evaluator::print(const Value& value) {
  if (const std::string* text = value.text()) {
    budget.spend_text(text->size());
    out_ += *text;
  } else {
    out_ += text_of(value);
  }
  if (out_.size() > static_cast<size_t>(Limits::kTextBytes)) fail("a text of more than ", Limits::kTextBytes, " bytes");
}

std::string Evaluator::capture(const Node& body) {
  std::string outer = std::exchange(out_, {});
  exec_scope(body);
  return std::exchange(out_, std::move(outer));
}

Value Evaluator::call_macro(const Macro& macro, const Arguments& arguments) {
  const Node& node = *macro.node;
  const auto inner = std::make_shared<Scope>(Scope{macro.scope, {}});
  const auto outer = std::exchange(scope_, inner);
  if (arguments.positional.size() > node.names.size())
    fail("macro ", node.text, " takes at most ", node.names.size(), " arguments, found ", arguments.positional.size());
  size_t named = 0;
  for (size_t i = 0; i < node.names.size(); ++i) {
    const std::string& name = node.names[i];
    const auto it =
        std::find_if(arguments.named.begin(), arguments.named.end(), [&](const auto& n) { return n.first == name; });
    Value value;
    if (i < arguments.positional.size()) {
      value = arguments.positional[i];
    } else if (it != arguments.named.end()) {
      value = it->second;
      ++named;
    } else {
      value = node.kids[i] ? eval(*node.kids[i]) : Value::undefined("parameter '" + name + "' was not provided");
    }
    inner->names.emplace_back(name, std::move(value));
  }
  if (named < arguments.named.size())
    fail("macro ", node.text, ": an argument by name that is twice there or not known");
  std::string text = std::exchange(out_, {});
  exec(*node.kids.back());
  std::swap(text, out_);
  scope_ = outer;
  return text;
}

// Expressions.

Value Evaluator::eval(const Node& node) {
  const Recursion recursion(*this);
  line_ = node.line;
  const auto kid = [&](size_t i) -> const Node& { return *node.kids[i]; };
  switch (node.op) {
    case Op::constant: return node.value;
    case Op::name: return eval_name(node.text);
    case Op::captured: return make_text(captured_);
    case Op::attribute: return attribute(eval(kid(0)), node.text);
    case Op::item: {
      const Value object = eval(kid(0));
      return item(object, eval(kid(1)));
    }
    case Op::not_: return !eval(kid(0)).truth();
    case Op::and_: {
      Value left = eval(kid(0));
      return left.truth() ? eval(kid(1)) : left;
    }
    case Op::or_: {
      Value left = eval(kid(0));
      return left.truth() ? left : eval(kid(1));
    }
    case Op::condition:
      if (eval(kid(1)).truth()) return eval(kid(0));
      return node.kids[2] ? eval(kid(2)) : Value::undefined("the condition was false and there is no else");
    case Op::binary: {
      const Value left = eval(kid(0));
      return binary(node.text, left, eval(kid(1)));
    }
    default: return eval_other(node);
  }
}

Value Evaluator::eval_other(const Node& node) {
  const auto kid = [&](size_t i) -> const Node& { return *node.kids[i]; };
  switch (node.op) {
    case Op::list:
    case Op::tuple: {
      Items items;
      for (const auto& k : node.kids) items.push_back(eval(*k));
      budget.spend(4 * static_cast<int64_t>(items.size()));
      return Value::list(std::move(items), node.op == Op::list ? List::Kind::list : List::Kind::tuple);
    }
    case Op::dict: {
      Pairs items;
      for (size_t i = 0; i + 1 < node.kids.size(); i += 2) {
        Value key = eval(kid(i));
        assign(items, std::move(key), eval(kid(i + 1)), budget);
      }
      return items;
    }
    case Op::slice: return eval_slice(node);
    case Op::call: return eval_call(node);
    case Op::filter: {
      const Value input = eval(kid(0));
      const Arguments arguments = eval_arguments(node);
      line_ = node.line;
      return filter(node.text, input, arguments);
    }
    case Op::test: {
      const Value input = eval(kid(0));
      return test(node.text, input, eval_arguments(node));
    }
    case Op::negative:
    case Op::positive: {
      const Value v = eval(kid(0));
      if (v.is_undefined()) fail(v.why());
      if (!v.is_number()) fail("expected a number behind a sign, found ", v.type());
      if (v.as<double>()) return node.op == Op::negative ? -v.real() : v.real();
      return node.op == Op::negative ? binary("-", int64_t{0}, v) : Value(*v.integer());
    }
    case Op::compare: {
      Value left = eval(kid(0));
      for (size_t i = 1; i < node.kids.size(); ++i) {
        Value right = eval(kid(i));
        if (!compare(node.names[i], left, right)) return false;
        left = std::move(right);
      }
      return true;
    }
    case Op::concat: {
      std::string text;
      for (const auto& k : node.kids) {
        const Value part = eval(*k);
        budget.spend_text(text.size() + (part.text() ? part.text()->size() : 0));
        text += text_of(part);
      }
      return text;
    }
    default: fail("not an expression");
  }
}

Value Evaluator::eval_name(const std::string& name) {
  for (const Scope* scope = scope_.get(); scope != nullptr; scope = scope->parent.get())
    for (const auto& [key, value] : scope->names)
      if (key == name) return value;
  for (const char* global : {"range", "dict", "namespace", "raise_exception", "strftime_now"})
    if (name == global) {
      Method function;
      function.name = name;
      return Value(own(std::move(function)));
    }
  for (const char* global : {"lipsum", "cycler", "joiner", "self"})
    if (name == global) fail(name, " is not supported");
  return Value::undefined("'" + name + "' is undefined");
}

Arguments Evaluator::eval_arguments(const Node& node) {
  Arguments out;
  const auto add_named = [&](const std::string& name, Value value) {
    for (const auto& n : out.named)
      if (n.first == name) fail("the argument ", name, " twice");
    out.named.emplace_back(name, std::move(value));
  };
  for (size_t i = 1; i < node.kids.size(); ++i) {
    const std::string& name = node.names[i];
    Value value = eval(*node.kids[i]);
    if (name.empty()) {
      out.positional.push_back(std::move(value));
    } else if (name == "*") {
      for (Value& item : iterate(value, budget)) out.positional.push_back(std::move(item));
    } else if (name == "**") {
      if (!value.dict()) fail("expected a dict behind **, found ", value.type());
      for (const auto& [key, v] : value.dict()->items) {
        if (!key.text()) fail("expected names as keys behind **, found ", key.type());
        add_named(*key.text(), v);
      }
    } else {
      add_named(name, std::move(value));
    }
  }
  return out;
}

Value Evaluator::eval_call(const Node& node) {
  const Value function = eval(*node.kids[0]);
  const Arguments arguments = eval_arguments(node);
  line_ = node.line;
  return call(function, arguments);
}

Value Evaluator::call(const Value& function, const Arguments& arguments) {
  const Recursion recursion(*this);
  if (function.is_undefined()) fail(function.why());
  if (const auto* macro = dynamic_cast<const Macro*>(function.object())) return call_macro(*macro, arguments);
  if (const auto* method = dynamic_cast<const Method*>(function.object())) return call_method(*method, arguments);
  if (dynamic_cast<const Loop*>(function.object()) != nullptr) fail("a recursive loop is not supported");
  fail("a value of type ", function.type(), " cannot be called");
}

Value Evaluator::eval_slice(const Node& node) {
  const Value object = eval(*node.kids[0]);
  std::array<std::optional<int64_t>, 3> bounds;
  for (size_t i = 0; i < 3; ++i) {
    if (!node.kids[i + 1]) continue;
    const Value bound = eval(*node.kids[i + 1]);
    if (!bound.integer() && !bound.is_none()) fail("expected a whole number in a slice, found ", bound.type());
    bounds[i] = bound.integer();
  }
  if (object.is_undefined()) fail(object.why());
  const List* list = object.list();
  if (!object.text() && !(list && list->kind != List::Kind::view && list->kind != List::Kind::iterator))
    fail("a value of type ", object.type(), " has no slices");
  const int64_t size = length_of(object), step = bounds[2].value_or(1);
  if (step == 0) fail("a slice with step 0");
  const auto place = [&](std::optional<int64_t> bound, int64_t otherwise) {
    if (!bound) return otherwise;
    const int64_t from_start = *bound < 0 ? *bound + size : *bound;
    return step > 0 ? std::clamp<int64_t>(from_start, 0, size) : std::clamp<int64_t>(from_start, -1, size - 1);
  };
  const int64_t begin = place(bounds[0], step > 0 ? 0 : size - 1), end = place(bounds[1], step > 0 ? size : -1);
  if (object.text() && step == 1)
    return make_text(std::string(characters(*object.text(), begin, std::max(begin, end))));
  const Items items = iterate(object, budget);
  Items taken;
  for (int64_t i = begin; step > 0 ? i < end : i > end;) {
    taken.push_back(items[static_cast<size_t>(i)]);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  if (list) return Value::list(std::move(taken), list->kind);
  std::string text;
  for (const Value& c : taken) text += *c.text();
  return make_text(std::move(text));
}

}  // namespace qwerky::jinja
