// SPDX-License-Identifier: MIT
// GSM8K (Cobbe et al. 2021): word problems solved by generation after five solved ones; the last number counts.
#include "eval/task.h"
#include "eval/text_rules.h"

namespace qwerky {
namespace {

Document read(const Row& row) {
  Document d;
  d.contexts = {"Question: " + row.text("question") + "\nAnswer:"};
  d.choices = {row.text("answer")};
  if (d.choices[0].find("#### ") == std::string::npos) row.wrong("answer: expected \"#### \" before the number");
  d.target = d.choices[0];
  d.row = {{"question", row.text("question")}, {"answer", row.text("answer")}};
  return d;
}

SplitFiles files(const std::string& split, int64_t rows) {
  return {split,
          rows,
          {"gsm8k." + split + ".jsonl", "grade_school_math/data/" + split + ".jsonl", "gsm8k/" + split + ".jsonl"},
          "gsm8k",
          "github.com/openai/grade-school-math (or openai/gsm8k, main)"};
}

/// Length of the run at `at` of characters in `set`.
size_t run(const std::string& text, size_t at, const char* set) {
  return std::min(text.find_first_not_of(set, at), text.size()) - std::min(at, text.size());
}

/// Length of `-?[set]{least,}` at `at`; 0 if it does not match.
size_t number(const std::string& text, size_t at, const char* set, size_t least) {
  const size_t sign = text[at] == '-' ? 1 : 0;
  const size_t digits = run(text, at + sign, set);
  return digits >= least ? sign + digits : 0;
}

/// What counts of an answer: re.sub of ",", "\$", "(?s).*#### " and "\.$" by nothing, then lower case.
std::string plain(const std::string& text) {
  std::string s = replace_all(replace_all(text, ",", ""), "$", "");
  if (const size_t marker = s.rfind("#### "); marker != s.npos) s.erase(0, marker + 5);
  const size_t end = s.ends_with('\n') ? s.size() - 1 : s.size();  // "$" also matches before a last line end
  if (s.ends_with('.')) {
    s.pop_back();
  } else if (end > 0 && s[end - 1] == '.') {
    s.erase(end - 1, 1);
  }
  return python_lower(s);
}

}  // namespace

std::string gsm8k_extract(const std::string& filter, const std::string& text) {
  std::string found = "[invalid]";
  if (filter == "strict-match") {  // the first #### (\-?[0-9\.\,]+)
    for (size_t at = text.find("#### "); at != text.npos; at = text.find("#### ", at + 1))
      if (at + 5 < text.size())
        if (const size_t length = number(text, at + 5, "0123456789.,", 1)) return text.substr(at + 5, length);
    return found;
  }
  for (size_t at = 0; at < text.size();) {  // the last (-?[$0-9.,]{2,})|(-?[0-9]+)
    size_t length = number(text, at, "$0123456789.,", 2);
    if (length == 0) length = number(text, at, "0123456789", 1);
    if (length > 0) found = text.substr(at, length);
    at += std::max<size_t>(length, 1);
  }
  return found;
}

bool gsm8k_equal(const std::string& answer, const std::string& reference) { return plain(answer) == plain(reference); }

std::vector<Task> gsm8k_tasks() {
  return {{.name = "gsm8k",
           .alias = "gsm8k",
           .dataset = "openai/gsm8k",
           .config = "main",
           .version = 3,
           .kind = Kind::generate,
           .metrics = {{"exact_match", Aggregation::mean, true}},
           .filters = {"strict-match", "flexible-extract"},
           .shots = 5,
           .generation = {{"until", {"Question:", "</s>", "<|im_end|>"}}, {"do_sample", false}, {"temperature", 0.0}},
           .documents = files("test", 1319),
           .pool = files("train", 7473),
           .read = read}};
}

}  // namespace qwerky
