// SPDX-License-Identifier: MIT
#include "serve/openai_request.h"

#include <algorithm>
#include <charconv>

#include "io/files.h"
#include "serve/fields.h"

namespace qwerky::serve {
namespace {

constexpr int64_t kMostId = int64_t{1} << 30;

void read_logit_bias(Fields& fields, SamplerOptions& sampler) {
  const OrderedJson* value = fields.find("logit_bias");
  if (value == nullptr) return;
  if (!value->is_object()) fields.refuse("logit_bias", "an object of token ids and numbers", *value);
  for (const auto& [key, bias] : value->items()) {
    int32_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0)
      refuse_field("logit_bias", "expected token ids as keys");
    if (!bias.is_number() || !(bias.get<double>() >= -100 && bias.get<double>() <= 100))
      fields.refuse("logit_bias", "numbers from -100 to 100", bias);
    sampler.logit_bias.emplace_back(id, bias.get<double>());
  }
}

void read_sampler(Fields& fields, GenerationRequest& out) {
  constexpr double kMost = 1e6;
  SamplerOptions& s = out.sampler;
  s.temperature = fields.number("temperature", 1, 0, 100);
  s.top_k = fields.whole("top_k", 0, 0, kMostId);
  s.top_p = fields.number("top_p", 1, 0, 1);
  s.min_p = fields.number("min_p", 0, 0, 1);
  s.typical_p = fields.number("typical_p", 1, 0, 1);
  s.presence_penalty = fields.number("presence_penalty", 0, -2, 2);
  s.frequency_penalty = fields.number("frequency_penalty", 0, -2, 2);
  s.repetition_penalty = fields.number("repetition_penalty", 1, 0.01, 100);
  s.penalty_window = fields.whole("penalty_window", 0, 0, kMostId);
  s.dry_multiplier = fields.number("dry_multiplier", 0, 0, 100);
  s.dry_base = fields.number("dry_base", 1.75, 1, 100);
  s.dry_allowed_length = fields.whole("dry_allowed_length", 2, 1, kMostId);
  out.dry_breakers = fields.texts("dry_sequence_breakers", 16);
  if (std::ranges::find(out.dry_breakers, "") != out.dry_breakers.end())
    refuse_field("dry_sequence_breakers", "expected texts of at least one byte");
  if (fields.find("dry_sequence_breakers") == nullptr) out.dry_breakers = {"\n", ":", "\"", "*"};
  s.xtc_probability = fields.number("xtc_probability", 0, 0, 1);
  s.xtc_threshold = fields.number("xtc_threshold", 0.1, 0, 1);
  s.mirostat = fields.whole("mirostat", 0, 0, 2);
  if (s.mirostat == 1) refuse_field("mirostat", "expected 0 or 2, found 1");
  s.mirostat_tau = fields.number("mirostat_tau", 5, 0, kMost);
  s.mirostat_eta = fields.number("mirostat_eta", 0.1, 0, 1);
  read_logit_bias(fields, s);
  if (fields.find("seed") != nullptr) out.seed = static_cast<uint64_t>(fields.whole("seed", 0, INT64_MIN, INT64_MAX));
}

void read_format(Fields& fields, GenerationRequest& out) {
  const OrderedJson* value = fields.find("response_format");
  if (value == nullptr) return;
  Fields format(*value, "response_format.");
  const std::string type = format.text("type");
  if (type == "json_object") {
    out.format = GenerationRequest::Format::json;
  } else if (type == "json_schema") {
    const OrderedJson* named = format.find("json_schema");
    if (named == nullptr) refuse_field("response_format.json_schema", "expected an object, found nothing");
    Fields inner(*named, "response_format.json_schema.");
    inner.accept({"name", "description", "strict"});
    const OrderedJson* schema = inner.find("schema");
    if (schema == nullptr) refuse_field("response_format.json_schema.schema", "expected a JSON schema, found nothing");
    inner.finish();
    out.schema = *schema;
    out.format = GenerationRequest::Format::schema;
  } else if (type != "text") {
    refuse_field("response_format.type", "expected text, json_object or json_schema");
  }
  format.finish();
}

void read_common(Fields& fields, GenerationRequest& out, const RequestLimits& limits) {
  // About accounts, billing and caching elsewhere: they mean nothing here.
  fields.accept({"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"});
  out.model = fields.text("model");
  out.state = fields.text("state");
  if (fields.find("state") != nullptr) check_state_name("state", out.state);
  out.save_state = fields.text("save_state");
  if (fields.find("save_state") != nullptr) check_state_name("save_state", out.save_state);
  read_sampler(fields, out);
  read_format(fields, out);
  if (fields.find("max_tokens") != nullptr) out.max_tokens = fields.whole("max_tokens", 0, 0, limits.new_tokens);
  out.stop = fields.texts("stop", static_cast<size_t>(limits.stops));
  for (const std::string& stop : out.stop)
    if (stop.empty() || static_cast<int64_t>(stop.size()) > limits.stop_bytes)
      refuse_field("stop", "expected texts of 1 to ", limits.stop_bytes, " bytes, found ", stop.size());
  out.n = fields.whole("n", 1, 1, limits.choices);
  out.stream = fields.flag("stream", false);
  if (const OrderedJson* options = fields.find("stream_options")) {
    if (!out.stream) refuse_field("stream_options", "only goes with stream: true");
    Fields inner(*options, "stream_options.");
    out.include_usage = inner.flag("include_usage", false);
    inner.finish();
  }
  out.reuse = fields.flag("cache_prompt", true);
}

/// A message's content: text, or parts that are all text.
std::string read_content(const OrderedJson& content, const std::string& where) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) refuse_field(where, "expected text or a list of text parts, found ", content.type_name());
  std::string out;
  for (const OrderedJson& part : content) {
    Fields fields(part, where + ".");
    if (const std::string type = fields.text("type"); type != "text")
      refuse_field(where, "only parts of type text are supported, found ",
                   OrderedJson(type.substr(0, 40)).dump(-1, ' ', true));
    out += fields.text("text");
    fields.finish();
  }
  return out;
}

/// Templates write `arguments` as JSON; clients send it as text.
OrderedJson read_tool_calls(const OrderedJson& calls, const std::string& where) {
  if (!calls.is_array()) refuse_field(where, "expected a list, found ", calls.type_name());
  OrderedJson out = OrderedJson::array();
  for (const OrderedJson& item : calls) {
    Fields call(item, where + ".");
    call.accept({"id", "type", "index"});
    const OrderedJson* function = call.find("function");
    if (function == nullptr) refuse_field(where + ".function", "expected an object, found nothing");
    Fields inner(*function, where + ".function.");
    const std::string name = inner.text("name");
    const OrderedJson* arguments = inner.find("arguments");
    OrderedJson parsed = OrderedJson::object();
    if (arguments != nullptr) {
      parsed = *arguments;
      if (parsed.is_string()) {
        const std::string text = parsed.get<std::string>();
        if (!text.empty()) parsed = parse_ordered_json(text, where + ".function.arguments");
      }
    }
    inner.finish();
    call.finish();
    OrderedJson copy = item;
    copy["function"] = {{"name", name}, {"arguments", parsed}};
    out.push_back(std::move(copy));
  }
  return out;
}

OrderedJson read_message(const OrderedJson& item, const std::string& where) {
  Fields fields(item, where + ".");
  std::string role = fields.text("role");
  if (role == "developer") role = "system";
  if (role != "system" && role != "user" && role != "assistant" && role != "tool")
    refuse_field(where + ".role", "expected system, developer, user, assistant or tool");
  OrderedJson out = {{"role", role}};
  const OrderedJson* content = fields.find("content");
  const OrderedJson* calls = fields.find("tool_calls");
  if (content == nullptr && calls == nullptr) refuse_field(where + ".content", "expected text, found nothing");
  out["content"] = content == nullptr ? "" : read_content(*content, where + ".content");
  if (calls != nullptr && !calls->empty()) out["tool_calls"] = read_tool_calls(*calls, where + ".tool_calls");
  for (const char* name : {"name", "tool_call_id", "reasoning_content"})
    if (fields.find(name) != nullptr) out[name] = fields.text(name);
  for (const char* name : {"refusal", "annotations", "audio", "function_call"})  // clients send them back empty
    if (const OrderedJson* value = fields.find(name); value != nullptr && !value->empty())
      refuse_field(where + "." + name, "is not supported");
  fields.finish();
  return out;
}

/// The tool that must be called, "" for any of them, or nothing where none must.
std::optional<std::string> read_tool_choice(Fields& fields) {
  const OrderedJson* choice = fields.find("tool_choice");
  if (choice == nullptr || *choice == "none" || *choice == "auto") return std::nullopt;
  if (*choice == "required") return "";
  if (!choice->is_object()) fields.refuse("tool_choice", "none, auto, required or an object", *choice);
  Fields named(*choice, "tool_choice.");
  if (named.text("type") != "function") refuse_field("tool_choice.type", "expected function");
  const OrderedJson* function = named.find("function");
  if (function == nullptr) refuse_field("tool_choice.function", "expected an object, found nothing");
  named.finish();
  Fields inner(*function, "tool_choice.function.");
  const std::string name = inner.text("name");
  if (name.empty()) refuse_field("tool_choice.function.name", "expected text, found nothing");
  inner.finish();
  return name;
}

/// What the arguments of a call must satisfy: always an object. A tool without parameters takes none.
OrderedJson arguments_schema(const OrderedJson* parameters) {
  if (parameters == nullptr) return {{"type", "object"}, {"properties", OrderedJson::object()}};
  OrderedJson schema = *parameters;
  if (schema.contains("type") && schema["type"] != "object")
    refuse_field("tools.function.parameters", "expected a schema of type object");
  schema["type"] = "object";
  schema.erase("nullable");
  return schema;
}

void read_tools(Fields& fields, ChatRequest& out, const RequestLimits& limits) {
  const OrderedJson* tools = fields.find("tools");
  const std::optional<std::string> forced = read_tool_choice(fields);
  out.one_tool_call = !fields.flag("parallel_tool_calls", true) || (forced && !forced->empty());
  if (tools == nullptr || tools->empty()) {
    if (forced) refuse_field("tool_choice", "asks for a call, and there are no tools");
    if (tools == nullptr) return;
  }
  if (!tools->is_array() || static_cast<int64_t>(tools->size()) > limits.tools)
    fields.refuse("tools", concat("a list of at most ", limits.tools, " tools"), *tools);
  for (const OrderedJson& item : *tools) {
    Fields tool(item, "tools.");
    if (tool.text("type") != "function") refuse_field("tools.type", "expected function");
    const OrderedJson* function = tool.find("function");
    if (function == nullptr) refuse_field("tools.function", "expected an object, found nothing");
    Fields inner(*function, "tools.function.");
    const std::string name = inner.text("name");
    if (name.empty()) refuse_field("tools.function.name", "expected text, found nothing");
    inner.text("description");
    const OrderedJson* parameters = inner.find("parameters");
    if (parameters != nullptr && !parameters->is_object()) inner.refuse("parameters", "a JSON schema", *parameters);
    if (forced && (forced->empty() || *forced == name)) out.must_call.push_back({name, arguments_schema(parameters)});
    if (inner.flag("strict", false)) out.strict_tools.push_back({name, arguments_schema(parameters)});
    inner.finish();
    tool.finish();
  }
  if (forced && out.must_call.empty()) refuse_field("tool_choice.function.name", "expected the name of one of tools");
  const OrderedJson* choice = fields.find("tool_choice");
  if (tools->empty() || (choice != nullptr && *choice == "none")) return;
  out.variables["tools"] = *tools;
  out.tools = true;
}

}  // namespace

void check_state_name(const std::string& field, const std::string& name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
  const bool good =
      !name.empty() && name.size() <= 64 && letter(name[0]) &&
      std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || c == '.' || c == '_' || c == '-'; });
  if (!good) refuse_field(field, "expected 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit");
}

std::vector<int32_t> read_ids(const std::string& name, const OrderedJson& list) {
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (const OrderedJson& item : list) {
    if (!item.is_number_integer() || item.get<int64_t>() < 0 || item.get<int64_t>() > kMostId)
      refuse_field(name, "expected token ids, found ", item.is_number() ? item.dump() : item.type_name());
    ids.push_back(item.get<int32_t>());
  }
  return ids;
}

std::vector<Prompt> read_prompts(const std::string& name, const OrderedJson& value, const RequestLimits& limits) {
  if (value.is_string()) return {value.get<std::string>()};
  if (!value.is_array() || value.empty())
    refuse_field(name, "expected text, texts, token ids or lists of token ids, found ",
                 value.is_array() ? "an empty list" : value.type_name());
  if (value[0].is_number()) return {read_ids(name, value)};
  if (static_cast<int64_t>(value.size()) > limits.choices)
    refuse_field(name, "expected at most ", limits.choices, " prompts, found ", value.size());
  std::vector<Prompt> out;
  for (const OrderedJson& item : value) {
    if (item.is_string()) {
      out.emplace_back(item.get<std::string>());
    } else if (item.is_array()) {
      out.emplace_back(read_ids(name, item));
    } else {
      refuse_field(name, "expected texts or lists of token ids, found ", item.type_name());
    }
  }
  return out;
}

OrderedJson read_messages(const OrderedJson& list, const RequestLimits& limits) {
  if (!list.is_array() || list.empty() || static_cast<int64_t>(list.size()) > limits.messages)
    refuse_field("messages", "expected a list of 1 to ", limits.messages, " messages");
  OrderedJson out = OrderedJson::array();
  for (size_t i = 0; i < list.size(); ++i) out.push_back(read_message(list[i], concat("messages[", i, "]")));
  return out;
}

CompletionRequest read_completion(const OrderedJson& body, const RequestLimits& limits) {
  Fields fields(body);
  CompletionRequest out;
  read_common(fields, out, limits);
  const OrderedJson* prompt = fields.find("prompt");
  if (prompt == nullptr) refuse_field("prompt", "expected text or token ids, found nothing");
  out.prompts = read_prompts("prompt", *prompt, limits);
  out.echo = fields.flag("echo", false);
  out.logprobs = static_cast<int>(fields.whole("logprobs", -1, 0, 20));
  if (fields.whole("best_of", out.n, 1, limits.choices) != out.n) refuse_field("best_of", "only n itself is supported");
  if (!fields.text("suffix").empty()) refuse_field("suffix", "is not supported");
  if (static_cast<int64_t>(out.prompts.size()) * out.n > limits.choices)
    refuse_field("n", "expected at most ", limits.choices, " answers in all, found ", out.prompts.size(),
                 " prompts times ", out.n);
  if (!out.save_state.empty() && out.prompts.size() * static_cast<size_t>(out.n) > 1)
    refuse_field("save_state", "only goes with one prompt and n = 1");
  if (!out.state.empty() && out.echo) refuse_field("echo", "does not go with state: its text was read earlier");
  fields.finish();
  return out;
}

ChatRequest read_chat(const OrderedJson& body, const RequestLimits& limits) {
  Fields fields(body);
  ChatRequest out;
  read_common(fields, out, limits);
  const OrderedJson* messages = fields.find("messages");
  if (messages == nullptr) refuse_field("messages", "expected a list of messages, found nothing");
  out.messages = read_messages(*messages, limits);
  if (const OrderedJson* variables = fields.find("chat_template_kwargs")) {
    if (!variables->is_object()) fields.refuse("chat_template_kwargs", "an object", *variables);
    for (const char* name : {"messages", "add_generation_prompt", "tools"})
      if (variables->contains(name)) refuse_field("chat_template_kwargs", "may not replace ", name);
    out.variables = *variables;
  }
  read_tools(fields, out, limits);
  if (fields.find("max_completion_tokens") != nullptr) {
    if (out.max_tokens) refuse_field("max_completion_tokens", "does not go with max_tokens");
    out.max_tokens = fields.whole("max_completion_tokens", 0, 0, limits.new_tokens);
  }
  const bool logprobs = fields.flag("logprobs", false);
  const int64_t top = fields.whole("top_logprobs", 0, 0, 20);
  if (top > 0 && !logprobs) refuse_field("top_logprobs", "only goes with logprobs: true");
  if (logprobs) out.logprobs = static_cast<int>(top);
  if (out.tools && out.format != GenerationRequest::Format::text)
    refuse_field("response_format", "does not go with tools");
  if (!out.save_state.empty() && out.n > 1) refuse_field("save_state", "only goes with n = 1");
  fields.finish();
  return out;
}

EmbeddingRequest read_embedding(const OrderedJson& body, const RequestLimits& limits) {
  Fields fields(body);
  fields.accept({"user"});
  EmbeddingRequest out;
  out.model = fields.text("model");
  const OrderedJson* input = fields.find("input");
  if (input == nullptr) refuse_field("input", "expected text or token ids, found nothing");
  out.inputs = read_prompts("input", *input, limits);
  const std::string encoding = fields.text("encoding_format", "float");
  if (encoding != "float" && encoding != "base64") refuse_field("encoding_format", "expected float or base64");
  out.base64 = encoding == "base64";
  fields.finish();
  return out;
}

}  // namespace qwerky::serve
