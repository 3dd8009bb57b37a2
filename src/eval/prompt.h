// SPDX-License-Identifier: MIT
// How a document, its examples and what is said to the model beforehand become requests: one text, or the turns of a
// conversation that a chat template renders, as lm-eval 0.4.8 does it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "eval/task.h"

namespace qwerky {

class Tokenizer;

/// The text of a list of messages {"role", "content"}, up to where the next answer begins.
using RenderChat = std::function<std::string(const OrderedJson& messages)>;

struct PromptStyle {
  std::optional<std::string> system = {};     ///< an instruction before the task's description
  std::string chat_template = {};             ///< source of `render`, which results and journals name
  RenderChat render = nullptr;                ///< null: contexts are plain text
  std::shared_ptr<bool> system_refused = {};  ///< true once `render` had to leave a system message out
  bool multiturn = false;  ///< each example has turns of its own; else all stand in front of the question
};

/// Examples of a chat in one user turn are lm-eval's second draw.
inline bool draws_twice(const PromptStyle& style) { return style.render && !style.multiturn; }

/// The requests about a document after these examples: one for each choice, one prompt where the task generates.
std::vector<Request> requests_of(const Task& task, const Document& document, std::span<const Document* const> examples,
                                 const PromptStyle& style);

/// Renders with the template of a model, which must have one; `name` of those it has, "" for the default. A template
/// that refuses a conversation with a system message gets it without.
void use_chat_template(PromptStyle& style, const Tokenizer& tokenizer, const std::string& model,
                       const std::string& name);

}  // namespace qwerky
