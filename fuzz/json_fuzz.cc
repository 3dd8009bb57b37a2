// SPDX-License-Identifier: MIT
// What is accepted must survive being written and read again.
#include <cstddef>
#include <cstdint>

#include "base/error.h"
#include "io/files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qwerky;
  Json json;
  try {
    json = parse_json({reinterpret_cast<const char*>(data), size}, "fuzz");
  } catch (const Error&) {
    return 0;
  }
  CHECK(parse_json(json.dump(), "again") == json, "changed by writing and reading");
  return 0;
}
