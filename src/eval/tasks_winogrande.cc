// SPDX-License-Identifier: MIT
// WinoGrande (Sakaguchi et al. 2019): which of two names fills the blank, scored on the text after it.
#include <algorithm>

#include "eval/task.h"
#include "eval/text_rules.h"

namespace qwerky {
namespace {

Document read(const Row& row) {
  Document d;
  const std::string& sentence = row.text("sentence");
  const size_t blank = sentence.find('_');
  if (blank == sentence.npos || sentence.find('_', blank + 1) != sentence.npos)
    row.wrong("sentence: expected one \"_\", found ", std::count(sentence.begin(), sentence.end(), '_'));
  for (const char* key : {"option1", "option2"}) d.contexts.push_back(sentence.substr(0, blank) + row.text(key));
  d.choices = {std::string(python_strip(sentence.substr(blank + 1)))};
  const std::string& answer = row.text("answer");
  if (answer != "1" && answer != "2") row.wrong("answer: expected \"1\" or \"2\", found \"", answer, "\"");
  d.gold = answer[0] - '1';
  d.target = d.choices[0];
  for (const char* key : {"sentence", "option1", "option2", "answer"}) d.row[key] = row.text(key);
  return d;
}

SplitFiles files(const std::string& split, const std::string& name, int64_t rows) {
  return {split,
          rows,
          {"winogrande." + split + ".jsonl", "winogrande_1.1/" + name + ".jsonl", "winogrande/" + name + ".jsonl"},
          "winogrande",
          "AI2's winogrande_1.1 (or allenai/winogrande, winogrande_xl)"};
}

}  // namespace

std::vector<Task> winogrande_tasks() {
  return {{.name = "winogrande",
           .alias = "winogrande",
           .dataset = "allenai/winogrande",
           .config = "winogrande_xl",
           .metrics = {{"acc", Aggregation::mean, true}},
           .one_more = true,
           .documents = files("validation", "dev", 1267),
           .pool = files("train", "train_xl", 40398),
           .read = read,
           .requests_sha256 = "90a3eff49de9173964d46f5ed57bcf9a78a72dd1bfe0e5323b25cebb40b49ea9"}};
}

}  // namespace qwerky
