// SPDX-License-Identifier: MIT
// HellaSwag (Zellers et al. 2019): which of four endings continues a description.
#include "eval/task.h"
#include "eval/text_rules.h"

namespace qwerky {
namespace {

Document read(const Row& row) {
  // AI2's release leaves out empty parts of the context and has the label as a number.
  const auto optional = [&](const char* key) { return row.json.contains(key) ? row.text(key) : std::string(); };
  Document d;
  const std::string ctx_a = optional("ctx_a"), ctx_b = optional("ctx_b");
  const auto endings = row.texts("endings");
  if (endings.size() != 4) row.wrong("expected four endings, found ", endings.size());
  const Json& label = row.field("label");
  d.target = label.is_number_integer() ? std::to_string(label.get<int64_t>()) : row.text("label");
  if (d.target.size() != 1 || d.target[0] < '0' || d.target[0] > '3')
    row.wrong("label: expected 0 to 3, found \"", d.target, "\"");
  d.gold = d.target[0] - '0';
  d.contexts = {hellaswag_clean(row.text("activity_label") + ": " + ctx_a + " " + python_capitalize(ctx_b))};
  for (const std::string& ending : endings) d.choices.push_back(hellaswag_clean(ending));
  if (row.json.contains("ind")) d.row["ind"] = row.field("ind");
  d.row["activity_label"] = row.text("activity_label");
  d.row["ctx_a"] = ctx_a;
  d.row["ctx_b"] = ctx_b;
  if (row.json.contains("ctx")) d.row["ctx"] = row.text("ctx");
  d.row["endings"] = endings;
  for (const char* key : {"source_id", "split", "split_type"})
    if (row.json.contains(key)) d.row[key] = row.text(key);
  d.row["label"] = d.target;
  d.row["query"] = d.contexts[0];  // these three lm-eval adds
  d.row["choices"] = d.choices;
  d.row["gold"] = d.gold;
  return d;
}

SplitFiles files(const std::string& split, const std::string& name, int64_t rows) {
  return {split,
          rows,
          {"hellaswag." + split + ".jsonl", "hellaswag_" + name + ".jsonl", "data/hellaswag_" + name + ".jsonl"},
          "hellaswag",
          "github.com/rowanz/hellaswag (or Rowan/hellaswag)"};
}

}  // namespace

std::vector<Task> hellaswag_tasks() {
  return {{.name = "hellaswag",
           .alias = "hellaswag",
           .dataset = "Rowan/hellaswag",
           .metrics = {{"acc", Aggregation::mean, true}, {"acc_norm", Aggregation::mean, true}},
           .one_more = true,
           .documents = files("validation", "val", 10042),
           .pool = files("train", "train", 39905),
           .read = read,
           .requests_sha256 = "abb808c97d6529eda6c11067837a132c62d25cba0394d720f80cca6df9f7196e"}};
}

}  // namespace qwerky
