// SPDX-License-Identifier: MIT
// A state at rest: what a sequence has read, and the memory it left.
#pragma once

#include <memory>
#include <vector>

#include "tensor/state.h"

namespace qwerky {

/// Immutable once made; shared by all that go on from it.
struct Snapshot {
  std::vector<int32_t> ids;            ///< read, from the beginning
  std::shared_ptr<const State> state;  ///< position() == capacity() == ids.size(): only what is used
  std::vector<float> logits;           ///< [V] after the last id; empty: not kept, one id must be read to go on

  int64_t bytes() const {
    return state->bytes() + static_cast<int64_t>(ids.size() * sizeof(int32_t) + logits.size() * sizeof(float));
  }
};

using SnapshotPtr = std::shared_ptr<const Snapshot>;

}  // namespace qwerky
