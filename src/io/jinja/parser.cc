// SPDX-License-Identifier: MIT
// Recursive descent over Jinja's grammar; the order of the functions is the order of precedence.
#include "io/jinja/parser.h"

#include <algorithm>

#include "io/jinja/lexer.h"
#include "io/jinja/text.h"

namespace qwerky::jinja {
namespace {

using Type = Token::Type;
using Ptr = std::unique_ptr<Node>;
using Ends = std::vector<std::string_view>;  // names of the tags that end a block

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokens_of(source)) {}

  Ptr run() {
    Ptr root = body({});
    return root;
  }

 private:
  // ---- tokens
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

  // ---- nodes
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
    explicit Deeper(const Parser& parser) : depth(parser.depth_) {
      if (++depth > Limits::kNesting) --depth, parser.stop("nested more than ", Limits::kNesting, " deep");
    }
    ~Deeper() { --depth; }
    int& depth;
  };

  // ---- statements
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
    if (tag == "call") return call_statement(line);
    if (tag == "with") return with_statement(line);
    if (tag == "filter") {
      Ptr f = filters(make(Op::captured, line), true);
      Ptr text = block("endfilter");
      return make_of(Op::filter_block, line, "", std::move(f), std::move(text));
    }
    if (tag == "generation") {  // transformers marks the assistant's tokens with it; it prints its body
      const Inner inner(*this);
      return make_of(Op::scope, line, "", block("endgeneration"));
    }
    if (tag == "print") {
      Ptr out = make(Op::body, line);
      while (now().type != Type::block_end) {
        if (!out->kids.empty()) expect_op(",");
        add(*out, make_of(Op::print, line, "", expression()));
      }
      return out;
    }
    if (tag == "break" || tag == "continue") {
      if (loops_ == 0) stop("{% ", tag, " %} outside a loop");
      return make(tag == "break" ? Op::break_ : Op::continue_, line);
    }
    for (const char* other : {"include", "import", "from", "extends", "block", "autoescape"})
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
    const bool outer = std::exchange(asks_loop_, false);
    ++loops_;
    Ptr inside = block(Ends{"endfor", "else"});
    --loops_;
    const bool asks = std::exchange(asks_loop_, outer || asks_loop_);
    soft_ = soft;
    Ptr otherwise;
    if (take().text == "else") otherwise = block("endfor");
    Ptr out = make_of(Op::for_, line, "", std::move(to), std::move(items), std::move(filter), std::move(inside),
                      std::move(otherwise));
    out->flag = asks;
    return out;
  }

  Ptr set_statement(int line) {
    Ptr to = target(true);
    if (skip_op("=")) {
      Ptr value = tuple(true);
      return make_of(Op::set, line, "", std::move(to), std::move(value));
    }
    Ptr value = filters(make(Op::captured, line), false);
    Ptr text = block("endset");
    return make_of(Op::set_block, line, "", std::move(to), std::move(value), std::move(text));
  }

  /// (a, b=1) into `macro`, then its body.
  void signature(Node& macro, bool required, std::string_view end) {
    std::vector<std::string> names;
    bool defaults = false;
    if (required || at_op("(")) {
      expect_op("(");
      while (!at_op(")")) {
        if (!names.empty()) expect_op(",");
        names.push_back(name());
        if (std::count(names.begin(), names.end(), names.back()) > 1) stop("the parameter ", names.back(), " twice");
        if (names.back() == "caller" || names.back() == "varargs" || names.back() == "kwargs")
          stop("a parameter called ", names.back(), " is not supported");
        defaults = at_op("=") || defaults;
        if (defaults) expect_op("=");
        add(macro, defaults ? expression() : nullptr);
      }
      expect_op(")");
    }
    if (Ptr called = end == "endcall" ? expression() : nullptr) {
      if (called->op != Op::call) stop("{% call %} needs the call of a macro");
      caller_ = std::move(called);
    }
    const Inner inner(*this);
    const auto outer = std::exchange(specials_, {});
    add(macro, block(end));
    macro.parameters = names.size();
    names.insert(names.end(), specials_.begin(), specials_.end());
    macro.names = std::move(names);
    specials_ = outer;
  }

  Ptr macro_statement(int line) {
    Ptr out = make(Op::macro, line, name());
    signature(*out, true, "endmacro");
    return out;
  }

  Ptr call_statement(int line) {
    Ptr macro = make(Op::macro, line, "caller");
    Ptr outer = std::move(caller_);
    signature(*macro, false, "endcall");
    Ptr called = std::exchange(caller_, std::move(outer));
    return make_of(Op::call_block, line, "", std::move(called), std::move(macro));
  }

  Ptr with_statement(int line) {
    Ptr out = make(Op::with, line);
    while (now().type != Type::block_end) {
      if (!out->kids.empty()) expect_op(",");
      add(*out, target(false));
      expect_op("=");
      add(*out, expression());
    }
    add(*out, block("endwith"));
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

  // ---- expressions
  /// An expression, or several with commas: a tuple.
  Ptr tuple(bool conditions, std::string_view end = {}, bool parentheses = false) {
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

  Ptr expression() {
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

  Ptr either() {
    Ptr left = both();
    while (skip_word("or")) left = make_of(Op::or_, left->line, "", std::move(left), both());
    return left;
  }

  Ptr both() {
    Ptr left = negation();
    while (skip_word("and")) left = make_of(Op::and_, left->line, "", std::move(left), negation());
    return left;
  }

  Ptr negation() {
    const Deeper deeper(*this);
    const int line = now().line;
    if (skip_word("not")) return make_of(Op::not_, line, "", negation());
    return comparison();
  }

  Ptr comparison() {
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

  using Rule = Ptr (Parser::*)();
  Ptr left_to_right(std::initializer_list<const char*> ops, Rule part) {
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
  Ptr sum() { return left_to_right({"+", "-"}, &Parser::concatenation); }
  Ptr product() { return left_to_right({"*", "/", "//", "%"}, &Parser::power); }
  Ptr power() { return left_to_right({"**"}, &Parser::filtered_unary); }

  Ptr concatenation() {
    Ptr first = product();
    if (!at_op("~")) return first;
    Ptr out = make_of(Op::concat, first->line, "", std::move(first));
    while (skip_op("~")) add(*out, product());
    return out;
  }

  Ptr filtered_unary() { return unary(true); }
  Ptr unary(bool filtered) {
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

  Ptr constant(int line, Value value) {
    Ptr out = make(Op::constant, line);
    out->value = std::move(value);
    return out;
  }

  Ptr primary() {
    const Token t = now();
    if (t.type == Type::name) {
      take();
      if (t.text == "true" || t.text == "True") return constant(t.line, true);
      if (t.text == "false" || t.text == "False") return constant(t.line, false);
      if (t.text == "none" || t.text == "None") return constant(t.line, {});
      if (t.text == "loop") asks_loop_ = true;
      for (const char* special : {"caller", "varargs", "kwargs"})
        if (t.text == special && std::count(specials_.begin(), specials_.end(), special) == 0)
          specials_.emplace_back(special);
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

  Ptr number() {
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

  Ptr postfix(Ptr out) {
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

  Ptr subscript(Ptr object, int line) {
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

  void arguments(Node& call) {
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

  std::string checked(const char* what, Known (*known)(const std::string&)) {
    const int line = now().line;
    std::string full = name();
    while (skip_op(".")) full += "." + name();
    if (const Known k = known(full); k != Known::yes && soft_ == 0 && unknown_.empty())
      unknown_ = concat("line ", line, ": the ", what, " \"", full,
                        k == Known::no ? "\" is not known" : "\" is not supported");
    return full;
  }

  /// | name(arguments) …; `bare`: the first one comes without its bar.
  Ptr filters(Ptr out, bool bare) {
    while (bare || skip_op("|")) {
      bare = false;
      const int line = now().line;
      std::string filter = checked("filter", known_filter);
      out = make_of(Op::filter, line, std::move(filter), std::move(out));
      if (at_op("(")) arguments(*out);
    }
    return out;
  }

  Ptr filters_and_tests(Ptr out) {
    while (true) {
      const int line = now().line;
      if (at_op("|")) {
        out = filters(std::move(out), false);
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

  Ptr test(Ptr input, int line) {
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

  std::vector<Token> tokens_;
  size_t at_ = 0;
  mutable int depth_ = 0;
  int loops_ = 0;                      // around this place, within the macro
  int soft_ = 0;                       // conditions around this place: filters and tests may be unknown
  std::string unknown_;                // why the statement is refused, unless its unknown filter stands in a condition
  bool asks_loop_ = false;             // the name `loop` was read in the body of the current for
  std::vector<std::string> specials_;  // caller, varargs, kwargs: read in the current macro
  Ptr caller_;
};

}  // namespace

std::unique_ptr<Node> parse(std::string_view source) { return Parser(source).run(); }

}  // namespace qwerky::jinja
