// SPDX-License-Identifier: MIT
// Tasks of lm-evaluation-harness: how a row of data becomes requests to a model, and what counts as right.
// Prompts, splits and metrics are those of its task files (v0.4.5 and later); docs/evaluation.md says why.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "eval/dataset.h"
#include "eval/python_json.h"
#include "eval/request.h"

namespace qwerky {

enum class Kind {
  multiple_choice,  ///< the likeliest of several continuations
  loglikelihood,    ///< one continuation, likely or greedy
  rolling,          ///< a whole text from nothing
  generate,         ///< greedy text until a stop
};

enum class Aggregation { mean, perplexity, weighted_perplexity, bits_per_byte };

struct Metric {
  std::string name;
  Aggregation how;
  bool higher_is_better;
};

/// A row as its task reads it.
struct Document {
  OrderedJson row;                    ///< the columns of the published data set, in their order
  std::vector<std::string> contexts;  ///< the question: one, or one for each choice (winogrande)
  std::vector<std::string> choices;   ///< continuations without their delimiter; one when the contexts vary
  int gold = 0;                       ///< index of the right choice
  std::string target;                 ///< as files of samples name the right answer
  int64_t words = 0, bytes = 0;       ///< of a rolling text, before it is changed
};

struct Task {
  std::string name, alias;
  std::string dataset, config = "";  ///< on the Hugging Face hub
  int version = 1;
  Kind kind = Kind::multiple_choice;
  std::vector<Metric> metrics;
  std::vector<std::string> filters = {"none"};
  std::string description = "";  ///< begins every context
  int shots = 0;                 ///< unless asked for otherwise
  OrderedJson generation = {};   ///< of tasks that generate: lm-eval's generation_kwargs
  bool first_n = false;          ///< the first rows of the pool are the shots; else each document draws its own
  bool one_more = false;  ///< draws one more and drops the document itself: lm-eval sees no split named for either
  SplitFiles documents;   ///< that are evaluated
  SplitFiles pool = {};   ///< of few-shot examples; no files: the documents themselves
  std::function<Document(const Row&)> read;
  std::string requests_sha256 =
      "";  ///< of request_hash over all documents, as lm-eval v0.3's tests have it; may be empty
};

/// A name for the score of several tasks, the mean over all their documents.
struct Group {
  std::string name, alias;
  int version;
  std::vector<std::string> children;  ///< tasks or groups
};

const std::vector<Task>& all_tasks();
const std::vector<Group>& all_groups();
const Task* find_task(const std::string& name);
const Group* find_group(const std::string& name);
/// The tasks that a list of tasks and groups means, each once. An unknown name is an Error with the nearest ones.
std::vector<const Task*> tasks_of(const std::vector<std::string>& names);

/// The question asked after `prefix`, once for each choice; of tasks that generate, the prompt alone.
std::vector<Request> requests_of(const Task& task, const Document& document, const std::string& prefix);
/// A solved example and the blank line after it.
std::string example_of(const Task& task, const Document& document);
/// Its question and its answer, without what stands between them.
std::pair<std::string, std::string> question_and_answer(const Document& document);

/// Per document the examples that precede it, as indices of the pool. Throws when the pool is too small. With `twice`
/// each document draws twice and keeps the second: lm-eval 0.4.8 does so for a chat's one user turn.
std::vector<std::vector<int64_t>> draw_examples(const Task& task, std::span<const Document> documents,
                                                std::span<const Document> pool, int shots, uint64_t seed,
                                                bool twice = false);

/// SHA-256 of every request without examples, in the order and the JSON of the tests of lm-eval v0.3.
std::string request_hash(const Task& task, std::span<const Document> documents);

/// The documents of a task and the pool of its examples.
struct TaskData {
  std::vector<Document> documents, pool;  ///< empty pool: no examples wanted, or the documents themselves
  std::string file, sha256;               ///< sha256 of all rows that are used
  bool published = false;  ///< rows are counted, and hashed where the hash is known: those that lm-eval reads
};

/// Throws unless the data are the published ones; with `allow_partial`, reads any that fit.
TaskData load_task(const Task& task, const Path& data, bool with_pool, bool allow_partial);

/// One for each file of src/eval/tasks_*.cc.
std::vector<Task> arc_tasks();
std::vector<Task> hellaswag_tasks();
std::vector<Task> lambada_tasks();
std::vector<Task> piqa_tasks();
std::vector<Task> sciq_tasks();
std::vector<Task> winogrande_tasks();
std::vector<Task> mmlu_tasks();
std::vector<Group> mmlu_groups();
std::vector<Task> wikitext_tasks();
std::vector<Task> gsm8k_tasks();

/// gsm8k: what a filter finds in a generated text, "[invalid]" if nothing.
std::string gsm8k_extract(const std::string& filter, const std::string& text);
/// gsm8k: whether a filtered answer equals the reference, both without commas, dollars, the reasoning and a last dot.
bool gsm8k_equal(const std::string& answer, const std::string& reference);

}  // namespace qwerky
