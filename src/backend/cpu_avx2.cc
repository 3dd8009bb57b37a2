// SPDX-License-Identifier: MIT
#include "backend/intrinsics.h"

#include "backend/cpu.h"
#include "backend/scratch.h"
#include "backend/target.h"
#include "base/parallel.h"

QWERKY_TARGET_BEGIN("avx2,fma,f16c")
namespace qwerky::avx2 {

#define QWERKY_ISA 256
constexpr const char* kName = "avx2";
#include "backend/cpu_ops.inl"

}  // namespace qwerky::avx2
QWERKY_TARGET_END

std::unique_ptr<qwerky::Backend> qwerky::avx2::make() { return std::make_unique<Cpu>(Precision::f32, false); }
