// SPDX-License-Identifier: MIT
#include "cli/bench_context.h"

#include <algorithm>
#include <iomanip>
#include <iostream>

#include "base/error.h"
#include "base/parallel.h"
#include "cli/command.h"
#include "cli/result.h"
#include "engine/context_cost.h"
#include "io/files.h"

namespace qwerky {
namespace {

std::string cell(double value, int decimals, const std::string& unit) {
  return concat(std::fixed, std::setprecision(decimals), value, " ", unit);
}

void pad(const std::string& text, int width) {  // to the right of a column; µ is one column of two bytes
  const auto columns = std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
  std::cout << std::string(static_cast<size_t>(std::max<int64_t>(0, width - columns)), ' ') << text;
}

void print_table(const std::vector<ContextCosts>& all) {
  const Unit time = time_unit(all), memory = memory_unit(all);
  constexpr int kColumn = 14;
  const int group = kColumn * static_cast<int>(all.size());
  std::cout << "         ";
  pad("time per token", group);
  pad("state of one sequence", std::max(group + 4, 26));
  std::cout << "\n  tokens ";
  for (const ContextCosts& m : all) pad(m.name, kColumn);
  std::cout << std::string(all.size() == 1 ? 12 : 4, ' ');
  for (const ContextCosts& m : all) pad(m.name, kColumn);
  std::cout << "\n";
  bool beyond = false;
  for (size_t i = 0; i < all[0].costs.size(); ++i) {
    pad(std::to_string(all[0].costs[i].context), 8);
    std::cout << " ";
    bool marked = false;
    for (const ContextCosts& m : all) {
      pad(cell(m.costs[i].seconds_per_token / time.size, time.size == 1e-6 ? 0 : 2, time.name), kColumn);
      marked |= m.costs[i].beyond;
    }
    std::cout << std::string(all.size() == 1 ? 12 : 4, ' ');
    for (const ContextCosts& m : all)
      pad(cell(static_cast<double>(m.costs[i].state_bytes) / memory.size, memory.size == 1024 ? 0 : 1, memory.name),
          kColumn);
    std::cout << (marked ? " *" : "") << "\n";
    beyond |= marked;
  }
  if (beyond)
    for (const ContextCosts& m : all)
      if (m.most > 0)
        std::cout << "* beyond the " << m.most << " positions that the config.json of " << m.name
                  << " allows (max_position_embeddings): the cost alone\n";
}

Json as_json(const std::vector<ContextCosts>& all) {
  Json models = Json::array();
  for (const ContextCosts& m : all) models.push_back(to_json(m));
  return {{"threads", threads()}, {"models", models}};
}

}  // namespace

int bench_context(const ContextBenchOptions& given) {
  ContextBenchOptions o = given;
  o.contexts = checked_contexts(std::move(o.contexts));
  if (o.contexts.empty()) fail("--contexts: expected at least one number of tokens");
  if (o.models.empty()) fail("bench: expected a model directory or file");

  std::vector<ContextCosts> all;
  for (const std::string& path : o.models) {
    const Engine engine(path, {.backend = o.backend, .precision = o.precision, .tokenizer = false});
    all.push_back(measure_contexts(engine, path, o.contexts, false, [&](int64_t context) {
      check_interrupted();
      say(concat(path, ": after ", context, " tokens"), false);
    }));
  }
  if (all.size() == 2 && all[0].name == all[1].name) all[0].name += " 1", all[1].name += " 2";
  say(concat("measured on ", threads(), threads() == 1 ? " thread" : " threads", ", backend ", all[0].backend), true);

  print_table(all);
  if (!o.svg.empty()) write_file(o.svg, svg(context_charts(all)));
  write_result(o.json, as_json(all));
  return 0;
}

}  // namespace qwerky
