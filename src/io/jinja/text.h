// SPDX-License-Identifier: MIT
// Python's str on UTF-8: characters are code points. All texts here are valid UTF-8.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qwerky::jinja {

int64_t length(std::string_view text);  ///< in characters
std::vector<std::string_view> characters(std::string_view text);
/// Bytes of the characters [begin, end), 0 <= begin <= end <= length.
std::string_view characters(std::string_view text, int64_t begin, int64_t end);

bool is_python_space(int32_t code);  ///< str.isspace: White_Space and U+001C to U+001F
/// Without characters of `chars` (none given: white space) at its ends.
std::string_view strip(std::string_view text, bool left, bool right, std::optional<std::string_view> chars = {});

std::string upper(std::string_view text);
std::string lower(std::string_view text);
/// First character in title case, the rest in lower case.
std::string capitalize(std::string_view text);
/// str.title(): what follows a character without case begins a word.
std::string title(std::string_view text);
/// str.isupper(), str.islower(): some character has case, and none the other one.
bool is_upper(std::string_view text);
bool is_lower(std::string_view text);

/// Position of `part` in time linear in the text; npos if it is absent.
size_t find_text(std::string_view text, std::string_view part, size_t from = 0);
size_t rfind_text(std::string_view text, std::string_view part);
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);

std::string repr(std::string_view text);                     ///< repr(str)
std::string json_quoted(std::string_view text, bool ascii);  ///< json.dumps(str)
std::string escaped(std::string_view text);                  ///< markupsafe.escape
std::string number_text(double value);                       ///< repr(float)
/// int(text, base) and float(text); nothing where Python raises ValueError. Throws Error for what 64 bits cannot hold
/// and for digits outside ASCII.
std::optional<int64_t> parse_integer(std::string_view text, int base);
std::optional<double> parse_real(std::string_view text);

}  // namespace qwerky::jinja
