// SPDX-License-Identifier: MIT
// Chat templates against what Jinja2 made of them (tools/make_chat_renderings.py), and against hostile ones.
#include "io/chat_template.h"

#include <cstdlib>

#include "data.h"
#include "expect_error.h"
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
      check(source, conversation["context"], model["renderings"][i], file + ": " + conversation["name"].get<std::string>());
    }
  }
}

}  // namespace
}  // namespace qwerky
