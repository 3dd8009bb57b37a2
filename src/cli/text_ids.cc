// SPDX-License-Identifier: MIT
#include "cli/text_ids.h"

#include <algorithm>

#include "base/error.h"
#include "io/shards.h"

namespace qwerky {
namespace {

/// The sequences up to `limit` tokens in all (0: no limit).
std::vector<std::vector<int32_t>> first_tokens(std::vector<std::vector<int32_t>> sequences, int64_t limit) {
  if (limit <= 0) return sequences;
  auto left = static_cast<size_t>(limit);
  for (auto& ids : sequences) {
    ids.resize(std::min(ids.size(), left));
    left -= ids.size();
  }
  std::erase_if(sequences, [](const auto& ids) { return ids.empty(); });
  return sequences;
}

}  // namespace

bool needs_tokenizer(const TextOptions& o) {
  return o.tokens_file.empty() && !(o.data.size() == 1 && o.data[0].ends_with(".tokens"));
}

std::vector<std::vector<int32_t>> read_ids(const TextOptions& o, const Tokenizer* tokenizer, int64_t vocab) {
  if (!o.tokens_file.empty()) return first_tokens(read_token_lines(o.tokens_file, vocab), o.limit);
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
      return true;
    });
  }
  return first_tokens({std::move(ids)}, o.limit);
}

}  // namespace qwerky
