// SPDX-License-Identifier: MIT
// parallel_for: every item once, whatever the threads and the grain, from several threads at once, and nested.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"

namespace qwerky {
namespace {

class Parallel : public ::testing::Test {
 protected:
  ~Parallel() override { set_threads(before_); }
  int before_ = threads();
};

TEST_F(Parallel, CoversEveryItemOnce) {
  for (const int n : {1, 2, 3, 7}) {
    set_threads(n);
    for (const int64_t items : {0, 1, 2, 5, 64, 1000})
      for (const int64_t grain : {0, 1, 3, 100, 5000}) {
        std::vector<std::atomic<int>> hits(static_cast<size_t>(items));
        parallel_for(items, grain, [&](int64_t begin, int64_t end) {
          EXPECT_LT(begin, end);
          for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
        });
        for (const auto& h : hits) ASSERT_EQ(h, 1) << n << " threads, " << items << " items, grain " << grain;
      }
  }
}

TEST_F(Parallel, HandlesMoreItemsThanFitIn32Bits) {
  set_threads(3);
  const int64_t items = (int64_t{1} << 40) + 12345;
  std::atomic<int64_t> covered = 0;
  parallel_for(items, 1 << 20, [&](int64_t begin, int64_t end) { covered += end - begin; });
  EXPECT_EQ(covered, items);
}

TEST_F(Parallel, ManyShortCallsInARow) {
  set_threads(3);
  std::atomic<int64_t> sum = 0;
  for (int call = 0; call < 20000; ++call) parallel_for(6, 1, [&](int64_t begin, int64_t end) { sum += end - begin; });
  EXPECT_EQ(sum, 6 * 20000);
}

TEST_F(Parallel, NestedCallsRunInline) {
  set_threads(3);
  std::atomic<int64_t> sum = 0;
  parallel_for(8, 1, [&](int64_t begin, int64_t end) {
    const auto self = std::this_thread::get_id();
    for (int64_t i = begin; i < end; ++i)
      parallel_for(10, 1, [&](int64_t b, int64_t e) {
        EXPECT_EQ(std::this_thread::get_id(), self);
        sum += e - b;
      });
  });
  EXPECT_EQ(sum, 80);
}

TEST_F(Parallel, SeveralCallersAtOnce) {
  set_threads(3);
  std::atomic<int64_t> sum = 0;
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c)
    callers.emplace_back([&] {
      for (int call = 0; call < 500; ++call)
        parallel_for(50, 2, [&](int64_t begin, int64_t end) { sum += end - begin; });
    });
  for (std::thread& t : callers) t.join();
  EXPECT_EQ(sum, 4 * 500 * 50);
}

/// A thread that is late must not hold up the others, and its share is taken over.
TEST_F(Parallel, SharesOfASlowThreadAreTaken) {
  set_threads(2);
  const auto caller = std::this_thread::get_id();
  std::atomic<int64_t> by_caller = 0, total = 0;
  parallel_for(1000, 1, [&](int64_t begin, int64_t end) {
    if (std::this_thread::get_id() == caller) {
      by_caller += end - begin;
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    total += end - begin;
  });
  EXPECT_EQ(total, 1000);
  EXPECT_GT(by_caller, 700) << "half was the caller's; the other thread slept through its first range";
}

TEST_F(Parallel, NeedsAThread) { EXPECT_THROW(set_threads(0), Error); }

}  // namespace
}  // namespace qwerky
