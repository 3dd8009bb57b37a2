// SPDX-License-Identifier: MIT
// The only threading construct: a split of [0, n) over a pool of threads.
#pragma once

#include <cstdint>
#include <type_traits>

namespace qwerky {

/// Threads used by parallel_for; 1 <= n. Default: the cores this process may run on.
void set_threads(int n);
int threads();
/// Those this process may run on.
int cores();

namespace internal {
using Body = void (*)(const void* context, int64_t begin, int64_t end);
void run_parallel(int64_t n, int64_t grain, const void* context, Body body) noexcept;
}  // namespace internal

/// Calls f(begin, end) on disjoint ranges that cover [0, n). Each thread starts on an even share and, when done, takes
/// from what the others have left; a range holds at least `grain` items (fewer only at the end of a share), and work
/// of fewer than 2 grains stays on the calling thread. Which items share a range must not change results. Inside
/// another parallel_for, and while another thread's is running, it runs inline. f must not throw.
///
/// Threads of the pool spin for a few microseconds for the next call, then sleep; one that has not come by the time
/// the work is done is not waited for.
template <class F>
void parallel_for(int64_t n, int64_t grain, const F& f) {
  internal::run_parallel(n, grain, &f, [](const void* context, int64_t begin, int64_t end) {
    (*static_cast<const F*>(context))(begin, end);
  });
}

}  // namespace qwerky
