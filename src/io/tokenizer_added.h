// SPDX-License-Identifier: MIT
// Tokens that are recognised in the text before any pre-tokenizer or merge.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/bpe.h"

namespace qwerky {

struct AddedToken {
  int32_t id = 0;
  std::string text;
  bool special = false;      ///< left out by decode(…, skip_special)
  bool normalized = false;   ///< looked for after normalisation, not before
  bool lstrip = false;       ///< takes the white space before it
  bool rstrip = false;       ///< takes the white space behind it
  bool single_word = false;  ///< not beside a letter, mark, digit or underscore
};

class AddedTokens {
 public:
  /// A token with the same text or id is replaced. An empty text is ignored.
  void add(AddedToken token);
  const AddedToken* by_id(int32_t id) const;
  const AddedToken* by_text(std::string_view text) const;
  bool any(bool normalized) const { return starts_[normalized].any; }
  const std::vector<AddedToken>& all() const { return tokens_; }

  /// Cuts valid UTF-8 at the tokens with this `normalized` flag, leftmost and then longest first; calls
  /// on_text(string_view) and on_token(const AddedToken&) in order. Nothing is empty.
  template <class OnText, class OnToken>
  void split(std::string_view text, bool normalized, const OnText& on_text, const OnToken& on_token) const {
    size_t done = 0, from = 0;
    while (any(normalized)) {
      const Match m = next(text, done, from, normalized);
      if (m.token < 0) break;
      if (m.begin > done) on_text(text.substr(done, m.begin - done));
      on_token(tokens_[static_cast<size_t>(m.token)]);
      done = from = m.end;
    }
    if (done < text.size()) on_text(text.substr(done));
  }

 private:
  struct Match {
    int64_t token = -1;
    size_t begin = 0, end = 0;
  };
  struct Starts {
    std::array<bool, 256> byte{};
    bool any = false;
  };
  Match next(std::string_view text, size_t done, size_t from, bool normalized) const;
  void rebuild();
  std::vector<AddedToken> tokens_;
  StringMap<int64_t> by_text_;
  std::unordered_map<int32_t, int64_t> by_id_;
  // Byte trie over all texts: (node << 8 | byte) → node; root 0.
  std::unordered_map<uint64_t, uint32_t> trie_;
  std::vector<int64_t> token_at_;  // by node; -1: none ends here
  Starts starts_[2];
};

}  // namespace qwerky
