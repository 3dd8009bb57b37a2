// SPDX-License-Identifier: MIT
#include "cli/text_ids.h"

#include "base/error.h"
#include "io/shards.h"

namespace qwerky {

bool needs_tokenizer(const TextOptions& o) {
  return o.tokens_file.empty() && !(o.data.size() == 1 && o.data[0].ends_with(".tokens"));
}

std::vector<std::vector<int32_t>> read_ids(const TextOptions& o, const Tokenizer* tokenizer, int64_t vocab) {
  if (!o.tokens_file.empty()) return read_token_lines(o.tokens_file, vocab);
  std::vector<int32_t> ids;
  if (o.data.size() == 1 && o.data[0].ends_with(".tokens")) {
    const TokenStream stream{Path(o.data[0])};
    ids.assign(stream.tokens().begin(), stream.tokens().end());
    for (int32_t id : ids)
      if (id < 0 || id >= vocab) fail(o.data[0], ": id ", id, " is outside the model's vocabulary of ", vocab);
  } else {
    if (o.data.empty()) fail("--data or --tokens-file: expected text or token ids to measure on");
    CorpusOptions corpus{.field = o.field, .split_before = o.split_before};
    for (const std::string& input : o.data) corpus.inputs.emplace_back(input);
    const DocumentFrame frame = document_frame(*tokenizer);
    read_corpus(corpus, [&](std::string&& document) {
      if (frame.begin) ids.push_back(*frame.begin);
      const auto more = tokenizer->encode(document);
      ids.insert(ids.end(), more.begin(), more.end());
      if (frame.end) ids.push_back(*frame.end);
    });
  }
  if (o.limit > 0 && static_cast<int64_t>(ids.size()) > o.limit) ids.resize(static_cast<size_t>(o.limit));
  return {std::move(ids)};
}

}  // namespace qwerky
