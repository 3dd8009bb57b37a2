// SPDX-License-Identifier: MIT
// JSON exactly as Python's json.dumps writes it: hashes of texts and files that other tools compare depend on it.
#pragma once

#include <string>

#include "base/json.h"

namespace qwerky {

/// repr(float): the shortest digits that read back as `x`; "1.0", "1e-05", "inf", "nan".
std::string python_repr(double x);

struct DumpStyle {
  int indent = 0;      ///< spaces a level; 0: one line with ", " and ": "
  bool ascii = false;  ///< escape everything else as \uXXXX
};

/// json.dumps(value, indent=…, ensure_ascii=…)
std::string python_dumps(const OrderedJson& value, DumpStyle style = {});
/// json.dumps(text)
std::string python_quoted(std::string_view text, bool ascii);

}  // namespace qwerky
