// SPDX-License-Identifier: MIT
// A model that answers requests: loaded, with the thread that steps it, its states, and its way to write conversations.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "engine/batcher.h"
#include "engine/json_constraint.h"
#include "io/chat_format.h"
#include "serve/openai_request.h"

namespace qwerky::serve {

struct ServedModelOptions {
  std::string path, name;
  std::string chat_template;  ///< source, instead of the model's own; empty: that
  EngineOptions engine;
  BatcherOptions batcher;
  StateCacheOptions cache;
};

class ServedModel {
 public:
  /// Loads the model and starts its thread. Throws Error as Engine does.
  explicit ServedModel(const ServedModelOptions& options);
  ~ServedModel();
  void stop();  ///< what is not finished ends as cancelled
  /// No more is admitted; returns when all is finished, what is not by `end` as cancelled.
  void drain(std::chrono::steady_clock::time_point end);

  const std::string& name() const { return name_; }
  const Engine& engine() const { return engine_; }
  const Tokenizer& tokenizer() const { return *engine_.internals().model->tokenizer; }
  Batcher& batcher() { return *batcher_; }
  StateCache& cache() { return *cache_; }
  /// Throws RequestError when the model has no chat template.
  const ChatFormat& chat() const;
  const std::string& chat_template() const { return template_source_; }
  /// Of a conversation without special variables.
  const TurnEnd& turn_end() const { return turn_end_; }
  /// Most tokens of a sequence; 0: no limit.
  int64_t capacity() const { return capacity_; }
  /// Ids of a prompt that begins a text. Throws RequestError when they are none, or not of the vocabulary.
  std::vector<int32_t> ids_of(const Prompt& prompt, const char* field = "prompt") const;
  /// Ids that go on from a state.
  std::vector<int32_t> ids_after_state(const Prompt& prompt) const;
  /// Holds a text to JSON: any object, or `schema`. It may end with what ends a text or a turn. Throws RequestError for
  /// a schema that is not supported.
  std::unique_ptr<Constraint> json(const OrderedJson* schema);
  /// Holds a text to calls of these tools, as the chat template writes them: one, or with `several` one or more. Throws
  /// RequestError for a schema that is not supported, or when the template writes no calls that are known here.
  std::unique_ptr<Constraint> calls(std::span<const NamedSchema> tools, bool several);
  /// Bytes that keys and values of one token would need in a model of softmax layers alone, stored as the weights are.
  int64_t kv_bytes_per_token() const;
  /// Of a sequence of `tokens`.
  int64_t state_bytes(int64_t tokens) const;
  int64_t created() const { return created_; }  ///< seconds since 1970

 private:
  std::string name_;
  Engine engine_;
  int64_t capacity_ = 0, created_ = 0;
  std::string template_source_;
  std::unique_ptr<ChatTemplate> template_;
  std::unique_ptr<ChatFormat> format_;
  const std::shared_ptr<const TokenBytes>& token_bytes();

  TurnEnd turn_end_;
  std::once_flag tokens_made_;
  std::shared_ptr<const TokenBytes> tokens_;  // made when JSON is first asked for
  std::unique_ptr<StateCache> cache_;
  std::unique_ptr<Batcher> batcher_;
  std::thread thread_;
};

}  // namespace qwerky::serve
