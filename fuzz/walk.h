// SPDX-License-Identifier: MIT
// Reads every byte that a source hands out, so that the sanitizers see a tensor that reaches outside its memory.
#pragma once

#include "tensor/params.h"

namespace qwerky {

inline void walk(const TensorSource& source) {
  uint64_t sum = 0;
  for (const std::string& name : source.names()) {
    const Tensor t = source.find(name);
    CHECK(t, "a listed tensor is not found: ", name);
    CHECK(t.count() >= 0 && (t.shape.rank == 0 || t.layout == Layout::panels || t.rows(0, 0).bytes() == 0),
          "extents of ", name);
    const auto* bytes = static_cast<const unsigned char*>(t.data);
    for (int64_t i = 0; i < t.bytes(); ++i) sum += bytes[i];
  }
  CHECK(sum != UINT64_MAX, "uses the sum, so that the reads stay");
}

}  // namespace qwerky
