// SPDX-License-Identifier: MIT
// ARC, easy and challenge (Clark et al. 2018): science questions with three to five choices.
#include <algorithm>

#include "eval/task.h"

namespace qwerky {
namespace {

Document read(const Row& row) {
  Document d;
  std::string question;
  std::vector<std::string> labels;
  if (row.field("question").is_object()) {  // AI2's release: {"question": {"stem", "choices": [{"text", "label"}]}}
    const Row inner{row.field("question"), row.where};
    question = inner.text("stem");
    const Json& choices = inner.field("choices");
    if (!choices.is_array()) row.wrong("field \"choices\": expected a list, found ", choices.type_name());
    for (const Json& choice : choices) {
      const Row item{choice, row.where};
      d.choices.push_back(item.text("text"));
      labels.push_back(item.text("label"));
    }
  } else {
    question = row.text("question");
    const Row choices{row.field("choices"), row.where};
    d.choices = choices.texts("text");
    labels = choices.texts("label");
  }
  if (d.choices.size() < 2 || labels.size() != d.choices.size())
    row.wrong("expected two or more choices and a label for each, found ", d.choices.size(), " and ", labels.size());
  const std::string& key = row.text("answerKey");
  const auto found = std::find(labels.begin(), labels.end(), key);
  if (found == labels.end()) row.wrong("answerKey \"", key, "\" is not the label of a choice");
  d.gold = static_cast<int>(found - labels.begin());
  d.target = std::to_string(d.gold);
  d.contexts = {"Question: " + question + "\nAnswer:"};
  d.row = {{"id", row.json.contains("id") ? row.text("id") : ""},
           {"question", question},
           {"choices", {{"text", d.choices}, {"label", labels}}},
           {"answerKey", key}};
  return d;
}

SplitFiles files(const std::string& task, const std::string& set, const char* split, const char* name, int64_t rows) {
  const std::string file = "ARC-" + set + "-" + name + ".jsonl";
  return {split,
          rows,
          {task + "." + split + ".jsonl", "ARC-V1-Feb2018-2/ARC-" + set + "/" + file, "ARC-" + set + "/" + file, file},
          "arc",
          "AI2's ARC-V1-Feb2018 (or allenai/ai2_arc)"};
}

Task task(const std::string& name, const std::string& set, int64_t rows, int64_t pool, const char* sha256) {
  return {.name = name,
          .alias = name,
          .dataset = "allenai/ai2_arc",
          .config = "ARC-" + set,
          .metrics = {{"acc", Aggregation::mean, true}, {"acc_norm", Aggregation::mean, true}},
          .documents = files(name, set, "test", "Test", rows),
          .pool = files(name, set, "train", "Train", pool),
          .read = read,
          .requests_sha256 = sha256};
}

}  // namespace

std::vector<Task> arc_tasks() {
  return {task("arc_easy", "Easy", 2376, 2251, "ffa6e39a35a16299dcb015f17f986aaa598ad8b4840c4cebe0339a7042232741"),
          task("arc_challenge", "Challenge", 1172, 1119,
               "41c34c96cca8ace661911d0033d630c554b283f5a3953bcdc50720ae6b00a9c1")};
}

}  // namespace qwerky
