// SPDX-License-Identifier: MIT
#include "io/tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "io/files.h"
#include "io/tokenizer_formats.h"
#include "io/tokenizer_gguf.h"
#include "io/tokenizer_utf8.h"

namespace qwerky {

namespace {

Json json_if_there(const Path& path) { return is_file(path) ? read_json(path) : Json(); }

TokenizerConfig read_config(const Path& dir) {
  TokenizerConfig config{json_if_there(dir / "tokenizer_config.json"), json_if_there(dir / "special_tokens_map.json"),
                         json_if_there(dir / "added_tokens.json"), json_if_there(dir / "config.json"),
                         json_if_there(dir / "generation_config.json")};
  if (const Path jinja = dir / "chat_template.jinja"; is_file(jinja)) {
    if (config.tokenizer_config.is_null()) config.tokenizer_config = Json::object();
    if (config.tokenizer_config.is_object()) config.tokenizer_config["chat_template"] = read_file(jinja);
  }
  return config;
}

/// llama2.c names: tok512.bin, tok512.model, tokenizer.bin. Sorted.
std::vector<Path> tok_files(const Path& dir, const std::string& extension) {
  std::vector<Path> out;
  for (const std::string& name : list_names(dir))
    if (name.starts_with("tok") && name.ends_with(extension) && is_file(dir / name)) out.push_back(dir / name);
  return out;
}

std::unique_ptr<Tokenizer> load_vocab(const Path& dir) {
  return tokenizer_from_vocab(read_file(dir / "vocab.json"), read_file(dir / "merges.txt"), read_config(dir),
                              (dir / "vocab.json").string());
}

std::unique_ptr<Tokenizer> load_file(const Path& path) {
  const Path dir = path.parent_path();
  const std::string file = path.filename().string(), name = path.string();
  if (file == "vocab.json" || file == "merges.txt") return load_vocab(dir);
  const MappedFile mapped(path);
  const std::string_view bytes = mapped.bytes();
  if (is_gguf(bytes)) return tokenizer_from_gguf(GgufFile(bytes, name));  // whatever lies beside it belongs to others
  const TokenizerConfig config = read_config(dir);
  if (path.extension() == ".json") return tokenizer_from_json(bytes, config, name);
  if (is_tiktoken(bytes)) return tokenizer_from_tiktoken(bytes, config, name);
  if (is_sentencepiece(bytes)) {
    auto out = tokenizer_from_sentencepiece(bytes, config, name);
    // tok512.model and its like belong to llama2.c models, whose texts follow each other with BOS between.
    if (file.starts_with("tok") && !file.starts_with("tokenizer") && out->bos &&
        std::find(out->eos.begin(), out->eos.end(), *out->bos) == out->eos.end())
      out->eos.push_back(*out->bos);
    return out;
  }
  if (path.extension() == ".bin") return tokenizer_from_llama2c(bytes, config, name);
  fail(name, ": neither tiktoken ranks nor a SentencePiece model nor a llama2.c tokenizer (", bytes.size(), " bytes)");
}

std::unique_ptr<Tokenizer> load_directory(const Path& dir) {
  const Path model = dir / "tokenizer.model";
  if (is_file(dir / "tokenizer.json")) {
    if (!is_file(model)) return load_file(dir / "tokenizer.json");
    // Llama-2 ships both: its tokenizer.json is not byte-level, the SentencePiece model says the same.
    return is_sentencepiece(MappedFile(model).bytes()) ? load_file(model) : load_file(dir / "tokenizer.json");
  }
  if (is_file(dir / "vocab.json") && is_file(dir / "merges.txt")) return load_vocab(dir);
  if (is_file(model)) return load_file(model);
  for (const char* extension : {".model", ".bin"}) {
    const auto found = tok_files(dir, extension);
    if (found.size() == 1) return load_file(found[0]);
    if (found.size() > 1)
      fail(dir.string(), ": ", found[0].filename().string(), " and ", found[1].filename().string(),
           " could both be the tokenizer; give the file");
  }
  fail(dir.string(), ": no tokenizer: looked for tokenizer.json, vocab.json with merges.txt, tokenizer.model, ",
       "tok*.model and tok*.bin");
}

}  // namespace

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string out;
  bool first = drops_first_space;
  for (int32_t id : ids) {
    const std::string bytes = piece(id);
    if (is_special(id)) {
      if (!skip_special) {
        out += bytes;
        first = false;
      } else if (id == bos) {
        first = drops_first_space;
      }
      continue;
    }
    out += first && bytes.starts_with(' ') ? std::string_view(bytes).substr(1) : std::string_view(bytes);
    if (!bytes.empty()) first = false;
  }
  return out;
}

std::optional<int32_t> Tokenizer::id_of(std::string_view special_token) const { return find_special(special_token); }

std::unique_ptr<Tokenizer> load_tokenizer(const Path& path) {
  if (is_dir(path)) return load_directory(path);
  if (!is_file(path)) fail(path.string(), ": no such tokenizer file or directory");
  return load_file(path);
}

std::vector<Path> tokenizer_files(const Path& path) {
  if (!is_dir(path)) return {path};
  std::vector<Path> out;
  for (const char* name :
       {"tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json",
        "added_tokens.json", "chat_template.jinja", "generation_config.json"})
    if (is_file(path / name)) out.push_back(path / name);
  for (const char* extension : {".model", ".bin"})
    for (const Path& file : tok_files(path, extension)) out.push_back(file);
  return out;
}

std::string StreamDecoder::push(int32_t id) {
  const std::string bytes = tokenizer_.piece(id);
  if (tokenizer_.is_special(id)) {
    if (skip_special_) {
      begins_ = begins_ || id == tokenizer_.bos;
      return {};
    }
    begins_ = false;
    pending_ += bytes;
  } else {
    const bool drop = begins_ && tokenizer_.drops_first_space && bytes.starts_with(' ');
    pending_.append(bytes, drop ? 1 : 0);
    if (!bytes.empty()) begins_ = false;
  }
  std::string out;
  size_t at = 0;
  while (at < pending_.size()) {
    const Utf8Step step = utf8_step(pending_, at);
    if (step.incomplete) break;
    append_utf8(out, step.code);
    at += static_cast<size_t>(step.length);
  }
  pending_.erase(0, at);
  return out;
}

std::string StreamDecoder::finish() {
  std::string storage;
  std::string out(valid_utf8(pending_, storage));
  pending_.clear();
  return out;
}

}  // namespace qwerky
