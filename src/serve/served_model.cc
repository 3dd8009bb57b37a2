// SPDX-License-Identifier: MIT
#include "serve/served_model.h"

#include <algorithm>
#include <ctime>

#include "engine/fingerprint.h"
#include "engine/json_schema.h"
#include "serve/tool_calls.h"

namespace qwerky::serve {

ServedModel::ServedModel(const ServedModelOptions& options)
    : name_(options.name), engine_(options.path, options.engine), created_(std::time(nullptr)) {
  capacity_ = options.batcher.capacity > 0 ? options.batcher.capacity : engine_.max_tokens();
  template_source_ = options.chat_template.empty() ? tokenizer().chat_template : options.chat_template;
  if (!template_source_.empty()) {
    template_ = std::make_unique<ChatTemplate>(template_source_, "chat template of " + name_);
    format_ = std::make_unique<ChatFormat>(tokenizer(), *template_);
    turn_end_ = format_->turn_end();
  }
  StateCacheOptions cache = options.cache;
  if (!cache.folder.empty()) cache.model = model_fingerprint(engine_);
  cache_ = std::make_unique<StateCache>(cache);
  batcher_ = std::make_unique<Batcher>(engine_, cache_.get(), options.batcher);
  thread_ = std::thread([this] { batcher_->run(); });
}

ServedModel::~ServedModel() { stop(); }

void ServedModel::stop() {
  batcher_->stop();
  if (thread_.joinable()) thread_.join();
}

void ServedModel::drain(std::chrono::steady_clock::time_point end) {
  batcher_->drain();
  const auto busy = [&] {
    const BatcherCounts counts = batcher_->counts();
    return counts.running + counts.waiting > 0;
  };
  while (busy() && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  stop();
}

const ChatFormat& ServedModel::chat() const {
  if (format_) return *format_;
  throw RequestError(
      400,
      concat("the model ", name_,
             " has no chat template; use /v1/completions, or start the server with --chat-template FILE"),
      "messages", "no_chat_template");
}

namespace {

void check_ids(const char* field, const std::vector<int32_t>& ids, int64_t vocab) {
  if (ids.empty()) refuse_field(field, "expected text or token ids, found none");
  for (const int32_t id : ids)
    if (id < 0 || id >= vocab) refuse_field(field, "expected token ids from 0 to ", vocab - 1, ", found ", id);
}

}  // namespace

std::vector<int32_t> ServedModel::ids_of(const Prompt& prompt, const char* field) const {
  std::vector<int32_t> ids;
  if (const auto* given = std::get_if<std::vector<int32_t>>(&prompt)) {
    ids = *given;
  } else {
    const std::string& text = std::get<std::string>(prompt);
    ids = engine_.encode(text);
    if (text.empty() || tokenizer().adds_bos) {
      const std::vector<int32_t> beginning = engine_.beginning();
      if (ids.empty() || beginning.empty() || ids.front() != beginning.front())
        ids.insert(ids.begin(), beginning.begin(), beginning.end());
    }
  }
  check_ids(field, ids, engine_.vocab());
  return ids;
}

std::vector<int32_t> ServedModel::ids_after_state(const Prompt& prompt) const {
  std::vector<int32_t> ids;
  if (const auto* given = std::get_if<std::vector<int32_t>>(&prompt)) {
    ids = *given;
  } else {
    if (tokenizer().drops_first_space)
      refuse_field("prompt", "expected token ids: this tokenizer writes a text that goes on from a state differently");
    ids = engine_.encode(std::get<std::string>(prompt));
  }
  check_ids("prompt", ids, engine_.vocab());
  return ids;
}

const std::shared_ptr<const TokenBytes>& ServedModel::token_bytes() {
  std::call_once(tokens_made_, [&] {
    std::vector<int32_t> ends = tokenizer().eos;
    if (turn_end_.token && std::find(ends.begin(), ends.end(), *turn_end_.token) == ends.end())
      ends.push_back(*turn_end_.token);
    tokens_ = std::make_shared<TokenBytes>(tokenizer(), std::move(ends));
  });
  return tokens_;
}

std::unique_ptr<Constraint> ServedModel::json(const OrderedJson* schema) try {
  const auto& tokens = token_bytes();
  return make_json_constraint(
      schema ? json_schema_automaton(*schema, "response_format.json_schema.schema", tokens->alone())
             : json_object_automaton(),
      tokens);
} catch (const Error& e) {
  throw RequestError(400, e.what(), "response_format");
}

std::unique_ptr<Constraint> ServedModel::calls(std::span<const NamedSchema> tools, bool several) try {
  const auto& tokens = token_bytes();
  const CallForm form = tool_style(template_source_) == ToolStyle::hermes
                            ? CallForm{"<tool_call>\n", "arguments", "\n</tool_call>", "\n"}
                            : CallForm{"", "parameters", "", "; "};
  return make_json_constraint(calls_automaton(tools, form, several, "tools", tokens->alone()), tokens);
} catch (const Error& e) {
  throw RequestError(400, e.what(), "tools");
}

int64_t ServedModel::kv_bytes_per_token() const {
  const Model& model = *engine_.internals().model;
  const Config& c = model.config();
  return 2 * c.layers * c.kv_width() * size_of(model.stored);
}

int64_t ServedModel::state_bytes(int64_t tokens) const {
  return engine_.internals().model->decoder->state_scalars(tokens) * size_of(DType::f32);
}

}  // namespace qwerky::serve
