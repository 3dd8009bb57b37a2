// SPDX-License-Identifier: MIT
// oneDNN's matrix product beside ours, for `bench --ops` alone. It lives in a module that is opened when asked for, so
// that the program neither needs nor loads oneDNN otherwise.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace qwerky {

/// y [rows, outputs] = x [rows, inputs] Wᵀ in oneDNN's own layout of W.
struct OneDnnProduct {
  enum class Type { f32, bf16, int8 };  ///< int8: u8 by s8 into s32, nothing scaled
  Type type = Type::f32;
  int64_t rows = 0, inputs = 0, outputs = 0, copies = 1;  ///< copies of W
  int threads = 1;
};

struct OneDnn {
  std::string about;  ///< its version, or why there is none, in a line
  /// Call i multiplies by copy i of W. Null when oneDNN cannot, or is not there.
  std::function<std::function<void(int64_t)>(const OneDnnProduct&)> product;
};
OneDnn open_onednn();

/// The module's one symbol, "qwerky_onednn".
using OneDnnEntry = void (*)(OneDnn& out);

}  // namespace qwerky
