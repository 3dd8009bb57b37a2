// SPDX-License-Identifier: MIT
// Token ids from what --data and --tokens-file name.
#pragma once

#include <string>
#include <vector>

#include "io/tokenizer.h"

namespace qwerky {

struct TextOptions {
  std::vector<std::string> data;  ///< text, or one .tokens shard
  std::string tokens_file;        ///< ids, one sequence a line
  std::string field = "text";
  std::vector<std::string> split_before;
  int64_t limit = 0;  ///< at most so many tokens; 0: all
};

/// One stream from text or from a shard made by `convert`, or the lines of a token file. Ids are below `vocab`.
/// `tokenizer` may be null where needs_tokenizer() is false.
std::vector<std::vector<int32_t>> read_ids(const TextOptions& o, const Tokenizer* tokenizer, int64_t vocab);
bool needs_tokenizer(const TextOptions& o);

}  // namespace qwerky
