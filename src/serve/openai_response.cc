// SPDX-License-Identifier: MIT
#include "serve/openai_response.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>

#include "io/tokenizer_utf8.h"

namespace qwerky::serve {
namespace {

const char* type_of(int status) {
  if (status == 401) return "authentication_error";
  if (status == 429) return "rate_limit_error";
  return status >= 500 ? "server_error" : "invalid_request_error";
}

/// The token alone, parts of characters as U+FFFD.
std::string text_of(const Tokenizer& tokenizer, int32_t id) {
  std::string storage;
  const std::string piece = tokenizer.piece(id);
  return std::string(valid_utf8(piece, storage));
}

/// The `top` likeliest, at least `least`; where one is the token itself, its own logprob.
std::vector<std::pair<int32_t, double>> likeliest(const Logprobs& l, int top, int least) {
  std::vector<std::pair<int32_t, double>> out;
  const size_t most = std::min(l.top.size(), static_cast<size_t>(std::max(top, least)));
  for (size_t i = 0; i < most; ++i)
    out.emplace_back(l.top[i].first, l.top[i].first == l.id ? l.logprob : l.top[i].second);
  return out;
}

}  // namespace

OrderedJson error_json(int status, const std::string& message, const std::string& param, const std::string& code) {
  const auto or_null = [](const std::string& text) { return text.empty() ? OrderedJson() : OrderedJson(text); };
  return {
      {"error", {{"message", message}, {"type", type_of(status)}, {"param", or_null(param)}, {"code", or_null(code)}}}};
}

std::string dump(const OrderedJson& json) { return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace); }

double finite(double logprob) { return logprob > -9999 ? std::min(logprob, 0.0) : -9999; }

int64_t characters(std::string_view utf8) {
  return std::count_if(utf8.begin(), utf8.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

OrderedJson completion_logprobs(const Tokenizer& tokenizer, std::span<const ToldToken> tokens, int top) {
  OrderedJson texts = OrderedJson::array(), own = texts, tops = texts, offsets = texts;
  for (const ToldToken& t : tokens) {
    const Logprobs& l = t.logprobs;
    texts.push_back(text_of(tokenizer, l.id));
    offsets.push_back(t.offset);
    if (std::isnan(l.logprob)) {
      own.push_back(nullptr);
      tops.push_back(nullptr);
      continue;
    }
    own.push_back(finite(l.logprob));
    OrderedJson dict = OrderedJson::object();
    const auto add = [&](const std::string& text, double logprob) {
      const auto at = dict.find(text);
      if (at == dict.end()) {
        dict[text] = finite(logprob);
      } else if (at->get<double>() < finite(logprob)) {
        *at = finite(logprob);
      }
    };
    for (const auto& [id, logprob] : likeliest(l, top, 1)) add(text_of(tokenizer, id), logprob);
    add(texts.back().get<std::string>(), l.logprob);
    tops.push_back(std::move(dict));
  }
  return {{"tokens", std::move(texts)},
          {"token_logprobs", std::move(own)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

OrderedJson chat_logprobs(const Tokenizer& tokenizer, std::span<const ToldToken> tokens, int top) {
  const auto entry = [&](int32_t id, double logprob) {
    OrderedJson bytes = OrderedJson::array();
    for (const char c : tokenizer.piece(id)) bytes.push_back(static_cast<unsigned char>(c));
    return OrderedJson{{"token", text_of(tokenizer, id)}, {"logprob", finite(logprob)}, {"bytes", std::move(bytes)}};
  };
  OrderedJson content = OrderedJson::array();
  for (const ToldToken& t : tokens) {
    OrderedJson one = entry(t.logprobs.id, t.logprobs.logprob);
    one["top_logprobs"] = OrderedJson::array();
    for (const auto& [id, logprob] : likeliest(t.logprobs, top, 0)) one["top_logprobs"].push_back(entry(id, logprob));
    content.push_back(std::move(one));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

OrderedJson usage_json(const Tokens& tokens) {
  return {{"prompt_tokens", tokens.prompt},
          {"completion_tokens", tokens.generated},
          {"total_tokens", tokens.prompt + tokens.generated},
          {"prompt_tokens_details", {{"cached_tokens", tokens.cached}}}};
}

OrderedJson tool_calls_json(std::span<const ToolCall> calls, const std::string& id, int64_t first, bool stream) {
  OrderedJson out = OrderedJson::array();
  for (const ToolCall& call : calls) {
    OrderedJson one = OrderedJson::object();
    if (stream) one["index"] = first;
    one["id"] = concat("call-", id.substr(id.rfind('-') + 1), "-", first++);
    one["type"] = "function";
    one["function"] = {{"name", call.name}, {"arguments", call.arguments}};
    out.push_back(std::move(one));
  }
  return out;
}

std::string random_id(const std::string& prefix) {
  std::random_device random;
  char hex[32];
  std::snprintf(hex, sizeof hex, "%08x%08x%08x", random(), random(), random());
  return prefix + "-" + hex;
}

}  // namespace qwerky::serve
