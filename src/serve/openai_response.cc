// SPDX-License-Identifier: MIT
#include "serve/openai_response.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>

#include "base/error.h"
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

OrderedJson AnswerForm::whole() const {
  return {{"id", id},
          {"object", chat ? "chat.completion" : "text_completion"},
          {"created", created},
          {"model", model},
          {"choices", OrderedJson::array()}};
}

OrderedJson AnswerForm::parts(OrderedJson choice) const {
  OrderedJson out = whole();
  if (chat) out["object"] = "chat.completion.chunk";
  out["choices"].push_back(std::move(choice));
  if (tells_usage) out["usage"] = nullptr;  // that of the whole comes last
  return out;
}

OrderedJson AnswerForm::told(std::span<const ToldToken> tokens) const {
  if (logprobs < 0) return nullptr;
  return chat ? chat_logprobs(tokenizer, tokens, logprobs) : completion_logprobs(tokenizer, tokens, logprobs);
}

OrderedJson AnswerForm::calls(std::span<const ToolCall> list, int64_t first, bool in_parts) const {
  OrderedJson out = OrderedJson::array();
  for (const ToolCall& call : list) {
    OrderedJson one = OrderedJson::object();
    if (in_parts) one["index"] = first;
    one["id"] = concat("call-", id.substr(id.rfind('-') + 1), "-", first++);
    one["type"] = "function";
    one["function"] = {{"name", call.name}, {"arguments", call.arguments}};
    out.push_back(std::move(one));
  }
  return out;
}

OrderedJson AnswerForm::choice(size_t index, const Answer& answer, const std::string& finish_reason) const {
  OrderedJson out = {{"index", index}};
  if (chat) {
    OrderedJson message = {{"role", "assistant"}, {"content", answer.text()}};
    if (!answer.calls().empty()) {
      if (answer.text().empty()) message["content"] = nullptr;
      message["tool_calls"] = calls(answer.calls(), 0, false);
    }
    out["message"] = std::move(message);
  } else {
    out["text"] = answer.text();
  }
  out["logprobs"] = told(answer.tokens());
  out["finish_reason"] = finish_reason;
  return out;
}

OrderedJson AnswerForm::first_part(size_t index) const {
  return parts({{"index", index},
                {"delta", {{"role", "assistant"}, {"content", ""}}},
                {"logprobs", nullptr},
                {"finish_reason", nullptr}});
}

OrderedJson AnswerForm::part(size_t index, const Answer::Piece& piece) const {
  OrderedJson out = {{"index", index}};
  if (chat) {
    OrderedJson delta = OrderedJson::object();
    if (!piece.text.empty()) delta["content"] = piece.text;
    if (!piece.calls.empty()) delta["tool_calls"] = calls(piece.calls, piece.first_call, true);
    out["delta"] = std::move(delta);
  } else {
    out["text"] = piece.text;
  }
  out["logprobs"] = told(piece.tokens);
  out["finish_reason"] = nullptr;
  return parts(std::move(out));
}

OrderedJson AnswerForm::last_part(size_t index, const std::string& finish_reason) const {
  OrderedJson out = {{"index", index}};
  if (chat) {
    out["delta"] = OrderedJson::object();
  } else {
    out["text"] = "";
  }
  out["logprobs"] = nullptr;
  out["finish_reason"] = finish_reason;
  return parts(std::move(out));
}

std::string random_id(const std::string& prefix) {
  std::random_device random;
  char hex[32];
  std::snprintf(hex, sizeof hex, "%08x%08x%08x", random(), random(), random());
  return prefix + "-" + hex;
}

}  // namespace qwerky::serve
