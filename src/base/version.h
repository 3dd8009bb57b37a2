// SPDX-License-Identifier: MIT
#pragma once

namespace qwerky {

/// "qwerky 0.1.0": the program and the version of its CMake project.
const char* program_version();

}  // namespace qwerky
