// SPDX-License-Identifier: MIT
// Text on its way out: stop strings, parts of characters, calls of tools, which tokens are told.
#include <gtest/gtest.h>

#include <filesystem>

#include "serve/answer.h"

namespace qwerky::serve {
namespace {

/// What is shown after each piece, and at the end, apart by '|'.
std::string shown(std::vector<std::string> stops, const std::vector<std::string>& pieces) {
  StopFilter filter(std::move(stops));
  std::string out;
  for (const std::string& piece : pieces) out += filter.push(piece) + '|';
  return out + filter.finish() + (filter.stopped() ? "#" : "");
}

TEST(StopFilter, HoldsBackOnlyWhatMayBecomeAStop) {
  EXPECT_EQ(shown({}, {"ab", "c"}), "ab|c|");
  EXPECT_EQ(shown({"END"}, {"abE", "N", "x"}), "ab||ENx|");
  EXPECT_EQ(shown({"END"}, {"abE", "ND", "x"}), "ab|||#");
  EXPECT_EQ(shown({"END"}, {"abENDcd"}), "ab|#");
  EXPECT_EQ(shown({"END"}, {"abEN"}), "ab|EN");
}

TEST(StopFilter, OverlappingBeginnings) {
  EXPECT_EQ(shown({"aab"}, {"aa", "a", "b"}), "|a||#");
  EXPECT_EQ(shown({"abab!"}, {"abab", "ab!"}), "|ab|#");
  EXPECT_EQ(shown({"x"}, {"a", "x"}), "a||#");
}

TEST(StopFilter, TheFirstOfSeveralCounts) {
  EXPECT_EQ(shown({"bc", "abcd"}, {"abcd"}), "a|#") << "that is complete first";
  EXPECT_EQ(shown({"bc", "abc"}, {"a", "b", "c"}), "|||#") << "of two, the longer";
  EXPECT_EQ(shown({"d", "b"}, {"abcd"}), "a|#");
  EXPECT_EQ(shown({"\n\n", "é"}, {"a\n", "b\xC3", "\xA9z"}), "a|\nb||#");
}

const Tokenizer& tokenizer() {
  static const auto loaded = load_tokenizer(std::filesystem::path(QWERKY_SOURCE_DIR) / "models" / "teacher");
  return *loaded;
}

std::vector<Logprobs> told(const std::string& text) {
  std::vector<Logprobs> out;
  for (const int32_t id : tokenizer().encode(text)) out.push_back({id, -1.5, {{id, -1.5}}});
  return out;
}

Answer::Options options(std::vector<std::string> stops) {
  Answer::Options out;
  out.stops = std::move(stops);
  out.tell_tokens = true;
  return out;
}

TEST(Answer, IsTheTextAndItsTokens) {
  const std::string text = "Once there was a fox. \xF0\x9F\xA6\x8A ran\xC3\xA9.";
  Answer answer(tokenizer(), options({}));
  std::string streamed;
  size_t tokens = 0;
  for (const Logprobs& l : told(text)) {
    const Answer::Piece piece = answer.add(l);
    streamed += piece.text;
    tokens += piece.tokens.size();
    // What is told begins in what is shown.
    for (const ToldToken& t : piece.tokens) EXPECT_LT(t.offset, characters(streamed));
  }
  const Answer::Piece last = answer.finish();
  EXPECT_EQ(streamed + last.text, text);
  EXPECT_EQ(answer.text(), text);
  EXPECT_EQ(tokens + last.tokens.size(), told(text).size());
  EXPECT_EQ(answer.tokens().size(), told(text).size());
  EXPECT_FALSE(answer.complete());
}

TEST(Answer, TokensOfAStopStringAreNotTold) {
  Answer answer(tokenizer(), options({" fox"}));
  std::string streamed;
  for (const Logprobs& l : told("the cat and a fox ran")) {
    streamed += answer.add(l).text;
    if (answer.complete()) break;
  }
  streamed += answer.finish().text;
  EXPECT_TRUE(answer.complete());
  EXPECT_EQ(streamed, "the cat and a");
  EXPECT_EQ(answer.text(), streamed);
  std::string of_tokens;
  for (const ToldToken& t : answer.tokens()) of_tokens += tokenizer().piece(t.logprobs.id);
  EXPECT_TRUE(of_tokens.starts_with("the cat and a")) << of_tokens;
  EXPECT_LT(answer.tokens().back().offset, characters(streamed));
}

TEST(Answer, AnEchoedPromptIsPartOfIt) {
  const std::vector<int32_t> prompt = tokenizer().encode("One \xC3\xA9t\xC3\xA9");
  Answer answer(tokenizer(), options({"One"}));
  const Answer::Piece piece = answer.echo(prompt, told("One \xC3\xA9t\xC3\xA9"));
  EXPECT_EQ(piece.text, "One \xC3\xA9t\xC3\xA9") << "stop strings do not look at the prompt";
  EXPECT_EQ(piece.tokens.size(), prompt.size());
  answer.add_end({*tokenizer().id_of("<|endoftext|>"), -2, {}});
  answer.finish();
  ASSERT_EQ(answer.tokens().size(), prompt.size() + 1) << "the entry that ends the text is told";
  EXPECT_EQ(answer.tokens().back().offset, 7) << "in characters, not bytes";
  EXPECT_EQ(answer.tokens().front().offset, 0);
  EXPECT_EQ(answer.text(), "One \xC3\xA9t\xC3\xA9");
}

/// Text and calls after all pieces: "text [name {arguments}]…"
std::string parsed(ToolStyle style, const std::vector<std::string>& pieces) {
  ToolCallParser parser(style);
  std::string text, calls;
  const auto take = [&](const ToolCallParser::Parsed& p) {
    text += p.text;
    for (const ToolCall& call : p.calls) calls += " [" + call.name + " " + call.arguments + "]";
  };
  for (const std::string& piece : pieces) take(parser.push(piece));
  take(parser.finish());
  return text + calls;
}

/// The same, one byte at a time.
std::string parsed_bytewise(ToolStyle style, const std::string& text) {
  std::vector<std::string> bytes;
  for (const char c : text) bytes.emplace_back(1, c);
  return parsed(style, bytes);
}

TEST(ToolCalls, Hermes) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"just <text>", "just <text>"},
      {"Let me look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"b\": 1, \"a\": [2]}}\n</tool_call>",
       "Let me look.\n [f {\"b\":1,\"a\":[2]}]"},
      {"<tool_call>{\"name\": \"f\"}</tool_call>\n<tool_call>{\"name\": \"g\", \"arguments\": {}}</tool_call>",
       " [f {}] [g {}]"},
      {"<tool_call>{\"name\": \"f\"}", " [f {}]"},                             // what ends the answer may end the call
      {"<tool_call>not json</tool_call>", "<tool_call>not json</tool_call>"},  // no call: text
      {"<tool_call>{\"name\": 3}</tool_call>!", "<tool_call>{\"name\": 3}</tool_call>!"},
      {"<tool_call>{\"name\": \"f\", \"argum", "<tool_call>{\"name\": \"f\", \"argum"},
      {"a <tool", "a <tool"},
      {"<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"\\\"</tool_call>\"}}</tool_call>b",
       "b [f {\"a\":\"\\\"</tool_call>\"}]"},  // in a string it ends nothing
      {"<tool_call>a \"quote</tool_call>", "<tool_call>a \"quote</tool_call>"},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_EQ(parsed(ToolStyle::hermes, {text}), expected) << text;
    EXPECT_EQ(parsed_bytewise(ToolStyle::hermes, text), expected) << text;
  }
}

TEST(ToolCalls, HermesShowsTextAsItComes) {
  ToolCallParser parser(ToolStyle::hermes);
  EXPECT_EQ(parser.push("Hello <").text, "Hello ");
  EXPECT_EQ(parser.push("b> <tool_").text, "<b> ");
  EXPECT_EQ(parser.push("call>{\"name\": \"f\"}").text, "");
  EXPECT_EQ(parser.push("</tool_call>").calls.size(), 1u);
}

TEST(ToolCalls, Llama) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{\"name\": \"f\", \"parameters\": {\"q\": \"a;b\"}}", " [f {\"q\":\"a;b\"}]"},
      {"<|python_tag|>{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"parameters\": {}}", " [f {}] [g {}]"},
      {"{\"not\": \"a call\"}", "{\"not\": \"a call\"}"},
      {"Hello {\"name\": \"f\"}", "Hello {\"name\": \"f\"}"},
      {"<|python", "<|python"},
      {" ", " "},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_EQ(parsed(ToolStyle::llama3, {text}), expected) << text;
    EXPECT_EQ(parsed_bytewise(ToolStyle::llama3, text), expected) << text;
  }
}

TEST(Answer, CallsOfTools) {
  const auto answered = [](ToolStyle style, bool one, const std::string& text) {
    Answer::Options with = options({});
    with.tools = style;
    with.one_tool_call = one;
    auto answer = std::make_unique<Answer>(tokenizer(), with);
    for (const Logprobs& l : told(text)) answer->add(l);
    answer->finish();
    return answer;
  };
  const std::string two = R"({"name": "f", "parameters": {}}; {"name": "g", "parameters": {}})";
  EXPECT_EQ(answered(ToolStyle::llama3, false, two)->calls().size(), 2u);
  EXPECT_EQ(answered(ToolStyle::llama3, true, two)->calls().size(), 1u) << "parallel_tool_calls: false";
  const std::string call = "<tool_call>{\"name\": \"f\"}</tool_call>";
  const auto whole = answered(ToolStyle::hermes, false, call), part = answered(ToolStyle::hermes, false, call + " and");
  EXPECT_STREQ(whole->finish_reason(false), "tool_calls");
  EXPECT_STREQ(part->finish_reason(true), "length") << "a call, and the limit cut what follows";
  EXPECT_STREQ(answered(ToolStyle::hermes, true, call)->finish_reason(true), "tool_calls") << "all that was wanted";
  EXPECT_STREQ(answered(ToolStyle::hermes, false, "No")->finish_reason(false), "stop");
}

TEST(ToolCalls, StyleOfATemplate) {
  EXPECT_EQ(tool_style("{{ '<tool_call>' }}"), ToolStyle::hermes);
  EXPECT_EQ(tool_style("Environment: ipython {\"name\": x, \"parameters\": y}"), ToolStyle::llama3);
  EXPECT_EQ(tool_style("{{ messages }}"), ToolStyle::none);
}

}  // namespace
}  // namespace qwerky::serve
