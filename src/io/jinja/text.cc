// SPDX-License-Identifier: MIT
#include "io/jinja/text.h"

#include <utf8proc.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "io/tokenizer_utf8.h"

namespace qwerky::jinja {
namespace {

bool begins_character(char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }

utf8proc_category_t category(int32_t code) { return utf8proc_category(code); }

/// Unicode's Cased: the cased letters, and the signs that map to another case (Roman numerals, circled letters).
bool is_cased(int32_t code) {
  const auto c = category(code);
  if (c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT) return true;
  return (c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_SO) &&
         (utf8proc_toupper(code) != code || utf8proc_tolower(code) != code);
}

/// Unicode's Case_Ignorable, which the rule for a final sigma looks through.
bool is_case_ignorable(int32_t code) {
  for (int32_t c : {0x27, 0x2E, 0x3A, 0xB7, 0x387, 0x55F, 0x5F4, 0x2018, 0x2019, 0x2024, 0x2027, 0xFE13, 0xFE52, 0xFE55,
                    0xFF07, 0xFF0E, 0xFF1A})
    if (code == c) return true;
  const auto c = category(code);
  return c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_ME || c == UTF8PROC_CATEGORY_CF ||
         c == UTF8PROC_CATEGORY_LM || c == UTF8PROC_CATEGORY_SK;
}

/// Appends `code` in upper case, or in title case as the first letter of a word.
void append_upper(std::string& out, int32_t code, bool title) {
  const int32_t single = title ? utf8proc_totitle(code) : utf8proc_toupper(code);
  std::array<utf8proc_int32_t, 8> folded;
  int boundary = 0;
  utf8proc_ssize_t n = 0;
  if (code >= 0x80 && category(code) != UTF8PROC_CATEGORY_LU && !(title && single != code && code != 0xDF))
    n = utf8proc_decompose_char(code, folded.data(), folded.size(), UTF8PROC_CASEFOLD, &boundary);
  if (n < 2) return append_utf8(out, single);
  // Sharp s (0xDF), ligatures and their like have a long case folding: their special upper case is that of the folding.
  for (size_t i = 0; i < static_cast<size_t>(n); ++i)
    append_utf8(out, title && i > 0 ? folded[i] : utf8proc_toupper(folded[i]));
}

template <class F>
void each(std::string_view text, const F& f) {
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = utf8_step(text, at);
    f(at, step);
    at += static_cast<size_t>(step.length);
  }
}

/// Characters go in one by one; those that append() gets come out in lower case.
class Lowering {
 public:
  Lowering(std::string& out, std::string_view text) : out_(out), text_(text) {}
  void pass(const Utf8Step& step) {
    if (!is_case_ignorable(step.code)) cased_before_ = is_cased(step.code);
  }
  void append(size_t at, const Utf8Step& step) {
    if (step.code == 0x130) {
      out_ += "i\xCC\x87";  // the dot stays
    } else if (step.code == 0x3A3) {
      append_utf8(out_, cased_before_ && !cased_after(at + static_cast<size_t>(step.length)) ? 0x3C2 : 0x3C3);
    } else {
      append_utf8(out_, utf8proc_tolower(step.code));
    }
    pass(step);
  }

 private:
  bool cased_after(size_t at) const {
    while (at < text_.size()) {
      const Utf8Step step = utf8_step(text_, at);
      if (!is_case_ignorable(step.code)) return is_cased(step.code);
      at += static_cast<size_t>(step.length);
    }
    return false;
  }
  std::string& out_;
  std::string_view text_;
  bool cased_before_ = false;  // Greek sigma ends a word: a cased letter before it, none behind it
};

void append_hex(std::string& out, const char* format, int32_t code) {
  std::array<char, 16> hex;
  std::snprintf(hex.data(), hex.size(), format, static_cast<unsigned>(code));
  out += hex.data();
}

bool is_ascii(std::string_view text) {
  for (char c : text)
    if (static_cast<unsigned char>(c) >= 0x80) return false;
  return true;
}

/// Trimmed, in lower case, without the underscores that Python allows between digits; nothing where they stand
/// elsewhere.
std::optional<std::string> digits_of(std::string_view text) {
  text = strip(text, true, true);
  if (!is_ascii(text)) fail("digits outside ASCII in ", repr(text), " are not supported");
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += static_cast<char>(std::tolower(static_cast<unsigned char>(text[i])));
    } else if (i == 0 || i + 1 == text.size() || std::isalnum(static_cast<unsigned char>(text[i - 1])) == 0 ||
               std::isalnum(static_cast<unsigned char>(text[i + 1])) == 0) {
      return std::nullopt;
    }
  }
  return out;
}

}  // namespace

int64_t length(std::string_view text) {
  int64_t n = 0;
  for (char c : text) n += begins_character(c) ? 1 : 0;
  return n;
}

std::string_view characters(std::string_view text, int64_t begin, int64_t end) {
  size_t at = 0;
  const auto skip = [&](int64_t n) {
    for (; n > 0; --n) do
        ++at;
      while (at < text.size() && !begins_character(text[at]));
    return at;
  };
  const size_t first = skip(begin);
  return text.substr(first, skip(end - begin) - first);
}

std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> out;
  each(text, [&](size_t at, const Utf8Step& s) { out.push_back(text.substr(at, static_cast<size_t>(s.length))); });
  return out;
}

bool is_python_space(int32_t code) { return is_space(code) || (code >= 0x1C && code <= 0x1F); }

std::string_view strip(std::string_view text, bool left, bool right, std::optional<std::string_view> chars) {
  const auto goes = [&](size_t at) {
    const Utf8Step step = utf8_step(text, at);
    return chars ? find_text(*chars, text.substr(at, static_cast<size_t>(step.length))) != chars->npos
                 : is_python_space(step.code);
  };
  size_t begin = 0, end = text.size();
  while (left && begin < end && goes(begin)) begin += static_cast<size_t>(utf8_step(text, begin).length);
  while (right && begin < end) {
    size_t last = end - 1;
    while (!begins_character(text[last])) --last;
    if (!goes(last)) break;
    end = last;
  }
  return text.substr(begin, end - begin);
}

std::string upper(std::string_view text) {
  std::string out;
  each(text, [&](size_t, const Utf8Step& s) { append_upper(out, s.code, false); });
  return out;
}

std::string lower(std::string_view text) {
  std::string out;
  Lowering lowering(out, text);
  each(text, [&](size_t at, const Utf8Step& s) { lowering.append(at, s); });
  return out;
}

namespace {

/// Title case for the first character, and with `words` for each that follows one without case; the rest in lower case.
std::string titled(std::string_view text, bool words) {
  std::string out;
  Lowering lowering(out, text);
  bool begins = true;
  each(text, [&](size_t at, const Utf8Step& s) {
    if (begins) {
      append_upper(out, s.code, true);
      lowering.pass(s);
    } else {
      lowering.append(at, s);
    }
    begins = words && !is_cased(s.code);
  });
  return out;
}

}  // namespace

std::string capitalize(std::string_view text) { return titled(text, false); }
std::string title(std::string_view text) { return titled(text, true); }

namespace {

bool has_only_case(std::string_view text, bool want_upper) {
  bool some = false, other = false;
  each(text, [&](size_t, const Utf8Step& s) {
    if (!is_cased(s.code)) return;
    const auto c = category(s.code);
    const bool is_up = c == UTF8PROC_CATEGORY_LU || (c != UTF8PROC_CATEGORY_LL && utf8proc_tolower(s.code) != s.code);
    (c != UTF8PROC_CATEGORY_LT && is_up == want_upper ? some : other) = true;
  });
  return some && !other;
}

}  // namespace

bool is_upper(std::string_view text) { return has_only_case(text, true); }
bool is_lower(std::string_view text) { return has_only_case(text, false); }

size_t find_text(std::string_view text, std::string_view part, size_t from) {
  if (from > text.size()) return text.npos;
  if (part.empty()) return from;
  const void* at = ::memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return at == nullptr ? text.npos : static_cast<size_t>(static_cast<const char*>(at) - text.data());
}

size_t rfind_text(std::string_view text, std::string_view part) {
  const std::string back(text.rbegin(), text.rend()), part_back(part.rbegin(), part.rend());
  const size_t at = find_text(back, part_back);
  return at == text.npos ? at : text.size() - at - part.size();
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> out;
  size_t begin = 0, skip_to = 0;
  each(text, [&](size_t at, const Utf8Step& s) {
    const int32_t c = s.code;
    if (at < skip_to) return;
    if (!((c >= 0xA && c <= 0xD) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029)) return;
    size_t end = at + static_cast<size_t>(s.length);
    if (c == '\r' && end < text.size() && text[end] == '\n') ++end;
    out.push_back(text.substr(begin, (keep_ends ? end : at) - begin));
    begin = skip_to = end;
  });
  if (begin < text.size()) out.push_back(text.substr(begin));
  return out;
}

std::string repr(std::string_view text) {
  const char quote = text.find('\'') != text.npos && text.find('"') == text.npos ? '"' : '\'';
  std::string out(1, quote);
  each(text, [&](size_t, const Utf8Step& s) {
    const int32_t c = s.code;
    const auto kind = category(c);
    if (c == quote || c == '\\') {
      (out += '\\') += static_cast<char>(c);
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
    } else if (c == ' ' || (kind != UTF8PROC_CATEGORY_CN && kind < UTF8PROC_CATEGORY_ZS)) {
      append_utf8(out, c);
    } else {  // separators, control, format, private and unassigned characters
      append_hex(out, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
    }
  });
  return out + quote;
}

std::string json_quoted(std::string_view text, bool ascii) {
  std::string out = "\"";
  each(text, [&](size_t at, const Utf8Step& s) {
    const int32_t c = s.code;
    constexpr std::string_view kNamed = "\"\\\n\r\t\f\b", kLetter = "\"\\nrtfb";
    if (const size_t i = c < 0x80 ? kNamed.find(static_cast<char>(c)) : kNamed.npos; i != kNamed.npos) {
      (out += '\\') += kLetter[i];
    } else if (c < 0x20 || (ascii && c > 0x7E && c < 0x10000)) {
      append_hex(out, "\\u%04x", c);
    } else if (ascii && c >= 0x10000) {
      append_hex(out, "\\u%04x", 0xD800 + ((c - 0x10000) >> 10));
      append_hex(out, "\\u%04x", 0xDC00 + ((c - 0x10000) & 0x3FF));
    } else {
      out += text.substr(at, static_cast<size_t>(s.length));
    }
  });
  return out + '"';
}

std::string escaped(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&#34;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string number_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 40> digits;
  const double size = std::abs(value);
  const bool plain = size == 0 || (size >= 1e-4 && size < 1e16);
  const auto end = std::to_chars(digits.begin(), digits.end(), value,
                                 plain ? std::chars_format::fixed : std::chars_format::scientific);
  std::string out(digits.begin(), end.ptr);
  if (plain && out.find('.') == out.npos) out += ".0";
  return out;
}

std::optional<int64_t> parse_integer(std::string_view text, int base) {
  auto digits = digits_of(text);
  if (!digits) return std::nullopt;
  std::string_view s = *digits;
  const bool negative = s.starts_with('-');
  if (negative || s.starts_with('+')) s.remove_prefix(1);
  for (const auto& [mark, radix] : {std::pair("0x", 16), {"0o", 8}, {"0b", 2}})
    if ((base == radix || base == 0) && s.starts_with(mark)) s.remove_prefix(2), base = radix;
  if (base == 0) {  // as a literal: no leading zeros
    if (s.size() > 1 && s[0] == '0' && s.find_first_not_of('0') != s.npos) return std::nullopt;
    base = 10;
  }
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), value, base);
  if (s.empty() || end != s.data() + s.size() || error == std::errc::invalid_argument) return std::nullopt;
  if (error != std::errc() || value > static_cast<uint64_t>(INT64_MAX))
    fail("the number ", s.substr(0, 40), " needs more than 64 bits");
  return negative ? -static_cast<int64_t>(value) : static_cast<int64_t>(value);
}

std::optional<double> parse_real(std::string_view text) {
  const auto digits = digits_of(text);
  if (!digits) return std::nullopt;
  std::string_view s = *digits;
  const bool negative = s.starts_with('-');
  if (negative || s.starts_with('+')) s.remove_prefix(1);
  if (s.empty() || s[0] == '-' || s.starts_with("nan(")) return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), value);
  if (end != s.data() + s.size() || error == std::errc::invalid_argument) return std::nullopt;
  if (error != std::errc()) value = std::strtod(std::string(s).c_str(), nullptr);  // infinite or zero
  return negative ? -value : value;
}

}  // namespace qwerky::jinja
