// SPDX-License-Identifier: MIT
// WikiText-2 (Merity et al. 2016) by article: perplexity per word and byte of the text before it was tokenised.
#include "eval/task.h"
#include "eval/text_rules.h"
#include "io/tokenizer_utf8.h"

namespace qwerky {
namespace {

/// len(re.split(r"\s+", text))
int64_t split_count(std::string_view text) {
  int64_t count = 1;
  bool inside = false;
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = utf8_step(text, at);
    const bool space = is_python_space(step.code);
    if (space && !inside) ++count;
    inside = space;
    at += static_cast<size_t>(step.length);
  }
  return count;
}

Document read(const Row& row) {
  Document d;
  const std::string& page = row.text("page");
  d.choices = {wikitext_detokenize(page)};
  if (d.choices[0].empty()) row.wrong("the page is empty");
  d.contexts = {""};
  d.target = d.choices[0];
  d.words = split_count(page);
  d.bytes = static_cast<int64_t>(page.size());
  d.row["page"] = page;
  return d;
}

}  // namespace

std::vector<Task> wikitext_tasks() {
  return {{.name = "wikitext",
           .alias = "wikitext",
           .dataset = "EleutherAI/wikitext_document_level",
           .config = "wikitext-2-raw-v1",
           .version = 2,
           .kind = Kind::rolling,
           .metrics = {{"word_perplexity", Aggregation::weighted_perplexity, false},
                       {"byte_perplexity", Aggregation::weighted_perplexity, false},
                       {"bits_per_byte", Aggregation::bits_per_byte, false}},
           .documents = {"test",
                         62,
                         {"wikitext.test.jsonl", "wikitext-2-raw/wiki.test.raw", "wiki.test.raw"},
                         "wikitext",
                         "wikitext-2-raw-v1.zip (or EleutherAI/wikitext_document_level)"},
           .read = read}};
}

}  // namespace qwerky
