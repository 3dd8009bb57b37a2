// SPDX-License-Identifier: MIT
#include "base/error.h"

#include <cstdio>
#include <cstdlib>

namespace qwerky {

void check_failed(const char* file, int line, const char* condition, const std::string& what) noexcept {
  std::fprintf(stderr, "%s:%d: CHECK(%s) failed. %s\n", file, line, condition, what.c_str());
  std::abort();
}

}  // namespace qwerky
