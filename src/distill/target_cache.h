// SPDX-License-Identifier: MIT
// Stage-1 targets on disk: what the teacher's forward shows its tap, kept for further passes over the same windows.
#pragma once

#include <span>
#include <string>

#include "io/files.h"
#include "model/decoder.h"

namespace qwerky {

class TargetCache {
 public:
  explicit TargetCache(Path dir) : dir_(std::move(dir)) {}

  /// Calls `tap` for every layer of the teacher on `inputs`, with io.x and io.y alone set: from the file `key` when it
  /// is whole (SHA-256) and was made for these inputs, else from the teacher's forward, which is then stored.
  void run(const Exec& ex, const Decoder& teacher, std::span<const int32_t> inputs, Batch batch, const std::string& key,
           const Tap& tap) const;

  /// Bytes on disk of `rows` rows.
  static int64_t bytes(const Config& teacher, int64_t rows) { return teacher.layers * 2 * rows * teacher.hidden * 4; }

 private:
  Path dir_;
};

}  // namespace qwerky
