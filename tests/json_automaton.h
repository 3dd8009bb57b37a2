// SPDX-License-Identifier: MIT
// Schemas as automata, and how far they read a text: for the tests of constrained JSON.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "engine/byte_automaton.h"
#include "engine/json_schema.h"

namespace qwerky::testing {

using Automaton = std::shared_ptr<const ByteAutomaton>;

inline OrderedJson parse(const std::string& text) { return OrderedJson::parse(text); }
inline Automaton compile_json(const OrderedJson& schema, const ByteSet& bytes = ByteSet().set()) {
  return json_schema_automaton(schema, "schema", bytes);
}
inline Automaton compile(const std::string& schema) { return compile_json(parse(schema)); }
/// How many of the first bytes can be read, and whether the text is complete then.
inline std::pair<size_t, bool> read(const Automaton& automaton, const std::string& text) {
  ByteMatcher matcher(automaton);
  for (size_t i = 0; i < text.size(); ++i) {
    matcher.accept(text.substr(i, 1));
    if (matcher.ways().empty()) return {i, false};
  }
  return {text.size(), matcher.complete()};
}

}  // namespace qwerky::testing
