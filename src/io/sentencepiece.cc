// SPDX-License-Identifier: MIT
// SentencePiece models. The library trusts its input, so the protobuf is checked here first.
#include <sentencepiece_processor.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <map>

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
      : name_(name), model_(parse_sentencepiece(bytes, name)) {
    drops_first_space = model_.add_dummy_prefix;
    words_ = !model_.has_charsmap && model_.escape_whitespaces;
    for (size_t i = 0; i < model_.pieces.size(); ++i) {
      const auto id = static_cast<int32_t>(i);
      const SentencePieceModel::Piece& p = model_.pieces[i];
      pieces_.push_back(p.byte >= 0 ? std::string(1, static_cast<char>(p.byte)) : with_spaces(p.text));
      if (p.type == SentencePieceModel::kControl || p.type == SentencePieceModel::kUnknown)
        add_token({.id = id, .text = p.text, .special = true}, name);
      if (spans_words(pieces_.back())) words_ = false;
    }
    merges_ = words_ && build_merges();
    load(first_, bytes);
    if (!merges_) load(rest_, std::string(bytes) + std::string(words_ ? kKeepSpaces : kNoDummyPrefix));
    add_listed(config, size() + 65536, name);
    if (first_.bos_id() >= 0) bos = first_.bos_id();
    if (first_.eos_id() >= 0) eos = {first_.eos_id()};
    // SentencePiece files do not say; every Llama with one begins its texts with BOS.
    adds_bos = bos.has_value();
    apply(config, name);
  }

  std::string normalise(std::string_view text) const override {
    if (model_.has_charsmap || model_.remove_extra_whitespaces || !model_.escape_whitespaces)
      return decode(encode(text, false));
    std::string valid;
    return with_spaces(valid_utf8(text, valid));
  }

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
    out.tokens.resize(pieces_.size());
    out.types.resize(pieces_.size(), Vocabulary::unused);
    out.scores.resize(pieces_.size(), kAddedScore);
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

  /// Merges of our own, several times as fast as the library's, where they do the same: pieces ranked by score,
  /// characters that are no piece written as bytes. False where the model is of another kind.
  bool build_merges() {
    bytes_.fill(-1);
    std::vector<std::string_view> pieces;
    std::unordered_map<std::string_view, int32_t> ids;
    std::map<float, int32_t, std::greater<>> rank_of;  // equal scores, equal rank: then the leftmost pair wins
    for (size_t i = 0; i < model_.pieces.size(); ++i) {
      const SentencePieceModel::Piece& p = model_.pieces[i];
      if (p.type == SentencePieceModel::kUserDefined || p.type == SentencePieceModel::kUnused) return false;
      if (p.type == SentencePieceModel::kByte) bytes_[static_cast<size_t>(p.byte)] = static_cast<int32_t>(i);
      if (p.type != SentencePieceModel::kNormal) continue;
      pieces.push_back(pieces_[i]);
      ids.emplace(pieces_[i], static_cast<int32_t>(i));
      rank_of.emplace(p.score, 0);
    }
    if (!model_.bpe || std::count(bytes_.begin(), bytes_.end(), -1) > 0) return false;
    int32_t next = 0;
    for (auto& [score, rank] : rank_of) rank = next++;
    std::vector<int32_t> ranks;
    for (const std::string_view piece : pieces) {
      ranks.push_back(rank_of[model_.pieces[static_cast<size_t>(ids[piece])].score]);
      if (!each_character(piece, [&](std::string_view c) { return ids.contains(c); })) return false;
    }
    bpe_.add_all_splits(pieces, ranks, ids);
    for (const std::string_view piece : pieces) ids_.emplace(piece, ids[piece]);  // frequent ones side by side
    return true;
  }

  /// Whether f holds for every character, as far as it does.
  template <class F>
  static bool each_character(std::string_view text, F&& f) {
    for (size_t at = 0, length = 0; at < text.size(); at += length) {
      length = static_cast<size_t>(utf8_step(text, at).length);
      if (!f(text.substr(at, length))) return false;
    }
    return true;
  }

  void merge_word(std::string_view word, std::vector<int32_t>& out) const {
    std::vector<int32_t> symbols;
    symbols.reserve(word.size());
    each_character(word, [&](std::string_view character) {
      if (const auto it = ids_.find(character); it != ids_.end()) {
        symbols.push_back(it->second);
      } else {
        for (char c : character) symbols.push_back(bytes_[static_cast<unsigned char>(c)]);
      }
      return true;
    });
    bpe_.merge(symbols);
    out.insert(out.end(), symbols.begin(), symbols.end());
  }

  void encode_text(std::string_view text, bool first, std::vector<int32_t>& out) const override {
    first = first && model_.add_dummy_prefix;
    if (!words_) return encode_with(first ? first_ : rest_, text, out);
    std::string storage;
    if (model_.remove_extra_whitespaces) {
      // A literal U+2581 is not collapsed as a space is: left to the library.
      if (first && text.find(kSpaceMark) != std::string_view::npos) return encode_with(first_, text, out);
      text = collapse_spaces(text, storage);
    }
    if (text.find(kSpaceMark) != std::string_view::npos) {
      storage = with_spaces(text);
      text = storage;
    }
    std::string spaced;
    if (merges_ && first && !text.empty()) {
      text = spaced = " " + std::string(text);
      first = false;
    }
    WordCache& cache = WordCache::of(cache_owner_);
    const auto encode = [&](std::string_view word, std::vector<int32_t>& to) {
      merges_ ? merge_word(word, to) : encode_with(rest_, word, to);
    };
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
  // For a text's first word, and for later ones. Where merges_ holds, the second is not loaded.
  sentencepiece::SentencePieceProcessor first_, rest_;
  bool words_ = true;    // no piece spans a cut between words
  bool merges_ = false;  // encoded with what follows, not by the library
  Bpe bpe_;
  StringMap<int32_t> ids_;  // of normal pieces
  std::array<int32_t, 256> bytes_{};
};

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_from_sentencepiece(std::string_view bytes, const TokenizerConfig& config,
                                                        const std::string& name) {
  return std::make_unique<SentencePieceTokenizer>(bytes, config, name);
}

}  // namespace qwerky
