// SPDX-License-Identifier: MIT
// Snapshots by what they have read, so that a text that begins like an earlier one goes on from it. Within a memory
// budget; what falls out of memory goes to disk where a folder is given.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/snapshot.h"
#include "io/files.h"

namespace qwerky {

struct StateCacheOptions {
  int64_t memory_bytes = int64_t{2} << 30;
  Path folder = {};  ///< empty: nothing goes to disk
  int64_t disk_bytes = int64_t{16} << 30;
  bool fair = false;       ///< several owners: named states of one take at most half of what the others leave
  std::string model = {};  ///< fingerprint that files are bound to
};

struct StateCacheCounts {
  int64_t entries = 0, bytes = 0, disk_entries = 0, disk_bytes = 0;  ///< without named states
  int64_t named = 0, named_bytes = 0;
  int64_t hits = 0, misses = 0, tokens_reused = 0;
  int64_t evictions = 0;  ///< from memory
  int64_t unusable = 0;   ///< files that were damaged or belong to another model
  int64_t unwritten = 0;  ///< snapshots that did not get to disk: it failed, or was too slow
};

/// There is no room for a named state.
class NoRoom : public Error {
 public:
  using Error::Error;
};

/// Safe to call from any thread. Entries of one owner are never found by another. Files carry hashes of owners and
/// names, never an owner itself. Snapshots go to disk on a thread of their own; a folder belongs to one process at a
/// time.
class StateCache {
 public:
  /// Throws Error when the folder cannot be made or is in use.
  explicit StateCache(const StateCacheOptions& options);
  ~StateCache();  ///< writes what is still to be written

  /// The snapshot of `owner` that has read the longest beginning of `ids`, at most ids.size() tokens (all of them only
  /// if it has logits). Null: none. Apart from restored states only those of lengths that are `wanted`, where that is
  /// given; `restored` becomes whether it is one.
  using Lengths = std::function<bool(int64_t)>;
  SnapshotPtr find(const std::string& owner, std::span<const int32_t> ids, const Lengths& wanted = {},
                   bool* restored = nullptr);
  void keep(const std::string& owner, SnapshotPtr snapshot);

  // Named states: never evicted, on disk when there is a folder, where they survive a restart. Names are UTF-8 of 1 to
  // 128 bytes without slashes, backslashes and control characters.
  /// Throws Error for a name that is none of these, NoRoom when named states would take more than the budget of the
  /// disk (without a folder: of memory), or the owner's more than its part.
  void save(const std::string& owner, const std::string& name, SnapshotPtr snapshot);
  /// Null: none. Throws Error when its file is damaged. As long as it is in use, it is in memory once.
  SnapshotPtr load(const std::string& owner, const std::string& name);
  /// The same, and find() finds it as long as memory has room for it.
  SnapshotPtr restore(const std::string& owner, const std::string& name);
  bool remove(const std::string& owner, const std::string& name);
  std::vector<std::string> names(const std::string& owner);  ///< sorted

  int64_t memory_bytes() const;  ///< the budget
  StateCacheCounts counts() const;
  void flush();  ///< waits until what is to be written is
  /// Before the process ends: snapshots that are in memory alone go to the folder, if there is one, the latest used
  /// first, until the next does not fit in the budget of the disk or it is `end`.
  void write_kept(std::chrono::steady_clock::time_point end);

 private:
  struct Internals;
  std::unique_ptr<Internals> internals_;
};

}  // namespace qwerky
