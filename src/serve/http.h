// SPDX-License-Identifier: MIT
// HTTP/1.1 over TCP: one listener, many connections, none of which costs a thread. Knows no route and no model.
//
// Every wait has an end: for a header, a body, a reader of the answer. A connection whose client leaves tells the one
// that is answering.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace qwerky::serve {

struct HttpOptions {
  std::string host = "127.0.0.1";
  int port = 8080;             ///< 0: any that is free
  std::string cors_origin;     ///< the one web origin whose pages may call; "*": any; empty: none
  int64_t connections = 1024;  ///< fewer where the process may not have as many files
  int64_t header_bytes = 16 << 10;
  int64_t body_bytes = 8 << 20;
  int64_t small_bytes = 64 << 10;        ///< bodies and answers of up to this many have always room
  int64_t all_body_bytes = 512 << 20;    ///< of larger bodies that are being read or answered: see ByteBudget
  int64_t all_unread_bytes = 512 << 20;  ///< of larger answers that are being written: the same
  int64_t unread_bytes = 4 << 20;        ///< of a streamed answer that its reader has not taken; then it is cut off
  std::chrono::milliseconds header_time{10'000}, body_time{60'000}, idle_time{75'000}, write_time{30'000};
  std::function<void(const std::string&)> log;  ///< one line a request, without any content
};

/// What is known before the body is read.
struct HttpHead {
  std::string method, path;  ///< path without query and host
  std::string authorization, host, origin;
  std::string owner;  ///< whose request it is; the handler's to say
};

struct HttpRequest {
  HttpHead head;
  std::string body;
};

struct HttpResponse {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers = {};
};

/// Status of an answer that nobody waited for, in the log and in metrics (nginx' choice of number).
inline constexpr int kClientLeft = 499;

/// Where one answer goes. Any thread may call; once the client has left, calls do nothing. One that is dropped without
/// an answer becomes a 500.
class Reply {
 public:
  virtual ~Reply() = default;
  /// The whole answer.
  virtual void send(HttpResponse response) = 0;
  /// Part of a stream of server-sent events; the first begins the answer. What comes at once is at most the limit of
  /// unread bytes and this.
  virtual void events(std::vector<std::string> data) = 0;
  void event(std::string data) { events({std::move(data)}); }
  virtual void end_events() = 0;
  virtual bool left() const = 0;  ///< whether the client has: nobody waits for the answer
  /// Called once, on the server's thread, if the client leaves before the answer is complete; at once if it has left.
  virtual void on_leave(std::function<void()> leave) = 0;
};

class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // On the server's thread: must not block, must not throw.
  /// An answer that needs no body, such as a refusal. May set the owner.
  virtual std::optional<HttpResponse> before_body(HttpHead& head) = 0;
  virtual void handle(HttpRequest&& request, std::shared_ptr<Reply> reply) = 0;
  /// The body of an error that HTTP itself gives rise to.
  virtual std::string error_body(int status, const std::string& message) = 0;
};

struct HttpCounts {
  int64_t connections = 0, accepted = 0, turned_away = 0, slow = 0, left = 0;
};

class HttpServer {
 public:
  /// Listens at once. Throws Error where it cannot. The handler must outlive it.
  HttpServer(HttpHandler& handler, const HttpOptions& options);
  ~HttpServer();
  /// Closes everything; no call of the handler comes after it. Replies may outlive it, to no effect.
  void stop();
  int port() const;
  HttpCounts counts() const;
  /// No more connections; waits until those that are being answered are done, or it is `end`.
  void drain(std::chrono::steady_clock::time_point end);

 private:
  struct Internals;
  std::unique_ptr<Internals> internals_;
};

}  // namespace qwerky::serve
