// SPDX-License-Identifier: MIT
// Python's operators: whole numbers stay whole (within 64 bits), / gives a float, // and % round down.
#include <algorithm>
#include <array>
#include <cmath>

#include "io/jinja/evaluator.h"
#include "io/jinja/text.h"

namespace qwerky::jinja {
namespace {

[[noreturn]] void too_large(const std::string& op) { fail("the result of ", op, " needs more than 64 bits"); }

int64_t floor_divide(int64_t a, int64_t b) { return a / b - ((a % b != 0 && (a % b < 0) != (b < 0)) ? 1 : 0); }

Value whole(const std::string& op, int64_t a, int64_t b) {
  int64_t out = 0;
  if (op == "+" ? __builtin_add_overflow(a, b, &out) : op == "-" && __builtin_sub_overflow(a, b, &out)) too_large(op);
  if (op == "*" && __builtin_mul_overflow(a, b, &out)) too_large(op);
  if (op == "+" || op == "-" || op == "*") return out;
  if (op == "**") {
    if (b < 0 && a == 0) fail("division by zero");
    if (b < 0) return std::pow(static_cast<double>(a), static_cast<double>(b));
    int64_t power = 1;
    if (a == 0 || a == 1 || a == -1)
      return a == 0 ? int64_t{b == 0} : (a == 1 || b % 2 == 0) ? int64_t{1} : int64_t{-1};
    for (int64_t i = 0; i < b; ++i)
      if (__builtin_mul_overflow(power, a, &power)) too_large(op);
    return power;
  }
  if (b == 0) fail("division by zero");
  if (op == "/") return static_cast<double>(a) / static_cast<double>(b);
  if (b == -1) return op == "%" ? Value(int64_t{0}) : whole("-", 0, a);
  if (op == "//") return floor_divide(a, b);
  const int64_t rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

Value real(const std::string& op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "**") {
    if (a == 0 && b < 0) fail("division by zero");
    if (a < 0 && std::isfinite(b) && b != std::floor(b)) fail("a complex number is not supported");
    const double power = std::pow(a, b);
    if (std::isinf(power) && std::isfinite(a) && std::isfinite(b)) fail("the result of ** is too large");
    return power;
  }
  if (b == 0) fail("division by zero");
  if (op == "/") return a / b;
  double rest = std::fmod(a, b), quotient = (a - rest) / b;
  if (rest != 0 && (b < 0) != (rest < 0)) rest += b, quotient -= 1;
  if (rest == 0) rest = std::copysign(0.0, b);
  if (op == "%") return rest;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double down = std::floor(quotient);
  return quotient - down > 0.5 ? down + 1 : down;
}

/// "%s of %d" % arguments: flags, width and precision of s, r, d, i, x and f.
std::string formatted(const std::string& format, const Items& arguments, Evaluator& e) {
  std::string out;
  size_t used = 0;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out += format[i];
      continue;
    }
    std::string spec = "%";
    while (++i < format.size() && std::string_view("-+ 0#.123456789").find(format[i]) != std::string_view::npos)
      spec += format[i];
    const char kind = i < format.size() ? format[i] : '\0';
    if (kind == '%' && spec.size() == 1) {
      out += '%';
      continue;
    }
    if (spec.size() > 8 || std::string_view("srdifx").find(kind) == std::string_view::npos)
      fail("the format ", repr(spec + kind), " is not supported");
    if (used == arguments.size()) fail("too few arguments for the format ", repr(format));
    const Value& v = arguments[used++];
    std::array<char, 512> number;
    if (kind == 's' || kind == 'r') {
      if (spec.size() > 1) fail("the format ", repr(spec + kind), " is not supported");
      out += kind == 's' ? e.text_of(v) : e.text_of(Value::list({v})).substr(1);
      if (kind == 'r') out.pop_back();
      continue;
    }
    if (!v.is_number() || (kind == 'x' && v.as<double>())) fail("%", kind, " expects a number, found ", v.type());
    int length = 0;
    if (kind == 'f') {
      length = std::snprintf(number.data(), number.size(), (spec + "f").c_str(), v.real());
    } else {
      if (v.as<double>() && !(std::abs(v.real()) < 9e18))
        fail("%", kind, ": ", number_text(v.real()), " needs more than 64 bits");
      const int64_t n = v.as<double>() ? static_cast<int64_t>(v.real()) : *v.integer();
      if (kind == 'x' && n < 0) fail("%x of a negative number is not supported");
      length = std::snprintf(number.data(), number.size(), (spec + (kind == 'x' ? "lx" : "ld")).c_str(), n);
    }
    if (length < 0 || length >= static_cast<int>(number.size())) fail("the format ", repr(spec + kind), " is too wide");
    out += number.data();
  }
  if (used < arguments.size()) fail("too many arguments for the format ", repr(format));
  return out;
}

std::optional<Value> repeated(const Value& what, const Value& times, Budget& budget) {
  if (!times.integer() || !(what.text() || what.is_list(List::Kind::list) || what.is_list(List::Kind::tuple)))
    return std::nullopt;
  const int64_t n = std::max<int64_t>(0, *times.integer());
  const int64_t size = what.text() ? static_cast<int64_t>(what.text()->size()) : length_of(what);
  if (size > 0 && n > Limits::kTextBytes / size) fail("a text or list repeated to more than ", Limits::kTextBytes);
  if (what.text()) {
    budget.spend_text(static_cast<size_t>(size * n));
    std::string text;
    text.reserve(static_cast<size_t>(size * n));
    for (int64_t i = 0; i < n && size > 0; ++i) text += *what.text();
    return Value(std::move(text), what.is_safe());
  }
  budget.spend(4 * size * n);
  Items items;
  for (int64_t i = 0; i < n && size > 0; ++i)
    items.insert(items.end(), what.list()->items.begin(), what.list()->items.end());
  return Value::list(std::move(items), what.list()->kind);
}

}  // namespace

Value Evaluator::binary(const std::string& op, const Value& a, const Value& b) {
  if (a.is_undefined() || b.is_undefined()) fail(a.is_undefined() ? a.why() : b.why());
  if (a.is_number() && b.is_number())
    return a.integer() && b.integer() ? whole(op, *a.integer(), *b.integer()) : real(op, a.real(), b.real());
  if (op == "+" && a.text() && b.text()) {
    const bool safe = a.is_safe() || b.is_safe();  // Markup escapes what is added to it
    const auto part = [&](const Value& v) { return safe && !v.is_safe() ? escaped(*v.text()) : *v.text(); };
    budget.spend_text(a.text()->size() + b.text()->size());
    return Value(part(a) + part(b), safe);
  }
  if (op == "+" && a.list() && b.list() && a.list()->kind == b.list()->kind &&
      (a.is_list(List::Kind::list) || a.is_list(List::Kind::tuple))) {
    Items items = a.list()->items;
    items.insert(items.end(), b.list()->items.begin(), b.list()->items.end());
    budget.spend(4 * static_cast<int64_t>(items.size()));
    return Value::list(std::move(items), a.list()->kind);
  }
  if (op == "*") {
    if (auto out = repeated(a, b, budget)) return *out;
    if (auto out = repeated(b, a, budget)) return *out;
  }
  if (op == "%" && a.text()) {
    if (a.is_safe() || b.dict()) fail("this use of % is not supported");
    return make_text(formatted(*a.text(), b.is_list(List::Kind::tuple) ? b.list()->items : Items{b}, *this));
  }
  fail("no ", op, " of ", a.type(), " and ", b.type());
}

bool Evaluator::compare(const std::string& op, const Value& a, const Value& b) {
  if (op == "==") return equal(a, b, budget);
  if (op == "!=") return !equal(a, b, budget);
  if (op == "<") return less(a, b, budget);
  if (op == ">") return less(b, a, budget);
  if (op == "<=" || op == ">=") {
    const bool other_way = op == "<=" ? less(b, a, budget) : less(a, b, budget);
    return !other_way && !(a.is_number() && (std::isnan(a.real()) || std::isnan(b.real())));
  }
  const bool negated = op == "not in";
  if (const std::string* text = b.text()) {
    if (!a.text()) fail("only a text can be in a text, found ", a.type());
    budget.spend(static_cast<int64_t>((text->size() + a.text()->size()) / 64));
    return (find_text(*text, *a.text()) != text->npos) != negated;
  }
  if (b.dict()) {
    if (a.dict() || a.is_list(List::Kind::list)) fail("a ", a.type(), " cannot be the key of a dict");
    return (lookup(*b.dict(), a, budget) != nullptr) != negated;
  }
  const Items items = iterate(b, budget);
  return std::any_of(items.begin(), items.end(), [&](const Value& v) { return equal(v, a, budget); }) != negated;
}

}  // namespace qwerky::jinja
