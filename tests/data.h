// SPDX-License-Identifier: MIT
// Where tests find files: golden/ in the repository, and the optional data directory beside it.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

namespace qwerky::testing {

inline std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(QWERKY_SOURCE_DIR) / "tests" / "golden" / name;
}
inline std::filesystem::path shared_data(const std::string& name) {
  return std::filesystem::path(QWERKY_SOURCE_DIR) / ".." / "shared" / "data" / name;
}
/// A fresh empty directory, removed and made anew.
inline std::filesystem::path scratch_dir(const std::string& name) {
  const auto dir = std::filesystem::temp_directory_path() / ("qwerky-test-" + name);
  std::filesystem::remove_all(dir);
  std::filesystem::create_directories(dir);
  return dir;
}

}  // namespace qwerky::testing

/// Ends the test as skipped when the optional data is not there.
#define NEEDS_DATA(path) \
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "skipped: no data (" << (path) << ")"
