// SPDX-License-Identifier: MIT
// One saved state.
#include "io/state_file.h"

#include <string_view>

#include "base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qwerky;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const StateContents read = parse_state(bytes, "fuzz");
    CHECK(read.state->position() == static_cast<int64_t>(read.ids.size()));
    CHECK(read.state->bytes() + static_cast<int64_t>(4 * (read.ids.size() + read.logits.size())) <=
          static_cast<int64_t>(size));
  } catch (const Error&) {
  }
  return 0;
}
