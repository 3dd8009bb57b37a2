// SPDX-License-Identifier: MIT
// A model's chat template: Jinja source that turns a conversation into the text the model was trained on. Rendered as
// transformers does it (Jinja2's immutable sandbox with trim_blocks and lstrip_blocks, loop controls, tojson,
// raise_exception, strftime_now and {% generation %}); docs/chat.md lists what is supported. What is not is an Error
// with its line. Templates come with models, so they are read as hostile: see jinja::Limits.
#pragma once

#include <ctime>
#include <memory>
#include <string>

#include "base/json.h"

namespace qwerky {

class Tokenizer;

namespace jinja {
struct Node;
}

class ChatTemplate {
 public:
  /// Parses `source`; `name` is for messages.
  explicit ChatTemplate(std::string_view source, std::string name = "chat template");
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;

  /// The text for an object of variables. `now` is what strftime_now reads. Any number of threads may render at once.
  std::string render(const OrderedJson& context, std::time_t now = std::time(nullptr)) const;

 private:
  std::string name_;
  std::unique_ptr<jinja::Node> root_;
};

/// The variables that transformers gives a template: `messages`, `add_generation_prompt`, tools and documents (none),
/// the texts of the tokenizer's special tokens (bos_token, eos_token, …), then those of `more`, which may replace any.
OrderedJson chat_context(const Tokenizer& tokenizer, OrderedJson messages, bool add_generation_prompt,
                         const OrderedJson& more = OrderedJson::object());

}  // namespace qwerky
