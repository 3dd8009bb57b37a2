// SPDX-License-Identifier: MIT
// Weights of layers that are not in memory all the time: the decoder says which layer it is about to run.
#pragma once

#include <cstdint>
#include <mutex>

namespace qwerky {

/// One pass over the layers at a time, in any direction, a step of one layer at a time.
class LayerWeights {
 public:
  virtual ~LayerWeights() = default;
  /// Held during a pass, so that passes of other threads wait.
  std::unique_lock<std::mutex> pass() { return std::unique_lock(passing_); }
  /// The weights of `layer` are there when this returns, and the layer before it is not read any more. `next` runs
  /// after it (-1: not known).
  virtual void enter(int64_t layer, int64_t next) = 0;
  /// The most bytes that weights take, those outside layers included.
  virtual int64_t bytes() const = 0;

 private:
  std::mutex passing_;
};

}  // namespace qwerky
