// SPDX-License-Identifier: MIT
// A model's conversations as tokens: its template, and what ends an answer.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "io/chat_template.h"
#include "io/tokenizer.h"

namespace qwerky {

/// What a template puts behind an answer: where the model must stop.
struct TurnEnd {
  std::optional<int32_t> token;  ///< a special token
  std::string text;              ///< else this text
  std::string closing;           ///< all that stands between an answer and whatever comes next
};

class ChatFormat {
 public:
  /// Both must outlive it.
  ChatFormat(const Tokenizer& tokenizer, const ChatTemplate& chat_template)
      : tokenizer_(tokenizer), template_(chat_template) {}

  /// With `prompt`, ends where the answer begins. `more`: variables of the template.
  std::string render(const OrderedJson& messages, bool prompt, const OrderedJson& more = OrderedJson::object()) const {
    return template_.render(chat_context(tokenizer_, messages, prompt, more));
  }

  /// Read off a rendering: what stands between an answer and the next question. `before`: messages that a conversation
  /// begins with.
  TurnEnd turn_end(const OrderedJson& before = OrderedJson::array(),
                   const OrderedJson& more = OrderedJson::object()) const;

  /// The text that adds `messages` to any conversation whose last answer is complete: what the template makes of them
  /// behind another conversation, without that. Throws Error where the template gives no such text.
  std::string continuation(const OrderedJson& messages, bool prompt, const OrderedJson& more) const;

  /// Lengths in tokens of the beginnings of `text` = render(messages, true, more), which has these ids, that end with a
  /// message; ascending. Of the last `most` messages, and of the first.
  std::vector<int64_t> boundaries(const OrderedJson& messages, const OrderedJson& more, std::string_view text,
                                  const std::vector<int32_t>& ids, int64_t most) const;

 private:
  const Tokenizer& tokenizer_;
  const ChatTemplate& template_;
};

}  // namespace qwerky
