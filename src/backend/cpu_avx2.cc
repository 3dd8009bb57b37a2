// SPDX-License-Identifier: MIT
#include "backend/intrinsics.h"

#include "backend/cpu.h"
#include "backend/scratch.h"
#include "base/parallel.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
namespace qwerky::avx2 {

#define QWERKY_ISA 256
constexpr const char* kName = "avx2";
#include "backend/cpu_ops.inl"

}  // namespace qwerky::avx2
#pragma GCC pop_options

std::unique_ptr<qwerky::Backend> qwerky::avx2::make() { return std::make_unique<Cpu>(Precision::f32, false); }
