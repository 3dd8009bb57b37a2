// SPDX-License-Identifier: MIT
#define PCRE2_CODE_UNIT_WIDTH 8
#include "io/pretokenizer.h"

#include <pcre2.h>
#include <utf8proc.h>

#include <algorithm>

#include "base/error.h"
#include "io/files.h"
#include "io/tokenizer_utf8.h"

namespace qwerky {

namespace {

constexpr size_t kLongestPattern = 64 * 1024;

struct MatchData {
  pcre2_match_data* data = nullptr;
  pcre2_match_context* context = nullptr;
  MatchData() : data(pcre2_match_data_create(1, nullptr)), context(pcre2_match_context_create(nullptr)) {
    CHECK(data != nullptr && context != nullptr, "out of memory");
  }
  ~MatchData() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
  }
  MatchData(const MatchData&) = delete;
  MatchData& operator=(const MatchData&) = delete;
};

MatchData& match_data() {
  thread_local MatchData data;
  return data;
}

/// PCRE2's \s also takes U+180E, which left White_Space in Unicode 6.3: spells \s and \S out as sets.
std::string with_unicode_spaces(std::string_view pattern) {
  std::string out;
  bool in_set = false;
  size_t set_begin = 0;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char next = pattern[++i];
      if (next == 's') {
        out += in_set ? R"(\t-\r\x{85}\p{Z})" : R"([\t-\r\x{85}\p{Z}])";
      } else if (next == 'S' && !in_set) {
        out += R"([^\t-\r\x{85}\p{Z}])";
      } else {
        out += c;
        out += next;
      }
      continue;
    }
    if (!in_set && c == '[') {
      in_set = true;
      set_begin = i + 1;
      if (set_begin < pattern.size() && pattern[set_begin] == '^') ++set_begin;
    } else if (in_set && c == ']' && i > set_begin) {
      in_set = false;
    }
    out += c;
  }
  return out;
}

}  // namespace

struct Pattern::Compiled {
  pcre2_code* code = nullptr;
  std::string name;
  bool jit = false;
  ~Compiled() { pcre2_code_free(code); }
};

Pattern::Pattern(std::string_view pattern, bool literal, const std::string& name)
    : compiled_(std::make_unique<Compiled>()) {
  if (pattern.empty() || pattern.size() > kLongestPattern)
    fail(name, ": pre-tokenizer pattern has ", pattern.size(), " bytes, expected 1 to ", kLongestPattern);
  if (!is_utf8(pattern)) fail(name, ": pre-tokenizer pattern is not UTF-8");
  const std::string text = literal ? std::string(pattern) : with_unicode_spaces(pattern);
  uint32_t options = PCRE2_UTF | PCRE2_NO_UTF_CHECK;
  options |= literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
  int error = 0;
  PCRE2_SIZE offset = 0;
  compiled_->name = name;
  compiled_->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), options, &error, &offset, nullptr);
  if (compiled_->code == nullptr) {
    char message[256] = "";
    pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof message);
    fail(name, ": pre-tokenizer pattern \"", pattern, "\": ", message, " near byte ", offset);
  }
  compiled_->jit = pcre2_jit_compile(compiled_->code, PCRE2_JIT_COMPLETE) == 0;
}

Pattern::~Pattern() = default;
Pattern::Pattern(Pattern&&) noexcept = default;

Pattern::Scan::Scan(const Pattern& pattern, std::string_view text) : pattern_(pattern), text_(text) {}

bool Pattern::Scan::next(size_t& begin, size_t& end) {
  MatchData& match = match_data();
  // Room for a few passes over the text per match; a pattern that needs more is refused instead of hanging.
  pcre2_set_match_limit(match.context,
                        static_cast<uint32_t>(std::min<size_t>(10'000'000 + 8 * text_.size(), 2'000'000'000)));
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text_.data());
  while (at_ < text_.size()) {
    const Compiled& compiled = *pattern_.compiled_;
    const int found =
        compiled.jit
            ? pcre2_jit_match(compiled.code, subject, text_.size(), at_, 0, match.data, match.context)
            : pcre2_match(compiled.code, subject, text_.size(), at_, PCRE2_NO_UTF_CHECK, match.data, match.context);
    if (found == PCRE2_ERROR_NOMATCH) return false;
    if (found < 0) {
      char message[256] = "";
      pcre2_get_error_message(found, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof message);
      fail(compiled.name, ": pre-tokenizer pattern gave up on a text of ", text_.size(), " bytes: ", message);
    }
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.data);
    begin = range[0];
    end = range[1];
    if (begin < at_ || end < begin) fail(compiled.name, ": pre-tokenizer pattern moves a match backwards (\\K)");
    if (end > begin) {
      at_ = end;
      return true;
    }
    at_ = begin + (begin < text_.size() ? static_cast<size_t>(utf8_step(text_, begin).length) : 1);
  }
  return false;
}

void PreTokenizer::describe(const std::string& step) { description_ += (description_.empty() ? "" : ",") + step; }

void PreTokenizer::add_split(std::string_view pattern, bool literal, bool keep_between, const std::string& name) {
  steps_.push_back({Step::kSplit, std::make_shared<const Pattern>(pattern, literal, name), keep_between});
  describe(Json{{"type", "Split"},
                {"pattern", {{literal ? "String" : "Regex", pattern}}},
                {"behavior", keep_between ? "Isolated" : "Removed"},
                {"invert", !keep_between}}
               .dump());
}

void PreTokenizer::add_digits(bool individual) {
  steps_.push_back({individual ? Step::kIndividualDigits : Step::kDigits, nullptr, true});
  describe(Json{{"type", "Digits"}, {"individual_digits", individual}}.dump());
}

void PreTokenizer::add_prefix_space() {
  steps_.push_back({Step::kPrefixSpace, nullptr, true});
  describe(Json{{"type", "ByteLevel"}, {"add_prefix_space", true}, {"use_regex", false}}.dump());
  prefixes_space_ = true;
}

void PreTokenizer::run_from(size_t index, std::string_view text,
                            const std::function<void(std::string_view)>& piece) const {
  if (text.empty()) return;
  if (index == steps_.size()) return piece(text);
  const Step& step = steps_[index];
  if (step.kind == Step::kSplit) {
    step.pattern->split(text, [&](std::string_view part, bool matched) {
      if (matched || step.keep_between) run_from(index + 1, part, piece);
    });
  } else if (step.kind == Step::kPrefixSpace) {
    if (is_space(utf8_step(text, 0).code)) return run_from(index + 1, text, piece);
    run_from(index + 1, " " + std::string(text), piece);
  } else {
    // Digits are the characters of Unicode's numeric categories (Nd, Nl, No).
    const auto numeric = [](int32_t code) {
      if (code < 0x80) return code >= '0' && code <= '9';
      const auto category = utf8proc_category(code);
      return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
    };
    size_t begin = 0;
    bool was_digit = false;
    for (size_t at = 0; at < text.size();) {
      const Utf8Step next = utf8_step(text, at);
      const bool digit = numeric(next.code);
      if (at > begin && (digit != was_digit || (digit && step.kind == Step::kIndividualDigits))) {
        run_from(index + 1, text.substr(begin, at - begin), piece);
        begin = at;
      }
      was_digit = digit;
      at += static_cast<size_t>(next.length);
    }
    run_from(index + 1, text.substr(begin), piece);
  }
}

}  // namespace qwerky
