// SPDX-License-Identifier: MIT
// MMLU (Hendrycks et al. 2021): 57 subjects, four choices, the letter is scored.
#include <algorithm>
#include <sstream>

#include "eval/task.h"
#include "eval/text_rules.h"

namespace qwerky {
namespace {

// Groups as lm-eval tags them (anatomy is among stem): subjects and the rows of their test splits.
struct Category {
  const char *name, *alias, *subjects;
};

constexpr Category kCategories[] = {
    {"mmlu_humanities", "humanities",
     "formal_logic 126 high_school_european_history 165 high_school_us_history 204 "
     "high_school_world_history 237 international_law 121 jurisprudence 108 logical_fallacies 163 "
     "moral_disputes 346 moral_scenarios 895 philosophy 311 prehistory 324 professional_law 1534 "
     "world_religions 171"},
    {"mmlu_other", "other",
     "business_ethics 100 clinical_knowledge 265 college_medicine 173 global_facts 100 human_aging 223 "
     "management 103 marketing 234 medical_genetics 100 miscellaneous 783 nutrition 306 "
     "professional_accounting 282 professional_medicine 272 virology 166"},
    {"mmlu_social_sciences", "social sciences",
     "econometrics 114 high_school_geography 198 high_school_government_and_politics 193 "
     "high_school_macroeconomics 390 high_school_microeconomics 238 high_school_psychology 545 "
     "human_sexuality 131 professional_psychology 612 public_relations 110 security_studies 245 sociology "
     "201 us_foreign_policy 100"},
    {"mmlu_stem", "stem",
     "abstract_algebra 100 anatomy 135 astronomy 152 college_biology 144 college_chemistry 100 "
     "college_computer_science 100 college_mathematics 100 college_physics 102 computer_security 100 "
     "conceptual_physics 235 electrical_engineering 145 elementary_mathematics 378 high_school_biology 310 "
     "high_school_chemistry 203 high_school_computer_science 100 high_school_mathematics 270 "
     "high_school_physics 151 high_school_statistics 216 machine_learning 112"},
};

struct Subject {
  std::string name;
  int64_t rows;
};

std::vector<Subject> subjects_of(const Category& category) {
  std::istringstream text(category.subjects);
  std::vector<Subject> subjects;
  for (Subject subject; text >> subject.name >> subject.rows;) subjects.push_back(subject);
  return subjects;
}

Document read(const Row& row, const std::string& subject) {
  Document d;
  std::string question;
  std::vector<std::string> choices;
  if (row.json.is_array()) {  // Hendrycks' CSV: question, A, B, C, D, letter
    if (row.json.size() != 6) row.wrong("expected six columns, found ", row.json.size());
    const auto fields = row.json.get<std::vector<std::string>>();
    question = fields[0];
    choices.assign(fields.begin() + 1, fields.begin() + 5);
    if (fields[5].size() != 1 || fields[5][0] < 'A' || fields[5][0] > 'D')
      row.wrong("answer: expected A, B, C or D, found \"", fields[5], "\"");
    d.gold = fields[5][0] - 'A';
  } else if (row.json.contains("choice0")) {  // CSV with a header: the answer is an index
    question = row.text("question");
    for (const char* key : {"choice0", "choice1", "choice2", "choice3"}) choices.push_back(row.text(key));
    const std::string& answer = row.text("answer");
    if (answer.size() != 1 || answer[0] < '0' || answer[0] > '3')
      row.wrong("answer: expected 0 to 3, found \"", answer, "\"");
    d.gold = answer[0] - '0';
  } else {
    question = row.text("question");
    choices = row.texts("choices");
    if (choices.size() != 4) row.wrong("expected four choices, found ", choices.size());
    const Json& answer = row.field("answer");
    if (!answer.is_number_integer() || answer < 0 || answer > 3)
      row.wrong("answer: expected 0 to 3, found ", answer.dump());
    d.gold = answer.get<int>();
  }
  std::string& context = d.contexts.emplace_back(python_strip(question));
  for (size_t i = 0; i < 4; ++i) {
    d.choices.emplace_back(1, static_cast<char>('A' + i));
    context += "\n" + d.choices[i] + ". " + choices[i];
  }
  context += "\nAnswer:";
  d.target = std::to_string(d.gold);
  d.row = {{"question", question}, {"subject", subject}, {"choices", choices}, {"answer", d.gold}};
  return d;
}

SplitFiles files(const std::string& subject, const std::string& split, int64_t rows) {
  const std::string csv = split + "/" + subject + "_" + split + ".csv";
  return {split,
          rows,
          {subject + "." + split + ".jsonl", "data/" + csv, csv},
          "mmlu",
          "data.tar of github.com/hendrycks/test (or cais/mmlu)"};
}

Task task(const Subject& subject) {
  const std::string& name = subject.name;
  std::string words = name;
  std::replace(words.begin(), words.end(), '_', ' ');
  return {.name = "mmlu_" + name,
          .alias = name,
          .dataset = "cais/mmlu",
          .config = name,
          .metrics = {{"acc", Aggregation::mean, true}},
          .description = "The following are multiple choice questions (with answers) about " + words + ".\n\n",
          .first_n = true,
          .documents = files(name, "test", subject.rows),
          .pool = files(name, "dev", 5),
          .read = [name](const Row& row) { return read(row, name); }};
}

}  // namespace

std::vector<Task> mmlu_tasks() {
  std::vector<Task> tasks;
  for (const Category& category : kCategories)
    for (const Subject& subject : subjects_of(category)) tasks.push_back(task(subject));
  return tasks;
}

std::vector<Group> mmlu_groups() {
  std::vector<Group> groups = {{"mmlu", "mmlu", 2, {}}};
  for (const Category& category : kCategories) {
    groups[0].children.push_back(category.name);
    Group& group = groups.emplace_back(Group{category.name, category.alias, 2, {}});
    for (const Subject& subject : subjects_of(category)) group.children.push_back("mmlu_" + subject.name);
  }
  return groups;
}

}  // namespace qwerky
