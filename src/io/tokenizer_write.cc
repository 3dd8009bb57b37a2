// SPDX-License-Identifier: MIT
// Tokenizers written as files.
#include "base/error.h"
#include "io/gguf.h"
#include "io/packed.h"
#include "io/sentencepiece_model.h"
#include "io/tokenizer_formats.h"

namespace qwerky {
namespace {

Json added_token(const Vocabulary& v, size_t id) {
  return {{"content", v.tokens[id]}, {"special", v.types[id] != Vocabulary::user_defined},
          {"normalized", false},     {"lstrip", false},
          {"rstrip", false},         {"single_word", false}};
}

bool is_added(int32_t type) {
  return type != Vocabulary::normal && type != Vocabulary::byte && type != Vocabulary::unused;
}

}  // namespace

Json tokenizer_json(const Vocabulary& v) {
  Json vocab = Json::object(), added = Json::array();
  for (size_t id = 0; id < v.tokens.size(); ++id) {
    if (is_added(v.types[id])) {
      added.push_back(added_token(v, id));
      added.back()["id"] = id;
    } else if (v.types[id] != Vocabulary::unused) {
      vocab[v.tokens[id]] = id;
    }
  }
  const Json byte_level{
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", false}};
  Json steps = parse_json(v.pre_tokenizer, "pre-tokenizer");
  steps.push_back(byte_level);
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added},
          {"normalizer", v.nfc ? Json{{"type", "NFC"}} : Json()},
          {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", steps}}},
          {"post_processor", byte_level},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", ""},
            {"end_of_word_suffix", ""},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", v.ignore_merges},
            {"vocab", vocab},
            {"merges", v.merges}}}};
}

namespace {

/// Files that say what `t` is.
TokenizerFiles files_of(const Tokenizer& t) {
  TokenizerFiles files;
  const Vocabulary v = t.vocabulary();
  Json config{{"add_bos_token", t.adds_bos}};
  if (t.bos) config["bos_token"] = t.piece(*t.bos);
  if (!t.eos.empty()) config["eos_token"] = t.piece(t.eos[0]);
  if (!t.chat_template.empty()) config["chat_template"] = t.chat_template;
  if (v.byte_level) {
    files.emplace_back("tokenizer.json", tokenizer_json(v).dump(1) + "\n");
  } else {
    files.emplace_back("tokenizer.model", write_sentencepiece(sentencepiece_of(v)));
    for (size_t id = 0; id < v.tokens.size(); ++id)
      if (is_added(v.types[id])) config["added_tokens_decoder"][std::to_string(id)] = added_token(v, id);
  }
  files.emplace_back("tokenizer_config.json", config.dump(1) + "\n");
  if (!t.eos.empty()) files.emplace_back("generation_config.json", Json{{"eos_token_id", t.eos}}.dump(1) + "\n");
  return files;
}

}  // namespace

TokenizerFiles tokenizer_contents(const Path& from) {
  std::error_code error;
  TokenizerFiles files;
  if (std::filesystem::is_directory(from, error)) {
    for (const Path& file : tokenizer_files(from)) files.emplace_back(file.filename().string(), read_file(file));
    return files;
  }
  {
    const MappedFile file(from);
    if (is_gguf(file.bytes())) return files_of(*load_tokenizer(from));
    if (!is_packed(file.bytes())) return {{from.filename().string(), std::string(file.bytes())}};
  }
  const PackedFile packed(from);
  for (const auto& [name, text] : packed.files()) files.emplace_back(name, text);
  return files;
}

void copy_tokenizer(const Path& from, const Path& dir) {
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  if (error) fail("cannot make directory ", dir.string(), ": ", error.message());
  for (const auto& [name, text] : tokenizer_contents(from)) write_file(dir / name, text);
}

}  // namespace qwerky
