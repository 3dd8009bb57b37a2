// SPDX-License-Identifier: MIT
#include "engine/json_constraint.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "engine/json_schema.h"

namespace qwerky {

namespace {

/// Characters of a token that is part of a JSON string whatever stands around it; 0 for others.
int32_t plain_characters(std::string_view bytes) {
  int32_t characters = 0;
  int8_t state = json_string::kBetween;
  for (char c : bytes) {
    if (c == '\\') return 0;
    state = json_string::step(state, static_cast<uint8_t>(c));
    if (state == json_string::kBad || state == json_string::kQuote) return 0;
    if (state == json_string::kDone) state = json_string::kBetween, ++characters;
  }
  return state == json_string::kBetween ? characters : 0;
}

}  // namespace

TokenBytes::TokenBytes(const Tokenizer& tokenizer, std::vector<int32_t> ends) : ends_(std::move(ends)) {
  if (ends_.empty()) fail("JSON output needs a token that ends a text, and this model has none");
  std::vector<int32_t> ids, rest;
  for (int32_t id = 0; id < tokenizer.size(); ++id) {
    pieces_.push_back(tokenizer.is_special(id) ? std::string() : tokenizer.piece(id));
    const std::string& piece = pieces_.back();
    if (piece.empty() || std::find(ends_.begin(), ends_.end(), id) != ends_.end()) continue;
    if (piece.size() == 1) alone_.set(static_cast<unsigned char>(piece[0]));
    ids.push_back(id);
    if (const int32_t n = plain_characters(piece); n > 0)
      plain_.push_back({n, id});
    else
      rest.push_back(id);
  }
  // With these every text that an automaton allows can be written, whatever the other tokens are.
  for (size_t byte = 0; byte < 256; ++byte)
    if (json_bytes()[byte] && !alone_[byte])
      fail("JSON output needs a token for byte ", byte, " alone, and this model has none");
  std::stable_sort(plain_.begin(), plain_.end(),
                   [](const Plain& a, const Plain& b) { return a.characters < b.characters; });
  all_ = make_trie(std::move(ids));
  rest_ = make_trie(std::move(rest));
}

TokenBytes::Trie TokenBytes::make_trie(std::vector<int32_t> ids) const {
  const auto bytes = [&](int32_t id) -> const std::string& { return pieces_[static_cast<size_t>(id)]; };
  std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) { return bytes(a) < bytes(b); });
  Trie trie;
  std::vector<int32_t> open;  // nodes from the root to the last token
  const auto close = [&](size_t depth) {
    for (; open.size() > depth; open.pop_back())
      trie.nodes[static_cast<size_t>(open.back())].past = static_cast<int32_t>(trie.nodes.size());
  };
  std::string_view last;
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::string& piece = bytes(ids[i]);
    const auto shared =
        static_cast<size_t>(std::mismatch(piece.begin(), piece.end(), last.begin(), last.end()).first - piece.begin());
    close(shared);
    const auto at = static_cast<int32_t>(i);
    for (size_t k = shared; k < piece.size(); ++k) {
      open.push_back(static_cast<int32_t>(trie.nodes.size()));
      trie.nodes.push_back({static_cast<uint8_t>(piece[k]), static_cast<int32_t>(k + 1), 0, at, at});
    }
    trie.nodes[static_cast<size_t>(open.back())].last = at + 1;
    trie.deepest = std::max(trie.deepest, static_cast<int32_t>(piece.size()));
    last = piece;
  }
  close(0);
  trie.ids = std::move(ids);
  return trie;
}

class JsonConstraint : public Constraint {
 public:
  JsonConstraint(const std::shared_ptr<const ByteAutomaton>& automaton, std::shared_ptr<const TokenBytes> tokens)
      : tokens_(std::move(tokens)), matcher_(automaton) {
    CHECK((automaton->bytes() & ~tokens_->alone()).none(), "an automaton for other tokens");
  }

  void allowed(std::span<uint8_t> allowed) override {
    std::fill(allowed.begin(), allowed.end(), uint8_t{0});
    const auto allow = [&](int32_t id) {
      if (static_cast<size_t>(id) < allowed.size()) allowed[static_cast<size_t>(id)] = 1;
    };
    if (ended_ || matcher_.complete()) std::for_each(tokens_->ends_.begin(), tokens_->ends_.end(), allow);
    if (ended_) return;
    // Within a string nearly every token may follow, and most of them need no walk.
    const ByteMatcher::Parts parts = matcher_.parts();
    for (const TokenBytes::Plain& p : tokens_->plain_) {
      if (p.characters > parts.room) break;
      allow(p.id);
    }
    walk(tokens_->rest_, parts.strings, allow);
    walk(tokens_->all_, parts.others, allow);
  }

  void accept(int32_t id) override {
    if (std::find(tokens_->ends_.begin(), tokens_->ends_.end(), id) != tokens_->ends_.end()) {
      ended_ = true;
      return;
    }
    matcher_.accept(tokens_->pieces_.at(static_cast<size_t>(id)));
    CHECK(!matcher_.ways().empty(), "token ", id, " was not allowed");
  }

  std::unique_ptr<Constraint> clone() const override { return std::make_unique<JsonConstraint>(*this); }

 private:
  /// When many ways are to be followed, it ends with tokens of one byte: there is one for whatever must come. An Error
  /// where even these would hold up the step that others wait for.
  template <class Allow>
  void walk(const TokenBytes::Trie& trie, const ByteMatcher::Ways& from, Allow allow) {
    if (from.empty()) return;
    levels_.resize(static_cast<size_t>(trie.deepest) + 1);
    levels_[0] = from;
    constexpr size_t kMostWork = 1'000'000, kMostForBytes = 2 * kMostWork;
    size_t work = 0;
    for (size_t i = 0; i < trie.nodes.size();) {
      const TokenBytes::Node& n = trie.nodes[i];
      const auto depth = static_cast<size_t>(n.depth);
      if (work > kMostForBytes)
        throw TooManyWays(concat("JSON output: its schema leaves too many ways to read the text so far (", from.size(),
                                 "); give patterns and alternatives that differ earlier"));
      if (work <= kMostWork || depth == 1)
        work += matcher_.step(levels_[depth - 1], n.byte, levels_[depth]);
      else
        levels_[depth].clear();
      if (levels_[depth].empty()) {
        i = static_cast<size_t>(n.past);
        continue;
      }
      for (int32_t k = n.first; k < n.last; ++k) allow(trie.ids[static_cast<size_t>(k)]);
      ++i;
    }
  }

  std::shared_ptr<const TokenBytes> tokens_;
  ByteMatcher matcher_;
  std::vector<ByteMatcher::Ways> levels_;  // by bytes of a token
  bool ended_ = false;
};

std::unique_ptr<Constraint> make_json_constraint(std::shared_ptr<const ByteAutomaton> automaton,
                                                 std::shared_ptr<const TokenBytes> tokens) {
  return std::make_unique<JsonConstraint>(std::move(automaton), std::move(tokens));
}

}  // namespace qwerky
