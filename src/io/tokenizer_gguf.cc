// SPDX-License-Identifier: MIT
#include "io/tokenizer_gguf.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "io/sentencepiece_model.h"
#include "io/tokenizer_bpe.h"
#include "io/tokenizer_utf8.h"

namespace qwerky {
namespace {

/// Values of tokenizer.ggml.pre that cut text alike (llama.cpp's src/llama-vocab.cpp); the first is the one to write.
struct PreRow {
  std::vector<std::string> names;
  std::string_view pattern;
  bool digits = false;         // single digits before the pattern
  bool ignore_merges = false;  // a word that is in the vocabulary is that token
  bool nfc = false;            // what the original tokenizers do and llama.cpp leaves out
  bool adds_bos = false;       // unless the file says otherwise

  void add_to(PreTokenizer& pre) const {
    if (digits) pre.add_digits(true);
    pre.add_split(pattern, false, true, names[0]);
  }
};

const std::vector<PreRow>& pre_rows() {
  static const std::vector<PreRow> rows{
      {.names = {"qwen2", "deepseek-r1-qwen"}, .pattern = kQwen2Pattern, .nfc = true},
      {.names = {"llama-bpe", "llama3", "llama-v3"},
       .pattern = kLlama3Pattern,
       .ignore_merges = true,
       .adds_bos = true},
      {.names = {"smaug-bpe", "dbrx"}, .pattern = kLlama3Pattern},
      {.names = {"gpt-2", "phi-2"}, .pattern = kGpt2Pattern},
      {.names = {"smollm", "starcoder", "refact"}, .pattern = kGpt2Pattern, .digits = true},
  };
  return rows;
}

std::string pre_names() {
  std::string all;
  for (const PreRow& row : pre_rows())
    for (const std::string& name : row.names) all += (all.empty() ? "" : ", ") + name;
  return all;
}

const PreRow& pre_row(const GgufFile& file) {
  const auto pre = file.text("tokenizer.ggml.pre");
  if (!pre)
    fail(file.name(), ": tokenizer.ggml.pre is missing, so how text is cut is not known (files from before May 2024); ",
         "make the file anew. Supported: ", pre_names());
  for (const PreRow& row : pre_rows())
    if (std::find(row.names.begin(), row.names.end(), *pre) != row.names.end()) return row;
  fail(file.name(), ": tokenizer.ggml.pre \"", *pre, "\" is not supported; supported: ", pre_names());
}

struct Tokens {
  std::vector<std::string_view> texts;
  std::vector<int32_t> types;

  explicit Tokens(const GgufFile& file) : texts(file.texts("tokenizer.ggml.tokens")) {
    if (texts.empty()) fail(file.name(), ": tokenizer.ggml.tokens is missing or empty");
    types = file.integers("tokenizer.ggml.token_type");
    if (types.empty()) types.assign(texts.size(), Vocabulary::normal);
    if (types.size() != texts.size())
      fail(file.name(), ": tokenizer.ggml.token_type has ", types.size(), " elements, tokenizer.ggml.tokens ",
           texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      if (types[i] < Vocabulary::normal || types[i] > Vocabulary::byte)
        fail(file.name(), ": token ", i, ": type ", types[i], " is not known");
      if (!is_utf8(texts[i])) fail(file.name(), ": token ", i, " is not UTF-8");
    }
  }
};

/// Ids under a key of tokenizer.ggml; must be tokens.
std::optional<int32_t> id_under(const GgufFile& file, const char* key, const Tokens& tokens) {
  const auto id = file.integer(concat("tokenizer.ggml.", key), 0, static_cast<int64_t>(tokens.texts.size()) - 1);
  if (!id) return std::nullopt;
  return static_cast<int32_t>(*id);
}

/// The ids that end a text: those named, then control tokens that end a turn or a text in the supported families (files
/// have no list of them; llama.cpp goes by their texts, too).
std::vector<int32_t> ends_of(const GgufFile& file, const Tokens& tokens) {
  std::vector<int32_t> ends;
  const auto add = [&](int32_t id) {
    if (std::find(ends.begin(), ends.end(), id) == ends.end()) ends.push_back(id);
  };
  for (const char* key : {"eos_token_id", "eot_token_id", "eom_token_id"})
    if (const auto id = id_under(file, key, tokens)) add(*id);
  static const std::set<std::string_view> kEnds{"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>",
                                                "<|eom_id|>"};
  for (size_t i = 0; i < tokens.texts.size(); ++i)
    if (tokens.types[i] == Vocabulary::control && kEnds.contains(tokens.texts[i])) add(static_cast<int32_t>(i));
  return ends;
}

std::unique_ptr<Tokenizer> read_byte_level(const GgufFile& file, const Tokens& tokens, size_t bytes) {
  const PreRow& pre = pre_row(file);
  auto out = std::make_unique<ByteLevelTokenizer>(file.name(), bytes);
  out->reserve(tokens.texts.size());
  for (size_t i = 0; i < tokens.texts.size(); ++i) {
    const auto id = static_cast<int64_t>(i);
    const std::string text(tokens.texts[i]);
    switch (tokens.types[i]) {
      case Vocabulary::normal:
      case Vocabulary::byte: {
        auto piece = alphabet_to_bytes(text);
        const bool mergeable = piece.has_value();
        out->add_piece(mergeable ? std::move(*piece) : text, id, mergeable);
        break;
      }
      case Vocabulary::unused: out->add_piece("", id); break;
      default:
        out->add_piece("", id);
        out->add(
            {.id = static_cast<int32_t>(id), .text = text, .special = tokens.types[i] != Vocabulary::user_defined});
    }
  }
  int32_t rank = 0;
  for (const std::string_view merge : file.texts("tokenizer.ggml.merges"))
    out->add_merge_line(merge, rank++, file.name() + ": tokenizer.ggml.merges");
  if (rank == 0) fail(file.name(), ": tokenizer.ggml.merges is missing or empty");
  pre.add_to(out->pre_tokenizer);
  out->ignore_merges = pre.ignore_merges;
  out->use_nfc = pre.nfc;
  out->bos = id_under(file, "bos_token_id", tokens);
  out->adds_bos = file.flag("tokenizer.ggml.add_bos_token").value_or(pre.adds_bos);
  out->eos = ends_of(file, tokens);
  out->finish({});
  return out;
}

/// Read as the SentencePiece model it came from.
std::unique_ptr<Tokenizer> read_sentencepiece(const GgufFile& file, const Tokens& tokens) {
  Vocabulary v;
  v.byte_level = false;
  v.tokens.assign(tokens.texts.begin(), tokens.texts.end());
  v.types = tokens.types;
  v.scores = file.numbers("tokenizer.ggml.scores");
  if (v.scores.size() != v.tokens.size())
    fail(file.name(), ": tokenizer.ggml.scores has ", v.scores.size(), " elements, tokenizer.ggml.tokens ",
         v.tokens.size());
  v.space_in_front = file.flag("tokenizer.ggml.add_space_prefix").value_or(true);
  v.collapses_spaces = file.flag("tokenizer.ggml.remove_extra_whitespaces").value_or(false);
  // A model has one unknown piece; llama.cpp takes the first token where none is named.
  const auto unknown = static_cast<size_t>(id_under(file, "unknown_token_id", tokens).value_or(0));
  std::replace(v.types.begin(), v.types.end(), int32_t{Vocabulary::unknown}, int32_t{Vocabulary::control});
  v.types[unknown] = Vocabulary::unknown;
  Json added = Json::object();
  for (size_t i = 0; i < v.tokens.size(); ++i)
    if (v.types[i] == Vocabulary::user_defined)
      added[std::to_string(i)] = {{"content", v.tokens[i]}, {"special", false}, {"normalized", false}};
  TokenizerConfig config;
  if (!added.empty()) config.tokenizer_config = {{"added_tokens_decoder", added}};
  auto out = tokenizer_from_sentencepiece(write_sentencepiece(sentencepiece_of(v)), config, file.name());
  // llama.cpp's defaults for this kind.
  out->bos = id_under(file, "bos_token_id", tokens);
  if (!out->bos && v.tokens.size() > 1) out->bos = 1;
  out->adds_bos = out->bos && file.flag("tokenizer.ggml.add_bos_token").value_or(true);
  out->eos = ends_of(file, tokens);
  if (out->eos.empty() && v.tokens.size() > 2) out->eos = {2};
  return out;
}

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_from_gguf(const GgufFile& file) {
  const std::string model = file.text("tokenizer.ggml.model").value_or("");
  if (model != "gpt2" && model != "llama")
    fail(file.name(), ": tokenizer.ggml.model \"", model, "\" is not supported; supported: gpt2, llama");
  const Tokens tokens(file);
  auto out = model == "gpt2" ? read_byte_level(file, tokens, file.size()) : read_sentencepiece(file, tokens);
  out->chat_template = file.text("tokenizer.chat_template").value_or("");
  if (out->bos) out->special_texts["bos_token"] = out->piece(*out->bos);
  if (!out->eos.empty()) out->special_texts["eos_token"] = out->piece(out->eos.front());
  return out;
}

void add_tokenizer(GgufMetadata& metadata, const Tokenizer& tokenizer, int64_t vocab) {
  Vocabulary v = tokenizer.vocabulary();
  if (static_cast<int64_t>(v.tokens.size()) > vocab)
    fail("tokenizer: has ", v.tokens.size(), " tokens, the model ", vocab);
  v.tokens.resize(static_cast<size_t>(vocab));
  v.types.resize(static_cast<size_t>(vocab), Vocabulary::unused);
  for (size_t i = 0; i < v.tokens.size(); ++i)
    if (v.tokens[i].empty()) v.tokens[i] = concat("[PAD", i, ']'), v.types[i] = Vocabulary::unused;
  if (v.byte_level) {
    const auto row = std::find_if(pre_rows().begin(), pre_rows().end(), [&](const PreRow& candidate) {
      PreTokenizer pre;
      candidate.add_to(pre);
      return pre.description() == v.pre_tokenizer && candidate.ignore_merges == v.ignore_merges;
    });
    if (row == pre_rows().end())
      fail("tokenizer: GGUF has no name for a pre-tokenizer of these steps",
           v.ignore_merges ? " that ignores merges for whole words" : "", ": ", v.pre_tokenizer,
           "; known: ", pre_names());
    metadata.add("tokenizer.ggml.model", "gpt2");
    metadata.add("tokenizer.ggml.pre", row->names[0]);
    metadata.add("tokenizer.ggml.tokens", v.tokens);
    metadata.add("tokenizer.ggml.token_type", v.types);
    metadata.add("tokenizer.ggml.merges", v.merges);
  } else {
    v.scores.resize(static_cast<size_t>(vocab), -10000);
    metadata.add("tokenizer.ggml.model", "llama");
    metadata.add("tokenizer.ggml.pre", "default");
    metadata.add("tokenizer.ggml.tokens", v.tokens);
    metadata.add("tokenizer.ggml.scores", v.scores);
    metadata.add("tokenizer.ggml.token_type", v.types);
    metadata.add("tokenizer.ggml.add_space_prefix", v.space_in_front);
    if (v.collapses_spaces) metadata.add("tokenizer.ggml.remove_extra_whitespaces", true);
    const auto unknown = std::find(v.types.begin(), v.types.end(), Vocabulary::unknown);
    if (unknown != v.types.end())
      metadata.add("tokenizer.ggml.unknown_token_id", static_cast<uint32_t>(unknown - v.types.begin()));
  }
  if (tokenizer.bos) metadata.add("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(*tokenizer.bos));
  // GGUF has room for one end of text and one end of turn; either ends generation.
  if (!tokenizer.eos.empty()) metadata.add("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(tokenizer.eos[0]));
  if (tokenizer.eos.size() > 1) metadata.add("tokenizer.ggml.eot_token_id", static_cast<uint32_t>(tokenizer.eos[1]));
  metadata.add("tokenizer.ggml.add_bos_token", tokenizer.adds_bos);
  if (!tokenizer.chat_template.empty()) metadata.add("tokenizer.chat_template", tokenizer.chat_template);
}

}  // namespace qwerky
