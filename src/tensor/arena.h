// SPDX-License-Identifier: MIT
// Bump allocation: one block per purpose (weights, gradients, optimiser, state, scratch), so that their
// sizes are the memory plan. An Arena without a block only measures.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tensor/memory.h"
#include "tensor/tensor.h"

namespace qwerky {

/// Anonymous memory, 64-byte aligned, zero-filled, huge pages asked for when large; or the device's (tensor/memory.h).
class Block {
 public:
  Block() = default;
  /// Throws Error when the system refuses; `purpose` names the block in that message. `on_host`: not on the device.
  Block(int64_t bytes, const std::string& purpose, bool on_host = false);
  Block(Block&& other) noexcept { *this = std::move(other); }
  Block& operator=(Block&& other) noexcept;
  ~Block();
  char* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  char* data_ = nullptr;
  int64_t bytes_ = 0;
  DeviceMemory* from_ = nullptr;  // null: mapped
};

/// Grows by mapping further blocks, so a first pass learns the size that later passes reuse without a
/// system call. Not shared between threads.
class Arena {
 public:
  explicit Arena(std::string purpose = "scratch", int64_t first_block_bytes = 0, bool on_host = false);

  /// Uninitialised memory, 64-byte aligned, valid until release() to an earlier mark.
  Tensor tensor(DType type, Shape shape);
  Tensor zeros(DType type, Shape shape);
  /// A matrix in panels, uninitialised: shape [outputs, inputs], or [n, outputs, inputs] for a stack.
  Tensor panels(const PanelFormat& format, Shape shape);

  struct Mark {
    size_t block;
    int64_t used;
  };
  Mark mark() const { return {block_, used_}; }
  void release(Mark m);
  /// Most bytes ever in use at once; the same for the same sequence of calls, whatever blocks there are.
  int64_t peak_bytes() const { return peak_; }

 private:
  char* take(int64_t bytes);

  std::string purpose_;
  bool on_host_;
  struct Blocks;
  std::shared_ptr<Blocks> blocks_;
  size_t block_ = 0;
  int64_t used_ = 0;
  std::vector<int64_t> filled_;  // bytes taken from each block before block_: what was too large for its rest went on
  int64_t before_ = 0;           // their sum
  int64_t peak_ = 0;
};

/// Releases on scope exit what was taken from the arena since construction.
class Scope {
 public:
  explicit Scope(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
  ~Scope() { arena_.release(mark_); }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  Arena& arena_;
  Arena::Mark mark_;
};

}  // namespace qwerky
