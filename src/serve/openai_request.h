// SPDX-License-Identifier: MIT
// Bodies of OpenAI's protocol, read: every field by name, type and range. No model is needed, so names of models and
// token ids are checked later.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/json.h"
#include "engine/json_schema.h"
#include "qwerky/qwerky.h"
#include "serve/request_error.h"

namespace qwerky::serve {

/// How much one request may ask for.
struct RequestLimits {
  int64_t new_tokens = 32768;  ///< in one answer
  int64_t chat_tokens = 4096;  ///< of a chat answer, when the request does not say
  int64_t messages = 4096;
  int64_t tools = 128;
  int64_t choices = 256;                     ///< prompts times n
  int64_t prompt_tokens = int64_t{1} << 22;  ///< of all prompts, each times n
  int64_t told_numbers = int64_t{1} << 20;   ///< of log-probabilities: (alternatives + 4) a token that may be told
  int64_t stops = 16;
  int64_t stop_bytes = 512;
};

/// A text, or token ids that are taken as they are.
using Prompt = std::variant<std::string, std::vector<int32_t>>;

/// What completions and chat have in common.
struct GenerationRequest {
  std::string model;
  std::string state;       ///< name of a saved state to go on from
  std::string save_state;  ///< name under which to save the state after the answer
  SamplerOptions sampler;
  std::optional<uint64_t> seed;
  std::vector<std::string> dry_breakers;
  std::optional<int64_t> max_tokens;
  std::vector<std::string> stop;
  int64_t n = 1;
  bool stream = false, include_usage = false;
  bool reuse = true;  ///< may go on from what an earlier request has read
  int logprobs = -1;  ///< likeliest tokens to tell for each; -1: none
  enum class Format { text, json, schema } format = Format::text;
  OrderedJson schema;
};

struct CompletionRequest : GenerationRequest {
  std::vector<Prompt> prompts;
  bool echo = false;
};

struct ChatRequest : GenerationRequest {
  OrderedJson messages;                           ///< as a chat template reads them
  OrderedJson variables = OrderedJson::object();  ///< for the template: tools and chat_template_kwargs
  bool tools = false;
  bool one_tool_call = false;
  std::vector<NamedSchema> must_call;     ///< one of these tools; empty: the model chooses
  std::vector<NamedSchema> strict_tools;  ///< whose schemas must be such as can be enforced
};

struct EmbeddingRequest {
  std::string model;
  std::vector<Prompt> inputs;
  bool base64 = false;
};

/// Throw RequestError naming what is wrong.
CompletionRequest read_completion(const OrderedJson& body, const RequestLimits& limits);
ChatRequest read_chat(const OrderedJson& body, const RequestLimits& limits);
EmbeddingRequest read_embedding(const OrderedJson& body, const RequestLimits& limits);
/// A list of messages as a chat template reads them: texts joined, arguments of tool calls parsed.
OrderedJson read_messages(const OrderedJson& list, const RequestLimits& limits);
/// Each item of a list, none below 0.
std::vector<int32_t> read_ids(const std::string& name, const OrderedJson& list);
/// "prompt" or "input": a text, a list of texts, ids, or a list of lists of ids.
std::vector<Prompt> read_prompts(const std::string& name, const OrderedJson& value, const RequestLimits& limits);
/// A name that a state may have: letters, digits, '.', '_' and '-', at most 64, beginning with a letter or digit.
void check_state_name(const std::string& field, const std::string& name);

}  // namespace qwerky::serve
