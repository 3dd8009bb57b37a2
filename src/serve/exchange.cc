// SPDX-License-Identifier: MIT
#include "serve/exchange.h"

#include <algorithm>
#include <cmath>
#include <ctime>

#include "base/units.h"
#include "serve/states.h"

namespace qwerky::serve {
namespace {

constexpr size_t kLargeAnswer = 64 << 10;  // bytes of JSON, about
constexpr size_t kToldBytes = 32;          // of it for one number

/// JSON that was written already.
void answer_text(const Asked& asked, std::string&& json) {
  asked.metrics.answered(asked.route, 200);
  asked.reply->send({200, std::move(json)});
}

}  // namespace

void answer_error(const Asked& asked, const RequestError& error) {
  asked.metrics.answered(asked.route, error.status);
  HttpResponse response{error.status, dump(error_json(error.status, error.what(), error.param, error.code))};
  if (error.retry_after > 0) response.headers.emplace_back("Retry-After", std::to_string(error.retry_after));
  asked.reply->send(std::move(response));
}

void answer_json(const Asked& asked, const OrderedJson& json) { answer_text(asked, dump(json)); }

std::optional<RequestError> error_of(const std::function<void()>& work, int status) {
  try {
    work();
    return std::nullopt;
  } catch (const RequestError& e) {
    return e;
  } catch (const Error& e) {
    return RequestError(status, e.what());
  } catch (const std::bad_alloc&) {
    RequestError busy(503, "out of memory");
    busy.retry_after = 1;
    return busy;
  } catch (const std::exception&) {
    return RequestError(500, "the request could not be handled");
  }
}

void check_wanted(const Asked& asked) {
  if (asked.reply->left() || asked.server == ServerState::cut) throw *failure(asked, Finish::cancelled, {});
  if (std::chrono::steady_clock::now() >= asked.deadline) throw *failure(asked, Finish::deadline, {});
}

RequestError queue_full(const Asked& asked) {
  if (asked.server != ServerState::ready) return *failure(asked, Finish::cancelled, {});
  RequestError busy(429, "the queue is full; try again later", {}, "queue_full");
  busy.retry_after = 1;
  return busy;
}

RequestError our_fault(const Asked& asked, const std::string& message, const std::string& why) {
  if (asked.log) asked.log(concat("error: ", message, ": ", why));
  return RequestError(500, concat(message, "; the server's log says why"));
}

std::optional<RequestError> failure(const Asked& asked, Finish finish, const std::string& why) {
  switch (finish) {
    case Finish::cancelled:
      if (asked.reply->left()) return RequestError(kClientLeft, "the client has left");
      return RequestError(503, "the server is stopping", {}, "stopping");
    case Finish::deadline: return RequestError(504, "the answer was not complete in time", {}, "deadline");
    case Finish::refused: return RequestError(400, why, {}, "schema_too_ambiguous");
    case Finish::failed: return our_fault(asked, "the generation failed", why);
    default: return std::nullopt;
  }
}

/// One answer. Written on the thread that steps, read when all have ended.
struct Exchange::One {
  One(const Tokenizer& tokenizer, const Answer::Options& options) : answer(tokenizer, options) {}
  Answer answer;
  SharedIds prompt;  // with echo
  int64_t prompt_tokens = 0, start_tokens = 0;
  bool ended = false;  // at a token that ends it
  double first_token = 0;
  Finish finish = Finish::failed;
  Usage usage;
  SnapshotPtr end;
  std::string error;
};

Exchange::Exchange(Asked&& asked, const Options& options)
    : asked_(std::move(asked)), options_(options), form_{asked_.model.tokenizer(),
                                                         options.chat,
                                                         options.logprobs,
                                                         random_id(options.chat ? "chatcmpl" : "cmpl"),
                                                         asked_.model.name(),
                                                         std::time(nullptr),
                                                         options.include_usage} {}

Exchange::~Exchange() = default;

void Exchange::prepare(Generation& g, One& one, size_t index) {
  one.start_tokens = g.start ? static_cast<int64_t>(g.start->ids.size()) : 0;
  one.prompt_tokens = one.start_tokens + static_cast<int64_t>(g.prompt.size());
  g.owner = asked_.owner;
  g.deadline = asked_.deadline;
  if (options_.logprobs >= 0) g.logprobs = std::max(1, options_.logprobs);
  const auto self = shared_from_this();
  if (options_.echo) {
    one.prompt = g.prompt;
    if (options_.logprobs >= 0) {
      g.stop_at_end = false;  // the generated entry is told even when it ends the text
      g.prompt_logprobs = g.logprobs;
      g.keep_end = !options_.save_state.empty();  // a text to be scored is not gone on from
      g.boundaries.clear();
      g.on_prompt = [self, &one, index](std::vector<Logprobs> told) { self->on_prompt(one, index, std::move(told)); };
    } else {
      emit(index, one.answer.echo(one.prompt, {}));
    }
  }
  g.on_token = [self, &one, index](const Logprobs& told) { return self->on_token(one, index, told); };
  if (!options_.save_state.empty()) g.on_last = [self, &one] { return one.answer.before_stop(); };
  g.on_end = [self, &one](Finish finish, const Usage& usage, SnapshotPtr end, const std::string& error) {
    self->on_end(one, finish, usage, std::move(end), error);
  };
}

void Exchange::start(std::vector<Generation>&& generations) {
  if (const int64_t most = asked_.model.batcher().most_at_once(); static_cast<int64_t>(generations.size()) > most)
    throw RequestError(400, concat("asks for ", generations.size(), " answers; at most ", most, " fit at once"), "n",
                       "too_many_answers");
  running_ = static_cast<int64_t>(generations.size()) + 1;  // and this: none may end the answer before it is open
  for (size_t i = 0; i < generations.size(); ++i)
    answers_.push_back(std::make_unique<One>(asked_.model.tokenizer(), options_.answer));
  for (size_t i = 0; i < generations.size(); ++i) {
    prepare(generations[i], *answers_[i], i);
    std::optional<Batcher::Id> id;
    try {
      id = asked_.model.batcher().submit(std::move(generations[i]));
    } catch (...) {
      cancel();
      throw;
    }
    if (!id) {
      cancel();
      throw queue_full(asked_);
    }
    const std::lock_guard lock(mutex_);
    ids_.push_back(*id);
  }
  open();
  asked_.reply->on_leave([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->cancel();
  });
  one_less();
}

void Exchange::cancel() {
  std::vector<Batcher::Id> ids;
  {
    const std::lock_guard lock(mutex_);
    ids = ids_;
  }
  for (const Batcher::Id id : ids) asked_.model.batcher().cancel(id);
}

/// A prompt's log-probabilities may be megabytes of JSON: not for the thread that steps. What comes after them waits.
void Exchange::on_prompt(One& one, size_t index, std::vector<Logprobs>&& told) {
  const Answer::Piece piece = one.answer.echo(one.prompt, std::move(told));
  if (!options_.stream) return;
  {
    const std::lock_guard lock(mutex_);
    ++echoes_;
  }
  ++running_;
  const Work kind = piece.tokens.size() * static_cast<size_t>(options_.logprobs + 4) * kToldBytes > kLargeAnswer
                        ? Work::large
                        : Work::small;
  asked_.later(kind, [self = shared_from_this(), index, text = piece.text,
                      tokens = std::vector(piece.tokens.begin(), piece.tokens.end())] {
    std::string data;
    const auto error = error_of([&] { data = self->form_.part(index, {text, {}, 0, tokens}); });
    {
      const std::lock_guard lock(self->mutex_);
      if (error) self->failed_ = error;
      if (!error) self->early_.insert(self->early_.begin(), std::move(data));
      --self->echoes_;
      self->flush();
    }
    if (error) self->cancel();
    self->one_less();
  });
}

bool Exchange::on_token(One& one, size_t index, const Logprobs& told) {
  if (one.first_token == 0) {
    one.first_token = seconds_since(asked_.arrived);
    asked_.metrics.first_token(one.first_token);
  }
  if (told.id == options_.end_token || asked_.model.engine().ends_text(told.id)) {
    if (options_.echo && options_.logprobs >= 0) one.answer.add_end(told);
    one.ended = true;
    return false;
  }
  emit(index, one.answer.add(told));
  return !one.answer.complete();
}

void Exchange::on_end(One& one, Finish finish, const Usage& usage, SnapshotPtr end, const std::string& error) {
  one.finish = finish;
  one.usage = usage;
  if (!options_.save_state.empty()) one.end = std::move(end);
  one.error = error;
  one_less();
}

void Exchange::one_less() {
  if (--running_ > 0) return;
  asked_.later(options_.save_state.empty() ? size() : Work::disk, [self = shared_from_this()] {
    if (const auto error = error_of([&] { self->finish(); })) self->fail_with(*error);
  });
}

Work Exchange::size() const {
  if (options_.stream) return Work::small;
  size_t bytes = 0;
  for (const auto& one : answers_)
    bytes += one->answer.text().size() +
             one->answer.tokens().size() * static_cast<size_t>(options_.logprobs + 4) * kToldBytes;
  return bytes > kLargeAnswer ? Work::large : Work::small;
}

void Exchange::emit(size_t index, const Answer::Piece& piece) {
  if (options_.stream && !piece.empty()) emit(form_.part(index, piece));
}

void Exchange::emit(std::string data) {
  const std::lock_guard lock(mutex_);
  early_.push_back(std::move(data));
  flush();
}

void Exchange::flush() {
  if (opened_ && echoes_ == 0 && !early_.empty()) asked_.reply->events(std::exchange(early_, {}));
}

/// The request is admitted: what was written meanwhile goes out.
void Exchange::open() {
  const std::lock_guard lock(mutex_);
  opened_ = true;
  std::vector<std::string> first;
  if (options_.stream && options_.chat)
    for (size_t i = 0; i < answers_.size(); ++i) first.push_back(form_.first_part(i));
  early_.insert(early_.begin(), std::make_move_iterator(first.begin()), std::make_move_iterator(first.end()));
  flush();
}

Tokens Exchange::tokens() const {
  Tokens out;
  for (size_t i = 0; i < answers_.size(); ++i) {
    const One& one = *answers_[i];
    out.generated += one.answer.generated();
    if (i % static_cast<size_t>(options_.answers_per_prompt) != 0) continue;
    out.prompt += one.prompt_tokens;
    out.cached += one.start_tokens + one.usage.reused_tokens;
  }
  return out;
}

/// Of the first answer.
OrderedJson Exchange::timings() const {
  const One& one = *answers_.front();
  const int64_t held = one.prompt_tokens + one.answer.generated();
  const auto milliseconds = [](double seconds) { return std::round(seconds * 1e6) / 1e3; };
  const double decode = one.usage.decode_seconds;  // from the first token to the last
  const auto steps = static_cast<double>(std::max<int64_t>(0, one.answer.generated() - 1));
  return {{"queued_ms", milliseconds(one.usage.queued_seconds)},
          {"prompt_ms", milliseconds(one.usage.prefill_seconds)},
          {"first_token_ms", milliseconds(one.first_token)},
          {"tokens_per_second", decode > 0 ? steps / decode : 0.0},
          {"state_bytes", asked_.model.state_bytes(held)},
          {"kv_cache_bytes", held * asked_.model.kv_bytes_per_token()}};
}

void Exchange::fail_with(const RequestError& error) {
  if (!options_.stream) return answer_error(asked_, error);
  asked_.metrics.answered(asked_.route, error.status);
  emit(dump(error_json(error.status, error.what(), error.param, error.code)));
  asked_.reply->end_events();
}

void Exchange::finish() {
  asked_.metrics.finished(seconds_since(asked_.arrived));
  if (failed_) return fail_with(*failed_);
  for (const auto& one : answers_)
    if (const auto error = failure(asked_, one->finish, one->error)) return fail_with(*error);
  answer();
}

void Exchange::answer() {
  OrderedJson saved;
  if (!options_.save_state.empty()) saved = save_state(asked_, options_.save_state, answers_.front()->end);
  std::string choices;
  for (size_t i = 0; i < answers_.size(); ++i) {
    One& one = *answers_[i];
    emit(i, one.answer.finish());
    const std::string reason = one.answer.finish_reason(one.finish == Finish::length && !one.ended);
    if (!options_.stream) {
      form_.add_choice(choices, i, one.answer, reason);
      continue;
    }
    OrderedJson rest = OrderedJson::object();
    if (i + 1 == answers_.size()) rest["timings"] = timings();
    if (!saved.is_null()) rest["save_state"] = saved;
    emit(form_.last_part(i, reason, rest));
  }
  if (!options_.stream) {
    OrderedJson rest = {{"usage", usage_json(tokens())}, {"timings", timings()}};
    if (!saved.is_null()) rest["save_state"] = saved;
    return answer_text(asked_, form_.whole(choices, rest));
  }
  if (options_.include_usage) emit(form_.usage_part(tokens()));
  emit("[DONE]");
  asked_.metrics.answered(asked_.route, 200);
  asked_.reply->end_events();
}

}  // namespace qwerky::serve
