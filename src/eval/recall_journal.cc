// SPDX-License-Identifier: MIT
#include "eval/recall_journal.h"

#include "base/error.h"

namespace qwerky {
namespace {

/// Numbers in a text that no other list of lists has.
std::string text_of(std::span<const int32_t> ids) {
  std::string text;
  for (const int32_t id : ids) text += std::to_string(id) + " ";
  return text + ";";
}

}  // namespace

RecallJournal::RecallJournal(const Path& folder, const std::string& model_sha256) {
  const Json header{{"model", model_sha256}, {"of", "recall"}, {"ids_beyond_the_key", kAnswerSlack}};
  file_ = JournalFile(folder, "recall", header, [&](const Json& line) {
    if (!line.is_object() || !line.contains("key") || !line["key"].is_string()) return false;
    const Json values = line.value("values", Json()), greedy = line.value("greedy", Json());
    if (!values.is_array() || !greedy.is_array()) return false;
    RecallAnswer answer;
    for (const Json& value : values) {
      if (!value.is_number()) return false;
      answer.loglikelihoods.push_back(value.get<double>());
    }
    for (const Json& id : greedy) {
      if (!id.is_number_integer() || id < 0 || id > INT32_MAX) return false;
      answer.greedy.push_back(id.get<int32_t>());
    }
    answers_.insert_or_assign(line["key"].get<std::string>(), std::move(answer));
    return true;
  });
}

const RecallAnswer* RecallJournal::find(const std::string& key) const {
  const auto found = answers_.find(key);
  return found == answers_.end() ? nullptr : &found->second;
}

void RecallJournal::add(const std::string& key, const RecallAnswer& answer) {
  file_.append(Json{{"key", key}, {"values", answer.loglikelihoods}, {"greedy", answer.greedy}}.dump());
}

std::string journal_key(const RecallPrompt& prompt) {
  std::string text = prompt.key + ":" + text_of(prompt.ids);
  for (const auto& key : prompt.keys) text += text_of(key);
  return sha256(text);
}

std::string journal_key(std::span<const int32_t> ids, int64_t first) {
  return sha256(concat(first, ":", text_of(ids)));
}

}  // namespace qwerky
