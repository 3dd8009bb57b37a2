// SPDX-License-Identifier: MIT
#include "io/checkpoint.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "base/error.h"
#include "io/gguf_model.h"
#include "io/llama2c.h"

namespace qwerky {
namespace {

constexpr const char* kConfig = "config.json";
constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

/// "a, b and 3 more", for messages.
std::string some_of(const std::vector<std::string>& names) {
  constexpr size_t kMostNamed = 8;
  if (names.empty()) return "nothing";
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kMostNamed); ++i) text += (i ? ", " : "") + names[i];
  if (names.size() > kMostNamed) text += concat(" and ", names.size() - kMostNamed, " more");
  return text;
}

/// tok*.bin and tok*.model, llama2.c's tokenizer files.
bool is_llama2c_tokenizer(std::string_view name) {
  return name.starts_with("tok") && (name.ends_with(".bin") || name.ends_with(".model"));
}

/// The tokenizer for a llama2.c model of `vocab` tokens: the file that carries this number in its name (tok512.bin),
/// else the first; empty when there is none.
Path find_llama2c_tokenizer(const Path& dir, int64_t vocab) {
  std::vector<std::tuple<bool, bool, std::string>> found;
  for (const std::string& name : list_names(dir))
    if (is_llama2c_tokenizer(name) && is_file(dir / name))
      found.emplace_back(name.find(std::to_string(vocab)) == name.npos, !name.ends_with(".bin"), name);
  if (found.empty()) return is_file(dir / "tokenizer.json") ? dir : Path();
  return dir / std::get<2>(*std::min_element(found.begin(), found.end()));
}

Checkpoint open_llama2c(const Path& given, const Path& file) {
  auto model = std::make_unique<Llama2cFile>(file);
  Checkpoint checkpoint;
  checkpoint.path = given;
  checkpoint.config = model->config();
  checkpoint.config_name = file.string();
  const Path dir = file.has_parent_path() ? file.parent_path() : Path(".");
  checkpoint.tokenizer = find_llama2c_tokenizer(dir, checkpoint.config["vocab_size"].get<int64_t>());
  checkpoint.tensors = std::move(model);
  return checkpoint;
}

Checkpoint open_gguf(const Path& given, const Path& file) {
  auto model = std::make_unique<GgufSource>(file);
  Checkpoint checkpoint;
  checkpoint.path = given;
  checkpoint.config = model->config();
  checkpoint.config_name = file.string();
  if (model->has_tokenizer()) checkpoint.tokenizer = model->file().name();
  checkpoint.tensors = std::move(model);
  return checkpoint;
}

Checkpoint open_packed(const Path& file) {
  auto model = std::make_shared<PackedFile>(file);
  Checkpoint checkpoint;
  checkpoint.path = file;
  checkpoint.config = model->config();
  checkpoint.config_name = file.string() + ": config";
  if (!model->files().empty()) checkpoint.tokenizer = file;
  checkpoint.packed = model.get();
  checkpoint.tensors = std::move(model);
  return checkpoint;
}

/// A weight map may only name plain files: a hostile index must not reach outside its directory.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
}

std::unique_ptr<TensorSource> open_weights(const Path& dir) {
  if (is_file(dir / kSingle)) return std::make_unique<SafetensorsFile>(dir / kSingle);
  if (is_file(dir / kIndex)) return std::make_unique<ShardedTensors>(dir, read_json(dir / kIndex));
  fail(dir.string(), ": found ", kConfig, " but no weights: looked for ", kSingle, " and ", kIndex,
       "; the directory holds ", some_of(list_names(dir)));
}

Path find_tokenizer(const Path& dir) {
  for (const char* name : {"tokenizer.json", "vocab.json", "tokenizer.model"})
    if (is_file(dir / name)) return dir;
  for (const std::string& name : list_names(dir))
    if (is_llama2c_tokenizer(name)) return dir;
  return {};
}

Checkpoint open_directory(const Path& dir, ConfigCheck check) {
  if (is_file(dir / kConfig)) {
    Checkpoint checkpoint;
    checkpoint.path = dir;
    checkpoint.config = read_json(dir / kConfig);
    checkpoint.config_name = (dir / kConfig).string();
    if (!checkpoint.config.is_object())
      fail(checkpoint.config_name, ": expected a JSON object, found ", checkpoint.config.type_name());
    if (check != nullptr) check(checkpoint.config, checkpoint.config_name);
    checkpoint.tensors = open_weights(dir);
    checkpoint.tokenizer = find_tokenizer(dir);
    return checkpoint;
  }
  const std::vector<std::string> names = list_names(dir);
  std::vector<std::string> models;
  for (const std::string& name : names)
    if (is_gguf_model_name(name) && is_file(dir / name)) models.push_back(name);
  if (models.size() == 1) return open_gguf(dir, dir / models[0]);
  if (models.size() > 1)
    fail(dir.string(), ": holds several GGUF models (", some_of(models), "); name one of the files");
  for (const std::string& name : names)
    if (name.ends_with(".bin") && !is_llama2c_tokenizer(name) && is_file(dir / name)) models.push_back(name);
  // Other .bin files may lie beside the model: what counts is a header that fits the file.
  if (models.size() > 1)
    std::erase_if(models, [&](const auto& name) { return !is_llama2c(MappedFile(dir / name).bytes()); });
  if (models.size() == 1) return open_llama2c(dir, dir / models[0]);
  if (models.size() > 1)
    fail(dir.string(), ": holds several llama2.c models (", some_of(models), "); name one of the files");
  fail(dir.string(), ": no model here: looked for ", kConfig,
       " (Hugging Face), one .gguf or one .bin (llama2.c); the directory holds ", some_of(names));
}

/// "model-00002-of-00003.safetensors"
std::string shard_name(size_t index, size_t count) {
  const auto padded = [](size_t n) {
    const std::string digits = std::to_string(n);
    return std::string(digits.size() < 5 ? 5 - digits.size() : 0, '0') + digits;
  };
  return "model-" + padded(index + 1) + "-of-" + padded(count) + ".safetensors";
}

/// Whether an earlier write_checkpoint may have made this weight file.
bool is_weight_file(std::string_view name) {
  if (name.ends_with(".partial")) name.remove_suffix(8);
  if (name == kSingle || name == kIndex) return true;
  constexpr std::string_view kPattern = "model-#####-of-#####.safetensors";
  if (name.size() != kPattern.size()) return false;
  for (size_t i = 0; i < name.size(); ++i)
    if (kPattern[i] == '#' ? name[i] < '0' || name[i] > '9' : name[i] != kPattern[i]) return false;
  return true;
}

}  // namespace

ShardedTensors::ShardedTensors(const Path& dir, const Json& index) : name_(dir.string()) {
  const std::string where = (dir / kIndex).string();
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (map == index.end() || !map->is_object()) fail(where, ": expected an object with an object \"weight_map\"");
  std::map<std::string, const SafetensorsFile*> opened;
  for (const auto& [tensor, value] : map->items()) {
    if (!value.is_string())
      fail(where, ": tensor ", tensor, ": expected the name of a shard, found ", value.type_name());
    const auto& file = value.get_ref<const std::string&>();
    if (!is_plain_name(file))
      fail(where, ": tensor ", tensor, ": shard ", value.dump(), " is not the name of a file in this directory");
    const SafetensorsFile*& shard = opened[file];
    if (shard == nullptr) {
      if (!is_file(dir / file)) fail(where, ": shard ", file, " (for tensor ", tensor, ") is missing from ", name_);
      shard = shards_.emplace_back(std::make_unique<SafetensorsFile>(dir / file)).get();
    }
    if (!shard->find(tensor))
      fail(where, ": tensor ", tensor, " is listed in shard ", file, ", which does not hold it");
    shard_of_.emplace(tensor, shard);
  }
  for (const auto& [file, shard] : opened)
    for (std::string& tensor : shard->names())
      if (map->value(tensor, "") == file) order_.push_back(std::move(tensor));
}

Tensor ShardedTensors::find(std::string_view name) const {
  const auto at = shard_of_.find(name);
  return at == shard_of_.end() ? Tensor() : at->second->find(name);
}

void ShardedTensors::forget(std::string_view name) const {
  if (const auto at = shard_of_.find(name); at != shard_of_.end()) at->second->forget(name);
}

bool ShardedTensors::prefetch(std::string_view name) const {
  const auto at = shard_of_.find(name);
  return at != shard_of_.end() && at->second->prefetch(name);
}

Checkpoint open_checkpoint(const Path& path, ConfigCheck check) {
  if (is_dir(path)) return open_directory(path, check);
  if (!is_there(path)) fail(path.string(), ": no such file or directory");
  if (path.extension() == ".safetensors")
    fail(path.string(), ": give the directory that holds it together with ", kConfig);
  if (is_packed(MappedFile(path).bytes())) return open_packed(path);
  if (path.extension() == ".gguf") return open_gguf(path, path);
  if (path.extension() != ".bin")
    fail(path.string(),
         ": not a model this program reads: expected a Hugging Face directory, a packed file, a .gguf or a llama2.c "
         ".bin file");
  return open_llama2c(path, path);
}

void write_checkpoint(const Path& dir, const Json& config, const std::vector<NamedTensor>& tensors,
                      int64_t shard_bytes) {
  CHECK(shard_bytes > 0, "shards of ", shard_bytes, " bytes");
  make_directory(dir);

  // As many tensors per shard as fit, in order; a larger one has a shard of its own.
  std::vector<std::vector<NamedTensor>> shards(1);
  int64_t total = 0, filled = 0;
  for (const NamedTensor& t : tensors) {
    const int64_t bytes = t.tensor.count() * size_of(t.store_as);
    if (filled > 0 && bytes > shard_bytes - filled) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().push_back(t);
    filled += bytes;
    total += bytes;
  }

  // Every file is complete under its temporary name before the first takes its place.
  Json weight_map = Json::object();
  std::set<std::string> fresh;
  std::vector<std::unique_ptr<FileWriter>> files;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shards.size() == 1 ? kSingle : shard_name(i, shards.size());
    write_safetensors(*files.emplace_back(std::make_unique<FileWriter>(dir / name)), shards[i], {{"format", "pt"}});
    fresh.insert(name);
    for (const NamedTensor& t : shards[i]) weight_map[t.name] = name;
  }
  if (shards.size() > 1) {
    const Json index{{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
    files.emplace_back(std::make_unique<FileWriter>(dir / kIndex))->write(index.dump(2) + "\n");
    fresh.insert(kIndex);
    // An earlier index over shards of the same names must not describe a mixture of old and new.
    if (is_file(dir / shard_name(0, shards.size()))) remove_tree(dir / kIndex);
  }
  for (const auto& file : files) file->commit();
  for (const std::string& name : list_names(dir))
    if (is_weight_file(name) && !fresh.contains(name)) remove_tree(dir / name);
  write_file(dir / kConfig, config.dump(2) + "\n");
}

}  // namespace qwerky
