// SPDX-License-Identifier: MIT
// Broken and hostile vocabularies: each is refused with a message that names what is wrong.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "base/random.h"
#include "data.h"
#include "expect_error.h"
#include "io/files.h"
#include "io/tokenizer_formats.h"
#include "sentencepiece_proto.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::golden;
using testing::has;

class HostileJson : public ::testing::Test {
 protected:
  Json root = read_json(golden("tokenizer/tiny.json"));
  std::string error() const {
    return error_of([&] { tokenizer_from_json(root.dump(), {}, "tiny"); });
  }
};

TEST_F(HostileJson, UnsupportedKindsAreRefusedByName) {
  const Json good = root;
  root["model"]["type"] = "WordPiece";
  EXPECT_PRED2(has, error(), "model \"WordPiece\" is not supported; supported: BPE");
  root = good;
  root["normalizer"] = {{"type", "Lowercase"}};
  EXPECT_PRED2(has, error(), "normalizer \"Lowercase\" is not supported");
  root = good;
  root["pre_tokenizer"] = {{"type", "Metaspace"}};
  EXPECT_PRED2(has, error(), "pre_tokenizer \"Metaspace\" is not supported");
  root = good;
  root["pre_tokenizer"] = nullptr;
  EXPECT_PRED2(has, error(), "tokenizer.model");
  root = good;
  root["decoder"] = {{"type", "Sequence"}, {"decoders", Json::array({{{"type", "Fuse"}}})}};
  EXPECT_PRED2(has, error(), "decoder \"Fuse\" is not supported");
  root = good;
  root["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "MergedWithNext";
  EXPECT_PRED2(has, error(), "MergedWithNext");
  root = good;
  root["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {{"Regex", "(a"}};
  EXPECT_PRED2(has, error(), "pattern");
  root = good;
  root["model"]["byte_fallback"] = true;
  EXPECT_PRED2(has, error(), "byte_fallback");
  root = good;
  root["model"]["dropout"] = 0.1;
  EXPECT_PRED2(has, error(), "dropout");
}

TEST_F(HostileJson, VocabularyAndMerges) {
  const Json good = root;
  root["model"]["vocab"]["zzz"] = 5;
  EXPECT_PRED2(has, error(), "id 5 stands for both");
  root = good;
  root["model"]["vocab"]["zzz"] = 2000000000;
  EXPECT_PRED2(has, error(), "2000000000");
  root["model"]["vocab"]["zzz"] = 10000000000000000000ULL;
  EXPECT_PRED2(has, error(), "too large");
  root["model"]["vocab"]["zzz"] = -1;
  EXPECT_PRED2(has, error(), "negative");
  root["model"]["vocab"]["zzz"] = 1.5;
  EXPECT_PRED2(has, error(), "expected an integer");
  root = good;
  root["model"]["vocab"] = Json::object();
  EXPECT_PRED2(has, error(), "is empty");
  root = good;
  root["model"]["merges"].push_back("q unknown");
  EXPECT_PRED2(has, error(), "which the vocabulary lacks");
  root["model"]["merges"].back() = "a b c";
  EXPECT_PRED2(has, error(), "expected two tokens");
  root["model"]["merges"].back() = {"a", 1};
  EXPECT_PRED2(has, error(), "expected \"a b\"");
  root["model"]["merges"] = 3;
  EXPECT_PRED2(has, error(), "expected an array");
  root = good;
  root["model"]["unk_token"] = "<unk>";
  EXPECT_PRED2(has, error(), "unk_token");
  root = good;
  root["added_tokens"][0]["id"] = 3;
  EXPECT_PRED2(has, error(), "id 3 stands for both");
  root["added_tokens"][0]["id"] = 2000000000;
  EXPECT_PRED2(has, error(), "2000000000");
  root["added_tokens"][0].erase("content");
  EXPECT_PRED2(has, error(), "\"content\" is missing");
}

TEST_F(HostileJson, NestingAndOtherFiles) {
  std::string deep(100000, '[');
  EXPECT_PRED2(has, error_of([&] { tokenizer_from_json(deep, {}, "deep"); }), "deep");
  EXPECT_PRED2(has, error_of([&] { tokenizer_from_json("{}", {}, "tiny"); }), "\"model\" is missing");
  EXPECT_PRED2(has, error_of([&] { tokenizer_from_json("[]", {}, "tiny"); }), "expected an object");
  TokenizerConfig config;
  config.tokenizer_config = {{"eos_token", "<nothing>"}};
  EXPECT_PRED2(has, error_of([&] { tokenizer_from_json(root.dump(), config, "tiny"); }), "<nothing>");
  config.tokenizer_config = {{"added_tokens_decoder", {{"12x", "a"}}}};
  EXPECT_PRED2(has, error_of([&] { tokenizer_from_json(root.dump(), config, "tiny"); }), "not an id");
  EXPECT_PRED2(has, error_of([&] { load_tokenizer(golden("absent")); }), "no such");
}

TEST_F(HostileJson, APatternThatBacktracksWithoutEndIsStopped) {
  root["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {{"Regex", "(a+)+$|(a*)*b"}};
  const auto t = tokenizer_from_json(root.dump(), {}, "tiny");
  EXPECT_PRED2(has, error_of([&] { t->encode(std::string(5000, 'a') + "c"); }), "gave up");
}

TEST(HostileTiktoken, Lines) {
  const auto error = [](const std::string& text) { return error_of([&] { tokenizer_from_tiktoken(text, {}, "t"); }); };
  EXPECT_PRED2(has, error("YQ== 0\nYg=! 1\n"), "line 2");
  EXPECT_PRED2(has, error("YQ== 0\nYg== x\n"), "line 2");
  EXPECT_PRED2(has, error("YQ== 0\nYg==\n"), "line 2");
  EXPECT_PRED2(has, error("YQ== 0\nYg== 99999999999999999999\n"), "line 2");
  EXPECT_PRED2(has, error("YQ== 0\nYg== 0\n"), "stands for both");
  EXPECT_PRED2(has, error("YQ== 0\nYQ== 1\n"), "two ids");
  EXPECT_PRED2(has, error("YQ== 0\nYg== 4000000\n"), "4000000");
  EXPECT_PRED2(has, error("YQ== 0\nYg== -4\n"), "-4");
  EXPECT_PRED2(has, error("\n\n"), "no ranks");
  EXPECT_FALSE(is_tiktoken(""));
  EXPECT_FALSE(is_tiktoken("{\"a\": 0}"));
}

TEST(HostileLlama2c, EveryTruncationIsRefused) {
  const std::string good = read_file(golden("tokenizer/tiny_tok.bin"));
  // Whole tokens after the 259 fixed ones may be absent; everything else is an error.
  int loaded = 0;
  for (size_t n = 0; n < good.size(); ++n) {
    try {
      const auto t = tokenizer_from_llama2c(std::string_view(good).substr(0, n), {}, "t");
      EXPECT_GE(t->size(), 259);
      ++loaded;
    } catch (const Error&) {
    }
  }
  EXPECT_LT(loaded, 60);
}

TEST(HostileLlama2c, Fields) {
  const std::string good = read_file(golden("tokenizer/tiny_tok.bin"));
  const auto with = [&](size_t at, auto value) {
    std::string bytes = good;
    std::memcpy(bytes.data() + at, &value, sizeof value);
    return error_of([&] { tokenizer_from_llama2c(bytes, {}, "t"); });
  };
  EXPECT_PRED2(has, with(0, int32_t{-1}), "longest piece -1");
  EXPECT_PRED2(has, with(0, int32_t{1 << 30}), "longest piece");
  EXPECT_PRED2(has, with(4, std::numeric_limits<float>::quiet_NaN()), "not a number");
  EXPECT_PRED2(has, with(8, int32_t{-5}), "length -5");
  EXPECT_PRED2(has, with(8, int32_t{0x7FFFFFFF}), "length 2147483647");
  std::string bytes = good;
  bytes[bytes.find("<0x41>") + 3] = 'F';
  EXPECT_PRED2(has, error_of([&] { tokenizer_from_llama2c(bytes, {}, "t"); }), "<0x41>");
}

TEST(HostileSentencePiece, Fields) {
  const std::string good = testing::tiny_sentencepiece();
  ASSERT_TRUE(is_sentencepiece(good));
  const auto error = [](const std::string& bytes) {
    return error_of([&] { tokenizer_from_sentencepiece(bytes, {}, "t"); });
  };
  EXPECT_PRED2(has, error(good + testing::piece_field("a", -1, 1)), "SentencePiece refuses");  // twice
  EXPECT_PRED2(has, error(good + testing::piece_field("", -1, 1)), "empty piece");
  EXPECT_PRED2(has, error(good + testing::piece_field("\xFF", -1, 1)), "not UTF-8");
  EXPECT_PRED2(has, error(good + testing::piece_field(std::string("a\0b", 3), -1, 1)), "NUL");
  EXPECT_PRED2(has, error(good + testing::piece_field("x", std::nanf(""), 1)), "not a number");
  EXPECT_PRED2(has, error(good + testing::piece_field("x", -1, 9)), "piece type 9");
  EXPECT_PRED2(has, error(good + testing::piece_field("<0x-1>", 0, 6)), "byte piece");
  EXPECT_PRED2(has, error(good + testing::bytes_field(2, testing::number_field(3, 3))), "WORD");
  EXPECT_PRED2(has, error(good + testing::bytes_field(2, testing::number_field(24, 1))), "whitespace_as_suffix");
  EXPECT_PRED2(has, error(good + '\x0a'), "malformed");
  EXPECT_PRED2(has, error(good + "\x0a\x7F"), "malformed");
  for (size_t n = 0; n + 1 < good.size(); n += 7) {
    try {
      tokenizer_from_sentencepiece(std::string_view(good).substr(0, n), {}, "t")->encode("abc");
    } catch (const Error&) {
    }
  }
}

TEST(HostileSentencePiece, NormalisationTableStaysInsideItself) {
  const auto error = [](const std::string& charsmap) {
    const std::string model =
        testing::tiny_sentencepiece() + testing::bytes_field(3, testing::bytes_field(2, charsmap));
    return error_of([&] { tokenizer_from_sentencepiece(model, {}, "t"); });
  };
  const auto table = [](uint32_t size, uint32_t unit, const std::string& replacements) {
    std::string out(4 + size, '\0');
    std::memcpy(out.data(), &size, 4);
    std::memcpy(out.data() + 4, &unit, 4);
    return out + replacements;
  };
  const std::string nul(1, '\0');
  EXPECT_PRED2(has, error("abc"), "normalisation table of 3");
  EXPECT_PRED2(has, error(table(1024, 0, "")), "array of 1024");
  EXPECT_PRED2(has, error(table(1000, 0, nul)), "array of 1000");
  EXPECT_PRED2(has, error(table(1024, 0, "x")), "not ended");
  EXPECT_PRED2(has, error(table(1024, 0, "\xFF" + nul)), "not UTF-8");
  EXPECT_PRED2(has, error(table(1024, 1u << 18, nul)), "outside the array");
  EXPECT_PRED2(has, error(table(1024, 0x80000001u, nul)), "outside the replacements");
}

TEST(Hostile, RandomDamageNeverCrashes) {
  const std::vector<std::string> files = {read_file(golden("tokenizer/tiny.json")),
                                          read_file(golden("tokenizer/tiny_tok.bin")), testing::tiny_sentencepiece(),
                                          "YQ== 0\nYg== 1\nYw== 2\nZA== 3\nYmM= 4\nYWI= 5\nY2Q= 6\nYWJjZA== 7\n"};
  int refused = 0;
  for (uint64_t i = 0; i < 2000; ++i) {
    const Random random(i);
    const size_t kind = i % files.size();
    std::string bytes = files[kind];
    for (uint64_t k = 0; k < 1 + random.below(0, 4); ++k)
      bytes[random.below(2 * k + 1, bytes.size())] = static_cast<char>(random.bits(2 * k + 2));
    try {
      const auto t = kind == 0   ? tokenizer_from_json(bytes, {}, "t")
                     : kind == 1 ? tokenizer_from_llama2c(bytes, {}, "t")
                     : kind == 2 ? tokenizer_from_sentencepiece(bytes, {}, "t")
                                 : tokenizer_from_tiktoken(bytes, {}, "t");
      for (int32_t id : t->encode("the wave abcd\n")) EXPECT_TRUE(id >= 0 && id < t->size());
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 500);
}

}  // namespace
}  // namespace qwerky
