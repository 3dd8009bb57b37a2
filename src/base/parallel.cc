// SPDX-License-Identifier: MIT
#include "base/parallel.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>

#include "base/error.h"

namespace qwerky {
namespace {

int available_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return 1;
}

int thread_count = available_cores();

}  // namespace

void set_threads(int n) {
  if (n < 1) fail("threads: expected a number of at least 1, got ", n);
  thread_count = n;
}

int threads() { return thread_count; }

namespace internal {

void run_parallel(int64_t n, int64_t grain, const void* context, Body body) noexcept {
  if (n <= 0) return;
  const int64_t wanted = std::min<int64_t>(thread_count, n / std::max<int64_t>(grain, 1));
  if (wanted <= 1 || omp_in_parallel() != 0) return body(context, 0, n);
#pragma omp parallel num_threads(static_cast <int>(wanted))
  {
    const int64_t me = omp_get_thread_num();
    const int64_t team = omp_get_num_threads();
    body(context, n * me / team, n * (me + 1) / team);
  }
}

}  // namespace internal
}  // namespace qwerky
