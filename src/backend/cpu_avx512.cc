// SPDX-License-Identifier: MIT
#include "backend/intrinsics.h"

#include "backend/cpu.h"
#include "backend/scratch.h"
#include "backend/target.h"
#include "base/parallel.h"

QWERKY_TARGET_BEGIN("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni")
#ifndef __clang__  // which has no such option
#pragma GCC target("prefer-vector-width=512")
#endif
namespace qwerky::avx512 {

#define QWERKY_ISA 512
constexpr const char* kName = "avx512";
#include "backend/cpu_ops.inl"

}  // namespace qwerky::avx512
QWERKY_TARGET_END

std::unique_ptr<qwerky::Backend> qwerky::avx512::make(Precision precision, bool vnni) {
  return std::make_unique<Cpu>(precision, vnni);
}
