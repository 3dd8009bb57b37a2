// SPDX-License-Identifier: MIT
// SentencePiece models. The library trusts its input, so the protobuf is checked here first.
#include <sentencepiece_processor.h>

#include <cmath>
#include <cstring>
#include <exception>

#include "base/error.h"
#include "io/sentencepiece_model.h"
#include "io/tokenizer_formats.h"
#include "io/tokenizer_utf8.h"

namespace qwerky {

namespace {

/// normalizer_spec { add_dummy_prefix: false } and { … remove_extra_whitespaces: false }: appended to a serialised
/// model they override the fields.
constexpr std::string_view kNoDummyPrefix("\x1a\x02\x18\x00", 4);
constexpr std::string_view kKeepSpaces("\x1a\x04\x18\x00\x20\x00", 6);
constexpr float kAddedScore = -1000;                     // as llama.cpp's converter gives tokens that are never merged
constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581, SentencePiece's space

std::string with_spaces(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    if (text.substr(at).starts_with(kSpaceMark)) {
      out += ' ';
      at += kSpaceMark.size();
    } else {
      out += text[at++];
    }
  }
  return out;
}

/// What remove_extra_whitespaces does: no spaces at either end, one where there were several.
std::string_view collapse_spaces(std::string_view text, std::string& storage) {
  storage.clear();
  for (char c : text)
    if (c != ' ' || (!storage.empty() && storage.back() != ' ')) storage += c;
  if (storage.ends_with(' ')) storage.pop_back();
  return storage;
}

class SentencePieceTokenizer : public AddedTokenizer {
 public:
  SentencePieceTokenizer(std::string_view bytes, const TokenizerConfig& config, const std::string& name)
      : name_(name), model_(parse_sentencepiece(bytes, name)), cache_owner_(WordCache::new_owner()) {
    drops_first_space = model_.add_dummy_prefix;
    words_ = !model_.has_charsmap && model_.escape_whitespaces;
    for (size_t i = 0; i < model_.pieces.size(); ++i) {
      const auto id = static_cast<int32_t>(i);
      const SentencePieceModel::Piece& p = model_.pieces[i];
      texts_.push_back(with_spaces(p.text));
      if (p.type == SentencePieceModel::kControl || p.type == SentencePieceModel::kUnknown)
        add_token({.id = id, .text = p.text, .special = true}, name);
      if (spans_words(texts_.back())) words_ = false;
    }
    load(first_, bytes);
    load(rest_, std::string(bytes) + std::string(words_ ? kKeepSpaces : kNoDummyPrefix));
    for (const AddedToken& token : config.listed_tokens()) {
      if (token.id > size() + 65536) fail(name, ": added token \"", token.text, "\" has id ", token.id);
      add_token(token, name);
    }
    for (const std::string& text : config.special_texts()) {
      const auto id = find_ordinary(text);
      if (id && added_.by_text(text) == nullptr) add_token({.id = *id, .text = text, .special = true}, name);
    }
    for (const AddedToken& token : added_.all())
      if (token.id >= size()) texts_.resize(static_cast<size_t>(token.id) + 1);
    if (first_.bos_id() >= 0) bos = first_.bos_id();
    if (first_.eos_id() >= 0) eos = {first_.eos_id()};
    // SentencePiece files do not say; every Llama with one begins its texts with BOS.
    adds_bos = bos.has_value();
    apply(config, name);
  }

  std::vector<int32_t> encode(std::string_view text, bool special) const override {
    std::vector<int32_t> out;
    std::string valid;
    const std::string_view clean = valid_utf8(text, valid);
    bool first = model_.add_dummy_prefix;
    const auto plain = [&](std::string_view part) {
      encode_text(part, first, out);
      first = false;
    };
    if (!special) {
      plain(clean);
    } else {
      const auto token = [&](const AddedToken& t) {
        out.push_back(t.id);
        first = false;
      };
      added_.split(
          clean, false, [&](std::string_view part) { added_.split(part, true, plain, token); }, token);
    }
    return out;
  }

  std::string piece(int32_t id) const override {
    if (id < 0 || id >= size()) fail("token id ", id, " is outside the vocabulary of ", size());
    if (const AddedToken* token = added_.by_id(id)) return token->text;
    const auto index = static_cast<size_t>(id);
    if (index < model_.pieces.size() && model_.pieces[index].byte >= 0)
      return std::string(1, static_cast<char>(model_.pieces[index].byte));
    return texts_[index];
  }

  std::string normalise(std::string_view text) const override {
    if (model_.has_charsmap || model_.remove_extra_whitespaces || !model_.escape_whitespaces)
      return decode(encode(text, false));
    std::string valid;
    return with_spaces(valid_utf8(text, valid));
  }

  int64_t size() const override { return static_cast<int64_t>(texts_.size()); }

  Vocabulary vocabulary() const override {
    if (!model_.bpe || model_.has_charsmap || !model_.escape_whitespaces)
      fail(name_, ": a SentencePiece model ", !model_.bpe ? "of the unigram kind" : "with a normalisation of its own",
           " cannot be written in another format");
    Vocabulary out;
    out.byte_level = false;
    out.space_in_front = model_.add_dummy_prefix;
    out.collapses_spaces = model_.remove_extra_whitespaces;
    for (const SentencePieceModel::Piece& piece : model_.pieces) {
      out.tokens.push_back(piece.text);
      out.types.push_back(piece.type);
      out.scores.push_back(piece.score);
    }
    out.tokens.resize(texts_.size());
    out.types.resize(texts_.size(), Vocabulary::unused);
    out.scores.resize(texts_.size(), kAddedScore);
    for (const AddedToken& token : added_.all()) {
      const auto id = static_cast<size_t>(token.id);
      out.tokens[id] = token.text;
      if (out.types[id] != Vocabulary::unknown)
        out.types[id] = token.special ? Vocabulary::control : Vocabulary::user_defined;
    }
    return out;
  }

 protected:
  std::optional<int32_t> find_ordinary(std::string_view text) const override {
    const int id = first_.PieceToId(absl_view(text));
    if (id < 0 || static_cast<size_t>(id) >= model_.pieces.size() ||
        model_.pieces[static_cast<size_t>(id)].text != text)
      return std::nullopt;
    return id;
  }

 private:
  static absl::string_view absl_view(std::string_view s) { return {s.data(), s.size()}; }

  void load(sentencepiece::SentencePieceProcessor& processor, std::string_view bytes) {
    std::string problem;
    try {
      const auto status = processor.LoadFromSerializedProto(absl_view(bytes));
      if (status.ok()) return;
      problem = status.ToString();
    } catch (const std::exception& e) {
      problem = e.what();
    }
    fail(name_, ": SentencePiece refuses the model: ", problem);
  }

  void encode_text(std::string_view text, bool first, std::vector<int32_t>& out) const {
    if (!words_) return encode_with(first ? first_ : rest_, text, out);
    std::string storage;
    if (model_.remove_extra_whitespaces) {
      // A literal U+2581 is not collapsed as a space is: left to the library.
      if (first && text.find(kSpaceMark) != std::string_view::npos) return encode_with(first_, text, out);
      text = collapse_spaces(text, storage);
    } else if (text.find(kSpaceMark) != std::string_view::npos) {
      storage = with_spaces(text);
      text = storage;
    }
    WordCache& cache = WordCache::of(cache_owner_);
    const auto encode = [&](std::string_view word, std::vector<int32_t>& to) { encode_with(rest_, word, to); };
    for_each_spaced_word(text, [&](std::string_view word) {
      if (first) {
        encode_with(first_, word, out);
        first = false;
      } else {
        cache.encode(word, out, encode);
      }
    });
  }

  void encode_with(const sentencepiece::SentencePieceProcessor& processor, std::string_view text,
                   std::vector<int32_t>& out) const {
    std::vector<int> ids;
    const auto status = processor.Encode(absl_view(text), &ids);
    if (!status.ok()) fail(name_, ": cannot encode ", text.size(), " bytes: ", status.ToString());
    out.insert(out.end(), ids.begin(), ids.end());
  }

  std::string name_;
  SentencePieceModel model_;
  uint64_t cache_owner_;
  sentencepiece::SentencePieceProcessor first_, rest_;  // for a text's first word, and for later ones
  std::vector<std::string> texts_;                      // by id, spaces as spaces
  bool words_ = true;                                   // no piece spans a cut between words
};

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_from_sentencepiece(std::string_view bytes, const TokenizerConfig& config,
                                                        const std::string& name) {
  return std::make_unique<SentencePieceTokenizer>(bytes, config, name);
}

}  // namespace qwerky
