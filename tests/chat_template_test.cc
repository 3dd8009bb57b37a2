// SPDX-License-Identifier: MIT
// Chat templates against what Jinja2 made of them (tools/make_chat_renderings.py), and against hostile ones.
#include "io/chat_template.h"

#include <cstdlib>

#include "data.h"
#include "expect_error.h"
#include "io/chat_format.h"
#include "io/files.h"
#include "io/tokenizer.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::golden;
using testing::has;
using testing::shared_data;

const OrderedJson& recorded() {
  static const OrderedJson json = OrderedJson::parse(read_file(golden("chat_templates.json")));
  return json;
}

std::time_t recorded_time() {
  setenv("TZ", "UTC", 1);
  return recorded()["now"].get<std::time_t>();
}

std::string rendered(const std::string& source, const OrderedJson& context = OrderedJson::object()) {
  return ChatTemplate(source).render(context, recorded_time());
}

/// The text, or nothing and the message in `error`.
std::optional<std::string> try_render(const std::string& source, const OrderedJson& context, std::string& error) {
  try {
    return rendered(source, context);
  } catch (const Error& e) {
    error = e.what();
    return std::nullopt;
  }
}

void check(const std::string& source, const OrderedJson& context, const OrderedJson& want, const std::string& where) {
  std::string error;
  const auto got = try_render(source, context, error);
  if (want.is_string()) {
    EXPECT_TRUE(got.has_value()) << where << "\n  refused: " << error;
    if (got) {
      EXPECT_EQ(*got, want.get<std::string>()) << where;
    }
  } else {
    EXPECT_FALSE(got.has_value()) << where << "\n  Jinja2: " << want["error"] << "\n  here: " << *got;
    EXPECT_TRUE(got || has(error, "chat template, line ")) << where << ": " << error;
  }
}

TEST(ChatTemplate, LanguageAsJinja) {
  for (const auto& item : recorded()["language"]) {
    const std::string source = item["template"];
    check(source, recorded()["data"], item["rendering"], source);
  }
}

TEST(ChatTemplate, RefusesWhatItCannotDo) {
  for (const std::string source : recorded()["unsupported"]) {
    std::string error;
    const auto got = try_render(source, recorded()["data"], error);
    EXPECT_FALSE(got.has_value()) << source << ": " << *got;
    EXPECT_TRUE(has(error, "not supported") || has(error, "64 bits")) << source << ": " << error;
  }
}

TEST(ChatTemplate, ModelsAsJinja) {
  const auto root = shared_data("tokenizers");
  NEEDS_DATA(root / "chat_templates");
  for (const auto& model : recorded()["models"]) {
    const std::string file = model["file"];
    std::string source = read_file(root / file);
    if (file.ends_with(".json")) source = OrderedJson::parse(source)["chat_template"];
    for (size_t i = 0; i < model["renderings"].size(); ++i) {
      const auto& conversation = recorded()["conversations"][i];
      check(source, conversation["context"], model["renderings"][i],
            file + ": " + conversation["name"].get<std::string>());
    }
  }
}

std::string times(size_t n, const std::string& part) {
  std::string out;
  for (size_t i = 0; i < n; ++i) out += part;
  return out;
}

TEST(ChatTemplate, HostileTemplatesEndWithAnError) {
  const auto refused = [](const std::string& source, const std::string& why) {
    const std::string error = error_of([&] { rendered(source, {{"a", "x"}}); });
    EXPECT_PRED2(has, error, why) << source.substr(0, 100);
  };
  for (const auto& [open, close] : {std::pair("(", ")"),
                                    {"[", "]"},
                                    {"{1:", "}"},
                                    {"-", ""},
                                    {"not ", ""},
                                    {"a if a else ", ""},
                                    {"a[", "]"},
                                    {"a(", ")"}})
    refused("{{ " + times(40'000, open) + "a" + times(40'000, close) + " }}", "nested more than");
  for (const char* more : {".a", "[0]", "|upper", " + a", "()", " and a", " if a"})
    refused("{{ a" + times(40'000, more) + " }}", "nested more than");
  refused(times(40'000, "{% if a %}"), "nested more than");
  refused(times(40'000, "{% for x in a %}"), "nested more than");
  refused(times(1000, "{% set x %}"), "nested more than");
  refused("{% set " + times(40'000, "(") + "a" + times(40'000, ")") + " = 1 %}", "nested more than");
  refused("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested more than");
  refused("{% macro m(n) %}{% for i in [1, 2] %}{{ m(n + i) }}{% endfor %}{% endmacro %}{{ m(0) }}",
          "nested more than");
  refused("{% set ns = namespace(x=[]) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}",
          "nested more than");
  const std::string loops = "{% for i in range(100000) %}{% for j in range(100000) %}",
                    ends = "{% endfor %}{% endfor %}";
  refused(loops + "{{ i }}" + ends, "steps");
  refused("{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}", "bytes");
  refused("{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}", "bytes");
  refused("{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}", "steps");
  // Shared lists: 2^60 items to print, compare and write as JSON.
  const std::string shared =
      "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, "
      "ns.y] %}{% endfor %}";
  for (const char* use : {"{{ ns.x }}", "{{ ns.x == ns.y }}", "{{ ns.x | tojson }}"})
    refused(shared + use, "more than");
  refused("{{ 'a' * 99999999999 }}", "repeated");
  refused("{{ [1] * 9999999 }}", "steps");
  refused("{{ 'a'.ljust(99999999) }}", "repeated");
  refused("{{ '%99999d' % 1 }}", "too wide");
  refused("{{ ('a' * 9999999).replace('a', 'bbbbb') }}", "too long");
  refused("{{ range(99999999) }}", "range: more than");
  refused("{{ [1] | tojson(indent=99999) }}", "not supported");
  refused("{{ strftime_now('%9999d') }}", "not supported");
  refused("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}", "printing");
  refused(std::string(2 << 20, 'x'), "expected at most");
  refused("caf\xe9", "UTF-8");
  refused("{{ x }}\n{{ 1 +\n }}", "line 3");
  refused("\n\n{{ a.b.c }}", "line 3");
  refused("\n{{ raise_exception('roles must alternate') }}", "line 2: raise_exception: roles must alternate");
}

// Worst cases of searching: each would take minutes if it were quadratic.
TEST(ChatTemplate, SearchIsLinear) {
  const std::string text = "{% set t = 'a' * 4000000 %}{% set p = 'a' * 2000000 ~ 'b' %}";
  EXPECT_EQ(rendered(text + "{{ p in t }}{{ t.find(p) }}{{ t.rfind('b' ~ p) }}{{ t.split(p) | length }}{{ t.rsplit('b' "
                            "~ p) | length }}{{ t.count(p) }}"),
            "False-1-1110");
  EXPECT_EQ(rendered("{{ ('Σ' * 1000000) | lower | length }}{{ (\"'\" * 1000000 ~ 'Σ') | lower | length }}"),
            "10000001000001");
}

TEST(ChatTemplate, RemaindersOfLargeNumbers) {  // as Python has them
  EXPECT_EQ(rendered("{{ 9223372036854775807 % -2 }} {{ -9223372036854775807 % 2 }} {{ -7 % 3 }} {{ 7 % -3 }}"),
            "-1 1 2 -2");
}

TEST(ChatTemplate, ContextIsReadAsItIs) {
  OrderedJson deep = 1;
  for (int i = 0; i < 10'000; ++i) deep = OrderedJson::array({std::move(deep)});
  EXPECT_PRED2(has, error_of([&] { rendered("{{ a }}", {{"a", std::move(deep)}}); }), "nested more than");
  EXPECT_EQ(rendered("{{ a }}", {{"a", "caf\xe9!"}}), "caf\uFFFD!");
  EXPECT_PRED2(has, error_of([] { rendered("{{ a }}", {{"a", UINT64_MAX}}); }), "needs more than 63 bits");
  EXPECT_PRED2(has, error_of([] { rendered("{{ a }}", OrderedJson::array()); }), "expected an object");
  EXPECT_EQ(rendered("{{ o | tojson }}", {{"o", {{"z", 1}, {"a", {{"y", 2}, {"b", 3}}}}}}),
            R"({"z": 1, "a": {"y": 2, "b": 3}})");
}

TEST(ChatTemplate, VariablesOfAModel) {
  const auto dir = testing::scratch_dir("chat-template");
  write_file(dir / "tokenizer.json", train_bpe("some words to learn from, some more", 260, {"<|end|>", "<s>"}));
  write_file(dir / "tokenizer_config.json",
             R"({"eos_token": {"content": "<|end|>"}, "bos_token": "<s>", "chat_template":
      [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "{{ bos_token }}{{ messages }}{{ eos_token }}{{ tools }}{{ pad_token }}"}]})");
  const auto tokenizer = load_tokenizer(dir);
  EXPECT_EQ(ChatTemplate(tokenizer->chat_template).render(chat_context(*tokenizer, OrderedJson::array(), true)),
            "<s>[]<|end|>None");
  EXPECT_EQ(ChatTemplate("{{ add_generation_prompt }}{{ eos_token }}{{ x }}")
                .render(chat_context(*tokenizer, {}, true, {{"x", 1}, {"eos_token", "!"}})),
            "True!1");
  write_file(dir / "chat_template.jinja", "{{ messages | length }}");  // comes before the one in tokenizer_config.json
  EXPECT_EQ(load_tokenizer(dir)->chat_template, "{{ messages | length }}");
}

/// A byte is a token, or with `pairs` two are; with `silent`, dots give no text. Counts how often it is asked.
struct Bytes : Tokenizer {
  explicit Bytes(bool the_pairs, bool the_silent = false) : pairs(the_pairs), silent(the_silent) {}
  std::vector<int32_t> encode(std::string_view text, bool) const override {
    ++asked;
    std::vector<int32_t> out;
    for (size_t i = 0; i < text.size(); ++i) {
      const bool pair = pairs && i + 1 < text.size();
      out.push_back(pair ? 256 * text[i] + text[i + 1] : text[i]);
      i += pair ? 1 : 0;
    }
    return out;
  }
  std::string piece(int32_t id) const override {
    std::string out(1, static_cast<char>(id >= 256 ? id / 256 : id));
    if (id >= 256) out += static_cast<char>(id % 256);
    return silent && out == "." ? "" : out;
  }
  std::string normalise(std::string_view text) const override { return std::string(text); }
  int64_t size() const override { return 1 << 16; }
  bool is_special(int32_t) const override { return false; }
  Vocabulary vocabulary() const override { return {}; }
  std::optional<int32_t> find_special(std::string_view) const override { return std::nullopt; }
  bool pairs, silent;
  mutable int asked = 0;
};

TEST(ChatFormat, BoundariesNeedNoEncodingOfTheirOwn) {
  const ChatTemplate dots("{% for m in messages %}{{ m.content }}.{% endfor %}");
  OrderedJson messages = OrderedJson::array();
  for (const char* text : {"one", "a", "three", "four", "five5"}) messages.push_back({{"content", text}});
  const auto boundaries = [&](const Bytes& tokenizer) {
    const ChatFormat format(tokenizer, dots);
    const std::string text = format.render(messages, true);
    return format.boundaries(messages, OrderedJson::object(), text, tokenizer.encode(text, true), 3);
  };
  const Bytes bytes(false), pairs(true), silent(false, true);
  EXPECT_EQ(boundaries(bytes), (std::vector<int64_t>{4, 12, 17, 23}));
  EXPECT_EQ(bytes.asked, 1);
  EXPECT_EQ(boundaries(pairs), (std::vector<int64_t>{2, 6, 12})) << "on e. a. th re e. fo ur .f iv e5 .";
  EXPECT_EQ(pairs.asked, 1);
  EXPECT_EQ(boundaries(silent), (std::vector<int64_t>{4, 12, 17, 23})) << "whose pieces do not make up the text";
}

}  // namespace
}  // namespace qwerky
