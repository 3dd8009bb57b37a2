// SPDX-License-Identifier: MIT
// Runs a test on the emulated device, in the order of threads that QWERKY_CUDA_EMULATION names.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string_view>

#include "emulation.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const char* order = std::getenv("QWERKY_CUDA_EMULATION");
  if (order != nullptr && std::string_view(order) == "descending")
    cuda_emulation::run_in(cuda_emulation::Order::descending);
  return RUN_ALL_TESTS();
}
