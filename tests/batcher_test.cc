// SPDX-License-Identifier: MIT
// The batcher: nobody's results depend on who else is there, and every sequence ends once, whatever happens.
#include "engine/batcher.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <cmath>
#include <future>
#include <numeric>
#include <set>
#include <thread>

#include "base/parallel.h"
#include "base/random.h"
#include "data.h"
#include "engine/fingerprint.h"
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
/// Recurrences of wide heads take another path for many rows than for one, and cuts matter: WKV-6 from 128 channels on,
/// WKV-7 from 256.
const std::vector<Kind> kKinds = {{"rwkv6qwen2", 16, 0},  {"rwkv6qwen2", 128, 0}, {"rwkv7qwen2", 8, 0},
                                  {"rwkv7qwen2", 128, 0}, {"qwen2", 16, 0},       {"rwkv7qwen2", 256, 1}};

Engine engine_of(const Kind& k) {
  return Engine(model_dir(k.type, k.head, k.softmax_layers).string(), {.tokenizer = false});
}

int64_t border_of(const Engine& engine, const Kind& k) {
  return engine.internals().backend->wkv_border(static_cast<int>(k.head), k.type == "rwkv7qwen2");
}
/// Where a snapshot is kept for a boundary.
int64_t kept_at(const Engine& engine, const Kind& k, int64_t boundary) {
  return boundary / border_of(engine, k) * border_of(engine, k);
}

std::vector<int32_t> some_ids(int64_t n, uint64_t seed) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n; ++i)
    ids.push_back(static_cast<int32_t>(Random(seed).below(static_cast<uint64_t>(i), kVocab)));
  return ids;
}

std::vector<int32_t> joined(std::span<const int32_t> a, std::span<const int32_t> b) {
  std::vector<int32_t> ids(a.begin(), a.end());
  ids.insert(ids.end(), b.begin(), b.end());
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

/// Only ids that are a multiple of `step`.
class Multiples : public Constraint {
 public:
  explicit Multiples(int32_t step) : step_(step) {}
  void allowed(std::span<uint8_t> allowed) override {
    for (size_t i = 0; i < allowed.size(); ++i) allowed[i] = static_cast<int32_t>(i) % step_ == 0;
  }
  void accept(int32_t id) override { EXPECT_EQ(id % step_, 0); }
  std::unique_ptr<Constraint> clone() const override { return std::make_unique<Multiples>(step_); }

 private:
  int32_t step_;
};

/// Each kind of sampler that remembers or cuts.
SamplerOptions sampler_of(int i) {
  SamplerOptions o{.temperature = 0.9};
  switch (i % 8) {
    case 1: o.presence_penalty = 0.5, o.frequency_penalty = 0.3, o.penalty_window = 20; break;
    case 2: o.repetition_penalty = 1.3; break;
    case 3: o.dry_multiplier = 0.8, o.dry_allowed_length = 1, o.dry_breakers = {3, 11}; break;
    case 4: o.xtc_probability = 0.5, o.xtc_threshold = 0.02; break;
    case 5: o.mirostat = 2, o.mirostat_tau = 3; break;
    case 6: o.top_k = 20, o.typical_p = 0.9, o.top_p = 0.8, o.min_p = 0.05; break;
    default: o.temperature = i % 3 == 0 ? 0 : 1.2;
  }
  return o;
}

/// Request i of a mix: prompts shorter and longer than a piece, with and without all that may be asked.
Generation request(int i) {
  Generation g;
  g.prompt = some_ids(i % 5 == 0 ? 150 + 23 * i : 1 + 7 * i, 100 + static_cast<uint64_t>(i));
  g.max_tokens = 3 + i % 9;
  g.logprobs = i % 3;
  g.prompt_logprobs = i % 4 == 1 ? i % 3 : -1;
  g.sampler = sampler_of(i);
  g.sampler.seed = static_cast<uint64_t>(i / 4);
  if (i % 3 == 2) g.boundaries = {static_cast<int64_t>(g.prompt.size()) / 2 + 1};
  if (i % 7 == 3) {  // begins like others, which cut it elsewhere
    g.prompt = joined(some_ids(200 + i, 7), some_ids(i, 100));
    g.boundaries = {40 + i, 200, static_cast<int64_t>(g.prompt.size())};
  }
  if (i % 5 == 4) g.constraint = std::make_unique<Multiples>(3);
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

/// Requests that begin alike, one after the other: what is found is worth what reading gives.
TEST(Batcher, WhatIsFoundAtABoundaryIsWhatAColdRunReads) {
  for (const Kind& kind : kKinds) {
    SCOPED_TRACE(concat(kind.type, " ", kind.head, " ", kind.softmax_layers));
    const Engine engine = engine_of(kind);
    const auto text = some_ids(300, 1);
    const auto asks = [&](int64_t shared, int64_t more, uint64_t seed) {
      Generation g;
      g.prompt = joined(std::span(text).first(static_cast<size_t>(shared)), some_ids(more, seed));
      for (const int64_t b : {100, 222, 300})
        if (b <= shared) g.boundaries.push_back(b);
      if (more > 0) g.boundaries.push_back(static_cast<int64_t>(g.prompt.size()));
      g.keep_end = false, g.logprobs = 3, g.max_tokens = 6;
      return g;
    };
    StateCache cache({});
    const auto warm = [&](Generation g, int64_t reused) {
      Heard heard;
      Batcher batcher(engine, &cache, {});
      batcher.submit(listened(std::move(g), heard));
      while (batcher.step()) {
      }
      EXPECT_EQ(heard.usage.reused_tokens, reused);
      return heard;
    };
    expect_same(alone(engine, asks(222, 40, 2)), warm(asks(222, 40, 2), 0));
    expect_same(alone(engine, asks(222, 40, 2)),
                warm(asks(222, 40, 2), kept_at(engine, kind, 262)));  // all of it, and its logits
    expect_same(alone(engine, asks(222, 9, 3)), warm(asks(222, 9, 3), kept_at(engine, kind, 222)));
    // All of it, which was kept without logits: nothing shorter was kept, but where cuts matter.
    expect_same(alone(engine, asks(100, 0, 3)),
                warm(asks(100, 0, 3), border_of(engine, kind) == 1 ? 0 : kept_at(engine, kind, 100)));
    expect_same(alone(engine, asks(100, 0, 3)), warm(asks(100, 0, 3), kept_at(engine, kind, 100)));
    expect_same(alone(engine, asks(300, 0, 0)), warm(asks(300, 0, 0), kept_at(engine, kind, 222)));

    Generation scored = asks(222, 40, 2), cold = asks(222, 40, 2), other = asks(222, 40, 2);
    scored.prompt_logprobs = 1, cold.reuse = false, other.owner = "another";
    EXPECT_EQ(warm(std::move(scored), 0).prompt.size(), 262u);  // every row is needed
    warm(std::move(cold), 0);
    warm(std::move(other), 0);
  }
}

/// A request gives what it gives alone, whatever others with the same beginning left: at their boundaries, between
/// them, and behind what they wrote.
TEST(Batcher, WhatOthersLeftChangesNothing) {
  for (const Kind& kind : kKinds) {
    SCOPED_TRACE(concat(kind.type, " ", kind.head, " ", kind.softmax_layers));
    const Engine engine = engine_of(kind);
    const auto text = some_ids(300, 1);
    StateCache cache({});
    const auto run = [&](std::vector<int32_t> prompt, std::vector<int64_t> boundaries, StateCache* shared) {
      Generation g;
      g.prompt = std::move(prompt), g.boundaries = std::move(boundaries), g.max_tokens = 12, g.stop_at_end = false;
      g.logprobs = 3, g.sampler = {.temperature = 1, .seed = 7};
      Heard heard;
      Batcher batcher(engine, shared, {});
      batcher.submit(listened(std::move(g), heard));
      while (batcher.step()) {
      }
      return heard;
    };
    const auto first = [&](size_t n) { return std::vector(text.begin(), text.begin() + static_cast<int64_t>(n)); };
    for (const size_t n : {60u, 137u, 200u, 243u}) run(first(n), {static_cast<int64_t>(n)}, &cache);
    const Heard warm = run(text, {300}, &cache);
    expect_same(run(text, {300}, nullptr), warm);
    EXPECT_EQ(warm.usage.reused_tokens, kept_at(engine, kind, 243));
    const auto next = joined(joined(text, warm.ids), some_ids(20, 9));
    const Heard second = run(next, {300, 332}, &cache);
    expect_same(run(next, {300, 332}, nullptr), second);
    EXPECT_EQ(second.usage.reused_tokens, border_of(engine, kind) == 1 ? 311 : kept_at(engine, kind, 300));
  }
}

TEST(Batcher, ADocumentIsReadOnceForManyQuestionsAndAPromptForAllItsAnswers) {
  for (const Kind& kind : kKinds) {
    SCOPED_TRACE(concat(kind.type, " ", kind.head, " ", kind.softmax_layers));
    const Engine engine = engine_of(kind);
    StateCache cache({});
    const auto reused = [&](const std::vector<int32_t>& prompt) {
      Generation g;
      g.prompt = prompt, g.boundaries = {static_cast<int64_t>(prompt.size())}, g.max_tokens = 1;
      Heard heard;
      Batcher batcher(engine, &cache, {});
      batcher.submit(listened(std::move(g), heard));
      while (batcher.step()) {
      }
      return heard.usage.reused_tokens;
    };
    const auto document = some_ids(700, 1);
    const auto one = joined(document, some_ids(20, 2)), other = joined(document, some_ids(30, 3));
    EXPECT_EQ(reused(one), 0);
    EXPECT_EQ(reused(one), kept_at(engine, kind, 720));
    EXPECT_EQ(reused(other), 640);
    EXPECT_EQ(reused(joined(std::span(document).first(300), some_ids(10, 4))), 256);
  }
  // Not where they would push out all else.
  const Engine engine = engine_of(kKinds[0]);
  StateCache small({.memory_bytes = 20000});
  Generation g;
  g.prompt = some_ids(700, 1), g.max_tokens = 1, g.keep_end = false;
  Batcher batcher(engine, &small, {});
  batcher.submit(std::move(g));
  while (batcher.step()) {
  }
  EXPECT_EQ(small.counts().entries, 0);
}

TEST(Batcher, WhatSeveralBeginWithIsReadOnce) {
  const Engine engine = engine_of(kKinds[0]);
  StateCache cache({});
  Batcher batcher(engine, &cache, {});
  std::vector<Heard> heard(8);
  const auto asks = [](size_t i) {
    Generation g;
    g.prompt = joined(some_ids(400, 1), some_ids(10, i));
    g.boundaries = {400};
    return g;
  };
  for (size_t i = 0; i < heard.size(); ++i) batcher.submit(listened(asks(i), heard[i]));
  while (batcher.step()) {
  }
  EXPECT_EQ(batcher.counts().prompt_tokens, 400 + 8 * 10);
  for (size_t i = 0; i < heard.size(); ++i) expect_same(alone(engine, asks(i)), heard[i]);
}

/// n answers to one prompt that wait take little more memory than one.
TEST(Batcher, WhoWaitsSharesThePrompt) {
  constexpr int64_t kIds = 1 << 20;
  const Engine engine = engine_of(kKinds[0]);
  Batcher batcher(engine, nullptr, {.parallel = 1, .queue = 100});
  Generation first;
  first.prompt = some_ids(kIds, 1);
  std::vector<Heard> heard(64);
  const size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
  for (Heard& h : heard) {
    Generation g;
    g.prompt = first.prompt;
    ASSERT_TRUE(batcher.submit(listened(std::move(g), h)));
  }
  EXPECT_LT(mallinfo2().uordblks + mallinfo2().hblkhd - before, size_t{kIds});
  batcher.stop();
  batcher.step();
  for (const Heard& h : heard) EXPECT_EQ(h.ends.at(0).first, Finish::cancelled);
}

/// A boundary whose reader goes away is read by the next.
TEST(Batcher, NobodyWaitsForWhoIsGone) {
  const Engine engine = engine_of(kKinds[0]);
  StateCache cache({});
  Batcher batcher(engine, &cache, {});
  std::vector<Heard> heard(3);
  std::vector<Batcher::Id> ids;
  for (Heard& h : heard) {
    Generation g;
    g.prompt = some_ids(400, 1);
    g.boundaries = {400};
    ids.push_back(*batcher.submit(listened(std::move(g), h)));
  }
  batcher.step();
  batcher.cancel(ids[0]);
  while (batcher.step()) {
  }
  EXPECT_EQ(heard[0].ends.at(0).first, Finish::cancelled);
  for (const size_t i : {1u, 2u}) EXPECT_EQ(heard[i].ends.at(0).first, Finish::length);
}

/// The next turn of a chat, after a restart that left only files.
TEST(Batcher, ATextGoesOnAfterARestart) {
  for (const Kind& kind : kKinds) {
    SCOPED_TRACE(concat(kind.type, " ", kind.head, " ", kind.softmax_layers));
    const Engine engine = engine_of(kind);
    const StateCacheOptions options{
        .memory_bytes = 0, .folder = testing::scratch_dir("batcher-states"), .model = model_fingerprint(engine)};
    const auto turn = [&](StateCache& cache, std::vector<int32_t> prompt) {
      Generation g;
      g.prompt = std::move(prompt), g.boundaries = {200}, g.logprobs = 2, g.stop_at_end = false;
      Heard heard;
      Batcher batcher(engine, &cache, {});
      batcher.submit(listened(std::move(g), heard));
      while (batcher.step()) {
      }
      return heard;
    };
    auto text = some_ids(200, 4);
    {
      StateCache cache(options);
      const Heard first = turn(cache, text);
      text.insert(text.end(), first.ids.begin(), first.ids.end());
    }
    const auto question = some_ids(7, 5);
    text.insert(text.end(), question.begin(), question.end());
    StateCache cache(options);
    const Heard second = turn(cache, text);
    EXPECT_EQ(second.usage.reused_tokens, border_of(engine, kind) == 1 ? 200 + 15 : kept_at(engine, kind, 200));
    Generation g;
    g.prompt = text, g.boundaries = {200}, g.logprobs = 2, g.stop_at_end = false;
    expect_same(alone(engine, std::move(g)), second);
  }
}

TEST(Batcher, GreedyIsWhatASessionWrites) {
  for (const Kind& kind : kKinds) {
    SCOPED_TRACE(concat(kind.type, " ", kind.head, " ", kind.softmax_layers));
    const Engine engine = engine_of(kind);
    const auto prompt = some_ids(500, 8);
    Session session(engine, 1024);
    const Generated expected = generate(session, engine, prompt, {.max_tokens = 20, .sampler = {}});
    Generation g;
    g.prompt = prompt, g.max_tokens = 20;
    EXPECT_EQ(alone(engine, std::move(g)).ids, expected.ids);
  }
}

TEST(Batcher, LogprobsAreTheModels) {
  const Engine engine = engine_of(kKinds[0]);
  Generation g;
  g.prompt = some_ids(150, 8), g.max_tokens = 4, g.prompt_logprobs = 2, g.logprobs = 1000;
  const std::vector<int32_t> prompt = g.prompt;
  const Heard heard = alone(engine, std::move(g));
  ASSERT_EQ(heard.prompt.size(), prompt.size());
  EXPECT_EQ(heard.prompts, 1);
  EXPECT_TRUE(std::isnan(heard.prompt[0].logprob));
  Session session(engine, 1024);
  const auto check = [&](const Logprobs& told, size_t top) {
    double sum = 0, best = -INFINITY;
    for (const float x : session.logits()) sum += std::exp(double{x}), best = std::max(best, double{x});
    const double expected = double{session.logits()[static_cast<size_t>(told.id)]} - std::log(sum);
    EXPECT_NEAR(told.logprob, expected, 1e-5);
    ASSERT_EQ(told.top.size(), top);
    EXPECT_NEAR(told.top[0].second, best - std::log(sum), 1e-5);
    for (size_t i = 1; i < top; ++i) EXPECT_GE(told.top[i - 1].second, told.top[i].second);
  };
  for (size_t i = 0; i < prompt.size(); ++i) {
    EXPECT_EQ(heard.prompt[i].id, prompt[i]);
    if (i > 0) check(heard.prompt[i], 2);
    session.append({&prompt[i], 1});
  }
  for (const Logprobs& told : heard.tokens) {
    check(told, kVocab);
    double mass = 0;
    for (const auto& [id, logprob] : told.top) mass += std::exp(logprob);
    EXPECT_NEAR(mass, 1, 1e-12);
    session.append({&told.id, 1});
  }
}

TEST(Batcher, AForkGoesOnFromASnapshot) {
  for (const Kind& kind : kKinds) {
    SCOPED_TRACE(concat(kind.type, " ", kind.head, " ", kind.softmax_layers));
    const Engine engine = engine_of(kind);
    const auto text = some_ids(128, 1), question = some_ids(9, 2);
    Generation read, ask, whole;
    read.prompt = text, read.max_tokens = 0;
    const Heard document = alone(engine, std::move(read));
    ASSERT_NE(document.end, nullptr);
    EXPECT_EQ(document.end->ids, text);
    EXPECT_EQ(document.end->logits.size(), size_t{kVocab});
    EXPECT_EQ(document.ends.at(0).first, Finish::length);

    ask.start = document.end, ask.prompt = question, ask.prompt_logprobs = 0, ask.logprobs = 0;
    whole.prompt = joined(text, question);
    whole.prompt_logprobs = 0, whole.logprobs = 0;
    Heard forked = alone(engine, std::move(ask)), cold = alone(engine, std::move(whole));
    EXPECT_EQ(forked.usage.prompt_tokens, 9);
    cold.prompt.erase(cold.prompt.begin(), cold.prompt.begin() + 128);
    expect_same(cold, forked);
    EXPECT_EQ(forked.end->ids.size(), 128u + 9 + 15);  // the last that was written has not been read
  }
}

/// What was written is read before the end, and no more of it than is wanted.
TEST(Batcher, TheEndHasReadWhatIsAskedFor) {
  for (const Kind& kind : kKinds) {
    SCOPED_TRACE(concat(kind.type, " ", kind.head, " ", kind.softmax_layers));
    const Engine engine = engine_of(kind);
    const auto text = some_ids(140, 3);
    const auto asks = [&](int64_t wanted) {
      Generation g;
      g.prompt = text, g.max_tokens = 9, g.stop_at_end = false;
      if (wanted >= 0) g.on_last = [wanted] { return wanted; };
      return g;
    };
    const Heard plain = alone(engine, asks(-1));
    for (const int64_t wanted : {0, 1, 5, 8, 9}) {
      SCOPED_TRACE(wanted);
      const Heard heard = alone(engine, asks(wanted));
      EXPECT_EQ(heard.ids, plain.ids);
      EXPECT_EQ(heard.ends.at(0).first, Finish::length);
      ASSERT_NE(heard.end, nullptr);
      Generation again;
      again.prompt = joined(text, std::span(plain.ids).first(static_cast<size_t>(wanted))), again.max_tokens = 0;
      const SnapshotPtr expected = alone(engine, std::move(again)).end;
      EXPECT_EQ(heard.end->ids, expected->ids);
      EXPECT_EQ(heard.end->logits.size(), expected->logits.size());
      if (border_of(engine, kind) == 1) {  // bit for bit wherever it is cut
        EXPECT_EQ(heard.end->logits, expected->logits);
        EXPECT_EQ(std::memcmp(heard.end->state->at(0, 1).data, expected->state->at(0, 1).data,
                              static_cast<size_t>(expected->state->bytes())),
                  0);
      }
    }
  }
  // It counts as tokens that a sequence must hold, and what was written is whole without it.
  const Engine engine = engine_of(kKinds[0]);
  Batcher batcher(engine, nullptr, {.capacity = 12});
  const auto asks = [](int64_t tokens) {
    Generation g;
    g.prompt = some_ids(10, 1), g.max_tokens = tokens, g.stop_at_end = false, g.on_last = [tokens] { return tokens; };
    return g;
  };
  EXPECT_PRED2(has, error_of([&] { batcher.submit(asks(3)); }), "do not fit in the 12");
  Heard heard;
  const auto id = batcher.submit(listened(asks(2), heard));
  batcher.step(), batcher.step();
  EXPECT_TRUE(heard.ends.empty()) << "the second id is to be read";
  batcher.cancel(*id);
  batcher.step();
  EXPECT_EQ(heard.ends.at(0).first, Finish::length);
  EXPECT_EQ(heard.ids.size(), 2u);
  EXPECT_EQ(heard.end, nullptr);
}

TEST(Batcher, RunningTextsGetATokenEveryStep) {
  const Engine engine = engine_of(kKinds[4]);
  int64_t step = 0;
  Batcher batcher(engine, nullptr, {.parallel = 4, .prefill_rows = 256});
  std::vector<Heard> heard(4);
  const auto submit = [&](size_t i, int64_t prompt, int64_t tokens) {
    Generation g;
    g.prompt = some_ids(prompt, i), g.max_tokens = tokens;
    ASSERT_TRUE(batcher.submit(listened(std::move(g), heard[i], &step)));
  };
  submit(0, 3, 60);
  for (; step < 5; ++step) batcher.step();
  submit(1, 900, 3), submit(2, 900, 3), submit(3, 100, 3);
  for (; batcher.step(); ++step) {
  }
  std::vector<int64_t> every(60);
  std::iota(every.begin(), every.end(), 0);
  EXPECT_EQ(heard[0].at_step, every);
  // In turns: at most two pieces of 128 rows a step, so the short prompt is read in the second and both long ones
  // need (2 · 900 + 100) / 256 steps or a few more.
  EXPECT_EQ(heard[3].at_step.at(0), 6);
  EXPECT_LT(heard[1].at_step.at(0), 5 + 9);
  EXPECT_LT(heard[2].at_step.at(0), 5 + 9);
}

TEST(Batcher, EndsForEveryReason) {
  const Engine engine = engine_of(kKinds[0]);
  Batcher batcher(engine, nullptr, {.parallel = 2, .queue = 2});
  const auto asks = [] {
    Generation g;
    g.prompt = some_ids(5, 1), g.max_tokens = 1000;
    return g;
  };
  std::vector<Heard> heard(6);
  const auto submit = [&](size_t i, Generation g) { return batcher.submit(listened(std::move(g), heard[i])); };
  const auto a = submit(0, asks());
  Generation stops = listened(asks(), heard[1]);
  stops.on_token = [n = 0](const Logprobs&) mutable { return ++n < 3; };
  batcher.submit(std::move(stops));
  Generation late = asks();
  late.deadline = std::chrono::steady_clock::time_point::min();
  submit(2, std::move(late));
  const auto waits = submit(3, asks());
  EXPECT_FALSE(submit(4, asks()));
  EXPECT_EQ(batcher.counts().waiting, 4);
  EXPECT_EQ(batcher.counts().refused, 1);
  ASSERT_TRUE(a && waits);
  batcher.step();
  EXPECT_EQ(batcher.counts().running, 2);
  EXPECT_EQ(heard[2].ends.at(0).first, Finish::deadline);
  EXPECT_TRUE(heard[2].ids.empty());
  batcher.step();
  batcher.step();
  EXPECT_EQ(heard[1].ends.at(0).first, Finish::stopped);
  EXPECT_EQ(heard[1].usage.generated_tokens, 3);
  batcher.cancel(*a);
  batcher.cancel(*a);
  batcher.cancel(12345);
  batcher.step();
  EXPECT_EQ(heard[0].ends.at(0).first, Finish::cancelled);
  ASSERT_NE(heard[0].end, nullptr);
  EXPECT_EQ(heard[0].end->ids.size(), 5u + 2);  // what was read before, without logits
  EXPECT_TRUE(heard[0].end->logits.empty());
  submit(5, asks());
  batcher.stop();
  EXPECT_FALSE(batcher.step());
  EXPECT_FALSE(submit(4, asks()));
  for (const size_t i : {3u, 5u}) EXPECT_EQ(heard[i].ends.at(0).first, Finish::cancelled);
  EXPECT_TRUE(heard[4].ends.empty());
  for (const Heard& h : heard) EXPECT_LE(h.ends.size(), 1u);
  EXPECT_EQ(batcher.counts().finished, 5);
}

TEST(Batcher, NoOwnerFillsTheQueueAndAllHaveTheirTurns) {
  const Engine engine = engine_of(kKinds[0]);
  Batcher batcher(engine, nullptr, {.parallel = 2, .queue = 14, .fair = true});
  EXPECT_EQ(batcher.most_at_once(), 8);
  std::vector<std::string> order;
  const auto submit = [&](const std::string& owner) {
    Generation g;
    g.prompt = {1}, g.max_tokens = 1, g.owner = owner;
    g.on_end = [&order, owner](Finish, const Usage&, SnapshotPtr, const std::string&) { order.push_back(owner); };
    return batcher.submit(std::move(g)).has_value();
  };
  const auto taken = [&](const std::string& owner) {
    int n = 0;
    while (submit(owner)) ++n;
    return n;
  };
  EXPECT_EQ(taken("a"), 8);
  EXPECT_EQ(taken("b"), 4);
  EXPECT_EQ(taken("c"), 2);
  while (batcher.step()) {
  }
  EXPECT_EQ(order, (std::vector<std::string>{"a", "b", "c", "a", "b", "c", "a", "b", "a", "b", "a", "a", "a", "a"}));
  Batcher only(engine, nullptr, {.parallel = 2, .queue = 14});
  EXPECT_EQ(only.most_at_once(), 16);
}

TEST(Batcher, WhatIsLeftEndsWithTheBatcher) {
  const Engine engine = engine_of(kKinds[0]);
  std::vector<Heard> heard(2);
  {
    Batcher batcher(engine, nullptr, {.parallel = 1});
    for (Heard& h : heard) {
      Generation g;
      g.prompt = {1};
      batcher.submit(listened(std::move(g), h));
    }
    batcher.step();
  }
  for (const Heard& h : heard) {
    ASSERT_EQ(h.ends.size(), 1u);
    EXPECT_EQ(h.ends[0].first, Finish::cancelled);
  }
}

TEST(Batcher, RefusesWhatCannotBe) {
  const Engine engine = engine_of(kKinds[4]), linear = engine_of(kKinds[0]);
  Batcher batcher(engine, nullptr, {});
  const auto message = [&](auto&& change) {
    Generation g;
    g.prompt = some_ids(10, 1);
    change(g);
    return error_of([&] { batcher.submit(std::move(g)); });
  };
  EXPECT_PRED2(has, message([](Generation& g) { g.prompt = {}; }), "prompt: empty");
  EXPECT_PRED2(has, message([](Generation& g) { g.prompt = {0, kVocab}; }), "token 61 is outside the vocabulary of 61");
  EXPECT_PRED2(has, message([](Generation& g) { g.prompt = {-1, 0}; }), "token -1");
  EXPECT_PRED2(has, message([](Generation& g) { g.max_tokens = -1; }), "max_tokens");
  EXPECT_PRED2(has, message([](Generation& g) { g.logprobs = -2; }), "logprobs");
  EXPECT_PRED2(has, message([](Generation& g) { g.sampler.temperature = -1; }), "temperature");
  for (const std::vector<int64_t>& wrong : {std::vector<int64_t>{0}, {5, 5}, {7, 3}, {11}})
    EXPECT_PRED2(has, message([&](Generation& g) { g.boundaries = wrong; }), "boundaries: expected ascending");
  EXPECT_PRED2(has, message([](Generation& g) { g.max_tokens = 1016; }),
               "context: 10 tokens and 1016 to generate do not fit in the 1024");
  EXPECT_PRED2(has, message([](Generation& g) { g.max_tokens = INT64_MAX; }), "do not fit");
  Generation fits, foreign;
  fits.prompt = some_ids(10, 1), fits.max_tokens = 1015;
  EXPECT_TRUE(batcher.submit(std::move(fits)));
  foreign.prompt = {1}, foreign.max_tokens = 0;
  const SnapshotPtr other = alone(linear, std::move(foreign)).end;
  EXPECT_PRED2(has, message([&](Generation& g) { g.start = other; }), "made by another model");
  Generation own;
  own.prompt = {1}, own.max_tokens = 0;
  Snapshot edited = *alone(engine, std::move(own)).end;
  edited.ids[0] = kVocab;
  EXPECT_PRED2(has, message([&](Generation& g) { g.start = std::make_shared<const Snapshot>(edited); }),
               "made by another model");

  EXPECT_PRED2(has, error_of([&] { Batcher(engine, nullptr, {.parallel = 0}); }), "batcher");
  EXPECT_PRED2(has, error_of([&] { Batcher(engine, nullptr, {.capacity = 1025}); }),
               "capacity of 1025 tokens is more than the 1024");
  Batcher small(linear, nullptr, {.capacity = 4});
  Generation five;
  five.prompt = some_ids(5, 1), five.max_tokens = 0;
  EXPECT_PRED2(has, error_of([&] { small.submit(std::move(five)); }), "do not fit in the 4");
}

/// A state that holds NaN: its own text fails, and nobody who comes after sees it.
TEST(Batcher, LogitsThatAreNoNumbersEndTheirOwnText) {
  for (const Kind& kind : kKinds) {
    const Engine engine = engine_of(kind);
    const Decoder& decoder = *engine.internals().model->decoder;
    std::shared_ptr<State> state = decoder.make_state(DType::f32, 1);
    std::fill_n(state->at(0, state->scalars()).as<float>(), state->scalars(), NAN);
    state->advance(1);
    Generation broken, sound;
    broken.start = std::make_shared<const Snapshot>(Snapshot{{1}, state, {}});
    broken.prompt = some_ids(20, 1), sound.prompt = some_ids(20, 1), sound.logprobs = 2;
    const auto again = [&] {
      Generation g;
      g.prompt = sound.prompt, g.logprobs = sound.logprobs;
      return g;
    };
    Heard bad, good, later;
    StateCache cache({});
    Batcher batcher(engine, &cache, {});
    batcher.submit(listened(std::move(broken), bad));
    batcher.submit(listened(again(), good));
    while (batcher.step()) {
    }
    batcher.submit(listened(again(), later));
    while (batcher.step()) {
    }
    ASSERT_EQ(bad.ends.size(), 1u);
    EXPECT_EQ(bad.ends[0].first, Finish::failed);
    EXPECT_PRED2(has, bad.ends[0].second, "logits that are not finite after 21 tokens");
    EXPECT_EQ(bad.end, nullptr);
    expect_same(alone(engine, again()), good);
    expect_same(good, later);
  }
}

TEST(Batcher, ConstraintsHold) {
  const Engine engine = engine_of(kKinds[0]);
  Generation g;
  g.prompt = {1}, g.constraint = std::make_unique<Multiples>(7);
  const Heard heard = alone(engine, std::move(g));
  EXPECT_EQ(heard.ids.size(), 16u);
  for (const int32_t id : heard.ids) EXPECT_EQ(id % 7, 0);
}

/// One thread runs, others submit and cancel; what is not cancelled is what it is alone.
TEST(Batcher, ThreadsSubmitAndCancel) {
  const Engine engine = engine_of(kKinds[3]);
  constexpr size_t kThreads = 4, kEach = 6;
  std::vector<Heard> expected, heard(kThreads * kEach);
  for (size_t i = 0; i < heard.size(); ++i) expected.push_back(alone(engine, request(static_cast<int>(i))));
  StateCache cache({});
  Batcher batcher(engine, &cache, {.parallel = 5, .queue = 100});
  std::thread runner([&] { batcher.run(); });
  std::vector<std::thread> clients;
  for (size_t t = 0; t < kThreads; ++t)
    clients.emplace_back([&, t] {
      for (size_t i = t * kEach; i < (t + 1) * kEach; ++i) {
        const auto id = batcher.submit(listened(request(static_cast<int>(i)), heard[i]));
        ASSERT_TRUE(id);
        if (i % 4 == 3) batcher.cancel(*id);
        EXPECT_LE(batcher.counts().running, 5);
      }
    });
  for (std::thread& client : clients) client.join();
  batcher.drain();
  runner.join();
  EXPECT_FALSE(batcher.submit(request(0)));
  for (size_t i = 0; i < heard.size(); ++i) {
    SCOPED_TRACE(i);
    ASSERT_EQ(heard[i].ends.size(), 1u);
    EXPECT_TRUE(i % 4 == 3 || heard[i].ends[0].first == Finish::length);
    if (heard[i].ends[0].first != Finish::cancelled) expect_same(expected[i], heard[i]);
  }
}

/// stop() wakes a runner that sleeps, and one that works.
TEST(Batcher, StopsFromAnotherThread) {
  const Engine engine = engine_of(kKinds[0]);
  Batcher idle(engine, nullptr, {}), endless(engine, nullptr, {});
  std::thread sleeper([&] { idle.run(); });
  std::promise<void> writes;
  Heard heard;
  Generation g = listened({}, heard);
  g.prompt = {1}, g.max_tokens = int64_t{1} << 30;
  g.on_token = [&, n = 0](const Logprobs&) mutable {
    if (++n == 3) writes.set_value();
    return true;
  };
  ASSERT_TRUE(endless.submit(std::move(g)));
  std::thread runner([&] { endless.run(); });
  writes.get_future().wait();
  endless.stop(), idle.stop();
  runner.join(), sleeper.join();
  ASSERT_EQ(heard.ends.size(), 1u);
  EXPECT_EQ(heard.ends[0].first, Finish::cancelled);
}

}  // namespace
}  // namespace qwerky
