// SPDX-License-Identifier: MIT
#include "base/version.h"

namespace qwerky {

const char* program_version() { return "qwerky " QWERKY_VERSION; }

}  // namespace qwerky
