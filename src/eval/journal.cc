// SPDX-License-Identifier: MIT
#include "eval/journal.h"

#include <algorithm>

#include "base/error.h"
#include "io/tokenizer_utf8.h"

namespace qwerky {
namespace {

std::string line_of(int64_t i, const Outcome& outcome) {
  Json json{{"document", i}};
  for (const Answer& answer : outcome.answers) {
    json["loglikelihood"].push_back(answer.loglikelihood);
    json["greedy"].push_back(answer.greedy);
  }
  const auto note = [&](const char* name, bool Answer::*flag) {
    if (std::ranges::none_of(outcome.answers, flag)) return;
    for (const Answer& answer : outcome.answers) json[name].push_back(answer.*flag);
  };
  note("truncated", &Answer::truncated), note("cut", &Answer::cut);
  if (outcome.truncated) json["truncated"] = true;
  std::string storage;
  if (outcome.answers.empty()) json["text"] = std::string(valid_utf8(outcome.text, storage));
  return json.dump();
}

Outcome read_line(const Json& json, int64_t i, size_t requests) {
  Outcome outcome;
  const auto wrong = [&] { fail("is not document ", i); };
  if (!json.is_object() || json.value("document", Json()) != Json(i)) wrong();
  if (requests == 0) {
    const Json text = json.value("text", Json());
    if (!text.is_string()) wrong();
    outcome.text = text.get<std::string>();
    outcome.truncated = json.contains("truncated");
    return outcome;
  }
  const Json sums = json.value("loglikelihood", Json()), greedy = json.value("greedy", Json());
  if (!sums.is_array() || !greedy.is_array() || sums.size() != requests || greedy.size() != requests) wrong();
  for (size_t r = 0; r < requests; ++r) {
    if (!sums[r].is_number() || !greedy[r].is_boolean()) wrong();
    const auto noted = [&](const char* name) {
      const Json flags = json.value(name, Json::array());
      return flags.is_array() && flags.size() == requests && flags[r] == true;
    };
    outcome.answers.push_back({sums[r].get<double>(), greedy[r].get<bool>(), noted("truncated"), noted("cut")});
  }
  return outcome;
}

}  // namespace

Journal::Journal(const Path& folder, const TaskRun& run, const EvalOptions& options) {
  Json header{{"model", options.model_sha256}, {"task", run.task->name}, {"version", run.task->version},
              {"num_fewshot", run.shots},      {"seed", options.seed},   {"data", run.data.sha256}};
  const PromptStyle& prompts = run.prompts;
  if (prompts.system) header["system_instruction"] = *prompts.system;
  if (prompts.render) header["chat_template_sha"] = sha256(prompts.chat_template);
  if (prompts.multiturn) header["fewshot_as_multiturn"] = true;
  if (run.generation != run.task->generation) header["generation_kwargs"] = run.generation;
  const bool writes = run.task->kind == Kind::generate;
  file_ = JournalFile(folder, run.task->name, header, [&](const Json& line) {
    const auto i = finished_.size();
    if (i == run.data.documents.size()) return false;
    const size_t requests = writes ? 0 : requests_of(*run.task, run.data.documents[i], "").size();
    finished_.push_back(read_line(line, static_cast<int64_t>(i), requests));
    return true;
  });
}

void Journal::add(int64_t begin, const std::vector<Outcome>& outcomes) {
  std::string lines;
  for (size_t i = 0; i < outcomes.size(); ++i)
    lines += (i > 0 ? "\n" : "") + line_of(begin + static_cast<int64_t>(i), outcomes[i]);
  file_.append(lines);
}

}  // namespace qwerky
