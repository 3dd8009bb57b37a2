// SPDX-License-Identifier: MIT
// Vocabularies inside GGUF: real files, every kind of tokenizer written and read again, broken ones.
#include <gtest/gtest.h>

#include <cmath>

#include "data.h"
#include "expect_error.h"
#include "gguf_bytes.h"
#include "io/tokenizer_formats.h"
#include "io/tokenizer_gguf.h"
#include "sentencepiece_proto.h"
#include "tokenizer_check.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::GgufBytes;
using testing::golden;
using testing::has;
using testing::Ids;
using testing::shared_data;

/// The tokenizer as it comes back from a GGUF file with `vocab` ids.
std::unique_ptr<Tokenizer> through_gguf(const Tokenizer& t, int64_t vocab) {
  GgufMetadata meta;
  add_tokenizer(meta, t, vocab);
  const Path path = testing::scratch_dir("gguf-tokenizer") / "v.gguf";
  write_gguf(path, meta, {});
  return load_tokenizer(path);
}

void expect_same(const Tokenizer& got, const Tokenizer& want, int64_t vocab) {
  EXPECT_EQ(got.size(), vocab);
  EXPECT_EQ(got.bos, want.bos);
  EXPECT_EQ(got.adds_bos, want.adds_bos);
  ASSERT_GE(got.eos.size(), want.eos.size());  // a file's reader adds the tokens that end a text by their names
  EXPECT_TRUE(std::equal(want.eos.begin(), want.eos.end(), got.eos.begin()));
  EXPECT_EQ(got.drops_first_space, want.drops_first_space);
  EXPECT_EQ(got.chat_template, want.chat_template);
  for (int32_t id = 0; id < want.size(); ++id) {
    ASSERT_EQ(got.piece(id), want.piece(id)) << id;
    ASSERT_EQ(got.is_special(id), want.is_special(id)) << id;
  }
  for (int i = 0; i < 600; ++i) {
    const std::string text = testing::random_text(static_cast<uint64_t>(i), 40);
    ASSERT_EQ(got.encode(text, false), want.encode(text, false)) << text;
  }
}

class LlamaCppFile : public ::testing::TestWithParam<const char*> {};

TEST_P(LlamaCppFile, PassesItsCasesAndProperties) {
  const auto path = shared_data(std::string("tokenizers/llama.cpp-golden/ggml-vocab-") + GetParam() + ".gguf");
  NEEDS_DATA(path);
  const auto t = load_tokenizer(path);
  testing::check_llama_cpp(*t, GetParam());
  testing::check_properties(*t, 500);
}

INSTANTIATE_TEST_SUITE_P(Golden, LlamaCppFile, ::testing::Values("gpt-2", "llama-spm"));

struct Source {
  const char* vocabulary;  // llama.cpp's cases; "" without
  const char* path;
};
class WrittenVocabulary : public ::testing::TestWithParam<Source> {};

TEST_P(WrittenVocabulary, GivesTheSameIdsFromGguf) {
  const auto path = shared_data(GetParam().path);
  NEEDS_DATA(path);
  const auto from = load_tokenizer(path);
  const int64_t vocab = from->size() + 100;  // padded, as models are
  const auto t = through_gguf(*from, vocab);
  expect_same(*t, *from, vocab);
  if (*GetParam().vocabulary != '\0') testing::check_llama_cpp(*t, GetParam().vocabulary);
}

INSTANTIATE_TEST_SUITE_P(Shared, WrittenVocabulary,
                         ::testing::Values(Source{"gpt-2", "tokenizers/gpt2"}, Source{"qwen2", "tokenizers/qwen"},
                                           Source{"llama-bpe", "tokenizers/llama3/tokenizer.model"},
                                           Source{"llama-spm", "tokenizers/llama2/tokenizer.model"},
                                           Source{"llama-spm", "tokenizers/llama2/tokenizer.bin"},
                                           Source{"", "tokenizers/smollm2"},
                                           Source{"", "models/stories260K/tok512.bin"}));

TEST(GgufTokenizer, ByteLevelWithAddedTokens) {
  auto from = load_tokenizer(golden("tokenizer/tiny.json"));
  from->chat_template = "{{ messages }}";
  const auto t = through_gguf(*from, 350);
  expect_same(*t, *from, 350);
  EXPECT_EQ(t->encode("a<tool><|endoftext|>"), from->encode("a<tool><|endoftext|>"));
  EXPECT_FALSE(t->is_special(340));
  EXPECT_EQ(t->normalise("e\xCC\x81"), "é") << "qwen2's tokenizers compose";
  EXPECT_EQ(t->piece(349), "");
  EXPECT_PRED2(has, error_of([&] { through_gguf(*from, 343); }), "has 344 tokens, the model 343");
}

TEST(GgufTokenizer, SentencePieceAndLlama2c) {
  const auto model = tokenizer_from_sentencepiece(testing::tiny_sentencepiece(), {}, "tiny");
  expect_same(*through_gguf(*model, 265), *model, 265);
  const auto bin = load_tokenizer(golden("tokenizer/tiny_tok.bin"));
  expect_same(*through_gguf(*bin, bin->size()), *bin, bin->size());
  // Added tokens keep their kind and are found before the model sees the text.
  TokenizerConfig config;
  config.tokenizer_config = {
      {"added_tokens_decoder",
       {{"265", {{"content", "<tool>"}, {"special", false}}}, {"266", {{"content", "<turn>"}, {"special", true}}}}}};
  const auto added = tokenizer_from_sentencepiece(testing::tiny_sentencepiece(), config, "tiny");
  const auto t = through_gguf(*added, 270);
  expect_same(*t, *added, 270);
  EXPECT_EQ(t->encode("a<tool>a<turn>"), (Ids{259, 265, 262, 266}));
}

/// The vocabulary of a GGUF file as files of a directory: what a converted model gets.
TEST(GgufTokenizer, BecomesFilesOfADirectory) {
  const Path dir = testing::scratch_dir("gguf-tokenizer-files");
  auto tiny = load_tokenizer(golden("tokenizer/tiny.json"));
  tiny->chat_template = "{{ messages }}";
  TokenizerConfig config;
  config.tokenizer_config = {{"added_tokens_decoder", {{"265", {{"content", "<tool>"}, {"special", false}}}}}};
  const auto pieces = tokenizer_from_sentencepiece(testing::tiny_sentencepiece(), config, "tiny");
  for (const Tokenizer* from :
       {static_cast<const Tokenizer*>(tiny.get()), static_cast<const Tokenizer*>(pieces.get())}) {
    GgufMetadata meta;
    add_tokenizer(meta, *from, from->size());
    write_gguf(dir / "v.gguf", meta, {});
    const Path made = dir / (from == tiny.get() ? "bytes" : "pieces");
    copy_tokenizer(dir / "v.gguf", made);
    expect_same(*load_tokenizer(made), *from, from->size());
  }
  write_file(dir / "tok344.bin", read_file(golden("tokenizer/tiny_tok.bin")));
  copy_tokenizer(dir / "tok344.bin", dir / "file");
  EXPECT_EQ(load_tokenizer(dir / "file")->eos, (Ids{2, 1})) << "one file, as of a llama2.c model";
  copy_tokenizer(dir / "bytes", dir / "again");
  EXPECT_EQ(load_tokenizer(dir / "again")->chat_template, "{{ messages }}");
}

TEST(GgufTokenizer, WhatGgufCannotNameIsRefused) {
  Json json = read_json(golden("tokenizer/tiny.json"));
  json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "\\w+";
  const auto odd = tokenizer_from_json(json.dump(), {}, "odd");
  EXPECT_PRED2(has, error_of([&] { through_gguf(*odd, 400); }),
               "GGUF has no name for a pre-tokenizer of these steps: [{");
  std::string unigram = testing::tiny_sentencepiece() + testing::bytes_field(2, testing::number_field(3, 1));
  const auto t = tokenizer_from_sentencepiece(unigram, {}, "uni");
  EXPECT_PRED2(has, error_of([&] { through_gguf(*t, 265); }), "of the unigram kind cannot be written");
}

/// A small byte-level vocabulary: the bytes, "ab", and two control tokens.
struct BytePieces {
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  std::vector<std::string> merges{"a b"};
  std::string pre = "gpt-2";
  BytePieces() {
    for (int b = 0; b < 256; ++b) tokens.push_back(bytes_to_alphabet(std::string(1, static_cast<char>(b))));
    tokens.insert(tokens.end(), {"ab", "<|endoftext|>", "<|im_end|>"});
    types.assign(257, 1);
    types.insert(types.end(), {3, 3});
  }
  GgufBytes file() const {
    GgufBytes out;
    out.text("tokenizer.ggml.model", "gpt2").texts("tokenizer.ggml.tokens", tokens);
    out.numbers("tokenizer.ggml.token_type", GgufType::i32, types).texts("tokenizer.ggml.merges", merges);
    if (!pre.empty()) out.text("tokenizer.ggml.pre", pre);
    return out;
  }
};

std::unique_ptr<Tokenizer> read(const GgufBytes& file) {
  const std::string bytes = file.bytes();
  return tokenizer_from_gguf(GgufFile(bytes, "g"));
}
std::string error(const GgufBytes& file) {
  return error_of([&] { read(file); });
}

TEST(GgufTokenizer, EndsOfATextAndWhoAddsBos) {
  BytePieces v;
  auto t = read(v.file());
  EXPECT_EQ(t->eos, (Ids{257, 258})) << "control tokens that end a text or a turn";
  EXPECT_EQ(t->bos, std::nullopt);
  EXPECT_EQ(t->encode("ab<|im_end|>"), (Ids{256, 258}));
  t = read(v.file().u32("tokenizer.ggml.eos_token_id", 258).u32("tokenizer.ggml.bos_token_id", 257));
  EXPECT_EQ(t->eos, (Ids{258, 257}));
  EXPECT_FALSE(t->adds_bos);
  v.pre = "llama-bpe";
  EXPECT_TRUE(read(v.file().u32("tokenizer.ggml.bos_token_id", 257))->adds_bos);
  EXPECT_FALSE(read(v.file())->adds_bos) << "there is none";
}

TEST(GgufTokenizerHostile, KindsAndFields) {
  const BytePieces good;
  BytePieces v = good;
  v.pre = "";
  EXPECT_PRED2(has, error(v.file()), "tokenizer.ggml.pre is missing");
  v.pre = "tekken";
  EXPECT_PRED2(has, error(v.file()), "tokenizer.ggml.pre \"tekken\" is not supported; supported: qwen2");
  EXPECT_PRED2(has, error(GgufBytes().text("tokenizer.ggml.model", "t5")),
               "\"t5\" is not supported; supported: gpt2, llama");
  EXPECT_PRED2(has, error(GgufBytes()), "tokenizer.ggml.model \"\"");
  EXPECT_PRED2(has, error(GgufBytes().text("tokenizer.ggml.model", "gpt2")), "tokens is missing or empty");
  v = good;
  v.types.pop_back();
  EXPECT_PRED2(has, error(v.file()), "token_type has 258 elements, tokenizer.ggml.tokens 259");
  v.types.push_back(9);
  EXPECT_PRED2(has, error(v.file()), "token 258: type 9 is not known");
  v = good;
  v.tokens[7] = v.tokens[8];
  EXPECT_PRED2(has, error(v.file()), "has two ids");
  v.tokens[7] = "\xFF";
  EXPECT_PRED2(has, error(v.file()), "token 7 is not UTF-8");
  v = good;
  v.merges.clear();
  EXPECT_PRED2(has, error(v.file()), "merges is missing or empty");
  for (const char* merge : {"ab", "a b c", " ", "a \xE2\x82\xAC"}) {
    v.merges = {merge};
    EXPECT_PRED2(has, error(v.file()), "merge 0") << merge;
  }
  v.merges = {"a c"};
  EXPECT_PRED2(has, error(v.file()), "which the vocabulary lacks");
  EXPECT_PRED2(has, error(good.file().u32("tokenizer.ggml.eos_token_id", 259)),
               "expected a number from 0 to 258, found 259");
  EXPECT_PRED2(has, error(good.file().u32("tokenizer.ggml.bos_token_id", 0xffffffff)), "found 4294967295");
}

// CVE-2025-49847: a token as long as an int can count. Here only the file's size bounds it.
TEST(GgufTokenizerHostile, LongTokens) {
  BytePieces v;
  v.tokens[256] = std::string(1 << 20, 'x');
  v.merges = {"a a"};
  EXPECT_PRED2(has, error(v.file()), "which the vocabulary lacks");
  GgufBytes cut = BytePieces().file();
  cut.value("z", GgufType::array,
            testing::raw(uint32_t{8}) + testing::raw(uint64_t{1}) + testing::raw(uint64_t{0x80000000u}));
  EXPECT_PRED2(has, error(cut), "key z has a length of 2147483648 bytes");
}

GgufBytes pieces(const std::vector<std::string>& tokens, const std::vector<int32_t>& types,
                 std::vector<float> scores = {}) {
  if (scores.empty()) scores.assign(tokens.size(), 0);
  GgufBytes out;
  return out.text("tokenizer.ggml.model", "llama")
      .texts("tokenizer.ggml.tokens", tokens)
      .numbers("tokenizer.ggml.token_type", GgufType::i32, types)
      .numbers("tokenizer.ggml.scores", GgufType::f32, scores);
}

// llama.cpp#25969: a byte token whose number is negative, or no number at all.
TEST(GgufTokenizerHostile, SentencePieceFields) {
  const auto t = read(pieces({"<unk>", "<s>", "</s>", "a"}, {2, 3, 3, 1}));
  EXPECT_EQ(t->bos, 1);
  EXPECT_TRUE(t->adds_bos);
  EXPECT_EQ(t->eos, Ids{2});
  for (const char* byte : {"<0x-1>", "<0x100>", "<0xGG>", "0x41", "<0x41"})
    EXPECT_PRED2(has, error(pieces({"<unk>", "<s>", byte}, {2, 3, 6})), "byte piece is not written <0x00> to <0xFF>");
  EXPECT_PRED2(has, error(pieces({"<unk>", "<0x41>"}, {2, 6})), "SentencePiece refuses") << "only one of 256 bytes";
  EXPECT_PRED2(has, error(pieces({"<unk>", "a", "a"}, {2, 1, 1})), "SentencePiece refuses");
  EXPECT_PRED2(has, error(pieces({"<unk>", ""}, {2, 1})), "empty piece");
  EXPECT_PRED2(has, error(pieces({"<unk>", "a"}, {2, 1}, {0})), "scores has 1 elements, tokenizer.ggml.tokens 2");
  EXPECT_PRED2(has, error(pieces({"<unk>", "a"}, {2, 1}, {0, std::nanf("")})), "expected a finite number");
  EXPECT_EQ(read(pieces({"<unk>"}, {2}))->bos, std::nullopt);
}

}  // namespace
}  // namespace qwerky
