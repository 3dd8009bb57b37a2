// SPDX-License-Identifier: MIT
// Byte-level BPE training: repeatedly joins the most frequent adjacent pair, with pair counts kept up to date.
#include <algorithm>
#include <queue>
#include <unordered_set>

#include "base/error.h"
#include "io/bpe.h"
#include "io/files.h"
#include "io/pretokenizer.h"
#include "io/tokenizer_formats.h"
#include "io/tokenizer_utf8.h"

namespace qwerky {

namespace {

struct Word {
  std::vector<int32_t> symbols;
  int64_t count = 0;
};

struct PairCount {
  int64_t count;
  uint64_t pair;
  /// Most frequent first, then the lowest ids.
  bool operator<(const PairCount& other) const {
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

class Trainer {
 public:
  Trainer() {
    // Ids of bytes follow the alphabet's order, as in published vocabularies: "!" is 0.
    std::vector<int32_t> bytes(256);
    for (int32_t b = 0; b < 256; ++b) bytes[static_cast<size_t>(b)] = b;
    const auto& alphabet = byte_alphabet();
    std::sort(bytes.begin(), bytes.end(), [&](int32_t a, int32_t b) {
      return alphabet[static_cast<size_t>(a)] < alphabet[static_cast<size_t>(b)];
    });
    for (int32_t b : bytes) {
      byte_id_[static_cast<size_t>(b)] = static_cast<int32_t>(pieces_.size());
      ids_.emplace(std::string(1, static_cast<char>(b)), static_cast<int32_t>(pieces_.size()));
      pieces_.emplace_back(1, static_cast<char>(b));
    }
  }

  void count(std::string_view corpus, const AddedTokens& special) {
    PreTokenizer pre_tokenizer;
    pre_tokenizer.add_split(kQwen2Pattern, false, true, "trainer");
    StringMap<int64_t> counts;
    std::string storage;
    special.split(
        corpus, false,
        [&](std::string_view text) {
          pre_tokenizer.run(nfc(text, storage), [&](std::string_view word) {
            const auto it = counts.find(word);
            if (it != counts.end()) {
              ++it->second;
            } else {
              counts.emplace(word, 1);
            }
          });
        },
        [](const AddedToken&) {});
    std::vector<std::pair<std::string_view, int64_t>> sorted(counts.begin(), counts.end());
    std::sort(sorted.begin(), sorted.end());
    for (const auto& [text, n] : sorted) {
      Word word;
      word.count = n;
      for (char c : text) word.symbols.push_back(byte_id_[static_cast<unsigned char>(c)]);
      words_.push_back(std::move(word));
    }
    for (size_t w = 0; w < words_.size(); ++w) {
      const auto& s = words_[w].symbols;
      for (size_t i = 0; i + 1 < s.size(); ++i) change(s[i], s[i + 1], words_[w].count, w);
    }
    for (const auto& [pair, n] : counts_) queue_.push({n, pair});
    changed_.clear();
  }

  /// False when no pair occurs twice.
  bool merge_next() {
    while (!queue_.empty()) {
      const PairCount top = queue_.top();
      queue_.pop();
      const int64_t now = counts_[top.pair];
      if (now != top.count) {
        if (now > 0) queue_.push({now, top.pair});
        continue;
      }
      if (now < 2) return false;
      join(top.pair);
      return true;
    }
    return false;
  }

  const std::vector<std::string>& pieces() const { return pieces_; }
  const std::vector<std::pair<int32_t, int32_t>>& merges() const { return merges_; }

 private:
  void change(int32_t left, int32_t right, int64_t by, size_t word) {
    const uint64_t key = pair_key(left, right);
    counts_[key] += by;
    if (by > 0) {
      auto& where = where_[key];
      if (where.empty() || where.back() != word) where.push_back(static_cast<uint32_t>(word));
      changed_.insert(key);
    }
  }

  void join(uint64_t pair) {
    const auto left = static_cast<int32_t>(pair >> 32), right = static_cast<int32_t>(pair & 0xFFFFFFFFu);
    std::string text = pieces_[static_cast<size_t>(left)] + pieces_[static_cast<size_t>(right)];
    const auto [it, fresh] = ids_.try_emplace(std::move(text), static_cast<int32_t>(pieces_.size()));
    if (fresh) pieces_.push_back(it->first);
    const int32_t made = it->second;
    merges_.emplace_back(left, right);
    std::vector<uint32_t> where;
    where.swap(where_[pair]);
    std::sort(where.begin(), where.end());
    where.erase(std::unique(where.begin(), where.end()), where.end());
    for (uint32_t w : where) {
      Word& word = words_[w];
      auto& s = word.symbols;
      size_t kept = 0;
      bool any = false;
      for (size_t i = 0; i < s.size(); ++i) any = any || (i + 1 < s.size() && s[i] == left && s[i + 1] == right);
      if (!any) continue;
      for (size_t i = 0; i + 1 < s.size(); ++i) change(s[i], s[i + 1], -word.count, w);
      for (size_t i = 0; i < s.size(); ++i) {
        if (i + 1 < s.size() && s[i] == left && s[i + 1] == right) {
          s[kept++] = made;
          ++i;
        } else {
          s[kept++] = s[i];
        }
      }
      s.resize(kept);
      for (size_t i = 0; i + 1 < s.size(); ++i) change(s[i], s[i + 1], word.count, w);
    }
    counts_.erase(pair);
    for (uint64_t key : changed_) {
      const auto found = counts_.find(key);
      if (found != counts_.end() && found->second > 0) queue_.push({found->second, key});
    }
    changed_.clear();
  }

  std::array<int32_t, 256> byte_id_{};
  std::vector<std::string> pieces_;
  StringMap<int32_t> ids_;
  std::vector<Word> words_;
  std::unordered_map<uint64_t, int64_t> counts_;
  std::unordered_map<uint64_t, std::vector<uint32_t>> where_;  // words that hold, or once held, a pair
  std::unordered_set<uint64_t> changed_;                       // pairs that grew since the queue last heard of them
  std::priority_queue<PairCount> queue_;
  std::vector<std::pair<int32_t, int32_t>> merges_;
};

Vocabulary vocabulary_of(const Trainer& trainer, const std::vector<std::string>& special) {
  Vocabulary v;
  for (const std::string& piece : trainer.pieces()) v.tokens.push_back(bytes_to_alphabet(piece));
  v.types.assign(v.tokens.size(), Vocabulary::normal);
  v.tokens.insert(v.tokens.end(), special.begin(), special.end());
  v.types.resize(v.tokens.size(), Vocabulary::control);
  for (const auto& [left, right] : trainer.merges())
    v.merges.push_back(v.tokens[static_cast<size_t>(left)] + " " + v.tokens[static_cast<size_t>(right)]);
  const Json split{{"type", "Split"},
                   {"pattern", {{"Regex", std::string(kQwen2Pattern)}}},
                   {"behavior", "Isolated"},
                   {"invert", false}};
  v.pre_tokenizer = Json::array({split}).dump();
  v.nfc = true;
  return v;
}

}  // namespace

std::string train_bpe(std::string_view corpus, int64_t vocab_size, const std::vector<std::string>& special) {
  const int64_t smallest = 256 + static_cast<int64_t>(special.size());
  if (vocab_size < smallest || vocab_size > (1 << 20))
    fail("vocabulary size ", vocab_size, ": expected ", smallest, " (256 bytes and ", special.size(), " special) to ",
         1 << 20);
  if (!is_utf8(corpus)) fail("the text to train a vocabulary on is not UTF-8");
  AddedTokens tokens;
  for (const std::string& text : special) {
    if (text.empty() || !is_utf8(text) || tokens.by_text(text) != nullptr)
      fail("special token \"", text, "\" is empty, repeated or not UTF-8");
    tokens.add({.id = static_cast<int32_t>(tokens.all().size()), .text = text, .special = true});
  }
  Trainer trainer;
  trainer.count(corpus, tokens);
  const auto wanted = static_cast<size_t>(vocab_size) - special.size();
  while (trainer.pieces().size() < wanted) {
    if (!trainer.merge_next())
      fail("a text of ", corpus.size(), " bytes gives at most ", trainer.pieces().size() + special.size(), " tokens, ",
           vocab_size, " were asked for: give more text or ask for fewer");
  }
  return tokenizer_json(vocabulary_of(trainer, special)).dump(1);
}

}  // namespace qwerky
