// SPDX-License-Identifier: MIT
// What the JSON files beside a vocabulary say about added tokens, BOS and EOS.
#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "io/tokenizer_formats.h"
#include "io/tokenizer_utf8.h"

namespace qwerky {

namespace {

bool boolean(const Json& object, const char* key, bool otherwise) {
  const auto it = object.find(key);
  return it != object.end() && it->is_boolean() ? it->get<bool>() : otherwise;
}

/// A token is written as its text or as {"content": text, …}.
std::string token_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object() && value.contains("content") && value["content"].is_string())
    return value["content"].get<std::string>();
  return {};
}

/// "eos_token_id": an id, a list of ids, or null; a negative id stands for none.
std::vector<int64_t> ids_under(const Json& object, const char* key, const std::string& file) {
  std::vector<int64_t> out;
  if (!object.is_object()) return out;
  const auto it = object.find(key);
  if (it == object.end()) return out;
  const auto add = [&](const Json& value) {
    if (!value.is_number_integer() && !value.is_null())
      fail(file, ": ", key, ": expected an id or a list of ids, found ", value.dump());
    if (value.is_number_integer() && value.get<int64_t>() >= 0) out.push_back(value.get<int64_t>());
  };
  if (it->is_array()) {
    for (const Json& value : *it) add(value);
  } else {
    add(*it);
  }
  return out;
}

/// "chat_template" as a list of named ones.
std::map<std::string, std::string> named_texts(const Json& list) {
  std::map<std::string, std::string> out;
  if (list.is_array())
    for (const Json& one : list)
      if (one.is_object() && one.value("name", Json()).is_string() && one.value("template", Json()).is_string())
        out.emplace(one["name"].get<std::string>(), one["template"].get<std::string>());
  return out;
}

constexpr const char* kRoles[] = {"bos_token", "eos_token", "unk_token", "pad_token",
                                  "cls_token", "sep_token", "mask_token"};

}  // namespace

std::vector<AddedToken> TokenizerConfig::listed_tokens() const {
  std::vector<AddedToken> out;
  if (added_tokens.is_object()) {
    const auto specials = special_texts();
    for (const auto& [text, id] : added_tokens.items()) {
      if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > INT32_MAX)
        fail(place, "added_tokens.json: \"", text, "\": expected an id, found ", id.dump().substr(0, 40));
      const bool special = std::find(specials.begin(), specials.end(), text) != specials.end();
      out.push_back({.id = id.get<int32_t>(), .text = text, .special = special});
    }
  }
  if (!tokenizer_config.is_object() || !tokenizer_config.contains("added_tokens_decoder")) return out;
  const Json& listed = tokenizer_config["added_tokens_decoder"];
  if (!listed.is_object())
    fail(place, "tokenizer_config.json: added_tokens_decoder is ", listed.type_name(), ", expected an object");
  for (const auto& [key, value] : listed.items()) {
    AddedToken token;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token.id);
    if (error != std::errc() || end != key.data() + key.size() || token.id < 0)
      fail(place, "tokenizer_config.json: added_tokens_decoder: \"", key, "\" is not an id");
    token.text = token_text(value);
    if (token.text.empty()) fail(place, "tokenizer_config.json: added_tokens_decoder: token ", key, " has no content");
    if (value.is_object()) {
      token.special = boolean(value, "special", false);
      token.normalized = boolean(value, "normalized", !token.special);
      token.lstrip = boolean(value, "lstrip", false);
      token.rstrip = boolean(value, "rstrip", false);
      token.single_word = boolean(value, "single_word", false);
    }
    out.push_back(std::move(token));
  }
  return out;
}

std::string TokenizerConfig::role(const std::string& key) const {
  for (const Json* file : {&tokenizer_config, &special_tokens_map}) {
    if (!file->is_object()) continue;
    const auto it = file->find(key);
    if (it != file->end()) return token_text(*it);
  }
  return {};
}

std::vector<std::string> TokenizerConfig::special_texts() const {
  std::vector<std::string> out;
  for (const char* key : kRoles) {
    std::string text = role(key);
    if (!text.empty()) out.push_back(std::move(text));
  }
  for (const Json* file : {&tokenizer_config, &special_tokens_map}) {
    if (!file->is_object()) continue;
    const auto it = file->find("additional_special_tokens");
    if (it == file->end() || !it->is_array()) continue;
    for (const Json& value : *it) {
      std::string text = token_text(value);
      if (!text.empty()) out.push_back(std::move(text));
    }
  }
  return out;
}

std::string TokenizerConfig::tokenizer_class() const {
  if (!tokenizer_config.is_object()) return {};
  const auto it = tokenizer_config.find("tokenizer_class");
  if (it == tokenizer_config.end() || !it->is_string()) return {};
  std::string name = it->get<std::string>();
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  return name;
}

std::vector<int32_t> AddedTokenizer::encode(std::string_view text, bool special) const {
  std::vector<int32_t> out;
  out.reserve(text.size() / 3 + 4);
  std::string valid, normal;
  const std::string_view clean = valid_utf8(text, valid);
  bool first = true;
  const auto plain = [&](std::string_view part) {
    encode_text(part, first, out);
    first = false;
  };
  const auto token = [&](const AddedToken& t) {
    out.push_back(t.id);
    first = false;
  };
  if (special) {
    added_.split(
        clean, false, [&](std::string_view part) { added_.split(normal_form(part, normal), true, plain, token); },
        token);
  } else if (!clean.empty()) {
    plain(normal_form(clean, normal));
  }
  return out;
}

std::string AddedTokenizer::piece(int32_t id) const {
  if (id < 0 || id >= size()) fail("token id ", id, " is outside the vocabulary of ", size());
  if (const AddedToken* token = added_.by_id(id)) return token->text;
  return pieces_[static_cast<size_t>(id)];
}

bool AddedTokenizer::is_special(int32_t id) const {
  const AddedToken* token = added_.by_id(id);
  return token != nullptr && token->special;
}

std::optional<int32_t> AddedTokenizer::find_special(std::string_view text) const {
  const AddedToken* token = added_.by_text(text);
  if (token == nullptr) return std::nullopt;
  return token->id;
}

void AddedTokenizer::add_token(AddedToken token, const std::string& where) {
  if (token.id < 0) fail(where, ": added token \"", token.text, "\" has id ", token.id);
  added_.add(std::move(token));
}

void AddedTokenizer::add_listed(const TokenizerConfig& config, int64_t largest, const std::string& name) {
  for (const AddedToken& token : config.listed_tokens()) add_token(token, name);
  for (const std::string& text : config.special_texts()) {
    if (added_.by_text(text) != nullptr) continue;
    if (const auto id = find_ordinary(text)) add_token({.id = *id, .text = text, .special = true}, name);
  }
  for (const AddedToken& token : added_.all()) {
    if (token.id > largest)
      fail(name, ": added token \"", token.text, "\" has id ", token.id, ", expected at most ", largest);
    if (token.id >= size()) pieces_.resize(static_cast<size_t>(token.id) + 1);
  }
}

void AddedTokenizer::apply(const TokenizerConfig& config, const std::string& name) {
  const auto by_role = [&](const char* key) -> std::optional<int32_t> {
    const std::string text = config.role(key);
    if (text.empty()) return std::nullopt;
    auto id = find_special(text);
    if (!id) id = find_ordinary(text);
    if (!id) fail(name, ": ", key, " \"", text, "\" is not in the vocabulary");
    return id;
  };
  const auto checked = [&](int64_t id, const char* file, const char* key) {
    if (id >= size())
      fail(name, ": ", key, " ", id, " in ", file, " is outside the vocabulary of ", size(),
           ": these tokenizer files belong to another model, or tokenizer_config.json is missing");
    return static_cast<int32_t>(id);
  };
  if (const auto id = by_role("bos_token")) {
    bos = id;
  } else if (!bos) {
    for (int64_t given : ids_under(config.config, "bos_token_id", config.place + "config.json"))
      bos = checked(given, "config.json", "bos_token_id");
  }
  if (config.tokenizer_config.is_object()) {
    adds_bos = boolean(config.tokenizer_config, "add_bos_token", adds_bos);
    const Json given = config.tokenizer_config.value("chat_template", Json());
    named_templates = named_texts(given);
    if (const auto found = named_templates.find("default"); found != named_templates.end())
      chat_template = found->second;
    if (given.is_string() && given != "") chat_template = given.get<std::string>();
  }
  adds_bos = adds_bos && bos.has_value();
  for (const char* key : kRoles)
    if (std::string text = config.role(key); !text.empty()) special_texts[key] = std::move(text);

  std::vector<int32_t> ends;
  const auto add_end = [&](int32_t id) {
    if (std::find(ends.begin(), ends.end(), id) == ends.end()) ends.push_back(id);
  };
  if (const auto id = by_role("eos_token")) add_end(*id);
  for (int64_t id : ids_under(config.config, "eos_token_id", config.place + "config.json"))
    add_end(checked(id, "config.json", "eos_token_id"));
  for (int64_t id : ids_under(config.generation_config, "eos_token_id", config.place + "generation_config.json"))
    add_end(checked(id, "generation_config.json", "eos_token_id"));
  for (int32_t id : eos) add_end(id);
  eos = std::move(ends);
}

}  // namespace qwerky
