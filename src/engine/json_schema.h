// SPDX-License-Identifier: MIT
// From a JSON Schema to the automaton of texts that satisfy it. docs/sampling.md says what is supported.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "base/json.h"
#include "engine/byte_automaton.h"

namespace qwerky {

/// The bytes that JSON cannot do without: ASCII, and whatever ends a character that was begun.
ByteSet json_bytes();

/// Any JSON object.
std::shared_ptr<const ByteAutomaton> json_object_automaton();

/// JSON texts that satisfy `schema`, which is read as hostile; as parse_json bounds it, its nesting must be at most 64.
/// `bytes`: those that can be written alone, such as TokenBytes::alone(); json_bytes() must be among them. Properties
/// are written in the order in which the schema names them. Throws Error for a keyword or value that is not supported,
/// which begins with `where` and the JSON pointer (RFC 6901) of the place.
std::shared_ptr<const ByteAutomaton> json_schema_automaton(const OrderedJson& schema, const std::string& where,
                                                           const ByteSet& bytes);

/// A tool, and what its arguments must satisfy.
struct NamedSchema {
  std::string name;
  OrderedJson schema;
};
/// How calls are written: `open` {"name": NAME, "`key`": ARGUMENTS} `close`, and `between` two of them.
struct CallForm {
  std::string open, key, close, between;
};
/// Texts of one call or, with `several`, more of them, each of one of these tools. Otherwise as json_schema_automaton;
/// an Error also names the tool.
std::shared_ptr<const ByteAutomaton> calls_automaton(std::span<const NamedSchema> tools, const CallForm& form,
                                                     bool several, const std::string& where, const ByteSet& bytes);

}  // namespace qwerky
