// SPDX-License-Identifier: MIT
#include "io/llama2c.h"

#include "base/error.h"
#include "walk.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qwerky;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    walk(Llama2cFile(bytes, "fuzz"));
    CHECK(is_llama2c(bytes), "loaded, but not recognised");
  } catch (const Error&) {
    CHECK(!is_llama2c(bytes), "recognised, but not loaded");
  }
  return 0;
}
