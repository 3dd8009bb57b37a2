// SPDX-License-Identifier: MIT
// A draw at a large vocabulary for common settings, and the masks of constrained JSON; one thread.
#include "engine/sampler.h"

#include <benchmark/benchmark.h>

#include <filesystem>

#include "base/random.h"
#include "engine/json_constraint.h"
#include "engine/json_schema.h"

namespace qwerky {
namespace {

constexpr size_t kVocabulary = 151936;  // Qwen2.5

/// Shaped like a model's: a normal distribution with a few likely tokens above it.
std::vector<float> logits() {
  std::vector<float> x(kVocabulary);
  const Random random(5);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(2.5 * random.normal(i));
  for (uint64_t i = 0; i < 20; ++i) x[random.below(900000 + i, kVocabulary)] = 18 - static_cast<float>(i) / 2;
  return x;
}

void draw(benchmark::State& state, const SamplerOptions& options, size_t prompt) {
  const std::vector<float> x = logits();
  Sampler sampler(options, kVocabulary);
  std::vector<int32_t> ids(prompt);
  for (size_t i = 0; i < prompt; ++i) ids[i] = static_cast<int32_t>(Random(6).below(i, 5000));
  sampler.read(ids);
  for (auto _ : state) benchmark::DoNotOptimize(sampler.draw(x));
}

const int registered = [] {
  const auto add = [](const char* name, const SamplerOptions& o, size_t prompt = 0) {
    benchmark::RegisterBenchmark((std::string("draw/") + name).c_str(), draw, o, prompt)->Unit(benchmark::kMicrosecond);
  };
  add("greedy", {});
  add("temperature", {.temperature = 0.8});
  add("top_k_20_top_p_0.8", {.temperature = 0.7, .top_k = 20, .top_p = 0.8});
  add("top_k_40_top_p_0.95_min_p_0.05", {.temperature = 0.8, .top_k = 40, .top_p = 0.95, .min_p = 0.05});
  add("top_p_0.9", {.temperature = 0.7, .top_p = 0.9});
  add("top_p_0.9_hot", {.temperature = 1.5, .top_p = 0.9});
  add("min_p_0.05", {.temperature = 1, .min_p = 0.05});
  add("typical_0.95", {.temperature = 1, .typical_p = 0.95});
  add("typical_0.95_hot", {.temperature = 5, .typical_p = 0.95});
  add("min_p_xtc", {.temperature = 1, .min_p = 0.02, .xtc_probability = 0.5});
  add("mirostat", {.temperature = 1, .mirostat = 2});
  add("penalties_4096",
      {.temperature = 0.7, .top_k = 20, .top_p = 0.8, .presence_penalty = 1, .repetition_penalty = 1.1}, 4096);
  add("dry_4096", {.temperature = 0.7, .top_k = 20, .top_p = 0.8, .dry_multiplier = 0.8}, 4096);
  return 0;
}();

/// Stands in for the token that ends a text.
std::vector<int32_t> last_of(const Tokenizer& t) { return {static_cast<int32_t>(t.size() - 1)}; }

/// Masks along a text, of Qwen's vocabulary.
void mask(benchmark::State& state, const char* schema, const char* text) {
  const std::string files = std::string(QWERKY_SOURCE_DIR) + "/../shared/data/tokenizers/qwen";
  if (!std::filesystem::exists(files)) return state.SkipWithError("no tokenizer in ../shared/data");
  static const auto tokenizer = load_tokenizer(files);
  static const auto tokens = std::make_shared<TokenBytes>(*tokenizer, last_of(*tokenizer));
  const auto automaton = json_schema_automaton(OrderedJson::parse(schema), "schema", tokens->alone());
  const auto ids = tokenizer->encode(text, false);
  std::vector<uint8_t> allowed(static_cast<size_t>(tokenizer->size()));
  for (auto _ : state) {
    auto c = make_json_constraint(automaton, tokens);
    for (int32_t id : ids) {
      c->allowed(allowed);
      c->accept(id);
    }
  }
  state.counters["us/token"] =
      benchmark::Counter(static_cast<double>(ids.size()) * 1e-6,
                         benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}
BENCHMARK_CAPTURE(mask, any, "{}", R"({"name": "A somewhat long sentence, with words.", "n": [1, 2.5, true]})");
BENCHMARK_CAPTURE(
    mask, properties,
    R"({"type": "object", "properties": {"name": {"type": "string", "maxLength": 60}, "n": {"type": "integer"},
                      "kind": {"enum": ["one", "two", "three"]}}, "required": ["name", "n"], "additionalProperties": false})",
    R"({"name": "A somewhat long sentence, with words.", "n": 1234, "kind": "three"})");
BENCHMARK_CAPTURE(mask, pattern, R"({"type": "string", "pattern": "^[a-zA-Z ,]+\\.$"})",
                  R"("A somewhat long sentence, with words.")");

void build_tokens(benchmark::State& state) {
  const std::string files = std::string(QWERKY_SOURCE_DIR) + "/../shared/data/tokenizers/qwen";
  if (!std::filesystem::exists(files)) return state.SkipWithError("no tokenizer in ../shared/data");
  const auto tokenizer = load_tokenizer(files);
  for (auto _ : state) benchmark::DoNotOptimize(TokenBytes(*tokenizer, last_of(*tokenizer)));
}
BENCHMARK(build_tokens)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace qwerky
