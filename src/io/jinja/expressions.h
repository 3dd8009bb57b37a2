// SPDX-License-Identifier: MIT
// The parser of expressions, which that of statements builds on. Recursive descent; the order of the functions is the
// order of precedence.
#pragma once

#include <algorithm>

#include "io/jinja/lexer.h"
#include "io/jinja/parser.h"
#include "io/jinja/text.h"

namespace qwerky::jinja {

class ExpressionParser {
 protected:
  using Type = Token::Type;
  using Ptr = std::unique_ptr<Node>;
  explicit ExpressionParser(std::string_view source) : tokens_(tokens_of(source)) {}

  // Tokens.
  const Token& now() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  static bool is(const Token& t, std::string_view text, Type type = Type::op) {
    return t.type == type && t.text == text;
  }
  bool at_op(std::string_view text) const { return is(now(), text); }
  bool at_word(std::string_view text) const { return is(now(), text, Type::name); }
  bool skip_op(std::string_view text) { return at_op(text) && (take(), true); }
  bool skip_word(std::string_view text) { return at_word(text) && (take(), true); }
  template <class... Parts>
  [[noreturn]] void stop(const Parts&... parts) const {
    fail("line ", now().line, ": ", parts...);
  }
  std::string shown() const {
    return now().type == Type::end ? "the end of the template" : repr(now().text.substr(0, 40));
  }
  void expect_op(std::string_view text) {
    if (!skip_op(text)) stop("expected ", text, ", found ", shown());
  }
  void expect_word(std::string_view text) {
    if (!skip_word(text)) stop("expected ", text, ", found ", shown());
  }
  void expect(Type type, std::string_view what) {
    if (now().type != type) stop("expected ", what, ", found ", shown());
    take();
  }
  std::string name() {
    if (now().type != Type::name) stop("expected a name, found ", shown());
    return take().text;
  }

  // Nodes.
  Ptr make(Op op, int line, std::string text = {}) const {
    auto node = std::make_unique<Node>();
    node->op = op;
    node->line = line;
    node->text = std::move(text);
    return node;
  }
  void add(Node& parent, Ptr kid, std::string label = {}) const {
    if (kid) parent.nesting = std::max(parent.nesting, kid->nesting + 1);
    if (parent.nesting > Limits::kNesting) stop("nested more than ", Limits::kNesting, " deep");
    parent.kids.push_back(std::move(kid));
    parent.names.push_back(std::move(label));
  }
  template <class... Kids>  // by reference: `left->line` and std::move(left) may stand in one call
  Ptr make_of(Op op, int line, std::string text, Kids&&... kids) const {
    Ptr node = make(op, line, std::move(text));
    (add(*node, std::forward<Kids>(kids)), ...);
    return node;
  }
  struct Deeper {
    explicit Deeper(const ExpressionParser& parser) : depth(parser.depth_) {
      if (++depth > Limits::kNesting) --depth, parser.stop("nested more than ", Limits::kNesting, " deep");
    }
    ~Deeper() { --depth; }
    int& depth;
  };

  // Expressions.
  /// An expression, or several with commas: a tuple. It ends before the word `end`.
  Ptr tuple(bool conditions, std::string_view end = {}, bool parentheses = false);
  Ptr expression();
  /// | name(arguments) …; `bare`: the first one comes without its bar.
  Ptr filters(Ptr out);

  std::vector<Token> tokens_;
  size_t at_ = 0;
  mutable int depth_ = 0;
  // around this place, within the macro
  int soft_ = 0;         // conditions around this place: filters and tests may be unknown
  std::string unknown_;  // why the statement is refused, unless its unknown filter stands in a condition
  bool in_macro_ = false;

 private:
  Ptr either();
  Ptr both();
  Ptr negation();
  Ptr comparison();
  using Rule = Ptr (ExpressionParser::*)();
  Ptr left_to_right(std::initializer_list<const char*> ops, Rule part);
  Ptr sum() { return left_to_right({"+", "-"}, &ExpressionParser::concatenation); }
  Ptr concatenation();
  Ptr product() { return left_to_right({"*", "/", "//", "%"}, &ExpressionParser::power); }
  Ptr power() { return left_to_right({"**"}, &ExpressionParser::filtered_unary); }
  Ptr filtered_unary() { return unary(true); }
  Ptr unary(bool filtered);
  Ptr filters_and_tests(Ptr out);
  Ptr test(Ptr input, int line);
  Ptr postfix(Ptr out);
  Ptr subscript(Ptr object, int line);
  Ptr primary();
  Ptr number();
  Ptr constant(int line, Value value);
  void arguments(Node& call);
  std::string checked(const char* what, Known (*known)(const std::string&));
};

}  // namespace qwerky::jinja
