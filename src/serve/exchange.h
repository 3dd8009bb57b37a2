// SPDX-License-Identifier: MIT
// One request that generates, from its admission to the last byte of its answer.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>

#include "serve/http.h"
#include "serve/metrics.h"
#include "serve/openai_response.h"
#include "serve/served_model.h"

namespace qwerky::serve {

enum class ServerState {
  loading,
  ready,
  stopping,  ///< finishes what was begun
  cut        ///< what is not finished by now is not
};

/// How long a piece of work takes: small ones share threads, of the others owners take turns.
enum class Work {
  small,
  large,  ///< computes for a while
  disk    ///< waits for files
};

/// What every request has.
struct Asked {
  ServedModel& model;
  Metrics& metrics;
  const std::atomic<ServerState>& server;
  const std::function<void(const std::string&)>& log;      ///< or none
  std::function<void(Work, std::function<void()>)> later;  ///< runs it on another thread; what it throws is answered
  std::string route, owner;
  std::shared_ptr<Reply> reply;
  std::chrono::steady_clock::time_point arrived, deadline;
};

/// Sends the error and counts it.
void answer_error(const Asked& asked, const RequestError& error);
void answer_json(const Asked& asked, const OrderedJson& json);
/// What `work` throws; an Error has this status.
std::optional<RequestError> error_of(const std::function<void()>& work, int status = 500);

/// Throws when nobody waits for the answer any more: the client has left, it is too late, or the server ends.
void check_wanted(const Asked& asked);

/// Why the batcher took nothing: 429, or 503 when the server ends.
RequestError queue_full(const Asked& asked);
/// 500 for what is no fault of the request, such as a damaged file. Why goes to the log alone: it may name paths.
RequestError our_fault(const Asked& asked, const std::string& message, const std::string& why);
/// How a generation failed, or nothing.
std::optional<RequestError> failure(const Asked& asked, Finish finish, const std::string& why);

/// Several answers, generated side by side.
class Exchange : public std::enable_shared_from_this<Exchange> {
 public:
  struct Options {
    bool chat = false, stream = false, include_usage = false;
    bool echo = false;  ///< completions: the prompt is part of the text
    int logprobs = -1;
    int64_t answers_per_prompt = 1;
    std::string save_state;  ///< name for the state after the answer
    Answer::Options answer;
    std::optional<int32_t> end_token;  ///< ends an answer, besides those that end a text
  };

  Exchange(Asked&& asked, const Options& options);
  ~Exchange();
  /// Submits them; the answer is sent when it is there. Throws RequestError or Error before anything is answered.
  void start(std::vector<Generation>&& generations);

 private:
  struct One;

  void prepare(Generation& generation, One& one, size_t index);
  void on_prompt(One& one, size_t index, std::vector<Logprobs>&& told);
  bool on_token(One& one, size_t index, const Logprobs& told);
  void on_end(One& one, Finish finish, const Usage& usage, SnapshotPtr end, const std::string& error);
  void one_less();  ///< of running_; the last of them ends the answer
  void emit(size_t index, const Answer::Piece& piece);
  Work size() const;  ///< of all that was told
  void emit(std::string data);
  void flush();  ///< under mutex_
  void open();
  void cancel();
  void finish();
  void answer();
  void fail_with(const RequestError& error);
  OrderedJson timings() const;
  Tokens tokens() const;

  const Asked asked_;
  const Options options_;
  const AnswerForm form_;
  std::vector<std::unique_ptr<One>> answers_;
  std::atomic<int64_t> running_ = 0;
  std::mutex mutex_;  // of what follows
  std::vector<Batcher::Id> ids_;
  bool opened_ = false;                 // it is known that the request is admitted
  int64_t echoes_ = 0;                  // prompts that are being made events of
  std::vector<std::string> early_;      // events that wait for these
  std::optional<RequestError> failed_;  // what became of one of these
};

}  // namespace qwerky::serve
