// SPDX-License-Identifier: MIT
#include "backend/scratch.h"

#include <algorithm>
#include <array>

#include "tensor/arena.h"

namespace qwerky {

void* scratch(Scratch purpose, int64_t bytes) noexcept {
  static thread_local std::array<Block, static_cast<size_t>(Scratch::count)> blocks;
  Block& block = blocks[static_cast<size_t>(purpose)];
  if (block.bytes() < bytes) {
    const int64_t grown = std::max({bytes, 2 * block.bytes(), int64_t{1} << 16});
    block = Block();  // the old one goes first: its content is not kept
    block = Block(grown, "kernel scratch");
  }
  return block.data();
}

}  // namespace qwerky
