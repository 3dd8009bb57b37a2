// SPDX-License-Identifier: MIT
// `bench MODEL` or `bench --random SHAPE`: prefill, decode by depth and by batch, beside what the machine could do.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace qwerky {

struct SpeedBenchOptions {
  std::string model, random, to = "rad-rwkv7", type = "bf16", backend = "auto", precision = "auto", json;
  std::string save, tokenizer;  ///< directories: the random model is written to the first with a copy of the other
  bool copy = false;            ///< the weights of a packed file into huge pages
  std::vector<int64_t> prefill = {512}, depths = {0}, batches = {1};
  int64_t tokens = 16, repeats = 3;
};

int bench_speed(const SpeedBenchOptions& options);
/// Measures nothing: writes the random model as a directory, for programs that read one.
int save_random_model(const SpeedBenchOptions& options);

}  // namespace qwerky
