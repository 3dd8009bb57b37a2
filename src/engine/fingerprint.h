// SPDX-License-Identifier: MIT
// What tells loaded models apart.
#pragma once

#include <string>

#include "engine/engine.h"

namespace qwerky {

/// SHA-256 of the configuration, of each tensor's name, shape, type and a sample of its values, and of the backend and
/// the precision that compute.
std::string model_fingerprint(const Engine& engine);

}  // namespace qwerky
