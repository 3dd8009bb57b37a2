// SPDX-License-Identifier: MIT
// The syntax tree of a template.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/jinja/value.h"

namespace qwerky::jinja {

/// What a node is, and its kids ("?": may be null).
enum class Op {
  // expressions
  constant,   // value
  name,       // text
  list,       // items
  tuple,      // items
  dict,       // key, value, key, value, …
  attribute,  // object; text
  item,       // object, key
  slice,      // object, begin?, end?, step?
  call,       // function, arguments; names: "" | keyword | "*" | "**" for each kid
  filter,     // input, arguments; text, names
  test,       // input, arguments; text, names
  captured,   // the text of the block that {% set %} puts into a variable
  negative,
  positive,
  not_,
  and_,
  or_,
  condition,  // value, test, otherwise?
  compare,    // left, right, …; names: the operator before each kid
  binary,     // left, right; text: the operator
  concat,     // parts
  // statements
  body,       // statements
  data,       // text
  print,      // expression
  if_,        // test, body, test, body, …, otherwise?
  for_,       // target, items, filter?, body, otherwise?
  set,        // target, expression
  set_block,  // target, expression over `captured`, body
  member,     // target of set: text of a namespace, names[0] of its attribute
  macro,      // default?, …, body; text, names: the parameters
  scope,      // body
  break_,
  continue_,
};

struct Node {
  Op op = Op::body;
  int line = 0;
  std::vector<std::unique_ptr<Node>> kids = {};
  std::string text = {};
  std::vector<std::string> names = {};
  Value value = {};
  int nesting = 1;
};

/// Throws Error that begins with "line N: ", for what Jinja refuses and for what is not supported here.
std::unique_ptr<Node> parse(std::string_view source);

/// Whether a filter or test of Jinja exists here.
enum class Known { yes, unsupported, no };
Known known_filter(const std::string& name);
Known known_test(const std::string& name);

}  // namespace qwerky::jinja
