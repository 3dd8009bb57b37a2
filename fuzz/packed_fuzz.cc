// SPDX-License-Identifier: MIT
// One packed model: as tensors, and its hashes.
#include "io/packed.h"

#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "walk.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qwerky;
  if (size == 0) return 0;
  // A mapped file begins a page; behind its end nothing may be read.
  std::unique_ptr<char, void (*)(void*)> memory(static_cast<char*>(std::aligned_alloc(64, (size + 63) / 64 * 64)),
                                                std::free);
  std::memcpy(memory.get(), data, size);
  try {
    const PackedFile file({memory.get(), size}, "fuzz");
    walk(file);
    size_t text = 0;
    for (const auto& [name, contents] : file.files())
      for (const char c : contents) text += static_cast<unsigned char>(c);
    CHECK(text != SIZE_MAX, "uses the sum, so that the reads stay");
    file.verify();
  } catch (const Error&) {
  }
  return 0;
}
