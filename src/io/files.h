// SPDX-License-Identifier: MIT
// Files: mapping, whole reads, atomic writes, and JSON with limits. The only layer that sees the file system.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace qwerky {

using Path = std::filesystem::path;

/// A file mapped read-only. Throws Error when it cannot be opened or is not a regular file.
class MappedFile {
 public:
  explicit MappedFile(const Path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::string_view bytes() const { return {data_, static_cast<size_t>(size_)}; }
  int64_t size() const { return size_; }
  const Path& path() const { return path_; }
  /// Begins to read these bytes from the disk; false when they lie elsewhere.
  bool prefetch(const void* begin, int64_t bytes) const;
  /// The whole pages among these bytes leave memory until they are read again.
  void forget(const void* begin, int64_t bytes) const;

 private:
  /// madvise() on the pages that hold these bytes, or on those that hold nothing else. False outside the mapping.
  bool advise(const void* begin, int64_t bytes, bool whole_pages, int advice) const;
  Path path_;
  const char* data_ = nullptr;
  int64_t size_ = 0;
};

std::string read_file(const Path& path);

/// Who may read what is made: whom the umask lets, or its owner alone.
enum class Readers { all, owner };

/// Writes through `fill` to a temporary name in the same directory, syncs, renames, syncs the directory: at no
/// moment does `path` hold half a file. A full disk or an unwritable directory is an Error naming it, and the
/// temporary is removed.
class FileWriter {
 public:
  explicit FileWriter(const Path& path, Readers readers = Readers::all);
  ~FileWriter();  ///< without commit(): removes the temporary
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;
  void write(const void* data, int64_t bytes);
  void write(std::string_view text) { write(text.data(), static_cast<int64_t>(text.size())); }
  int64_t written() const { return written_; }
  void commit();

 private:
  Path path_, temporary_;
  int fd_ = -1;
  int64_t written_ = 0;
};

void write_file(const Path& path, std::string_view text);

/// Keeps other processes out of a directory, which is made if absent, as long as this lives: a second lock on it is an
/// Error naming the directory. Afterwards the lock's file is gone, and so are directories it made that are still empty.
class DirectoryLock {
 public:
  /// `readers` of directories that it makes.
  explicit DirectoryLock(const Path& dir, Readers readers = Readers::all);
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

 private:
  std::vector<Path> made_;  // deepest first
  Path file_;
  int fd_ = -1;
};

/// Parses strict JSON (UTF-8 only, no duplicate keys, nesting at most 64 deep, numbers finite). `name` is for messages.
Json parse_json(std::string_view text, const std::string& name);
/// The same, keys in the order of the text and at most 1024 in one object.
OrderedJson parse_ordered_json(std::string_view text, const std::string& name);
Json read_json(const Path& path);

/// Appends one line and flushes it.
void append_line(const Path& path, std::string_view line);

/// SHA-256 (FIPS 180-4) of bytes that arrive in pieces.
class Sha256 {
 public:
  void update(std::string_view bytes);
  /// 64 hex digits of all bytes so far.
  std::string hex() const;

 private:
  void block(const unsigned char* bytes);
  std::array<uint32_t, 8> hash_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                   0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};  // 5.3.3: square roots of primes
  std::array<unsigned char, 64> partial_{};
  uint64_t length_ = 0;  // bytes
};

/// SHA-256 of bytes as 64 hex digits.
std::string sha256(std::string_view bytes);

bool is_file(const Path& path);   ///< a regular file is there
bool is_dir(const Path& path);    ///< a directory is there
bool is_there(const Path& path);  ///< anything is
bool same_place(const Path& a, const Path& b);
/// Names in a directory, sorted.
std::vector<std::string> list_names(const Path& dir);
/// With its parents; fine if it is there.
void make_directory(const Path& dir);
/// A file or a whole tree; fine if nothing is there.
void remove_tree(const Path& path);
/// Bytes of a file, or of the files below a directory; 0 if nothing is there.
int64_t bytes_under(const Path& path);
/// Throws unless the nearest existing parent of `dir` is a directory in which this process may write. Writes nothing.
void check_writable(const Path& dir);
/// Throws as FileWriter would, before there is anything to write. Leaves nothing.
void check_writable_file(const Path& path);

/// Free bytes on the file system that holds `path` (or its nearest existing parent).
int64_t free_disk_bytes(const Path& path);

/// Bytes of memory this machine, or the control group of this process, can still give to programs; where blocks lie on
/// a device (tensor/memory.h), what that can.
int64_t available_memory_bytes();
/// The machine's processor as the kernel names it; empty where it does not.
std::string processor_name();

}  // namespace qwerky
