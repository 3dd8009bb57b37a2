// SPDX-License-Identifier: MIT
// Calls of tools in a model's answer. Two forms are read:
//   Hermes and Qwen: any text, <tool_call>{"name": …, "arguments": {…}}</tool_call>, any number of times
//   Llama 3: the whole answer is {"name": …, "parameters": {…}}, perhaps after <|python_tag|>, several apart by ';'
// What looks like a call and is none stays text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qwerky::serve {

enum class ToolStyle { none, hermes, llama3 };

/// Told by the chat template's source.
ToolStyle tool_style(std::string_view chat_template);

struct ToolCall {
  std::string name, arguments;  ///< arguments as JSON text
};

/// Follows one answer as it is written.
class ToolCallParser {
 public:
  explicit ToolCallParser(ToolStyle style) : style_(style) {}
  struct Parsed {
    std::string text;             ///< to show
    std::vector<ToolCall> calls;  ///< that are complete now
  };
  Parsed push(std::string_view text);
  Parsed finish();
  int64_t calls() const { return calls_; }

 private:
  void push_hermes(Parsed& out);
  void finish_llama(Parsed& out);

  ToolStyle style_;
  std::string held_;
  bool inside_ = false;  // of <tool_call>
  bool after_call_ = false;
  bool plain_ = false;  // llama3: the answer is no call
  int64_t calls_ = 0;
};

}  // namespace qwerky::serve
