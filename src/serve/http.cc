// SPDX-License-Identifier: MIT
#include "serve/http.h"

#include <sys/resource.h>

#include <algorithm>
#include <thread>

#include "base/error.h"
#include "serve/http_connection.h"

namespace qwerky::serve {

namespace asio = boost::asio;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;

namespace {

constexpr rlim_t kOtherFiles = 64;  // for the model, states, listening and turning away

/// How many of `wanted` connections this process may have open as files; raises the soft limit for them.
int64_t connections_within_limits(int64_t wanted) {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return wanted;
  const auto need = static_cast<rlim_t>(wanted) + kOtherFiles;
  if (files.rlim_cur < need) {
    files.rlim_cur = std::min(files.rlim_max, need);
    setrlimit(RLIMIT_NOFILE, &files);
    getrlimit(RLIMIT_NOFILE, &files);
  }
  return std::max<int64_t>(1, static_cast<int64_t>(std::min(files.rlim_cur, need)) - static_cast<int64_t>(kOtherFiles));
}

}  // namespace

struct HttpServer::Internals {
  Internals(HttpHandler& handler, const HttpOptions& options) : shared{handler, options} {
    shared.options.connections = connections_within_limits(options.connections);
  }

  void listen() {
    const HttpOptions& o = shared.options;
    ErrorCode error;
    const auto found = tcp::resolver(context).resolve(o.host, std::to_string(o.port), error);
    if (error || found.empty()) fail("--host ", o.host, ": ", error.message());
    const tcp::endpoint at = found.begin()->endpoint();
    acceptor.open(at.protocol(), error);
    if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor.bind(at, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error) fail("cannot listen on ", o.host, " port ", o.port, ": ", error.message());
    port = acceptor.local_endpoint().port();
  }

  void accept() {
    acceptor.async_accept([this](ErrorCode error, tcp::socket socket) {
      if (!acceptor.is_open()) return;
      if (error) {  // such as no more file descriptors
        pause.expires_after(std::chrono::milliseconds(100));
        return pause.async_wait([this](ErrorCode) { accept(); });
      }
      take(std::move(socket));
      accept();
    });
  }

  void take(tcp::socket socket) {
    ErrorCode ignored;
    socket.non_blocking(true, ignored);
    if (shared.open >= shared.options.connections) {
      ++shared.turned_away;
      const std::string body = shared.handler.error_body(503, "too many connections");
      const std::string text =
          concat("HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: ", body.size(),
                 "\r\nRetry-After: 1\r\nConnection: close\r\n\r\n", body);
      socket.write_some(asio::buffer(text), ignored);
      socket.shutdown(tcp::socket::shutdown_send, ignored);
      return;
    }
    ++shared.accepted;
    std::erase_if(connections, [](const auto& c) { return c.expired(); });
    const auto connection = std::make_shared<Connection>(std::move(socket), shared);
    connections.push_back(connection);
    connection->start();
  }

  void each(void (Connection::*call)()) {
    for (const auto& weak : connections)
      if (const auto connection = weak.lock()) (connection.get()->*call)();
  }

  HttpShared shared;
  asio::io_context context{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{context.get_executor()};
  tcp::acceptor acceptor{context};
  asio::steady_timer pause{context};
  std::vector<std::weak_ptr<Connection>> connections;
  int port = 0;
  std::thread thread;
};

HttpServer::HttpServer(HttpHandler& handler, const HttpOptions& options)
    : internals_(std::make_unique<Internals>(handler, options)) {
  internals_->listen();
  internals_->accept();
  internals_->thread = std::thread([this] { internals_->context.run(); });
}

HttpServer::~HttpServer() { stop(); }

void HttpServer::stop() {
  if (!internals_->thread.joinable()) return;
  asio::post(internals_->context, [i = internals_.get()] {
    ErrorCode ignored;
    i->acceptor.close(ignored);
    i->pause.cancel();
    i->each(&Connection::close);
    i->work.reset();
  });
  internals_->thread.join();
}

int HttpServer::port() const { return internals_->port; }

HttpCounts HttpServer::counts() const {
  const HttpShared& s = internals_->shared;
  return {s.open, s.accepted, s.turned_away, s.slow, s.left};
}

void HttpServer::drain(std::chrono::steady_clock::time_point end) {
  internals_->shared.draining = true;
  asio::post(internals_->context, [i = internals_.get()] {
    ErrorCode ignored;
    i->acceptor.close(ignored);
    i->each(&Connection::finish);
  });
  while (internals_->shared.open > 0 && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

}  // namespace qwerky::serve
