// SPDX-License-Identifier: MIT
// Corpora in every format, shards and their cache, the holdout, overlap, and the order of samples.
#include "io/shards.h"

#include <gtest/gtest.h>
#include <zstd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <numeric>
#include <set>

#include "base/error.h"
#include "base/random.h"
#include "data.h"
#include "io/corpus.h"
#include "io/overlap.h"

namespace qwerky {
namespace {

/// One token a byte, BOS 256, EOS 257. Counts what it encodes.
class ByteTokenizer : public Tokenizer {
 public:
  Vocabulary vocabulary() const override { return {}; }
  ByteTokenizer() {
    bos = 256;
    eos = {257};
  }
  std::vector<int32_t> encode(std::string_view text, bool) const override {
    encoded += static_cast<int64_t>(text.size());
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  std::string piece(int32_t id) const override { return id < 256 ? std::string(1, static_cast<char>(id)) : ""; }
  std::string decode(std::span<const int32_t> ids, bool) const override {
    std::string text;
    for (const int32_t id : ids) text += piece(id);
    return text;
  }
  std::string normalise(std::string_view text) const override { return std::string(text); }
  int64_t size() const override { return size_; }
  bool is_special(int32_t id) const override { return id >= 256; }

  mutable std::atomic<int64_t> encoded = 0;
  int64_t size_ = 258;

 protected:
  std::optional<int32_t> find_special(std::string_view) const override { return std::nullopt; }
};

std::string compressed(std::string_view text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

std::vector<std::string> documents_of(std::string_view bytes, const std::string& name, CorpusOptions options = {}) {
  std::vector<std::string> documents;
  read_documents(bytes, name, options, [&](std::string&& d) { return documents.push_back(std::move(d)), true; });
  return documents;
}

template <class F>
void expect_error(const F& f, const std::vector<std::string>& parts) {
  try {
    f();
    ADD_FAILURE() << "no error; expected one with " << parts[0];
  } catch (const Error& error) {
    for (const std::string& part : parts) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what() << "\nlacks " << part;
    }
  }
}

using Documents = std::vector<std::string>;

TEST(Corpus, TextIsCutAtSeparators) {
  EXPECT_EQ(documents_of("one\ntwo\n", "a.txt"), (Documents{"one\ntwo"}));
  EXPECT_EQ(documents_of("one\n<|endoftext|>\ntwo\n\nmore\n<|endoftext|>\n", "a.txt"),
            (Documents{"one", "two\n\nmore"}));
  EXPECT_EQ(documents_of("one<|endoftext|>two<|endoftext|><|endoftext|> \n", "a.txt"), (Documents{"one", "two"}));
  EXPECT_EQ(documents_of("\xef\xbb\xbfmark", "a.txt"), (Documents{"mark"}));
  EXPECT_EQ(documents_of("", "a.txt"), Documents{});
}

TEST(Corpus, ReadingEndsWhenNoMoreIsWanted) {
  const Path dir = testing::scratch_dir("corpus-ended");
  const std::string text = "one<|endoftext|>two<|endoftext|>three<|endoftext|>\nfour";
  const Documents all{"one", "two", "three", "four"};
  write_file(dir / "a.txt", text);
  write_file(dir / "a.txt.zst", compressed(text));
  write_file(dir / "b.jsonl", "not JSON: an Error for who reads so far");
  for (size_t wanted = 1; wanted <= 4; ++wanted)
    for (const bool packed : {false, true}) {
      Documents found;
      const auto take = [&](std::string&& d) { return found.push_back(std::move(d)), found.size() < wanted; };
      const Path file = dir / (packed ? "a.txt.zst" : "a.txt");
      EXPECT_FALSE(read_corpus({.inputs = {file, dir / "b.jsonl"}}, take));
      EXPECT_EQ(found, Documents(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(wanted)));
    }
}

TEST(Corpus, TextIsCutBeforeGivenLines) {
  CorpusOptions options;
  options.split_before = {"Once upon", "One day"};
  EXPECT_EQ(documents_of("tail\nOnce upon a\nb. Once upon c\n\nOne day d", "a.txt", options),
            (Documents{"tail", "Once upon a\nb. Once upon c", "One day d"}));
  EXPECT_EQ(documents_of("a<|endoftext|>Once upon a\nOne day b", "a.txt", options),
            (Documents{"a", "Once upon a\nOne day b"}));
}

TEST(Corpus, LinesHoldJson) {
  EXPECT_EQ(documents_of("{\"text\":\"a\\nb\"}\n\n{\"id\":1,\"text\":\"ü\"}", "a.jsonl"), (Documents{"a\nb", "ü"}));
  CorpusOptions options;
  options.field = "story";
  EXPECT_EQ(documents_of("{\"text\":\"a\",\"story\":\"b\"}\n", "a.jsonl", options), (Documents{"b"}));
  expect_error([] { documents_of("{\"text\":\"a\"}\n{\"text\":\n", "a.jsonl"); }, {"a.jsonl, line 2"});
  expect_error([] { documents_of("{\"text\":\"a\"}\n\n[1]\n", "a.jsonl"); }, {"a.jsonl, line 3", "array"});
  expect_error([] { documents_of("{\"content\":\"a\"}\n", "a.jsonl"); }, {"line 1", "no field \"text\"", "--field"});
  expect_error([] { documents_of("{\"text\":7}\n", "a.jsonl"); }, {"line 1", "number"});
  const std::string endless = "{\"text\":\"" + std::string(kMostLineBytes, 'a');
  expect_error([&] { documents_of(endless, "a.jsonl"); }, {"line 1", "longer than 16 MiB"});
}

TEST(Corpus, ZstdOfEither) {
  EXPECT_EQ(documents_of(compressed("one\n<|endoftext|>\ntwo"), "a.txt.zst"), (Documents{"one", "two"}));
  EXPECT_EQ(documents_of(compressed("one ") + compressed("two"), "a.txt.zst"), (Documents{"one two"})) << "two frames";
  EXPECT_EQ(documents_of(compressed("{\"text\":\"a\"}\n"), "a.jsonl.zst"), (Documents{"a"}));
  std::string large;
  for (int i = 0; i < 200000; ++i) large += std::to_string(i) + " ";
  EXPECT_EQ(documents_of(compressed(large), "a.txt.zst"), (Documents{large}));
  for (const size_t cut : {size_t{1}, size_t{5}, size_t{100}}) {
    const std::string whole = compressed(large);
    expect_error([&] { documents_of(std::string_view(whole).substr(0, whole.size() - cut), "a.txt.zst"); },
                 {"a.txt.zst", "truncated"});
  }
  expect_error([] { documents_of("not zstd at all", "a.txt.zst"); }, {"a.txt.zst", "invalid zstd"});
}

TEST(Corpus, BombsAreRefusedAndLongTextIsCut) {
  const std::string a(size_t{80} << 20, 'a');
  expect_error([&] { documents_of(compressed(a), "a.txt.zst"); }, {"decompression bomb"});
  const auto cut = documents_of(a, "a.txt");
  ASSERT_EQ(cut.size(), 2u);
  EXPECT_EQ(cut[0].size() + cut[1].size(), a.size());
  std::string umlauts = "x";  // so that the limit falls inside a character
  while (umlauts.size() < kMostDocumentBytes + 10) umlauts += "ü";
  const auto two = documents_of(umlauts, "a.txt");
  ASSERT_EQ(two.size(), 2u);
  EXPECT_EQ(two[0] + two[1], umlauts);
  EXPECT_EQ(two[1].substr(0, 2), "ü");
}

TEST(Corpus, EncodingIsChecked) {
  expect_error([] { documents_of("fine\nbr\xfcte\n", "a.txt"); }, {"a.txt, line 2", "not UTF-8 at byte 7", "iconv"});
  expect_error([] { documents_of("\xff\xfeh\0e\0", "a.txt"); }, {"line 1", "byte 0"});
  expect_error([] { documents_of("cut \xe2\x82", "a.txt"); }, {"not UTF-8 at byte 4"});
  expect_error([] { documents_of("{\"text\":\"\xfc\"}\n", "a.jsonl"); }, {"not UTF-8 at byte 9"});
}

TEST(Corpus, DirectoriesAreSearchedInOrder) {
  const Path dir = testing::scratch_dir("corpus");
  std::filesystem::create_directories(dir / "b" / "c");
  write_file(dir / "z.txt", "last");
  write_file(dir / "a.jsonl", "{\"text\":\"first\"}\n");
  write_file(dir / "b" / "c" / "d.txt.zst", compressed("second"));
  write_file(dir / "b" / "readme.md", "not a corpus");
  Documents found;
  auto take = [&](std::string&& d) { return found.push_back(std::move(d)), true; };
  EXPECT_TRUE(read_corpus({.inputs = {dir}}, take));
  EXPECT_EQ(found, (Documents{"first", "second", "last"}));
  found.clear();
  read_corpus({.inputs = {dir / "z.txt", dir / "b"}}, take);
  EXPECT_EQ(found, (Documents{"last", "second"}));

  found.clear();
  read_corpus({.inputs = {dir}, .leave_out = dir / "b" / ".." / "b"}, take);
  EXPECT_EQ(found, (Documents{"first", "last"})) << "what a run writes below its data is none of them";
  expect_error([&] { corpus_files({.inputs = {dir}, .leave_out = dir / "b" / ".."}); }, {"--out"});
  expect_error([&] { read_corpus({.inputs = {dir / "none.txt"}}, take); }, {"none.txt", "no such file"});
  expect_error([&] { read_corpus({.inputs = {dir / "b" / "readme.md"}}, take); }, {"readme.md", ".jsonl.zst"});
  std::filesystem::create_directories(dir / "empty");
  expect_error([&] { read_corpus({.inputs = {dir / "empty"}}, take); }, {"empty", "holds no file"});
  write_file(dir / "blank.txt", " \n\n");
  expect_error([&] { read_corpus({.inputs = {dir / "blank.txt"}}, take); }, {"blank.txt", "no text"});
}

TEST(Overlap, AgreesWithComparingEveryRun) {
  const int64_t run = 6;
  const Random random(7);
  uint64_t at = 0;
  int shared = 0;
  for (int trial = 0; trial < 400; ++trial) {
    auto text = [&] {
      std::string s;
      const size_t n = random.below(at++, 40);
      for (size_t i = 0; i < n; ++i) s += "ab"[random.below(at++, 2)];
      return s;
    };
    const std::string a = text(), b = text(), c = text();
    OverlapIndex index(run);
    index.add(a);
    index.add(b);
    bool expected = false;
    for (size_t i = 0; i + run <= c.size(); ++i) {
      const std::string piece = c.substr(i, run);
      expected = expected || a.find(piece) != a.npos || b.find(piece) != b.npos;
    }
    EXPECT_EQ(index.shares_run(c), expected) << a << " | " << b << " | " << c;
    shared += expected ? 1 : 0;
  }
  EXPECT_GT(shared, 50);
  EXPECT_LT(shared, 350);
}

TEST(Overlap, CountsCharactersNotBytes) {
  OverlapIndex index(4);
  index.add("xxüüüyy");
  EXPECT_FALSE(index.shares_run("aüüüb")) << "three characters, six bytes";
  EXPECT_TRUE(index.shares_run("axüüüb"));
  EXPECT_FALSE(index.shares_run(""));
}

class ShardsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ =
        testing::scratch_dir(std::string("shards-") + ::testing::UnitTest::GetInstance()->current_test_info()->name());
    options_.corpus.inputs = {dir_ / "corpus.txt"};
  }
  void corpus(const Documents& documents) {
    std::string text;
    for (const std::string& d : documents) text += d + "\n<|endoftext|>\n";
    write_file(dir_ / "corpus.txt", text);
  }
  Shards prepare() {
    tokenizer_.encoded = 0;
    return prepare_shards(options_, tokenizer_, dir_ / "cache");
  }
  /// Whether the corpus was tokenised again; the probe of the tokenizer's identity is shorter than the corpus.
  bool tokenised() const { return tokenizer_.encoded > 1000; }
  std::string text_of(const TokenStream& stream) const {
    std::string text;
    for (const int32_t id : stream.tokens())
      text += id == 256 ? "^" : id == 257 ? "$" : std::string(1, static_cast<char>(id));
    return text;
  }
  Path dir_;
  ShardOptions options_;
  ByteTokenizer tokenizer_;
};

TEST_F(ShardsTest, DocumentsAreJoined) {
  corpus({"one", "two"});
  EXPECT_EQ(text_of(*prepare().train), "one$two$");
  tokenizer_.adds_bos = true;
  EXPECT_EQ(text_of(*prepare().train), "^one$^two$");
  tokenizer_.eos = {257, 256};
  EXPECT_EQ(text_of(*prepare().train), "^one^two") << "a BOS that ends texts stands alone between them";
  const Shards shards = prepare();
  EXPECT_EQ(shards.documents, 2);
  EXPECT_EQ(shards.validation, nullptr);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "cache" / "all.tokens"));
}

TEST_F(ShardsTest, TheLastTokensAreHeldOut) {
  corpus({"one", "two", "six"});
  options_.holdout_tokens = 4;
  Shards shards = prepare();
  EXPECT_EQ(text_of(*shards.train), "one$two$");
  EXPECT_EQ(text_of(*shards.validation), "six$");
  options_.holdout_tokens = 6;
  shards = prepare();
  EXPECT_EQ(text_of(*shards.train), "one$tw");
  EXPECT_EQ(text_of(*shards.validation), "o$six$");
  options_.holdout_tokens = 12;
  expect_error([&] { prepare(); }, {"12 tokens", "held out"});
}

TEST_F(ShardsTest, OverlappingDocumentsAreDropped) {
  const std::string common(100, 'c'), itself(100, 'i');  // as long as a run must be
  const std::string alone = "all by " + itself, last = "then " + common;
  corpus({common + " here", alone, "and " + common, last});
  const auto last_tokens = static_cast<int64_t>(last.size()) + 1;
  options_.holdout_tokens = last_tokens;
  Shards shards = prepare();
  EXPECT_EQ(text_of(*shards.train), alone + "$");
  EXPECT_EQ(text_of(*shards.validation), last + "$");
  EXPECT_EQ(shards.dropped, 2);
  EXPECT_EQ(shards.documents, 4);

  options_.holdout_tokens = 100;  // one character too short to share a run
  shards = prepare();
  EXPECT_EQ(shards.dropped, 0);
  EXPECT_EQ(text_of(*shards.validation), last.substr(last.size() - 99) + "$");

  write_file(dir_ / "test.txt", "quite, I said all by " + itself + "!");
  options_.exclude_overlap = {dir_ / "test.txt"};
  shards = prepare();
  EXPECT_EQ(shards.dropped, 1);
  EXPECT_EQ(text_of(*shards.train), common + " here$and " + common + "$then c");

  options_.holdout_tokens = last_tokens;
  expect_error([&] { prepare(); }, {"nothing is left to train on", "3 of 4", "100 characters"});
}

TEST_F(ShardsTest, TheFirstPartOfTheDocumentThatTheBorderCuts) {
  const std::string common(100, 'c'), begin = "at first " + common, cut = begin + std::string(150, 'd');
  options_.holdout_tokens = 101;
  corpus({"kept", cut});
  EXPECT_EQ(text_of(*prepare().train), "kept$" + begin + std::string(50, 'd')) << "it shares nothing with others";
  corpus({"kept", cut, "and " + common});
  options_.holdout_tokens = 206;
  Shards shards = prepare();
  EXPECT_EQ(text_of(*shards.train), "kept$") << "it shares a run with a document held out";
  EXPECT_EQ(shards.dropped, 1);

  corpus({"kept", cut});
  write_file(dir_ / "test.txt", common);
  options_.exclude_overlap = {dir_ / "test.txt"};
  options_.holdout_tokens = 101;
  EXPECT_EQ(text_of(*prepare().train), "kept$") << "it shares a run with an excluded text";
  corpus({cut});
  expect_error([&] { prepare(); }, {"nothing is left to train on", "1 of 1"});
}

TEST_F(ShardsTest, WhatIsThereStaysWhenNewShardsAreRefused) {
  corpus({std::string(3000, 'a'), std::string(2000, 'b')});
  options_.holdout_tokens = 100;
  const Shards first = prepare();
  const auto stored = [&] {
    std::string all;
    for (const char* name : {"train.tokens", "validation.tokens", "manifest.json"})
      all += read_file(dir_ / "cache" / name);
    return all;
  };
  const std::string before = stored();
  std::string corpus_hash, train_hash;
  options_.accept = [&](const std::string& documents, const std::string& train) {
    corpus_hash = documents, train_hash = train;
    if (documents != first.corpus_hash) fail("another corpus");
  };
  corpus({std::string(3000, 'a'), std::string(2000, 'c')});
  expect_error([&] { prepare(); }, {"another corpus"});
  EXPECT_EQ(stored(), before);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir_ / "cache"), {}), 3) << "nothing half made stays";
  corpus({std::string(3000, 'a'), std::string(2000, 'b')});
  write_file(dir_ / "cache" / "train.tokens", "damaged");
  prepare();
  EXPECT_EQ(corpus_hash, first.corpus_hash);
  EXPECT_EQ(train_hash, first.train->hash());
}

TEST_F(ShardsTest, TokenisedOnce) {
  corpus({std::string(3000, 'a'), std::string(2000, 'b')});
  options_.holdout_tokens = 100;
  int64_t done = 0, total = 0;
  const Shards first = prepare_shards(options_, tokenizer_, dir_ / "cache", [&](int64_t d, int64_t t) {
    EXPECT_GE(d, done);
    done = d;
    total = t;
  });
  EXPECT_EQ(done, total);
  EXPECT_EQ(total, static_cast<int64_t>(std::filesystem::file_size(dir_ / "corpus.txt")));
  EXPECT_TRUE(tokenised());
  const Shards again = prepare();
  EXPECT_FALSE(tokenised());
  EXPECT_EQ(text_of(*again.train), text_of(*first.train));
  EXPECT_EQ(text_of(*again.validation), text_of(*first.validation));
  EXPECT_EQ(again.train->hash(), first.train->hash());
  EXPECT_EQ(again.corpus_hash, first.corpus_hash);
  EXPECT_EQ(again.documents, 2);
  EXPECT_EQ(TokenStream(std::vector<int32_t>(first.train->tokens().begin(), first.train->tokens().end())).hash(),
            first.train->hash());

  const Path file = dir_ / "corpus.txt";
  std::filesystem::last_write_time(file, std::filesystem::last_write_time(file) + std::chrono::seconds(5));
  prepare();
  EXPECT_FALSE(tokenised()) << "touched, but the same";
  corpus({std::string(3000, 'a'), std::string(2000, 'c')});
  prepare();
  EXPECT_TRUE(tokenised()) << "another text of the same size";
  options_.holdout_tokens = 101;
  prepare();
  EXPECT_TRUE(tokenised()) << "another option";
  tokenizer_.size_ = 300;
  prepare();
  EXPECT_TRUE(tokenised()) << "another tokenizer";
  prepare();
  EXPECT_FALSE(tokenised());
}

TEST_F(ShardsTest, DamageIsFoundAndMended) {
  corpus({std::string(3000, 'a')});
  options_.holdout_tokens = 100;
  const std::string good = text_of(*prepare().train);
  for (const char* name : {"train.tokens", "validation.tokens", "manifest.json"}) {
    const Path path = dir_ / "cache" / name;
    const std::string whole = read_file(path);
    std::vector<std::string> damaged = {"",
                                        whole.substr(0, whole.size() / 2),
                                        whole.substr(0, whole.size() - 4),
                                        whole.substr(4),
                                        "x" + whole.substr(1),
                                        std::string(whole.size(), '\0')};
    for (const std::string& bytes : damaged) {
      write_file(path, bytes);
      if (path.extension() == ".tokens") {
        EXPECT_THROW(TokenStream stream(path), Error) << name;
        EXPECT_EQ(TokenStream::open(path), nullptr) << name;
      }
      EXPECT_EQ(text_of(*prepare().train), good);
      EXPECT_TRUE(tokenised()) << name << " cut to " << bytes.size();
    }
    std::filesystem::remove(path);
    EXPECT_EQ(text_of(*prepare().train), good);
    EXPECT_TRUE(tokenised()) << name << " removed";
  }
  const Path path = dir_ / "cache" / "train.tokens";
  std::string flipped = read_file(path);
  flipped[1000] = static_cast<char>(flipped[1000] ^ 1);
  write_file(path, flipped);
  expect_error([&] { TokenStream stream(path); }, {"train.tokens", "SHA-256"});
  EXPECT_EQ(text_of(*prepare().train), good);
  for (const char* json :
       {"[]", "{}", "{\"key\":3,\"modified\":[],\"result\":{}}", "{\"key\":{\"inputs\":7},\"modified\":{}}",
        "{\"key\":{\"inputs\":[1,{\"path\":2}]},\"modified\":{}}", "null", "{\"key"}) {
    write_file(dir_ / "cache" / "manifest.json", json);
    EXPECT_EQ(text_of(*prepare().train), good) << json;
  }
}

TEST_F(ShardsTest, FailureLeavesNoShard) {
  write_file(dir_ / "corpus.txt", "good\n<|endoftext|>\nb\xff\n");
  expect_error([&] { prepare(); }, {"corpus.txt, line 3"});
  EXPECT_TRUE(std::filesystem::is_empty(dir_ / "cache"));
  write_file(dir_ / "file", "");
  expect_error([&] { prepare_shards(options_, tokenizer_, dir_ / "file" / "cache"); }, {"cannot make the directory"});
}

TEST(Windows, EveryEpochIsAPermutationOfTheRing) {
  std::vector<int32_t> tokens(1003);
  std::iota(tokens.begin(), tokens.end(), 0);
  const TokenStream stream(tokens);
  const int64_t length = 10, per_epoch = 100, count = 4;
  std::set<int32_t> offsets;
  Documents orders;
  for (int64_t epoch = 0; epoch < 5; ++epoch) {
    std::map<int32_t, int> seen;
    std::string order;
    for (int64_t step = epoch * 25; step < (epoch + 1) * 25; ++step) {
      std::vector<int32_t> out(count * length);
      stream.windows(1, step, count, length, out.data());
      for (size_t w = 0; w < count; ++w) {
        for (size_t i = 0; i < length; ++i) {
          EXPECT_EQ(out[w * length + i], (out[w * length] + static_cast<int32_t>(i)) % 1003);
          ++seen[out[w * length + i]];
        }
        order += std::to_string(out[w * length]) + " ";
      }
    }
    EXPECT_EQ(seen.size(), static_cast<size_t>(per_epoch * length)) << "no token twice in an epoch";
    orders.push_back(order);
  }
  std::sort(orders.begin(), orders.end());
  EXPECT_EQ(std::unique(orders.begin(), orders.end()), orders.end()) << "another order each epoch";
}

TEST(Windows, AreAFunctionOfSeedAndStep) {
  std::vector<int32_t> tokens(5000);
  std::iota(tokens.begin(), tokens.end(), 0);
  const TokenStream stream(tokens);
  std::vector<int32_t> a(64), b(64), c(64), d(32);
  stream.windows(1, 17, 4, 16, a.data());
  stream.windows(1, 3, 4, 16, b.data());
  stream.windows(1, 17, 4, 16, b.data());
  EXPECT_EQ(a, b);
  stream.windows(2, 17, 4, 16, c.data());
  EXPECT_NE(a, c);
  stream.windows(1, 34, 2, 16, d.data());  // the same samples, taken in half as many at a time
  EXPECT_TRUE(std::equal(d.begin(), d.end(), a.begin()));
  // Far into training nothing overflows.
  stream.windows(1, int64_t{1} << 40, 4, 16, a.data());
}

TEST(Windows, SmallStreams) {
  const TokenStream three(std::vector<int32_t>{5, 6, 7});
  for (int64_t step = 0; step < 20; ++step) {
    int32_t out[3];
    three.windows(9, step, 1, 3, out);
    EXPECT_EQ(std::set<int32_t>(out, out + 3), (std::set<int32_t>{5, 6, 7}));
    three.windows(9, step, 3, 1, out);
    EXPECT_EQ(std::set<int32_t>(out, out + 3), (std::set<int32_t>{5, 6, 7}));
  }
  int32_t out[4];
  expect_error([&] { three.windows(1, 0, 1, 4, out); }, {"3 tokens", "window of 4"});
}

TEST(TokenLines, AreReadAndChecked) {
  const Path file = testing::scratch_dir("token-lines") / "ids.txt";
  write_file(file, "1 2,3\r\n\n 4,  5 ,\n6 0");
  EXPECT_EQ(read_token_lines(file, 7), (std::vector<std::vector<int32_t>>{{1, 2, 3}, {4, 5}, {6, 0}}));
  expect_error([&] { read_token_lines(file, 6); }, {"ids.txt, line 4", "token 6", "vocabulary of 6"});
  write_file(file, "1 2 3\n\n5\n4 4\n");
  expect_error([&] { read_token_lines(file, 7); }, {"ids.txt, line 3", "at least 2 tokens", "token 5 alone"});
  write_file(file, "1 1\n2 x");
  expect_error([&] { read_token_lines(file, 7); }, {"line 2", "found byte 120"});
  write_file(file, "99999999999");
  expect_error([&] { read_token_lines(file, 7); }, {"token 99999999999", "outside"});
  write_file(file, "-1");
  expect_error([&] { read_token_lines(file, 7); }, {"token -1"});
  write_file(file, "\n");
  expect_error([&] { read_token_lines(file, 7); }, {"empty"});
}

TEST(Corpus, TinyStories) {
  const Path file = testing::shared_data("text/tinystories/czhou578_val.decoded.txt");
  NEEDS_DATA(file);
  int64_t stories = 0;
  read_corpus({.inputs = {file}}, [&](std::string&& d) { return stories += d.empty() ? 0 : 1, true; });
  EXPECT_GT(stories, 2500);
  EXPECT_LT(stories, 3200);
}

}  // namespace
}  // namespace qwerky
