// SPDX-License-Identifier: MIT
// binary16 of CUDA's header by the project's own type.
#pragma once

#include "tensor/tensor.h"

struct __half : qwerky::f16 {};

inline float __half2float(__half x) { return static_cast<float>(x); }
