// SPDX-License-Identifier: MIT
// `bench --train`: what this machine can do, and what the training steps reach of it.
#pragma once

#include <cstdint>
#include <string>

namespace qwerky {

struct TrainBenchOptions {
  std::string model, random, to = "rad-rwkv7", backend = "auto", precision = "f32", json;
  int64_t context = 256, batch = 4, lanes = 2, steps = 5;
};

int bench_train(const TrainBenchOptions& options);

}  // namespace qwerky
