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

/// [entry(token), …]
template <class Entry>
void add_list(std::string& out, std::span<const ToldToken> tokens, const Entry& entry) {
  out += '[';
  for (const ToldToken& t : tokens) {
    if (&t != tokens.data()) out += ',';
    out += dump(entry(t));
  }
  out += ']';
}

/// An object's text, to which members may be added: it ends before its brace.
std::string opened(const OrderedJson& object) {
  std::string out = dump(object);
  out.pop_back();
  return out;
}
/// Adds the members of `rest` to an object that has some, and closes it.
void close(std::string& out, const OrderedJson& rest) {
  if (!rest.empty()) out += ',';
  out += std::string_view(dump(rest)).substr(1);
}

}  // namespace

OrderedJson error_json(int status, const std::string& message, const std::string& param, const std::string& code) {
  const auto or_null = [](const std::string& text) { return text.empty() ? OrderedJson() : OrderedJson(text); };
  return {
      {"error", {{"message", message}, {"type", type_of(status)}, {"param", or_null(param)}, {"code", or_null(code)}}}};
}

std::string dump(const OrderedJson& json) { return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace); }

double finite(double logprob) { return logprob > -9999 ? std::min(logprob, 0.0) : -9999; }

void add_completion_logprobs(std::string& out, const Tokenizer& tokenizer, std::span<const ToldToken> tokens, int top) {
  const auto add_array = [&](const char* name, const auto& entry) {
    out += concat('"', name, "\":");
    add_list(out, tokens, entry);
  };
  out += '{';
  add_array("tokens", [&](const ToldToken& t) { return OrderedJson(text_of(tokenizer, t.logprobs.id)); });
  out += ',';
  add_array("token_logprobs", [](const ToldToken& t) {
    return std::isnan(t.logprobs.logprob) ? OrderedJson() : OrderedJson(finite(t.logprobs.logprob));
  });
  out += ',';
  add_array("top_logprobs", [&](const ToldToken& t) {
    const Logprobs& l = t.logprobs;
    if (std::isnan(l.logprob)) return OrderedJson();
    OrderedJson dict = OrderedJson::object();
    const auto add = [&](int32_t id, double logprob) {
      const std::string text = text_of(tokenizer, id);
      const auto at = dict.find(text);
      if (at == dict.end()) {
        dict[text] = finite(logprob);
      } else if (at->get<double>() < finite(logprob)) {
        *at = finite(logprob);
      }
    };
    for (const auto& [id, logprob] : likeliest(l, top, 1)) add(id, logprob);
    add(l.id, l.logprob);
    return dict;
  });
  out += ',';
  add_array("text_offset", [](const ToldToken& t) { return OrderedJson(t.offset); });
  out += '}';
}

void add_chat_logprobs(std::string& out, const Tokenizer& tokenizer, std::span<const ToldToken> tokens, int top) {
  const auto entry = [&](int32_t id, double logprob) {
    OrderedJson bytes = OrderedJson::array();
    for (const char c : tokenizer.piece(id)) bytes.push_back(static_cast<unsigned char>(c));
    return OrderedJson{{"token", text_of(tokenizer, id)}, {"logprob", finite(logprob)}, {"bytes", std::move(bytes)}};
  };
  out += "{\"content\":";
  add_list(out, tokens, [&](const ToldToken& t) {
    OrderedJson one = entry(t.logprobs.id, t.logprobs.logprob);
    one["top_logprobs"] = OrderedJson::array();
    for (const auto& [id, logprob] : likeliest(t.logprobs, top, 0)) one["top_logprobs"].push_back(entry(id, logprob));
    return one;
  });
  out += ",\"refusal\":null}";
}

OrderedJson usage_json(const Tokens& tokens) {
  return {{"prompt_tokens", tokens.prompt},
          {"completion_tokens", tokens.generated},
          {"total_tokens", tokens.prompt + tokens.generated},
          {"prompt_tokens_details", {{"cached_tokens", tokens.cached}}}};
}

std::string AnswerForm::object(bool in_parts, std::string_view choices, const OrderedJson& rest) const {
  const char* kind = !chat ? "text_completion" : in_parts ? "chat.completion.chunk" : "chat.completion";
  std::string out = opened({{"id", id}, {"object", kind}, {"created", created}, {"model", model}});
  out += ",\"choices\":[";
  out += choices;
  out += ']';
  close(out, rest);
  return out;
}

std::string AnswerForm::whole(std::string_view choices, const OrderedJson& rest) const {
  return object(false, choices, rest);
}

std::string AnswerForm::in_parts(std::string_view choice, const OrderedJson& rest) const {
  OrderedJson after = OrderedJson::object();
  if (tells_usage) after["usage"] = nullptr;  // that of the whole comes last
  after.update(rest);
  return object(true, choice, after);
}

void AnswerForm::add_told(std::string& out, std::span<const ToldToken> tokens) const {
  out += ",\"logprobs\":";
  if (logprobs < 0)
    out += "null";
  else
    chat ? add_chat_logprobs(out, tokenizer, tokens, logprobs)
         : add_completion_logprobs(out, tokenizer, tokens, logprobs);
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

void AnswerForm::add_choice(std::string& choices, size_t index, const Answer& answer,
                            const std::string& finish_reason) const {
  OrderedJson one = {{"index", index}};
  if (chat) {
    OrderedJson message = {{"role", "assistant"}, {"content", answer.text()}};
    if (!answer.calls().empty()) {
      if (answer.text().empty()) message["content"] = nullptr;
      message["tool_calls"] = calls(answer.calls(), 0, false);
    }
    one["message"] = std::move(message);
  } else {
    one["text"] = answer.text();
  }
  if (!choices.empty()) choices += ',';
  choices += opened(one);
  add_told(choices, answer.tokens());
  close(choices, {{"finish_reason", finish_reason}});
}

std::string AnswerForm::first_part(size_t index) const {
  return in_parts(dump({{"index", index},
                        {"delta", {{"role", "assistant"}, {"content", ""}}},
                        {"logprobs", nullptr},
                        {"finish_reason", nullptr}}));
}

std::string AnswerForm::part(size_t index, const Answer::Piece& piece) const {
  OrderedJson one = {{"index", index}};
  if (chat) {
    OrderedJson delta = OrderedJson::object();
    if (!piece.text.empty()) delta["content"] = piece.text;
    if (!piece.calls.empty()) delta["tool_calls"] = calls(piece.calls, piece.first_call, true);
    one["delta"] = std::move(delta);
  } else {
    one["text"] = piece.text;
  }
  std::string choice = opened(one);
  add_told(choice, piece.tokens);
  close(choice, {{"finish_reason", nullptr}});
  return in_parts(choice);
}

std::string AnswerForm::last_part(size_t index, const std::string& finish_reason, const OrderedJson& rest) const {
  OrderedJson one = {{"index", index}};
  if (chat) {
    one["delta"] = OrderedJson::object();
  } else {
    one["text"] = "";
  }
  one["logprobs"] = nullptr;
  one["finish_reason"] = finish_reason;
  return in_parts(dump(one), rest);
}

std::string AnswerForm::usage_part(const Tokens& tokens) const {
  return object(true, {}, {{"usage", usage_json(tokens)}});
}

std::string random_id(const std::string& prefix) {
  std::random_device random;
  char hex[32];
  std::snprintf(hex, sizeof hex, "%08x%08x%08x", random(), random(), random());
  return prefix + "-" + hex;
}

}  // namespace qwerky::serve
