// SPDX-License-Identifier: MIT
// SciQ (Welbl et al. 2017): science questions after a supporting paragraph.
#include "eval/task.h"
#include "eval/text_rules.h"

namespace qwerky {
namespace {

Document read(const Row& row) {
  Document d;
  // An empty paragraph leaves its line end in front.
  d.contexts = {std::string(python_lstrip(row.text("support"))) + "\nQuestion: "};
  d.contexts[0] += row.text("question") + "\nAnswer:";
  for (const char* key : {"distractor1", "distractor2", "distractor3", "correct_answer"})
    d.choices.push_back(row.text(key));
  d.gold = 3;
  d.target = std::to_string(d.gold);
  for (const char* key : {"question", "distractor3", "distractor1", "distractor2", "correct_answer", "support"})
    d.row[key] = row.text(key);
  return d;
}

SplitFiles files(const std::string& split, const std::string& name, int64_t rows) {
  const std::string file = concat(name, ".json");
  return {split,
          rows,
          {concat("sciq.", split, ".jsonl"), concat("SciQ dataset-2 3/", file), concat("sciq/", file)},
          "sciq",
          "AI2's SciQ (or allenai/sciq)"};
}

}  // namespace

std::vector<Task> sciq_tasks() {
  return {{.name = "sciq",
           .alias = "sciq",
           .dataset = "allenai/sciq",
           .metrics = {{"acc", Aggregation::mean, true}, {"acc_norm", Aggregation::mean, true}},
           .documents = files("test", "test", 1000),
           .pool = files("train", "train", 11679),
           .read = read,
           .requests_sha256 = "71cbb6e2a7ac4512c3761ea801d420eb3fac49d158c7e4deaa3ab8727bea923c"}};
}

}  // namespace qwerky
