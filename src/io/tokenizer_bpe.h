// SPDX-License-Identifier: MIT
// The tokenizer of GPT-2, Qwen, Llama-3 and SmolLM2: bytes, a pre-tokenizer pattern, merges.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "io/bpe.h"
#include "io/pretokenizer.h"
#include "io/tokenizer_formats.h"

namespace qwerky {

class ByteLevelTokenizer : public AddedTokenizer {
 public:
  /// `file_bytes` bounds the ids: the table by id may not be out of proportion to the file.
  ByteLevelTokenizer(std::string name, size_t file_bytes);

  std::string normalise(std::string_view text) const override;
  Vocabulary vocabulary() const override;

  // Construction, in this order.

  void reserve(size_t pieces) { ids_.reserve(pieces); }
  /// The bytes of `id`; repeated ids or bytes are errors. Pieces that are not `mergeable` only decode. Empty bytes make
  /// room for the id.
  void add_piece(std::string bytes, int64_t id, bool mergeable = true);
  /// Merge number `rank` of vocabulary entries given by their bytes.
  void add_merge(std::string_view left, std::string_view right, int32_t rank);
  /// The same from a line "left right" in the byte alphabet; `where` is for messages.
  void add_merge_line(std::string_view line, int32_t rank, const std::string& where);
  /// Every merge of two pieces into a third, ranked by the third's id (tiktoken).
  void add_all_merges();
  void add(AddedToken token) { add_token(std::move(token), name_); }
  PreTokenizer pre_tokenizer;
  bool use_nfc = false;
  bool ignore_merges = false;      ///< a word that is in the vocabulary is that token, whatever the merges say
  std::optional<int32_t> unknown;  ///< for bytes without a token
  bool fuse_unknown = false;
  void finish(const TokenizerConfig& config);
  std::optional<int32_t> find_ordinary(std::string_view text) const override;
  int64_t pieces() const { return static_cast<int64_t>(ids_.size()); }

 private:
  void encode_text(std::string_view text, bool first, std::vector<int32_t>& out) const override;
  std::string_view normal_form(std::string_view text, std::string& storage) const override;
  void encode_word(std::string_view word, std::vector<int32_t>& out) const;
  std::string name_;
  int64_t largest_id_;
  StringMap<int32_t> ids_;  // without added tokens
  std::array<int32_t, 256> byte_id_{};
  Bpe bpe_;
};

}  // namespace qwerky
