// SPDX-License-Identifier: MIT
// The parts of JSON (RFC 8259) as pieces of an automaton. Each is built in front of the place it leads to.
#pragma once

#include <string>
#include <vector>

#include "engine/byte_automaton.h"

namespace qwerky {

/// A set of numbers. Ends are whole numbers; a number is written with at most 18 digits before the point, so those
/// beyond ±(10^18 - 1) mean no limit.
struct NumberRange {
  static constexpr int64_t kMost = 999'999'999'999'999'999;
  int64_t least = -kMost, most = kMost;
  bool above = false, below = false;  ///< least and most themselves are outside
};

class JsonRules {
 public:
  using Place = ByteAutomaton::Place;
  using Rule = ByteAutomaton::Rule;
  static constexpr int32_t kNoLimit = ByteAutomaton::kNoLimit;

  explicit JsonRules(ByteAutomaton& a);

  ByteAutomaton& a;
  Rule any;         ///< any value
  Rule any_object;  ///< any object
  Place never;      ///< cannot be finished

  Place either(const std::vector<Place>& places) { return a.either(places); }
  /// Nothing, one space, or a line feed and at most 20 spaces and tabs: a weak model would fill whatever is allowed.
  Place space(Place next) { return a.call(space_, next); }
  Place string(int32_t least, int32_t most, Place next) { return a.bytes("\"", a.string_rest(least, most, next)); }
  /// One of these texts.
  Place one_of_texts(std::vector<std::string> texts, Place next);
  /// A key that is none of these, written without escapes.
  Place other_key(const std::vector<std::string>& names, Place next);
  Place digits(int32_t least, int32_t most, Place next) { return a.repeat(digit_, least, most, next); }
  /// Numbers of the range: whole, or with at most 18 digits behind the point and, where nothing is limited, an exponent
  /// of at most two digits.
  Place number(const NumberRange& range, bool whole, Place next);
  /// A list of `item`s (',' and white space between) and the bracket or brace that ends it; `least`, `most` of them.
  Place list(Rule item, int32_t least, int32_t most, char end, Place next);
  /// The same behind an item that was written: `least`, `most` more of them.
  Place list_rest(Rule item, int32_t least, int32_t most, char end, Place next);
  Place comma(Place next) { return a.bytes(",", space(next)); }
  Place close(char end, Place next) { return space(a.bytes(std::string(1, end), next)); }
  /// One character beyond ASCII, but no line or paragraph separator.
  Place beyond_ascii(Place next) { return a.call(beyond_ascii_, next); }

 private:
  Place range_of(char first, char last, Place next);
  Place whole(int64_t least, int64_t most, Place next);
  Place same_length(std::string_view least, std::string_view most, Place next);
  Place magnitude(const NumberRange& range, bool whole, Place next);
  Place other_than(std::vector<std::string> names, size_t depth, Place next);

  Rule space_, digit_, beyond_ascii_;
};

}  // namespace qwerky
