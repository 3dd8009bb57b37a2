// SPDX-License-Identifier: MIT
// A schema, and then bytes that choose among what its automaton and that of a tool's calls allow: there is always
// something, and what is finished is JSON.
#include <cstddef>
#include <cstdint>

#include "base/error.h"
#include "engine/json_schema.h"
#include "io/files.h"

namespace {

using namespace qwerky;

void follow(const std::shared_ptr<const ByteAutomaton>& automaton, std::string_view choices) {
  ByteMatcher matcher(automaton);
  std::string written;
  for (char c : choices) {
    std::string allowed;
    ByteMatcher::Ways next;
    for (int byte = 0; byte < 256; ++byte) {
      matcher.step(matcher.ways(), static_cast<uint8_t>(byte), next);
      if (!next.empty()) allowed += static_cast<char>(byte);
    }
    CHECK(matcher.complete() || !allowed.empty(), "a dead end behind ", written);
    if (allowed.empty()) break;
    const std::string byte(1, allowed[static_cast<uint8_t>(c) % allowed.size()]);
    matcher.accept(byte);
    CHECK(!matcher.ways().empty(), "refused what it allows behind ", written);
    written += byte;
  }
  if (matcher.complete()) CHECK(OrderedJson::accept(written), "no JSON: ", written);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(text.rfind('\n'), text.size());
  try {
    const OrderedJson schema(parse_json(text.substr(0, end), "fuzz"));
    follow(json_schema_automaton(schema, "schema", ByteSet().set()), text.substr(end).substr(0, 64));
    const std::vector<NamedSchema> tools = {{"ab", schema}, {"a", OrderedJson::object()}};
    follow(calls_automaton(tools, {"[", "x", "]", ","}, false, "tools", ByteSet().set()),
           text.substr(end).substr(0, 96));
  } catch (const Error&) {
  }
  return 0;
}
