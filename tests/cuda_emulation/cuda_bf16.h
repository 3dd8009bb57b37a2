// SPDX-License-Identifier: MIT
// bf16 of CUDA's header by the project's own type.
#pragma once

#include "tensor/tensor.h"

struct __nv_bfloat16 : qwerky::bf16 {};

inline float __bfloat162float(__nv_bfloat16 x) { return static_cast<float>(x); }
inline __nv_bfloat16 __float2bfloat16(float x) { return {qwerky::bf16(x)}; }
