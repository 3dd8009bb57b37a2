// SPDX-License-Identifier: MIT
// Named states: /state.
#pragma once

#include <span>

#include "serve/exchange.h"

namespace qwerky::serve {

/// The state of that name, which the request gives in `field`; with `restore`, texts that begin with it go on from it.
/// Throws RequestError: 404, or 500 when its file is damaged.
SnapshotPtr find_state(const Asked& asked, const std::string& name, const char* field, bool restore = false);
/// {"name", "tokens", "bytes"} of a state that was saved, or {"error"}. Does not throw.
OrderedJson save_state(const Asked& asked, const std::string& name, const SnapshotPtr& state);

/// {"states": [{"name", "model"}, …]} of all models.
void list_states(const Asked& asked, std::span<const std::unique_ptr<ServedModel>> models);
/// {"action": "save" | "restore" | "fork" | "delete", "name", …}: see docs/serving.md.
void change_states(Asked&& asked, const OrderedJson& body, const RequestLimits& limits);

}  // namespace qwerky::serve
