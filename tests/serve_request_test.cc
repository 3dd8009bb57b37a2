// SPDX-License-Identifier: MIT
// Requests as they are read: what is taken, what is refused and how it is named; who may ask.
#include <gtest/gtest.h>

#include "io/files.h"
#include "serve/admission.h"
#include "serve/openai_request.h"

namespace qwerky::serve {
namespace {

const RequestLimits kLimits;

CompletionRequest completion(const std::string& json) {
  return read_completion(parse_ordered_json(json, "t"), kLimits);
}
ChatRequest chat(const std::string& json) { return read_chat(parse_ordered_json(json, "t"), kLimits); }

/// The field that is to blame.
template <class Read>
std::string blamed(const Read& read, const std::string& json) {
  try {
    read(json);
  } catch (const RequestError& e) {
    EXPECT_EQ(e.status, 400) << json;
    EXPECT_NE(std::string(e.what()).find(e.param.substr(0, e.param.find_first_of("[."))), std::string::npos)
        << e.what();
    return e.param;
  }
  return "none";
}

TEST(Completion, AsLmEvalSendsIt) {
  const CompletionRequest r = completion(
      R"({"model": "m", "prompt": [[1, 2, 3], [4]], "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": true})");
  EXPECT_EQ(r.model, "m");
  ASSERT_EQ(r.prompts.size(), 2u);
  EXPECT_EQ(std::get<std::vector<int32_t>>(r.prompts[0]), (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(r.sampler.temperature, 0);
  EXPECT_EQ(r.max_tokens, 1);
  EXPECT_EQ(r.logprobs, 1);
  EXPECT_EQ(r.seed, 1234u);
  EXPECT_TRUE(r.echo);
}

TEST(Completion, Prompts) {
  EXPECT_EQ(completion(R"({"prompt": "a"})").prompts.size(), 1u);
  EXPECT_EQ(std::get<std::string>(completion(R"({"prompt": ["a", "b"]})").prompts[1]), "b");
  EXPECT_EQ(std::get<std::vector<int32_t>>(completion(R"({"prompt": [5, 6]})").prompts[0]),
            (std::vector<int32_t>{5, 6}));
  for (const char* bad : {"{}", R"({"prompt": []})", R"({"prompt": 3})", R"({"prompt": [1, "a"]})",
                          R"({"prompt": [-1]})", R"({"prompt": [1.5]})", R"({"prompt": [[1], 2]})",
                          R"({"prompt": [99999999999]})", R"({"prompt": null})", R"({"prompt": {"a": 1}})"})
    EXPECT_EQ(blamed(completion, bad), "prompt") << bad;
}

TEST(Completion, DefaultsAreOpenAIs) {
  const CompletionRequest r =
      completion(R"({"prompt": "a", "stop": null, "user": "u", "n": 1, "best_of": 1, "suffix": null})");
  EXPECT_EQ(r.sampler.temperature, 1);
  EXPECT_EQ(r.sampler.top_p, 1);
  EXPECT_FALSE(r.max_tokens);
  EXPECT_FALSE(r.seed);
  EXPECT_EQ(r.logprobs, -1);
  EXPECT_FALSE(r.stream);
}

TEST(Completion, EveryFieldHasARange) {
  const std::vector<std::pair<std::string, std::string>> cases = {{"temperature", "-0.1"},
                                                                  {"temperature", "\"hot\""},
                                                                  {"top_p", "1.01"},
                                                                  {"top_k", "-1"},
                                                                  {"min_p", "2"},
                                                                  {"typical_p", "-1"},
                                                                  {"presence_penalty", "2.5"},
                                                                  {"frequency_penalty", "-3"},
                                                                  {"repetition_penalty", "0"},
                                                                  {"penalty_window", "-1"},
                                                                  {"dry_multiplier", "-1"},
                                                                  {"dry_base", "0"},
                                                                  {"dry_allowed_length", "0"},
                                                                  {"dry_sequence_breakers", "[1]"},
                                                                  {"dry_sequence_breakers", "[\"a\", \"\"]"},
                                                                  {"xtc_probability", "1.5"},
                                                                  {"xtc_threshold", "-1"},
                                                                  {"mirostat", "1"},
                                                                  {"mirostat_tau", "-1"},
                                                                  {"mirostat_eta", "2"},
                                                                  {"seed", "1.5"},
                                                                  {"max_tokens", "-1"},
                                                                  {"max_tokens", "1e12"},
                                                                  {"logprobs", "21"},
                                                                  {"logprobs", "true"},
                                                                  {"n", "0"},
                                                                  {"n", "1000"},
                                                                  {"best_of", "3"},
                                                                  {"stream", "1"},
                                                                  {"echo", "\"yes\""},
                                                                  {"logit_bias", "{\"5\": 101}"},
                                                                  {"logit_bias", "{\"x\": 1}"},
                                                                  {"logit_bias", "[]"},
                                                                  {"stop", "[\"\"]"},
                                                                  {"stop", "7"},
                                                                  {"suffix", "\"x\""},
                                                                  {"state", "\"../x\""},
                                                                  {"state", "\".x\""},
                                                                  {"state", "\"\""},
                                                                  {"save_state", "\"\""},
                                                                  {"save_state", "\"a b\""},
                                                                  {"stream_options", "{\"include_usage\": true}"},
                                                                  {"cache_prompt", "0"},
                                                                  {"response_format", "\"json\""},
                                                                  {"model", "3"}};
  for (const auto& [name, value] : cases) {
    const std::string found = blamed(completion, R"({"prompt": "a", ")" + name + "\": " + value + "}");
    EXPECT_TRUE(found.starts_with(name)) << name << ": " << value << " blamed on " << found;
  }
}

TEST(Completion, WhatIsNotKnownIsRefusedByName) {
  EXPECT_EQ(blamed(completion, R"({"prompt": "a", "guided_regex": "x"})"), "guided_regex");
  EXPECT_EQ(blamed(completion, R"({"prompt": "a", "messages": []})"), "messages");
  EXPECT_EQ(blamed(completion, R"({"prompt": "a", "stream": true, "stream_options": {"x": 1}})"), "stream_options.x");
  EXPECT_EQ(blamed(completion, R"({"prompt": "a", "state": "s", "echo": true})"), "echo");
  EXPECT_EQ(blamed(completion, R"({"prompt": ["a", "b"], "save_state": "s"})"), "save_state");
  EXPECT_THROW(completion("[]"), RequestError);
}

TEST(Chat, Messages) {
  const ChatRequest r = chat(R"({"messages": [
      {"role": "developer", "content": "Be brief."},
      {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
      {"role": "assistant", "content": null, "refusal": null, "annotations": [],
       "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"z\": 1, \"a\": 2}"}}]},
      {"role": "tool", "tool_call_id": "1", "content": "7"}]})");
  EXPECT_EQ(r.messages[0]["role"], "system");
  EXPECT_EQ(r.messages[1]["content"], "ab");
  EXPECT_EQ(r.messages[2]["content"], "");
  EXPECT_EQ(r.messages[2]["tool_calls"][0]["function"]["arguments"].dump(), R"({"z":1,"a":2})") << "in their order";
  EXPECT_EQ(r.messages[3]["tool_call_id"], "1");
}

TEST(Chat, RefusalsNameThePlace) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({})", "messages"},
      {R"({"messages": []})", "messages"},
      {R"({"messages": [{"role": "robot", "content": "a"}]})", "messages[0].role"},
      {R"({"messages": [{"role": "user"}]})", "messages[0].content"},
      {R"({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]})",
       "messages[0].content"},
      {R"({"messages": [{"role": "user", "content": "a", "mood": 1}]})", "messages[0].mood"},
      {R"({"messages": [{"role": "user", "content": "a"}], "top_logprobs": 2})", "top_logprobs"},
      {R"({"messages": [{"role": "user", "content": "a"}], "logprobs": 2})", "logprobs"},
      {R"({"messages": [{"role": "user", "content": "a"}], "max_tokens": 1, "max_completion_tokens": 1})",
       "max_completion_tokens"},
      {R"({"messages": [{"role": "user", "content": "a"}], "tool_choice": "required"})", "tool_choice"},
      {R"({"messages": [{"role": "user", "content": "a"}], "tool_choice": "required", "tools": []})", "tool_choice"},
      {R"({"messages": [{"role": "user", "content": "a"}], "tool_choice": "always"})", "tool_choice"},
      {R"({"messages": [{"role": "user", "content": "a"}], "tool_choice": {"type": "allowed_tools"}})",
       "tool_choice.type"},
      {R"({"messages": [{"role": "user", "content": "a"}], "tool_choice": {"type": "function", "name": "f"}})",
       "tool_choice.function"},
      {R"({"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function", "function": {"name": "f"}}],
           "tool_choice": {"type": "function", "function": {"name": "g"}}})",
       "tool_choice.function.name"},
      {R"({"messages": [{"role": "user", "content": "a"}], "tool_choice": "required",
           "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}]})",
       "tools.function.parameters"},
      {R"({"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function"}]})", "tools.function"},
      {R"({"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "browser"}]})", "tools.type"},
      {R"({"messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": {"messages": []}})",
       "chat_template_kwargs"},
      {R"({"messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": {"add_generation_prompt": false}})",
       "chat_template_kwargs"},
      {R"({"messages": [{"role": "user", "content": "a"}], "response_format": {"type": "xml"}})",
       "response_format.type"},
      {R"({"messages": [{"role": "user", "content": "a"}], "response_format": {"type": "json_schema"}})",
       "response_format.json_schema"},
      {R"({"messages": [{"role": "user", "content": "a"}], "reasoning_effort": "high"})", "reasoning_effort"}};
  for (const auto& [json, field] : cases) EXPECT_EQ(blamed(chat, json), field) << json;
}

TEST(Chat, ToolsAndSwitchesReachTheTemplate) {
  const ChatRequest r = chat(R"({"messages": [{"role": "user", "content": "a"}], "parallel_tool_calls": false,
      "chat_template_kwargs": {"enable_thinking": false},
      "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "a": 1}}}]})");
  EXPECT_TRUE(r.tools);
  EXPECT_TRUE(r.one_tool_call);
  EXPECT_EQ(r.variables["enable_thinking"], false);
  EXPECT_EQ(r.variables["tools"][0]["function"]["parameters"].dump(), R"({"type":"object","a":1})");
  EXPECT_FALSE(chat(R"({"messages": [{"role": "user", "content": "a"}], "tool_choice": "none",
      "tools": [{"type": "function", "function": {"name": "f"}}]})")
                   .tools);
}

TEST(Chat, ACallCanBeAskedFor) {
  const auto read = [](const std::string& choice) {
    return chat(R"({"messages": [{"role": "user", "content": "a"}], "tools": [
      {"type": "function", "function": {"name": "f"}},
      {"type": "function", "function": {"name": "g", "parameters": {"properties": {"a": {"type": "null"}}}}}],
      "tool_choice": )" +
                choice + "}");
  };
  EXPECT_TRUE(read(R"("auto")").must_call.empty());
  const ChatRequest any = read(R"("required")");
  ASSERT_EQ(any.must_call.size(), 2u);
  EXPECT_FALSE(any.one_tool_call);
  EXPECT_EQ(any.must_call[0].schema.dump(), R"({"type":"object","properties":{}})") << "no parameters";
  const ChatRequest one = read(R"({"type": "function", "function": {"name": "g"}})");
  ASSERT_EQ(one.must_call.size(), 1u);
  EXPECT_TRUE(one.one_tool_call);
  EXPECT_EQ(one.must_call[0].name, "g");
  EXPECT_EQ(one.must_call[0].schema["type"], "object");
  EXPECT_EQ(one.variables["tools"].size(), 2u) << "the model sees all of them";
}

TEST(Chat, ManyKeysInOneObjectAreRefused) {
  std::string json = R"({"messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": {)";
  for (int i = 0; i < 1025; ++i) json += (i ? "," : "") + std::string("\"k") + std::to_string(i) + "\":0";
  EXPECT_THROW(parse_ordered_json(json + "}}", "t"), Error);
}

TEST(ApiKeys, OwnersAreToldApartAndGiveNothingAway) {
  const ApiKeys keys("# team\nfirst-key-0123456789\r\n\nsecond-key-0123456789\n", "keys.txt");
  const auto first = keys.owner("Bearer first-key-0123456789"), second = keys.owner("bearer second-key-0123456789");
  ASSERT_TRUE(first && second);
  EXPECT_NE(*first, *second);
  EXPECT_EQ(first->find("first"), std::string::npos);
  for (const char* wrong : {"", "Bearer", "Bearer ", "first-key-0123456789", "Bearer first-key-012345678",
                            "Basic first-key-0123456789", "Bearer first-key-0123456789 ", "Bearer # team"})
    EXPECT_FALSE(keys.owner(wrong)) << wrong;
  EXPECT_EQ(ApiKeys().owner("Bearer anything"), "anyone");
}

TEST(ApiKeys, AFileIsRead) {
  const auto refused = [](const std::string& text) {
    try {
      ApiKeys(text, "k");
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_EQ(refused("# none\n"), "k: holds no key");
  EXPECT_EQ(refused("\nshort\n"), "k, line 2: a key of 5 characters, expected at least 16");
  EXPECT_NE(refused("with a space 0123456789").find("line 1"), std::string::npos);
}

// Digests by `printf … | openssl dgst -sha256 -binary | base64`; that of alert also stands in the CSP recommendation.
TEST(Admission, ThePolicyNamesWhatThePageHolds) {
  const std::string policy =
      content_policy("<p><style>a{}</style><script>alert('Hello, world.');</script><script></script>");
  EXPECT_EQ(policy,
            "default-src 'none'; connect-src 'self'; img-src data:; "
            "style-src 'sha256-X1RutGBrXCt9KkSaXMK7tHftWiRscFHOhxsS8tv8hBk='; "
            "script-src 'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=' "
            "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
}

TEST(Admission, ConstantTimeCompare) {
  EXPECT_TRUE(equal_in_constant_time("abc", "abc"));
  EXPECT_TRUE(equal_in_constant_time("", ""));
  EXPECT_FALSE(equal_in_constant_time("abc", "abd"));
  EXPECT_FALSE(equal_in_constant_time("abc", "ab"));
  EXPECT_FALSE(equal_in_constant_time(std::string("\x80", 1), std::string("\0", 1)));
}

TEST(Admission, PagesOfTheWeb) {
  EXPECT_TRUE(origin_allowed("", "127.0.0.1:8080", ""));
  EXPECT_TRUE(origin_allowed("http://127.0.0.1:8080", "127.0.0.1:8080", ""));
  EXPECT_FALSE(origin_allowed("http://evil.example", "127.0.0.1:8080", ""));
  EXPECT_FALSE(origin_allowed("null", "127.0.0.1:8080", ""));
  EXPECT_FALSE(origin_allowed("http://", "", ""));
  EXPECT_TRUE(origin_allowed("https://a.example", "h", "https://a.example"));
  EXPECT_FALSE(origin_allowed("https://b.example", "h", "https://a.example"));
  EXPECT_TRUE(origin_allowed("https://b.example", "h", "*"));
}

TEST(Admission, ThisMachine) {
  for (const char* name : {"localhost", "localhost:8080", "127.0.0.1:1", "127.0.0.2:80", "[::1]:80", "::1", ""})
    EXPECT_TRUE(names_loopback(name)) << name;
  for (const char* name :
       {"evil.example", "evil.example:8080", "127.0.0.1.evil.example", "127.evil.example", "10.0.0.1:80", "[::2]"})
    EXPECT_FALSE(names_loopback(name)) << name;
}

}  // namespace
}  // namespace qwerky::serve
