// SPDX-License-Identifier: MIT
// Work of many owners on one thread: turns, places.
#include "serve/lane.h"

#include <gtest/gtest.h>

#include <future>
#include <limits>
#include <vector>

namespace qwerky::serve {
namespace {

/// Holds up a lane until it is let go.
struct HeldUp {
  explicit HeldUp(Lane& lane, const std::string& owner) {
    EXPECT_TRUE(lane.post(owner, [this] {
      begun.set_value();
      go.get_future().wait();
    }));
    begun.get_future().wait();
  }
  std::promise<void> begun, go;
};

TEST(Lane, OwnersTakeTurnsAndEachComesInOrder) {
  std::vector<std::string> done;
  Lane lane(std::numeric_limits<int64_t>::max(), true);
  HeldUp first(lane, "a");
  const auto add = [&](const std::string& owner, const std::string& name) {
    EXPECT_TRUE(lane.post(owner, [&done, name] { done.push_back(name); }));
  };
  for (const char* name : {"a1", "a2", "a3", "a4"}) add("a", name);
  for (const char* name : {"c1", "c2"}) add("c", name);
  add("b", "b1");
  EXPECT_EQ(lane.held(), 8);
  first.go.set_value();
  lane.join();
  EXPECT_EQ(done, (std::vector<std::string>{"b1", "c1", "a1", "c2", "a2", "a3", "a4"}));
  EXPECT_EQ(lane.held(), 0);
}

TEST(Lane, NoOwnerFillsIt) {
  for (const bool fair : {false, true}) {
    int done = 0;
    Lane lane(5, fair);
    HeldUp first(lane, "a");
    const auto fits = [&](const std::string& owner) { return lane.post(owner, [&done] { ++done; }); };
    int own = 1;
    while (own < 10 && fits("a")) ++own;
    EXPECT_EQ(own, fair ? 3 : 5) << "what is under way counts";
    EXPECT_EQ(fits("b"), fair);
    EXPECT_FALSE(fits("a"));
    first.go.set_value();
    lane.join();
    EXPECT_EQ(done, fair ? 3 : 4);
  }
}

}  // namespace
}  // namespace qwerky::serve
