// SPDX-License-Identifier: MIT
// Who waits, by owner: owners take turns, of each who came first.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>

namespace qwerky {

template <class T>
struct Turns {
  std::map<std::string, std::deque<T>> queues;  ///< by owner; none is empty
  std::string served;                           ///< owner who had the last turn

  int64_t size() const {
    int64_t all = 0;
    for (const auto& [owner, queue] : queues) all += static_cast<int64_t>(queue.size());
    return all;
  }
  int64_t size(const std::string& owner) const {
    const auto at = queues.find(owner);
    return at == queues.end() ? 0 : static_cast<int64_t>(at->second.size());
  }
  /// Somebody must wait.
  T take() {
    auto next = queues.upper_bound(served);
    if (next == queues.end()) next = queues.begin();
    served = next->first;
    T first = std::move(next->second.front());
    next->second.pop_front();
    if (next->second.empty()) queues.erase(next);
    return first;
  }
};

/// Whether there is a place left for one more of `owner`, who holds `held` of `all` that are taken. With `fair`, an
/// owner may hold at most as many as it leaves free: who comes new finds one, as long as there is more than one left.
inline bool has_place(int64_t places, int64_t all, int64_t held, bool fair) {
  return all < places && (!fair || held < places - all);
}

}  // namespace qwerky
