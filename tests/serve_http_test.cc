// SPDX-License-Identifier: MIT
// HTTP alone, over a real socket and without a model: what arrives, what is refused, what waits and for how long.
#include <gtest/gtest.h>

#include <sys/resource.h>

#include <future>
#include <thread>

#include "base/error.h"
#include "http_client.h"
#include "serve/http.h"

namespace qwerky::serve {
namespace {

using qwerky::testing::HttpAnswer;
using qwerky::testing::HttpClient;
using std::chrono::milliseconds;

/// Answers with what it got; streams and held answers are steered by the test.
struct Echo : HttpHandler {
  std::optional<HttpResponse> before_body(HttpHead& head) override {
    head.owner = head.authorization;
    if (head.path == "/refused") return HttpResponse{401, "no"};
    if (head.path == "/empty") return HttpResponse{204, {}, {}, {}};
    return std::nullopt;
  }
  void handle(HttpRequest&& request, std::shared_ptr<Reply> reply) override {
    if (request.head.path == "/dropped") return;
    if (request.head.path == "/host") return reply->send({200, request.head.host, "text/plain", {}});
    if (request.head.path == "/large") return reply->send({200, std::string(15 << 20, 'a')});
    if (request.head.path == "/held") {
      reply->on_leave([this] { left.set_value(); });
      return held.set_value(std::move(reply));
    }
    reply->send({200, request.head.method + " " + request.head.path + " " + request.body, "text/plain", {}});
  }
  std::string error_body(int status, const std::string& message) override {
    return std::to_string(status) + " " + message;
  }
  std::promise<std::shared_ptr<Reply>> held;
  std::promise<void> left;
};

HttpOptions on_any_port() {
  HttpOptions options;
  options.port = 0;
  return options;
}

HttpAnswer ask(const HttpServer& server, const std::string& path, const std::string& body = {}) {
  HttpClient client(server.port());
  client.request("POST", path, body);
  return client.read();
}

TEST(Http, AnswersOneAfterTheOtherOnOneConnection) {
  Echo echo;
  HttpServer server(echo, on_any_port());
  HttpClient client(server.port());
  for (const char* body : {"a", "", "ccc"}) {
    client.request("POST", "/x?query=1", body);
    const HttpAnswer answer = client.read();
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, std::string("POST /x ") + body);
    EXPECT_EQ(answer.headers.at("x-content-type-options"), "nosniff");
  }
  EXPECT_EQ(server.counts().accepted, 1);
}

TEST(Http, RequestsSentAheadAreAnsweredInOrder) {
  Echo echo;
  HttpServer server(echo, on_any_port());
  HttpClient client(server.port());
  std::string all;
  for (int i = 0; i < 50; ++i)
    all += "POST /" + std::to_string(i) + " HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
  client.send(all + "what is this\r\n\r\n");
  for (int i = 0; i < 50; ++i) EXPECT_EQ(client.read().body, "POST /" + std::to_string(i) + " hi");
  EXPECT_EQ(client.read().status, 400) << "and then garbage";
  EXPECT_EQ(client.read_to_end(), "") << "closed";
}

TEST(Http, ChunkedBodiesAndExpectContinue) {
  Echo echo;
  HttpServer server(echo, on_any_port());
  HttpClient client(server.port());
  client.send("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");
  EXPECT_EQ(client.read().body, "POST /x abc");
  client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_TRUE(client.read_until("100 Continue\r\n\r\n"));
  client.send("ab");
  EXPECT_EQ(client.read().body, "POST /x ab");
}

// RFC 9110, sections 8.6 and 10.1.1; RFC 9112, section 3.2.2.
TEST(Http, RulesOfTheProtocol) {
  Echo echo;
  HttpServer server(echo, on_any_port());
  HttpClient client(server.port());
  client.request("POST", "/empty");
  const HttpAnswer empty = client.read();
  EXPECT_EQ(empty.status, 204);
  EXPECT_FALSE(empty.headers.contains("content-length"));
  for (const auto& [target, body] : {std::pair("http://b.example:80/host?query", "b.example:80"),
                                     {"HTTP://b.example/host", "b.example"},
                                     {"/host", "a.example"},
                                     {"http://b.example", "GET / "},
                                     {"http://b.example?query", "GET / "}}) {
    client.send(std::string("GET ") + target + " HTTP/1.1\r\nHost: a.example\r\n\r\n");
    EXPECT_EQ(client.read().body, body) << target;
  }
  client.send("POST /x HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nab");
  const std::string all = client.read_to_end();
  EXPECT_TRUE(all.starts_with("HTTP/1.1 200 OK\r\n")) << all;
}

TEST(Http, HeadHasNoBody) {
  Echo echo;
  HttpServer server(echo, on_any_port());
  HttpClient client(server.port());
  client.send("HEAD /x HTTP/1.0\r\n\r\n");
  const std::string all = client.read_to_end();
  EXPECT_TRUE(all.starts_with("HTTP/1.1 200 OK\r\n")) << all;
  EXPECT_TRUE(all.ends_with("\r\n\r\n")) << all;
}

TEST(Http, LimitsHaveTheirStatus) {
  Echo echo;
  HttpOptions options = on_any_port();
  options.body_bytes = 1000;
  options.header_bytes = 2000;
  HttpServer server(echo, options);
  EXPECT_EQ(ask(server, "/x", std::string(1000, 'a')).status, 200);
  EXPECT_EQ(ask(server, "/x", std::string(1001, 'a')).status, 413);
  EXPECT_EQ(ask(server, "/x", std::string(5'000'000, 'a')).status, 413)
      << "the answer is not lost while the body comes";
  HttpClient chunked(server.port());
  chunked.send("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + std::string(2000, 'a') +
               "\r\n0\r\n\r\n");
  EXPECT_EQ(chunked.read().status, 413) << "a body whose length is not told first";
  EXPECT_EQ(ask(server, "/" + std::string(2000, 'a')).status, 431);
  HttpClient many(server.port());
  many.request("POST", "/x", "", "X-A: " + std::string(3000, 'a') + "\r\n");
  EXPECT_EQ(many.read().status, 431);
  EXPECT_EQ(ask(server, "/refused", std::string(900, 'a')).status, 401) << "before its body is read";
}

// What belongs to no body is not under the body's limit.
TEST(Http, LinesBetweenChunksAreLimited) {
  Echo echo;
  HttpServer server(echo, on_any_port());
  for (const char* line : {"1;", "0\r\nX: "}) {
    HttpClient client(server.port());
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + std::string(line) +
                std::string(1 << 20, 'a'));
    EXPECT_EQ(client.read().status, 400) << line;
  }
}

/// A client that has sent `bytes` of a longer body, which the server waits for.
struct Sending : HttpClient {
  Sending(const HttpServer& server, const std::string& owner, size_t bytes) : HttpClient(server.port()) {
    send("POST /x HTTP/1.1\r\nHost: a\r\nAuthorization: " + owner +
         "\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n");
    EXPECT_TRUE(read_until("100 Continue\r\n\r\n"));
    send(std::string(bytes, 'a'));
  }
};

TEST(Http, BodiesTogetherAreLimited) {
  Echo echo;
  HttpOptions options = on_any_port();
  options.small_bytes = 90;
  options.all_body_bytes = 1000;
  HttpServer server(echo, options);
  const auto ask_as = [&](const std::string& owner, size_t bytes) {
    HttpClient client(server.port());
    client.request("POST", "/x", std::string(bytes, 'a'), "Authorization: " + owner + "\r\n");
    return client.read();
  };
  Sending first(server, "a", 400);
  while (ask_as("a", 200).status == 200) std::this_thread::yield();  // until they have come
  EXPECT_EQ(ask_as("a", 200).headers.at("retry-after"), "1");
  EXPECT_EQ(ask_as("a", 100).status, 200);
  EXPECT_EQ(ask_as("b", 300).status, 200) << "half of what is left is for another";
  EXPECT_EQ(ask_as("b", 400).status, 503);
  Sending second(server, "b", 200);
  while (ask_as("b", 200).status == 200) std::this_thread::yield();
  EXPECT_EQ(ask_as("c", 300).status, 503);
  EXPECT_EQ(ask_as("c", 200).status, 200);
  EXPECT_EQ(ask_as("b", 90).status, 200) << "a small one has always room";
  first.close();
  second.close();
  while (ask_as("a", 500).status != 200) std::this_thread::yield();
}

TEST(Http, WhatIsAnnouncedTakesNoRoom) {
  Echo echo;
  HttpOptions options = on_any_port();
  options.small_bytes = 10;
  options.all_body_bytes = 1000;
  HttpServer server(echo, options);
  std::vector<std::unique_ptr<Sending>> stalled;
  for (int i = 0; i < 8; ++i) stalled.push_back(std::make_unique<Sending>(server, "", 1));
  const auto chunked = std::make_unique<HttpClient>(server.port());
  chunked->send("POST /held HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n" + std::string(20, 'a') +
                "\r\n0\r\n\r\n");
  const auto reply = echo.held.get_future().get();
  EXPECT_EQ(ask(server, "/x", std::string(480, 'a')).status, 200) << "beside a body of 20 that is being answered";
  EXPECT_EQ(ask(server, "/x", std::string(481, 'a')).status, 503);
}

TEST(Http, LargeAnswersTogetherAreLimited) {
  Echo echo;
  HttpOptions options = on_any_port();
  options.all_unread_bytes = 64 << 20;
  HttpServer server(echo, options);
  std::vector<std::unique_ptr<HttpClient>> clients;
  const auto begin = [&](const std::string& owner, const std::string& path = "/large") {
    clients.push_back(std::make_unique<HttpClient>(server.port()));
    clients.back()->request("POST", path, "", "Authorization: " + owner + "\r\n");
    return clients.back().get();
  };
  const auto taken = [&](HttpClient* client) { return client->read_until("HTTP/1.1 200 "); };
  ASSERT_TRUE(taken(begin("a")));
  ASSERT_TRUE(taken(begin("a")));
  const HttpAnswer refused = begin("a")->read();
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.headers.at("retry-after"), "1");
  EXPECT_EQ(begin("a", "/x")->read().status, 200) << "a small one has always room";
  ASSERT_TRUE(taken(begin("b")));
  EXPECT_EQ(begin("c")->read().status, 503);
  clients.front()->close();
  clients[1]->close();
  while (server.counts().left < 2) std::this_thread::yield();
  EXPECT_EQ(begin("a")->read().body.size(), 15u << 20) << "what nobody reads any more takes no room";
  begin("a", "/held");
  const auto reply = echo.held.get_future().get();
  reply->events({std::string(40 << 20, 'a')});
  EXPECT_EQ(echo.left.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready) << "streams count";
}

TEST(Http, GarbageIsRefused) {
  Echo echo;
  HttpServer server(echo, on_any_port());
  for (const std::string& bytes :
       {std::string("\r\n\r\n\r\n"), std::string("GET\r\n\r\n"), std::string("GET / HTTP/9.9\r\n\r\n"),
        std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11),
        std::string("GET / HTTP/1.1\r\nNo colon\r\n\r\n"),
        std::string("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"),
        std::string("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nab"),
        std::string("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
        std::string("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")}) {
    HttpClient client(server.port());
    client.send(bytes);
    EXPECT_EQ(client.read().status, 400) << bytes;
  }
  EXPECT_EQ(ask(server, "/x", "a").status, 200);
}

/// Two programs that read such a request differently see different requests behind it.
TEST(Http, WhatCanBeReadInTwoWaysIsRefused) {
  Echo echo;
  HttpServer server(echo, on_any_port());
  const std::string host = "Host: a\r\n", chunked = "Transfer-Encoding: chunked\r\n";
  for (const std::string& head :
       {"HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n",
        "HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip\r\n",
        "HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked, identity\r\n",
        "HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n",
        "HTTP/1.1\r\n" + host + "Transfer-Encoding:\r\n", "HTTP/1.1\r\n" + host + chunked + chunked,
        "HTTP/1.1\r\n" + host + chunked + "Content-Length: 0\r\n",
        "HTTP/1.1\r\n" + host + "Content-Length: 0\r\n" + chunked, "HTTP/1.0\r\n" + host + chunked,
        std::string("HTTP/1.1\r\n"), "HTTP/1.1\r\n" + host + host,
        "HTTP/1.1\r\n" + host + "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n"}) {
    HttpClient client(server.port());
    client.send("POST /x " + head + "\r\n0\r\n\r\nPOST /behind HTTP/1.1\r\nHost: a\r\n\r\n");
    const std::string all = client.read_to_end();
    EXPECT_TRUE(all.starts_with("HTTP/1.1 400 ")) << head << all;
    EXPECT_EQ(all.find("/behind"), all.npos) << head;
  }
}

TEST(Http, SlowSendersAreCutOff) {
  Echo echo;
  HttpOptions options = on_any_port();
  options.header_time = options.body_time = milliseconds(50);
  HttpServer server(echo, options);
  HttpClient silent(server.port()), header(server.port()), body(server.port());
  header.send("POST /x HTTP/1.1\r\nX-A: b");
  body.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(header.read().status, 408);
  EXPECT_EQ(body.read().status, 408);
  EXPECT_EQ(silent.read().status, 408);
  EXPECT_EQ(server.counts().slow, 3);
}

TEST(Http, IdleConnectionsEnd) {
  Echo echo;
  HttpOptions options = on_any_port();
  options.idle_time = milliseconds(50);
  HttpServer server(echo, options);
  HttpClient client(server.port());
  client.request("POST", "/x", "a");
  EXPECT_EQ(client.read().status, 200);
  EXPECT_EQ(client.read_to_end(), "");
}

TEST(Http, TooManyConnections) {
  Echo echo;
  HttpOptions options = on_any_port();
  options.connections = 2;
  HttpServer server(echo, options);
  HttpClient a(server.port()), b(server.port());
  a.request("POST", "/x");
  b.request("POST", "/x");
  EXPECT_EQ(a.read().status, 200);
  EXPECT_EQ(b.read().status, 200);
  HttpClient c(server.port());
  const HttpAnswer answer = c.read();
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.headers.at("retry-after"), "1");
  EXPECT_EQ(server.counts().turned_away, 1);
}

/// In a process of its own, which may have so many files: 8 clients are served, another is told that it is too many.
[[noreturn]] void serve_eight_clients(rlim_t soft, rlim_t hard) {
  const rlimit files{soft, hard};
  if (setrlimit(RLIMIT_NOFILE, &files) != 0) std::_Exit(2);
  Echo echo;
  HttpOptions options = on_any_port();
  options.connections = 1 << 20;
  HttpServer server(echo, options);
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(std::make_unique<HttpClient>(server.port()));
    clients.back()->request("POST", "/x");
    if (clients.back()->read().status != 200) std::_Exit(3);
  }
  std::_Exit(HttpClient(server.port()).read().status == 503 ? 0 : 4);
}

TEST(HttpDeathTest, ConnectionsLeaveFilesForTheRest) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(serve_eight_clients(66, 72), ::testing::ExitedWithCode(0), "") << "64 are for the rest";
}

TEST(Http, AStreamOfEvents) {
  Echo echo;
  HttpServer server(echo, on_any_port());
  HttpClient client(server.port());
  client.request("POST", "/held");
  const auto reply = echo.held.get_future().get();
  reply->event("one");
  EXPECT_TRUE(client.read_until("data: one\n\n")) << "at once, not at the end";
  reply->event("two");
  reply->end_events();
  EXPECT_TRUE(client.read_until("0\r\n\r\n"));
  client.request("POST", "/x", "again");
  EXPECT_EQ(client.read().body, "POST /x again") << "on the same connection";
}

TEST(Http, ALargeFirstEventIsSent) {
  Echo echo;
  HttpOptions options = on_any_port();
  options.unread_bytes = 1000;
  HttpServer server(echo, options);
  HttpClient client(server.port());
  client.request("POST", "/held");
  const auto reply = echo.held.get_future().get();
  const std::string large(1 << 20, 'a');
  reply->events({large, large});
  reply->end_events();
  const HttpAnswer answer = client.read();
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.events(), (std::vector<std::string>{large, large}));
  EXPECT_EQ(server.counts().slow, 0);
}

TEST(Http, WhoAnswersIsToldThatTheClientLeft) {
  Echo echo;
  HttpOptions options = on_any_port();
  std::promise<std::string> line;
  options.log = [&](const std::string& l) { line.set_value(l); };
  HttpServer server(echo, options);
  HttpClient client(server.port());
  client.request("POST", "/held");
  const auto reply = echo.held.get_future().get();
  client.close();
  EXPECT_EQ(echo.left.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
  reply->send({200, "too late", "text/plain", {}});
  EXPECT_NE(line.get_future().get().find(" POST /held 499 "), std::string::npos);
  EXPECT_EQ(server.counts().left, 1);
}

TEST(Http, WhoSendsFarAheadIsSeenToLeave) {
  Echo echo;
  HttpServer server(echo, on_any_port());
  HttpClient client(server.port());
  client.request("POST", "/held");
  const auto reply = echo.held.get_future().get();
  client.send(std::string(1 << 20, 'a'));
  client.close();
  EXPECT_EQ(echo.left.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
  EXPECT_TRUE(reply->left());
}

TEST(Http, AReaderWhoDoesNotReadIsCutOff) {
  Echo echo;
  HttpOptions options = on_any_port();
  options.unread_bytes = 1 << 20;
  HttpServer server(echo, options);
  HttpClient client(server.port());
  client.request("POST", "/held");
  const auto reply = echo.held.get_future().get();
  const auto left = echo.left.get_future();
  for (int i = 0; i < 64 && left.wait_for(milliseconds(0)) != std::future_status::ready; ++i)
    reply->event(std::string(1 << 20, 'a'));  // more than the system's own buffers hold
  EXPECT_EQ(left.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  EXPECT_EQ(server.counts().slow, 1);
}

TEST(Http, WhatNobodyAnswersIsAnError) {
  Echo echo;
  HttpServer server(echo, on_any_port());
  const HttpAnswer answer = ask(server, "/dropped");
  EXPECT_EQ(answer.status, 500);
  EXPECT_EQ(answer.body, "500 no answer");
}

TEST(Http, AStreamThatNobodyGoesOnWithIsCut) {
  Echo echo;
  HttpServer server(echo, on_any_port());
  HttpClient client(server.port());
  client.request("POST", "/held");
  auto reply = echo.held.get_future().get();
  reply->event("one");
  reply.reset();
  const std::string all = client.read_to_end();
  EXPECT_NE(all.find("data: one\n\n"), all.npos);
  EXPECT_EQ(all.find("0\r\n\r\n"), all.npos) << "it does not look whole";
}

TEST(Http, DrainWaitsForWhatIsBeingAnswered) {
  Echo echo;
  HttpServer server(echo, on_any_port());
  HttpClient client(server.port()), idle(server.port());
  idle.request("POST", "/x");
  EXPECT_EQ(idle.read().status, 200);
  client.request("POST", "/held");
  auto reply = echo.held.get_future().get();
  std::thread drain([&] { server.drain(std::chrono::steady_clock::now() + std::chrono::seconds(10)); });
  EXPECT_EQ(idle.read_to_end(), "") << "closed at once";
  reply->send({200, "done", "text/plain", {}});
  EXPECT_EQ(client.read().body, "done");
  client.close();
  drain.join();
  EXPECT_EQ(server.counts().connections, 0);
  EXPECT_THROW(HttpClient(server.port()), boost::system::system_error) << "nobody listens";
}

TEST(Http, DrainWaitsForNoBody) {
  Echo echo;
  HttpServer server(echo, on_any_port());
  HttpClient client(server.port());
  client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_TRUE(client.read_until("100 Continue\r\n\r\n"));
  const auto begin = std::chrono::steady_clock::now();
  server.drain(begin + std::chrono::seconds(20));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
  EXPECT_EQ(server.counts().connections, 0);
}

TEST(Http, OneOriginMayCall) {
  Echo echo;
  HttpOptions options = on_any_port();
  options.cors_origin = "https://a.example";
  HttpServer server(echo, options);
  HttpClient client(server.port());
  client.request("POST", "/x", "", "Origin: https://a.example\r\n");
  EXPECT_EQ(client.read().headers.at("access-control-allow-origin"), "https://a.example");
  client.request("POST", "/x", "", "Origin: https://b.example\r\n");
  EXPECT_FALSE(client.read().headers.contains("access-control-allow-origin"));
}

TEST(Http, ATakenPortIsAnError) {
  Echo echo;
  HttpServer server(echo, on_any_port());
  HttpOptions options = on_any_port();
  options.port = server.port();
  EXPECT_THROW(HttpServer(echo, options), Error);
}

TEST(Http, TheLogHoldsNoContent) {
  Echo echo;
  HttpOptions options = on_any_port();
  std::promise<std::string> line;
  options.log = [&](const std::string& l) { line.set_value(l); };
  HttpServer server(echo, options);
  HttpClient client(server.port());
  client.request("POST", "/a\x01\xffz?secret", "secret", "Authorization: Bearer secret\r\n");
  client.read();
  const std::string text = line.get_future().get();
  EXPECT_EQ(text.find("secret"), std::string::npos) << text;
  EXPECT_NE(text.find(" 400 "), std::string::npos) << text;
}

}  // namespace
}  // namespace qwerky::serve
