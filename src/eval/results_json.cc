// SPDX-License-Identifier: MIT
#include "eval/results_json.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>

#include "base/error.h"
#include "io/tokenizer_utf8.h"

namespace qwerky {
namespace {

const char* name_of(Aggregation how) {
  switch (how) {
    case Aggregation::mean: return "mean";
    case Aggregation::perplexity: return "perplexity";
    case Aggregation::weighted_perplexity: return "weighted_perplexity";
    case Aggregation::bits_per_byte: return "bits_per_byte";
  }
  return "";
}

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::multiple_choice: return "multiple_choice";
    case Kind::loglikelihood: return "loglikelihood";
    case Kind::rolling: return "loglikelihood_rolling";
    case Kind::generate: return "generate_until";
  }
  return "";
}

OrderedJson or_null(const std::string& text) { return text.empty() ? OrderedJson() : OrderedJson(text); }

/// Group versions are whole, those of tasks have a fraction.
OrderedJson version_of(const Entry& entry) {
  return entry.group ? OrderedJson(entry.version) : OrderedJson(static_cast<double>(entry.version));
}

OrderedJson scores_json(const Entry& entry) {
  OrderedJson json{{"alias", entry.alias}};
  for (const Score& score : entry.scores) {
    json[score.metric + "," + score.filter] = score.value;
    json[score.metric + "_stderr," + score.filter] = score.error ? OrderedJson(*score.error) : OrderedJson("N/A");
  }
  if (!entry.comparable) json["qwerky_rows"] = concat(entry.documents, " of ", entry.published);
  return json;
}

OrderedJson config_json(const TaskRun& run) {
  const Task& task = *run.task;
  OrderedJson json{{"task", task.name},
                   {"dataset_path", task.dataset},
                   {"dataset_name", or_null(task.config)},
                   {task.documents.split + "_split", task.documents.split},
                   {"fewshot_split", or_null(task.pool.split)},
                   {"description", task.description},
                   {"target_delimiter", " "},
                   {"fewshot_delimiter", "\n\n"}};
  if (task.first_n) json["fewshot_config"] = {{"sampler", "first_n"}};
  json["num_fewshot"] = run.shots;
  json["metric_list"] = OrderedJson::array();
  for (const Metric& metric : task.metrics)
    json["metric_list"].push_back(
        {{"metric", metric.name}, {"aggregation", name_of(metric.how)}, {"higher_is_better", metric.higher_is_better}});
  json["output_type"] = name_of(task.kind);
  if (task.kind == Kind::generate) json["generation_kwargs"] = run.generation;
  json["repeats"] = 1;
  json["metadata"] = {
      {"version", static_cast<double>(task.version)}, {"data", run.data.file}, {"data_sha256", run.data.sha256}};
  return json;
}

/// Local time as lm-eval names files by it: 2025-03-05T12-34-56.123456
std::string time_text(double seconds) {
  const auto whole = static_cast<std::time_t>(std::floor(seconds));
  std::tm local{};
  ::localtime_r(&whole, &local);
  char text[64], micros[16];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H-%M-%S", &local);
  std::snprintf(micros, sizeof micros, ".%06d", static_cast<int>((seconds - std::floor(seconds)) * 1e6));
  return std::string(text) + micros;
}

/// Each run of characters that file systems refuse becomes "__".
std::string sanitised(const std::string& name) {
  static constexpr std::string_view kRefused = "\"<>:/|\\?*[]";
  std::string out;
  bool inside = false;
  for (char c : name) {
    const bool refused = kRefused.find(c) != kRefused.npos;
    if (!refused) out += c;
    if (refused && !inside) out += "__";
    inside = refused;
  }
  return out;
}

std::string number_or_none(int64_t n, bool some) { return some ? std::to_string(n) : "None"; }

/// Answers as the text that Python's str() makes of them.
OrderedJson response(const Task& task, const Outcome& outcome, size_t r) {
  std::string storage;
  if (task.kind == Kind::generate) return std::string(valid_utf8(outcome.text, storage));
  const Answer& answer = outcome.answers[r];
  if (task.kind == Kind::rolling) return python_repr(answer.loglikelihood);
  return OrderedJson::array({python_repr(answer.loglikelihood), answer.greedy ? "True" : "False"});
}

}  // namespace

std::string header_line(const RunInfo& info, const EvalOptions& options) {
  return concat(info.model, " (", info.model_args, "), gen_kwargs: (",
                options.gen_kwargs.empty() ? "None" : options.gen_kwargs,
                "), limit: ", number_or_none(options.limit, options.limit > 0),
                ", num_fewshot: ", number_or_none(options.num_fewshot.value_or(0), options.num_fewshot.has_value()),
                ", batch_size: ", options.batch);
}

std::string sample_line(const TaskRun& run, int64_t document, size_t filter, std::string* hashes) {
  const Task& task = *run.task;
  const auto i = static_cast<size_t>(document);
  const Document& doc = run.data.documents[i];
  const Outcome& outcome = run.outcomes[i];
  OrderedJson arguments, responses = OrderedJson::array(), filtered = OrderedJson::array();
  const auto requests = run.requests(document);
  const std::string& prompt = task.kind == Kind::rolling ? requests[0].continuation : requests[0].context;
  if (task.kind == Kind::generate) {
    arguments["gen_args_0"] = {{"arg_0", prompt}, {"arg_1", run.generation}};
    filtered.push_back(gsm8k_extract(task.filters[filter], outcome.text));
    responses.push_back(OrderedJson::array({response(task, outcome, 0)}));
  } else {
    for (size_t r = 0; r < requests.size(); ++r) {
      OrderedJson& argument = arguments[concat("gen_args_", r)];
      if (task.kind == Kind::rolling) {
        argument["arg_0"] = requests[r].continuation;
      } else {
        argument = {{"arg_0", requests[r].context}, {"arg_1", requests[r].continuation}};
      }
      responses.push_back(OrderedJson::array({response(task, outcome, r)}));
      filtered.push_back(response(task, outcome, r));
    }
  }
  OrderedJson names = OrderedJson::array();
  for (const Metric& metric : task.metrics) names.push_back(metric.name);
  const std::string doc_hash = sha256(python_dumps(doc.row, {.indent = 2}));
  OrderedJson json{{"doc_id", document},
                   {"doc", doc.row},
                   {"target", doc.target},
                   {"arguments", arguments},
                   {"resps", responses},
                   {"filtered_resps", filtered},
                   {"filter", task.filters[filter]},
                   {"metrics", names},
                   {"doc_hash", doc_hash},
                   {"prompt_hash", sha256(prompt)},
                   {"target_hash", sha256(doc.target)}};
  if (hashes != nullptr) *hashes += doc_hash + sha256(prompt) + sha256(doc.target);
  const std::vector<Value> values = values_of(task, doc, outcome);
  for (size_t m = 0; m < task.metrics.size(); ++m) {
    const Value& value = values[filter * task.metrics.size() + m];
    if (task.kind == Kind::rolling) {
      json[task.metrics[m].name] = OrderedJson::array({value.x, value.weight});
    } else if (task.kind == Kind::loglikelihood && task.metrics[m].name == "acc") {
      json["acc"] = static_cast<int>(value.x);
    } else {
      json[task.metrics[m].name] = value.x;
    }
  }
  return python_dumps(json);
}

OrderedJson results_json(const RunInfo& info, const EvalOptions& options, const Evaluation& evaluation) {
  OrderedJson results = OrderedJson::object(), groups = OrderedJson::object(), subtasks = OrderedJson::object(),
              configs = OrderedJson::object(), versions = OrderedJson::object(), shots = OrderedJson::object(),
              better = OrderedJson::object(), samples = OrderedJson::object();
  std::vector<const Entry*> by_name;
  for (const Entry& entry : evaluation.entries) {
    results[entry.name] = scores_json(entry);
    if (entry.group) groups[entry.name] = results[entry.name];
    if (entry.group) subtasks[entry.name] = entry.children;
    by_name.push_back(&entry);
  }
  std::sort(by_name.begin(), by_name.end(), [](const Entry* a, const Entry* b) { return a->name < b->name; });
  for (const Entry* entry : by_name) {
    versions[entry->name] = version_of(*entry);
    if (entry->shots) shots[entry->name] = *entry->shots;
    for (const Score& score : entry->scores) better[entry->name][score.metric] = score.higher_is_better;
  }
  for (const TaskRun& run : evaluation.runs) {
    if (run.outcomes.empty()) continue;
    configs[run.task->name] = config_json(run);
    samples[run.task->name] = {{"original", run.data.documents.size()}, {"effective", run.outcomes.size()}};
  }
  const OrderedJson gen_kwargs = parse_gen_kwargs(options.gen_kwargs);
  const PromptStyle& prompts = options.prompts;
  const std::string system = prompts.system.value_or("");
  OrderedJson json;
  json["results"] = results;
  if (!groups.empty()) json["groups"] = groups;
  json["group_subtasks"] = subtasks;
  json["configs"] = configs;
  json["versions"] = versions;
  json["n-shot"] = shots;
  json["higher_is_better"] = better;
  json["n-samples"] = samples;
  json["config"] = {{"model", info.model},
                    {"model_args", info.model_args},
                    {"model_sha", or_null(info.model_sha256)},
                    {"batch_size", options.batch},
                    {"batch_sizes", OrderedJson::array()},
                    {"device", or_null(info.device)},
                    {"use_cache", nullptr},
                    {"limit", options.limit > 0 ? OrderedJson(options.limit) : OrderedJson()},
                    {"bootstrap_iters", options.bootstrap_iters},
                    {"gen_kwargs", gen_kwargs.empty() ? OrderedJson() : gen_kwargs},
                    {"random_seed", 0},
                    {"numpy_seed", 1234},
                    {"torch_seed", 1234},
                    {"fewshot_seed", options.seed}};
  for (const char* key : {"git_hash"}) json[key] = nullptr;
  json["date"] = info.start;
  for (const char* key : {"pretty_env_info", "transformers_version", "upper_git_hash", "tokenizer_pad_token"})
    json[key] = nullptr;
  json["tokenizer_eos_token"] = or_null(info.eos_token);
  json["tokenizer_bos_token"] = or_null(info.bos_token);
  json["eot_token_id"] = nullptr;
  json["max_length"] = info.max_length > 0 ? OrderedJson(info.max_length) : OrderedJson();
  json["task_hashes"] = OrderedJson::object();
  json["model_source"] = info.model;
  json["model_name"] = info.model_name;
  json["model_name_sanitized"] = sanitised(info.model_name);
  json["system_instruction"] = prompts.system ? OrderedJson(system) : OrderedJson();
  json["system_instruction_sha"] = system.empty() ? OrderedJson() : OrderedJson(sha256(system));
  json["fewshot_as_multiturn"] = prompts.multiturn;
  json["chat_template"] = or_null(prompts.chat_template);
  json["chat_template_sha"] = prompts.render ? OrderedJson(sha256(prompts.chat_template)) : OrderedJson();
  json["start_time"] = info.start;
  json["end_time"] = info.end;
  json["total_evaluation_time_seconds"] = python_repr(info.end - info.start);
  json["qwerky_model_seconds"] = info.model_seconds;
  json["qwerky_partial"] = evaluation.partial;
  return json;
}

Path result_file(const Path& folder, const std::string& model, const std::string& kind, double time) {
  const Path dir = folder / sanitised(model);
  make_directory(dir);
  return dir / (kind + "_" + time_text(time) + ".json");
}

Path write_results(const Path& folder, const RunInfo& info, const EvalOptions& options, const Evaluation& evaluation,
                   bool samples) {
  const Path path = result_file(folder, info.model_name, "results", info.end), dir = path.parent_path();
  const std::string time = time_text(info.end);
  OrderedJson json = results_json(info, options, evaluation);
  if (samples)
    for (const TaskRun& run : evaluation.runs) {
      if (run.outcomes.empty()) continue;
      std::string hashes;
      FileWriter file(dir / ("samples_" + run.task->name + "_" + time + ".jsonl"));
      for (size_t filter = 0; filter < run.task->filters.size(); ++filter)
        for (int64_t i = 0; i < static_cast<int64_t>(run.outcomes.size()); ++i)
          file.write(sample_line(run, i, filter, &hashes) + "\n");
      file.commit();
      json["task_hashes"][run.task->name] = sha256(hashes);
    }
  write_file(path, python_dumps(json, {.indent = 2}));
  return path;
}

}  // namespace qwerky
