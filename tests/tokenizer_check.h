// SPDX-License-Identifier: MIT
// What every tokenizer must do, and cases from elsewhere.
#pragma once

#include <gtest/gtest.h>

#include <sstream>

#include "base/random.h"
#include "data.h"
#include "io/files.h"
#include "io/tokenizer.h"
#include "io/tokenizer_utf8.h"

namespace qwerky::testing {

using Ids = std::vector<int32_t>;

/// Texts of characters that pre-tokenizers, normalisers and UTF-8 scanners find hard.
inline std::string random_text(uint64_t seed, int length) {
  static const std::vector<std::string> kPool = {" ",
                                                 "  ",
                                                 "\n",
                                                 "\r\n",
                                                 "\t",
                                                 "a",
                                                 "B",
                                                 "the",
                                                 " wave",
                                                 "é",
                                                 "e\xCC\x81",
                                                 "\xCC\xA7",
                                                 "中",
                                                 "한",
                                                 "ᄀ",
                                                 "ᅡ",
                                                 "ก",
                                                 "ำ",
                                                 "😀",
                                                 "👩\xE2\x80\x8D👩",
                                                 "7",
                                                 "19",
                                                 "²",
                                                 "Ⅷ",
                                                 "_",
                                                 "-",
                                                 "'s",
                                                 "'LL",
                                                 "'",
                                                 "\xC2\xA0",
                                                 "\xE3\x80\x80",
                                                 "\xE1\xA0\x8E",
                                                 "\xE2\x80\x8B",
                                                 "\xE2\x80\xA8",
                                                 "\xC2\x85",
                                                 "\x1C",
                                                 "ﬁ",
                                                 "\xE2\x84\xAB",
                                                 "İ",
                                                 "<",
                                                 "|>",
                                                 "ab",
                                                 "bc"};
  const Random random(seed);
  std::string out;
  const auto n = static_cast<int>(random.below(0, static_cast<uint64_t>(length)));
  for (int i = 0; i < n; ++i) {
    const uint64_t kind = random.below(3 * static_cast<uint64_t>(i) + 1, 8);
    if (kind == 0) {
      int32_t code = static_cast<int32_t>(random.below(3 * static_cast<uint64_t>(i) + 2, 0x1FFFF)) + 1;
      if (code >= 0xD800 && code <= 0xDFFF) code = 'x';
      append_utf8(out, code);
    } else {
      out += kPool[random.below(3 * static_cast<uint64_t>(i) + 3, kPool.size())];
    }
  }
  return out;
}

/// decode(encode(s)) = normalise(s), encode(decode(t)) = t, and streaming gives the same text.
inline void check_properties(const Tokenizer& t, int cases) {
  for (int i = 0; i < cases; ++i) {
    const std::string text = random_text(static_cast<uint64_t>(i), i % 50 == 0 ? 2000 : 24);
    for (bool special : {false, true}) {
      const Ids ids = t.encode(text, special);
      const std::string back = t.decode(ids);
      ASSERT_EQ(back, t.normalise(text)) << "case " << i;
      ASSERT_EQ(t.encode(back, special), ids) << "case " << i;
      for (int32_t id : ids) ASSERT_TRUE(id >= 0 && id < t.size());
      StreamDecoder stream(t);
      std::string streamed;
      if (t.bos) streamed += stream.push(*t.bos);
      for (int32_t id : ids) {
        const std::string part = stream.push(id);
        ASSERT_TRUE(is_utf8(part));
        streamed += part;
      }
      streamed += stream.finish();
      ASSERT_EQ(streamed, t.decode(ids, true)) << "case " << i;
    }
  }
}

/// llama.cpp's published cases for a vocabulary, in the data directory beside the project.
inline void check_llama_cpp(const Tokenizer& t, const std::string& vocabulary) {
  const std::string separator = "\n__ggml_vocab_test__\n";
  const auto base = shared_data("tokenizers/llama.cpp-golden/ggml-vocab-" + vocabulary + ".gguf");
  const std::string input = read_file(base.string() + ".inp");
  std::istringstream output(read_file(base.string() + ".out"));
  int cases = 0;
  for (size_t at = 0; at < input.size(); ++cases) {
    const size_t end = std::min(input.find(separator, at), input.size());
    const std::string text = input.substr(at, end - at);
    at = end + separator.size();
    std::string line;
    ASSERT_TRUE(std::getline(output, line));
    std::istringstream numbers(line);
    Ids want;
    for (int32_t id; numbers >> id;) want.push_back(id);
    EXPECT_EQ(t.encode(text, false), want) << "[" << text << "]";
    EXPECT_EQ(t.decode(want), t.normalise(text)) << "[" << text << "]";
  }
  EXPECT_EQ(cases, 46);
}

}  // namespace qwerky::testing
