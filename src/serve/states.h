// SPDX-License-Identifier: MIT
// Named states: /state.
#pragma once

#include "serve/exchange.h"

namespace qwerky::serve {

/// The state of that name, or RequestError 404.
SnapshotPtr find_state(ServedModel& model, const std::string& owner, const std::string& name);
/// RequestError when the owner has too many, or there is nothing to save.
void save_state(ServedModel& model, const std::string& owner, const std::string& name, SnapshotPtr state);

/// {"states": ["name", …]}
void list_states(const Asked& asked);
/// {"action": "save" | "restore" | "fork" | "delete", "name", …}: see docs/serving.md.
void change_states(Asked&& asked, const OrderedJson& body, const RequestLimits& limits);

}  // namespace qwerky::serve
