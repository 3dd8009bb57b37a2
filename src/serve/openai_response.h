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

/// Legacy completions: {"tokens", "token_logprobs", "top_logprobs", "text_offset"}, one entry each per token; null for
/// a first token. top_logprobs holds the `top` likeliest, at least one, and the token itself; of two with the same text
/// (parts of characters) the likelier. The same double stands in both places.
OrderedJson completion_logprobs(const Tokenizer& tokenizer, std::span<const ToldToken> tokens, int top);
/// Chat: {"content": [{"token", "logprob", "bytes", "top_logprobs"}]}
OrderedJson chat_logprobs(const Tokenizer& tokenizer, std::span<const ToldToken> tokens, int top);

struct Tokens {
  int64_t prompt = 0, cached = 0, generated = 0;
};
OrderedJson usage_json(const Tokens& tokens);

/// The forms of one request's answer: completions or chat, whole or in parts.
struct AnswerForm {
  const Tokenizer& tokenizer;
  bool chat = false;
  int logprobs = -1;  ///< likeliest tokens told; -1: none
  std::string id, model;
  int64_t created = 0;
  bool tells_usage = false;  ///< a stream's parts say that it comes later

  /// Without choices.
  OrderedJson whole() const;
  OrderedJson choice(size_t index, const Answer& answer, const std::string& finish_reason) const;
  /// The same in parts: what comes before all text (chat only), text, and what comes after it.
  OrderedJson first_part(size_t index) const;
  OrderedJson part(size_t index, const Answer::Piece& piece) const;
  OrderedJson last_part(size_t index, const std::string& finish_reason) const;

 private:
  OrderedJson parts(OrderedJson choice) const;
  OrderedJson told(std::span<const ToldToken> tokens) const;
  OrderedJson calls(std::span<const ToolCall> calls, int64_t first, bool in_parts) const;
};

/// "prefix-" and 24 random hex digits.
std::string random_id(const std::string& prefix);
/// JSON as one line of valid UTF-8.
std::string dump(const OrderedJson& json);
/// A number that JSON can hold: -9999 for minus infinity.
double finite(double logprob);

}  // namespace qwerky::serve
