// SPDX-License-Identifier: MIT
// Strings that match a regular expression, as they stand in JSON.
#pragma once

#include <string>

#include "engine/json_rules.h"

namespace qwerky {

/// A JSON string, quotes included, whose text matches `pattern` (ECMA-262 syntax, found anywhere unless anchored).
/// Supported: characters, escapes, `.`, classes, groups, `|`, `* + ? {n} {n,} {n,m}`, and `^`, `$` at the ends of the
/// whole pattern's alternatives. Every text that is written matches; some that match are not written: \D \W \S and
/// classes with them take ASCII only. Throws Error that begins with `where` for anything else.
ByteAutomaton::Place json_pattern(JsonRules& rules, const std::string& pattern, const std::string& where,
                                  ByteAutomaton::Place next);

}  // namespace qwerky
