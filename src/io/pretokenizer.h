// SPDX-License-Identifier: MIT
// Cuts text into the pieces that BPE may not merge across.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace qwerky {

/// Published pre-tokenizer patterns.
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// A compiled pattern (PCRE2: UTF, Unicode properties, JIT). `\s` means Unicode White_Space, as in the libraries
/// these patterns were written for.
class Pattern {
 public:
  /// Throws Error with the position when the pattern is wrong or longer than 64 KiB. `name` is for messages.
  Pattern(std::string_view pattern, bool literal, const std::string& name);
  ~Pattern();
  Pattern(Pattern&&) noexcept;
  Pattern& operator=(Pattern&&) = delete;

  /// Calls piece(view, matched) for matches and the text between them, in order; nothing is empty.
  /// Throws Error when the pattern backtracks without end on this text.
  template <class F>
  void split(std::string_view text, const F& piece) const {
    Scan scan(*this, text);
    size_t done = 0, begin = 0, end = 0;
    while (scan.next(begin, end)) {
      if (begin > done) piece(text.substr(done, begin - done), false);
      piece(text.substr(begin, end - begin), true);
      done = end;
    }
    if (done < text.size()) piece(text.substr(done), false);
  }

 private:
  struct Compiled;
  class Scan {
   public:
    Scan(const Pattern& pattern, std::string_view text);
    /// The next non-empty match.
    bool next(size_t& begin, size_t& end);

   private:
    const Pattern& pattern_;
    std::string_view text_;
    size_t at_ = 0;
  };
  std::unique_ptr<Compiled> compiled_;
};

/// Steps applied in order, each to every piece the step before it made.
class PreTokenizer {
 public:
  void add_split(std::string_view pattern, bool literal, bool keep_between, const std::string& name);
  void add_digits(bool individual);
  /// A space in front of every piece that does not start with white space.
  void add_prefix_space();
  bool prefixes_space() const { return prefixes_space_; }
  /// The steps as a JSON array of those of Hugging Face's tokenizer.json, without its ByteLevel: the same for two that
  /// were built alike.
  std::string description() const { return "[" + description_ + "]"; }

  /// `text` must be valid UTF-8. Pieces live only during the call.
  template <class F>
  void run(std::string_view text, const F& piece) const {
    if (steps_.size() == 1 && steps_[0].kind == Step::kSplit && steps_[0].keep_between) {
      steps_[0].pattern->split(text, [&](std::string_view part, bool) { piece(part); });
    } else {
      run_from(0, text, piece);
    }
  }

 private:
  struct Step {
    enum Kind { kSplit, kDigits, kIndividualDigits, kPrefixSpace } kind;
    std::shared_ptr<const Pattern> pattern;
    bool keep_between = true;
  };
  void run_from(size_t step, std::string_view text, const std::function<void(std::string_view)>& piece) const;
  std::vector<Step> steps_;
  void describe(const std::string& step);
  std::string description_;
  bool prefixes_space_ = false;
};

}  // namespace qwerky
