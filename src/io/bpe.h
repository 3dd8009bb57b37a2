// SPDX-License-Identifier: MIT
// Byte-pair merging: repeatedly joins the adjacent pair of lowest rank, the leftmost among equals.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace qwerky {

/// Hash for maps that are looked up by std::string_view.
struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view s) const { return std::hash<std::string_view>{}(s); }
};
template <class V>
using StringMap = std::unordered_map<std::string, V, StringHash, std::equal_to<>>;

/// Of a table of pairs of symbols.
inline uint64_t pair_key(int32_t left, int32_t right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
}

class Bpe {
 public:
  /// Joining `left` and `right` gives `merged`; lower ranks first. A repeated pair replaces the earlier one.
  void add_merge(int32_t left, int32_t right, int32_t rank, int32_t merged);

  /// Adds every merge by which two of `pieces` make a third, ranked by rank[third]. `ids` maps piece to id.
  void add_all_splits(const std::vector<std::string_view>& pieces, const std::vector<int32_t>& ranks,
                      const std::unordered_map<std::string_view, int32_t>& ids);

  /// All merges as (left, right), by rank and, among equal ranks, by the ids.
  std::vector<std::pair<int32_t, int32_t>> merges() const;
  /// Merges `symbols` in place: O(n log n) for any input.
  void merge(std::vector<int32_t>& symbols) const;
  int64_t size() const { return count_; }

 private:
  struct Merge {
    int32_t rank, id;  // id < 0: no such merge
  };
  struct Slot {
    uint64_t key = kEmpty;
    Merge merge{0, -1};
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  Merge find(int32_t left, int32_t right) const;
  void grow();
  void merge_short(std::vector<int32_t>& symbols) const;
  void merge_long(std::vector<int32_t>& symbols) const;
  std::vector<Slot> slots_;
  int64_t count_ = 0;
};

/// GPT-2's reversible map of bytes to printable characters: bytes 33–126, 161–172 and 174–255 are themselves, the
/// others are U+0100, U+0101, … in order.
const std::array<int32_t, 256>& byte_alphabet();
std::string bytes_to_alphabet(std::string_view bytes);
/// A token as written in vocab.json to its bytes; nothing when a character lies outside the alphabet.
std::optional<std::string> alphabet_to_bytes(std::string_view token);

/// A per-thread, bounded memory of recent short words and their ids, one for the tokenizer last used on the thread.
class WordCache {
 public:
  static constexpr size_t kLongestWord = 26;
  static constexpr size_t kMostIds = 9;
  /// The calling thread's cache for `owner`, a number no other tokenizer has.
  static WordCache& of(uint64_t owner);
  static uint64_t new_owner();

  /// Appends the ids of a non-empty word: from memory, else by encode(word, out), and then remembers them.
  template <class F>
  void encode(std::string_view word, std::vector<int32_t>& out, const F& encode_word) {
    if (word.size() > kLongestWord) return encode_word(word, out);
    const Entry& e = entries_[slot(word)];
    if (e.length == word.size() && std::string_view(e.bytes, e.length) == word) {
      out.insert(out.end(), e.ids, e.ids + e.count);
      return;
    }
    const size_t before = out.size();
    encode_word(word, out);
    put(word, out.data() + before, out.size() - before);
  }

 private:
  void put(std::string_view word, const int32_t* ids, size_t count);
  struct Entry {
    int32_t ids[kMostIds];
    uint8_t length = 0, count = 0;  // length 0: free
    char bytes[kLongestWord];
  };
  static_assert(sizeof(Entry) == 64);
  static constexpr size_t kEntries = size_t{1} << 15;
  static size_t slot(std::string_view word);
  std::vector<Entry> entries_;
  uint64_t owner_ = 0;
};

/// Words of SentencePiece text: cuts before each space that follows another character.
template <class F>
void for_each_spaced_word(std::string_view text, const F& word) {
  for (size_t begin = 0; begin < text.size();) {
    size_t end = begin;
    while (end < text.size() && text[end] == ' ') ++end;
    while (end < text.size() && text[end] != ' ') ++end;
    word(text.substr(begin, end - begin));
    begin = end;
  }
}
/// A piece over such a cut forbids it.
bool spans_words(std::string_view piece);

}  // namespace qwerky
