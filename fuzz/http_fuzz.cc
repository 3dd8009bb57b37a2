// SPDX-License-Identifier: MIT
// Any bytes on a connection, however they were cut on their way: it ends, and nothing of it stays behind.
#include "serve/http.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "serve/http_connection.h"

namespace {

using namespace qwerky;
using namespace qwerky::serve;

/// Answers with what it got.
struct Echo : HttpHandler {
  std::optional<HttpResponse> before_body(HttpHead& head) override {
    head.owner = head.authorization;
    if (head.path == "/refused") return HttpResponse{401, "no"};
    return std::nullopt;
  }
  void handle(HttpRequest&& request, std::shared_ptr<Reply> reply) override {
    if (request.head.path == "/events") {
      reply->events({request.body, request.head.path});
      return reply->end_events();
    }
    if (request.head.path != "/dropped") reply->send({200, request.head.method + request.head.path + request.body});
  }
  std::string error_body(int status, const std::string& message) override { return std::to_string(status) + message; }
};

/// Sends them in pieces of `step` to a connection, and leaves.
void converse(std::string_view bytes, size_t step) {
  Echo echo;
  HttpOptions options;
  options.header_bytes = 512;
  options.body_bytes = 512;
  options.small_bytes = 16;
  options.all_body_bytes = options.all_unread_bytes = 2048;
  HttpShared shared{echo, options};
  boost::asio::io_context context;
  int ends[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
  {
    boost::asio::ip::tcp::socket socket(context);
    socket.assign(boost::asio::ip::tcp::v4(), ends[0]);
    std::make_shared<Connection>(std::move(socket), shared)->start();
  }
  const auto listen = [&] {
    char buffer[4096];
    context.restart();
    context.poll();
    while (read(ends[1], buffer, sizeof buffer) > 0) context.poll();
  };
  for (; !bytes.empty(); listen()) {
    const ssize_t sent = send(ends[1], bytes.data(), std::min(step, bytes.size()), MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) break;  // the server has closed it
    bytes.remove_prefix(static_cast<size_t>(std::max<ssize_t>(sent, 0)));
  }
  shutdown(ends[1], SHUT_WR);
  listen();
  close(ends[1]);
  listen();
  CHECK(shared.open == 0, "the connection is still open");
  CHECK(shared.bodies.held() == 0 && shared.unread.held() == 0, "bytes of it are still counted");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  converse(bytes, size);
  converse(bytes, 1 + data[0] % 32);
  return 0;
}
