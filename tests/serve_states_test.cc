// SPDX-License-Identifier: MIT
// States over the wire: what is kept, named, saved at the end, restored, and read once.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "data.h"
#include "engine/continuations.h"
#include "running_server.h"

namespace qwerky::serve {
namespace {

using namespace testing;
using qwerky::testing::scratch_dir;

TEST(ServeStates, NamedStatesOutliveTheServer) {
  ServedModelOptions model = model_options();
  model.cache.folder = scratch_dir("serve-states");
  OrderedJson cold, warm;
  const OrderedJson question = {{"prompt", " The owl said"}, {"state", "doc"}, {"max_tokens", 8}, {"temperature", 0}};
  {
    const Running running({}, {model});
    const OrderedJson saved = running.post("/state", {{"action", "save"}, {"name", "doc"}, {"prompt", story()}});
    EXPECT_EQ(saved["tokens"], story().size());
    cold = running.post("/v1/completions", question);
    EXPECT_EQ(running.post("/state", {{"action", "fork"}, {"name", "doc"}, {"to", "copy"}})["name"], "copy");
  }
  const Running running({}, {model});
  EXPECT_EQ(running.call("GET", "/state").json()["states"].dump(),
            R"([{"name":"copy","model":"m"},{"name":"doc","model":"m"}])");
  EXPECT_EQ(running.post("/state", {{"action", "restore"}, {"name", "doc"}})["tokens"], story().size());
  EXPECT_EQ(running.call("POST", "/state", {{"action", "restore"}, {"name", "none"}}).status, 404);
  std::vector<int32_t> text = story();
  text.push_back(5);
  EXPECT_EQ(running.post("/v1/completions", {{"prompt", text}})["usage"]["prompt_tokens_details"]["cached_tokens"],
            story().size());
  warm = running.post("/v1/completions", question);
  EXPECT_EQ(warm["choices"], cold["choices"]);
  EXPECT_EQ(warm["usage"]["prompt_tokens_details"]["cached_tokens"], story().size());
  std::vector<int32_t> all = story();
  for (const int32_t id : engine().encode(" The owl said")) all.push_back(id);
  EXPECT_EQ(
      running.post("/v1/completions", {{"prompt", all}, {"max_tokens", 8}, {"temperature", 0}})["choices"][0]["text"],
      warm["choices"][0]["text"])
      << "as if all had been read at once";
  EXPECT_EQ(running.post("/state", {{"action", "delete"}, {"name", "doc"}})["deleted"], true);
  EXPECT_EQ(running.call("POST", "/state", {{"action", "delete"}, {"name", "doc"}}).status, 404);
  EXPECT_EQ(running.call("POST", "/v1/completions", question).status, 404);
}

TEST(ServeStates, ADrainKeepsWhatWasRead) {
  ServedModelOptions model = model_options();
  model.cache.folder = scratch_dir("serve-drain");
  const OrderedJson body = {{"prompt", story()}, {"max_tokens", 8}, {"temperature", 0}};
  OrderedJson before;
  {
    Running running({}, {model});
    before = running.post("/v1/completions", body);
    EXPECT_EQ(before["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    running.server.drain(10);
  }
  const Running running({}, {model});
  std::vector<int32_t> longer = story();
  for (const int32_t id : engine().encode(before["choices"][0]["text"].get<std::string>() + " and"))
    longer.push_back(id);
  const OrderedJson after = running.post("/v1/completions", {{"prompt", longer}, {"max_tokens", 1}});
  EXPECT_GE(after["usage"]["prompt_tokens_details"]["cached_tokens"], story().size());
}

TEST(ServeStates, ADamagedStateIsNoFaultOfTheRequest) {
  ServedModelOptions model = model_options();
  model.cache.folder = scratch_dir("serve-damaged");
  std::mutex mutex;
  std::string log;
  ServerOptions options;
  options.http.log = [&](const std::string& line) {
    const std::lock_guard lock(mutex);
    log += line;
  };
  const Running running(options, {model});
  running.post("/state", {{"action", "save"}, {"name", "doc"}, {"prompt", story()}});
  int damaged = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(model.cache.folder)) {
    if (!entry.is_regular_file() || entry.file_size() < 1000) continue;
    std::string bytes = read_file(entry.path());
    bytes[bytes.size() / 2] = static_cast<char>(~bytes[bytes.size() / 2]);
    write_file(entry.path(), bytes);
    ++damaged;
  }
  ASSERT_GT(damaged, 0);
  const HttpAnswer answer = running.call("POST", "/v1/completions", {{"prompt", "a"}, {"state", "doc"}});
  EXPECT_EQ(answer.status, 500);
  EXPECT_EQ(answer.json()["error"]["type"], "server_error");
  EXPECT_EQ(answer.body.find(model.cache.folder.filename().string()), std::string::npos) << answer.body;
  // Nor is a folder that cannot be written into.
  remove_tree(model.cache.folder);
  write_file(model.cache.folder, "no folder");
  const HttpAnswer unsaved =
      running.call("POST", "/state", {{"action", "save"}, {"name", "other"}, {"prompt", story()}});
  EXPECT_EQ(unsaved.status, 500);
  EXPECT_EQ(unsaved.body.find(model.cache.folder.filename().string()), std::string::npos) << unsaved.body;
  const std::lock_guard lock(mutex);
  EXPECT_NE(log.find("checksum"), log.npos) << log;
  EXPECT_NE(log.find("could not be saved"), log.npos) << log;
}

TEST(ServeStates, StatesOfOneKeyHoldUpNoOther) {
  ServedModelOptions model = model_options();
  model.cache.folder = scratch_dir("serve-turns");
  ServerOptions options;
  options.keys = ApiKeys("key-of-the-first-user\nkey-of-the-other-user\n", "k");
  const Running running(options, {model});
  const std::string first = "Authorization: Bearer key-of-the-first-user\r\n",
                    other = "Authorization: Bearer key-of-the-other-user\r\n";
  const OrderedJson save = {{"action", "save"}, {"name", "doc"}, {"prompt", std::vector<int>(1000, 5)}};
  ASSERT_EQ(running.call("POST", "/state", save, first).status, 200);
  ASSERT_EQ(running.call("POST", "/state", save, other).status, 200);
  std::vector<std::unique_ptr<HttpClient>> clients;
  constexpr int kForks = 512;
  for (int i = 0; i < kForks; ++i) {
    clients.push_back(std::make_unique<HttpClient>(running.server.port()));
    clients.back()->request("POST", "/state", R"({"action": "fork", "name": "doc", "to": "copy"})", first);
  }
  EXPECT_EQ(running.call("POST", "/v1/completions", {{"prompt", "a"}, {"max_tokens", 1}}, other).status, 200);
  EXPECT_EQ(
      running.call("POST", "/v1/completions", {{"prompt", "a"}, {"state", "doc"}, {"max_tokens", 1}}, other).status,
      200);
  const OrderedJson fork = {{"action", "fork"}, {"name", "doc"}, {"to", "copy"}};
  EXPECT_EQ(running.call("POST", "/state", fork, other).status, 200) << "keys take turns";
  const std::string metrics = running.call("GET", "/metrics", {}, other).body,
                    line = "qwerky_requests_total{route=\"/state\",status=\"200\"} ";
  EXPECT_LT(std::stod(metrics.substr(metrics.find(line) + line.size())), 3 + kForks)
      << "its own, and those that were done before it";
}

TEST(ServeStates, AnAnswerCanBeSavedAndGoneOnFrom) {
  const Running& running = shared();
  OrderedJson body = {{"prompt", story()}, {"max_tokens", 6}, {"temperature", 0}, {"save_state", "part"}};
  const std::string first = running.post("/v1/completions", body)["choices"][0]["text"];
  const std::string rest = running.post(
      "/v1/completions",
      {{"state", "part"}, {"prompt", " and"}, {"max_tokens", 6}, {"temperature", 0}})["choices"][0]["text"];
  std::vector<int32_t> all = story();
  for (const std::string& text : {first, std::string(" and")})
    for (const int32_t id : engine().encode(text)) all.push_back(id);
  EXPECT_EQ(
      running.post("/v1/completions", {{"prompt", all}, {"max_tokens", 6}, {"temperature", 0}})["choices"][0]["text"],
      rest);
  const OrderedJson chat = {
      {"messages", {{{"role", "user"}, {"content", "Hello"}}}}, {"state", "part"}, {"max_tokens", 3}};
  EXPECT_GT(running.post("/v1/chat/completions", chat)["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
}

TEST(ServeStates, AnAnswerOutlivesAStateThatCannotBeSaved) {
  ServedModelOptions model = model_options();
  model.cache.memory_bytes = 1000;
  const Running running({}, {model});
  OrderedJson body = {{"prompt", story()}, {"max_tokens", 5}, {"temperature", 0}};
  const OrderedJson text = running.post("/v1/completions", body)["choices"][0]["text"];
  body["save_state"] = "s";
  const OrderedJson out = running.post("/v1/completions", body);
  EXPECT_EQ(out["choices"][0]["text"], text);
  EXPECT_EQ(out["save_state"]["error"]["param"], "save_state");
  body["stream"] = true;
  const HttpAnswer streamed = running.call("POST", "/v1/completions", body);
  const std::vector<std::string> events = streamed.events();
  ASSERT_GE(events.size(), 2u);
  EXPECT_TRUE(parse_ordered_json(events[events.size() - 2], "event")["save_state"].contains("error"));
  EXPECT_EQ(events.back(), "[DONE]");
}

TEST(ServeStates, WhatDoesNotFitWithItsLastTokenIsRefusedBeforeItIsWritten) {
  OrderedJson body = {{"prompt", std::vector<int>(1020, 5)}, {"max_tokens", 5}, {"logit_bias", {{"2047", -100}}}};
  EXPECT_EQ(shared().call("POST", "/v1/completions", body).status, 200);
  body["save_state"] = "full";
  EXPECT_EQ(shared().call("POST", "/v1/completions", body).status, 400);
  body.erase("max_tokens");
  EXPECT_EQ(shared().post("/v1/completions", body)["save_state"]["tokens"], 1024);
}

TEST(ServeStates, AStateAfterAStopStringHasReadWhatWasShown) {
  OrderedJson body = {{"prompt", story()}, {"max_tokens", 30}, {"temperature", 0}, {"logprobs", 0}};
  const OrderedJson whole = shared().post("/v1/completions", body)["choices"][0];
  const std::string text = whole["text"];
  // From the middle of one token on into the next.
  const size_t begin = whole["logprobs"]["text_offset"][9].get<size_t>() + 1;
  body["stop"] = text.substr(begin, 4);
  body["save_state"] = "stopped";
  const OrderedJson out = shared().post("/v1/completions", body);
  const std::string shown = out["choices"][0]["text"];
  ASSERT_EQ(shown, text.substr(0, text.find(body["stop"].get<std::string>())));
  Session session(engine(), 256);
  GenerateOptions options;
  options.max_tokens = 30;
  std::vector<int32_t> read = story();
  std::string before;
  for (const int32_t id : generate(session, engine(), story(), options).ids) {
    before += engine().decode({&id, 1});
    if (before.size() > shown.size()) break;
    read.push_back(id);
  }
  EXPECT_EQ(out["save_state"]["tokens"], read.size());
  read.push_back(5);
  EXPECT_EQ(shared().post("/v1/completions", {{"prompt", {5}}, {"state", "stopped"}, {"temperature", 0}})["choices"],
            shared().post("/v1/completions", {{"prompt", read}, {"temperature", 0}})["choices"]);
}

TEST(ServeStates, DrainSavesTheStateOfWhatItFinishes) {
  Running running;
  HttpClient client(running.server.port());
  client.request("POST", "/v1/completions",
                 OrderedJson({{"prompt", {5}},
                              {"max_tokens", 100},
                              {"stream", true},
                              {"save_state", "last"},
                              {"logit_bias", {{"2047", -100}}}})
                     .dump());
  ASSERT_TRUE(client.read_until("data: "));
  running.server.drain(10);
  EXPECT_TRUE(client.read_to_end().find("\"save_state\":{\"name\":\"last\",\"tokens\":101") != std::string::npos);
}

TEST(ServeStates, APromptAndADocumentAreReadOnce) {
  const auto cached = [](const std::string& prompt) {
    const OrderedJson usage = shared().post("/v1/completions", {{"prompt", prompt}, {"max_tokens", 2}})["usage"];
    return std::pair(usage["prompt_tokens_details"]["cached_tokens"].get<int>(), usage["prompt_tokens"].get<int>());
  };
  std::string document;
  for (int i = 0; i < 40; ++i) document += "The heron stood by the pond and saw a frog. ";
  EXPECT_EQ(cached(document + "Who stood there?").first, 0);
  const auto [again, all] = cached(document + "Who stood there?");
  EXPECT_EQ(again, all);
  EXPECT_GE(cached(document + "Where was the frog, and what did it do all day long?").first, all - 256);
}

}  // namespace
}  // namespace qwerky::serve
