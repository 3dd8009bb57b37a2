// SPDX-License-Identifier: MIT
// <immintrin.h> without the warnings of g++ 12 about operands it leaves undefined on purpose.
#pragma once

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
