// SPDX-License-Identifier: MIT
#include "engine/json_rules.h"

#include <algorithm>

#include "base/error.h"

namespace qwerky {

namespace {

constexpr auto kReturn = ByteAutomaton::kReturn;
constexpr int32_t kMostIndent = 20, kMostDigits = 18;

ByteSet bytes_between(int first, int last) {
  ByteSet set;
  for (int b = first; b <= last; ++b) set.set(static_cast<size_t>(b));
  return set;
}

ByteSet bytes_in(std::string_view text) {
  ByteSet set;
  for (char c : text) set.set(static_cast<unsigned char>(c));
  return set;
}

}  // namespace

using Place = ByteAutomaton::Place;

JsonRules::JsonRules(ByteAutomaton& automaton) : a(automaton) {
  never = a.either({});
  digit_ = a.rule(range_of('0', '9', kReturn));
  const Place indent = a.repeat(a.rule(a.one_of(bytes_in(" \t"), kReturn)), 0, kMostIndent, kReturn);
  space_ = a.rule(either({kReturn, a.bytes(" ", kReturn), a.bytes("\n", indent)}));

  const auto tail = [&](int first, int last, Place next) { return a.one_of(bytes_between(first, last), next); };
  const Place one = tail(0x80, 0xBF, kReturn), two = tail(0x80, 0xBF, one);
  // E2 80 A8 and E2 80 A9 are U+2028 and U+2029.
  const Place separators =
      either({a.bytes("\x80", a.one_of(bytes_between(0x80, 0xBF) & ~bytes_between(0xA8, 0xA9), kReturn)),
              tail(0x81, 0xBF, one)});
  beyond_ascii_ = a.rule(either({
      tail(0xC2, 0xDF, one),
      a.bytes("\xE0", tail(0xA0, 0xBF, one)),
      a.bytes("\xE2", separators),
      a.bytes("\xED", tail(0x80, 0x9F, one)),
      a.one_of(bytes_in("\xE1\xE3\xEE\xEF") | bytes_between(0xE4, 0xEC), two),
      a.bytes("\xF0", tail(0x90, 0xBF, two)),
      tail(0xF1, 0xF3, tail(0x80, 0xBF, two)),
      a.bytes("\xF4", tail(0x80, 0x8F, two)),
  }));

  any = a.new_rule();
  const auto member = a.rule(string(0, kNoLimit, a.bytes(":", space(a.call(any, kReturn)))));
  any_object = a.rule(a.bytes("{", list(member, 0, kNoLimit, '}', kReturn)));
  a.define(any, either({a.call(any_object, kReturn), a.bytes("[", list(any, 0, kNoLimit, ']', kReturn)),
                        string(0, kNoLimit, kReturn), number({}, false, kReturn), a.bytes("true", kReturn),
                        a.bytes("false", kReturn), a.bytes("null", kReturn)}));
}

Place JsonRules::range_of(char first, char last, Place next) { return a.one_of(bytes_between(first, last), next); }

Place JsonRules::list_rest(Rule item, int32_t least, int32_t most, char end, Place next) {
  const Place done = close(end, next);
  return most == 0 ? (least > 0 ? never : done) : a.repeat(a.rule(comma(a.call(item, kReturn))), least, most, done);
}

Place JsonRules::list(Rule item, int32_t least, int32_t most, char end, Place next) {
  std::vector<Place> ways;
  if (most != 0) {
    const int32_t more = most == kNoLimit ? most : most - 1;
    ways.push_back(a.call(item, list_rest(item, std::max(0, least - 1), more, end, next)));
  }
  if (least == 0) ways.push_back(a.bytes(std::string(1, end), next));
  return space(either(ways));
}

Place JsonRules::one_of_texts(std::vector<std::string> texts, Place next) {
  std::sort(texts.begin(), texts.end());
  texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
  // Texts with a common beginning share its places, so that many alternatives are few ways.
  const auto build = [&](const auto& self, size_t first, size_t last, size_t depth) -> Place {
    const std::string &low = texts[first], &high = texts[last - 1];
    size_t shared = depth;
    while (shared < low.size() && shared < high.size() && low[shared] == high[shared]) ++shared;
    std::vector<Place> ways;
    if (low.size() == shared) ways.push_back(next), ++first;
    while (first < last) {
      size_t end = first + 1;
      while (end < last && texts[end][shared] == texts[first][shared]) ++end;
      ways.push_back(self(self, first, end, shared));
      first = end;
    }
    return a.bytes(std::string_view(low).substr(depth, shared - depth), either(ways));
  };
  return texts.empty() ? never : build(build, 0, texts.size(), 0);
}

Place JsonRules::other_key(const std::vector<std::string>& names, Place next) {
  for (const std::string& name : names) {
    constexpr size_t kLongest = 256;
    if (name.size() > kLongest)
      fail("property names of more than ", kLongest, " bytes beside additionalProperties are not supported");
  }
  return a.bytes("\"", other_than(names, 0, next));
}

/// What goes on from the first `depth` bytes of all these names and ends, quote included, as none of them.
Place JsonRules::other_than(std::vector<std::string> names, size_t depth, Place next) {
  const Place rest = a.string_rest(0, kNoLimit, next);
  std::vector<Place> ways;
  ByteSet differs = bytes_between(0x20, 0x7F) & ~bytes_in("\"\\");
  bool ends = false, ascii = true;
  std::sort(names.begin(), names.end());
  for (size_t first = 0, last; first < names.size(); first = last) {
    last = first + 1;
    if (names[first].size() == depth) {
      ends = true;
      continue;
    }
    const char c = names[first][depth];
    while (last < names.size() && names[last].size() > depth && names[last][depth] == c) ++last;
    if (c == '"' || c == '\\' || (c >= 0 && c < 0x20))
      continue;  // not without an escape, and there is none before here
    const auto begin = names.begin() + static_cast<int64_t>(first);
    const Place deeper = other_than({begin, names.begin() + static_cast<int64_t>(last)}, depth + 1, next);
    ways.push_back(a.bytes(std::string(1, c), deeper));
    differs.reset(static_cast<unsigned char>(c));
    ascii = ascii && c >= 0;
  }
  // A name's next byte tells whether the first `depth` of them end within a character.
  const bool within = !names.empty() && names[0].size() > depth && (names[0][depth] & 0xC0) == 0x80;
  if (!within) {
    ways.push_back(a.one_of(differs, rest));
    if (ascii) ways.push_back(beyond_ascii(rest));
    if (!ends) ways.push_back(a.bytes("\"", next));
  }
  return either(ways);
}

Place JsonRules::same_length(std::string_view least, std::string_view most, Place next) {
  if (least.empty()) return next;
  const auto n = static_cast<int32_t>(least.size()) - 1;
  const std::string nines(least.size(), '9'), zeros(least.size(), '0');
  if (least.substr(1) == std::string_view(zeros).substr(1) && most.substr(1) == std::string_view(nines).substr(1))
    return range_of(least[0], most[0], digits(n, n, next));
  if (least[0] == most[0]) return range_of(least[0], least[0], same_length(least.substr(1), most.substr(1), next));
  std::vector<Place> ways;
  ways.push_back(range_of(least[0], least[0], same_length(least.substr(1), std::string_view(nines).substr(1), next)));
  if (most[0] - least[0] > 1)
    ways.push_back(range_of(static_cast<char>(least[0] + 1), static_cast<char>(most[0] - 1), digits(n, n, next)));
  ways.push_back(range_of(most[0], most[0], same_length(std::string_view(zeros).substr(1), most.substr(1), next)));
  return either(ways);
}

/// Whole numbers, 0 <= least.
Place JsonRules::whole(int64_t least, int64_t most, Place next) {
  std::vector<Place> ways;
  int32_t shortest = 0, longest = 0;  // lengths of which every number is in the range
  int64_t low = 0;                    // of the numbers with so many digits
  for (int32_t length = 1; length <= kMostDigits; ++length) {
    const int64_t high = std::max<int64_t>(low, 1) * 10 - 1;
    const int64_t first = std::max(low, least), last = std::min(high, most);
    if (length > 1 && first == low && last == high) {
      longest = length;
      if (shortest == 0) shortest = length;
    } else if (first <= last) {
      ways.push_back(same_length(std::to_string(first), std::to_string(last), next));
    }
    low = high + 1;
  }
  if (shortest > 0) ways.push_back(range_of('1', '9', digits(shortest - 1, longest - 1, next)));
  return either(ways);
}

/// Numbers of the range, 0 <= range.least, without a sign.
Place JsonRules::magnitude(const NumberRange& r, bool is_whole, Place next) {
  const int64_t first = r.least + (r.above ? 1 : 0), last = r.most - (r.below ? 1 : 0);
  if (is_whole) return whole(first, last, next);
  const Place fraction = a.bytes(".", digits(1, kMostDigits, next));
  std::vector<Place> ways;
  // Below the last whole number any fraction may follow.
  if (const int64_t open = r.most - 1; first <= open) ways.push_back(whole(first, open, either({next, fraction})));
  if (r.above && r.least < r.most) {
    const auto zero = a.rule(a.bytes("0", kReturn));
    const Place tail = range_of('1', '9', digits(0, kMostDigits / 2, next));
    ways.push_back(whole(r.least, r.least, a.bytes(".", a.repeat(zero, 0, kMostDigits / 2 - 1, tail))));
  }
  if (!r.below && r.most >= first) {
    const auto zero = a.rule(a.bytes("0", kReturn));
    ways.push_back(whole(r.most, r.most, either({next, a.bytes(".", a.repeat(zero, 1, kMostDigits, next))})));
  }
  return either(ways);
}

Place JsonRules::number(const NumberRange& r, bool is_whole, Place next) {
  if (r.least == -NumberRange::kMost && r.most == NumberRange::kMost && !is_whole) {
    const Place exponent =
        a.one_of(bytes_in("eE"), either({digits(1, 2, next), a.one_of(bytes_in("+-"), digits(1, 2, next))}));
    const Place end = either({next, exponent});
    const Place fraction = either({end, a.bytes(".", digits(1, kMostDigits, end))});
    const Place magnitude = whole(0, NumberRange::kMost, fraction);
    return either({magnitude, a.bytes("-", magnitude)});
  }
  std::vector<Place> ways;
  if (r.most >= 0) {
    NumberRange positive = r;
    if (r.least < 0) positive.least = 0, positive.above = false;
    ways.push_back(magnitude(positive, is_whole, next));
  }
  if (r.least < 0) {  // the mirror image, without -0
    NumberRange mirrored{.least = -r.most, .most = -r.least, .above = r.below, .below = r.above};
    if (mirrored.least < 0) mirrored.least = 0;
    if (r.most >= 0) mirrored.above = true;
    ways.push_back(a.bytes("-", magnitude(mirrored, is_whole, next)));
  }
  return either(ways);
}

}  // namespace qwerky
