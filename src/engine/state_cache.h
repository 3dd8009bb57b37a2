// SPDX-License-Identifier: MIT
// Snapshots by what they have read, so that a text that begins like an earlier one goes on from it. Within a memory
// budget; what falls out of memory goes to disk where a folder is given.
#pragma once

#include <mutex>
#include <optional>
#include <span>
#include <string>

#include "engine/snapshot.h"
#include "io/files.h"

namespace qwerky {

struct StateCacheOptions {
  int64_t memory_bytes = int64_t{2} << 30;
  Path folder;  ///< empty: nothing goes to disk
  int64_t disk_bytes = int64_t{16} << 30;
  std::string model;  ///< fingerprint that files are bound to
};

struct StateCacheCounts {
  int64_t entries = 0, bytes = 0, disk_entries = 0, disk_bytes = 0;
  int64_t hits = 0, misses = 0, tokens_reused = 0, evictions = 0;
};

/// Safe to call from any thread. Entries of one owner are never found by another.
class StateCache {
 public:
  explicit StateCache(const StateCacheOptions& options);
  ~StateCache();

  /// The snapshot of `owner` that has read the longest beginning of `ids`, at most ids.size() tokens (all of them only
  /// if it has logits). Null: none.
  SnapshotPtr find(const std::string& owner, std::span<const int32_t> ids);
  void keep(const std::string& owner, SnapshotPtr snapshot);

  // Named states: never evicted, on disk when there is a folder, where they survive a restart.
  void save(const std::string& owner, const std::string& name, SnapshotPtr snapshot);
  SnapshotPtr load(const std::string& owner, const std::string& name);
  bool remove(const std::string& owner, const std::string& name);
  std::vector<std::string> names(const std::string& owner);

  StateCacheCounts counts() const;
};

}  // namespace qwerky
