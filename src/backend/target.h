// SPDX-License-Identifier: MIT
// QWERKY_TARGET_BEGIN("avx2,fma") … QWERKY_TARGET_END: the functions between them may use these instructions, and run
// only where select.cc has found them. Headers of others are included before, or their inline functions would use them
// too.
#pragma once

#define QWERKY_PRAGMA(text) _Pragma(#text)
#ifdef __clang__
#define QWERKY_TARGET_BEGIN(isa) QWERKY_PRAGMA(clang attribute push(__attribute__((target(isa))), apply_to = function))
#define QWERKY_TARGET_END QWERKY_PRAGMA(clang attribute pop)
#else
#define QWERKY_TARGET_BEGIN(isa) QWERKY_PRAGMA(GCC push_options) QWERKY_PRAGMA(GCC target(isa))
#define QWERKY_TARGET_END QWERKY_PRAGMA(GCC pop_options)
#endif
