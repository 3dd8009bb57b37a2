// SPDX-License-Identifier: MIT
// A chat template, rendered for a conversation with tools: it ends in bounded time with a text or an Error, and gives
// the same again.
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/error.h"
#include "io/chat_template.h"

namespace {

using namespace qwerky;

std::optional<std::string> rendered(const ChatTemplate& chat, const OrderedJson& context) {
  try {
    return chat.render(context, 1721995200);
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const OrderedJson context = OrderedJson::parse(R"({
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Zürich?\n"},
                 {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {"a": [1, 2.5]}}}]},
                 {"role": "tool", "content": "😀 'q' \"Q\" <b>"}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"items": {"a": true}}}}],
    "n": -3, "x": 0.1, "big": 9223372036854775807, "t": "aaa", "bos_token": "<s>", "add_generation_prompt": true})");
  try {
    const ChatTemplate chat({reinterpret_cast<const char*>(data), size}, "fuzz");
    const auto first = rendered(chat, context);
    CHECK(first == rendered(chat, context), "two renderings differ");
  } catch (const Error&) {
  }
  return 0;
}
