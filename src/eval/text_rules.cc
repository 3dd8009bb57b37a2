// SPDX-License-Identifier: MIT
#include "eval/text_rules.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "io/tokenizer_utf8.h"

namespace qwerky {
namespace {

// Characters whose title case is more than one character: Unicode's SpecialCasing.txt, as "FROM=TO ".
constexpr std::string_view kTitles =
    " \u00DF=Ss \u0149=\u02BCN \u01F0=J\u030C \u0390=\u0399\u0308\u0301 \u03B0=\u03A5\u0308\u0301 "
    "\u0587=\u0535\u0582 \u1E96=H\u0331 \u1E97=T\u0308 \u1E98=W\u030A \u1E99=Y\u030A \u1E9A=A\u02BE "
    "\u1F50=\u03A5\u0313 \u1F52=\u03A5\u0313\u0300 \u1F54=\u03A5\u0313\u0301 \u1F56=\u03A5\u0313\u0342 "
    "\u1FB2=\u1FBA\u0345 \u1FB4=\u0386\u0345 \u1FB6=\u0391\u0342 \u1FB7=\u0391\u0342\u0345 \u1FC2=\u1FCA\u0345 "
    "\u1FC4=\u0389\u0345 \u1FC6=\u0397\u0342 \u1FC7=\u0397\u0342\u0345 \u1FD2=\u0399\u0308\u0300 "
    "\u1FD3=\u0399\u0308\u0301 \u1FD6=\u0399\u0342 \u1FD7=\u0399\u0308\u0342 \u1FE2=\u03A5\u0308\u0300 "
    "\u1FE3=\u03A5\u0308\u0301 \u1FE4=\u03A1\u0313 \u1FE6=\u03A5\u0342 \u1FE7=\u03A5\u0308\u0342 "
    "\u1FF2=\u1FFA\u0345 \u1FF4=\u038F\u0345 \u1FF6=\u03A9\u0342 \u1FF7=\u03A9\u0342\u0345 \uFB00=Ff \uFB01=Fi "
    "\uFB02=Fl \uFB03=Ffi \uFB04=Ffl \uFB05=St \uFB06=St \uFB13=\u0544\u0576 \uFB14=\u0544\u0565 "
    "\uFB15=\u0544\u056B \uFB16=\u054E\u0576 \uFB17=\u0544\u056D ";

// Unicode 3.13: what a capital sigma looks through, and what makes it final. Letters of title, upper and lower case;
// marks, modifiers, formats and the punctuation of word breaks.
bool is_cased(int32_t code) {
  const auto category = utf8proc_category(code);
  return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL || category == UTF8PROC_CATEGORY_LT;
}

bool is_case_ignorable(int32_t code) {
  switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK: return true;
    default:
      static constexpr int32_t kBreaks[] = {0x27,   0x2E,   0x3A,   0xB7,   0x387,  0x55F,  0x5F4,  0x2018, 0x2019,
                                            0x2024, 0x2027, 0xFE13, 0xFE52, 0xFE55, 0xFF07, 0xFF0E, 0xFF1A};
      return std::find(std::begin(kBreaks), std::end(kBreaks), code) != std::end(kBreaks);
  }
}

std::u32string codes_of(std::string_view text) {
  std::u32string codes;
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = utf8_step(text, at);
    codes.push_back(static_cast<char32_t>(step.code));
    at += static_cast<size_t>(step.length);
  }
  return codes;
}

bool is_final_sigma(const std::u32string& codes, size_t at) {
  size_t before = at;
  while (before > 0 && is_case_ignorable(static_cast<int32_t>(codes[before - 1]))) --before;
  if (before == 0 || !is_cased(static_cast<int32_t>(codes[before - 1]))) return false;
  size_t after = at + 1;
  while (after < codes.size() && is_case_ignorable(static_cast<int32_t>(codes[after]))) ++after;
  return after == codes.size() || !is_cased(static_cast<int32_t>(codes[after]));
}

void append_lower(std::string& out, const std::u32string& codes, size_t at) {
  const auto code = static_cast<int32_t>(codes[at]);
  if (code == 0x3A3) return append_utf8(out, is_final_sigma(codes, at) ? 0x3C2 : 0x3C3);
  if (code == 0x130) {  // the one whose lower case is two characters
    out += "i\u0307";
    return;
  }
  append_utf8(out, utf8proc_tolower(code));
}

void append_title(std::string& out, int32_t code) {
  std::string key = " ";
  append_utf8(key, code);
  key += '=';
  if (const size_t found = kTitles.find(key); found != kTitles.npos && code > 0x7F) {
    const size_t begin = found + key.size();
    out += kTitles.substr(begin, kTitles.find(' ', begin) - begin);
  } else {
    append_utf8(out, utf8proc_totitle(code));
  }
}

/// `open`, space, what is inside, space, `close` loses the spaces; the inside holds no `close`.
std::string tighten(std::string_view text, char open, char close) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = text.find(open, at);
    const size_t end = begin == text.npos ? text.npos : text.find(close, begin + 1);
    if (end == text.npos) return out += text.substr(at);
    out += text.substr(at, begin + 1 - at);
    out += python_strip(text.substr(begin + 1, end - begin - 1));
    out += close;
    at = end + 1;
  }
  return out;
}

}  // namespace

int64_t code_points(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

bool is_python_space(int32_t code) {
  return (code >= 0x09 && code <= 0x0D) || (code >= 0x1C && code <= 0x20) || code == 0x85 || code == 0xA0 ||
         code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F ||
         code == 0x205F || code == 0x3000;
}

std::string_view python_lstrip(std::string_view text) {
  while (!text.empty()) {
    const Utf8Step step = utf8_step(text, 0);
    if (!is_python_space(step.code)) break;
    text.remove_prefix(static_cast<size_t>(step.length));
  }
  return text;
}

std::string_view python_strip(std::string_view text) { return python_rstrip(python_lstrip(text)); }

std::string_view python_rstrip(std::string_view text) {
  while (!text.empty()) {
    size_t at = text.size() - 1;
    while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
    if (!is_python_space(utf8_step(text, at).code)) break;
    text.remove_suffix(text.size() - at);
  }
  return text;
}

std::string python_lower(std::string_view text) {
  const std::u32string codes = codes_of(text);
  std::string out;
  for (size_t i = 0; i < codes.size(); ++i) append_lower(out, codes, i);
  return out;
}

std::string python_capitalize(std::string_view text) {
  const std::u32string codes = codes_of(text);
  std::string out;
  if (!codes.empty()) append_title(out, static_cast<int32_t>(codes[0]));
  for (size_t i = 1; i < codes.size(); ++i) append_lower(out, codes, i);
  return out;
}

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (;;) {
    const size_t found = text.find(from);
    out += text.substr(0, found);
    if (found == text.npos) return out;
    out += to;
    text.remove_prefix(found + from.size());
  }
}

std::string hellaswag_clean(std::string_view text) {
  const std::string titled = replace_all(python_strip(text), " [title]", ". ");
  std::string kept;
  for (size_t at = 0; at < titled.size();) {
    const size_t open = titled.find('[', at);
    const size_t close = open == titled.npos ? titled.npos : titled.find_first_of("]\n", open);
    kept.append(titled, at, open == titled.npos ? open : open - at);
    if (open == titled.npos) break;
    if (close != titled.npos && titled[close] == ']') {
      at = close + 1;
    } else {  // no end on this line: the bracket stays
      kept += '[';
      at = open + 1;
    }
  }
  return replace_all(kept, "  ", " ");
}

std::string wikitext_detokenize(std::string_view page) {
  std::string s = replace_all(page, "s '", "s'");
  // The pattern `/' [0-9]/` and its replacement, taken as they are written: the digit becomes the text "[0-9]".
  for (size_t at = s.find("/' "); at != s.npos; at = s.find("/' ", at + 1))
    if (at + 4 < s.size() && s[at + 3] >= '0' && s[at + 3] <= '9' && s[at + 4] == '/') {
      s.replace(at, 5, "/'[0-9]/");
      at += 7;
    }
  using Pair = std::pair<const char*, const char*>;
  for (const auto& [from, to] : {Pair{" @-@ ", "-"},
                                 {" @,@ ", ","},
                                 {" @.@ ", "."},
                                 {" : ", ": "},
                                 {" ; ", "; "},
                                 {" . ", ". "},
                                 {" ! ", "! "},
                                 {" ? ", "? "},
                                 {" , ", ", "}})
    s = replace_all(s, from, to);
  for (const char* pair : {"()", "[]", "{}", "\"\"", "''"}) s = tighten(s, pair[0], pair[1]);
  for (const auto& [from, to] : {Pair{"= = = =", "===="},
                                 {"= = =", "==="},
                                 {"= =", "=="},
                                 {" \u00B0 ", "\u00B0"},
                                 {" \n", "\n"},
                                 {"\n ", "\n"},
                                 {" N ", " 1 "},
                                 {" 's", "'s"}})
    s = replace_all(s, from, to);
  return s;
}

}  // namespace qwerky
