// SPDX-License-Identifier: MIT
#include "io/shards.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <system_error>

#include "base/error.h"
#include "base/parallel.h"
#include "io/corpus.h"
#include "io/overlap.h"
#include "io/shard_file.h"

namespace qwerky {
namespace {

constexpr int64_t kBatchBytes = int64_t{4} << 20;  // text tokenised at once
constexpr size_t kBatchDocuments = 4096;
constexpr int64_t kOverlapChars = 100;
constexpr int kManifestVersion = 2;  // what the same inputs give

/// The token that ends a document: <|endoftext|> where a chat model has several ends, else the first.
std::optional<int32_t> end_token(const Tokenizer& tokenizer) {
  if (tokenizer.eos.empty()) return std::nullopt;
  const std::optional<int32_t> text_end = tokenizer.id_of("<|endoftext|>");
  const bool ends = text_end && std::count(tokenizer.eos.begin(), tokenizer.eos.end(), *text_end) != 0;
  return ends ? text_end : tokenizer.eos.front();
}

/// Turns documents into tokens, a batch at a time on all threads.
class Encoder {
 public:
  Encoder(const Tokenizer& tokenizer, ShardWriter& out) : tokenizer_(tokenizer), out_(out) {
    const DocumentFrame frame = document_frame(tokenizer);
    begin_ = frame.begin;
    end_ = frame.end;
  }

  void add(std::string&& document) {
    bytes_ += static_cast<int64_t>(document.size());
    texts_.push_back(std::move(document));
    if (bytes_ >= kBatchBytes || texts_.size() >= kBatchDocuments) flush();
  }

  void flush() {
    ids_.resize(texts_.size());
    std::vector<std::exception_ptr> errors(texts_.size());
    parallel_for(static_cast<int64_t>(texts_.size()), 1, [&](int64_t first, int64_t last) {
      for (auto i = static_cast<size_t>(first); i < static_cast<size_t>(last); ++i) {
        try {
          ids_[i] = tokenizer_.encode(texts_[i]);
        } catch (...) {
          errors[i] = std::current_exception();  // rethrown below: nothing may leave a parallel_for
        }
      }
    });
    for (const std::exception_ptr& error : errors) {
      if (error) std::rethrow_exception(error);
    }
    for (std::vector<int32_t>& ids : ids_) {
      if (begin_) ids.insert(ids.begin(), *begin_);
      if (end_) ids.push_back(*end_);
      out_.write(ids);
      ends_.push_back((ends_.empty() ? 0 : ends_.back()) + static_cast<int64_t>(ids.size()));
    }
    texts_.clear();
    ids_.clear();
    bytes_ = 0;
  }

  /// For each document, the tokens up to its end.
  const std::vector<int64_t>& ends() const { return ends_; }

 private:
  const Tokenizer& tokenizer_;
  ShardWriter& out_;
  std::optional<int32_t> begin_, end_;
  std::vector<std::string> texts_;
  std::vector<std::vector<int32_t>> ids_;
  std::vector<int64_t> ends_;
  int64_t bytes_ = 0;
};

/// Tells one tokenizer from another: its size, special ids, and what it makes of text in many scripts.
std::string tokenizer_hash(const Tokenizer& tokenizer) {
  constexpr std::string_view kProbe =
      "The quick brown fox, aged 12345.678, didn't jump over the lazy dog's fence!\n\n\tint main(void) { return 0; "
      "}\r\n"
      "Once upon a time there was a little girl named Lily. ÄÖÜ straße naïve façade žluťoučký kůň. Ελληνικά, русский "
      "текст, עברית, العربية, हिन्दी, ไทย, 中文分词测试，日本語のテキスト、한국어 문장. e\xcc\x81 \xef\xac\x81 ½ ² → ∑ "
      "😀👩‍🚀  "
      "   spaces <|endoftext|><|im_start|>user\n";
  Sha256 hash;
  auto number = [&](int64_t value) { hash.update({reinterpret_cast<const char*>(&value), sizeof value}); };
  number(tokenizer.size());
  number(tokenizer.adds_bos ? 1 : 0);
  number(tokenizer.bos.value_or(-1));
  for (const int32_t id : tokenizer.eos) number(id);
  number(-1);
  hash.update(bytes_of(tokenizer.encode(kProbe)));
  return hash.hex();
}

/// What decides whether cached shards may be used. "modified" only saves hashing files that have not changed.
struct Identity {
  Json key;
  Json modified = Json::object();
};

Identity identify(const ShardOptions& options, const std::vector<Path>& files, const std::vector<Path>& excluded,
                  const Tokenizer& tokenizer, const Json& manifest) {
  Identity identity;
  auto known_hash = [&](const std::string& path, int64_t bytes, int64_t modified) -> std::optional<std::string> {
    if (!manifest.is_object() || !manifest.contains("key") || !manifest.contains("modified")) return std::nullopt;
    const Json& times = manifest["modified"];
    if (!times.is_object() || !times.contains(path) || times[path] != modified) return std::nullopt;
    for (const char* list : {"inputs", "exclude_overlap"}) {
      if (!manifest["key"].is_object() || !manifest["key"].contains(list)) continue;
      for (const Json& file : manifest["key"][list]) {
        if (!file.is_object() || !file.contains("path") || !file.contains("bytes") || !file.contains("sha256"))
          continue;
        if (file["path"] == path && file["bytes"] == bytes && file["sha256"].is_string()) return file["sha256"];
      }
    }
    return std::nullopt;
  };
  auto describe = [&](const std::vector<Path>& paths) {
    Json list = Json::array();
    for (const Path& path : paths) {
      const MappedFile file(path);
      std::error_code error;
      const auto time = std::filesystem::last_write_time(path, error).time_since_epoch();
      const int64_t modified = std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
      std::optional<std::string> hash = known_hash(path.string(), file.size(), modified);
      if (!hash) hash = sha256(file.bytes());
      list.push_back({{"path", path.string()}, {"bytes", file.size()}, {"sha256", *hash}});
      identity.modified[path.string()] = modified;
    }
    return list;
  };
  identity.key = {{"version", kManifestVersion},
                  {"inputs", describe(files)},
                  {"field", options.corpus.field},
                  {"split_before", options.corpus.split_before},
                  {"holdout_tokens", options.holdout_tokens},
                  {"exclude_overlap", describe(excluded)},
                  {"overlap_chars", kOverlapChars},
                  {"tokenizer", tokenizer_hash(tokenizer)}};
  return identity;
}

struct CachePaths {
  explicit CachePaths(const Path& dir)
      : all(dir / "all.tokens"),
        train(dir / "train.tokens"),
        validation(dir / "validation.tokens"),
        manifest(dir / "manifest.json") {}
  Path all, train, validation, manifest;
};

/// File names need not be UTF-8; JSON must.
std::string text_of(const Json& json) { return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n"; }

/// The manifest in the cache; null when there is none or it is damaged.
Json old_manifest(const Path& path) {
  if (!is_file(path)) return nullptr;
  Json manifest = Json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  return manifest.is_object() ? manifest : Json();
}

/// The shard, or null when it is absent, damaged, another than the manifest's, or holds ids beyond the vocabulary.
std::unique_ptr<TokenStream> cached_stream(const Path& path, const Json& result, const char* name, int64_t vocab) {
  if (!is_file(path)) return nullptr;
  std::unique_ptr<TokenStream> stream = TokenStream::open(path);
  if (stream == nullptr || !result.contains(name) || result[name] != stream->hash()) return nullptr;
  const auto outside = [&](int32_t id) { return id < 0 || id >= vocab; };
  if (std::any_of(stream->tokens().begin(), stream->tokens().end(), outside)) return nullptr;
  return stream;
}

std::optional<Shards> cached_shards(const CachePaths& paths, const Json& manifest, const Json& key, int64_t vocab) {
  if (!manifest.is_object() || !manifest.contains("key") || manifest["key"] != key || !manifest.contains("result")) {
    return std::nullopt;
  }
  const Json& result = manifest["result"];
  if (!result.is_object() || !result.contains("documents") || !result["documents"].is_number_integer() ||
      !result.contains("dropped") || !result["dropped"].is_number_integer() || !result.contains("corpus") ||
      !result["corpus"].is_string()) {
    return std::nullopt;
  }
  Shards shards;
  shards.documents = result["documents"];
  shards.dropped = result["dropped"];
  shards.corpus_hash = result["corpus"];
  shards.train = cached_stream(paths.train, result, "train", vocab);
  if (shards.train == nullptr) return std::nullopt;
  if (key["holdout_tokens"] != 0) {
    shards.validation = cached_stream(paths.validation, result, "validation", vocab);
    if (shards.validation == nullptr) return std::nullopt;
  }
  return shards;
}

/// Where the holdout begins: token `token`, in document `document`; `inside` when it cuts that document.
struct Border {
  int64_t token;
  size_t document;
  bool inside;
};

/// Which of the documents before the border share a run with the excluded texts or the holdout; at last whether the
/// first part of the one that it cuts does, its own held-out part aside.
std::vector<bool> find_overlaps(const ShardOptions& options, const std::vector<Path>& files,
                                const std::vector<Path>& excluded, const Border& border, size_t documents,
                                const std::string& first_part, const std::string& cut_text) {
  const size_t first = border.document + (border.inside ? 1 : 0);
  std::vector<bool> drop(first, false);
  OverlapIndex index(kOverlapChars);
  const bool held = options.holdout_tokens > 0;
  if (!excluded.empty()) {
    CorpusOptions texts = options.corpus;
    texts.inputs = options.exclude_overlap;
    read_corpus(
        texts, excluded, [&](std::string&& text) { return index.add(text), true; }, nullptr);
  }
  auto each_document = [&](auto&& f) {
    size_t i = 0;
    read_corpus(
        options.corpus, files, [&](std::string&& text) { return f(i++, text), true; }, nullptr);
    if (i != documents) fail("corpus: a file changed while it was read (", documents, " documents, then ", i, ")");
  };
  if (held) {
    each_document([&](size_t i, const std::string& text) {
      if (i >= first) index.add(text);
    });
    if (border.inside) drop[border.document] = index.shares_run(first_part), index.add(cut_text);
  }
  if (held || !excluded.empty()) {
    each_document([&](size_t i, const std::string& text) {
      if (i < border.document) drop[i] = index.shares_run(text);
    });
  }
  return drop;
}

}  // namespace

DocumentFrame document_frame(const Tokenizer& tokenizer) {
  DocumentFrame frame{tokenizer.adds_bos ? tokenizer.bos : std::nullopt, end_token(tokenizer)};
  const bool alone = frame.begin && std::count(tokenizer.eos.begin(), tokenizer.eos.end(), *frame.begin) != 0;
  if (alone) frame.end = std::nullopt;
  return frame;
}

Shards prepare_shards(const ShardOptions& options, const Tokenizer& tokenizer, const Path& cache_dir,
                      const std::function<void(int64_t, int64_t)>& progress) {
  if (options.holdout_tokens < 0) fail("holdout: expected a number of tokens, got ", options.holdout_tokens);
  make_directory(cache_dir);
  const CachePaths paths(cache_dir);
  const std::vector<Path> files = corpus_files(options.corpus);
  CorpusOptions others = options.corpus;
  others.inputs = options.exclude_overlap;
  const std::vector<Path> excluded = corpus_files(others);

  Json manifest = old_manifest(paths.manifest);
  Identity identity = identify(options, files, excluded, tokenizer, manifest);
  if (std::optional<Shards> ready = cached_shards(paths, manifest, identity.key, tokenizer.size())) {
    if (manifest["modified"] != identity.modified) {
      manifest["modified"] = identity.modified;
      write_file(paths.manifest, text_of(manifest));
    }
    return std::move(*ready);
  }

  // All documents first; then those that go into training, and the holdout.
  struct Remove {
    const Path& path;
    ~Remove() {
      std::error_code ignored;
      std::filesystem::remove(path, ignored);
    }
  } const remove{paths.all};
  ShardWriter writer(paths.all);
  Encoder encoder(tokenizer, writer);
  Sha256 corpus;
  auto take = [&](std::string&& document) {
    corpus.update(concat(document.size(), ":"));
    corpus.update(document);
    encoder.add(std::move(document));
    return true;
  };
  read_corpus(options.corpus, files, take, progress);
  encoder.flush();
  writer.commit();
  const TokenStream all(paths.all);
  const std::vector<int64_t>& ends = encoder.ends();
  if (all.size() <= options.holdout_tokens) {
    fail("corpus: ", all.size(), " tokens, of which ", options.holdout_tokens, " were to be held out; give more text");
  }

  const int64_t token = all.size() - options.holdout_tokens;
  const auto document = static_cast<size_t>(std::upper_bound(ends.begin(), ends.end(), token) - ends.begin());
  auto begin_of = [&](size_t i) { return i == 0 ? 0 : ends[i - 1]; };
  const bool inside = document < ends.size() && begin_of(document) < token;
  const Border border{token, document, inside};
  const auto range = [&](int64_t begin, int64_t end) {
    return all.tokens().subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
  };
  std::string first_part, cut_text;
  if (inside) {
    first_part = tokenizer.decode(range(begin_of(document), token), true);
    cut_text = tokenizer.decode(range(token, ends[document]), true);
  }
  const std::vector<bool> drop = find_overlaps(options, files, excluded, border, ends.size(), first_part, cut_text);

  Shards shards;
  shards.documents = static_cast<int64_t>(ends.size());
  shards.dropped = std::count(drop.begin(), drop.end(), true);
  shards.corpus_hash = corpus.hex();
  ShardWriter train(paths.train);
  int64_t kept = 0;
  for (size_t i = 0; i < drop.size(); ++i) {
    if (drop[i]) continue;
    const std::span<const int32_t> part = range(begin_of(i), std::min(ends[i], token));
    train.write(part);
    kept += static_cast<int64_t>(part.size());
  }
  if (kept == 0) {
    fail("corpus: nothing is left to train on: ", shards.dropped, " of ", shards.documents, " documents share ",
         kOverlapChars, " characters with the validation or excluded text");
  }
  if (options.accept) options.accept(shards.corpus_hash, train.hash());
  train.commit();
  shards.train = std::make_unique<TokenStream>(paths.train);
  Json result = {{"documents", shards.documents},
                 {"dropped", shards.dropped},
                 {"corpus", shards.corpus_hash},
                 {"train", shards.train->hash()},
                 {"train_tokens", shards.train->size()}};
  if (options.holdout_tokens > 0) {
    ShardWriter validation(paths.validation);
    validation.write(range(token, all.size()));
    validation.commit();
    shards.validation = std::make_unique<TokenStream>(paths.validation);
    result["validation"] = shards.validation->hash();
    result["validation_tokens"] = shards.validation->size();
  }
  const Json fresh = {{"key", identity.key}, {"modified", identity.modified}, {"result", result}};
  write_file(paths.manifest, text_of(fresh));
  return shards;
}

}  // namespace qwerky
