// SPDX-License-Identifier: MIT
// Each operation of op_cases.h against the reference and against the clock.
#pragma once

#include "backend/peak.h"
#include "engine/op_cases.h"

namespace qwerky {

struct Agreement {
  double difference =
      0;             ///< largest |difference| of an output ÷ its largest |value|, over all outputs; NaN is infinite
  int64_t rows = 0;  ///< compared: as many as the reference does in under a second
};
/// Runs the case and the reference on the same numbers, in `memory`.
Agreement compare_with_reference(const OpCase& c, const Backend& on, Arena& memory);

/// The same work done by someone else: call i on copy i of its weights. Null when it cannot.
using PeerCall = std::function<void(int64_t)>;
using Peer = std::function<PeerCall(const OpCase& c, int64_t copies)>;

struct OpTime {
  double seconds = 0, peer_seconds = 0;  ///< medians of a call; 0 without a peer
  double read_gb_s = 0;                  ///< median of what the meter read between the turns; 0 without one
};
/// About `seconds` of calls, in turns with the peer's and the meter's, each turn after a call that is not counted.
/// Operands that come from memory in a model come from memory here: so many copies take turns that no cache holds them.
OpTime time_op(const OpCase& c, const Backend& on, Arena& memory, double seconds, const ReadMeter* meter = nullptr,
               const Peer& peer = nullptr);

/// Operations a second (1e9) that products with weights of this type could reach.
double product_peak(const Peaks& peaks, DType weights, const Backend& on, Precision precision);

/// The least seconds in which this machine could do a case, and whether memory is what bounds it.
struct Roof {
  double seconds = 0;
  bool memory = false;
};
Roof roof(const OpCase& c, double read_gb_s, double peak_gflops);

}  // namespace qwerky
