// SPDX-License-Identifier: MIT
#include "distill/prepare.h"

#include "io/corpus.h"
#include "io/shard_file.h"

namespace qwerky {
namespace {

/// A progress callback that stops the work when the user asks to.
void preparing(const Say& say, const std::atomic<bool>& stop, const std::string& line) {
  if (stop) throw Interrupted();
  say(line, false);
}

}  // namespace

CorpusOptions corpus_of(const RunOptions& options) {
  CorpusOptions corpus{.field = options.field, .split_before = options.split_before, .leave_out = options.out};
  for (const std::string& input : options.data) corpus.inputs.emplace_back(input);
  return corpus;
}

int64_t check_text(const RunOptions& options) {
  CorpusOptions corpus = corpus_of(options);
  check_corpus(corpus);
  const int64_t tokens = estimate_tokens(corpus);
  corpus.inputs.assign(options.exclude.begin(), options.exclude.end());
  if (!corpus.inputs.empty()) check_corpus(corpus);
  return tokens;
}

Beginning beginning_of_text(const CorpusOptions& corpus, size_t most, const std::atomic<bool>& stop) {
  Beginning out;
  out.whole = read_corpus(corpus, [&](std::string&& document) {
    if (stop) throw Interrupted();
    if (!out.text.empty() && out.text.size() + document.size() >= most) return false;
    out.text += document + "\n";
    return true;
  });
  return out;
}

RunData read_data(const RunOptions& options, const Tokenizer& tokenizer, const Accept& accept, const Say& say,
                  const std::atomic<bool>& stop) {
  RunData data;
  ShardOptions shards{.corpus = corpus_of(options)};
  for (const std::string& input : options.data) data.name += (data.name.empty() ? "" : ", ") + input;
  for (const std::string& input : options.exclude) shards.exclude_overlap.emplace_back(input);
  shards.holdout_tokens = options.holdout;
  shards.accept = accept;
  if (shards.holdout_tokens == 0) {  // 1 % of what the files hold at about 4 bytes per token
    int64_t bytes = 0;
    for (const Path& file : corpus_files(shards.corpus)) bytes += bytes_under(file);
    shards.holdout_tokens = std::clamp<int64_t>(bytes / 400, 4096, kMostHeldOut);
  }
  data.shards = prepare_shards(shards, tokenizer, Path(options.out) / "data", [&](int64_t done, int64_t total) {
    preparing(say, stop, concat("tokenising ", done * 100 / std::max<int64_t>(total, 1), " %"));
  });
  say(concat("data: ", data.shards.documents, " documents, ", data.shards.train->size(), " training tokens, ",
             data.shards.validation->size(), " held out, ", data.shards.dropped,
             " documents dropped because they share text with the held-out part"),
      true);
  return data;
}

std::string fingerprint(const Model& model) {
  Sha256 hash;
  hash.update(write_config(model.config()).dump());
  model.params.each([&](const Param& p) {
    const Tensor w = model.stored_weight(p);
    if (w) hash.update({static_cast<const char*>(w.data), static_cast<size_t>(w.bytes())});
    if (model.layers) model.source->forget(p.name);
  });
  return hash.hex();
}

RunData sample_data(const Path& out, const Model& teacher, const Backend& on, int64_t tokens, int64_t length,
                    uint64_t seed, const Accept& accept, const Say& say, const std::atomic<bool>& stop) {
  const Path dir = out / "data", train = dir / "train.tokens", validation = dir / "validation.tokens",
             manifest = dir / "sampled.json";
  Json record{{"tokens", tokens}, {"length", length}, {"seed", seed}, {"teacher", fingerprint(teacher)}};
  say("no --data given: the text is sampled from the teacher itself", true);
  RunData data;
  Shards& shards = data.shards;
  const auto open = [&] {
    shards.train = TokenStream::open(train), shards.validation = TokenStream::open(validation);
    if (shards.train && shards.validation)
      record["train"] = shards.train->hash(), record["validation"] = shards.validation->hash();
  };
  if (is_file(manifest) && is_file(train) && is_file(validation)) open();
  if (!record.contains("train") || Json::parse(read_file(manifest), nullptr, /*allow_exceptions=*/false) != record) {
    const std::vector<int32_t> ids = sample_corpus(teacher, on, tokens, length, seed, [&](int64_t done, int64_t total) {
      preparing(say, stop, concat("sampling ", done, "/", total, " tokens"));
    });
    make_directory(dir);
    const size_t kept = ids.size() - ids.size() / 20;
    record["train"] = sha256(bytes_of(std::span(ids).first(kept)));
    record["validation"] = sha256(bytes_of(std::span(ids).subspan(kept)));
    accept(sha256(record.dump()), record["train"]);
    const auto write = [](const Path& file, std::span<const int32_t> part) {
      ShardWriter shard(file);
      shard.write(part);
      shard.commit();
    };
    write(train, std::span(ids).first(kept));
    write(validation, std::span(ids).subspan(kept));
    open();
    write_file(manifest, record.dump(1) + "\n");
  }
  shards.corpus_hash = sha256(record.dump());
  data.name = concat(tokens, " tokens sampled from the teacher");
  say(concat("data: ", shards.train->size(), " training tokens, ", shards.validation->size(), " held out"), true);
  return data;
}

}  // namespace qwerky
