// SPDX-License-Identifier: MIT
// Does a text share a run of n characters with any of some other texts? Linear time, exact.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qwerky {

class OverlapIndex {
 public:
  /// `run` characters (Unicode code points) count as shared; at least 1.
  explicit OverlapIndex(int64_t run);
  void add(std::string_view text);
  bool shares_run(std::string_view text) const;

 private:
  /// A place of text_ where a run begins, found by the hash of that run.
  struct Slot {
    uint32_t tag = 0;    // of the hash; also decides where the search for a slot begins
    uint32_t place = 0;  // plus one; 0 means free
  };
  bool find(uint32_t tag, const char32_t* run, size_t& slot) const;
  void grow();

  size_t run_;
  uint64_t top_;  // kBase^(run - 1)
  std::u32string text_;
  std::vector<Slot> slots_;  // a power of two, at most half of them taken
  size_t taken_ = 0;
};

}  // namespace qwerky
