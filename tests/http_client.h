// SPDX-License-Identifier: MIT
// A small blocking HTTP client, for tests of the server over a real socket.
#pragma once

#include <utility>  // asio 1.74 needs it for C++20, and leaves it out

#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <map>
#include <string>
#include <vector>

#include "io/files.h"

namespace qwerky::testing {

struct HttpAnswer {
  int status = 0;  ///< 0: the connection ended without one
  std::map<std::string, std::string> headers;
  std::string body;

  OrderedJson json() const { return parse_ordered_json(body, "the answer"); }
  /// The data of a stream's events.
  std::vector<std::string> events() const {
    std::vector<std::string> out;
    for (size_t at = 0, end = 0; (at = body.find("data: ", at)) != body.npos; at = end) {
      end = body.find("\n\n", at);
      if (end == body.npos) end = body.size();
      out.push_back(body.substr(at + 6, end - at - 6));
    }
    return out;
  }
};

class HttpClient {
 public:
  explicit HttpClient(int port) : socket_(context_) {
    socket_.connect({boost::asio::ip::address_v4::loopback(), static_cast<uint16_t>(port)});
  }
  void send(const std::string& bytes) {
    boost::system::error_code ignored;  // the server may have closed it
    boost::asio::write(socket_, boost::asio::buffer(bytes), ignored);
  }
  void request(const std::string& method, const std::string& path, const std::string& body = {},
               const std::string& headers = {}) {
    send(method + " " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\n" + headers +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  }
  HttpAnswer read() {
    namespace http = boost::beast::http;
    http::response_parser<http::string_body> parser;
    parser.body_limit(uint64_t{1} << 40);
    boost::system::error_code error;
    http::read(socket_, buffer_, parser, error);
    HttpAnswer out;
    if (!parser.is_header_done()) return out;
    out.status = static_cast<int>(parser.get().result_int());
    for (const auto& field : parser.get()) {
      std::string name(field.name_string().data(), field.name_string().size());
      for (char& c : name) c = static_cast<char>(std::tolower(c));
      out.headers[name] = std::string(field.value().data(), field.value().size());
    }
    out.body = parser.get().body();
    return out;
  }
  /// Waits until the answer so far has this in it; false when the connection ends before.
  bool read_until(const std::string& part) {
    boost::system::error_code error;
    std::string all;
    boost::asio::read_until(socket_, boost::asio::dynamic_buffer(all), part, error);
    return !error;
  }
  /// All that comes until the server closes the connection.
  std::string read_to_end() {
    boost::system::error_code error;
    std::string all;
    boost::asio::read(socket_, boost::asio::dynamic_buffer(all), error);
    return all;
  }
  void close() { socket_.close(); }

 private:
  boost::asio::io_context context_;
  boost::asio::ip::tcp::socket socket_;
  boost::beast::flat_buffer buffer_;
};

}  // namespace qwerky::testing
