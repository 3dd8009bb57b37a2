// SPDX-License-Identifier: MIT
#include "serve/http_connection.h"

#include <algorithm>
#include <cstdio>

#include "base/error.h"
#include "serve/http_head.h"

namespace qwerky::serve {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;

constexpr size_t kWritePiece = 256 << 10;  // bytes that must go within write_time
constexpr size_t kReadAhead = 64 << 10;    // of a client that sends its next requests before it has read an answer
constexpr size_t kReadPiece = 64 << 10;    // what Beast reads at once; also the longest line of a chunk, or trailer
constexpr std::chrono::seconds kLinger{2};

std::string_view view(boost::beast::string_view text) { return {text.data(), text.size()}; }

/// What may stand in a log line.
std::string plain(std::string_view text) {
  std::string out(text.substr(0, 80));
  for (char& c : out)
    if (c <= 0x20 || c > 0x7e) c = '?';
  return out.empty() ? "-" : out;
}

class ConnectionReply : public Reply {
 public:
  ConnectionReply(std::shared_ptr<Connection> connection, uint64_t request)
      : connection_(std::move(connection)), request_(request) {}
  ~ConnectionReply() override {
    if (!answered_) send({500, {}, "text/plain", {}});
  }
  void send(HttpResponse response) override {
    answered_ = true;
    asio::post(connection_->executor(), [c = connection_, r = request_, response = std::move(response)]() mutable {
      c->respond(r, std::move(response));
    });
  }
  void events(std::vector<std::string> data) override {
    asio::post(connection_->executor(),
               [c = connection_, r = request_, data = std::move(data)] { c->add_events(r, data); });
  }
  void end_events() override {
    answered_ = true;
    asio::post(connection_->executor(), [c = connection_, r = request_] { c->end_events(r); });
  }
  bool left() const override { return connection_->closed(); }
  void on_leave(std::function<void()> leave) override {
    asio::post(connection_->executor(), [c = connection_, r = request_, leave = std::move(leave)]() mutable {
      c->set_leave(r, std::move(leave));
    });
  }

 private:
  const std::shared_ptr<Connection> connection_;
  const uint64_t request_;
  std::atomic<bool> answered_ = false;
};

}  // namespace

Connection::Connection(asio::ip::tcp::socket socket, HttpShared& shared)
    : socket_(std::move(socket)),
      shared_(shared),
      timer_(socket_.get_executor()),
      buffer_(std::max(static_cast<size_t>(shared.options.header_bytes), kReadAhead) + kReadPiece) {
  ++shared_.open;
  ErrorCode ignored;
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  const auto client = socket_.remote_endpoint(ignored);
  client_ = client.address().to_string();
}

Connection::~Connection() {
  if (phase_ != Phase::closed) --shared_.open;
}

void Connection::start() { read_header(); }

void Connection::arm(std::chrono::milliseconds time) {
  timer_.expires_after(time);
  timer_.async_wait([self = shared_from_this()](ErrorCode error) { self->on_time(error); });
}

void Connection::on_time(ErrorCode error) {
  if (error || timer_.expiry() > std::chrono::steady_clock::now()) return;  // armed again meanwhile
  if (phase_ == Phase::header || phase_ == Phase::body) {
    timed_out_ = true;
    ++shared_.slow;
    ErrorCode ignored;
    socket_.cancel(ignored);
    return;
  }
  if (phase_ == Phase::answering) ++shared_.slow;
  close();
}

void Connection::close() {
  if (phase_ == Phase::closed) return;
  const bool answering = phase_ == Phase::answering;
  if (answering) {
    ++shared_.left;
    status_ = kClientLeft;
    log();
  }
  phase_ = Phase::closed;
  closed_ = true;
  --shared_.open;
  outbox_.clear();                            // the other may be in a write that has not ended yet
  if (!answering || complete_) hold_body(0);  // else whoever answers may still have it: respond(), end_events()
  shared_.unread.change(head_.owner, unread_bytes_, 0);
  timer_.cancel();
  ErrorCode ignored;
  socket_.close(ignored);
  if (leave_) std::exchange(leave_, nullptr)();
}

void Connection::finish() {
  keep_alive_ = false;
  if (phase_ == Phase::idle || phase_ == Phase::header || phase_ == Phase::body) close();
}

void Connection::read_header() {
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(shared_.options.header_bytes));
  parser_->body_limit(static_cast<uint64_t>(shared_.options.body_bytes));
  phase_ = request_ == 0 || buffer_.size() > 0 ? Phase::header : Phase::idle;
  head_ = {};
  timed_out_ = false;
  arm(phase_ == Phase::header ? shared_.options.header_time : shared_.options.idle_time);
  http::async_read_header(socket_, buffer_, *parser_,
                          [self = shared_from_this()](ErrorCode error, size_t) { self->on_header(error); });
}

void Connection::on_header(ErrorCode error) {
  if (phase_ == Phase::closed) return;
  began_ = std::chrono::steady_clock::now();
  if (error) return on_read_error(error);
  const auto& message = parser_->get();
  const Target target = read_target(view(message.target()));
  head_.method = std::string(view(message.method_string()));
  head_.path = std::string(target.path);
  head_.authorization = std::string(view(message[http::field::authorization]));
  head_.host = target.host.empty() ? std::string(view(message[http::field::host])) : std::string(target.host);
  head_.origin = std::string(view(message[http::field::origin]));
  chunked_ = message.version() >= 11;
  if (const std::string why = why_refused(message); !why.empty()) return refuse(400, why);
  keep_alive_ = parser_->keep_alive() && !shared_.draining;
  ++request_;
  if (auto response = shared_.handler.before_body(head_)) {
    if (!parser_->is_done()) keep_alive_ = false;  // its body stays unread
    phase_ = Phase::answering;
    return respond(request_, std::move(*response));
  }
  phase_ = Phase::body;
  parser_->eager(true);
  arm(shared_.options.body_time);
  if (message.version() >= 11 && boost::beast::iequals(message[http::field::expect], "100-continue")) {
    sending_ = "HTTP/1.1 100 Continue\r\n\r\n";
    asio::async_write(socket_, asio::buffer(sending_), [self = shared_from_this()](ErrorCode failed, size_t) {
      self->sending_.clear();
      if (failed || self->timed_out_ || self->phase_ == Phase::closed) return self->on_read_error(failed);
      self->read_body();
    });
    return;
  }
  read_body();
}

void Connection::read_body() {
  if (parser_->is_done()) return dispatch();
  http::async_read_some(socket_, buffer_, *parser_,
                        [self = shared_from_this()](ErrorCode error, size_t) { self->on_body(error); });
}

void Connection::on_body(ErrorCode error) {
  if (phase_ == Phase::closed) return;
  if (error || timed_out_) return on_read_error(error);
  if (!hold_body(parser_->get().body().size())) return refuse(503, "too many large requests at once");
  read_body();
}

void Connection::on_read_error(ErrorCode error) {
  if (phase_ == Phase::closed) return;
  if (timed_out_) return refuse(408, "the request did not arrive in time");
  if (error == http::error::buffer_overflow && phase_ == Phase::body)
    return refuse(400, "a chunk's first line or the trailer is too long");
  if (error == http::error::header_limit || error == http::error::buffer_overflow)
    return refuse(431, concat("the headers are larger than ", shared_.options.header_bytes, " bytes"));
  if (error == http::error::body_limit)
    return refuse(413, concat("the body is larger than ", shared_.options.body_bytes, " bytes"));
  if (error == boost::system::errc::not_enough_memory) return refuse(503, "out of memory");
  const bool gone = error == http::error::end_of_stream || error == http::error::partial_message;
  if (!gone && error.category() == make_error_code(http::error::bad_version).category())
    return refuse(400, concat("not an HTTP/1.1 request: ", error.message()));
  close();
}

void Connection::refuse(int status, const std::string& message) {
  keep_alive_ = false;
  phase_ = Phase::answering;
  respond(++request_, refusal(status, message));
}

HttpResponse Connection::refusal(int status, const std::string& message) const {
  HttpResponse out{status, shared_.handler.error_body(status, message)};
  if (status == 503) out.headers.emplace_back("Retry-After", "1");
  return out;
}

void Connection::dispatch() {
  phase_ = Phase::answering;
  timer_.cancel();
  HttpRequest request{head_, std::move(parser_->get().body())};
  auto reply = std::make_shared<ConnectionReply>(shared_from_this(), request_);
  watch();
  shared_.handler.handle(std::move(request), std::move(reply));
}

void Connection::watch() {
  if (watching_ || phase_ == Phase::closed) return;
  if (buffer_.size() >= kReadAhead) return close();  // its leaving would no longer be seen
  watching_ = true;
  socket_.async_read_some(buffer_.prepare(4096), [self = shared_from_this()](ErrorCode error, size_t bytes) {
    self->watching_ = false;
    if (self->phase_ == Phase::closed) return;
    if (error && error != asio::error::operation_aborted) return self->close();
    self->buffer_.commit(bytes);
    if (self->phase_ == Phase::answering) return self->watch();
    if (self->phase_ == Phase::lingering) return self->discard();
    self->read_header();
  });
}

std::string Connection::head_text(const HttpResponse& response, bool stream) const {
  std::string out = concat("HTTP/1.1 ", response.status, " ",
                           http::obsolete_reason(static_cast<http::status>(response.status)), "\r\n");
  const auto add = [&](std::string_view name, std::string_view value) { out += concat(name, ": ", value, "\r\n"); };
  if (response.status != 204) {  // which has no content (RFC 9110, section 8.6)
    add("Content-Type", response.content_type);
    if (!stream) add("Content-Length", std::to_string(response.body.size()));
    if (stream && chunked_) add("Transfer-Encoding", "chunked");
  }
  add("Connection", keep_alive_ ? "keep-alive" : "close");
  add("Cache-Control", "no-store");
  add("X-Content-Type-Options", "nosniff");
  const std::string& cors = shared_.options.cors_origin;
  if (!cors.empty() && (cors == "*" || cors == head_.origin)) {
    add("Access-Control-Allow-Origin", cors);
    add("Vary", "Origin");
  }
  for (const auto& [name, value] : response.headers) add(name, value);
  return out + "\r\n";
}

void Connection::respond(uint64_t request, HttpResponse&& response) {
  if (request == request_ && phase_ == Phase::closed) hold_body(0);
  if (request != request_ || phase_ != Phase::answering || complete_) return;
  if (streaming_) return close();  // a stream that nobody goes on with: cut, it does not look whole
  if (response.status == 500 && response.body.empty()) response = refusal(500, "no answer");
  const auto put = [&] {
    sending_ = head_text(response, false);
    sending_at_ = 0;
    if (head_.method == "HEAD") response.body.clear();
    if (static_cast<int64_t>(response.body.size()) <= shared_.options.small_bytes)
      sending_ += std::exchange(response.body, {});  // in one packet
    outbox_ = std::move(response.body);
    return hold_unread();
  };
  if (!put()) {
    response = refusal(503, "too many large answers wait to be read");
    put();
  }
  status_ = response.status;
  complete_ = true;
  write_more();
}

void Connection::add_chunk(std::string_view text) {
  if (!streaming_) {
    streaming_ = true;
    status_ = 200;
    if (!chunked_) keep_alive_ = false;  // HTTP/1.0: the stream ends with the connection
    outbox_ = head_text({200, {}, "text/event-stream", {}}, true);
  }
  if (!chunked_) {
    outbox_ += text;
    return;
  }
  char size[24];
  std::snprintf(size, sizeof size, "%zx\r\n", text.size());
  outbox_ += size;
  outbox_ += text;
  outbox_ += "\r\n";
}

void Connection::add_events(uint64_t request, const std::vector<std::string>& data) {
  if (request != request_ || phase_ != Phase::answering || complete_) return;
  // Of what came before: nobody can have read these yet, however large they are.
  if (static_cast<int64_t>(outbox_.size()) > shared_.options.unread_bytes) {
    ++shared_.slow;
    return close();
  }
  for (const std::string& event : data) add_chunk("data: " + event + "\n\n");
  if (!hold_unread()) {
    ++shared_.slow;
    return close();
  }
  write_more();
}

void Connection::end_events(uint64_t request) {
  if (request == request_ && phase_ == Phase::closed) hold_body(0);
  if (request != request_ || phase_ != Phase::answering || complete_) return;
  if (!streaming_) add_chunk(": \n\n");
  if (chunked_) outbox_ += "0\r\n\r\n";
  complete_ = true;
  write_more();
}

void Connection::set_leave(uint64_t request, std::function<void()>&& leave) {
  if (request != request_ || complete_) return;
  if (phase_ == Phase::closed) return leave();
  leave_ = std::move(leave);
}

void Connection::write_more() {
  if (writing_) return;
  if (sending_at_ == sending_.size()) {
    sending_ = std::exchange(outbox_, {});
    sending_at_ = 0;
    hold_unread();
    if (sending_.empty()) {
      if (complete_) return answer_done();
      timer_.cancel();  // waits for more of the answer
      return;
    }
  }
  writing_ = true;
  arm(shared_.options.write_time);
  const size_t piece = std::min(kWritePiece, sending_.size() - sending_at_);
  asio::async_write(socket_, asio::buffer(sending_.data() + sending_at_, piece),
                    [self = shared_from_this()](ErrorCode error, size_t bytes) {
                      self->writing_ = false;
                      self->sending_at_ += bytes;
                      self->sent_ += static_cast<int64_t>(bytes);
                      self->on_written(error);
                    });
}

void Connection::on_written(ErrorCode error) {
  if (phase_ == Phase::closed) return;
  if (error) return close();
  write_more();
}

void Connection::log() const {
  if (!shared_.options.log) return;
  const auto time = std::chrono::steady_clock::now() - began_;
  shared_.options.log(concat(client_, " ", plain(head_.method), " ", plain(head_.path), " ", status_, " ", sent_,
                             " bytes ", std::chrono::duration_cast<std::chrono::milliseconds>(time).count(), " ms"));
}

void Connection::answer_done() {
  log();
  hold_body(0);
  leave_ = nullptr;
  streaming_ = complete_ = false;
  sent_ = 0;
  if (!keep_alive_ || shared_.draining) return linger();
  phase_ = Phase::idle;
  if (!watching_) return read_header();
  arm(shared_.options.idle_time);
  ErrorCode ignored;
  if (buffer_.size() > 0) socket_.cancel(ignored);  // the next request is here already
}

bool Connection::hold_body(size_t bytes) {
  const auto large = static_cast<int64_t>(bytes);
  return shared_.bodies.change(head_.owner, body_bytes_, large > shared_.options.small_bytes ? large : 0);
}

/// What was written of `sending_` is in memory until the rest is.
bool Connection::hold_unread() {
  const auto large = static_cast<int64_t>(sending_.size() + outbox_.size());
  return shared_.unread.change(head_.owner, unread_bytes_, large > shared_.options.small_bytes ? large : 0);
}

/// Reads on for a moment what the client still sends: closed at once, it would lose the answer.
void Connection::linger() {
  phase_ = Phase::lingering;
  ErrorCode ignored;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  arm(kLinger);
  if (!watching_) discard();
}

void Connection::discard() {
  buffer_.clear();
  socket_.async_read_some(buffer_.prepare(kReadAhead), [self = shared_from_this()](ErrorCode error, size_t) {
    if (self->phase_ == Phase::closed) return;
    if (error) return self->close();
    self->discard();
  });
}

}  // namespace qwerky::serve
