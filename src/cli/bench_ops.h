// SPDX-License-Identifier: MIT
// `bench --ops`: each operation against the reference, against its roofline, and products beside oneDNN.
#pragma once

#include <string>

namespace qwerky {

struct OpsBenchOptions {
  std::string random = "qwen2.5-0.5b";  ///< the published shape
  std::string backend = "auto", precision = "auto", json;
};

/// 1 when an operation is further from the reference than its tolerance.
int bench_ops(const OpsBenchOptions& options);

}  // namespace qwerky
