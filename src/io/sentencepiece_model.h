// SPDX-License-Identifier: MIT
// The parts of a SentencePiece model file (protobuf message ModelProto) that must be known or checked before use.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qwerky {

struct SentencePieceModel {
  enum Type { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };
  struct Piece {
    std::string text;
    float score = 0;
    int type = kNormal;
    int byte = -1;  ///< value of a kByte piece
  };
  std::vector<Piece> pieces;
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
  bool has_charsmap = false;
  bool bpe = false;  ///< otherwise unigram
};

/// Throws Error unless `bytes` is a whole, well-formed model whose normalisation table stays inside itself.
SentencePieceModel parse_sentencepiece(std::string_view bytes, const std::string& name);
struct Vocabulary;
/// The model of a SentencePiece vocabulary. What is user-defined there becomes control pieces: an added token, found
/// before the model sees the text and never merged.
SentencePieceModel sentencepiece_of(const Vocabulary& vocabulary);
/// A model file of these pieces; byte fallback when there are byte pieces. Without a normalisation table.
std::string write_sentencepiece(const SentencePieceModel& model);

}  // namespace qwerky
