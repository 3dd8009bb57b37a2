// SPDX-License-Identifier: MIT
#include "engine/two_layers.h"

namespace qwerky {

void TwoLayers::enter(int64_t layer, int64_t next) {
  const auto bring = [this, step = next < layer ? -1 : 1](int64_t wanted) {
    held(wanted) = -1;  // until all of it is there
    fetch(wanted, wanted + step);
    held(wanted) = wanted;
  };
  needed_ = true;
  if (coming_.valid()) coming_.get();
  if (held(layer) != layer) bring(layer);
  if (next < 0 || held(next) == next) return;
  if (!ahead()) return bring(next);
  needed_ = false;
  coming_ = std::async(std::launch::async, bring, next);
}

void TwoLayers::forget() {
  needed_ = true;
  if (coming_.valid()) coming_.wait();
  coming_ = {};
  held_ = {-1, -1};
}

}  // namespace qwerky
