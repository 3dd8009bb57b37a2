// SPDX-License-Identifier: MIT
// A template's text as tokens, white space trimmed as transformers asks Jinja to (trim_blocks, lstrip_blocks).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qwerky::jinja {

struct Token {
  enum class Type { data, print_begin, print_end, block_begin, block_end, name, text, integer, real, op, end };
  Type type = Type::end;
  std::string text;  ///< of data, a name, a literal's value or an operator
  int line = 1;
};

/// Throws Error that begins with "line N: ".
std::vector<Token> tokens_of(std::string_view source);

}  // namespace qwerky::jinja
