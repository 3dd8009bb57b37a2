// SPDX-License-Identifier: MIT
#include "io/overlap.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/random.h"
#include "io/tokenizer_utf8.h"

namespace qwerky {
namespace {

// Hash of a run c: sum c[i] * base^(run - 1 - i) mod p, rolled along the text (Karp and Rabin 1987).
constexpr uint64_t kPrime = (uint64_t{1} << 61) - 1;
constexpr uint64_t kBase = mix64(0x7177656b79) % kPrime;  // any value that a text is unlikely to be made for

constexpr uint64_t multiply(uint64_t a, uint64_t b) {
  const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  const uint64_t sum = static_cast<uint64_t>(product & kPrime) + static_cast<uint64_t>(product >> 61);
  return sum >= kPrime ? sum - kPrime : sum;
}

constexpr uint64_t add_mod(uint64_t a, uint64_t b) { return a + b >= kPrime ? a + b - kPrime : a + b; }

std::u32string code_points(std::string_view text) {
  std::u32string points;
  points.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const auto byte = static_cast<unsigned char>(text[at]);
    if (byte < 0x80) {
      points.push_back(byte);
      ++at;
      continue;
    }
    const Utf8Step step = utf8_step(text, at);
    points.push_back(static_cast<char32_t>(step.code));
    at += static_cast<size_t>(step.length);
  }
  return points;
}

/// Calls f(tag, begin) for every run of `run` characters until f returns true; whether one did.
template <class F>
bool any_run(const std::u32string& text, size_t run, uint64_t top, const F& f) {
  uint64_t hash = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (i >= run) hash = add_mod(hash, kPrime - multiply(text[i - run], top));
    hash = add_mod(multiply(hash, kBase), text[i]);
    if (i + 1 >= run && f(static_cast<uint32_t>(mix64(hash) >> 32), i + 1 - run)) return true;
  }
  return false;
}

}  // namespace

OverlapIndex::OverlapIndex(int64_t run) : run_(static_cast<size_t>(run)), top_(1), slots_(1024) {
  if (run < 1) fail("overlap: expected a run of at least 1 character, got ", run);
  for (size_t i = 1; i < run_; ++i) top_ = multiply(top_, kBase);
}

bool OverlapIndex::find(uint32_t tag, const char32_t* run, size_t& slot) const {
  const size_t mask = slots_.size() - 1;
  for (slot = tag & mask; slots_[slot].place != 0; slot = (slot + 1) & mask) {
    if (slots_[slot].tag == tag && std::equal(run, run + run_, text_.data() + slots_[slot].place - 1)) return true;
  }
  return false;
}

void OverlapIndex::grow() {
  std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(2 * slots_.size()));
  const size_t mask = slots_.size() - 1;
  for (const Slot& s : old) {
    if (s.place == 0) continue;
    size_t slot = s.tag & mask;
    while (slots_[slot].place != 0) slot = (slot + 1) & mask;
    slots_[slot] = s;
  }
}

void OverlapIndex::add(std::string_view text) {
  constexpr size_t kMost = size_t{1} << 31;
  const std::u32string points = code_points(text);
  const size_t base = text_.size();
  if (points.size() > kMost - base) fail("overlap: more than ", kMost, " characters of text to compare with");
  text_ += points;
  any_run(points, run_, top_, [&](uint32_t tag, size_t begin) {
    size_t slot = 0;
    if (find(tag, points.data() + begin, slot)) return false;
    slots_[slot] = {tag, static_cast<uint32_t>(base + begin + 1)};
    if (2 * ++taken_ > slots_.size()) grow();
    return false;
  });
}

bool OverlapIndex::shares_run(std::string_view text) const {
  if (taken_ == 0) return false;
  const std::u32string points = code_points(text);
  return any_run(points, run_, top_, [&](uint32_t tag, size_t begin) {
    size_t slot = 0;
    return find(tag, points.data() + begin, slot);
  });
}

}  // namespace qwerky
