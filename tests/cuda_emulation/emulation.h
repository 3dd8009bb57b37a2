// SPDX-License-Identifier: MIT
// How emulated kernels run: blocks one after another; each thread of a block on a stack of its own, from one meeting
// (barrier, shuffle, product of a warp) to the next. Warps run as far apart as barriers let them, lanes as far apart as
// their warp's meetings, in ascending or descending order, so that a missing barrier gives wrong results in one of the
// two. A thread that ends, or waits elsewhere, while others wait for it is an error that names both.
#pragma once

#include <cstdint>

namespace cuda_emulation {

enum class Order { ascending, descending };
/// Of blocks, warps and lanes from now on.
void run_in(Order order);

/// Device memory there seems to be, for tests of running out: bytes that may be allocated at once.
void limit_memory(int64_t bytes);

/// What the emulated device says of itself.
struct Pretence {
  int devices = 1, major = 9, minor = 0, managed = 1;
};
void pretend(const Pretence& p);

/// Graphs that were captured, and launched, since the process began.
struct GraphCounts {
  int64_t captured = 0, launched = 0;
};
GraphCounts graph_counts();
/// Kernels and copies queued by themselves since then.
int64_t calls_queued();

}  // namespace cuda_emulation
