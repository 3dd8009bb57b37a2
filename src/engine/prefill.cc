// SPDX-License-Identifier: MIT
#include "engine/prefill.h"

namespace qwerky {

void prefill(const Exec& ex, const Decoder& decoder, State& state, std::span<const int32_t> ids, Tensor logits) {
  while (!ids.empty()) {
    Scope scope(ex.scratch);
    const auto part = ids.first(std::min<size_t>(ids.size(), kPrefillRows));
    ids = ids.subspan(part.size());
    const auto rows = static_cast<int64_t>(part.size());
    const Segment segment{&state, 0, rows};
    const auto run = [&] {
      const Tensor hidden = ex.make(rows, decoder.config().hidden);
      decoder.forward(ex, part, {&segment, 1}, hidden);
      if (ids.empty() && logits) decoder.logits(ex, hidden.rows(rows - 1, 1), logits);
    };
    rows == 1 ? ex.on.repeat(run) : run();
  }
}

}  // namespace qwerky
