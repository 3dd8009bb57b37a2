// SPDX-License-Identifier: MIT
// One connection: reads a request, hands it over, writes the answer, and again. All of it on the server's thread, but
// for the Reply it gives away.
#pragma once

#include <utility>  // asio 1.74 needs it for C++20, and leaves it out

#include <atomic>
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "serve/byte_budget.h"
#include "serve/http.h"

namespace qwerky::serve {

/// What connections share.
struct HttpShared {
  HttpHandler& handler;
  HttpOptions options;
  std::atomic<int64_t> open = 0, accepted = 0, turned_away = 0, slow = 0, left = 0;
  std::atomic<bool> draining = false;
  ByteBudget bodies{options.all_body_bytes}, unread{options.all_unread_bytes};
};

/// A body that takes memory for what has come of it, not for the length that was announced.
struct ArrivingBody {
  using value_type = std::string;
  class reader {
   public:
    template <bool is_request, class Fields>
    reader(boost::beast::http::header<is_request, Fields>&, value_type& body) : body_(body) {}
    void init(const boost::optional<uint64_t>&, boost::system::error_code& error) { error = {}; }
    template <class Buffers>
    size_t put(const Buffers& buffers, boost::system::error_code& error) try {
      const size_t before = body_.size();
      for (const auto buffer : boost::beast::buffers_range_ref(buffers))
        body_.append(static_cast<const char*>(buffer.data()), buffer.size());
      error = {};
      return body_.size() - before;
    } catch (const std::bad_alloc&) {
      error = make_error_code(boost::system::errc::not_enough_memory);
      return 0;
    }
    void finish(boost::system::error_code& error) { error = {}; }

   private:
    value_type& body_;
  };
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(boost::asio::ip::tcp::socket socket, HttpShared& shared);
  ~Connection();
  void start();
  /// Closes it unless it is answering; then it closes after the answer.
  void finish();
  /// Closes it now.
  void close();
  bool closed() const { return closed_; }  ///< any thread may ask
  boost::asio::any_io_executor executor() { return socket_.get_executor(); }

  // Calls of a Reply, brought to the server's thread. `request`: which one it answers.
  void respond(uint64_t request, HttpResponse&& response);
  void add_events(uint64_t request, const std::vector<std::string>& data);
  void end_events(uint64_t request);
  void set_leave(uint64_t request, std::function<void()>&& leave);

 private:
  using ErrorCode = boost::system::error_code;
  using Parser = boost::beast::http::request_parser<ArrivingBody>;
  enum class Phase { idle, header, body, answering, lingering, closed };

  void read_header();
  void on_header(ErrorCode error);
  void read_body();
  void on_body(ErrorCode error);
  void on_read_error(ErrorCode error);
  void dispatch();
  void watch();  ///< for the client leaving, and for what it sends ahead
  void refuse(int status, const std::string& message);
  HttpResponse refusal(int status, const std::string& message) const;
  void write_more();
  void on_written(ErrorCode error);
  void answer_done();
  void linger();
  void discard();
  bool hold_body(size_t bytes);  ///< false: there is no room for as many
  bool hold_unread();            ///< the same, for what is to be written
  void arm(std::chrono::milliseconds time);
  void on_time(ErrorCode error);
  void add_chunk(std::string_view text);
  std::string head_text(const HttpResponse& response, bool stream) const;
  void log() const;

  boost::asio::ip::tcp::socket socket_;
  HttpShared& shared_;
  boost::asio::steady_timer timer_;
  boost::beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  HttpHead head_;
  Phase phase_ = Phase::idle;
  std::atomic<bool> closed_ = false;
  uint64_t request_ = 0;  ///< how many began; what a Reply is told apart by
  bool keep_alive_ = false, chunked_ = false, streaming_ = false, watching_ = false, timed_out_ = false;
  bool writing_ = false, complete_ = false;    ///< of the answer: a write is under way; all of it is in outbox_
  int64_t body_bytes_ = 0, unread_bytes_ = 0;  ///< its parts of the budgets
  int status_ = 0;
  int64_t sent_ = 0;
  std::string outbox_, sending_;  ///< to be written; being written
  size_t sending_at_ = 0;
  std::string client_;
  std::function<void()> leave_;
  std::chrono::steady_clock::time_point began_;
};

}  // namespace qwerky::serve
