// SPDX-License-Identifier: MIT
// A state on disk: what was read, the memory it left, the logits after it. Little-endian; each part is followed by
// zeros up to the next multiple of 8:
//
//   "QWRKSTAT", uint32 version (1), uint32 0, uint64 bytes of the header, the header (JSON),
//   ids (int32 each), state, logits (f32 each), uint64 checksum of all before
//
// Read as hostile.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/files.h"
#include "tensor/state.h"

namespace qwerky {

/// What a file is bound to.
struct StateLabel {
  std::string model;   ///< fingerprint: the state means nothing to another model
  std::string owner;   ///< a hash, never the key itself
  std::string name;    ///< empty: none was given
  int64_t number = 0;  ///< in the order of writing
};

struct StateContents {
  StateLabel label;
  std::vector<int32_t> ids;
  std::unique_ptr<State> state;  ///< capacity() == position() == ids.size()
  std::vector<float> logits;     ///< may be empty
};

/// Written atomically, for its owner alone to read. Returns the size of the file in bytes.
int64_t write_state(const Path& path, const StateLabel& label, std::span<const int32_t> ids, const State& state,
                    std::span<const float> logits);

/// Throws Error naming what is wrong, also when the checksum is.
StateContents read_state(const Path& path);
/// `name` is for messages.
StateContents parse_state(std::string_view bytes, const std::string& name);
/// The same without state and logits, which are not read, so that the checksum is not verified.
StateContents read_state_label(const Path& path);

}  // namespace qwerky
