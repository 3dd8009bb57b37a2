// SPDX-License-Identifier: MIT
// UTF-8 as tokenizers need it: scanning, replacing what is invalid, NFC.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace qwerky {

/// One step through bytes that may not be UTF-8.
struct Utf8Step {
  int32_t code = 0xFFFD;  ///< U+FFFD where invalid
  int length = 1;  ///< bytes: the character, or the maximal subpart of an ill-formed one (Unicode 3.9, table 3-8)
  bool valid = false;
  bool incomplete = false;  ///< the bytes end inside a character that is well-formed so far
};
Utf8Step utf8_step(std::string_view text, size_t at);

void append_utf8(std::string& out, int32_t code);

bool is_utf8(std::string_view text);

/// `text` itself when it is UTF-8; else a copy in `storage` with each ill-formed subpart as U+FFFD.
std::string_view valid_utf8(std::string_view text, std::string& storage);

/// Unicode normalisation form C of valid UTF-8, in O(n log n) even for long runs of combining marks.
/// Returns `text` itself when nothing can change, else a view of `storage`.
std::string_view nfc(std::string_view text, std::string& storage);

bool is_space(int32_t code);      ///< Unicode White_Space
bool is_word_char(int32_t code);  ///< letter, mark, number or connector punctuation: \w of regular expressions

}  // namespace qwerky
