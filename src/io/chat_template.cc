// SPDX-License-Identifier: MIT
#include "io/chat_template.h"

#include "base/error.h"
#include "io/jinja/evaluator.h"
#include "io/tokenizer.h"
#include "io/tokenizer_utf8.h"

namespace qwerky {
namespace {

/// Line endings as \n, and without the last one, as Jinja reads a source.
std::string normal_lines(std::string_view source) {
  std::string out;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    out += source[i] == '\r' ? '\n' : source[i];
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

}  // namespace

ChatTemplate::ChatTemplate(std::string_view source, std::string name) : name_(std::move(name)) {
  if (source.size() > static_cast<size_t>(jinja::Limits::kSourceBytes))
    fail(name_, ": ", source.size(), " bytes, expected at most ", jinja::Limits::kSourceBytes);
  if (!is_utf8(source)) fail(name_, ": not valid UTF-8");
  try {
    root_ = jinja::parse(normal_lines(source));
  } catch (const Error& e) {
    fail(name_, ", ", e.what());
  }
}

ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;

std::string ChatTemplate::render(const OrderedJson& context, std::time_t now) const {
  jinja::Evaluator evaluator(now);
  try {
    return evaluator.run(*root_, context);
  } catch (const Error& e) {
    fail(name_, ", line ", evaluator.line(), ": ", e.what());
  }
}

OrderedJson chat_context(const Tokenizer& tokenizer, OrderedJson messages, bool add_generation_prompt,
                         const OrderedJson& more) {
  OrderedJson out = {{"messages", std::move(messages)},
                     {"tools", nullptr},
                     {"documents", nullptr},
                     {"add_generation_prompt", add_generation_prompt}};
  for (const auto& [role, text] : tokenizer.special_texts) out[role] = text;
  for (const auto& [key, value] : more.items()) out[key] = value;
  return out;
}

}  // namespace qwerky
