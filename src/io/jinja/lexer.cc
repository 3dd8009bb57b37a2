// SPDX-License-Identifier: MIT
#include "io/jinja/lexer.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "io/jinja/text.h"
#include "io/tokenizer_utf8.h"

namespace qwerky::jinja {
namespace {

using Type = Token::Type;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : s_(source) {}

  std::vector<Token> run() {
    while (at_ < s_.size()) data();
    add(Type::end, "");
    return std::move(out_);
  }

 private:
  template <class... Parts>
  [[noreturn]] void stop(const Parts&... parts) const {
    fail("line ", line_, ": ", parts...);
  }
  void add(Type type, std::string_view text) { out_.push_back({type, std::string(text), line_}); }
  bool sees(std::string_view text) const { return s_.substr(at_).starts_with(text); }
  char peek() const { return at_ < s_.size() ? s_[at_] : '\0'; }
  void advance(size_t n) {
    line_ += static_cast<int>(
        std::count(s_.begin() + static_cast<int64_t>(at_), s_.begin() + static_cast<int64_t>(at_ + n), '\n'));
    at_ += n;
  }
  void skip_space() { advance(s_.size() - at_ - strip(s_.substr(at_), true, false).size()); }
  bool skip(std::string_view text) {
    const bool is_there = sees(text);
    if (is_there) advance(text.size());
    return is_there;
  }

  /// Past the end of a tag or comment if it is here: "-" takes the white space behind it, else a block takes one
  /// newline.
  bool close(std::string_view end, bool block) {
    const size_t begin = at_;
    if (skip(concat('-', end))) {
      skip_space();
    } else if (!(block && skip(concat('+', end)))) {
      if (!skip(end)) return false;
      if (block && peek() == '\n') advance(1);
    }
    line_starts_ = s_[at_ - 1] == '\n' && at_ > begin;
    return true;
  }

  /// Text up to `tag` (its first byte), of which the tag's sign takes the white space at the end.
  void text_before(size_t tag, bool block) {
    std::string_view text = s_.substr(at_, tag - at_);
    const char sign = tag + 2 < s_.size() ? s_[tag + 2] : '\0';
    if (sign == '-') {
      text = strip(text, false, true);
    } else if (sign != '+' && block) {
      const size_t begin = text.rfind('\n') + 1;  // 0 when there is none
      if ((begin > 0 || line_starts_) && strip(text.substr(begin), true, false).empty()) text = text.substr(0, begin);
    }
    if (!text.empty()) add(Type::data, text);
    advance(tag - at_ + (sign == '-' || sign == '+' ? 3 : 2));
  }

  void data() {
    size_t tag = at_;
    do tag = find_text(s_, "{", tag) + 1;
    while (tag != 0 && (tag >= s_.size() || std::string_view("{%#").find(s_[tag]) == s_.npos));
    if (tag == 0) {
      add(Type::data, s_.substr(at_));
      return advance(s_.size() - at_);
    }
    const char kind = s_[tag];
    text_before(tag - 1, kind != '{');
    if (kind == '#') {
      while (!close("#}", true)) {
        if (at_ >= s_.size()) stop("a comment without its end");
        advance(1);
      }
    } else if (kind == '{') {
      add(Type::print_begin, "{{");
      inside("}}", false);
    } else if (!raw()) {
      add(Type::block_begin, "{%");
      inside("%}", true);
    }
  }

  /// {% raw %} … {% endraw %}, at the name of the tag.
  bool raw() {
    const size_t begin = at_;
    const int line = line_;
    skip_space();
    if (skip("raw")) {
      skip_space();
      const bool trims = skip("-%}");
      if (trims || skip("%}")) {
        if (trims) skip_space();
        line_starts_ = s_[at_ - 1] == '\n';
        return raw_text(), true;
      }
    }
    at_ = begin, line_ = line;
    return false;
  }

  void raw_text() {
    for (size_t tag = find_text(s_, "{%", at_); tag != s_.npos; tag = find_text(s_, "{%", tag + 2)) {
      Lexer ahead(s_);
      ahead.at_ = tag + 2;
      if (!ahead.skip("-")) ahead.skip("+");
      ahead.skip_space();
      if (!ahead.skip("endraw")) continue;
      ahead.skip_space();
      if (!ahead.close("%}", true)) continue;
      text_before(tag, true);
      advance(ahead.at_ - at_);
      line_starts_ = ahead.line_starts_;
      return;
    }
    stop("{% raw %} without {% endraw %}");
  }

  void inside(std::string_view end, bool block) {
    std::string open;
    while (true) {
      const int line = line_;
      if (open.empty() && close(end, block)) {
        out_.push_back({block ? Type::block_end : Type::print_end, std::string(end), line});
        return;
      }
      if (at_ >= s_.size()) stop("a tag without its ", end);
      const Utf8Step step = utf8_step(s_, at_);
      const char c = peek();
      if (is_python_space(step.code)) {
        advance(static_cast<size_t>(step.length));
      } else if (is_digit(c)) {
        number();
      } else if (is_name_start(c)) {
        size_t n = 1;
        while (at_ + n < s_.size() && (is_name_start(s_[at_ + n]) || is_digit(s_[at_ + n]))) ++n;
        add(Type::name, s_.substr(at_, n));
        advance(n);
      } else if (c == '"' || c == '\'') {
        literal(c);
      } else {
        punctuation(open);
      }
    }
  }

  void punctuation(std::string& open) {
    std::string_view op;
    for (const char* two : {"//", "**", "==", "!=", ">=", "<="})
      if (sees(two)) op = two;
    if (op.empty()) op = s_.substr(at_, 1);
    if (op.size() == 1 && std::string_view("+-/*%~[](){}<>=.:|,;").find(op[0]) == op.npos)
      stop("unexpected character ", repr(s_.substr(at_, static_cast<size_t>(utf8_step(s_, at_).length))));
    if (op == "(" || op == "[" || op == "{") {
      open += op == "(" ? ')' : op == "[" ? ']' : '}';
    } else if (op == ")" || op == "]" || op == "}") {
      if (open.empty() || open.back() != op[0]) stop("unexpected ", op);
      open.pop_back();
    }
    add(Type::op, op);
    advance(op.size());
  }

  /// Digits with single underscores between them, from `at`; the bytes taken.
  size_t digits(size_t at, std::string_view allowed) const {
    const auto is_one = [&](size_t i) { return i < s_.size() && allowed.find(s_[i]) != allowed.npos; };
    size_t n = 0;
    while (is_one(at + n) || (n > 0 && at + n < s_.size() && s_[at + n] == '_' && is_one(at + n + 1))) ++n;
    return n;
  }

  void number() {
    constexpr std::string_view kDecimal = "0123456789";
    size_t n = 0;
    bool real = false;
    const auto take = [&](Type type) {
      std::string text(s_.substr(at_, n));
      std::erase(text, '_');
      add(type, text);
      advance(n);
    };
    for (const auto& [marks, allowed] : {std::pair("xX", "0123456789abcdefABCDEF"), {"oO", "01234567"}, {"bB", "01"}})
      if (peek() == '0' && at_ + 1 < s_.size() && std::string_view(marks).find(s_[at_ + 1]) != s_.npos)
        if (const size_t more = digits(at_ + 2, allowed); more > 0) return n = 2 + more, take(Type::integer);
    n = digits(at_, kDecimal);
    if (at_ == 0 || s_[at_ - 1] != '.') {  // in x.0.1 these are subscripts
      if (at_ + n < s_.size() && s_[at_ + n] == '.')
        if (const size_t more = digits(at_ + n + 1, kDecimal); more > 0) n += 1 + more, real = true;
      if (at_ + n < s_.size() && (s_[at_ + n] == 'e' || s_[at_ + n] == 'E')) {
        const size_t sign = at_ + n + 1 < s_.size() && (s_[at_ + n + 1] == '-' || s_[at_ + n + 1] == '+') ? 1 : 0;
        if (const size_t more = digits(at_ + n + 1 + sign, kDecimal); more > 0) n += 1 + sign + more, real = true;
      }
    }
    if (!real && n > 1 && peek() == '0') n = digits(at_, "0");  // as Jinja: 012 is 0 and then 12
    take(real ? Type::real : Type::integer);
  }

  void literal(char quote) {
    const int line = line_;
    std::string text;
    for (advance(1); peek() != quote; advance(1)) {
      if (at_ >= s_.size()) stop("a text without its closing ", quote);
      if (peek() != '\\') {
        text += peek();
        continue;
      }
      advance(1);
      escape(text);
    }
    advance(1);
    out_.push_back({Type::text, text, line});
  }

  /// At the character behind a backslash; ends at the last one of the escape.
  void escape(std::string& text) {
    const char c = peek();
    constexpr std::string_view kLetters = "abfnrtv\\'\"", kMeaning = "\a\b\f\n\r\t\v\\'\"";
    if (at_ >= s_.size()) stop("a text without its closing quote");
    if (const size_t i = kLetters.find(c); i != kLetters.npos) return text += kMeaning[i], void();
    if (c == '\n') return;
    if (c == 'N' || static_cast<unsigned char>(c) >= 0x80)
      stop("the escape \\", c == 'N' ? "N" : "of a character outside ASCII", " is not supported");
    const size_t hex = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    uint32_t code = 0;
    if (hex > 0) {
      const std::string_view digits = s_.substr(at_ + 1, hex);
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
      if (digits.size() < hex || error != std::errc() || end != digits.data() + hex)
        stop("\\", c, " needs ", hex, " hexadecimal digits");
      advance(hex);
    } else if (c >= '0' && c <= '7') {
      size_t n = 0;
      while (n < 3 && at_ + n < s_.size() && s_[at_ + n] >= '0' && s_[at_ + n] <= '7')
        code = code * 8 + static_cast<uint32_t>(s_[at_ + n++] - '0');
      advance(n - 1);
    } else {
      (text += '\\') += c;  // as Python: not an escape
      return;
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
      stop("the escape of U+", std::hex, code, " is not a character");
    append_utf8(text, static_cast<int32_t>(code));
  }

  std::string_view s_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starts_ = true;  // the last tag ended with a newline
  std::vector<Token> out_;
};

}  // namespace

std::vector<Token> tokens_of(std::string_view source) { return Lexer(source).run(); }

}  // namespace qwerky::jinja
