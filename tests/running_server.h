// SPDX-License-Identifier: MIT
// A server with the bundled teacher on a free port, for tests.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "http_client.h"
#include "serve/server.h"

namespace qwerky::serve::testing {

using qwerky::testing::HttpAnswer;
using qwerky::testing::HttpClient;

inline const std::string kModel = QWERKY_SOURCE_DIR "/models/teacher";
constexpr const char* kTemplate =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

inline ServedModelOptions model_options(const std::string& name = "m") {
  ServedModelOptions out;
  out.path = kModel;
  out.name = name;
  out.chat_template = kTemplate;
  out.batcher.capacity = 1024;
  return out;
}

struct Running {
  explicit Running(ServerOptions options = {}, const std::vector<ServedModelOptions>& models = {model_options()})
      : server(any_port(std::move(options))) {
    server.load(models);
  }
  static ServerOptions any_port(ServerOptions options) {
    options.http.port = 0;
    return options;
  }
  HttpAnswer call(const std::string& method, const std::string& path, const OrderedJson& body = {},
                  const std::string& headers = {}) const {
    HttpClient client(server.port());
    client.request(method, path, body.is_null() ? "" : body.dump(), headers);
    return client.read();
  }
  OrderedJson post(const std::string& path, const OrderedJson& body) const {
    const HttpAnswer answer = call("POST", path, body);
    EXPECT_EQ(answer.status, 200) << answer.body;
    return answer.json();
  }
  double metric(const std::string& line) const {
    const std::string text = call("GET", "/metrics").body;
    const size_t at = text.find("\n" + line + " ");
    EXPECT_NE(at, text.npos) << line;
    return std::stod(text.substr(at + line.size() + 2));
  }
  /// Whether such an answer was counted.
  bool answered(const std::string& route, const std::string& status) const {
    const std::string line = concat("qwerky_requests_total{route=\"", route, "\",status=\"", status, "\"} ");
    return call("GET", "/metrics").body.find(line) != std::string::npos;
  }
  /// Asks until it is so; the test's time limit ends it otherwise.
  template <class F>
  void until(const F& so) const {
    while (!so()) std::this_thread::yield();
  }
  Server server;
};

inline Running& shared() {
  static Running running;
  return running;
}

inline const Engine& engine() {
  static const Engine loaded(kModel);
  return loaded;
}

inline const std::vector<int32_t>& story() {
  static const std::vector<int32_t> ids = engine().encode("Once upon a time there was a little fox who lived in");
  return ids;
}

}  // namespace qwerky::serve::testing
