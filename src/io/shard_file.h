// SPDX-License-Identifier: MIT
// Writing the files that TokenStream maps.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "io/files.h"

namespace qwerky {

constexpr uint32_t kShardVersion = 1;

/// A shard file in memory, `problem` empty when it is whole.
struct ShardView {
  std::span<const int32_t> tokens;
  std::string hash;
  std::string problem;
};
ShardView view_shard(std::string_view file);

/// The memory of tokens, as it is stored and hashed.
std::string_view bytes_of(std::span<const int32_t> tokens);

/// Appends tokens; the file appears under its name with commit().
class ShardWriter {
 public:
  explicit ShardWriter(const Path& path);
  void write(std::span<const int32_t> tokens);
  /// Of the tokens so far, as TokenStream::hash.
  std::string hash() const { return hash_.hex(); }
  void commit();

 private:
  FileWriter file_;
  Sha256 hash_;
  uint64_t count_ = 0;
};

}  // namespace qwerky
