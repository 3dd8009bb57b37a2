// SPDX-License-Identifier: MIT
// Named states: /state.
#pragma once

#include <span>

#include "serve/exchange.h"

namespace qwerky::serve {

/// The state of that name; with `restore`, texts that begin with it go on from it. Throws RequestError: 404, or 500 when
/// its file is damaged.
SnapshotPtr find_state(const Asked& asked, const std::string& name, bool restore = false);
using Saved = std::function<void(const std::optional<RequestError>& error, const SnapshotPtr& state, const Usage&)>;
/// Reads ids, if any, after `start` (null: from the beginning) and saves the state under that name. `done` is called
/// once, and keeps `asked` alive. Does not throw.
void read_and_save(const Asked& asked, SnapshotPtr start, std::vector<int32_t>&& ids, const std::string& name,
                   Saved done);

/// {"states": [{"name", "model"}, …]} of all models.
void list_states(const Asked& asked, std::span<const std::unique_ptr<ServedModel>> models);
/// {"action": "save" | "restore" | "fork" | "delete", "name", …}: see docs/serving.md.
void change_states(Asked&& asked, const OrderedJson& body, const RequestLimits& limits);

}  // namespace qwerky::serve
