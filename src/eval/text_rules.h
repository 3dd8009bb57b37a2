// SPDX-License-Identifier: MIT
// Text as Python's str methods treat it: on code points, with Unicode's case rules. All texts are valid UTF-8.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace qwerky {

/// len(s): code points.
int64_t code_points(std::string_view text);

/// str.isspace of one character, which is also \s of `re`.
bool is_python_space(int32_t code);
std::string_view python_strip(std::string_view text);
std::string_view python_lstrip(std::string_view text);
std::string_view python_rstrip(std::string_view text);

/// str.lower()
std::string python_lower(std::string_view text);
/// str.capitalize(): the first character in title case, all others in lower case.
std::string python_capitalize(std::string_view text);

/// str.replace(from, to): left to right, without overlap, once.
std::string replace_all(std::string_view text, std::string_view from, std::string_view to);

/// What lm-eval does to HellaSwag's contexts and endings: strip, " [title]" to ". ", remove "[…]" within a line, and
/// halve runs of spaces once.
std::string hellaswag_clean(std::string_view text);

/// What lm-eval does to a WikiText page before scoring it: takes back the tokeniser's spaces around punctuation.
std::string wikitext_detokenize(std::string_view page);

}  // namespace qwerky
