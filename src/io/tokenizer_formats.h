// SPDX-License-Identifier: MIT
// One loader per vocabulary format, each from bytes. `name` is for messages. All throw Error on malformed input.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "io/files.h"
#include "io/tokenizer.h"
#include "io/tokenizer_added.h"

namespace qwerky {

/// The JSON files beside a vocabulary; null where absent.
struct TokenizerConfig {
  Json tokenizer_config, special_tokens_map, added_tokens, config, generation_config;
  std::string place = {};  ///< what stands before the files' names in messages: "DIRECTORY/"

  /// added_tokens_decoder of tokenizer_config.json and the entries of added_tokens.json.
  std::vector<AddedToken> listed_tokens() const;
  /// Text of a role such as "bos_token"; empty when it is absent or null.
  std::string role(const std::string& key) const;
  /// Text of every role and of additional_special_tokens.
  std::vector<std::string> special_texts() const;
  /// tokenizer_class without the suffix "Fast".
  std::string tokenizer_class() const;
};

/// A tokenizer that has added tokens and takes bos, eos and adds_bos from the files beside its vocabulary. A format
/// fills pieces_ and says how plain text is encoded.
class AddedTokenizer : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text, bool special) const override;
  std::string piece(int32_t id) const override;
  int64_t size() const override { return static_cast<int64_t>(pieces_.size()); }
  bool is_special(int32_t id) const override;

 protected:
  /// Appends the ids of valid UTF-8 between added tokens; `first`: it begins the text.
  virtual void encode_text(std::string_view text, bool first, std::vector<int32_t>& out) const = 0;
  /// The text that encode_text wants; returned as it is, or as a view of `storage`.
  virtual std::string_view normal_form(std::string_view text, std::string&) const { return text; }
  /// Adds `token` after checking that its id is plausible; names `where` in the message.
  void add_token(AddedToken token, const std::string& where);
  /// Adds the tokens that `config` lists and those of its special texts that are ordinary pieces; pieces_ grows to hold
  /// them, up to id `largest`.
  void add_listed(const TokenizerConfig& config, int64_t largest, const std::string& name);
  /// Sets bos, eos and adds_bos from `config`, keeping what is set already where it says nothing.
  void apply(const TokenizerConfig& config, const std::string& name);
  std::optional<int32_t> find_special(std::string_view text) const override;
  /// An ordinary vocabulary entry with exactly this text.
  virtual std::optional<int32_t> find_ordinary(std::string_view text) const = 0;
  AddedTokens added_;
  std::vector<std::string> pieces_;  ///< bytes by id; "" for gaps
  uint64_t cache_owner_ = WordCache::new_owner();
};

/// A byte-level vocabulary as Hugging Face's tokenizer.json.
Json tokenizer_json(const Vocabulary& vocabulary);
/// tokenizer.json: byte-level BPE.
std::unique_ptr<Tokenizer> tokenizer_from_json(std::string_view text, const TokenizerConfig& config,
                                               const std::string& name);
/// vocab.json + merges.txt of GPT-2 or Qwen2, told by tokenizer_class, else by content.
std::unique_ptr<Tokenizer> tokenizer_from_vocab(std::string_view vocab, std::string_view merges,
                                                const TokenizerConfig& config, const std::string& name);
/// Llama-3's rank file: lines of base64 bytes and a rank.
std::unique_ptr<Tokenizer> tokenizer_from_tiktoken(std::string_view text, const TokenizerConfig& config,
                                                   const std::string& name);
bool is_tiktoken(std::string_view bytes);
/// A SentencePiece model, BPE or unigram.
std::unique_ptr<Tokenizer> tokenizer_from_sentencepiece(std::string_view bytes, const TokenizerConfig& config,
                                                        const std::string& name);
bool is_sentencepiece(std::string_view bytes);
/// llama2.c's tokenizer.bin: int32 longest piece, then per token f32 score, int32 length, bytes (little-endian).
std::unique_ptr<Tokenizer> tokenizer_from_llama2c(std::string_view bytes, const TokenizerConfig& config,
                                                  const std::string& name);

}  // namespace qwerky
