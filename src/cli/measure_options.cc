// SPDX-License-Identifier: MIT
#include "cli/measure_options.h"

#include "cli/command.h"
#include "cli/result.h"

namespace qwerky {

void add_measure_flags(Flags flags, MeasureOptions& o) {
  flags.add_option("--data", o.text.data, "text (.txt, .jsonl, .zst, directories), or a .tokens shard");
  flags.add_option("--tokens-file", o.text.tokens_file, "token ids, one sequence a line; no tokenizer needed");
  flags.add_option("--field", o.text.field, "field of .jsonl rows that holds the text").with_default();
  flags.add_option("--split-before", o.text.split_before,
                   "cut .txt files without <|endoftext|> before lines that begin so");
  flags.add_option("--window", o.window, "tokens of a window").with_default().positive();
  flags.add_option("--limit", o.text.limit, "at most so many tokens, or documents of a task (0: all)")
      .with_default()
      .not_negative();
  add_json_flag(flags, o.json);
  add_backend_flags(flags, o.backend, o.precision);
}

Windows windows_of(const std::vector<std::vector<int32_t>>& sequences, int64_t length) {
  Windows windows({}, length);
  for (const auto& ids : sequences) windows.add(ids);
  return windows;
}

void show_windows_done(int64_t done, int64_t total) {
  check_interrupted();
  say(concat("window ", done, "/", total), false);
}

Json scores_json(const Scores& scores) {
  Json json = to_json(scores);
  json["nll_by_position"] = scores.nll_by_position;
  return json;
}

}  // namespace qwerky
