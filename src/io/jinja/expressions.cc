// SPDX-License-Identifier: MIT
#include "io/jinja/expressions.h"

namespace qwerky::jinja {

ExpressionParser::Ptr ExpressionParser::tuple(bool conditions, std::string_view end, bool parentheses) {
  const int line = now().line;
  const auto at_end = [&] {
    return now().type == Type::print_end || now().type == Type::block_end || at_op(")") ||
           (!end.empty() && at_word(end));
  };
  Ptr out = make(Op::tuple, line);
  bool comma = false;
  while (!at_end()) {
    add(*out, conditions ? expression() : either());
    if (!skip_op(",")) break;
    comma = true;
  }
  if (comma) return out;
  if (!out->kids.empty()) return std::move(out->kids[0]);
  if (!parentheses) stop("expected an expression, found ", shown());
  return out;
}

ExpressionParser::Ptr ExpressionParser::expression() {
  const Deeper deeper(*this);
  const bool unknown_before = !unknown_.empty();
  Ptr value = either();
  if (at_word("if") && !unknown_before) unknown_.clear();
  while (skip_word("if")) {
    ++soft_;
    Ptr test = either(), otherwise = skip_word("else") ? expression() : nullptr;
    --soft_;
    const int line = value->line;
    value = make_of(Op::condition, line, "", std::move(value), std::move(test), std::move(otherwise));
  }
  return value;
}

ExpressionParser::Ptr ExpressionParser::either() {
  Ptr left = both();
  while (skip_word("or")) left = make_of(Op::or_, left->line, "", std::move(left), both());
  return left;
}

ExpressionParser::Ptr ExpressionParser::both() {
  Ptr left = negation();
  while (skip_word("and")) left = make_of(Op::and_, left->line, "", std::move(left), negation());
  return left;
}

ExpressionParser::Ptr ExpressionParser::negation() {
  const Deeper deeper(*this);
  const int line = now().line;
  if (skip_word("not")) return make_of(Op::not_, line, "", negation());
  return comparison();
}

ExpressionParser::Ptr ExpressionParser::comparison() {
  Ptr left = sum(), out;
  while (true) {
    std::string op;
    for (const char* candidate : {"==", "!=", "<", "<=", ">", ">="})
      if (at_op(candidate)) op = candidate;
    if (at_word("in")) op = "in";
    if (at_word("not") && is(ahead(), "in", Type::name)) take(), op = "not in";
    if (op.empty()) break;
    take();
    if (!out) out = make_of(Op::compare, left->line, "", std::move(left));
    add(*out, sum(), op);
  }
  return out ? std::move(out) : std::move(left);
}

ExpressionParser::Ptr ExpressionParser::left_to_right(std::initializer_list<const char*> ops, Rule part) {
  Ptr left = (this->*part)();
  while (true) {
    std::string op;
    for (const char* candidate : ops)
      if (at_op(candidate)) op = candidate;
    if (op.empty()) return left;
    take();
    const int line = left->line;
    Ptr right = (this->*part)();
    left = make_of(Op::binary, line, op, std::move(left), std::move(right));
  }
}

ExpressionParser::Ptr ExpressionParser::concatenation() {
  Ptr first = product();
  if (!at_op("~")) return first;
  Ptr out = make_of(Op::concat, first->line, "", std::move(first));
  while (skip_op("~")) add(*out, product());
  return out;
}

ExpressionParser::Ptr ExpressionParser::unary(bool filtered) {
  const Deeper deeper(*this);
  const int line = now().line;
  Ptr out;
  if (at_op("-") || at_op("+")) {
    const Op op = take().text == "-" ? Op::negative : Op::positive;
    out = make_of(op, line, "", unary(false));
  } else {
    out = postfix(primary());
  }
  return filtered ? filters_and_tests(std::move(out)) : std::move(out);
}

ExpressionParser::Ptr ExpressionParser::constant(int line, Value value) {
  Ptr out = make(Op::constant, line);
  out->value = std::move(value);
  return out;
}

ExpressionParser::Ptr ExpressionParser::primary() {
  const Token t = now();
  if (t.type == Type::name) {
    take();
    if (t.text == "true" || t.text == "True") return constant(t.line, true);
    if (t.text == "false" || t.text == "False") return constant(t.line, false);
    if (t.text == "none" || t.text == "None") return constant(t.line, {});
    if (in_macro_ && (t.text == "caller" || t.text == "varargs" || t.text == "kwargs"))
      stop(t.text, " is not supported");
    return make(Op::name, t.line, t.text);
  }
  if (t.type == Type::text) {
    std::string text;
    while (now().type == Type::text) text += take().text;
    return constant(t.line, std::move(text));
  }
  if (t.type == Type::integer || t.type == Type::real) return number();
  if (skip_op("(")) {
    Ptr out = tuple(true, {}, true);
    expect_op(")");
    return out;
  }
  if (skip_op("[")) {
    Ptr out = make(Op::list, t.line);
    while (!skip_op("]")) {
      add(*out, expression());
      if (!at_op("]")) expect_op(",");
    }
    return out;
  }
  if (skip_op("{")) {
    Ptr out = make(Op::dict, t.line);
    while (!skip_op("}")) {
      add(*out, expression());
      expect_op(":");
      add(*out, expression());
      if (!at_op("}")) expect_op(",");
    }
    return out;
  }
  stop("expected an expression, found ", shown());
}

ExpressionParser::Ptr ExpressionParser::number() {
  const Token& t = now();
  try {
    const Value value =
        t.type == Type::integer ? Value(parse_integer(t.text, 0).value_or(0)) : Value(parse_real(t.text).value_or(0));
    take();
    return constant(t.line, value);
  } catch (const Error& e) {
    stop(e.what());
  }
}

ExpressionParser::Ptr ExpressionParser::postfix(Ptr out) {
  while (true) {
    const int line = now().line;
    if (skip_op(".")) {
      if (now().type == Type::integer) {
        out = make_of(Op::item, line, "", std::move(out), number());
      } else {
        out = make_of(Op::attribute, line, name(), std::move(out));
      }
    } else if (skip_op("[")) {
      out = subscript(std::move(out), line);
    } else if (at_op("(")) {
      out = make_of(Op::call, line, "", std::move(out));
      arguments(*out);
    } else {
      return out;
    }
  }
}

ExpressionParser::Ptr ExpressionParser::subscript(Ptr object, int line) {
  Ptr begin = at_op(":") ? nullptr : expression();
  if (!at_op(":")) {
    if (at_op(",")) stop("a tuple as subscript is not supported");
    expect_op("]");
    return make_of(Op::item, line, "", std::move(object), std::move(begin));
  }
  take();
  Ptr end = at_op(":") || at_op("]") ? nullptr : expression(), step;
  if (skip_op(":") && !at_op("]")) step = expression();
  expect_op("]");
  return make_of(Op::slice, line, "", std::move(object), std::move(begin), std::move(end), std::move(step));
}

void ExpressionParser::arguments(Node& call) {
  expect_op("(");
  int order = 0;  // positional, keywords, *, **: none may follow a later kind
  const auto next = [&](int kind) {
    if (kind < order || (kind == order && kind > 1)) stop("arguments in the wrong order");
    order = std::max(order, kind);
  };
  while (!skip_op(")")) {
    if (skip_op("*")) {
      next(2);
      add(call, expression(), "*");
    } else if (skip_op("**")) {
      next(3);
      add(call, expression(), "**");
    } else if (now().type == Type::name && is(ahead(), "=")) {
      if (order == 3) next(0);
      order = std::max(order, 1);
      const std::string key = name();
      if (std::count(call.names.begin(), call.names.end(), key) > 0) stop("the argument ", key, " twice");
      take();
      add(call, expression(), key);
    } else {
      next(0);
      add(call, expression());
    }
    if (!at_op(")")) expect_op(",");
  }
}

std::string ExpressionParser::checked(const char* what, Known (*known)(const std::string&)) {
  const int line = now().line;
  std::string full = name();
  while (skip_op(".")) full += "." + name();
  if (const Known k = known(full); k != Known::yes && soft_ == 0 && unknown_.empty())
    unknown_ =
        concat("line ", line, ": the ", what, " \"", full, k == Known::no ? "\" is not known" : "\" is not supported");
  return full;
}

ExpressionParser::Ptr ExpressionParser::filters(Ptr out) {
  while (skip_op("|")) {
    const int line = now().line;
    std::string filter = checked("filter", known_filter);
    out = make_of(Op::filter, line, std::move(filter), std::move(out));
    if (at_op("(")) arguments(*out);
  }
  return out;
}

ExpressionParser::Ptr ExpressionParser::filters_and_tests(Ptr out) {
  while (true) {
    const int line = now().line;
    if (at_op("|")) {
      out = filters(std::move(out));
    } else if (skip_word("is")) {
      out = test(std::move(out), line);
    } else if (at_op("(")) {
      out = make_of(Op::call, line, "", std::move(out));
      arguments(*out);
    } else {
      return out;
    }
  }
}

ExpressionParser::Ptr ExpressionParser::test(Ptr input, int line) {
  const bool negated = skip_word("not");
  std::string which = checked("test", known_test);
  Ptr out = make_of(Op::test, line, std::move(which), std::move(input));
  const Token& t = now();
  const bool value = t.type == Type::name || t.type == Type::text || t.type == Type::integer || t.type == Type::real;
  if (at_op("(")) {
    arguments(*out);
  } else if ((value || at_op("[") || at_op("{")) && !at_word("else") && !at_word("or") && !at_word("and")) {
    if (at_word("is")) stop("a test follows a test");
    add(*out, postfix(primary()));
  }
  return negated ? make_of(Op::not_, line, "", std::move(out)) : std::move(out);
}

}  // namespace qwerky::jinja
