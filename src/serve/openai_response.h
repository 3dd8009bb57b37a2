// SPDX-License-Identifier: MIT
// Answers in OpenAI's forms.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/batcher.h"
#include "io/tokenizer.h"
#include "serve/request_error.h"
#include "serve/tool_calls.h"

namespace qwerky::serve {

/// {"error": {"message", "type", "param", "code"}}
OrderedJson error_json(int status, const std::string& message, const std::string& param = {},
                       const std::string& code = {});

/// One token of an answer, with where its text begins.
struct ToldToken {
  Logprobs logprobs;
  int64_t offset = 0;  ///< Unicode characters of the text before it
};

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

OrderedJson tool_calls_json(std::span<const ToolCall> calls, const std::string& id, int64_t first, bool stream);

/// "prefix-" and 24 random hex digits.
std::string random_id(const std::string& prefix);
/// JSON as one line of valid UTF-8.
std::string dump(const OrderedJson& json);
/// A number that JSON can hold: -9999 for minus infinity.
double finite(double logprob);
int64_t characters(std::string_view utf8);

}  // namespace qwerky::serve
