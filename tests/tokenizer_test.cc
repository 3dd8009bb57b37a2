// SPDX-License-Identifier: MIT
#include "io/tokenizer.h"

#include <gtest/gtest.h>
#include <sentencepiece_processor.h>

#include <algorithm>
#include <sstream>
#include <thread>

#include "base/random.h"
#include "data.h"
#include "expect_error.h"
#include "io/files.h"
#include "io/tokenizer_formats.h"
#include "io/tokenizer_utf8.h"
#include "repetitions.h"
#include "sentencepiece_proto.h"
#include "tokenizer_check.h"

namespace qwerky {
namespace {

using testing::check_llama_cpp;
using testing::check_properties;
using testing::golden;
using testing::random_text;
using testing::scratch_dir;
using testing::shared_data;
using Ids = std::vector<int32_t>;

std::string decoded(const Tokenizer& t, const Ids& ids) { return t.decode(ids); }

void check_cases(const Tokenizer& t, const std::filesystem::path& file) {
  for (const Json& c : read_json(file)) {
    const auto text = c.at("text").get<std::string>();
    EXPECT_EQ(t.encode(text), c.at("ids").get<Ids>()) << "[" << text << "]";
  }
}

TEST(Tokenizer, TinyTokenizerJsonGivesTheIdsOfTheReferenceLibrary) {
  const auto t = load_tokenizer(golden("tokenizer/tiny.json"));
  EXPECT_EQ(t->size(), 344);
  EXPECT_EQ(t->bos, 339);
  EXPECT_TRUE(t->adds_bos);
  EXPECT_EQ(t->id_of("<|endoftext|>"), 339);
  EXPECT_EQ(t->id_of("nothing"), std::nullopt);
  EXPECT_TRUE(t->is_special(339));
  EXPECT_FALSE(t->is_special(340));
  check_cases(*t, golden("tokenizer/tiny_cases.json"));
  EXPECT_EQ(t->decode(Ids{64, 339, 65}), "a<|endoftext|>b");
  EXPECT_EQ(t->decode(Ids{64, 339, 65}, true), "ab");
  const Ids plain = t->encode("a<|endoftext|>b", false);
  EXPECT_EQ(std::count(plain.begin(), plain.end(), 339), 0);
  EXPECT_EQ(decoded(*t, plain), "a<|endoftext|>b");
  EXPECT_THROW(t->piece(344), Error);
  EXPECT_THROW(t->piece(-1), Error);
  check_properties(*t, 1500);
}

TEST(Tokenizer, TinyLlama2cTokenizer) {
  const auto t = load_tokenizer(golden("tokenizer/tiny_tok.bin"));
  EXPECT_EQ(t->bos, 1);
  EXPECT_EQ(t->eos, (Ids{2, 1}));
  EXPECT_TRUE(t->adds_bos);
  const Json cases = read_json(golden("tokenizer/tiny_tok_cases.json"));
  for (const Json& c : cases)
    EXPECT_EQ(t->encode(c.at("text").get<std::string>(), false), c.at("ids").get<Ids>()) << c.at("text");
  EXPECT_EQ(t->piece(1), "<s>");
  EXPECT_EQ(t->piece(3 + 'x'), "x");
  EXPECT_EQ(t->encode("<s>the").front(), 1);
  EXPECT_EQ(decoded(*t, t->encode("<s>the")), "<s>the");
  check_properties(*t, 1500);
}

TEST(Tokenizer, TinySentencePiece) {
  const auto t = tokenizer_from_sentencepiece(testing::tiny_sentencepiece(), {}, "tiny");
  EXPECT_EQ(t->size(), 265);
  EXPECT_EQ(t->bos, 1);
  EXPECT_EQ(t->eos, Ids{2});
  EXPECT_TRUE(t->adds_bos);
  EXPECT_EQ(t->encode("abc a"), (Ids{259, 260, 259}));
  EXPECT_EQ(t->encode(" b"), (Ids{261, 261, 263}));
  EXPECT_EQ(t->encode("\n"), (Ids{261, 3 + '\n'}));
  EXPECT_EQ(t->encode("a</s>a"), (Ids{259, 2, 262}));  // one space in front of the text, none after a token
  EXPECT_EQ(t->encode(""), Ids{});
  EXPECT_EQ(t->decode(Ids{1, 259, 260}), "<s> abc");
  EXPECT_EQ(t->decode(Ids{1, 259, 260}, true), "abc");
  EXPECT_EQ(t->piece(259), " a");
  check_properties(*t, 800);
  const auto collapsing = tokenizer_from_sentencepiece(
      testing::tiny_sentencepiece() + testing::bytes_field(3, testing::number_field(4, 1)), {}, "collapsing");
  EXPECT_EQ(collapsing->encode(" a  a "), (Ids{259, 259}));
  EXPECT_EQ(collapsing->encode("a</s>b\xE2\x96\x81"
                               "a"),
            (Ids{259, 2, 263, 259}))
      << "U+2581 is a space there, too";
  check_properties(*collapsing, 400);
}

TEST(Tokenizer, TiktokenRanks) {
  // Bytes 'a'..'d' and "ab" < "cd" < "abcd"; "bc" is lower than all.
  const std::string ranks = "YQ== 0\nYg== 1\nYw== 2\nZA== 3\nYmM= 4\nYWI= 5\nY2Q= 6\nYWJjZA== 7\n";
  ASSERT_TRUE(is_tiktoken(ranks));
  EXPECT_FALSE(is_sentencepiece(ranks));
  const auto t = tokenizer_from_tiktoken(ranks, {}, "ranks");
  EXPECT_EQ(t->size(), 8);
  EXPECT_EQ(t->encode("abcd"), Ids{7});              // a whole word that is in the vocabulary
  EXPECT_EQ(t->encode("abcda"), (Ids{0, 4, 3, 0}));  // else lowest rank first: bc
  EXPECT_PRED2(testing::has, testing::error_of([&] { t->encode("x"); }), "has no token");
}

TEST(Tokenizer, InvalidUtf8BecomesReplacementCharacters) {
  const auto t = load_tokenizer(golden("tokenizer/tiny.json"));
  EXPECT_EQ(decoded(*t, t->encode("a\xFF"
                                  "b\xE4\xB8")),
            "a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD");
  EXPECT_EQ(t->normalise("\xED\xA0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(t->normalise("\xC0\xAF"), "\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(Tokenizer, StreamHoldsBackPartsOfCharacters) {
  const auto t = load_tokenizer(golden("tokenizer/tiny_tok.bin"));
  StreamDecoder stream(*t);
  EXPECT_EQ(stream.push(3 + 0xF0), "");
  EXPECT_EQ(stream.push(3 + 0x9F), "");
  EXPECT_EQ(stream.push(3 + 0x98), "");
  EXPECT_EQ(stream.push(3 + 0x80), "😀");
  EXPECT_EQ(stream.push(3 + 0xE4), "");
  EXPECT_EQ(stream.push(3 + 'a'),
            "\xEF\xBF\xBD"
            "a");
  EXPECT_EQ(stream.push(3 + 0xC3), "");
  EXPECT_EQ(stream.finish(), "\xEF\xBF\xBD");
  EXPECT_EQ(stream.finish(), "");
  const int32_t space_t = t->encode("t")[0];
  ASSERT_EQ(t->piece(space_t), " t");
  StreamDecoder begins(*t), continues(*t), verbose(*t, false);
  EXPECT_EQ(begins.push(1), "");
  EXPECT_EQ(begins.push(space_t), "t");
  EXPECT_EQ(begins.push(space_t), " t");
  EXPECT_EQ(continues.push(space_t), " t");
  EXPECT_EQ(verbose.push(1), "<s>");
  EXPECT_EQ(verbose.push(space_t), " t");
}

TEST(Tokenizer, EncodesFromManyThreads) {
  const auto a = load_tokenizer(golden("tokenizer/tiny.json"));
  const auto b = load_tokenizer(golden("tokenizer/tiny_tok.bin"));
  std::vector<std::string> texts;
  std::vector<Ids> want_a, want_b;
  for (uint64_t i = 0; i < 200; ++i) {
    texts.push_back(random_text(i, 60));
    want_a.push_back(a->encode(texts.back()));
    want_b.push_back(b->encode(texts.back()));
  }
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (int& count : wrong)
    threads.emplace_back([&] {
      for (size_t i = 0; i < texts.size(); ++i)
        count += (a->encode(texts[i]) != want_a[i]) + (i % 20 == 0 && b->encode(texts[i]) != want_b[i]);
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

// A quadratic merge takes hours, far beyond the time limit of a test.
TEST(Tokenizer, LongWordsAreNotQuadratic) {
  const auto t = load_tokenizer(golden("tokenizer/tiny.json"));
  const auto c = load_tokenizer(golden("tokenizer/tiny_tok.bin"));
  constexpr uint64_t kBytes = testing::repetitions(1'000'000, 100'000);
  std::string letters, marks = "a";
  for (uint64_t i = 0; i < kBytes; ++i) letters += static_cast<char>('a' + mix64(i) % 26);
  for (uint64_t i = 0; i < kBytes / 4; ++i) marks += i % 2 ? "\xCC\x81" : "\xCC\xA3";
  for (const std::string& text : {letters, std::string(kBytes, 'a'), std::string(kBytes, ' '), marks}) {
    const Ids ids = t->encode(text);
    EXPECT_EQ(decoded(*t, ids), t->normalise(text));
    EXPECT_EQ(decoded(*c, c->encode(text)), text);
  }
}

TEST(Tokenizer, TrainedVocabularyIsDeterministicAndLoads) {
  std::string corpus;
  for (uint64_t i = 0; i < 3000; ++i) {
    const Random random(i);
    for (uint64_t w = 0; w < 8; ++w) {
      static const char* kWords[] = {"low", "lower", "newest", "widest", "été", "it's", "12", "wave"};
      corpus += std::string(w ? " " : "") + kWords[random.below(w, 8)];
    }
    corpus += "<|end|>";
  }
  const std::string json = train_bpe(corpus, 285, {"<|end|>"});
  EXPECT_EQ(json, train_bpe(corpus, 285, {"<|end|>"}));
  const auto t = tokenizer_from_json(json, {}, "trained");
  EXPECT_EQ(t->size(), 285);
  EXPECT_EQ(t->id_of("<|end|>"), 284);
  EXPECT_EQ(t->encode(" newest").size(), 1u);
  EXPECT_EQ(decoded(*t, t->encode(corpus)), corpus);
  for (int32_t id = 0; id < 284; ++id) EXPECT_EQ(t->piece(id).find("<|"), std::string::npos);
  check_properties(*t, 500);
  EXPECT_PRED2(testing::has, testing::error_of([&] { train_bpe(corpus, 100000, {}); }), "at most");
  EXPECT_PRED2(testing::has, testing::error_of([&] { train_bpe(corpus, 255, {}); }), "expected 256");
  EXPECT_PRED2(testing::has, testing::error_of([&] { train_bpe("a\xFF", 300, {}); }), "not UTF-8");
  EXPECT_PRED2(testing::has, testing::error_of([&] { train_bpe(corpus, 300, {"x", "x"}); }), "repeated");
}

TEST(Tokenizer, FindsFilesInDirectories) {
  const auto dir = scratch_dir("tokenizer-find");
  const auto error = [&] { return testing::error_of([&] { load_tokenizer(dir); }); };
  EXPECT_PRED2(testing::has, error(), "looked for tokenizer.json");
  EXPECT_TRUE(tokenizer_files(dir).empty());
  std::filesystem::copy_file(golden("tokenizer/tiny_tok.bin"), dir / "tok300.bin");
  EXPECT_EQ(load_tokenizer(dir)->size(), load_tokenizer(golden("tokenizer/tiny_tok.bin"))->size());
  EXPECT_EQ(tokenizer_files(dir), std::vector<Path>{dir / "tok300.bin"});
  EXPECT_EQ(tokenizer_files(dir / "tok300.bin"), std::vector<Path>{dir / "tok300.bin"});
  std::filesystem::copy_file(golden("tokenizer/tiny_tok.bin"), dir / "tok301.bin");
  EXPECT_PRED2(testing::has, error(), "could both be");
  write_file(dir / "tok300.model", testing::tiny_sentencepiece());
  EXPECT_EQ(load_tokenizer(dir)->size(), 265);  // the .model goes first
  EXPECT_EQ(load_tokenizer(dir)->eos, (Ids{2, 1}));
  std::filesystem::copy_file(golden("tokenizer/tiny.json"), dir / "tokenizer.json");
  EXPECT_EQ(load_tokenizer(dir)->size(), 344);
  EXPECT_EQ(tokenizer_files(dir).size(), 4u);
  write_file(dir / "tokenizer_config.json",
             R"({"add_bos_token": false, "eos_token": {"content": "<|im_end|>"}, "bos_token": null,
                 "added_tokens_decoder": {"344": {"content": "<|im_end|>", "special": true}}})");
  write_file(dir / "generation_config.json", R"({"eos_token_id": [339, 344]})");
  const auto t = load_tokenizer(dir);
  EXPECT_EQ(t->size(), 345);
  EXPECT_FALSE(t->adds_bos);
  EXPECT_EQ(t->eos, (Ids{344, 339}));
  write_file(dir / "config.json", R"({"eos_token_id": 345})");
  EXPECT_PRED2(testing::has, error(), "eos_token_id 345");
  write_file(dir / "config.json", R"({"eos_token_id": [339, "x"]})");
  EXPECT_PRED2(testing::has, error(),
               dir.string() + "/config.json: eos_token_id: expected an id or a list of ids, found \"x\"");
}

/// A GPT-2-style vocabulary of the bytes, "12", " a" and a control token.
std::string small_vocab(bool two_digits) {
  Json vocab;
  int id = 0;
  for (int b = 0; b < 256; ++b) vocab[bytes_to_alphabet(std::string(1, static_cast<char>(b)))] = id++;
  vocab
      ["\xC4\xA0"
       "a"] = id++;
  if (two_digits) vocab["12"] = id++;
  vocab["<|endoftext|>"] = id++;
  return vocab.dump();
}

TEST(Tokenizer, VocabAndMergesTellGpt2FromQwen2) {
  const std::string merges = "#version: 0.2\n\xC4\xA0 a\n";
  const auto qwen = tokenizer_from_vocab(small_vocab(false), merges, {}, "v");
  const auto gpt2 = tokenizer_from_vocab(small_vocab(true), merges + "1 2\r\n", {}, "v");
  EXPECT_EQ(gpt2->encode("12 a"), (Ids{257, 256}));
  EXPECT_EQ(gpt2->eos, Ids{258});
  EXPECT_EQ(gpt2->encode("<|endoftext|>"), Ids{258});
  EXPECT_EQ(qwen->normalise("e\xCC\x81"), "é");
  EXPECT_EQ(gpt2->normalise("e\xCC\x81"), "e\xCC\x81");
  TokenizerConfig config;
  config.tokenizer_config = {{"tokenizer_class", "Qwen2TokenizerFast"}};
  const auto named = tokenizer_from_vocab(small_vocab(true), merges + "1 2\n", config, "v");
  EXPECT_EQ(named->encode("12").size(), 2u);
  config.tokenizer_config = {{"tokenizer_class", "RobertaTokenizer"}};
  EXPECT_PRED2(testing::has, testing::error_of([&] { tokenizer_from_vocab(small_vocab(true), merges, config, "v"); }),
               "Qwen2Tokenizer, GPT2Tokenizer");
}

class SharedVocabulary : public ::testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(SharedVocabulary, PassesLlamaCppCasesAndProperties) {
  const auto path = shared_data(std::string("tokenizers/") + GetParam().second);
  NEEDS_DATA(path);
  const auto t = load_tokenizer(path);
  check_llama_cpp(*t, GetParam().first);
  check_properties(*t, 1000);
}

INSTANTIATE_TEST_SUITE_P(LlamaCpp, SharedVocabulary,
                         ::testing::Values(std::pair{"gpt-2", "gpt2"}, std::pair{"qwen2", "qwen"},
                                           std::pair{"llama-bpe", "llama3/tokenizer.model"},
                                           std::pair{"llama-spm", "llama2/tokenizer.model"},
                                           std::pair{"llama-spm", "llama2/tokenizer.bin"}));

TEST(SharedTokenizer, OwnMergesGiveTheIdsOfTheSentencePieceLibrary) {
  for (const char* file : {"tokenizers/llama2/tokenizer.model", "models/stories260K/tok512.model"}) {
    const auto path = shared_data(file);
    NEEDS_DATA(path);
    const auto t = load_tokenizer(path);
    sentencepiece::SentencePieceProcessor library;
    ASSERT_TRUE(library.Load(path.string()).ok());
    for (uint64_t i = 0; i < 3000; ++i) {
      const std::string text = random_text(i, i % 100 == 0 ? 2000 : 24);
      Ids want;
      ASSERT_TRUE(library.Encode(text, &want).ok());
      ASSERT_EQ(t->encode(text, false), want) << file << ", case " << i;
    }
  }
}

class HfGolden : public ::testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(HfGolden, GivesTheListedIds) {
  const auto cases = shared_data("tokenizers/hf-golden/swift-transformers_tokenizer_tests.json");
  const auto path = shared_data(std::string("tokenizers/") + GetParam().second);
  NEEDS_DATA(cases);
  NEEDS_DATA(path);
  const auto t = load_tokenizer(path);
  const Json all = read_json(cases);
  int count = 0;
  for (const Json& c : all.at(GetParam().first)) {
    const auto text = c.at("input").get<std::string>();
    Ids ids = t->encode(text);
    if (t->adds_bos) ids.insert(ids.begin(), *t->bos);
    EXPECT_EQ(ids, c.at("encoded").at("input_ids").get<Ids>()) << "[" << text << "]";
    EXPECT_EQ(t->decode(ids, true), text);
    // Where the reference's clean-up of spaces before punctuation changed nothing.
    const auto with_special = c.at("decoded_with_special").get<std::string>();
    if (with_special.ends_with(text)) {
      EXPECT_EQ(t->decode(ids), with_special);
    }
    ++count;
  }
  EXPECT_EQ(count, 18);
}

INSTANTIATE_TEST_SUITE_P(Swift, HfGolden,
                         ::testing::Values(std::pair{"distilgpt2", "gpt2"},
                                           std::pair{"coreml-projects/Llama-2-7b-chat-coreml", "llama2"},
                                           std::pair{"pcuenq/Llama-3.2-1B-Instruct-tokenizer", "llama3"}));

TEST(SharedTokenizer, Stories260kWritesItsPublishedText) {
  const auto dir = shared_data("models/stories260K");
  NEEDS_DATA(dir);
  Ids ids;
  std::istringstream numbers(read_file(dir / "derived_greedy_ids.txt"));
  for (int32_t id; numbers >> id;) ids.push_back(id);
  const std::string text = read_file(dir / "expected_greedy_200.txt");
  for (const char* file : {"", "tok512.bin", "tok512.model"}) {
    const auto t = load_tokenizer(*file ? dir / file : dir);
    EXPECT_EQ(t->size(), 512);
    EXPECT_EQ(t->bos, 1);
    EXPECT_EQ(t->eos, (Ids{2, 1}));
    const std::string got = t->decode(ids, true);
    EXPECT_EQ(got.substr(0, text.size()), text.substr(0, got.size())) << file;
    check_properties(*t, 300);
  }
}

TEST(SharedTokenizer, QwenTakesAddedTokensFromItsConfig) {
  const auto from = shared_data("tokenizers/qwen");
  NEEDS_DATA(from);
  const auto dir = scratch_dir("tokenizer-qwen3");
  for (const char* file : {"vocab.json", "merges.txt", "qwen3/tokenizer_config.json", "qwen3/config.json"})
    std::filesystem::copy_file(from / file, dir / Path(file).filename());
  const auto t = load_tokenizer(dir);
  EXPECT_EQ(t->size(), 151669);
  EXPECT_EQ(t->bos, 151643);
  EXPECT_FALSE(t->adds_bos);
  EXPECT_EQ(t->eos.front(), 151645);
  EXPECT_EQ(t->encode("<|im_start|>user\n"), (Ids{151644, 872, 198}));
  EXPECT_EQ(t->encode("<think>"), Ids{151667});
  EXPECT_FALSE(t->is_special(151667));
  EXPECT_GT(t->encode("<|im_start|>", false).size(), 1u);
  EXPECT_EQ(tokenizer_files(dir).size(), 3u);
}

TEST(SharedTokenizer, SmolLm2AndALongText) {
  const auto dir = shared_data("tokenizers/smollm2");
  const auto text_file = shared_data("text/wikitext2/train_5k_lines.txt");
  NEEDS_DATA(dir);
  const auto smol = load_tokenizer(dir);
  EXPECT_EQ(smol->size(), 49152);
  EXPECT_EQ(smol->encode("1234").size(), 4u);
  check_properties(*smol, 500);
  NEEDS_DATA(text_file);
  const auto qwen = load_tokenizer(shared_data("tokenizers/qwen"));
  std::string text = read_file(text_file);
  while (text.size() < testing::repetitions(10'000'000u, 0u)) text += text;
  EXPECT_EQ(qwen->decode(qwen->encode(text)), qwen->normalise(text));
}

}  // namespace
}  // namespace qwerky
