// SPDX-License-Identifier: MIT
// PIQA (Bisk et al. 2020): which of two ways reaches a goal.
#include "eval/task.h"

namespace qwerky {
namespace {

Document read(const Row& row) {
  Document d;
  d.contexts = {"Question: " + row.text("goal") + "\nAnswer:"};
  d.choices = {row.text("sol1"), row.text("sol2")};
  const Json& label = row.field("label");
  if (!label.is_number_integer() || (label != 0 && label != 1))
    row.wrong("label: expected 0 or 1, found ", label.dump(), label == -1 ? " (the test split has no answers)" : "");
  d.gold = label.get<int>();
  d.target = std::to_string(d.gold);
  d.row = {{"goal", row.text("goal")}, {"sol1", d.choices[0]}, {"sol2", d.choices[1]}, {"label", d.gold}};
  return d;
}

SplitFiles files(const std::string& split, const std::vector<std::string>& names, int64_t rows) {
  SplitFiles files{split, rows, {"piqa." + split + ".jsonl"}, "piqa", "yonatanbisk.com/piqa (or baber/piqa)", true};
  for (const std::string& name : names)
    for (const char* folder : {"physicaliqa-train-dev/", "piqa/"}) files.files.push_back(folder + name + ".jsonl");
  return files;
}

}  // namespace

std::vector<Task> piqa_tasks() {
  return {{.name = "piqa",
           .alias = "piqa",
           .dataset = "baber/piqa",
           .metrics = {{"acc", Aggregation::mean, true}, {"acc_norm", Aggregation::mean, true}},
           .one_more = true,
           .documents = files("validation", {"dev", "valid"}, 1838),
           .pool = files("train", {"train"}, 16113),
           .read = read,
           .requests_sha256 = "6048a3a2bb3ad1e6a3d98139618e06b4d7de766edd685bd38837596199c3f69f"}};
}

}  // namespace qwerky
