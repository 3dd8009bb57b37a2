// SPDX-License-Identifier: MIT
// Weights of layers that are not in memory all the time: the decoder says which layer it is about to run.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>

namespace qwerky {

/// Holds at most two layers at once. One pass over the layers at a time, in any direction, a step of one layer at a
/// time.
class LayerWeights {
 public:
  virtual ~LayerWeights() = default;
  /// Held during a pass, so that passes of other threads wait.
  std::unique_lock<std::mutex> pass() { return std::unique_lock(passing_); }
  /// The weights of `layer` are there when this returns. `next` runs after it (-1: not known), and is fetched ahead.
  void enter(int64_t layer, int64_t next) {
    for (int64_t wanted : {layer, next}) {
      if (wanted < 0 || held(wanted) == wanted) continue;
      fetch(wanted, wanted + (next < layer ? -1 : 1));
      held(wanted) = wanted;
    }
  }
  /// The most bytes that weights take, those outside layers included.
  virtual int64_t bytes() const = 0;

 protected:
  /// Into the place that layers of this parity share. `after` is likely to follow.
  virtual void fetch(int64_t layer, int64_t after) = 0;
  /// Nothing is held any more.
  void forget() { held_ = {-1, -1}; }

 private:
  int64_t& held(int64_t layer) { return held_[static_cast<size_t>(layer % 2)]; }
  std::mutex passing_;
  std::array<int64_t, 2> held_{-1, -1};
};

}  // namespace qwerky
