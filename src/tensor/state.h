// SPDX-License-Identifier: MIT
// The memory of one sequence between calls, and which rows of a call belong to which sequence. Raw memory
// and offsets: no knowledge of models. Snapshot, restore and fork are copies.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "tensor/arena.h"
#include "tensor/tensor.h"

namespace qwerky {

class State {
 public:
  /// `scalars` elements of `type`, all zero, at position 0; at most `capacity` tokens may be appended
  /// (only softmax mixers care).
  State(DType type, int64_t scalars, int64_t capacity)
      : type_(type), scalars_(scalars), capacity_(capacity), block_(scalars * size_of(type), "state") {}

  int64_t position() const { return position_; }  ///< tokens seen so far
  void advance(int64_t tokens) { position_ += tokens; }
  /// For who fills the memory by other means than a decoder.
  void set_position(int64_t tokens) { position_ = tokens; }
  int64_t capacity() const { return capacity_; }
  DType type() const { return type_; }
  int64_t scalars() const { return scalars_; }
  int64_t bytes() const { return scalars_ * size_of(type_); }
  /// `n` scalars starting at `offset`.
  Tensor at(int64_t offset, int64_t n) const {
    CHECK(offset >= 0 && offset + n <= scalars_, "state of ", scalars_, " scalars read at ", offset, "+", n);
    return Tensor(block_.data() + offset * size_of(type_), type_, {n});
  }
  /// Becomes a copy of `other`, which must have the same layout.
  void copy_from(const State& other) {
    CHECK(scalars_ == other.scalars_ && type_ == other.type_, "states of different layout");
    wait_for_device();
    std::memcpy(block_.data(), other.block_.data(), static_cast<size_t>(bytes()));
    position_ = other.position_;
  }
  /// Back to position 0 and zero memory.
  void reset() {
    wait_for_device();
    std::memset(block_.data(), 0, static_cast<size_t>(bytes()));
    position_ = 0;
  }

 private:
  DType type_;
  int64_t scalars_;
  int64_t capacity_;
  int64_t position_ = 0;
  Block block_;
};

/// Rows [row, row + rows) of a call belong to one sequence and follow what `state` has seen. A null state
/// starts at zero and keeps nothing.
struct Segment {
  State* state = nullptr;
  int64_t row = 0;
  int64_t rows = 0;
  int64_t position() const { return state ? state->position() : 0; }
};

using Batch = std::span<const Segment>;

}  // namespace qwerky
