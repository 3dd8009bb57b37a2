// SPDX-License-Identifier: MIT
// What may be written next: a grammar, told as a set of token ids.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/error.h"

namespace qwerky {

/// A grammar that leaves more ways to read a text than there is time to follow.
struct TooManyWays : Error {
  using Error::Error;
};

/// Follows one text as it is written. Deterministic; used by one thread at a time.
class Constraint {
 public:
  virtual ~Constraint() = default;
  /// allowed[id] becomes whether the text may go on with token `id`, end-of-text tokens included; at least one may.
  /// Throws TooManyWays.
  virtual void allowed(std::span<uint8_t> allowed) = 0;
  /// The text went on with this id, which was allowed.
  virtual void accept(int32_t id) = 0;
  virtual std::unique_ptr<Constraint> clone() const = 0;
};

}  // namespace qwerky
