// SPDX-License-Identifier: MIT
// The server with a model, as clients see it: OpenAI's protocol, keys, limits.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "data.h"
#include "engine/continuations.h"
#include "repetitions.h"
#include "running_server.h"
#include "serve/exchange.h"

namespace qwerky::serve {
namespace {

using namespace testing;
using qwerky::testing::scratch_dir;

TEST(Serve, LoadingIsToldByHealth) {
  ServerOptions options;
  options.http.port = 0;
  Server server(options);
  const auto status = [&](const char* path) {
    HttpClient client(server.port());
    client.request("GET", path);
    return client.read().status;
  };
  EXPECT_EQ(status("/health"), 503);
  EXPECT_EQ(status("/v1/models"), 503);
  EXPECT_EQ(status("/"), 200);
  server.load({model_options()});
  EXPECT_EQ(status("/health"), 200);
  EXPECT_EQ(status("/v1/models"), 200);
}

TEST(Serve, CompletionsAreWhatTheEngineGenerates) {
  Session session(engine(), 256);
  GenerateOptions options;
  options.max_tokens = 24;
  const Generated expected = generate(session, engine(), story(), options);
  const OrderedJson out =
      shared().post("/v1/completions", {{"prompt", story()}, {"max_tokens", 24}, {"temperature", 0}});
  EXPECT_EQ(out["choices"][0]["text"], engine().decode(expected.ids));
  EXPECT_EQ(out["object"], "text_completion");
  EXPECT_EQ(out["usage"]["prompt_tokens"], story().size());
  EXPECT_EQ(out["usage"]["completion_tokens"], expected.ids.size());
  EXPECT_EQ(out["choices"][0]["finish_reason"], expected.ended ? "stop" : "length");
  EXPECT_GT(out["timings"]["first_token_ms"], 0);
}

/// The arrays as lm-eval reads them.
TEST(Serve, EchoTellsEveryTokenOfThePromptAndOneMore) {
  std::vector<int32_t> other(story().begin(), story().begin() + 5);
  const OrderedJson out = shared().post("/v1/completions", {{"model", "m"},
                                                            {"prompt", {story(), other}},
                                                            {"temperature", 0},
                                                            {"max_tokens", 1},
                                                            {"logprobs", 1},
                                                            {"seed", 1234},
                                                            {"echo", true}});
  ContinuationScorer scorer(*engine().internals().backend, *engine().internals().model->decoder);
  ASSERT_EQ(out["choices"].size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    const auto& ids = i == 0 ? story() : other;
    const OrderedJson& choice = out["choices"][i];
    const OrderedJson& told = choice["logprobs"];
    EXPECT_EQ(choice["index"], i);
    for (const char* name : {"tokens", "token_logprobs", "top_logprobs", "text_offset"})
      ASSERT_EQ(told[name].size(), ids.size() + 1) << name;
    EXPECT_TRUE(told["token_logprobs"][0].is_null());
    EXPECT_TRUE(told["top_logprobs"][0].is_null());
    double sum = 0;
    bool greedy = true;
    for (size_t j = 3; j < ids.size(); ++j) {
      const double own = told["token_logprobs"][j];
      double best = -1e9;
      for (const auto& [token, logprob] : told["top_logprobs"][j].items()) best = std::max(best, logprob.get<double>());
      sum += own;
      greedy = greedy && own == best;
      EXPECT_LE(own, best);
    }
    const std::vector<Continuation> asked = {{ids, 3}};
    const ContinuationScore expected = scorer.score(asked)[0];
    EXPECT_NEAR(sum, expected.loglikelihood, 1e-3);
    EXPECT_EQ(greedy, expected.greedy);
    const std::string text = choice["text"];
    EXPECT_TRUE(text.starts_with(engine().decode(ids)));
  }
}

TEST(Serve, TheGeneratedEntryIsThereEvenWhenItEndsTheText) {
  const int32_t end = engine().internals().model->tokenizer->eos.front();
  OrderedJson body = {{"prompt", story()}, {"temperature", 0}, {"max_tokens", 1}, {"logprobs", 5}, {"echo", true}};
  body["logit_bias"] = {{std::to_string(end), 100}};
  const OrderedJson out = shared().post("/v1/completions", body);
  EXPECT_EQ(out["choices"][0]["logprobs"]["token_logprobs"].size(), story().size() + 1);
  EXPECT_EQ(out["choices"][0]["logprobs"]["tokens"].back(), "<|endoftext|>");
  EXPECT_EQ(out["choices"][0]["text"], engine().decode(story())) << "and has no text";
  EXPECT_EQ(out["choices"][0]["finish_reason"], "stop");
  body["max_tokens"] = 0;
  EXPECT_EQ(shared().post("/v1/completions", body)["choices"][0]["logprobs"]["tokens"].size(), story().size());
}

TEST(Serve, AStreamIsTheSameInParts) {
  OrderedJson body = {{"prompt", "Once upon a time"},
                      {"max_tokens", 20},
                      {"temperature", 0.8},
                      {"seed", 7},
                      {"logprobs", 2},
                      {"stop", {"zebra"}},
                      {"echo", true}};
  const OrderedJson whole = shared().post("/v1/completions", body);
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  const HttpAnswer answer = shared().call("POST", "/v1/completions", body);
  EXPECT_EQ(answer.headers.at("content-type"), "text/event-stream");
  std::vector<std::string> events = answer.events();
  ASSERT_GT(events.size(), 5u);
  EXPECT_EQ(events.back(), "[DONE]");
  events.pop_back();
  std::string text;
  OrderedJson tokens = OrderedJson::array(), offsets = tokens, usage;
  for (const std::string& event : events) {
    const OrderedJson json = parse_ordered_json(event, "event");
    ASSERT_TRUE(json.contains("usage"));
    EXPECT_EQ(json["usage"].is_null(), &event != &events.back());
    usage = json["usage"];
    for (const OrderedJson& choice : json["choices"]) {
      text += choice["text"].get<std::string>();
      if (choice["logprobs"].is_null()) continue;
      for (const auto& t : choice["logprobs"]["tokens"]) tokens.push_back(t);
      for (const auto& t : choice["logprobs"]["text_offset"]) offsets.push_back(t);
    }
  }
  EXPECT_EQ(text, whole["choices"][0]["text"]);
  EXPECT_EQ(tokens, whole["choices"][0]["logprobs"]["tokens"]);
  EXPECT_EQ(offsets, whole["choices"][0]["logprobs"]["text_offset"]);
  EXPECT_EQ(usage["completion_tokens"], whole["usage"]["completion_tokens"]);
}

/// Each answer's prompt comes before what was written after it, whoever is ready first.
TEST(Serve, StreamedPromptsComeFirst) {
  OrderedJson body = {{"prompt", {story(), std::vector<int>(300, 5), "a"}},
                      {"n", 2},
                      {"max_tokens", 6},
                      {"seed", 3},
                      {"temperature", 1},
                      {"logprobs", 3},
                      {"echo", true}};
  const OrderedJson whole = shared().post("/v1/completions", body);
  body["stream"] = true;
  std::vector<std::string> texts(6);
  std::vector<OrderedJson> tokens(6, OrderedJson::array());
  for (const std::string& event : shared().call("POST", "/v1/completions", body).events()) {
    if (event == "[DONE]") break;
    const OrderedJson choice = parse_ordered_json(event, "event")["choices"][0];
    const size_t i = choice["index"];
    texts[i] += choice["text"].get<std::string>();
    if (!choice["logprobs"].is_null())
      for (const auto& t : choice["logprobs"]["tokens"]) tokens[i].push_back(t);
  }
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(texts[i], whole["choices"][i]["text"]) << i;
    EXPECT_EQ(tokens[i], whole["choices"][i]["logprobs"]["tokens"]) << i;
  }
}

TEST(Serve, SeveralAnswersAndPrompts) {
  const OrderedJson out =
      shared().post("/v1/completions", {{"prompt", {"The cat", "The dog"}}, {"n", 2}, {"seed", 3}, {"max_tokens", 6}});
  ASSERT_EQ(out["choices"].size(), 4u);
  EXPECT_NE(out["choices"][0]["text"], out["choices"][1]["text"]) << "each has its own draws";
  const OrderedJson alone = shared().post("/v1/completions", {{"prompt", "The dog"}, {"seed", 3}, {"max_tokens", 6}});
  EXPECT_EQ(alone["choices"][0]["text"], out["choices"][2]["text"]) << "whatever else runs";
}

TEST(Serve, StopStrings) {
  OrderedJson body = {{"prompt", story()}, {"max_tokens", 40}, {"temperature", 0}};
  const std::string text = shared().post("/v1/completions", body)["choices"][0]["text"];
  const std::string stop = text.substr(text.size() / 2, 5);
  body["stop"] = stop;
  const OrderedJson out = shared().post("/v1/completions", body);
  EXPECT_EQ(out["choices"][0]["text"], text.substr(0, text.find(stop)));
  EXPECT_EQ(out["choices"][0]["finish_reason"], "stop");
}

TEST(Serve, TheSecondTurnReadsOnlyWhatIsNew) {
  const std::string filler = "Tell me about the fox and the owl and the river and the stone. ";
  OrderedJson messages = {{{"role", "user"}, {"content", filler + filler}}};
  OrderedJson body = {{"messages", messages}, {"max_tokens", 12}, {"temperature", 0}};
  const OrderedJson first = shared().post("/v1/chat/completions", body);
  EXPECT_EQ(first["object"], "chat.completion");
  EXPECT_EQ(first["choices"][0]["message"]["role"], "assistant");
  messages.push_back({{"role", "assistant"}, {"content", first["choices"][0]["message"]["content"]}});
  messages.push_back({{"role", "user"}, {"content", "And then?"}});
  body["messages"] = messages;
  const OrderedJson second = shared().post("/v1/chat/completions", body);
  EXPECT_GE(second["usage"]["prompt_tokens_details"]["cached_tokens"], first["usage"]["prompt_tokens"].get<int>() - 8);
  body["cache_prompt"] = false;
  const OrderedJson cold = shared().post("/v1/chat/completions", body);
  EXPECT_EQ(cold["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
  EXPECT_EQ(cold["choices"][0]["message"]["content"], second["choices"][0]["message"]["content"]) << "to the same end";
}

// An answer of one token may be complete before the thread that took the request goes on, when others want its core.
TEST(Serve, ShortStreamsAreWhole) {
  std::vector<std::jthread> busy;
  for (int i = 0; i < 4; ++i)
    busy.emplace_back([](const std::stop_token& enough) {
      while (!enough.stop_requested()) {
      }
    });
  for (int i = 0; i < qwerky::testing::repetitions(1500, 200); ++i) {
    const std::vector<std::string> events =
        shared().call("POST", "/v1/completions", {{"prompt", "Once"}, {"max_tokens", 1}, {"stream", true}}).events();
    ASSERT_GE(events.size(), 2u) << "stream " << i;
    ASSERT_EQ(events.back(), "[DONE]");
  }
}

TEST(Serve, AChatStreamEndsWithDone) {
  const std::vector<std::string> events =
      shared()
          .call("POST", "/v1/chat/completions",
                {{"messages", {{{"role", "user"}, {"content", "Hello"}}}}, {"max_tokens", 5}, {"stream", true}})
          .events();
  ASSERT_GE(events.size(), 3u);
  const OrderedJson first = parse_ordered_json(events[0], "event");
  EXPECT_EQ(first["object"], "chat.completion.chunk");
  EXPECT_EQ(first["choices"][0]["delta"]["role"], "assistant");
  EXPECT_EQ(events.back(), "[DONE]");
  const OrderedJson last = parse_ordered_json(events[events.size() - 2], "event");
  EXPECT_TRUE(last["choices"][0]["finish_reason"].is_string());
  EXPECT_GT(last["timings"]["state_bytes"], 0);
}

TEST(Serve, AnAnswerThatMustBeJson) {
  const OrderedJson schema = {{"type", "object"},
                              {"properties", {{"name", {{"enum", {"fox", "owl"}}}}, {"age", {{"enum", {3, 5}}}}}},
                              {"required", {"name", "age"}},
                              {"additionalProperties", false}};
  OrderedJson body = {
      {"messages", {{{"role", "user"}, {"content", "Who lives there?"}}}}, {"max_tokens", 800}, {"seed", 5}};
  body["response_format"] = {{"type", "json_schema"}, {"json_schema", {{"name", "x"}, {"schema", schema}}}};
  const OrderedJson out = shared().post("/v1/chat/completions", body);
  EXPECT_EQ(out["choices"][0]["finish_reason"], "stop");
  const OrderedJson answer = parse_ordered_json(out["choices"][0]["message"]["content"].get<std::string>(), "answer");
  EXPECT_TRUE(answer["name"] == "fox" || answer["name"] == "owl") << answer;
  EXPECT_TRUE(answer["age"] == 3 || answer["age"] == 5) << answer;
  body["response_format"]["json_schema"]["schema"] = {{"type", "colour"}};
  const HttpAnswer refused = shared().call("POST", "/v1/chat/completions", body);
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(refused.json()["error"]["param"], "response_format");
  std::string letters;
  for (int i = 0; i < 1000; ++i) letters += "[a-z]?";
  body["response_format"]["json_schema"]["schema"] = {{"type", "string"}, {"pattern", "^" + letters + "$"}};
  const HttpAnswer ambiguous = shared().call("POST", "/v1/chat/completions", body);
  EXPECT_EQ(ambiguous.status, 400);
  EXPECT_EQ(ambiguous.json()["error"]["code"], "schema_too_ambiguous");
}

OrderedJson tool(const std::string& name, const OrderedJson& properties) {
  OrderedJson required = OrderedJson::array();
  for (const auto& [key, schema] : properties.items()) required.push_back(key);
  return {{"type", "function"},
          {"function",
           {{"name", name}, {"parameters", {{"type", "object"}, {"properties", properties}, {"required", required}}}}}};
}

/// A template with calls as Qwen's or Llama 3's; `source` is what tells them apart.
ServedModelOptions calling_model(const std::string& source) {
  ServedModelOptions out = model_options();
  out.chat_template = std::string(kTemplate) + "{#" + source + "#}";
  return out;
}

/// Names of the calls, each with arguments that satisfy the schemas of `tools`.
std::vector<std::string> names_of_calls(const OrderedJson& calls) {
  std::vector<std::string> names;
  for (const OrderedJson& call : calls) {
    const OrderedJson arguments = parse_ordered_json(call["function"]["arguments"].get<std::string>(), "arguments");
    names.push_back(call["function"]["name"]);
    if (names.back() == "find") {
      EXPECT_TRUE(arguments.size() == 1 && (arguments["animal"] == "fox" || arguments["animal"] == "owl")) << arguments;
    } else {
      EXPECT_TRUE(arguments.size() == 1 && arguments["steps"].is_number_integer()) << arguments;
    }
  }
  return names;
}

TEST(Serve, AToolThatMustBeCalled) {
  for (const char* source : {"<tool_call>", "ipython \"parameters\""}) {
    SCOPED_TRACE(source);
    const Running running({}, {calling_model(source)});
    OrderedJson body = {
        {"messages", {{{"role", "user"}, {"content", "Who lives there?"}}}}, {"max_tokens", 900}, {"seed", 5}};
    body["tools"] = {tool("find", {{"animal", {{"enum", {"fox", "owl"}}}}}),
                     tool("walk", {{"steps", {{"type", "integer"}, {"minimum", 1}, {"maximum", 9}}}})};
    body["parallel_tool_calls"] = false;
    for (const char* name : {"find", "walk"}) {
      body["tool_choice"] = {{"type", "function"}, {"function", {{"name", name}}}};
      const OrderedJson choice = running.post("/v1/chat/completions", body)["choices"][0];
      EXPECT_EQ(names_of_calls(choice["message"]["tool_calls"]), std::vector<std::string>{name});
      EXPECT_TRUE(choice["message"]["content"].is_null()) << choice;
      EXPECT_EQ(choice["finish_reason"], "tool_calls");
    }
    body["tool_choice"] = "required";
    for (int seed = 0; seed < 4; ++seed) {
      body["seed"] = seed;
      const OrderedJson choice = running.post("/v1/chat/completions", body)["choices"][0];
      EXPECT_EQ(names_of_calls(choice["message"]["tool_calls"]).size(), 1u);
    }
    body["stream"] = true;
    OrderedJson calls = OrderedJson::array();
    std::string text;
    for (const std::string& event : running.call("POST", "/v1/chat/completions", body).events()) {
      if (event == "[DONE]") continue;
      const OrderedJson delta = parse_ordered_json(event, "event")["choices"][0]["delta"];
      if (delta.contains("tool_calls")) calls.push_back(delta["tool_calls"][0]);
      if (delta.contains("content")) text += delta["content"].get<std::string>();
    }
    EXPECT_EQ(names_of_calls(calls).size(), 1u);
    EXPECT_EQ(text, "");
  }
}

TEST(Serve, SeveralToolsMayBeCalled) {
  const Running running({}, {calling_model("<tool_call>")});
  OrderedJson body = {{"messages", {{{"role", "user"}, {"content", "Who lives there?"}}}},
                      {"max_tokens", 900},
                      {"tool_choice", "required"},
                      {"tools", OrderedJson::array({tool("find", {{"animal", {{"enum", {"fox", "owl"}}}}})})}};
  size_t most = 0;
  for (int seed = 0; seed < 8; ++seed) {
    body["seed"] = seed;
    const OrderedJson choice = running.post("/v1/chat/completions", body)["choices"][0];
    const auto names = names_of_calls(choice["message"]["tool_calls"]);
    EXPECT_GE(names.size(), 1u);
    most = std::max(most, names.size());
  }
  EXPECT_GT(most, 1u);
  body["tools"][0]["function"]["parameters"]["properties"]["animal"] = {{"type", "colour"}};
  const HttpAnswer refused = running.call("POST", "/v1/chat/completions", body);
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(refused.json()["error"]["param"], "tools");
  // Where the model chooses, a strict tool needs a schema that can be enforced, others do not.
  body.erase("tool_choice");
  body["max_tokens"] = 1;
  EXPECT_EQ(running.call("POST", "/v1/chat/completions", body).status, 200);
  body["tools"][0]["function"]["strict"] = true;
  EXPECT_EQ(running.call("POST", "/v1/chat/completions", body).json()["error"]["param"], "tools");
}

TEST(Serve, ThePageMayRunWhatItIsServedWithAlone) {
  const HttpAnswer page = shared().call("GET", "/");
  const std::string policy = page.headers.at("content-security-policy");
  EXPECT_EQ(policy, content_policy(page.body));
  EXPECT_EQ(policy.find("unsafe"), policy.npos) << policy;
  for (const char* tag : {"<style", "<script"}) {
    const size_t at = page.body.find(tag);
    ASSERT_NE(at, page.body.npos);
    EXPECT_EQ(page.body[at + std::strlen(tag)], '>') << "with attributes it would have no hash";
    EXPECT_EQ(page.body.find(tag, at + 1), page.body.npos);
  }
}

TEST(Serve, KeysGuardAllButHealthAndThePage) {
  ServerOptions options;
  options.keys = ApiKeys("key-of-the-first-user\nkey-of-the-other-user\n", "k");
  const Running running(options);
  const std::string first = "Authorization: Bearer key-of-the-first-user\r\n",
                    other = "Authorization: Bearer key-of-the-other-user\r\n";
  EXPECT_EQ(running.call("GET", "/health").status, 200);
  EXPECT_EQ(running.call("GET", "/").status, 200);
  for (const char* path : {"/metrics", "/v1/models", "/tokenizer_info", "/state", "/nowhere"}) {
    const HttpAnswer answer = running.call("GET", path);
    EXPECT_EQ(answer.status, 401) << path;
    EXPECT_EQ(answer.json()["error"]["type"], "authentication_error");
    EXPECT_EQ(answer.headers.at("www-authenticate"), "Bearer");
  }
  for (const char* path :
       {"/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/state", "/tokenize", "/detokenize"}) {
    EXPECT_EQ(running.call("POST", path, OrderedJson::object()).status, 401) << path;
    EXPECT_EQ(running.call("POST", path, OrderedJson::object(), "Authorization: Bearer key-of-the-first\r\n").status,
              401)
        << path;
  }
  EXPECT_EQ(running.call("GET", "/v1/models", {}, first).status, 200);
  const OrderedJson save = {{"action", "save"}, {"name", "mine"}, {"prompt", story()}};
  EXPECT_EQ(running.call("POST", "/state", save, first).status, 200);
  EXPECT_EQ(running.call("GET", "/state", {}, first).json()["states"].size(), 1u);
  EXPECT_EQ(running.call("GET", "/state", {}, other).json()["states"].size(), 0u)
      << "one key's states are not another's";
  EXPECT_EQ(running.call("POST", "/v1/completions", {{"prompt", "a"}, {"state", "mine"}}, other).status, 404);
  const OrderedJson again = {{"prompt", story()}, {"max_tokens", 1}};
  EXPECT_EQ(
      running.call("POST", "/v1/completions", again, other).json()["usage"]["prompt_tokens_details"]["cached_tokens"],
      0)
      << "nor what it has read";
  EXPECT_GT(
      running.call("POST", "/v1/completions", again, first).json()["usage"]["prompt_tokens_details"]["cached_tokens"],
      0);
}

TEST(Serve, PagesOfTheWebStayOut) {
  EXPECT_EQ(shared().call("GET", "/v1/models", {}, "Origin: https://evil.example\r\n").status, 403);
  HttpClient rebound(shared().server.port());
  rebound.send("GET /v1/models HTTP/1.1\r\nHost: evil.example:80\r\n\r\n");
  EXPECT_EQ(rebound.read().status, 403);
  ServerOptions options;
  options.http.cors_origin = "https://a.example";
  const Running running(options);
  const HttpAnswer preflight = running.call("OPTIONS", "/v1/models", {}, "Origin: https://a.example\r\n");
  EXPECT_EQ(preflight.status, 204);
  EXPECT_FALSE(preflight.headers.contains("content-length"));
  EXPECT_EQ(preflight.headers.at("access-control-allow-origin"), "https://a.example");
  EXPECT_EQ(preflight.headers.at("access-control-allow-headers"), "Authorization, *");
}

TEST(Serve, WrongRequestsSayWhatIsWrong) {
  const auto refused = [&](const std::string& path, const OrderedJson& body) {
    const HttpAnswer answer = shared().call("POST", path, body);
    const OrderedJson error = answer.json()["error"];
    EXPECT_TRUE(error["message"].is_string() && error["type"] == "invalid_request_error") << answer.body;
    return std::to_string(answer.status) + " " + error["param"].dump() + " " + error["code"].dump();
  };
  EXPECT_EQ(refused("/v1/completions", {{"prompt", "a"}, {"wat", 1}}), "400 \"wat\" \"unknown_field\"");
  EXPECT_EQ(refused("/v1/completions", {{"prompt", "a"}, {"model", "gpt-4"}}), "404 \"model\" \"model_not_found\"");
  EXPECT_EQ(refused("/v1/completions", {{"prompt", {5000}}}), "400 \"prompt\" null");
  EXPECT_EQ(refused("/v1/completions", {{"prompt", "a"}, {"logit_bias", {{"5000", 1}}}}), "400 \"logit_bias\" null");
  EXPECT_EQ(refused("/v1/completions", {{"prompt", std::vector<int>(1024, 5)}, {"max_tokens", 10}}),
            "400 \"max_tokens\" \"context_length_exceeded\"");
  EXPECT_EQ(refused("/detokenize", {{"tokens", {{5, 6}, {7}}}}), "400 \"tokens\" null");
  EXPECT_EQ(refused("/detokenize", {{"tokens", "abc"}}), "400 \"tokens\" null");
  EXPECT_EQ(refused("/v1/completions", {{"prompt", "a"}, {"state", "none"}}), "404 \"state\" \"state_not_found\"");
  EXPECT_EQ(refused("/state", {{"action", "explode"}, {"name", "a"}}), "400 \"action\" null");
  EXPECT_EQ(refused("/nowhere", OrderedJson::object()), "404 null \"not_found\"");
  EXPECT_EQ(refused("/health", OrderedJson::object()), "405 null null");
  EXPECT_EQ(shared().call("POST", "/health").headers.at("allow"), "GET, HEAD, OPTIONS");
  EXPECT_EQ(shared().call("DELETE", "/state").headers.at("allow"), "GET, HEAD, POST, OPTIONS");
  HttpClient client(shared().server.port());
  client.request("POST", "/v1/completions", "{\"prompt\": \"a\"");
  EXPECT_EQ(client.read().status, 400);
  client.request("POST", "/v1/completions", std::string(100, '['));
  EXPECT_EQ(client.read().status, 400) << "nested too deep";
}

/// Characters that take a good while.
constexpr size_t kLarge = qwerky::testing::repetitions(6 << 20, 1 << 20);

TEST(Serve, LargeRequestsHoldUpNoSmallOnes) {
  const Running running;
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (int i = 0; i < 6; ++i) {
    clients.push_back(std::make_unique<HttpClient>(running.server.port()));
    clients.back()->request("POST", "/tokenize", OrderedJson({{"prompt", std::string(kLarge, 'a')}}).dump());
  }
  running.post("/tokenize", {{"prompt", "a"}});
  EXPECT_LT(running.metric("qwerky_requests_total{route=\"/tokenize\",status=\"200\"}"), 6)
      << "the small one and those that were done before it";
  clients.clear();
  running.until([&] { return running.answered("/tokenize", "499"); });
}

TEST(Serve, LargeRequestsOfOneKeyHoldUpNoOther) {
  ServerOptions options;
  options.keys = ApiKeys("key-of-the-first-user\nkey-of-the-other-user\n", "k");
  const Running running(options);
  const std::string first = "Authorization: Bearer key-of-the-first-user\r\n",
                    other = "Authorization: Bearer key-of-the-other-user\r\n";
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (int i = 0; i < 6; ++i) {
    clients.push_back(std::make_unique<HttpClient>(running.server.port()));
    clients.back()->request("POST", "/tokenize", OrderedJson({{"prompt", std::string(kLarge, 'a')}}).dump(), first);
  }
  EXPECT_EQ(running.call("POST", "/tokenize", {{"prompt", std::string(100 << 10, 'a')}}, other).status, 200);
  const std::string metrics = running.call("GET", "/metrics", {}, other).body,
                    line = "qwerky_requests_total{route=\"/tokenize\",status=\"200\"} ";
  EXPECT_LT(std::stod(metrics.substr(metrics.find(line) + line.size())), 7)
      << "its own, and those that were done before it";
}

TEST(Serve, AnswersTogetherAreBounded) {
  ServerOptions options;
  options.limits.prompt_tokens = 100;
  const Running running(options);
  const OrderedJson body = {{"prompt", std::vector<int>(26, 5)}, {"n", 4}, {"max_tokens", 1}};
  const HttpAnswer answer = running.call("POST", "/v1/completions", body);
  EXPECT_EQ(answer.status, 400);
  EXPECT_EQ(answer.json()["error"]["code"], "too_many_tokens");
  EXPECT_EQ(running.call("POST", "/v1/completions", {{"prompt", std::vector<int>(25, 5)}, {"n", 4}}).status, 200);
}

TEST(Serve, LogprobsOfARequestAreBounded) {
  ServerOptions options;
  options.limits.told_numbers = 240;
  const Running running(options);
  const auto code = [&](int prompt, int most, int n, int logprobs, bool echo) {
    const OrderedJson body = {{"prompt", std::vector<int>(static_cast<size_t>(prompt), 5)},
                              {"max_tokens", most},
                              {"n", n},
                              {"logprobs", logprobs},
                              {"echo", echo}};
    const HttpAnswer answer = running.call("POST", "/v1/completions", body);
    return answer.status == 200 ? "" : answer.json()["error"]["code"].get<std::string>();
  };
  EXPECT_EQ(code(8, 2, 1, 20, true), "");
  EXPECT_EQ(code(8, 3, 1, 20, true), "too_many_logprobs");
  EXPECT_EQ(code(8, 10, 1, 20, false), "");
  EXPECT_EQ(code(8, 6, 2, 20, false), "too_many_logprobs");
  EXPECT_EQ(code(40, 4, 1, 1, true), "");
  const OrderedJson chat = {
      {"messages", {{{"role", "user"}, {"content", "a"}}}}, {"logprobs", true}, {"max_tokens", 61}};
  EXPECT_EQ(running.call("POST", "/v1/chat/completions", chat).json()["error"]["code"], "too_many_logprobs");
}

TEST(Serve, AFullQueueSaysWhenToComeAgain) {
  ServedModelOptions model = model_options();
  model.batcher.parallel = 1;
  model.batcher.queue = 0;
  const Running running({}, {model});
  HttpClient busy(running.server.port());
  const OrderedJson endless = {
      {"prompt", "a"}, {"max_tokens", 1000}, {"stream", true}, {"logit_bias", {{"2047", -100}}}};
  busy.request("POST", "/v1/completions", endless.dump());
  ASSERT_TRUE(busy.read_until("data: "));
  const HttpAnswer answer = running.call("POST", "/v1/completions", {{"prompt", "b"}});
  EXPECT_EQ(answer.status, 429);
  EXPECT_EQ(answer.headers.at("retry-after"), "1");
  EXPECT_EQ(running.call("GET", "/health").status, 200);
  busy.close();
  running.until([&] {
    return running.call("POST", "/v1/completions", {{"prompt", "b"}, {"max_tokens", 1}}).status == 200;
  });
  EXPECT_LT(running.metric("qwerky_generated_tokens_total{model=\"m\"}"), 1000) << "who left is not written for";
  running.until([&] { return running.answered("/v1/completions", "499"); });
}

TEST(Serve, MoreAnswersThanEverFitAreRefusedForGood) {
  ServedModelOptions model = model_options();
  model.batcher.parallel = model.batcher.queue = 4;
  ServerOptions options;
  options.keys = ApiKeys("key-of-the-first-user\nkey-of-the-other-user\n", "k");
  const Running running(options, {model});
  const auto ask = [&](int n, const std::string& who) {
    return running.call("POST", "/v1/completions", {{"prompt", "a"}, {"n", n}, {"max_tokens", 1}},
                        "Authorization: Bearer key-of-the-" + who + "-user\r\n");
  };
  EXPECT_EQ(ask(4, "first").status, 200);
  const HttpAnswer refused = ask(5, "other");
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(refused.json()["error"]["code"], "too_many_answers");
}

TEST(Serve, ADeadlineEndsARequest) {
  ServerOptions options;
  options.timeout = 0.05;
  const Running running(options);
  const OrderedJson body = {{"prompt", "a"}, {"max_tokens", 1000}, {"logit_bias", {{"2047", -100}}}};
  const HttpAnswer answer = running.call("POST", "/v1/completions", body);
  EXPECT_EQ(answer.status, 504);
  EXPECT_EQ(answer.json()["error"]["code"], "deadline");
}

TEST(Serve, DrainFinishesWhatWasBegun) {
  Running running;
  HttpClient client(running.server.port());
  client.request(
      "POST", "/v1/completions",
      OrderedJson({{"prompt", "a"}, {"max_tokens", 100}, {"stream", true}, {"logit_bias", {{"2047", -100}}}}).dump());
  ASSERT_TRUE(client.read_until("data: "));
  running.server.drain(10);
  EXPECT_TRUE(client.read_to_end().find("data: [DONE]") != std::string::npos);
}

TEST(Serve, WhatArrivesDuringADrainIsToldSo) {
  ServedModelOptions model = model_options();
  model.batcher.parallel = 1;
  Running running({}, {model});
  HttpClient busy(running.server.port()), late(running.server.port());
  const OrderedJson endless = {
      {"prompt", "a"}, {"n", 64}, {"max_tokens", 1000}, {"stream", true}, {"logit_bias", {{"2047", -100}}}};
  busy.request("POST", "/v1/completions", endless.dump());
  ASSERT_TRUE(busy.read_until("data: "));
  late.send("POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 15\r\nExpect: 100-continue\r\n\r\n");
  ASSERT_TRUE(late.read_until("100 Continue\r\n\r\n"));
  std::thread drain([&] { running.server.drain(60); });
  running.until([&] { return running.call("GET", "/health").status == 503; });
  late.send(R"({"prompt": "a"})");
  const HttpAnswer answer = late.read();
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.json()["error"]["code"], "stopping");
  busy.close();
  late.close();
  drain.join();
}

TEST(Serve, DrainDoesNotWaitForEver) {
  Running running;
  HttpClient client(running.server.port());
  client.request(
      "POST", "/v1/completions",
      OrderedJson({{"prompt", "a"}, {"max_tokens", 1000}, {"stream", true}, {"logit_bias", {{"2047", -100}}}}).dump());
  ASSERT_TRUE(client.read_until("data: "));
  running.server.drain(0);
  const std::string rest = client.read_to_end();
  EXPECT_TRUE(rest.find("[DONE]") != rest.npos || rest.find("the server is stopping") != rest.npos) << rest;
}

TEST(Serve, TwoModelsByName) {
  const Running running({}, {model_options("student"), model_options("teacher")});
  const OrderedJson list = running.call("GET", "/v1/models").json();
  ASSERT_EQ(list["data"].size(), 2u);
  EXPECT_EQ(list["data"][1]["id"], "teacher");
  const OrderedJson out = running.post("/v1/completions", {{"model", "teacher"}, {"prompt", "a"}, {"max_tokens", 1}});
  EXPECT_EQ(out["model"], "teacher");
  EXPECT_EQ(running.post("/v1/completions", {{"prompt", "a"}, {"max_tokens", 1}})["model"], "student");
  EXPECT_EQ(running.metric("qwerky_generated_tokens_total{model=\"teacher\"}"), 1);
  running.post("/state", {{"action", "save"}, {"name", "a"}, {"prompt", story()}});
  running.post("/state", {{"action", "save"}, {"name", "b"}, {"prompt", story()}, {"model", "teacher"}});
  EXPECT_EQ(running.call("GET", "/state").json()["states"].dump(),
            R"([{"name":"a","model":"student"},{"name":"b","model":"teacher"}])");
}

TEST(Serve, OneModelByName) {
  const Running running({}, {model_options("a/b c")});
  const OrderedJson list = running.call("GET", "/v1/models").json();
  for (const char* path : {"/v1/models/a/b%20c", "/v1/models/a%2fb%20c"})
    EXPECT_EQ(running.call("GET", path).json(), list["data"][0]) << path;
  for (const char* path : {"/v1/models/a%2", "/v1/models/a%zzb", "/v1/models/none"}) {
    const HttpAnswer none = running.call("GET", path);
    EXPECT_EQ(none.status, 404);
    EXPECT_EQ(none.json()["error"]["code"], "model_not_found") << path;
  }
  EXPECT_EQ(running.call("GET", "/v1/models/").json()["error"]["code"], "not_found");
  EXPECT_EQ(running.call("POST", "/v1/models/none").status, 405);
  EXPECT_EQ(running.metric("qwerky_requests_total{route=\"/v1/models/\",status=\"404\"}"), 3) << "no name of theirs";
}

TEST(Serve, HeadTellsWhatGetWould) {
  const auto head = [](const std::string& path) {
    HttpClient client(shared().server.port());
    client.send("HEAD " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    return client.read_to_end();
  };
  for (const char* path : {"/", "/health", "/metrics", "/v1/models", "/state", "/tokenizer_info"}) {
    const std::string all = head(path);
    EXPECT_TRUE(all.starts_with("HTTP/1.1 200 OK\r\n") && all.ends_with("\r\n\r\n")) << path << ": " << all;
  }
  EXPECT_TRUE(head("/tokenize").starts_with("HTTP/1.1 405 "));
}

/// Parts of it are written apart.
TEST(Serve, AnswersAreJsonInOneForm) {
  const auto in_form = [](const std::string& text) { return parse_ordered_json(text, "answer").dump() == text; };
  OrderedJson completion = {{"prompt", "A fox \xF0\x9F\xA6\x8A"}, {"max_tokens", 6}, {"n", 2}};
  OrderedJson chat = {
      {"messages", {{{"role", "user"}, {"content", "Hello"}}}}, {"max_tokens", 6}, {"save_state", "form"}};
  for (const int logprobs : {-1, 0, 3}) {
    if (logprobs >= 0) completion["logprobs"] = chat["top_logprobs"] = logprobs, chat["logprobs"] = true;
    for (const bool stream : {false, true})
      for (auto* body : {&completion, &chat}) {
        (*body)["stream"] = stream;
        if (stream) (*body)["stream_options"] = {{"include_usage", logprobs == 0}};
        if (!stream) body->erase("stream_options");
        completion["echo"] = logprobs == 3;
        const HttpAnswer answer =
            shared().call("POST", body == &chat ? "/v1/chat/completions" : "/v1/completions", *body);
        ASSERT_EQ(answer.status, 200) << answer.body;
        EXPECT_TRUE(stream || in_form(answer.body)) << answer.body;
        for (const std::string& event : answer.events()) EXPECT_TRUE(event == "[DONE]" || in_form(event)) << event;
      }
  }
}

TEST(Serve, WhatThrowsHasItsStatus) {
  const auto status = [](const auto& thrown) {
    const auto error = error_of([&] { throw thrown; }, 400);
    return error ? error->status : 0;
  };
  EXPECT_EQ(status(RequestError(404, "a")), 404);
  EXPECT_EQ(status(Error("a")), 400);
  EXPECT_EQ(status(std::bad_alloc()), 503);
  EXPECT_EQ(status(std::runtime_error("a")), 500);
  EXPECT_FALSE(error_of([] {}));
}

TEST(Serve, TheTokenizerOverTheWire) {
  const std::string text = "Once upon a time. \xF0\x9F\xA6\x8A";
  const OrderedJson ids = shared().post("/tokenize", {{"prompt", text}, {"add_special_tokens", false}});
  EXPECT_EQ(ids["tokens"], engine().encode(text));
  EXPECT_EQ(shared().post("/detokenize", {{"tokens", ids["tokens"]}})["prompt"], text);
  const OrderedJson info = shared().call("GET", "/tokenizer_info").json();
  EXPECT_EQ(info["eos_token"], "<|endoftext|>");
  EXPECT_TRUE(info["bos_token"].is_null());
  EXPECT_EQ(info["chat_template"], kTemplate);
}

TEST(Serve, Embeddings) {
  const OrderedJson out = shared().post("/v1/embeddings", {{"input", {"The cat", "The cat", "A river of stones"}}});
  const auto vector = [&](size_t i) { return out["data"][i]["embedding"].get<std::vector<double>>(); };
  ASSERT_EQ(vector(0).size(), 128u);
  double square = 0, alike = 0;
  for (size_t i = 0; i < 128; ++i) square += vector(0)[i] * vector(0)[i], alike += vector(0)[i] * vector(2)[i];
  EXPECT_NEAR(square, 1, 1e-5);
  EXPECT_EQ(vector(0), vector(1));
  EXPECT_LT(alike, 0.999);
  const OrderedJson packed = shared().post("/v1/embeddings", {{"input", "The cat"}, {"encoding_format", "base64"}});
  EXPECT_EQ(packed["data"][0]["embedding"].get<std::string>().size(), (128 * 4 + 2) / 3 * 4u);
  const HttpAnswer foreign = shared().call("POST", "/v1/embeddings", {{"input", {99999}}});
  EXPECT_EQ(foreign.status, 400);
  EXPECT_EQ(foreign.json()["error"]["param"], "input");
}

/// Takes a while: 32 texts as long as may be.
OrderedJson long_embedding() { return {{"input", std::vector<std::vector<int>>(32, std::vector<int>(1024, 5))}}; }

/// Clients that ask for such, when several of them wait.
std::vector<std::unique_ptr<HttpClient>> waiting_for_embeddings(const Running& running) {
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (int i = 0; i < 24; ++i) {
    clients.push_back(std::make_unique<HttpClient>(running.server.port()));
    clients.back()->request("POST", "/v1/embeddings", long_embedding().dump());
  }
  running.until([&] { return running.metric("qwerky_embeddings_waiting") > 4; });
  return clients;
}

TEST(Serve, EmbeddingsEndAtTheDeadline) {
  ServerOptions options;
  options.timeout = 0.01;
  const Running running(options);
  const HttpAnswer answer = running.call("POST", "/v1/embeddings", long_embedding());
  EXPECT_EQ(answer.status, 504);
  EXPECT_EQ(answer.json()["error"]["code"], "deadline");
}

TEST(Serve, NothingIsEmbeddedForWhoHasLeft) {
  const Running running;
  waiting_for_embeddings(running).clear();
  running.until([&] { return running.metric("qwerky_embeddings_waiting") == 0; });
  EXPECT_TRUE(running.answered("/v1/embeddings", "499"));
}

TEST(Serve, DrainEndsEmbeddings) {
  Running running;
  const auto clients = waiting_for_embeddings(running);
  running.server.drain(0);
  int stopped = 0;
  for (const auto& client : clients) stopped += client->read().status == 503 ? 1 : 0;
  EXPECT_GT(stopped, 0);
}

}  // namespace
}  // namespace qwerky::serve
