// SPDX-License-Identifier: MIT
#include "io/tokenizer_added.h"

#include "io/tokenizer_utf8.h"

namespace qwerky {

namespace {

/// Start of the character that ends just before `at`.
size_t previous(std::string_view text, size_t at) {
  do --at;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

}  // namespace

void AddedTokens::add(AddedToken token) {
  if (token.text.empty()) return;
  const auto same_text = by_text_.find(token.text);
  const auto same_id = by_id_.find(token.id);
  if (same_text != by_text_.end() || same_id != by_id_.end()) {
    std::erase_if(tokens_, [&](const AddedToken& t) { return t.text == token.text || t.id == token.id; });
    tokens_.push_back(std::move(token));
    rebuild();
    return;
  }
  const auto index = static_cast<int64_t>(tokens_.size());
  if (token_at_.empty()) token_at_.push_back(-1);
  uint32_t node = 0;
  for (char c : token.text) {
    const uint64_t key = (uint64_t{node} << 8) | static_cast<unsigned char>(c);
    const auto [it, fresh] = trie_.try_emplace(key, static_cast<uint32_t>(token_at_.size()));
    if (fresh) token_at_.push_back(-1);
    node = it->second;
  }
  token_at_[node] = index;
  by_text_.emplace(token.text, index);
  by_id_.emplace(token.id, index);
  Starts& starts = starts_[token.normalized];
  starts.byte[static_cast<unsigned char>(token.text[0])] = true;
  starts.any = true;
  tokens_.push_back(std::move(token));
}

void AddedTokens::rebuild() {
  std::vector<AddedToken> tokens;
  tokens.swap(tokens_);
  by_text_.clear();
  by_id_.clear();
  trie_.clear();
  token_at_.clear();
  starts_[0] = starts_[1] = Starts{};
  for (AddedToken& t : tokens) add(std::move(t));
}

const AddedToken* AddedTokens::by_id(int32_t id) const {
  const auto it = by_id_.find(id);
  return it == by_id_.end() ? nullptr : &tokens_[static_cast<size_t>(it->second)];
}

const AddedToken* AddedTokens::by_text(std::string_view text) const {
  const auto it = by_text_.find(text);
  return it == by_text_.end() ? nullptr : &tokens_[static_cast<size_t>(it->second)];
}

AddedTokens::Match AddedTokens::next(std::string_view text, size_t done, size_t from, bool normalized) const {
  const Starts& starts = starts_[normalized];
  for (size_t at = from; at < text.size(); ++at) {
    if (!starts.byte[static_cast<unsigned char>(text[at])]) continue;
    Match match;
    uint32_t node = 0;
    for (size_t i = at; i < text.size(); ++i) {
      const auto it = trie_.find((uint64_t{node} << 8) | static_cast<unsigned char>(text[i]));
      if (it == trie_.end()) break;
      node = it->second;
      const int64_t token = token_at_[node];
      if (token >= 0 && tokens_[static_cast<size_t>(token)].normalized == normalized) match = {token, at, i + 1};
    }
    if (match.token < 0) continue;
    const AddedToken& token = tokens_[static_cast<size_t>(match.token)];
    if (token.single_word) {
      const bool joined = (match.begin > 0 && is_word_char(utf8_step(text, previous(text, match.begin)).code)) ||
                          (match.end < text.size() && is_word_char(utf8_step(text, match.end).code));
      if (joined) {
        at = match.end - 1;
        continue;
      }
    }
    if (token.lstrip) {
      while (match.begin > done) {
        const size_t before = previous(text, match.begin);
        if (before < done || !is_space(utf8_step(text, before).code)) break;
        match.begin = before;
      }
    }
    if (token.rstrip) {
      while (match.end < text.size()) {
        const Utf8Step step = utf8_step(text, match.end);
        if (!is_space(step.code)) break;
        match.end += static_cast<size_t>(step.length);
      }
    }
    return match;
  }
  return {};
}

}  // namespace qwerky
