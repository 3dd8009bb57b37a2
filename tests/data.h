// SPDX-License-Identifier: MIT
// Where tests find files: golden/ in the repository, and the optional data directory beside it.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <stdexcept>
#include <string>

namespace qwerky::testing {

inline std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(QWERKY_SOURCE_DIR) / "tests" / "golden" / name;
}
inline std::filesystem::path shared_data(const std::string& name) {
  return std::filesystem::path(QWERKY_SOURCE_DIR) / ".." / "shared" / "data" / name;
}
/// The directory of this process for what its tests write, removed at its end: tests run beside those of other builds.
inline const std::filesystem::path& scratch_root() {
  static const struct Root {
    std::filesystem::path path;
    pid_t owner = getpid();  // a forked child that exits leaves it
    Root() {
      std::string name = (std::filesystem::temp_directory_path() / "qwerky-test-XXXXXX").string();
      if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no directory " + name);
      path = name;
    }
    ~Root() {
      std::error_code ignored;
      if (getpid() == owner) std::filesystem::remove_all(path, ignored);
    }
  } root;
  return root.path;
}
/// A fresh empty directory, removed and made anew.
inline std::filesystem::path scratch_dir(const std::string& name) {
  const auto dir = scratch_root() / name;
  std::filesystem::remove_all(dir);
  std::filesystem::create_directories(dir);
  return dir;
}

}  // namespace qwerky::testing

/// Ends the test as skipped when the optional data is not there.
#define NEEDS_DATA(path) \
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "skipped: no data (" << (path) << ")"
