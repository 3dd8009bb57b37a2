// SPDX-License-Identifier: MIT
// Makers of the backends of one instruction set. Calling one that the CPU lacks is undefined: see select.cc.
#pragma once

#include <memory>

#include "backend/reference.h"

namespace qwerky {

extern template class ReferenceOf<float>;  // instantiated in select.cc, outside every target region

namespace avx2 {
/// AVX2 and FMA. Products run in f32 whatever the weights' type.
std::unique_ptr<Backend> make();
}  // namespace avx2
namespace avx512 {
/// AVX-512 F, BW, DQ, VL; Precision::bf16 also needs AVX512_BF16, and `vnni` AVX512_VNNI.
std::unique_ptr<Backend> make(Precision precision, bool vnni);
}  // namespace avx512

}  // namespace qwerky
