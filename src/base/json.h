// SPDX-License-Identifier: MIT
// The JSON value of the whole program, compiled once (json.cc): its templates are most of the time that a file takes.
#pragma once

#include <nlohmann/json.hpp>

namespace qwerky {

using Json = nlohmann::json;
/// Keeps the order in which keys were written, where it matters: messages and tools for a chat template.
using OrderedJson = nlohmann::ordered_json;

}  // namespace qwerky

extern template class nlohmann::basic_json<>;
extern template class nlohmann::basic_json<nlohmann::ordered_map>;
