// SPDX-License-Identifier: MIT
// Any bytes as a corpus file: the first byte chooses the format, the rest is the file.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "io/corpus.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const char* const kNames[] = {"a.txt", "a.jsonl", "a.txt.zst", "a.jsonl.zst"};
  if (size == 0) return 0;
  qwerky::CorpusOptions options;
  if ((data[0] & 4) != 0) options.split_before = {"One", "\xc3"};
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    qwerky::read_documents(bytes, kNames[data[0] & 3], options, [](std::string&& document) {
      CHECK(document.find_first_not_of(" \r\n\t") != document.npos, "a blank document");
      return true;
    });
  } catch (const qwerky::Error&) {
    // What is not a corpus is refused.
  }
  return 0;
}
