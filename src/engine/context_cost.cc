// SPDX-License-Identifier: MIT
#include "engine/context_cost.h"

#include <algorithm>

#include "engine/engine.h"
#include "engine/throughput.h"

namespace qwerky {
namespace {

constexpr int64_t kSteps = 64;  // of decoding, measured at each context

}  // namespace

Json to_json(const ContextCosts& m) {
  Json rows = Json::array();
  for (const ContextCost& c : m.costs)
    rows.push_back({{"context", c.context},
                    {"seconds_per_token", c.seconds_per_token},
                    {"state_bytes", c.state_bytes},
                    {"beyond_max_positions", c.beyond}});
  return {{"model", m.path},
          {"mixer", m.name},
          {"backend", m.backend},
          {"max_positions", m.most > 0 ? Json(m.most) : Json()},
          {"contexts", rows}};
}

std::string mixers_of(const Engine& engine) {
  const Config& c = engine.internals().model->config();
  std::string name = name_of(c.linear_kind());
  if (c.linear_kind() != MixerKind::softmax && std::count(c.mixers.begin(), c.mixers.end(), MixerKind::softmax) > 0)
    name += " + softmax";
  return name;
}

ContextCosts measure_contexts(const Engine& engine, const std::string& path, std::span<const int64_t> contexts,
                              bool until_full, const std::function<void(int64_t)>& before) {
  const Engine::Internals& in = engine.internals();
  ContextCosts all{path, mixers_of(engine), in.backend->name(), engine.max_tokens(), {}};
  for (int64_t context : contexts) {
    const DecodeOptions options{.depth = context, .tokens = kSteps};
    if (until_full && !decode_fits(*in.model, *in.backend, options)) break;
    before(context);
    all.costs.push_back({context, measure_decode(*in.model, *in.backend, options),
                         in.model->decoder->state_scalars(context) * size_of(in.backend->scalar()),
                         all.most > 0 && context > all.most});
  }
  return all;
}

std::vector<int64_t> checked_contexts(std::vector<int64_t> contexts) {
  for (int64_t c : contexts)
    if (c < 1 || c > int64_t{1} << 30)
      fail("--contexts: expected numbers of tokens from 1 to ", int64_t{1} << 30, ", found ", c);
  std::sort(contexts.begin(), contexts.end());
  contexts.erase(std::unique(contexts.begin(), contexts.end()), contexts.end());
  return contexts;
}

Unit time_unit(std::span<const ContextCosts> all) {
  double most = 0;
  for (const ContextCosts& m : all)
    for (const ContextCost& c : m.costs) most = std::max(most, c.seconds_per_token);
  if (most < 2e-3) return {"µs", 1e-6};
  return most < 2 ? Unit{"ms", 1e-3} : Unit{"s", 1};
}

Unit memory_unit(std::span<const ContextCosts> all) {
  int64_t most = 0;
  for (const ContextCosts& m : all)
    for (const ContextCost& c : m.costs) most = std::max(most, c.state_bytes);
  return most < 100 << 20 ? Unit{"KiB", 1 << 10} : Unit{"MiB", 1 << 20};
}

std::vector<Chart> context_charts(std::span<const ContextCosts> all) {
  const Unit time = time_unit(all), memory = memory_unit(all);
  Chart speed{
      .title = "Time per token", .x_label = "tokens of context", .y_label = time.name, .series = {}, .log_x = true};
  Chart state{.title = "State of one sequence",
              .x_label = "tokens of context",
              .y_label = memory.name,
              .series = {},
              .log_x = true,
              .log_y = true};
  for (const ContextCosts& m : all) {
    Series s{m.name, {}, {}}, b{m.name, {}, {}};
    for (const ContextCost& c : m.costs) {
      s.x.push_back(static_cast<double>(c.context)), s.y.push_back(c.seconds_per_token / time.size);
      b.x.push_back(static_cast<double>(c.context)), b.y.push_back(static_cast<double>(c.state_bytes) / memory.size);
    }
    speed.series.push_back(std::move(s)), state.series.push_back(std::move(b));
  }
  return {speed, state};
}

}  // namespace qwerky
