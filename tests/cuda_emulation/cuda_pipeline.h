// SPDX-License-Identifier: MIT
// Asynchronous copies to shared memory: done when waited for, no sooner.
#pragma once

#include <cuda_runtime.h>

inline void __pipeline_memcpy_async(void* to, const void* from, size_t bytes) {
  cuda_emulation::copy_later(to, from, bytes);
}
inline void __pipeline_commit() {}
/// Here only the wait for all copies.
inline void __pipeline_wait_prior(size_t) { cuda_emulation::copy_now(); }
