// SPDX-License-Identifier: MIT
// Recipes with --set: the changes, one a line, up to a blank line; then the JSON.
#include "base/error.h"
#include "distill/stage.h"
#include "io/files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qwerky;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> set;
  for (size_t end = text.find('\n'); end != text.npos; end = text.find('\n')) {
    const std::string line(text.substr(0, end));
    text.remove_prefix(end + 1);
    if (line.empty()) break;
    set.push_back(line);
  }
  try {
    const Recipe recipe = parse_recipe(parse_json(text, "fuzz"), set, "fuzz");
    for (const Stage& s : recipe.stages) {
      CHECK(s.steps() >= 1 && s.unique_steps() >= 1 && s.unique_steps() <= s.steps());
      for (int64_t step : {int64_t{0}, s.steps() / 2, s.steps()})
        for (bool mixer : {false, true}) CHECK(s.rate(step, mixer) >= 0, s.rate(step, mixer));
    }
    const Json json = to_json(recipe);
    CHECK(to_json(parse_recipe(parse_json(json.dump(), "again"), {}, "again")) == json, "changed by writing");
  } catch (const Error&) {
  }
  return 0;
}
