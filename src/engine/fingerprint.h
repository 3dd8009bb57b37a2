// SPDX-License-Identifier: MIT
// What tells loaded models apart.
#pragma once

#include <string>

#include "engine/engine.h"

namespace qwerky {

/// A hash of the configuration, of each tensor's name, shape, type and values, of what a tokenizer's ids stand for, and
/// of the backend and the precision that compute. Reads all weights once, at the speed of memory; of a packed file the
/// checksums in its header instead.
std::string model_fingerprint(const Engine& engine);

}  // namespace qwerky
