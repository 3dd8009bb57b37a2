// SPDX-License-Identifier: MIT
#include "io/bpe.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <queue>

#include "base/error.h"
#include "base/random.h"
#include "io/tokenizer_utf8.h"

namespace qwerky {

namespace {

/// Above this many symbols a heap beats scanning for the lowest rank.
constexpr size_t kShort = 48;

}  // namespace

void Bpe::grow() {
  std::vector<Slot> old(std::max<size_t>(64, slots_.size() * 2));
  old.swap(slots_);
  count_ = 0;
  for (const Slot& s : old)
    if (s.key != kEmpty)
      add_merge(static_cast<int32_t>(s.key >> 32), static_cast<int32_t>(s.key & 0xFFFFFFFFu), s.merge.rank, s.merge.id);
}

void Bpe::add_merge(int32_t left, int32_t right, int32_t rank, int32_t merged) {
  CHECK(left >= 0 && right >= 0 && merged >= 0);
  if (2 * (static_cast<size_t>(count_) + 1) > slots_.size()) grow();
  const uint64_t key = pair_key(left, right);
  const size_t mask = slots_.size() - 1;
  size_t i = mix64(key) & mask;
  while (slots_[i].key != kEmpty && slots_[i].key != key) i = (i + 1) & mask;
  if (slots_[i].key == kEmpty) ++count_;
  slots_[i] = {key, {rank, merged}};
}

Bpe::Merge Bpe::find(int32_t left, int32_t right) const {
  if (slots_.empty()) return {0, -1};
  const uint64_t key = pair_key(left, right);
  const size_t mask = slots_.size() - 1;
  size_t i = mix64(key) & mask;
  while (slots_[i].key != key) {
    if (slots_[i].key == kEmpty) return {0, -1};
    i = (i + 1) & mask;
  }
  return slots_[i].merge;
}

void Bpe::add_all_splits(const std::vector<std::string_view>& pieces, const std::vector<int32_t>& ranks,
                         const std::unordered_map<std::string_view, int32_t>& ids) {
  // Hashing both halves of every split is quadratic in a piece's length: real pieces have at most some hundred bytes.
  constexpr size_t kLongestPiece = 2048;
  for (size_t p = 0; p < pieces.size(); ++p) {
    const std::string_view piece = pieces[p];
    const auto whole = ids.find(piece);
    if (piece.size() < 2 || whole == ids.end()) continue;
    if (piece.size() > kLongestPiece)
      fail("vocabulary: piece ", p, " has ", piece.size(), " bytes, expected at most ", kLongestPiece);
    for (size_t cut = 1; cut < piece.size(); ++cut) {
      const auto left = ids.find(piece.substr(0, cut));
      if (left == ids.end()) continue;
      const auto right = ids.find(piece.substr(cut));
      if (right != ids.end()) add_merge(left->second, right->second, ranks[p], whole->second);
    }
  }
}

std::vector<std::pair<int32_t, int32_t>> Bpe::merges() const {
  std::vector<std::pair<int32_t, uint64_t>> ranked;
  for (const Slot& s : slots_)
    if (s.key != kEmpty) ranked.emplace_back(s.merge.rank, s.key);
  std::sort(ranked.begin(), ranked.end());
  std::vector<std::pair<int32_t, int32_t>> out;
  for (const auto& [rank, key] : ranked)
    out.emplace_back(static_cast<int32_t>(key >> 32), static_cast<int32_t>(key & 0xFFFFFFFFu));
  return out;
}

void Bpe::merge(std::vector<int32_t>& symbols) const {
  if (symbols.size() < 2) return;
  if (symbols.size() <= kShort) {
    merge_short(symbols);
  } else {
    merge_long(symbols);
  }
}

void Bpe::merge_short(std::vector<int32_t>& symbols) const {
  Merge merges[kShort];  // merges[i]: of symbols i and i + 1
  size_t n = symbols.size();
  for (size_t i = 0; i + 1 < n; ++i) merges[i] = find(symbols[i], symbols[i + 1]);
  while (n > 1) {
    size_t best = n;
    int32_t best_rank = 0;
    for (size_t i = 0; i + 1 < n; ++i) {
      if (merges[i].id >= 0 && (best == n || merges[i].rank < best_rank)) {
        best = i;
        best_rank = merges[i].rank;
      }
    }
    if (best == n) break;
    symbols[best] = merges[best].id;
    for (size_t i = best + 1; i + 1 < n; ++i) {
      symbols[i] = symbols[i + 1];
      merges[i] = merges[i + 1];
    }
    --n;
    if (best > 0) merges[best - 1] = find(symbols[best - 1], symbols[best]);
    if (best + 1 < n) merges[best] = find(symbols[best], symbols[best + 1]);
  }
  symbols.resize(n);
}

void Bpe::merge_long(std::vector<int32_t>& symbols) const {
  struct Candidate {
    int32_t rank, id;
    uint32_t left, right;  // positions; stale when either symbol has changed since
    int32_t left_id, right_id;
  };
  const auto later = [](const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
  };
  if (symbols.size() >= std::numeric_limits<uint32_t>::max())
    fail("a word of ", symbols.size(), " symbols cannot be encoded: split the text");
  const auto n = static_cast<uint32_t>(symbols.size());
  std::vector<uint32_t> before(n), after(n);
  std::vector<Candidate> first;
  const auto candidate = [&](uint32_t left, uint32_t right, auto&& add) {
    const Merge m = find(symbols[left], symbols[right]);
    if (m.id >= 0) add(Candidate{m.rank, m.id, left, right, symbols[left], symbols[right]});
  };
  for (uint32_t i = 0; i < n; ++i) {
    before[i] = i - 1;  // wraps for 0, never followed
    after[i] = i + 1;
    if (i + 1 < n) candidate(i, i + 1, [&](const Candidate& c) { first.push_back(c); });
  }
  std::priority_queue<Candidate, std::vector<Candidate>, decltype(later)> queue(later, std::move(first));
  while (!queue.empty()) {
    const Candidate c = queue.top();
    queue.pop();
    if (symbols[c.left] != c.left_id || symbols[c.right] != c.right_id || after[c.left] != c.right) continue;
    symbols[c.left] = c.id;
    symbols[c.right] = -1;
    const uint32_t next = after[c.right];
    after[c.left] = next;
    if (next < n) before[next] = c.left;
    const auto push = [&](const Candidate& made) { queue.push(made); };
    if (c.left > 0) candidate(before[c.left], c.left, push);
    if (next < n) candidate(c.left, next, push);
  }
  uint32_t kept = 0;
  for (uint32_t i = 0; i < n; i = after[i]) symbols[kept++] = symbols[i];
  symbols.resize(kept);
}

const std::array<int32_t, 256>& byte_alphabet() {
  static const std::array<int32_t, 256> alphabet = [] {
    std::array<int32_t, 256> a{};
    int32_t next = 256;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
      a[static_cast<size_t>(b)] = printable ? b : next++;
    }
    return a;
  }();
  return alphabet;
}

std::string bytes_to_alphabet(std::string_view bytes) {
  std::string out;
  for (char c : bytes) append_utf8(out, byte_alphabet()[static_cast<unsigned char>(c)]);
  return out;
}

std::optional<std::string> alphabet_to_bytes(std::string_view token) {
  static const std::array<int16_t, 512> byte_of = [] {
    std::array<int16_t, 512> table;
    table.fill(-1);
    for (size_t b = 0; b < 256; ++b) table[static_cast<size_t>(byte_alphabet()[b])] = static_cast<int16_t>(b);
    return table;
  }();
  std::string out;
  for (size_t at = 0; at < token.size();) {
    const Utf8Step step = utf8_step(token, at);
    if (step.code >= 512 || byte_of[static_cast<size_t>(step.code)] < 0) return std::nullopt;
    out += static_cast<char>(byte_of[static_cast<size_t>(step.code)]);
    at += static_cast<size_t>(step.length);
  }
  return out;
}

uint64_t WordCache::new_owner() {
  static std::atomic<uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

WordCache& WordCache::of(uint64_t owner) {
  thread_local WordCache cache;
  if (cache.owner_ != owner) {
    cache.entries_.assign(kEntries, Entry{});
    cache.owner_ = owner;
  }
  return cache;
}

size_t WordCache::slot(std::string_view word) {
  uint64_t h = word.size();
  size_t i = 0;
  for (; i + 8 <= word.size(); i += 8) {
    uint64_t part;
    std::memcpy(&part, word.data() + i, 8);
    h = mix64(h ^ part);
  }
  uint64_t part = 0;
  std::memcpy(&part, word.data() + i, word.size() - i);
  return mix64(h * 0x9e3779b97f4a7c15ULL ^ part) & (kEntries - 1);
}

void WordCache::put(std::string_view word, const int32_t* ids, size_t count) {
  if (word.empty() || count > kMostIds) return;
  Entry& e = entries_[slot(word)];
  std::copy(ids, ids + count, e.ids);
  e.length = static_cast<uint8_t>(word.size());
  e.count = static_cast<uint8_t>(count);
  std::memcpy(e.bytes, word.data(), word.size());
}

bool spans_words(std::string_view piece) {
  for (size_t i = 1; i < piece.size(); ++i)
    if (piece[i] == ' ' && piece[i - 1] != ' ') return true;
  return false;
}

}  // namespace qwerky
