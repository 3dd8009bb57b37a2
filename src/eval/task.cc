// SPDX-License-Identifier: MIT
#include "eval/task.h"

#include <algorithm>
#include <iterator>
#include <numeric>

#include "base/error.h"
#include "eval/random_python.h"
#include "eval/recall.h"
#include "eval/text_rules.h"

namespace qwerky {
namespace {

/// Levenshtein distance.
size_t distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < a.size(); ++i) {
    size_t corner = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t changed = corner + (a[i] == b[j] ? 0 : 1);
      corner = row[j + 1];
      row[j + 1] = std::min({changed, corner + 1, row[j] + 1});
    }
  }
  return row.back();
}

[[noreturn]] void unknown(const std::string& name) {
  if (name == "perplexity") fail("task \"perplexity\" reads --data as text; measure it apart from other tasks");
  std::vector<std::pair<size_t, std::string>> near;
  const auto consider = [&](const std::string& other) { near.emplace_back(distance(name, other), other); };
  for (const Task& task : all_tasks()) consider(task.name);
  for (const Group& group : all_groups()) consider(group.name);
  for (const std::string& task : recall_tasks()) consider(task);
  std::sort(near.begin(), near.end());
  fail("task \"", name, "\" is not known; nearest: ", near[0].second, ", ", near[1].second, ", ", near[2].second);
}

void collect(const std::string& name, std::vector<const Task*>& tasks) {
  if (const Group* group = find_group(name)) {
    for (const std::string& child : group->children) collect(child, tasks);
  } else if (const Task* task = find_task(name)) {
    if (std::find(tasks.begin(), tasks.end(), task) == tasks.end()) tasks.push_back(task);
  } else {
    unknown(name);
  }
}

std::vector<Document> read_documents(const Task& task, const std::vector<Row>& rows, Sha256& hash) {
  std::vector<Document> documents;
  for (const Row& row : rows) {
    documents.push_back(task.read(row));
    for (const std::string& context : documents.back().contexts)
      if (task.kind != Kind::rolling && python_strip(context).empty())
        row.wrong("the context is empty: there is nothing to continue");
    hash.update(python_dumps(documents.back().row) + "\n");
  }
  return documents;
}

}  // namespace

const std::vector<Task>& all_tasks() {
  static const std::vector<Task> tasks = [] {
    std::vector<Task> all;
    for (const auto& make : {arc_tasks, gsm8k_tasks, hellaswag_tasks, lambada_tasks, mmlu_tasks, piqa_tasks, sciq_tasks,
                             wikitext_tasks, winogrande_tasks}) {
      std::vector<Task> some = make();
      std::move(some.begin(), some.end(), std::back_inserter(all));
    }
    return all;
  }();
  return tasks;
}

const std::vector<Group>& all_groups() {
  static const std::vector<Group> groups = mmlu_groups();
  return groups;
}

const Task* find_task(const std::string& name) {
  for (const Task& task : all_tasks())
    if (task.name == name) return &task;
  return nullptr;
}

const Group* find_group(const std::string& name) {
  for (const Group& group : all_groups())
    if (group.name == name) return &group;
  return nullptr;
}

std::vector<const Task*> tasks_of(const std::vector<std::string>& names) {
  std::vector<const Task*> tasks;
  for (const std::string& name : names) collect(name, tasks);
  return tasks;
}

std::vector<Request> requests_of(const Task& task, const Document& document, const std::string& prefix) {
  std::vector<Request> requests;
  switch (task.kind) {
    case Kind::multiple_choice:
      for (const std::string& context : document.contexts)
        for (const std::string& choice : document.choices) requests.push_back({prefix + context, " " + choice});
      break;
    case Kind::loglikelihood: requests.push_back({prefix + document.contexts[0], document.choices[0]}); break;
    case Kind::rolling: requests.push_back({"", document.choices[0]}); break;
    case Kind::generate: requests.push_back({prefix + document.contexts[0], ""}); break;
  }
  return requests;
}

std::pair<std::string, std::string> question_and_answer(const Document& document) {
  const auto gold = static_cast<size_t>(document.gold);
  const bool varying = document.contexts.size() > 1;
  return {document.contexts[varying ? gold : 0], document.choices[varying ? 0 : gold]};
}

std::string example_of(const Task& task, const Document& document) {
  const auto [question, answer] = question_and_answer(document);
  // lambada's word has its own space, and lm-eval puts another before it.
  return question + (task.kind == Kind::rolling ? "" : " ") + answer + "\n\n";
}

std::vector<std::vector<int64_t>> draw_examples(const Task& task, std::span<const Document> documents,
                                                std::span<const Document> pool, int shots, uint64_t seed, bool twice) {
  std::vector<std::vector<int64_t>> drawn(documents.size());
  if (shots == 0) return drawn;
  const auto size = static_cast<int64_t>(pool.size());
  const int64_t draws = shots + (task.one_more ? 1 : 0);
  if (draws > size) fail(task.name, ": ", shots, " examples need ", draws, " rows to draw from, its pool has ", size);
  PythonRandom random(seed);
  for (size_t i = 0; i < documents.size(); ++i) {
    if (task.first_n) {
      drawn[i].resize(static_cast<size_t>(shots));
      std::iota(drawn[i].begin(), drawn[i].end(), 0);
      continue;
    }
    if (twice) random.sample(size, draws);
    for (int64_t j : random.sample(size, draws))
      if (static_cast<int>(drawn[i].size()) < shots && pool[static_cast<size_t>(j)].row != documents[i].row)
        drawn[i].push_back(j);
  }
  return drawn;
}

std::string request_hash(const Task& task, std::span<const Document> documents) {
  std::vector<const Document*> order;
  for (const Document& document : documents) order.push_back(&document);
  PythonRandom(42).shuffle(order);
  Sha256 hash;
  std::string separator = "[";
  for (const Document* document : order)
    for (const Request& request : requests_of(task, *document, task.description)) {
      // These tests saw sciq without the line end before the question, and lambada's requests twice (for both metrics).
      const std::string_view context = task.name == "sciq" ? python_strip(request.context) : request.context;
      for (int repeat = task.kind == Kind::loglikelihood ? 2 : 1; repeat > 0; --repeat) {
        hash.update(separator + "[" + python_quoted(context, true) + ", " + python_quoted(request.continuation, true) +
                    "]");
        separator = ", ";
      }
    }
  hash.update("]");
  return hash.hex();
}

TaskData load_task(const Task& task, const Path& data, bool with_pool, bool allow_partial) {
  TaskData loaded;
  Sha256 hash;
  const Rows rows = read_split(data, task.documents, task.name, allow_partial);
  loaded.file = rows.file.string();
  loaded.documents = read_documents(task, rows.rows, hash);
  loaded.published = static_cast<int64_t>(loaded.documents.size()) == task.documents.rows;
  if (loaded.published && !task.requests_sha256.empty()) {
    const std::string found = request_hash(task, loaded.documents);
    loaded.published = found == task.requests_sha256;
    if (!loaded.published && !allow_partial)
      fail(task.name, ": ", loaded.file, " has ", task.documents.rows, " rows, but not those of ", task.documents.from,
           ": the SHA-256 of its requests is ", found, ", lm-eval's is ", task.requests_sha256,
           "; --allow-partial evaluates them, without a claim to be comparable");
  }
  if (with_pool && !task.pool.files.empty()) {
    const Rows pool = read_split(data, task.pool, task.name, allow_partial);
    loaded.pool = read_documents(task, pool.rows, hash);
    loaded.published &= static_cast<int64_t>(loaded.pool.size()) == task.pool.rows;
  }
  loaded.sha256 = hash.hex();
  return loaded;
}

}  // namespace qwerky
