// SPDX-License-Identifier: MIT
// llama2.c's tokenizer.bin: the pieces and scores of a SentencePiece model, read as the model they came from.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "io/sentencepiece_model.h"
#include "io/tokenizer_formats.h"

namespace qwerky {

namespace {

constexpr size_t kFirstByte = 3;  // ids 3 to 258 are the bytes 0 to 255
constexpr size_t kFirstPiece = kFirstByte + 256;

/// The pieces as they stand in the file.
Vocabulary read_pieces(std::string_view bytes, const std::string& name) {
  static_assert(std::endian::native == std::endian::little);
  Vocabulary v;
  v.byte_level = false;
  size_t at = 0;
  const auto read = [&](void* to, size_t n, const char* what) {
    if (bytes.size() - at < n)
      fail(name, ": token ", v.tokens.size(), ": file ends inside its ", what, " (", bytes.size(), " bytes)");
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
    if (!std::isfinite(score)) fail(name, ": token ", v.tokens.size(), ": score is not a number");
    if (length < 0 || static_cast<size_t>(length) > bytes.size() - at)
      fail(name, ": token ", v.tokens.size(), ": length ", length, ", only ", bytes.size() - at, " bytes are left");
    v.scores.push_back(score);
    v.tokens.emplace_back(bytes.substr(at, static_cast<size_t>(length)));
    at += static_cast<size_t>(length);
  }
  if (v.tokens.size() < kFirstPiece)
    fail(name, ": has ", v.tokens.size(), " tokens, expected at least ", kFirstPiece,
         " (unknown, BOS, EOS and 256 bytes)");
  return v;
}

/// SentencePiece's types and texts: the first ids are special, then the bytes, then pieces with U+2581 for a space.
void restore(Vocabulary& v, const std::string& name) {
  v.types.assign(v.tokens.size(), Vocabulary::normal);
  static constexpr const char* kTexts[] = {"<unk>", "<s>", "</s>"};
  for (size_t id = 0; id < kFirstByte; ++id) {
    std::erase(v.tokens[id], '\n');  // llama2.c's exporter writes a line feed on both sides of BOS and EOS
    if (v.tokens[id].empty()) v.tokens[id] = kTexts[id];
    v.types[id] = id == 0 ? Vocabulary::unknown : Vocabulary::control;
  }
  for (size_t b = 0; b < 256; ++b) {
    static constexpr char kHex[] = "0123456789ABCDEF";
    const std::string want = {'<', '0', 'x', kHex[b / 16], kHex[b % 16], '>'};
    const std::string& piece = v.tokens[kFirstByte + b];
    if (piece != want)
      fail(name, ": token ", kFirstByte + b, ": expected the byte ", want, ", found another piece of ", piece.size(),
           " bytes");
    v.types[kFirstByte + b] = Vocabulary::byte;
  }
  for (size_t id = kFirstPiece; id < v.tokens.size(); ++id)
    for (size_t at = 0; (at = v.tokens[id].find(' ', at)) != std::string::npos;)
      v.tokens[id].replace(at, 1, "\xE2\x96\x81");
}

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_from_llama2c(std::string_view bytes, const TokenizerConfig& config,
                                                  const std::string& name) {
  Vocabulary v = read_pieces(bytes, name);
  restore(v, name);
  auto out = tokenizer_from_sentencepiece(write_sentencepiece(sentencepiece_of(v)), config, name);
  if (!out->bos) out->bos = 1, out->adds_bos = true;  // a file whose BOS is not called <s>
  // These models were trained on texts that follow each other with BOS between: BOS ends a text, too.
  for (const int32_t id : {2, 1})
    if (std::find(out->eos.begin(), out->eos.end(), id) == out->eos.end()) out->eos.push_back(id);
  return out;
}

}  // namespace qwerky
