// SPDX-License-Identifier: MIT
// A pushdown automaton over bytes: what grammars are compiled to, and how a text is followed through one.
#pragma once

#include <bitset>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace qwerky {

using ByteSet = std::bitset<256>;

/// How a JSON text between quotes goes on: states of its characters, UTF-8 and escapes. Characters beyond U+FFFF are
/// written as themselves, never as two escapes.
namespace json_string {
constexpr int8_t kBetween = 0, kDone = 14, kQuote = 15, kBad = -1;  ///< 1 to 13: within a character
int8_t step(int8_t state, uint8_t byte);
}  // namespace json_string

/// A program of instructions that name the one to go on with, so it is built from its end. Immutable afterwards.
class ByteAutomaton {
 public:
  using Place = int32_t;  ///< an instruction
  using Rule = int32_t;   ///< a part that others call; may call itself
  static constexpr int32_t kNoLimit = -1;

  ByteAutomaton();

  static constexpr Place kReturn = 0;  ///< ends a rule
  Place one_of(const ByteSet& bytes, Place next);
  Place bytes(std::string_view text, Place next);
  /// Any of these; none: a dead end, which is never entered.
  Place either(std::span<const Place> places);
  Place call(Rule rule, Place next);
  /// The rule, which must not be empty, `least` to `most` times.
  Place repeat(Rule rule, int32_t least, int32_t most, Place next);
  /// `least` to `most` characters of a JSON string and the quote behind them.
  Place string_rest(int32_t least, int32_t most, Place next);
  Rule new_rule();
  void define(Rule rule, Place entry);
  Rule rule(Place entry);

  /// Finds what can be finished with these bytes, of each of which there is a token. False: no text satisfies `root`.
  bool finish(Rule root, const ByteSet& bytes);
  const ByteSet& bytes() const { return bytes_; }

 private:
  friend class ByteMatcher;
  enum class Kind : uint8_t { leave, one_of, either, call, repeat, string_rest };
  struct Instruction {
    Kind kind;
    Place next;
    int32_t which;  // set, first target or rule
    int32_t least, most;
  };
  Place add(const Instruction& instruction);
  bool can_finish(const Instruction& i) const;

  std::vector<Instruction> code_;
  std::vector<ByteSet> sets_;
  std::unordered_map<ByteSet, int32_t> set_ids_;
  std::vector<Place> targets_, rules_;
  std::vector<uint8_t> finishes_;  // by instruction
  Rule root_ = 0;
  ByteSet bytes_;
};

/// Where a text stands in an automaton: all ways to read it at once. Every way can be finished.
class ByteMatcher {
 public:
  using Ways = std::vector<int32_t>;

  explicit ByteMatcher(std::shared_ptr<const ByteAutomaton> automaton);

  /// Ways to read the text so far; empty when there is none.
  const Ways& ways() const { return now_; }
  /// Those between two characters of a JSON string, and all others.
  struct Parts {
    Ways strings, others;
    int32_t room = 0;  ///< most characters that a string may go on with; INT32_MAX: no limit
  };
  Parts parts() const;
  /// `to` becomes the ways from `from` over this byte, at most kMostWays: of more alternatives the later are not
  /// followed. Returns the work done: ways looked at, joined and, kExpandWork times as much each, found for the first
  /// time.
  size_t step(const Ways& from, uint8_t byte, Ways& to);
  /// Goes on with these bytes, each of the parts by itself: so what step() finds from one of them is accepted.
  void accept(std::string_view bytes);
  /// The text may end here.
  bool complete() const;

  static constexpr size_t kMostWays = 1024, kExpandWork = 4;

 private:
  static constexpr int32_t kEnd = 0;
  struct Node {  // an instruction to run, and where to go on when its rule is done
    ByteAutomaton::Place place;
    int32_t count;   // repeats or characters done
    int32_t within;  // of the character of a string
    int32_t parent;
    bool operator==(const Node&) const = default;
  };
  struct Hash {
    size_t operator()(const Node& n) const;
  };
  struct Range {
    int32_t begin = -1, end = -1;
  };

  int32_t node(const Node& n);
  void start();
  void expand(int32_t from);
  int32_t target(int32_t way);
  void join(int32_t way, Ways& to);
  size_t join_after(int32_t way, Ways& to);
  void forget();

  std::shared_ptr<const ByteAutomaton> automaton_;
  std::vector<Node> nodes_;
  std::unordered_map<Node, int32_t, Hash> ids_;
  std::vector<int32_t> target_;  // by node: the one behind its byte, or its string's quote; -1: not asked yet
  std::vector<Range> ways_;      // by node: ways to go on from it
  std::vector<int32_t> lists_;   // of those
  std::vector<uint64_t> joined_, left_, seen_;  // by node: stamps; left_: ways to go on from it were joined
  uint64_t join_stamp_ = 0, seen_stamp_ = 0;
  std::vector<int32_t> work_;
  size_t forget_at_ = 1 << 16;
  Ways now_;
};

}  // namespace qwerky
