// SPDX-License-Identifier: MIT
#include "engine/byte_automaton.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "base/random.h"

namespace qwerky {

namespace json_string {
namespace {

// 1, 2, 3: continuation bytes that are missing; 4 to 7: the byte behind E0, ED, F0, F4, whose range is smaller
// (Unicode, table 3-7); 8: behind a backslash; 9: behind \u; 10: behind \ud; 11, 12, 13: three, two, one hex digits are
// missing.
using Table = std::array<std::array<int8_t, 256>, 14>;

constexpr Table make_table() {
  Table t{};
  for (auto& row : t) row.fill(kBad);
  const auto set = [&t](int state, int first, int last, int8_t to) {
    for (int b = first; b <= last; ++b) t[static_cast<size_t>(state)][static_cast<size_t>(b)] = to;
  };
  set(kBetween, 0x20, 0x7F, kDone);
  set(kBetween, '"', '"', kQuote);
  set(kBetween, '\\', '\\', 8);
  set(kBetween, 0xC2, 0xDF, 1);
  set(kBetween, 0xE1, 0xEF, 2);
  set(kBetween, 0xE0, 0xE0, 4);
  set(kBetween, 0xED, 0xED, 5);
  set(kBetween, 0xF0, 0xF0, 6);
  set(kBetween, 0xF1, 0xF3, 3);
  set(kBetween, 0xF4, 0xF4, 7);
  set(1, 0x80, 0xBF, kDone);
  set(2, 0x80, 0xBF, 1);
  set(3, 0x80, 0xBF, 2);
  set(4, 0xA0, 0xBF, 1);
  set(5, 0x80, 0x9F, 1);
  set(6, 0x90, 0xBF, 2);
  set(7, 0x80, 0x8F, 2);
  for (char c : {'"', '\\', '/', 'b', 'f', 'n', 'r', 't'}) set(8, c, c, kDone);
  set(8, 'u', 'u', 9);
  constexpr int kAfterHex[14] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 11, 12, 12, 13, kDone};
  for (int state : {9, 11, 12, 13}) {
    const auto to = static_cast<int8_t>(kAfterHex[state]);
    set(state, '0', '9', to), set(state, 'a', 'f', to), set(state, 'A', 'F', to);
  }
  set(9, 'd', 'd', 10), set(9, 'D', 'D', 10);
  set(10, '0', '7', 12);  // d800 to dfff are halves of a pair
  return t;
}

constexpr Table kTable = make_table();

}  // namespace

int8_t step(int8_t state, uint8_t byte) { return kTable[static_cast<size_t>(state)][byte]; }

}  // namespace json_string

using Place = ByteAutomaton::Place;
using Rule = ByteAutomaton::Rule;

ByteAutomaton::ByteAutomaton() { add({Kind::leave, 0, 0, 0, 0}); }

Place ByteAutomaton::add(const Instruction& instruction) {
  constexpr size_t kMost = 1 << 18;
  if (code_.size() >= kMost) fail("the grammar needs more than ", kMost, " steps");
  code_.push_back(instruction);
  return static_cast<Place>(code_.size() - 1);
}

Place ByteAutomaton::one_of(const ByteSet& bytes, Place next) {
  const auto [it, fresh] = set_ids_.emplace(bytes, static_cast<int32_t>(sets_.size()));
  if (fresh) sets_.push_back(bytes);
  return add({Kind::one_of, next, it->second, 0, 0});
}

Place ByteAutomaton::bytes(std::string_view text, Place next) {
  for (size_t i = text.size(); i-- > 0;) next = one_of(ByteSet().set(static_cast<unsigned char>(text[i])), next);
  return next;
}

Place ByteAutomaton::either(std::span<const Place> places) {
  if (places.size() == 1) return places[0];
  const auto first = static_cast<int32_t>(targets_.size());
  targets_.insert(targets_.end(), places.begin(), places.end());
  return add({Kind::either, 0, first, 0, static_cast<int32_t>(places.size())});
}

Place ByteAutomaton::call(Rule rule, Place next) { return add({Kind::call, next, rule, 0, 0}); }

Place ByteAutomaton::repeat(Rule rule, int32_t least, int32_t most, Place next) {
  return add({Kind::repeat, next, rule, least, most});
}

Place ByteAutomaton::string_rest(int32_t least, int32_t most, Place next) {
  return add({Kind::string_rest, next, 0, least, most});
}

Rule ByteAutomaton::new_rule() {
  rules_.push_back(-1);
  return static_cast<Rule>(rules_.size() - 1);
}

void ByteAutomaton::define(Rule rule, Place entry) { rules_[static_cast<size_t>(rule)] = entry; }

Rule ByteAutomaton::rule(Place entry) {
  const Rule r = new_rule();
  define(r, entry);
  return r;
}

bool ByteAutomaton::can_finish(const Instruction& i) const {
  const auto place = [&](Place p) { return finishes_[static_cast<size_t>(p)] != 0; };
  const auto entry = [&] { return place(rules_[static_cast<size_t>(i.which)]); };
  switch (i.kind) {
    case Kind::leave: return true;
    case Kind::one_of: return place(i.next) && (sets_[static_cast<size_t>(i.which)] & bytes_).any();
    case Kind::either: {
      const auto first = targets_.begin() + i.which;
      return std::any_of(first, first + i.most, place);
    }
    case Kind::call: return place(i.next) && entry();
    case Kind::repeat: return place(i.next) && (i.most == kNoLimit || i.least <= i.most) && (i.least == 0 || entry());
    case Kind::string_rest: return place(i.next) && (i.most == kNoLimit || i.least <= i.most);
  }
  return false;
}

bool ByteAutomaton::finish(Rule root, const ByteSet& bytes) {
  root_ = root;
  bytes_ = bytes;
  finishes_.assign(code_.size(), 0);
  // The least fixed point. What goes on stands before what leads to it, so more than one round is for recursion alone.
  for (bool more = true; more;) {
    more = false;
    for (size_t i = 0; i < code_.size(); ++i)
      if (finishes_[i] == 0 && can_finish(code_[i])) finishes_[i] = 1, more = true;
  }
  return finishes_[static_cast<size_t>(rules_[static_cast<size_t>(root)])] != 0;
}

size_t ByteMatcher::Hash::operator()(const Node& n) const {
  const auto pair = [](int32_t a, int32_t b) {
    return static_cast<uint64_t>(static_cast<uint32_t>(a)) << 32 | static_cast<uint32_t>(b);
  };
  return mix64(pair(n.place, n.count) * 0x9e3779b97f4a7c15ULL + pair(n.parent, n.within));
}

ByteMatcher::ByteMatcher(std::shared_ptr<const ByteAutomaton> automaton) : automaton_(std::move(automaton)) {
  start();
  const Rule root = automaton_->root_;
  const int32_t first = node({automaton_->rules_[static_cast<size_t>(root)], 0, 0, kEnd});
  const size_t begin = lists_.size();
  expand(first);
  now_.assign(lists_.begin() + static_cast<int64_t>(begin), lists_.end());
}

void ByteMatcher::start() {
  nodes_.clear(), ids_.clear(), target_.clear(), ways_.clear(), lists_.clear(), joined_.clear();
  left_.clear(), seen_.clear();
  join_stamp_ = seen_stamp_ = 0;
  node({-1, 0, 0, -1});  // kEnd
}

int32_t ByteMatcher::node(const Node& n) {
  const auto [it, fresh] = ids_.emplace(n, static_cast<int32_t>(nodes_.size()));
  if (fresh) {
    nodes_.push_back(n);
    target_.push_back(-1), ways_.emplace_back();
    joined_.push_back(0), left_.push_back(0), seen_.push_back(0);
  }
  return it->second;
}

/// Appends to lists_ the ways to read the next byte from a node, at most kMostWays.
void ByteMatcher::expand(int32_t from) {
  using Kind = ByteAutomaton::Kind;
  const ByteAutomaton& a = *automaton_;
  const auto finishes = [&](Place p) { return a.finishes_[static_cast<size_t>(p)] != 0; };
  ++seen_stamp_;
  work_.assign(1, from);
  const size_t full = lists_.size() + kMostWays;
  while (!work_.empty() && lists_.size() < full) {
    const int32_t id = work_.back();
    work_.pop_back();
    if (std::exchange(seen_[static_cast<size_t>(id)], seen_stamp_) == seen_stamp_) continue;
    const Node n = nodes_[static_cast<size_t>(id)];
    if (id == kEnd) {
      lists_.push_back(id);
      continue;
    }
    const auto& i = a.code_[static_cast<size_t>(n.place)];
    // A rule's last call leaves with it, so that the stack does not grow with a list's length.
    const auto enter = [&](int32_t parent) {
      work_.push_back(node({a.rules_[static_cast<size_t>(i.which)], 0, 0, parent}));
    };
    switch (i.kind) {
      case Kind::leave: work_.push_back(n.parent); break;
      case Kind::one_of:
      case Kind::string_rest: lists_.push_back(id); break;
      case Kind::either:
        for (int32_t k = i.most; k-- > 0;)  // the first is followed first
          if (const Place p = a.targets_[static_cast<size_t>(i.which + k)]; finishes(p))
            work_.push_back(node({p, 0, 0, n.parent}));
        break;
      case Kind::call: enter(i.next == ByteAutomaton::kReturn ? n.parent : node({i.next, 0, 0, n.parent})); break;
      case Kind::repeat: {
        if (n.count >= i.least) work_.push_back(node({i.next, 0, 0, n.parent}));
        const bool more = i.most == ByteAutomaton::kNoLimit || n.count < i.most;
        if (!more || !finishes(a.rules_[static_cast<size_t>(i.which)])) break;
        // Without a limit it matters only whether there are enough.
        const int32_t count = i.most == ByteAutomaton::kNoLimit ? std::min(n.count + 1, i.least) : n.count + 1;
        enter(node({n.place, count, 0, n.parent}));
        break;
      }
    }
  }
}

int32_t ByteMatcher::target(int32_t way) {
  if (const int32_t known = target_[static_cast<size_t>(way)]; known >= 0) return known;
  const Node n = nodes_[static_cast<size_t>(way)];
  const int32_t found = node({automaton_->code_[static_cast<size_t>(n.place)].next, 0, 0, n.parent});
  return target_[static_cast<size_t>(way)] = found;
}

void ByteMatcher::join(int32_t way, Ways& to) {
  if (std::exchange(joined_[static_cast<size_t>(way)], join_stamp_) != join_stamp_ && to.size() < kMostWays)
    to.push_back(way);
}

/// Alternatives often lead to the same place, which is gone on from once.
size_t ByteMatcher::join_after(int32_t way, Ways& to) {
  if (to.size() >= kMostWays) return 0;
  const auto at = static_cast<size_t>(target(way));
  if (std::exchange(left_[at], join_stamp_) == join_stamp_) return 0;
  size_t work = 0;
  if (ways_[at].begin < 0) {
    const size_t begin = lists_.size();
    expand(static_cast<int32_t>(at));
    ways_[at] = {static_cast<int32_t>(begin), static_cast<int32_t>(lists_.size())};
    work = kExpandWork * (lists_.size() - begin);
  }
  const Range range = ways_[at];
  for (int32_t k = range.begin; k < range.end; ++k) join(lists_[static_cast<size_t>(k)], to);
  return work + static_cast<size_t>(range.end - range.begin);
}

size_t ByteMatcher::step(const Ways& from, uint8_t byte, Ways& to) {
  using Kind = ByteAutomaton::Kind;
  to.clear();
  ++join_stamp_;
  size_t work = from.size();
  for (int32_t way : from) {
    if (way == kEnd) continue;
    Node n = nodes_[static_cast<size_t>(way)];
    const auto& i = automaton_->code_[static_cast<size_t>(n.place)];
    if (i.kind == Kind::one_of) {
      if (automaton_->sets_[static_cast<size_t>(i.which)][byte]) work += join_after(way, to);
      continue;
    }
    const int8_t state = json_string::step(static_cast<int8_t>(n.within), byte);
    if (state == json_string::kBad) continue;
    if (state == json_string::kQuote) {
      if (n.count >= i.least) work += join_after(way, to);
      continue;
    }
    if (n.within == json_string::kBetween && i.most != ByteAutomaton::kNoLimit && n.count >= i.most) continue;
    if (state == json_string::kDone) {
      n.within = json_string::kBetween;
      n.count = i.most == ByteAutomaton::kNoLimit ? std::min(n.count + 1, i.least) : n.count + 1;
    } else {
      n.within = state;
    }
    join(node(n), to);
  }
  return work;
}

ByteMatcher::Parts ByteMatcher::parts() const {
  Parts out;
  for (int32_t way : now_) {
    const Node& n = nodes_[static_cast<size_t>(way)];
    const auto* i = way == kEnd ? nullptr : &automaton_->code_[static_cast<size_t>(n.place)];
    const bool string =
        i != nullptr && i->kind == ByteAutomaton::Kind::string_rest && n.within == json_string::kBetween;
    (string ? out.strings : out.others).push_back(way);
    if (string) out.room = i->most == ByteAutomaton::kNoLimit ? INT32_MAX : std::max(out.room, i->most - n.count);
  }
  return out;
}

void ByteMatcher::accept(std::string_view bytes) {
  constexpr size_t kMostListed = 1 << 20;
  Parts p = parts();
  Ways next;
  for (Ways* ways : {&p.strings, &p.others})
    for (char c : bytes) {
      step(*ways, static_cast<uint8_t>(c), next);
      ways->swap(next);
    }
  now_.clear();
  ++join_stamp_;
  for (const Ways& ways : {p.strings, p.others})
    for (int32_t way : ways) join(way, now_);
  if (nodes_.size() > forget_at_ || lists_.size() > kMostListed) forget();
}

/// Keeps only the nodes that a way still leads back to.
void ByteMatcher::forget() {
  const std::vector<Node> old = std::move(nodes_);
  const Ways ways = std::move(now_);
  start();
  now_.clear();
  std::vector<int32_t> fresh(old.size(), -1), chain;
  fresh[kEnd] = kEnd;
  for (int32_t way : ways) {
    chain.clear();
    for (int32_t at = way; fresh[static_cast<size_t>(at)] < 0; at = old[static_cast<size_t>(at)].parent)
      chain.push_back(at);
    for (size_t k = chain.size(); k-- > 0;) {
      Node n = old[static_cast<size_t>(chain[k])];
      n.parent = fresh[static_cast<size_t>(n.parent)];
      fresh[static_cast<size_t>(chain[k])] = node(n);
    }
    now_.push_back(fresh[static_cast<size_t>(way)]);
  }
  forget_at_ = std::max<size_t>(1 << 16, 2 * nodes_.size());
}

bool ByteMatcher::complete() const { return std::find(now_.begin(), now_.end(), kEnd) != now_.end(); }

}  // namespace qwerky
