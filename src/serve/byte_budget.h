// SPDX-License-Identifier: MIT
// Bytes that are held for many owners at once, of one budget.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace qwerky::serve {

/// An owner may hold at most as many as it leaves free: half, the next half of what is left, and so on. So one who
/// comes new finds room.
class ByteBudget {
 public:
  explicit ByteBudget(int64_t most) : most_(most) {}
  /// One thing of `owner` takes `wanted` bytes instead of `held`. False, and nothing is changed, where it would be more
  /// and there is no room for it.
  bool change(const std::string& owner, int64_t& held, int64_t wanted) {
    if (wanted == held) return true;
    int64_t& own = owned_[owner];
    const int64_t more = wanted - held, all = all_ + more;
    const bool fits = more < 0 || own + more <= most_ - all;
    if (fits) {
      own += more;
      all_ = all;
      held = wanted;
    }
    if (own == 0) owned_.erase(owner);
    return fits;
  }
  int64_t held() const { return all_; }

 private:
  const int64_t most_;
  int64_t all_ = 0;
  std::map<std::string, int64_t> owned_;  // none is 0
};

}  // namespace qwerky::serve
