// SPDX-License-Identifier: MIT
// First byte: the format. Two formats hold two files, parted by a NUL byte.
#include "base/error.h"
#include "io/tokenizer_formats.h"
#include "io/tokenizer_utf8.h"

namespace {

std::unique_ptr<qwerky::Tokenizer> load(int format, std::string_view bytes) {
  using namespace qwerky;
  const size_t cut = std::min(bytes.find('\0'), bytes.size());
  const std::string_view first = bytes.substr(0, cut), second = bytes.substr(std::min(cut + 1, bytes.size()));
  TokenizerConfig config;
  switch (format) {
    case 0:
      if (!second.empty()) config.tokenizer_config = parse_json(second, "tokenizer_config.json");
      return tokenizer_from_json(first, config, "fuzz");
    case 1: return tokenizer_from_vocab(first, second, config, "fuzz");
    case 2: return tokenizer_from_tiktoken(bytes, config, "fuzz");
    case 3: return tokenizer_from_sentencepiece(bytes, config, "fuzz");
    default: return tokenizer_from_llama2c(bytes, config, "fuzz");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qwerky;
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    const auto tokenizer = load(data[0] % 5, bytes);
    // Encoding may refuse (a byte without a token) but not misbehave.
    try {
      for (const std::string_view text :
           {std::string_view(" The wave's 12\n\n caf\xC3\xA9 \xF0\x9F\x98\x80\xFF a<|endoftext|>"),
            bytes.substr(0, 256)}) {
        for (bool special : {false, true}) {
          const auto ids = tokenizer->encode(text, special);
          StreamDecoder stream(*tokenizer);
          for (int32_t id : ids) {
            CHECK(id >= 0 && id < tokenizer->size(), "encoded id ", id);
            CHECK(is_utf8(stream.push(id)), "streamed half a character");
          }
          stream.finish();
          tokenizer->decode(ids);
        }
        tokenizer->normalise(text);
      }
    } catch (const Error&) {
    }
    for (int32_t id = 0; id < tokenizer->size() && id < 600; ++id) tokenizer->piece(id);
  } catch (const Error&) {
  }
  return 0;
}
