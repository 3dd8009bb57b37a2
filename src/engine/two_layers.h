// SPDX-License-Identifier: MIT
// The layer that computes and the next one, which is fetched meanwhile.
#pragma once

#include <array>
#include <atomic>
#include <future>

#include "model/layer_weights.h"

namespace qwerky {

/// Holds at most two layers at once: those of even and of odd number have a place each.
class TwoLayers : public LayerWeights {
 public:
  /// `next` is fetched after this returns; what that fetch throws, the next enter() throws.
  void enter(int64_t layer, int64_t next) final;

 protected:
  /// Into the place that layers of this parity share. `after` is likely to follow.
  virtual void fetch(int64_t layer, int64_t after) = 0;
  /// Whether the next layer's fetch() may run on another thread while a layer computes.
  virtual bool ahead() const = 0;
  bool fetching() const { return coming_.valid(); }
  /// No layer computes: the one being fetched is waited for, and the pool of threads has nothing else to do.
  bool needed() const { return needed_; }
  /// Waits for what is being fetched; nothing is held any more. A destructor calls it before what fetch() uses goes.
  void forget();

 private:
  int64_t& held(int64_t layer) { return held_[static_cast<size_t>(layer % 2)]; }
  std::array<int64_t, 2> held_{-1, -1};
  std::future<void> coming_;
  std::atomic<bool> needed_{true};
};

}  // namespace qwerky
