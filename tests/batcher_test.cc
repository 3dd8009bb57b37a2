// SPDX-License-Identifier: MIT
// The batcher: nobody's results depend on who else is there, and every sequence ends once, whatever happens.
#include "engine/batcher.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <thread>

#include "base/random.h"
#include "data.h"
#include "engine/prefill.h"
#include "expect_error.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::has;

constexpr int64_t kVocab = 61;

/// Two layers of random weights on disk. `softmax_layers` at the end makes a hybrid of an RWKV model.
Path model_dir(const std::string& type, int64_t head, int64_t softmax_layers = 0) {
  Json json{{"model_type", type},        {"hidden_size", 32},      {"intermediate_size", 40},
            {"vocab_size", kVocab},      {"num_hidden_layers", 2}, {"num_attention_heads", 2},
            {"num_key_value_heads", 1},  {"head_dim", head},       {"max_position_embeddings", 1024},
            {"rms_norm_eps", 1e-5},      {"use_rope", true},       {"lora_rank_decay", 8},
            {"lora_rank_tokenshift", 4}, {"lora_rank_iclr", 8},    {"lora_rank_value_residual_mix", 4},
            {"lora_rank_gate", 12}};
  if (softmax_layers > 0) json["num_attention_layers"] = softmax_layers;
  const auto model = make_model(read_config(json, nullptr), true);
  model->params.each([&](Param& p) {
    const Random random(5, hash_name(p.name));
    for (int64_t i = 0; i < p.count(); ++i)
      p.weight.as<float>()[i] = static_cast<float>((p.name.ends_with("norm.weight") ? 1 : 0) +
                                                   0.25 * random.normal(static_cast<uint64_t>(i)));
  });
  const Path dir = testing::scratch_dir(concat("batcher-", type, "-", head, "-", softmax_layers));
  save_model(dir, model->config(), model->params, DType::f32, {});
  return dir;
}

struct Kind {
  std::string type;
  int64_t head, softmax_layers;
};
/// Heads of 128 channels take another path for many rows than for one.
const std::vector<Kind> kKinds = {{"rwkv6qwen2", 16, 0},  {"rwkv6qwen2", 128, 0}, {"rwkv7qwen2", 8, 0},
                                  {"rwkv7qwen2", 128, 0}, {"qwen2", 16, 0},       {"rwkv7qwen2", 128, 1}};

Engine engine_of(const Kind& k) {
  return Engine(model_dir(k.type, k.head, k.softmax_layers).string(), {.tokenizer = false});
}

std::vector<int32_t> some_ids(int64_t n, uint64_t seed) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n; ++i)
    ids.push_back(static_cast<int32_t>(Random(seed).below(static_cast<uint64_t>(i), kVocab)));
  return ids;
}

/// All that a sequence tells.
struct Heard {
  std::vector<Logprobs> prompt, tokens;
  std::vector<int32_t> ids;
  std::vector<std::pair<Finish, std::string>> ends;
  Usage usage;
  SnapshotPtr end;
  int prompts = 0;
  std::vector<int64_t> at_step;  ///< at which step each token came
};

/// Sends what `g` tells to `heard`.
Generation listened(Generation g, Heard& heard, const int64_t* step = nullptr) {
  g.on_prompt = [&heard](std::vector<Logprobs> all) { heard.prompt = std::move(all), ++heard.prompts; };
  g.on_token = [&heard, step](const Logprobs& l) {
    heard.tokens.push_back(l), heard.ids.push_back(l.id);
    if (step != nullptr) heard.at_step.push_back(*step);
    return true;
  };
  g.on_end = [&heard](Finish finish, const Usage& usage, SnapshotPtr end, const std::string& error) {
    heard.ends.emplace_back(finish, error), heard.usage = usage, heard.end = std::move(end);
  };
  return g;
}

/// NaN equals NaN; all else by bits.
bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }
bool same(const std::vector<Logprobs>& a, const std::vector<Logprobs>& b) {
  return std::ranges::equal(a, b, [](const Logprobs& x, const Logprobs& y) {
    return x.id == y.id && same(x.logprob, y.logprob) && x.top == y.top;
  });
}
void expect_same(const Heard& a, const Heard& b) {
  EXPECT_EQ(a.ids, b.ids);
  EXPECT_TRUE(same(a.tokens, b.tokens));
  EXPECT_TRUE(same(a.prompt, b.prompt));
  ASSERT_EQ(a.ends.size(), 1u);
  EXPECT_EQ(a.ends, b.ends);
}

/// Request i of a mix: prompts shorter and longer than a piece, with and without all that may be asked.
Generation request(int i) {
  Generation g;
  g.prompt = some_ids(i % 5 == 0 ? 150 + 23 * i : 1 + 7 * i, 100 + static_cast<uint64_t>(i));
  g.max_tokens = 3 + i % 9;
  g.logprobs = i % 3;
  g.prompt_logprobs = i % 4 == 1 ? i % 3 : -1;
  g.sampler.temperature = i % 2 == 0 ? 0 : 0.9;
  g.sampler.seed = static_cast<uint64_t>(i / 4);
  if (i % 3 == 2) g.boundaries = {static_cast<int64_t>(g.prompt.size()) / 2 + 1};
  g.owner = i % 2 == 0 ? "a" : "b";
  return g;
}

Heard alone(const Engine& engine, Generation g) {
  Heard heard;
  Batcher batcher(engine, nullptr, {});
  EXPECT_TRUE(batcher.submit(listened(std::move(g), heard)));
  while (batcher.step()) {
  }
  return heard;
}

TEST(Batcher, AloneOrAmongOthersInAnyOrderBitForBit) {
  for (const Kind& kind : kKinds) {
    SCOPED_TRACE(concat(kind.type, " ", kind.head, " ", kind.softmax_layers));
    const Engine engine = engine_of(kind);
    constexpr int kRequests = 32;
    std::vector<Heard> expected;
    for (int i = 0; i < kRequests; ++i) expected.push_back(alone(engine, request(i)));
    for (const auto& [seed, parallel, rows] : {std::tuple{1, 32, 256}, {2, 7, 1}, {3, 32, 4096}}) {
      StateCache cache({});
      Batcher batcher(engine, &cache, {.parallel = parallel, .prefill_rows = rows});
      std::vector<int> order(kRequests);
      std::iota(order.begin(), order.end(), 0);
      for (size_t i = kRequests - 1; i > 0; --i)
        std::swap(order[i], order[Random(static_cast<uint64_t>(seed)).below(i, i + 1)]);
      std::vector<Heard> heard(kRequests);
      for (size_t i = 0; i < kRequests; ++i) {
        const auto r = static_cast<size_t>(order[i]);
        ASSERT_TRUE(batcher.submit(listened(request(order[i]), heard[r])));
        if (i % 5 == 4) batcher.step();  // some come later
      }
      while (batcher.step()) {
      }
      for (int i = 0; i < kRequests; ++i) {
        SCOPED_TRACE(concat("request ", i, " order ", seed));
        expect_same(expected[static_cast<size_t>(i)], heard[static_cast<size_t>(i)]);
      }
      EXPECT_EQ(batcher.counts().finished, kRequests);
      EXPECT_EQ(batcher.counts().running, 0);
    }
  }
}

}  // namespace
}  // namespace qwerky
