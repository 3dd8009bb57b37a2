// SPDX-License-Identifier: MIT
// Answers in OpenAI's forms.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "serve/answer.h"

namespace qwerky::serve {

/// {"error": {"message", "type", "param", "code"}}
OrderedJson error_json(int status, const std::string& message, const std::string& param = {},
                       const std::string& code = {});

// Log-probabilities may be a million numbers: they become text token by token, at the end of `out`.
/// Legacy completions: {"tokens", "token_logprobs", "top_logprobs", "text_offset"}, one entry each per token; null for
/// a first token. top_logprobs holds the `top` likeliest, at least one, and the token itself; of two with the same text
/// (parts of characters) the likelier. The same double stands in both places.
void add_completion_logprobs(std::string& out, const Tokenizer& tokenizer, std::span<const ToldToken> tokens, int top);
/// Chat: {"content": [{"token", "logprob", "bytes", "top_logprobs"}]}
void add_chat_logprobs(std::string& out, const Tokenizer& tokenizer, std::span<const ToldToken> tokens, int top);

struct Tokens {
  int64_t prompt = 0, cached = 0, generated = 0;
};
OrderedJson usage_json(const Tokens& tokens);

/// The forms of one request's answer as JSON text: completions or chat, whole or in parts.
struct AnswerForm {
  const Tokenizer& tokenizer;
  bool chat = false;
  int logprobs = -1;  ///< likeliest tokens told; -1: none
  std::string id, model;
  int64_t created = 0;
  bool tells_usage = false;  ///< a stream's parts say that it comes later

  /// One more at the end of a list of choices.
  void add_choice(std::string& choices, size_t index, const Answer& answer, const std::string& finish_reason) const;
  /// `rest`: the members after the choices.
  std::string whole(std::string_view choices, const OrderedJson& rest) const;
  /// The same in parts: what comes before all text (chat only), text, what comes after it, and what is of all choices.
  std::string first_part(size_t index) const;
  std::string part(size_t index, const Answer::Piece& piece) const;
  std::string last_part(size_t index, const std::string& finish_reason, const OrderedJson& rest) const;
  std::string usage_part(const Tokens& tokens) const;

 private:
  std::string object(bool in_parts, std::string_view choices, const OrderedJson& rest) const;
  std::string in_parts(std::string_view choice, const OrderedJson& rest = OrderedJson::object()) const;
  void add_told(std::string& out, std::span<const ToldToken> tokens) const;
  OrderedJson calls(std::span<const ToolCall> calls, int64_t first, bool in_parts) const;
};

/// "prefix-" and 24 random hex digits.
std::string random_id(const std::string& prefix);
/// JSON as one line of valid UTF-8.
std::string dump(const OrderedJson& json);
/// A number that JSON can hold: -9999 for minus infinity.
double finite(double logprob);

}  // namespace qwerky::serve
