// SPDX-License-Identifier: MIT
// LAMBADA (Paperno et al. 2016) as OpenAI prepared it: the last word of a passage.
#include "eval/task.h"

namespace qwerky {
namespace {

Document read(const Row& row) {
  Document d;
  const std::string& text = row.text("text");
  const size_t space = text.rfind(' ');
  if (space == text.npos || space == 0) row.wrong("expected a context and a last word, found no space between them");
  d.contexts = {text.substr(0, space)};
  d.choices = {text.substr(space)};  // the space belongs to the word
  d.target = d.choices[0];
  d.row["text"] = text;
  return d;
}

}  // namespace

std::vector<Task> lambada_tasks() {
  return {{.name = "lambada_openai",
           .alias = "lambada_openai",
           .dataset = "EleutherAI/lambada_openai",
           .config = "default",
           .kind = Kind::loglikelihood,
           .metrics = {{"perplexity", Aggregation::perplexity, false}, {"acc", Aggregation::mean, true}},
           .documents = {"test",
                         5153,
                         {"lambada_openai.test.jsonl", "lambada_test.jsonl"},
                         "lambada_openai",
                         "OpenAI's gpt-2 bucket, lambada_test.jsonl (or EleutherAI/lambada_openai)"},
           .read = read,
           .requests_sha256 = "6829e6a8aa5922e6c92dd31403cc060f242dc0ede4a775e085a70da095ab2e20"}};
}

}  // namespace qwerky
