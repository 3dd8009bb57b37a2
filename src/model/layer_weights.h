// SPDX-License-Identifier: MIT
// Weights of layers that are not in memory all the time: the decoder says which layer it is about to run.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <future>
#include <mutex>

namespace qwerky {

/// Holds at most two layers at once. One pass over the layers at a time, in any direction, a step of one layer at a
/// time.
class LayerWeights {
 public:
  virtual ~LayerWeights() = default;
  /// Held during a pass, so that passes of other threads wait.
  std::unique_lock<std::mutex> pass() { return std::unique_lock(passing_); }
  /// The weights of `layer` are there when this returns, and the layer before it is not read any more. `next` runs
  /// after it (-1: not known) and is fetched meanwhile; what that fetch throws, the next enter() throws.
  void enter(int64_t layer, int64_t next);
  /// The most bytes that weights take, those outside layers included.
  virtual int64_t bytes() const = 0;

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
  std::mutex passing_;
  std::array<int64_t, 2> held_{-1, -1};
  std::future<void> coming_;
  std::atomic<bool> needed_{true};
};

}  // namespace qwerky
