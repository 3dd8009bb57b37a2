// SPDX-License-Identifier: MIT
// Statements.
#include "io/jinja/expressions.h"

namespace qwerky::jinja {
namespace {

using Ends = std::vector<std::string_view>;  // names of the tags that end a block

class Parser : ExpressionParser {
 public:
  explicit Parser(std::string_view source) : ExpressionParser(source) {}
  std::unique_ptr<Node> run() { return body({}); }

 private:
  Ptr body(const Ends& ends) {
    const Deeper deeper(*this);
    Ptr out = make(Op::body, now().line);
    while (now().type != Type::end) {
      const Token& t = take();
      if (t.type == Type::data) {
        add(*out, make(Op::data, t.line, t.text));
      } else if (t.type == Type::print_begin) {
        add(*out, make_of(Op::print, t.line, "", tuple(true)));
        expect(Type::print_end, "}}");
      } else {
        if (now().type != Type::name) stop("expected the name of a tag, found ", shown());
        if (std::find(ends.begin(), ends.end(), now().text) != ends.end()) return out;
        if (Ptr s = statement()) add(*out, std::move(s));
        expect(Type::block_end, "%}");
      }
      if (!unknown_.empty()) fail(unknown_);
    }
    if (!ends.empty()) stop("expected {% ", ends.back(), " %}, found the end of the template");
    return out;
  }
  /// At the end of a tag: the block up to {% end %}, of which the name is taken.
  Ptr block(const Ends& ends) {
    skip_op(":");
    expect(Type::block_end, "%}");
    return body(ends);
  }
  Ptr block(std::string_view end) {
    Ptr out = block(Ends{end});
    take();
    return out;
  }

  Ptr statement() {
    const int line = now().line;
    const std::string tag = name();
    if (tag == "if") return if_statement(line);
    if (tag == "for") return for_statement(line);
    if (tag == "set") return set_statement(line);
    if (tag == "macro") return macro_statement(line);
    if (tag == "generation") {  // transformers marks the assistant's tokens with it; it prints its body
      const Inner inner(*this);
      return make_of(Op::scope, line, "", block("endgeneration"));
    }
    if (tag == "break" || tag == "continue") {
      if (loops_ == 0) stop("{% ", tag, " %} outside a loop");
      return make(tag == "break" ? Op::break_ : Op::continue_, line);
    }
    for (const char* other :
         {"include", "import", "from", "extends", "block", "autoescape", "with", "call", "filter", "print"})
      if (tag == other) stop("{% ", tag, " %} is not supported");
    stop("{% ", tag.substr(0, 40), " %} is not known here");
  }

  /// The body of something that Jinja compiles as a function: no loop to break, filters checked.
  struct Inner {
    explicit Inner(Parser& p) : parser(p), loops(std::exchange(p.loops_, 0)), soft(std::exchange(p.soft_, 0)) {}
    ~Inner() { parser.loops_ = loops, parser.soft_ = soft; }
    Parser& parser;
    int loops, soft;
  };

  Ptr if_statement(int line) {
    Ptr out = make(Op::if_, line);
    ++soft_;
    while (true) {
      add(*out, tuple(false));
      add(*out, block(Ends{"elif", "else", "endif"}));
      if (skip_word("elif")) continue;
      if (skip_word("else"))
        add(*out, block("endif"));
      else
        take();
      break;
    }
    --soft_;
    return out;
  }

  Ptr for_statement(int line) {
    Ptr to = target(false, "in");
    expect_word("in");
    Ptr items = tuple(false, "recursive"), filter;
    if (skip_word("if")) filter = expression();
    if (at_word("recursive")) stop("{% for … recursive %} is not supported");
    const int soft = std::exchange(soft_, 0);
    ++loops_;
    Ptr inside = block(Ends{"endfor", "else"});
    --loops_;
    soft_ = soft;
    Ptr otherwise;
    if (take().text == "else") otherwise = block("endfor");
    return make_of(Op::for_, line, "", std::move(to), std::move(items), std::move(filter), std::move(inside),
                   std::move(otherwise));
  }

  Ptr set_statement(int line) {
    Ptr to = target(true);
    if (skip_op("=")) {
      Ptr value = tuple(true);
      return make_of(Op::set, line, "", std::move(to), std::move(value));
    }
    Ptr value = filters(make(Op::captured, line));
    Ptr text = block("endset");
    return make_of(Op::set_block, line, "", std::move(to), std::move(value), std::move(text));
  }

  Ptr macro_statement(int line) {
    Ptr out = make(Op::macro, line, name());
    std::vector<std::string> names;
    bool defaults = false;
    expect_op("(");
    while (!at_op(")")) {
      if (!names.empty()) expect_op(",");
      names.push_back(name());
      if (std::count(names.begin(), names.end(), names.back()) > 1) stop("the parameter ", names.back(), " twice");
      defaults = at_op("=") || defaults;
      if (defaults) expect_op("=");
      add(*out, defaults ? expression() : nullptr);
    }
    expect_op(")");
    const Inner inner(*this);
    const bool outer = std::exchange(in_macro_, true);
    add(*out, block("endmacro"));
    in_macro_ = outer;
    out->names = std::move(names);
    return out;
  }

  /// What an assignment sets: a name, an attribute of a namespace, a tuple of targets.
  Ptr target(bool members, std::string_view end = {}) {
    const auto one = [&]() -> Ptr {
      const Deeper deeper(*this);
      const int line = now().line;
      if (skip_op("(")) {
        Ptr out = target(members);
        expect_op(")");
        return out;
      }
      const std::string word = name();
      for (const char* reserved : {"true", "false", "none", "True", "False", "None"})
        if (word == reserved) stop("cannot assign to ", word);
      Ptr out = make(Op::name, line, word);
      if (members && skip_op(".")) out->op = Op::member, out->names = {name()};
      if (word == "loop" && (loops_ > 0 || end == "in")) stop("cannot assign to loop");
      return out;
    };
    Ptr first = one();
    if (!at_op(",")) return first;
    Ptr out = make_of(Op::tuple, first->line, "", std::move(first));
    while (skip_op(",") && !at_op("=") && !at_op(")") && !(!end.empty() && at_word(end)) &&
           now().type != Type::block_end)
      add(*out, one());
    return out;
  }

  int loops_ = 0;  // around this place, within the macro
};

}  // namespace

std::unique_ptr<Node> parse(std::string_view source) { return Parser(source).run(); }

}  // namespace qwerky::jinja
