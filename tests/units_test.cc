// SPDX-License-Identifier: MIT
#include "base/units.h"

#include <gtest/gtest.h>

namespace qwerky {
namespace {

TEST(Units, AmountsAsPeopleReadThem) {
  EXPECT_EQ(bytes_text(12 << 10), "12.0 KiB");
  EXPECT_EQ(bytes_text(int64_t{70} << 30), "70.0 GiB");
  EXPECT_EQ(duration_text(97), "97 s");
  EXPECT_EQ(duration_text(19200), "5 h 20 min");
}

TEST(Units, LinesAreCutBetweenCharacters) {
  EXPECT_EQ(first_columns("window 1/188", 12), "window 1/188");
  EXPECT_EQ(first_columns("window 1/188", 11), "window 1/18");
  EXPECT_EQ(first_columns("2 × 3 × 4", 3), "2 ×");
  EXPECT_EQ(first_columns("×", 0), "");
}

TEST(Units, NothingIsMoreThanAllOfTheBandwidth) {
  EXPECT_EQ(bandwidth_text(7.6, 10, false), "76 % of the measured bandwidth");
  EXPECT_EQ(bandwidth_text(15.2, 10, true), "they fit in a cache");
  EXPECT_EQ(bandwidth_text(8.7, 10, true), "they fit in a cache") << "at any rate: memory is not read";
  EXPECT_EQ(bandwidth_text(10.1, 10, false), "above the measured bandwidth of 10.00");
}

}  // namespace
}  // namespace qwerky
