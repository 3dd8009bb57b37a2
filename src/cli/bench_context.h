// SPDX-License-Identifier: MIT
// `bench MODEL [MODEL2] --contexts …`: time per token and state memory as the context grows.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace qwerky {

struct ContextBenchOptions {
  std::vector<std::string> models;
  std::vector<int64_t> contexts = {128, 512, 2048, 8192};
  std::string backend = "auto", precision = "auto", svg, json;
};

int bench_context(const ContextBenchOptions& options);

}  // namespace qwerky
