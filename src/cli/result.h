// SPDX-License-Identifier: MIT
// The result of a measurement as JSON, where --json asks for it.
#pragma once

#include <string>

#include "base/json.h"
#include "cli/flags.h"

namespace qwerky {

void add_json_flag(Flags flags, std::string& file);
/// To a file, to stdout when it is called "-", nowhere when the name is empty.
void write_result(const std::string& file, const Json& result);

}  // namespace qwerky
