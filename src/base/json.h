// SPDX-License-Identifier: MIT
// The JSON value of the whole program, compiled once (json.cc): its templates are most of the time that a file takes.
#pragma once

#include <nlohmann/json.hpp>

namespace qwerky {

using Json = nlohmann::json;

}  // namespace qwerky

extern template class nlohmann::basic_json<>;
