// SPDX-License-Identifier: MIT
#include "io/safetensors.h"

#include "base/error.h"
#include "walk.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qwerky;
  try {
    walk(SafetensorsFile({reinterpret_cast<const char*>(data), size}, "fuzz"));
  } catch (const Error&) {
  }
  return 0;
}
