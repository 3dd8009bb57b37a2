// SPDX-License-Identifier: MIT
// Rows of evaluation data in every format, read by every task. What a task accepts must give requests with texts that
// are UTF-8, and a gold answer among the choices. First byte: the format; second: the task.
#include "base/error.h"
#include "eval/metrics.h"
#include "io/tokenizer_utf8.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qwerky;
  if (size < 2) return 0;
  static const char* kNames[] = {"x.jsonl", "x.json", "x.csv", "x.raw"};
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  const Task& task = all_tasks()[data[1] % all_tasks().size()];
  try {
    std::vector<Row> rows = parse_rows(bytes, kNames[data[0] % 4]);
    if (data[0] & 4) add_labels(rows, bytes, "x.lst");
    std::vector<Document> documents;
    for (const Row& row : rows) documents.push_back(task.read(row));
    request_hash(task, documents);
    for (const Document& d : documents) {
      const size_t choices = std::max(d.contexts.size(), d.choices.size());
      CHECK(d.gold >= 0 && static_cast<size_t>(d.gold) < choices, "gold ", d.gold, " of ", choices);
      Outcome outcome;
      for (const Request& r : requests_of(task, d, example_of(task, d))) {
        CHECK(is_utf8(r.context) && is_utf8(r.continuation), task.name);
        outcome.answers.push_back({-1, true});
      }
      outcome.text = d.choices[0];
      CHECK(!values_of(task, d, outcome).empty());
      python_dumps(d.row, {.indent = 2, .ascii = true});
    }
  } catch (const Error&) {
  }
  return 0;
}
