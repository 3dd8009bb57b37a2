// SPDX-License-Identifier: MIT
// A request's body, and a model's answer with stop strings and calls of tools: each ends in a value or an Error, and
// nothing that was to be shown is lost on the way.
#include <cstddef>
#include <cstdint>
#include <string>

#include "io/files.h"
#include "serve/admission.h"
#include "serve/openai_request.h"
#include "serve/text_stream.h"
#include "serve/tool_calls.h"

namespace {

using namespace qwerky;
using namespace qwerky::serve;

template <class Read>
void read(const Read& one, const OrderedJson& body) {
  try {
    one(body, RequestLimits());
  } catch (const Error&) {
  }
}

void read_requests(const OrderedJson& body) {
  read(read_completion, body);
  read(read_chat, body);
  read(read_embedding, body);
  read([](const OrderedJson& list, const RequestLimits& limits) { read_messages(list, limits); }, body);
  read([](const OrderedJson& list, const RequestLimits& limits) { read_prompts("prompt", list, limits); }, body);
}

/// What comes out does not depend on how the text was cut.
void show(std::string_view text, size_t step) {
  const std::vector<std::string> stops = {"</s>", "ab", "aab"};
  StopFilter whole(stops), parts(stops);
  std::string expected = whole.push(text), shown;
  expected += whole.finish();
  for (size_t at = 0; at < text.size(); at += step) shown += parts.push(text.substr(at, step));
  shown += parts.finish();
  CHECK(shown == expected && whole.stopped() == parts.stopped(), "stop strings depend on the pieces");
  for (const ToolStyle style : {ToolStyle::none, ToolStyle::hermes, ToolStyle::llama3}) {
    ToolCallParser parser(style), again(style);
    std::string all = parser.push(text).text, cut;
    all += parser.finish().text;
    for (size_t at = 0; at < text.size(); at += step) cut += again.push(text.substr(at, step)).text;
    cut += again.finish().text;
    CHECK(all == cut && parser.calls() == again.calls(), "tool calls depend on the pieces");
    CHECK(style == ToolStyle::hermes || parser.calls() > 0 || all == text, "text was lost");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] & 1) {
    show(text, 1 + data[0] / 32);
    const ApiKeys keys("a-key-of-sixteen-characters\n", "keys");
    CHECK(!keys.owner(text) || text.size() == 34, "another key was taken");
    origin_allowed(text, "127.0.0.1:8080", "https://a.example");
    names_loopback(text);
    return 0;
  }
  OrderedJson body;
  try {
    body = parse_ordered_json(text, "fuzz");
  } catch (const Error&) {
    return 0;
  }
  read_requests(body);
  return 0;
}
