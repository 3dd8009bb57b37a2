// SPDX-License-Identifier: MIT
// llama2.c's tokenizer.bin: SentencePiece pieces with scores, merged greedily by best score.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>

#include "base/error.h"
#include "io/tokenizer_formats.h"
#include "io/tokenizer_utf8.h"

namespace qwerky {

namespace {

constexpr int32_t kFirstByte = 3;  // ids 3 to 258 are the bytes 0 to 255
constexpr int32_t kFirstPiece = kFirstByte + 256;

class Llama2cTokenizer : public AddedTokenizer {
 public:
  Llama2cTokenizer(std::string_view bytes, const TokenizerConfig& config, const std::string& name) {
    parse(bytes, name);
    drops_first_space = true;
    bos = 1;
    adds_bos = true;
    // These models were trained on texts that follow each other with BOS between: BOS ends a text, too.
    eos = {2, 1};
    apply(config, name);
  }

  std::string normalise(std::string_view text) const override {
    std::string valid;
    return std::string(valid_utf8(text, valid));
  }

  Vocabulary vocabulary() const override {
    Vocabulary out;
    out.byte_level = false;
    out.scores = scores_;
    for (size_t id = 0; id < pieces_.size(); ++id) {
      std::string text;
      if (id >= kFirstByte && id < kFirstPiece) {
        char name[8];
        std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(id - kFirstByte));
        text = name;
      } else {
        for (const char c : pieces_[id]) c == ' ' ? text += "\xE2\x96\x81" : text += c;
      }
      out.tokens.push_back(text);
      out.types.push_back(static_cast<int32_t>(id) < kFirstPiece ? Vocabulary::byte : Vocabulary::normal);
    }
    for (const AddedToken& token : added_.all()) {
      const auto id = static_cast<size_t>(token.id);
      out.tokens[id] = token.text;
      out.types[id] = id == 0 ? Vocabulary::unknown : token.special ? Vocabulary::control : Vocabulary::user_defined;
    }
    return out;
  }

 protected:
  std::optional<int32_t> find_ordinary(std::string_view text) const override {
    const auto it = ids_.find(text);
    if (it == ids_.end()) return std::nullopt;
    return it->second;
  }

 private:
  void parse(std::string_view bytes, const std::string& name) {
    static_assert(std::endian::native == std::endian::little);
    size_t at = 0;
    const auto read = [&](void* to, size_t n, const char* what) {
      if (bytes.size() - at < n)
        fail(name, ": token ", pieces_.size(), ": file ends inside its ", what, " (", bytes.size(), " bytes)");
      std::memcpy(to, bytes.data() + at, n);
      at += n;
    };
    int32_t longest = 0;
    read(&longest, 4, "header");
    if (longest <= 0 || static_cast<size_t>(longest) > bytes.size())
      fail(name, ": not a llama2.c tokenizer: longest piece ", longest, " in a file of ", bytes.size(), " bytes");
    while (at < bytes.size()) {
      float score = 0;
      int32_t length = 0;
      read(&score, 4, "score");
      read(&length, 4, "length");
      if (!std::isfinite(score)) fail(name, ": token ", pieces_.size(), ": score is not a number");
      if (length < 0 || static_cast<size_t>(length) > bytes.size() - at)
        fail(name, ": token ", pieces_.size(), ": length ", length, ", only ", bytes.size() - at, " bytes are left");
      scores_.push_back(score);
      pieces_.emplace_back(bytes.substr(at, static_cast<size_t>(length)));
      at += static_cast<size_t>(length);
    }
    if (size() < kFirstPiece)
      fail(name, ": has ", size(), " tokens, expected at least ", kFirstPiece, " (unknown, BOS, EOS and 256 bytes)");
    read_specials(name);
    build_merges();
  }

  void read_specials(const std::string& name) {
    static constexpr const char* kTexts[] = {"<unk>", "<s>", "</s>"};
    for (int32_t id = 0; id < kFirstByte; ++id) {
      // llama2.c's exporter writes a line feed on both sides of BOS and EOS.
      std::string text = pieces_[static_cast<size_t>(id)];
      std::erase(text, '\n');
      if (text.empty()) text = kTexts[id];
      add_token({.id = id, .text = text, .special = true}, name);
    }
    for (int32_t b = 0; b < 256; ++b) {
      static constexpr char kHex[] = "0123456789ABCDEF";
      const std::string want = {'<', '0', 'x', kHex[b / 16], kHex[b % 16], '>'};
      std::string& piece = pieces_[static_cast<size_t>(kFirstByte + b)];
      if (piece != want)
        fail(name, ": token ", kFirstByte + b, ": expected the byte ", want, ", found another piece of ", piece.size(),
             " bytes");
      piece = std::string(1, static_cast<char>(b));
    }
  }

  void build_merges() {
    std::vector<std::string_view> pieces(pieces_.begin() + kFirstPiece, pieces_.end());
    std::map<float, int32_t, std::greater<>> rank_of;  // equal scores, equal rank: then the leftmost pair wins
    for (size_t i = 0; i < pieces.size(); ++i) rank_of.emplace(scores_[i + kFirstPiece], 0);
    int32_t next = 0;
    for (auto& [score, rank] : rank_of) rank = next++;
    std::vector<int32_t> ranks;
    std::unordered_map<std::string_view, int32_t> ids;
    for (size_t i = 0; i < pieces.size(); ++i) {
      ranks.push_back(rank_of[scores_[i + kFirstPiece]]);
      ids.emplace(pieces[i], static_cast<int32_t>(i) + kFirstPiece);
      ids_.emplace(pieces[i], static_cast<int32_t>(i) + kFirstPiece);
      if (spans_words(pieces[i])) words_ = false;
    }
    bpe_.add_all_splits(pieces, ranks, ids);
  }

  void encode_text(std::string_view text, bool first, std::vector<int32_t>& out) const override {
    std::string spaced;
    if (first) text = spaced = " " + std::string(text);
    if (!words_) return encode_word(text, out);
    WordCache& cache = WordCache::of(cache_owner_);
    const auto encode = [this](std::string_view word, std::vector<int32_t>& to) { encode_word(word, to); };
    for_each_spaced_word(text, [&](std::string_view word) { cache.encode(word, out, encode); });
  }

  void encode_word(std::string_view word, std::vector<int32_t>& out) const {
    std::vector<int32_t> symbols;
    symbols.reserve(word.size());
    for (size_t at = 0; at < word.size();) {
      const auto length = static_cast<size_t>(utf8_step(word, at).length);
      const std::string_view character = word.substr(at, length);
      at += length;
      const auto it = ids_.find(character);
      if (it != ids_.end()) {
        symbols.push_back(it->second);
      } else {
        for (char c : character) symbols.push_back(kFirstByte + static_cast<unsigned char>(c));
      }
    }
    bpe_.merge(symbols);
    out.insert(out.end(), symbols.begin(), symbols.end());
  }

  std::vector<float> scores_;
  StringMap<int32_t> ids_;  // pieces from kFirstPiece on; the first of equal ones
  Bpe bpe_;
  bool words_ = true;
};

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_from_llama2c(std::string_view bytes, const TokenizerConfig& config,
                                                  const std::string& name) {
  return std::make_unique<Llama2cTokenizer>(bytes, config, name);
}

}  // namespace qwerky
