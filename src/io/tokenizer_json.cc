// SPDX-License-Identifier: MIT
// tokenizer.json (Hugging Face tokenizers) and vocab.json + merges.txt.
#include <algorithm>
#include <unordered_set>

#include "base/error.h"
#include "io/tokenizer_bpe.h"

namespace qwerky {

namespace {

const Json& member(const Json& object, const char* key, const std::string& where) {
  if (!object.is_object()) fail(where, ": expected an object, found ", object.type_name());
  const auto it = object.find(key);
  if (it == object.end()) fail(where, ": \"", key, "\" is missing");
  return *it;
}

std::string text_of(const Json& object, const char* key, const std::string& where) {
  const Json& value = member(object, key, where);
  if (!value.is_string()) fail(where, ": \"", key, "\" is ", value.type_name(), ", expected a string");
  return value.get<std::string>();
}

bool flag(const Json& object, const char* key, bool otherwise, const std::string& where) {
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return otherwise;
  if (!it->is_boolean()) fail(where, ": \"", key, "\" is ", it->type_name(), ", expected true or false");
  return it->get<bool>();
}

int64_t id_of_json(const Json& value, const std::string& where) {
  if (!value.is_number_integer()) fail(where, ": an id is ", value.type_name(), ", expected an integer");
  if (value.is_number_unsigned() && value.get<uint64_t>() > INT32_MAX)
    fail(where, ": id ", value.get<uint64_t>(), " is too large");
  const auto id = value.get<int64_t>();
  if (id < 0) fail(where, ": id ", id, " is negative");
  return id;
}

/// Items of a "Sequence", or the one object itself; nothing for null.
std::vector<const Json*> steps_of(const Json& value, const char* list_key, const std::string& where) {
  if (value.is_null()) return {};
  if (text_of(value, "type", where) != "Sequence") return {&value};
  const Json& list = member(value, list_key, where);
  if (!list.is_array()) fail(where, ": \"", list_key, "\" is ", list.type_name(), ", expected an array");
  std::vector<const Json*> out;
  for (const Json& item : list) {
    const auto inner = steps_of(item, list_key, where);
    out.insert(out.end(), inner.begin(), inner.end());
  }
  return out;
}

void read_normalizer(const Json& value, ByteLevelTokenizer& out, const std::string& name) {
  for (const Json* step : steps_of(value, "normalizers", name + ": normalizer")) {
    const std::string type = text_of(*step, "type", name + ": normalizer");
    if (type != "NFC") fail(name, ": normalizer \"", type, "\" is not supported; supported: none, NFC");
    out.use_nfc = true;
  }
}

void read_pre_tokenizer(const Json& value, ByteLevelTokenizer& out, const std::string& name) {
  const std::string where = name + ": pre_tokenizer";
  bool byte_level = false;
  for (const Json* step : steps_of(value, "pretokenizers", where)) {
    const std::string type = text_of(*step, "type", where);
    if (byte_level) fail(where, ": \"", type, "\" after ByteLevel is not supported; ByteLevel must come last");
    if (type == "ByteLevel") {
      byte_level = true;
      if (flag(*step, "add_prefix_space", true, where)) out.pre_tokenizer.add_prefix_space();
      if (flag(*step, "use_regex", true, where)) out.pre_tokenizer.add_split(kGpt2Pattern, false, true, name);
    } else if (type == "Digits") {
      out.pre_tokenizer.add_digits(flag(*step, "individual_digits", false, where));
    } else if (type == "Split") {
      const Json& pattern = member(*step, "pattern", where);
      const bool literal = pattern.is_object() && pattern.contains("String");
      const std::string text = text_of(pattern, literal ? "String" : "Regex", where);
      const std::string behavior = text_of(*step, "behavior", where);
      const bool invert = flag(*step, "invert", false, where);
      // "Removed" with invert removes what lies between the matches.
      const bool removed = behavior == "Removed" && invert;
      if (behavior != "Isolated" && !removed)
        fail(where, ": Split behavior \"", behavior, "\"", invert ? " with invert" : "",
             " is not supported; supported: Isolated, Removed with invert");
      out.pre_tokenizer.add_split(text, literal, !removed, name);
    } else {
      fail(where, " \"", type, "\" is not supported; supported: ByteLevel, Split, Digits, Sequence of these");
    }
  }
  if (!byte_level)
    fail(where,
         ": no ByteLevel step; only byte-level BPE is supported in tokenizer.json (for SentencePiece models give ",
         "tokenizer.model)");
}

void read_decoder(const Json& value, const std::string& name) {
  const std::string where = name + ": decoder";
  const auto steps = steps_of(value, "decoders", where);
  for (const Json* step : steps) {
    const std::string type = text_of(*step, "type", where);
    if (type != "ByteLevel") fail(where, " \"", type, "\" is not supported; supported: ByteLevel");
  }
  if (steps.empty()) fail(where, ": missing; supported: ByteLevel");
}

void read_vocabulary(const Json& vocab, const std::unordered_set<int64_t>& added, ByteLevelTokenizer& out,
                     const std::string& name) {
  const std::string where = name + ": vocab";
  if (!vocab.is_object()) fail(where, ": expected an object of token to id, found ", vocab.type_name());
  if (vocab.empty()) fail(where, ": is empty");
  out.reserve(vocab.size());
  for (const auto& [token, id_value] : vocab.items()) {
    const int64_t id = id_of_json(id_value, where);
    auto bytes = alphabet_to_bytes(token);
    if (added.contains(id) || !bytes) {
      out.add_piece(token, id, false);
    } else {
      out.add_piece(std::move(*bytes), id);
    }
  }
}

void read_merges(const Json& merges, ByteLevelTokenizer& out, const std::string& name) {
  if (!merges.is_array()) fail(name, ": merges: expected an array, found ", merges.type_name());
  int32_t rank = 0;
  for (const Json& merge : merges) {
    if (merge.is_string()) {
      out.add_merge_line(merge.get_ref<const std::string&>(), rank, name);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      out.add_merge_line(merge[0].get<std::string>() + ' ' + merge[1].get<std::string>(), rank, name);
    } else {
      fail(name, ": merge ", rank, ": expected \"a b\" or [\"a\", \"b\"], found ", merge.dump().substr(0, 80));
    }
    ++rank;
  }
}

std::vector<AddedToken> read_added(const Json& list, const std::string& name) {
  const std::string where = name + ": added_tokens";
  if (list.is_null()) return {};
  if (!list.is_array()) fail(where, ": expected an array, found ", list.type_name());
  std::vector<AddedToken> out;
  for (const Json& item : list) {
    AddedToken token;
    token.id = static_cast<int32_t>(id_of_json(member(item, "id", where), where));
    token.text = text_of(item, "content", where);
    token.special = flag(item, "special", false, where);
    token.normalized = flag(item, "normalized", !token.special, where);
    token.lstrip = flag(item, "lstrip", false, where);
    token.rstrip = flag(item, "rstrip", false, where);
    token.single_word = flag(item, "single_word", false, where);
    out.push_back(std::move(token));
  }
  return out;
}

void read_model(const Json& model, const std::unordered_set<int64_t>& added, ByteLevelTokenizer& out,
                const std::string& name) {
  const std::string where = name + ": model";
  const std::string type = model.is_object() && model.contains("type") ? text_of(model, "type", where) : "BPE";
  if (type != "BPE") fail(where, " \"", type, "\" is not supported; supported: BPE");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const auto it = model.find(key);
    if (it != model.end() && !it->is_null() && *it != "")
      fail(where, ": \"", key, "\" is not supported in byte-level BPE");
  }
  if (flag(model, "byte_fallback", false, where))
    fail(where, ": byte_fallback is not supported in tokenizer.json; give the model's tokenizer.model");
  const auto dropout = model.find("dropout");
  if (dropout != model.end() && dropout->is_number() && dropout->get<double>() != 0)
    fail(where, ": dropout ", dropout->get<double>(), " is not supported; set it to null");
  read_vocabulary(member(model, "vocab", where), added, out, name);
  read_merges(member(model, "merges", where), out, name);
  out.ignore_merges = flag(model, "ignore_merges", false, where);
  out.fuse_unknown = flag(model, "fuse_unk", false, where);
  const auto unknown = model.find("unk_token");
  if (unknown != model.end() && unknown->is_string()) {
    const auto& vocab = model.at("vocab");
    const auto id = vocab.find(unknown->get_ref<const std::string&>());
    if (id == vocab.end()) fail(where, ": unk_token \"", unknown->get<std::string>(), "\" is not in the vocabulary");
    out.unknown = static_cast<int32_t>(id_of_json(*id, where));
  }
}

/// The token that a TemplateProcessing post-processor puts in front of a text.
void read_post_processor(const Json& value, ByteLevelTokenizer& out, const std::string& name) {
  const std::string where = name + ": post_processor";
  for (const Json* step : steps_of(value, "processors", where)) {
    if (text_of(*step, "type", where) != "TemplateProcessing") continue;
    const Json& single = member(*step, "single", where);
    if (!single.is_array() || single.empty() || !single[0].is_object() || !single[0].contains("SpecialToken")) continue;
    const std::string text = text_of(single[0]["SpecialToken"], "id", where);
    const auto id = out.id_of(text);
    if (!id) fail(where, ": special token \"", text, "\" is not in the vocabulary");
    out.bos = *id;
    out.adds_bos = true;
  }
}

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_from_json(std::string_view text, const TokenizerConfig& config,
                                               const std::string& name) {
  const Json root = parse_json(text, name);
  auto out = std::make_unique<ByteLevelTokenizer>(name, text.size());
  const auto optional = [&](const char* key) {
    static const Json null;
    const auto it = root.find(key);
    return it == root.end() ? &null : &*it;
  };
  const Json& model = member(root, "model", name);
  const auto added = read_added(*optional("added_tokens"), name);
  // Kinds first: a tokenizer of another kind is refused by its kind, not by a detail of its vocabulary.
  read_normalizer(*optional("normalizer"), *out, name);
  read_pre_tokenizer(*optional("pre_tokenizer"), *out, name);
  read_decoder(*optional("decoder"), name);
  std::unordered_set<int64_t> added_ids;
  for (const AddedToken& token : added) added_ids.insert(token.id);
  read_model(model, added_ids, *out, name);
  for (const AddedToken& token : added) out->add(token);
  read_post_processor(*optional("post_processor"), *out, name);
  out->finish(config);
  return out;
}

std::unique_ptr<Tokenizer> tokenizer_from_vocab(std::string_view vocab, std::string_view merges,
                                                const TokenizerConfig& config, const std::string& name) {
  const Json root = parse_json(vocab, name);
  auto out = std::make_unique<ByteLevelTokenizer>(name, vocab.size());
  read_vocabulary(root, {}, *out, name);

  const std::string where = name + ": merges.txt";
  int32_t rank = 0;
  for (size_t at = 0, line_number = 0; at < merges.size(); ++line_number) {
    const size_t end = std::min(merges.find('\n', at), merges.size());
    std::string_view line = merges.substr(at, end - at);
    at = end + 1;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || (line_number == 0 && line.starts_with("#version"))) continue;
    out->add_merge_line(line, rank++, where);
  }

  const std::string kind = config.tokenizer_class();
  bool qwen = kind == "Qwen2Tokenizer";
  if (!qwen && kind != "GPT2Tokenizer") {
    if (!kind.empty() && kind != "PreTrainedTokenizer" && kind != "AutoTokenizer")
      fail(name, ": tokenizer_class \"", kind,
           "\" is not supported with vocab.json; supported: Qwen2Tokenizer, GPT2Tokenizer");
    // Qwen2's pattern keeps digits apart, so none of its tokens has two; GPT-2's has "10".
    qwen = std::none_of(root.items().begin(), root.items().end(), [](const auto& entry) {
      const std::string& token = entry.key();
      const auto digit = [](char c) { return c >= '0' && c <= '9'; };
      return std::adjacent_find(token.begin(), token.end(), [&](char a, char b) { return digit(a) && digit(b); }) !=
             token.end();
    });
  }
  if (config.tokenizer_config.is_object() && flag(config.tokenizer_config, "add_prefix_space", false, name))
    out->pre_tokenizer.add_prefix_space();
  out->pre_tokenizer.add_split(qwen ? kQwen2Pattern : kGpt2Pattern, false, true, name);
  out->use_nfc = qwen;
  // Both families write their control tokens <|so|>, GPT-2 inside vocab.json.
  for (const auto& [token, id] : root.items()) {
    if (token.size() < 5 || !token.starts_with("<|") || !token.ends_with("|>")) continue;
    const auto value = static_cast<int32_t>(id_of_json(id, name));
    out->add({.id = value, .text = token, .special = true});
    if (token == "<|endoftext|>") {
      out->bos = value;
      out->eos = {value};
    }
  }
  out->finish(config);
  return out;
}

}  // namespace qwerky
