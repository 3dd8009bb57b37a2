// SPDX-License-Identifier: MIT
#include "io/tokenizer_utf8.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/error.h"

namespace qwerky {

Utf8Step utf8_step(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(at);
  Utf8Step step;
  if (lead < 0x80) {
    step.code = static_cast<int32_t>(lead);
    step.valid = true;
    return step;
  }
  if (lead < 0xC2 || lead > 0xF4) return step;
  const int length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and codes above U+10FFFF.
  const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  int32_t code = static_cast<int32_t>(lead & (0x7Fu >> length));
  for (int i = 1; i < length; ++i) {
    if (at + static_cast<size_t>(i) >= text.size()) {
      step.length = i;
      step.incomplete = true;
      return step;
    }
    const unsigned next = byte(at + static_cast<size_t>(i));
    if (next < (i == 1 ? low : 0x80u) || next > (i == 1 ? high : 0xBFu)) {
      step.length = i;
      return step;
    }
    code = (code << 6) | static_cast<int32_t>(next & 0x3F);
  }
  return {code, length, true, false};
}

void append_utf8(std::string& out, int32_t code) {
  utf8proc_uint8_t bytes[4];
  const auto n = utf8proc_encode_char(code, bytes);
  CHECK(n > 0, "code point ", code);
  out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(n));
}

namespace {

/// Length of the valid prefix.
size_t valid_prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    uint64_t eight;
    if (at + 8 <= text.size()) {
      std::memcpy(&eight, text.data() + at, 8);
      if ((eight & 0x8080808080808080ULL) == 0) {
        at += 8;
        continue;
      }
    }
    const Utf8Step step = utf8_step(text, at);
    if (!step.valid) return at;
    at += static_cast<size_t>(step.length);
  }
  return at;
}

int combining_class(int32_t code) { return code < 0x300 ? 0 : utf8proc_get_property(code)->combining_class; }

}  // namespace

bool is_utf8(std::string_view text) { return valid_prefix(text) == text.size(); }

std::string_view valid_utf8(std::string_view text, std::string& storage) {
  size_t at = valid_prefix(text);
  if (at == text.size()) return text;
  storage.assign(text.substr(0, at));
  while (at < text.size()) {
    const Utf8Step step = utf8_step(text, at);
    if (step.valid) {
      storage.append(text.substr(at, static_cast<size_t>(step.length)));
    } else {
      storage.append("\xEF\xBF\xBD");
    }
    at += static_cast<size_t>(step.length);
  }
  return storage;
}

std::string_view nfc(std::string_view text, std::string& storage) {
  // Text whose characters all lie below U+0300 (lead byte below 0xCC) is in form C already.
  if (std::none_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0xCC; })) return text;
  std::vector<utf8proc_int32_t> codes;
  codes.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = utf8_step(text, at);
    at += static_cast<size_t>(step.length);
    if (step.code < 0xC0) {
      codes.push_back(step.code);
      continue;
    }
    // No canonical decomposition is longer than 4 code points.
    utf8proc_int32_t parts[8];
    int boundary = 0;
    const auto n = utf8proc_decompose_char(
        step.code, parts, 8, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE), &boundary);
    CHECK(n >= 0 && n <= 8, "decomposition of U+", step.code);
    codes.insert(codes.end(), parts, parts + n);
  }
  // Canonical ordering: each run of non-starters, stably by combining class.
  for (size_t i = 0; i < codes.size();) {
    if (combining_class(codes[i]) == 0) {
      ++i;
      continue;
    }
    size_t end = i + 1;
    while (end < codes.size() && combining_class(codes[end]) != 0) ++end;
    std::stable_sort(codes.begin() + static_cast<std::ptrdiff_t>(i), codes.begin() + static_cast<std::ptrdiff_t>(end),
                     [](int32_t a, int32_t b) { return combining_class(a) < combining_class(b); });
    i = end;
  }
  const auto n = utf8proc_normalize_utf32(codes.data(), static_cast<utf8proc_ssize_t>(codes.size()),
                                          static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  CHECK(n >= 0, "composition");
  storage.clear();
  storage.reserve(text.size());
  for (utf8proc_ssize_t i = 0; i < n; ++i) append_utf8(storage, codes[static_cast<size_t>(i)]);
  return storage;
}

bool is_space(int32_t code) {
  if (code < 0x80) return code == ' ' || (code >= 9 && code <= 13);
  if (code == 0x85) return true;
  const auto category = utf8proc_category(code);
  return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

bool is_word_char(int32_t code) {
  const auto category = utf8proc_category(code);
  return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NO) || category == UTF8PROC_CATEGORY_PC;
}

}  // namespace qwerky
