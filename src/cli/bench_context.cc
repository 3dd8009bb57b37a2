// SPDX-License-Identifier: MIT
#include "cli/bench_context.h"

#include <algorithm>
#include <iomanip>
#include <iostream>

#include "base/parallel.h"
#include "base/svg.h"
#include "cli/command.h"
#include "cli/result.h"
#include "engine/engine.h"
#include "engine/throughput.h"
#include "io/files.h"

namespace qwerky {
namespace {

struct ContextCost {
  int64_t context = 0;           ///< tokens the state has seen before the measured ones
  double seconds_per_token = 0;  ///< median
  int64_t state_bytes = 0;       ///< of a sequence of `context` tokens
  bool beyond = false;           ///< more positions than config.json allows
};

struct Measured {
  std::string path, name, backend;
  int64_t most = 0;  // positions that config.json allows; 0: no limit
  std::vector<ContextCost> costs;
};

Measured measure(const std::string& path, const ContextBenchOptions& o) {
  const Engine engine(path, {.backend = o.backend, .precision = o.precision, .tokenizer = false});
  const Config& c = engine.internals().model->config();
  std::string name = name_of(c.linear_kind());
  if (c.linear_kind() != MixerKind::softmax && std::count(c.mixers.begin(), c.mixers.end(), MixerKind::softmax) > 0)
    name += " + softmax";
  Measured m{path, name, engine.internals().backend->name(), engine.max_tokens(), {}};
  const Engine::Internals& in = engine.internals();
  for (int64_t context : o.contexts) {
    if (interrupted()) throw Interrupted();
    say(concat(path, ": after ", context, " tokens"), false);
    m.costs.push_back({context, measure_decode(*in.model, *in.backend, {.depth = context, .tokens = 64}),
                       in.model->decoder->state_scalars(context) * size_of(in.backend->scalar()),
                       m.most > 0 && context > m.most});
  }
  return m;
}

/// One unit for all, so that numbers compare at a glance.
struct Unit {
  const char* name;
  double size;
};
Unit time_unit(const std::vector<Measured>& all) {
  double most = 0;
  for (const Measured& m : all)
    for (const ContextCost& c : m.costs) most = std::max(most, c.seconds_per_token);
  if (most < 2e-3) return {"µs", 1e-6};
  return most < 2 ? Unit{"ms", 1e-3} : Unit{"s", 1};
}
Unit memory_unit(const std::vector<Measured>& all) {
  int64_t most = 0;
  for (const Measured& m : all)
    for (const ContextCost& c : m.costs) most = std::max(most, c.state_bytes);
  return most < 100 << 20 ? Unit{"KiB", 1 << 10} : Unit{"MiB", 1 << 20};
}

std::string cell(double value, int decimals, const std::string& unit) {
  return concat(std::fixed, std::setprecision(decimals), value, " ", unit);
}

void pad(const std::string& text, int width) {  // to the right of a column; µ is one column of two bytes
  const auto columns = std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
  std::cout << std::string(static_cast<size_t>(std::max<int64_t>(0, width - columns)), ' ') << text;
}

void print_table(const std::vector<Measured>& all) {
  const Unit time = time_unit(all), memory = memory_unit(all);
  constexpr int kColumn = 14;
  const int group = kColumn * static_cast<int>(all.size());
  std::cout << "         ";
  pad("time per token", group);
  pad("state of one sequence", std::max(group + 4, 26));
  std::cout << "\n  tokens ";
  for (const Measured& m : all) pad(m.name, kColumn);
  std::cout << std::string(all.size() == 1 ? 12 : 4, ' ');
  for (const Measured& m : all) pad(m.name, kColumn);
  std::cout << "\n";
  bool beyond = false;
  for (size_t i = 0; i < all[0].costs.size(); ++i) {
    pad(std::to_string(all[0].costs[i].context), 8);
    std::cout << " ";
    bool marked = false;
    for (const Measured& m : all) {
      pad(cell(m.costs[i].seconds_per_token / time.size, time.size == 1e-6 ? 0 : 2, time.name), kColumn);
      marked |= m.costs[i].beyond;
    }
    std::cout << std::string(all.size() == 1 ? 12 : 4, ' ');
    for (const Measured& m : all)
      pad(cell(static_cast<double>(m.costs[i].state_bytes) / memory.size, memory.size == 1024 ? 0 : 1, memory.name),
          kColumn);
    std::cout << (marked ? " *" : "") << "\n";
    beyond |= marked;
  }
  if (beyond)
    for (const Measured& m : all)
      if (m.most > 0)
        std::cout << "* beyond the " << m.most << " positions that the config.json of " << m.name
                  << " allows (max_position_embeddings): the cost alone\n";
}

std::vector<Chart> charts(const std::vector<Measured>& all) {
  const Unit time = time_unit(all), memory = memory_unit(all);
  Chart speed{
      .title = "Time per token", .x_label = "tokens of context", .y_label = time.name, .series = {}, .log_x = true};
  Chart state{.title = "State of one sequence",
              .x_label = "tokens of context",
              .y_label = memory.name,
              .series = {},
              .log_x = true,
              .log_y = true};
  for (const Measured& m : all) {
    Series s{m.name, {}, {}}, b{m.name, {}, {}};
    for (const ContextCost& c : m.costs) {
      s.x.push_back(static_cast<double>(c.context)), s.y.push_back(c.seconds_per_token / time.size);
      b.x.push_back(static_cast<double>(c.context)), b.y.push_back(static_cast<double>(c.state_bytes) / memory.size);
    }
    speed.series.push_back(std::move(s)), state.series.push_back(std::move(b));
  }
  return {speed, state};
}

Json as_json(const std::vector<Measured>& all) {
  Json models = Json::array();
  for (const Measured& m : all) {
    Json rows = Json::array();
    for (const ContextCost& c : m.costs)
      rows.push_back({{"context", c.context},
                      {"seconds_per_token", c.seconds_per_token},
                      {"state_bytes", c.state_bytes},
                      {"beyond_max_positions", c.beyond}});
    models.push_back({{"model", m.path},
                      {"mixer", m.name},
                      {"backend", m.backend},
                      {"max_positions", m.most > 0 ? Json(m.most) : Json()},
                      {"contexts", rows}});
  }
  return {{"threads", threads()}, {"models", models}};
}

}  // namespace

int bench_context(const ContextBenchOptions& given) {
  ContextBenchOptions o = given;
  for (int64_t c : o.contexts)
    if (c < 1 || c > int64_t{1} << 30)
      fail("--contexts: expected numbers of tokens from 1 to ", int64_t{1} << 30, ", found ", c);
  std::sort(o.contexts.begin(), o.contexts.end());
  o.contexts.erase(std::unique(o.contexts.begin(), o.contexts.end()), o.contexts.end());
  if (o.contexts.empty()) fail("--contexts: expected at least one number of tokens");
  if (o.models.empty()) fail("bench: expected a model directory or file");

  std::vector<Measured> all;
  for (const std::string& path : o.models) all.push_back(measure(path, o));
  if (all.size() == 2 && all[0].name == all[1].name) all[0].name += " 1", all[1].name += " 2";
  say(concat("measured on ", threads(), threads() == 1 ? " thread" : " threads", ", backend ", all[0].backend), true);

  print_table(all);
  if (!o.svg.empty()) write_file(o.svg, svg(charts(all)));
  write_result(o.json, as_json(all));
  return 0;
}

}  // namespace qwerky
