// SPDX-License-Identifier: MIT
#include "distill/training_log.h"

#include <sstream>

namespace qwerky {
namespace {

/// The objects of the log that have a stage and a step, each with its line.
template <class F>
void each_entry(const std::string& text, const F& f) {
  std::string line;
  for (std::istringstream lines(text); std::getline(lines, line);) {
    const Json entry = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    const auto counts = [&](const char* key) { return entry.contains(key) && entry[key].is_number_integer(); };
    if (entry.is_object() && counts("stage") && counts("step")) f(entry, line);
  }
}

}  // namespace

void trim_log(const Path& file, int64_t stage, int64_t step) {
  if (!is_file(file)) return;
  const std::string text = read_file(file);
  std::string kept;
  each_entry(text, [&](const Json& entry, const std::string& line) {
    if (std::pair<int64_t, int64_t>(entry["stage"], entry["step"]) <= std::pair(stage, step)) kept += line + "\n";
  });
  if (kept != text) write_file(file, kept);
}

Json final_losses(const Path& file) {
  Json losses = Json::array();
  if (!is_file(file)) return losses;
  each_entry(read_file(file), [&](const Json& entry, const std::string&) {
    Json last = Json::object();
    for (const char* key :
         {"stage", "name", "step", "loss", "validation_kl", "validation_ratio", "validation_perplexity"})
      if (entry.contains(key)) last[key] = entry[key];
    if (!losses.empty() && losses.back()["stage"] == last["stage"]) losses.erase(losses.size() - 1);
    losses.push_back(std::move(last));
  });
  return losses;
}

}  // namespace qwerky
