// SPDX-License-Identifier: MIT
#include "engine/json_pattern.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"

namespace qwerky {
namespace {

using Place = ByteAutomaton::Place;
constexpr auto kReturn = ByteAutomaton::kReturn;
constexpr auto kNoLimit = ByteAutomaton::kNoLimit;

struct Expression {
  enum Kind { characters, text, sequence, choice, repeat } kind = sequence;
  std::bitset<128> ascii = {};         // of characters
  bool beyond_ascii = false;           // of characters: all of them
  std::string bytes = {};              // of text: one character beyond ASCII
  std::vector<Expression> parts = {};  // of the others
  int32_t least = 1, most = 1;         // of repeat

  bool may_be_empty() const {
    const auto empty = [](const Expression& e) { return e.may_be_empty(); };
    switch (kind) {
      case characters:
      case text: return false;
      case sequence: return std::all_of(parts.begin(), parts.end(), empty);
      case choice: return std::any_of(parts.begin(), parts.end(), empty);
      case repeat: return least == 0 || parts[0].may_be_empty();
    }
    return true;
  }
};

std::bitset<128> between(char first, char last) {
  std::bitset<128> set;
  for (int c = first; c <= last; ++c) set.set(static_cast<size_t>(c));
  return set;
}

class Parser {
 public:
  Parser(const std::string& pattern, const std::string& where) : text_(pattern), where_(where) {}

  Expression parse() {
    Expression whole = choice(0, true);
    if (at_ < text_.size()) refuse("an unmatched )");
    return whole;
  }

 private:
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... what) const {
    constexpr size_t kShown = 200;
    fail(where_, ": ", what..., " at byte ", at_, " of \"", text_.substr(0, kShown), text_.size() > kShown ? "…" : "",
         "\" is not supported");
  }
  bool more() const { return at_ < text_.size(); }
  char next() {
    if (!more()) refuse("an unfinished expression");
    return text_[at_++];
  }
  bool take(std::string_view s) {
    if (!std::string_view(text_).substr(at_).starts_with(s)) return false;
    at_ += s.size();
    return true;
  }

  Expression choice(int depth, bool outermost) {
    constexpr int kDeepest = 50;
    if (depth > kDeepest) refuse("nesting of more than ", kDeepest, " groups");
    Expression out{.kind = Expression::choice};
    do {
      out.parts.push_back(sequence(depth, outermost));
    } while (take("|"));
    return out;
  }

  Expression sequence(int depth, bool outermost) {
    Expression anything{.kind = Expression::characters, .ascii = ~std::bitset<128>(), .beyond_ascii = true};
    const Expression padding{.kind = Expression::repeat, .parts = {anything}, .least = 0, .most = kNoLimit};
    Expression out{.kind = Expression::sequence};
    if (outermost && !take("^")) out.parts.push_back(padding);
    bool anchored = false;
    while (more() && text_[at_] != '|' && text_[at_] != ')') {
      if (outermost && take("$")) {
        anchored = true;
        if (more() && text_[at_] != '|') refuse("what stands behind $");
        break;
      }
      out.parts.push_back(quantified(item(depth)));
    }
    if (outermost && !anchored) out.parts.push_back(padding);
    return out;
  }

  Expression item(int depth) {
    if (take("(")) {
      if (!take("?:") && more() && text_[at_] == '?') refuse("a (? group");
      Expression out = choice(depth + 1, false);
      if (!take(")")) refuse("a group without )");
      return out;
    }
    if (take("[")) return set();
    const char c = next();
    Expression out{.kind = Expression::characters};
    if (c == '.') {
      out.ascii = ~std::bitset<128>();
      out.ascii.reset('\n').reset('\r');
      out.beyond_ascii = true;
    } else if (c == '\\') {
      out.ascii = escape();
    } else if (c < 0) {
      out.kind = Expression::text;
      out.bytes = c;
      while (more() && (text_[at_] & 0xC0) == 0x80) out.bytes += text_[at_++];
    } else if (std::string_view("*+?{}[]^$").find(c) != std::string_view::npos) {
      --at_;
      refuse("'", c, "' without a backslash");
    } else {
      out.ascii.set(static_cast<size_t>(c));
    }
    return out;
  }

  /// Behind a backslash.
  std::bitset<128> escape() {
    const auto digits = between('0', '9');
    const auto word = digits | between('a', 'z') | between('A', 'Z') | between('_', '_');
    const auto blank = between('\t', '\r') | between(' ', ' ');
    const char c = next();
    switch (c) {
      case 'd': return digits;
      case 'D': return ~digits;
      case 'w': return word;
      case 'W': return ~word;
      case 's': return blank;
      case 'S': return ~blank;
      case 't': return between('\t', '\t');
      case 'n': return between('\n', '\n');
      case 'r': return between('\r', '\r');
      case 'f': return between('\f', '\f');
      case 'v': return between('\v', '\v');
      default: break;
    }
    if (c < 0 || word[static_cast<size_t>(c)]) {
      --at_;
      refuse("the escape \\", c);
    }
    return between(c, c);
  }

  Expression set() {
    Expression out{.kind = Expression::characters};
    const bool negated = take("^");
    bool classes = false;
    while (!take("]")) {
      char first = next();
      if (first < 0) refuse("a character beyond ASCII in [ ]");
      std::bitset<128> members = between(first, first);
      if (first == '\\') {
        members = escape();
        classes = classes || members.count() > 1;
        if (members.count() == 1)
          for (int c = 0; c < 128; ++c)
            if (members[static_cast<size_t>(c)]) first = static_cast<char>(c);
      }
      if (members.count() == 1 && at_ + 1 < text_.size() && text_[at_] == '-' && text_[at_ + 1] != ']') {
        ++at_;
        char last = next();
        if (last == '\\') {
          const auto end = escape();
          if (end.count() != 1) refuse("a class as the end of a range");
          for (int c = 0; c < 128; ++c)
            if (end[static_cast<size_t>(c)]) last = static_cast<char>(c);
        }
        if (last < first) refuse("a range that ends before it begins, or beyond ASCII,");
        members = between(first, last);
      }
      out.ascii |= members;
    }
    if (negated) {
      out.ascii = ~out.ascii;
      out.beyond_ascii = !classes;  // \d and its like mean more than ASCII to some
    }
    return out;
  }

  int32_t number() {
    constexpr int32_t kMost = 1000;
    int32_t n = 0;
    const auto [end, code] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), n);
    if (code != std::errc() || n < 0 || n > kMost) refuse("a count that is no number from 0 to ", kMost);
    at_ = static_cast<size_t>(end - text_.data());
    return n;
  }

  Expression quantified(Expression item) {
    Expression out{.kind = Expression::repeat};
    if (take("*")) {
      out.least = 0, out.most = kNoLimit;
    } else if (take("+")) {
      out.most = kNoLimit;
    } else if (take("?")) {
      out.least = 0;
    } else if (take("{")) {
      out.least = out.most = number();
      if (take(",")) out.most = more() && text_[at_] == '}' ? kNoLimit : number();
      if (!take("}")) refuse("a { without }");
      if (out.most != kNoLimit && out.most < out.least) refuse("a count that ends before it begins");
    } else {
      return item;
    }
    take("?");  // how little is taken does not change what matches
    if (more() && (text_[at_] == '*' || text_[at_] == '+' || text_[at_] == '?' || text_[at_] == '{'))
      refuse("a second count");
    if (item.may_be_empty()) refuse("a count of what may be empty");
    out.parts.push_back(std::move(item));
    return out;
  }

  const std::string& text_;
  const std::string& where_;
  size_t at_ = 0;
};

Place build(JsonRules& rules, const Expression& e, Place next) {
  ByteAutomaton& a = rules.a;
  switch (e.kind) {
    case Expression::characters: {
      std::vector<Place> ways;
      ByteSet plain;
      constexpr char kHex[] = "0123456789abcdef";
      const std::string_view named = "\"\\\b\f\n\r\t", names = "\"\\bfnrt";
      for (size_t c = 0; c < 128; ++c) {
        if (!e.ascii[c]) continue;
        if (const size_t i = named.find(static_cast<char>(c)); i != named.npos)
          ways.push_back(a.bytes(std::string("\\") + names[i], next));
        else if (c < 0x20)
          ways.push_back(a.bytes(std::string("\\u00") + kHex[c / 16] + kHex[c % 16], next));
        else
          plain.set(c);
      }
      if (plain.any()) ways.insert(ways.begin(), a.one_of(plain, next));
      if (e.beyond_ascii) ways.push_back(rules.beyond_ascii(next));
      return rules.either(ways);
    }
    case Expression::text: return a.bytes(e.bytes, next);
    case Expression::sequence:
      for (size_t i = e.parts.size(); i-- > 0;) next = build(rules, e.parts[i], next);
      return next;
    case Expression::choice: {
      std::vector<Place> ways;
      for (const Expression& part : e.parts) ways.push_back(build(rules, part, next));
      return rules.either(ways);
    }
    case Expression::repeat:
      if (e.most == 0) return next;
      return a.repeat(a.rule(build(rules, e.parts[0], kReturn)), e.least, e.most, next);
  }
  return rules.never;
}

}  // namespace

Place json_pattern(JsonRules& rules, const std::string& pattern, const std::string& where, Place next) {
  constexpr size_t kMostBytes = 16 << 10;  // an Expression takes about 100 bytes for each
  if (pattern.size() > kMostBytes)
    fail(where, ": a pattern of ", pattern.size(), " bytes; at most ", kMostBytes, " are supported");
  return rules.a.bytes("\"", build(rules, Parser(pattern, where).parse(), rules.a.bytes("\"", next)));
}

}  // namespace qwerky
