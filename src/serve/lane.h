// SPDX-License-Identifier: MIT
// Work of many owners on one thread: one piece after the other, owners in turns.
#pragma once

#include <utility>  // asio 1.74 needs it for C++20, and leaves it out

#include <boost/asio/thread_pool.hpp>
#include <functional>
#include <mutex>
#include <string>

#include "base/turns.h"

namespace qwerky::serve {

/// Safe to call from any thread.
class Lane {
 public:
  /// Holds at most `most` pieces of work, the one under way included; with `fair`, of one owner at most as many as that
  /// leaves free.
  Lane(int64_t most, bool fair) : most_(most), fair_(fair) {}

  bool post(const std::string& owner, std::function<void()> work);  ///< false: there is no place for it
  int64_t held() const;
  void join();  ///< waits until all is done

 private:
  void next();

  const int64_t most_;
  const bool fair_;
  mutable std::mutex mutex_;  // of what follows, but for the thread
  Turns<std::function<void()>> waiting_;
  std::string working_;  // owner of the piece under way
  int64_t under_way_ = 0;
  boost::asio::thread_pool thread_{1};
};

}  // namespace qwerky::serve
