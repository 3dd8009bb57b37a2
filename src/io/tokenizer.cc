// SPDX-License-Identifier: MIT
#include "io/tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "io/files.h"
#include "io/packed.h"
#include "io/tokenizer_formats.h"
#include "io/tokenizer_gguf.h"
#include "io/tokenizer_utf8.h"

namespace qwerky {

namespace {

/// The files among which a tokenizer is looked for.
class Files {
 public:
  virtual ~Files() = default;
  virtual bool has(const std::string& name) const = 0;
  virtual std::string read(const std::string& name) const = 0;
  /// Sorted.
  virtual std::vector<std::string> names() const = 0;
  /// For messages: of the place, and of a file in it.
  virtual std::string place() const = 0;
  virtual std::string label(const std::string& name) const = 0;
};

class DirectoryFiles : public Files {
 public:
  explicit DirectoryFiles(Path dir) : dir_(std::move(dir)) {}
  bool has(const std::string& name) const override { return is_file(dir_ / name); }
  std::string read(const std::string& name) const override { return read_file(dir_ / name); }
  std::vector<std::string> names() const override {
    std::vector<std::string> out = list_names(dir_);
    std::erase_if(out, [&](const std::string& name) { return !has(name); });
    return out;
  }
  std::string place() const override { return dir_.string(); }
  std::string label(const std::string& name) const override { return (dir_ / name).string(); }

 private:
  Path dir_;
};

class PackedFiles : public Files {
 public:
  explicit PackedFiles(const PackedFile& file) : file_(file) {}
  bool has(const std::string& name) const override { return name == kConfig || file_.files().contains(name); }
  std::string read(const std::string& name) const override {
    return name == kConfig ? file_.config().dump() : std::string(file_.files().at(name));
  }
  std::vector<std::string> names() const override {
    std::vector<std::string> out;
    for (const auto& [name, text] : file_.files()) out.push_back(name);
    return out;
  }
  std::string place() const override { return file_.describe(); }
  std::string label(const std::string& name) const override { return file_.describe() + ": " + name; }

 private:
  static constexpr const char* kConfig = "config.json";
  const PackedFile& file_;
};

Json json_if_there(const Files& files, const std::string& name) {
  return files.has(name) ? parse_json(files.read(name), files.label(name)) : Json();
}

TokenizerConfig read_config(const Files& files) {
  TokenizerConfig config{
      json_if_there(files, "tokenizer_config.json"),  json_if_there(files, "special_tokens_map.json"),
      json_if_there(files, "added_tokens.json"),      json_if_there(files, "config.json"),
      json_if_there(files, "generation_config.json"), files.label("")};
  if (files.has("chat_template.jinja")) {
    if (config.tokenizer_config.is_null()) config.tokenizer_config = Json::object();
    if (config.tokenizer_config.is_object())
      config.tokenizer_config["chat_template"] = files.read("chat_template.jinja");
  }
  return config;
}

/// llama2.c names: tok512.bin, tok512.model, tokenizer.bin. Sorted.
std::vector<std::string> tok_files(const Files& files, const std::string& extension) {
  std::vector<std::string> out;
  for (const std::string& name : files.names())
    if (name.starts_with("tok") && name.ends_with(extension)) out.push_back(name);
  return out;
}

std::unique_ptr<Tokenizer> load_vocab(const Files& files) {
  return tokenizer_from_vocab(files.read("vocab.json"), files.read("merges.txt"), read_config(files),
                              files.label("vocab.json"));
}

std::unique_ptr<Tokenizer> load_file(const Files& files, const std::string& file) {
  const std::string name = files.label(file);
  if (file == "vocab.json" || file == "merges.txt") return load_vocab(files);
  const std::string bytes = files.read(file);
  const TokenizerConfig config = read_config(files);
  if (file.ends_with(".json")) return tokenizer_from_json(bytes, config, name);
  if (is_tiktoken(bytes)) return tokenizer_from_tiktoken(bytes, config, name);
  if (is_sentencepiece(bytes)) {
    auto out = tokenizer_from_sentencepiece(bytes, config, name);
    // tok512.model and its like belong to llama2.c models, whose texts follow each other with BOS between.
    if (file.starts_with("tok") && !file.starts_with("tokenizer") && out->bos &&
        std::find(out->eos.begin(), out->eos.end(), *out->bos) == out->eos.end())
      out->eos.push_back(*out->bos);
    return out;
  }
  if (file.ends_with(".bin")) return tokenizer_from_llama2c(bytes, config, name);
  fail(name, ": neither tiktoken ranks nor a SentencePiece model nor a llama2.c tokenizer (", bytes.size(), " bytes)");
}

std::unique_ptr<Tokenizer> load_from(const Files& files) {
  const std::string model = "tokenizer.model", json = "tokenizer.json";
  if (files.has(json)) {
    // Llama-2 ships both: its tokenizer.json is not byte-level, the SentencePiece model says the same.
    return load_file(files, files.has(model) && is_sentencepiece(files.read(model)) ? model : json);
  }
  if (files.has("vocab.json") && files.has("merges.txt")) return load_vocab(files);
  if (files.has(model)) return load_file(files, model);
  for (const char* extension : {".model", ".bin"}) {
    const auto found = tok_files(files, extension);
    if (found.size() == 1) return load_file(files, found[0]);
    if (found.size() > 1)
      fail(files.place(), ": ", found[0], " and ", found[1], " could both be the tokenizer; give the file");
  }
  fail(files.place(), ": no tokenizer: looked for tokenizer.json, vocab.json with merges.txt, tokenizer.model, ",
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
  if (is_dir(path)) return load_from(DirectoryFiles(path));
  if (!is_file(path)) fail(path.string(), ": no such tokenizer file or directory");
  {
    const MappedFile file(path);
    if (is_gguf(file.bytes())) return tokenizer_from_gguf(GgufFile(file.bytes(), path.string()));
  }
  if (is_packed(MappedFile(path).bytes())) return load_from(PackedFiles(PackedFile(path)));
  return load_file(DirectoryFiles(path.parent_path()), path.filename().string());
}

std::vector<Path> tokenizer_files(const Path& path) {
  if (!is_dir(path)) return {path};
  std::vector<Path> out;
  for (const char* name :
       {"tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json",
        "added_tokens.json", "chat_template.jinja", "generation_config.json"})
    if (is_file(path / name)) out.push_back(path / name);
  for (const char* extension : {".model", ".bin"})
    for (const std::string& file : tok_files(DirectoryFiles(path), extension)) out.push_back(path / file);
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
