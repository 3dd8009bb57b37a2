// SPDX-License-Identifier: MIT
#include "distill/recipes_builtin.h"
#include "distill/stage.h"
#include "io/files.h"
#include "io/tokenizer_utf8.h"

namespace qwerky {
namespace {

/// Applies "stages.1.lr=3e-4" to a recipe's JSON.
void apply(Json& recipe, const std::string& change) {
  const size_t equals = change.find('=');
  if (equals == std::string::npos || !is_utf8(change)) fail("--set ", change, ": expected key=value in UTF-8");
  std::string pointer = "/" + change.substr(0, equals);
  for (char& c : pointer)
    if (c == '.') c = '/';
  const std::string text = change.substr(equals + 1);
  const Json value = Json::parse(text, nullptr, false);
  try {
    const Json::json_pointer at(pointer);
    if (!recipe.contains(at.parent_pointer()))
      fail("--set ", change, ": the recipe has no ", at.parent_pointer().to_string());
    recipe[at] = value.is_discarded() ? Json(text) : value;
  } catch (const Json::exception& e) {
    fail("--set ", change, ": ", e.what());
  }
}

}  // namespace

Recipe parse_recipe(Json json, const std::vector<std::string>& set, const std::string& where) {
  for (const std::string& change : set) apply(json, change);
  Recipe recipe;
  from_json(recipe, json, where);
  recipe.check();
  return recipe;
}

Recipe load_recipe(const std::string& name, const std::vector<std::string>& set) {
  Json json;
  if (name.ends_with(".json")) {
    json = read_json(name);
  } else {
    std::string known;
    for (const auto& [builtin, text] : kBuiltinRecipes) {
      if (name == builtin) json = parse_json(text, "recipe " + name);
      known += (known.empty() ? "" : ", ") + std::string(builtin);
    }
    if (json.is_null()) fail("recipe \"", name, "\" is not known; known: ", known, ", or a .json file");
  }
  return parse_recipe(std::move(json), set, "recipe " + name);
}

}  // namespace qwerky
