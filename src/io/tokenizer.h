// SPDX-License-Identifier: MIT
// Text ⇄ token ids, for every vocabulary format the supported models ship.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qwerky {

/// What a tokenizer is made of, to be written in another format.
struct Vocabulary {
  enum Type : int32_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };  // as in GGUF
  bool byte_level = true;           ///< BPE over GPT-2's byte alphabet; otherwise SentencePiece's BPE
  std::vector<std::string> tokens;  ///< by id: in the byte alphabet, or with U+2581 for a space; "" for unused ids
  std::vector<int32_t> types;
  std::string pre_tokenizer;                             ///< byte level: PreTokenizer::description()
  std::vector<std::string> merges;                       ///< byte level: "left right", by rank
  bool ignore_merges = false;                            ///< byte level: a word that is in the vocabulary is that token
  bool nfc = false;                                      ///< byte level: texts are composed first
  std::vector<float> scores;                             ///< SentencePiece
  bool space_in_front = true, collapses_spaces = false;  ///< SentencePiece
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Ids of `text`, without BOS or EOS. With `special`, added and special tokens written in the text are
  /// recognised; without, they are ordinary text (what a prompt from a stranger should get). Bytes that are not
  /// UTF-8 become U+FFFD. Any number of threads may encode at once.
  virtual std::vector<int32_t> encode(std::string_view text, bool special = true) const = 0;
  /// The bytes one id stands for; may be part of a UTF-8 character. Special tokens give their text.
  /// Throws Error when id is outside [0, size()).
  virtual std::string piece(int32_t id) const = 0;
  /// Bytes of a sequence that begins a text; special tokens are left out when `skip_special`.
  virtual std::string decode(std::span<const int32_t> ids, bool skip_special = false) const;
  /// The text that decode(encode(text)) gives back: NFC for Qwen; the model's own
  /// rules for SentencePiece.
  virtual std::string normalise(std::string_view text) const = 0;
  /// One more than the largest id.
  virtual int64_t size() const = 0;
  virtual bool is_special(int32_t id) const = 0;
  /// Throws Error where it has parts that no other format could hold.
  virtual Vocabulary vocabulary() const = 0;

  std::optional<int32_t> bos;  ///< begins a text, where the model has such a token
  bool adds_bos = false;       ///< the model expects `bos` in front of every text
  std::vector<int32_t> eos;    ///< any of these ends a text; the first is the one to write
  /// encode() puts a space in front of a text, and decode() drops it from the first piece (SentencePiece).
  bool drops_first_space = false;
  std::string chat_template;                           ///< Jinja source; empty when the model has none
  std::map<std::string, std::string> named_templates;  ///< where tokenizer_config.json lists several
  std::map<std::string, std::string> special_texts;    ///< what a chat template reads: "bos_token", "eos_token", …
  std::optional<int32_t> id_of(std::string_view special_token) const;  ///< by the token's exact text

 protected:
  virtual std::optional<int32_t> find_special(std::string_view text) const = 0;
};

/// Finds and loads the tokenizer of a model: a directory (tokenizer.json; vocab.json + merges.txt;
/// tokenizer.model as tiktoken ranks or SentencePiece, told by content; llama2.c tok*.bin / tok*.model), or
/// one such file, a GGUF file or a packed model. tokenizer_config.json, special_tokens_map.json and config.json beside
/// it add special tokens, bos/eos and adds_bos. Throws Error naming what was looked for and found.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path);

/// Files that make up the tokenizer which load_tokenizer finds at `path`, to be copied beside a converted model.
std::vector<std::filesystem::path> tokenizer_files(const std::filesystem::path& path);

/// Names and contents.
using TokenizerFiles = std::vector<std::pair<std::string, std::string>>;
/// The tokenizer at `from` (as load_tokenizer takes it): its files, or the vocabulary of a GGUF file as tokenizer.json
/// or tokenizer.model with tokenizer_config.json and generation_config.json.
TokenizerFiles tokenizer_contents(const std::filesystem::path& from);

/// Writes these into `dir`, which is made if absent.
void copy_tokenizer(const std::filesystem::path& from, const std::filesystem::path& dir);

/// Trains a byte-level BPE (GPT-2 byte alphabet, Qwen2 pre-tokenizer) of `vocab_size` tokens including
/// `special`, and returns the text of its tokenizer.json. Deterministic: ties go to the pair of lowest ids.
std::string train_bpe(std::string_view corpus, int64_t vocab_size, const std::vector<std::string>& special);

/// Emits only whole UTF-8 characters while ids arrive one by one; invalid bytes become U+FFFD. Ids continue a text;
/// push `bos` first where they begin one, so that the space of a SentencePiece model's first piece is dropped.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}
  std::string push(int32_t id);
  /// What is left at the end, invalid bytes replaced.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  bool begins_ = false;  // the next piece begins a text
  std::string pending_;
};

}  // namespace qwerky
