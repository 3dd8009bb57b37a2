// SPDX-License-Identifier: MIT
// CPython's `random.Random`: the same seed gives the same numbers, so few-shot examples and bootstraps are lm-eval's.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace qwerky {

/// MT19937 seeded as `random.seed(int)` does: init_by_array over the seed's 32-bit limbs, lowest first.
class PythonRandom {
 public:
  explicit PythonRandom(uint64_t seed);
  uint32_t bits32();
  /// random(): 53 bits in [0, 1).
  double random();
  /// _randbelow(n), n > 0: the top bit_length(n) bits of a draw, again until below n.
  uint32_t below(uint32_t n);
  /// sample(range(n), k): k different indices in drawn order; k <= n.
  std::vector<int64_t> sample(int64_t n, int64_t k);
  /// One of choices(range(n), …) with replacement: floor(random() · n).
  int64_t choice(int64_t n) { return static_cast<int64_t>(random() * static_cast<double>(n)); }
  /// shuffle(list)
  template <class T>
  void shuffle(std::vector<T>& items) {
    for (std::size_t i = items.size(); i-- > 1;) std::swap(items[i], items[below(static_cast<uint32_t>(i + 1))]);
  }

 private:
  void twist();
  std::array<uint32_t, 624> state_;
  std::size_t at_ = 624;
};

}  // namespace qwerky
