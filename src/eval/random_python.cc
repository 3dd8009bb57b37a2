// SPDX-License-Identifier: MIT
#include "eval/random_python.h"

#include <bit>
#include <numeric>
#include <unordered_set>

#include "base/error.h"

namespace qwerky {

// Constants and seeding: Matsumoto and Nishimura, mt19937ar.
PythonRandom::PythonRandom(uint64_t seed) {
  const uint32_t key[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  const uint32_t limbs = key[1] != 0 ? 2 : 1;
  const uint32_t n = 624;
  state_[0] = 19650218;
  for (uint32_t i = 1; i < n; ++i) state_[i] = 1812433253U * (state_[i - 1] ^ (state_[i - 1] >> 30)) + i;
  uint32_t i = 1, j = 0;
  const auto step = [&] {
    if (++i >= n) {
      state_[0] = state_[n - 1];
      i = 1;
    }
  };
  for (uint32_t k = 0; k < n; ++k) {
    state_[i] = (state_[i] ^ ((state_[i - 1] ^ (state_[i - 1] >> 30)) * 1664525U)) + key[j] + j;
    step();
    if (++j >= limbs) j = 0;
  }
  for (uint32_t k = 0; k < n - 1; ++k) {
    state_[i] = (state_[i] ^ ((state_[i - 1] ^ (state_[i - 1] >> 30)) * 1566083941U)) - i;
    step();
  }
  state_[0] = 0x80000000U;
}

void PythonRandom::twist() {
  for (size_t i = 0; i < 624; ++i) {
    const uint32_t y = (state_[i] & 0x80000000U) | (state_[(i + 1) % 624] & 0x7fffffffU);
    state_[i] = state_[(i + 397) % 624] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfU : 0);
  }
  at_ = 0;
}

uint32_t PythonRandom::bits32() {
  if (at_ == 624) twist();
  uint32_t y = state_[at_++];
  y ^= y >> 11;
  y ^= (y << 7) & 0x9d2c5680U;
  y ^= (y << 15) & 0xefc60000U;
  return y ^ (y >> 18);
}

double PythonRandom::random() {
  const uint32_t high = bits32() >> 5, low = bits32() >> 6;
  return (high * 67108864.0 + low) * (1.0 / 9007199254740992.0);
}

uint32_t PythonRandom::below(uint32_t n) {
  CHECK(n > 0, "below(0)");
  const int drop = 32 - std::bit_width(n);
  for (;;)
    if (const uint32_t r = bits32() >> drop; r < n) return r;
}

std::vector<int64_t> PythonRandom::sample(int64_t n, int64_t k) {
  CHECK(0 <= k && k <= n && n <= UINT32_MAX, "sample of ", k, " from ", n);
  std::vector<int64_t> taken;
  // A copy of the pool is cheaper than a set up to this size: 21 + 4^⌈log4(3k)⌉ for k > 5.
  int64_t most = 21;
  if (k > 5) {
    int64_t power = 1;
    while (power < 3 * k) power *= 4;
    most += power;
  }
  if (n <= most) {
    std::vector<int64_t> pool(static_cast<size_t>(n));
    std::iota(pool.begin(), pool.end(), 0);
    for (int64_t i = 0; i < k; ++i) {
      const size_t j = below(static_cast<uint32_t>(n - i));
      taken.push_back(pool[j]);
      pool[j] = pool[static_cast<size_t>(n - i - 1)];
    }
    return taken;
  }
  std::unordered_set<int64_t> seen;
  while (static_cast<int64_t>(taken.size()) < k)
    if (const int64_t j = below(static_cast<uint32_t>(n)); seen.insert(j).second) taken.push_back(j);
  return taken;
}

}  // namespace qwerky
