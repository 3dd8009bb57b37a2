// SPDX-License-Identifier: MIT
// Working memory of kernels: per thread and purpose, kept between calls, so that hot loops never allocate.
#pragma once

#include <cstdint>

namespace qwerky {

/// One buffer each; a kernel that calls another kernel must not share its purpose.
enum class Scratch { operands, codes, gemm_a, gemm_b, gated, wkv, attention, attention_blocks, rows, losses, count };

/// At least `bytes` of 64-byte aligned memory of the calling thread, valid until its next call with the same purpose.
/// The content is unspecified.
void* scratch(Scratch purpose, int64_t bytes) noexcept;

}  // namespace qwerky
