// SPDX-License-Identifier: MIT
#include "serve/lane.h"

#include <boost/asio/post.hpp>

namespace qwerky::serve {

bool Lane::post(const std::string& owner, std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    const int64_t own = waiting_.size(owner) + (owner == working_ ? under_way_ : 0);
    if (!has_place(most_, waiting_.size() + under_way_, own, fair_)) return false;
    waiting_.queues[owner].push_back(std::move(work));
  }
  boost::asio::post(thread_, [this] { next(); });
  return true;
}

int64_t Lane::held() const {
  const std::lock_guard lock(mutex_);
  return waiting_.size() + under_way_;
}

void Lane::join() { thread_.join(); }

void Lane::next() {
  std::function<void()> work;
  {
    const std::lock_guard lock(mutex_);
    work = waiting_.take();
    working_ = waiting_.served;
    under_way_ = 1;
  }
  work();
  const std::lock_guard lock(mutex_);
  under_way_ = 0;
}

}  // namespace qwerky::serve
