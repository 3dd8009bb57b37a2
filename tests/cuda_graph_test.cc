// SPDX-License-Identifier: MIT
// Steps that are repeated on the emulated device: to the bit what they are one call at a time, whoever comes and goes,
// whatever memory moves; and that graphs do run them.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "backend/cuda/graph.h"
#include "base/random.h"
#include "cuda_emulation/emulation.h"
#include "data.h"
#include "engine/batcher.h"
#include "engine/prefill.h"
#include "engine/throughput.h"
#include "expect_error.h"
#include "tiny_shape.h"

namespace qwerky {
namespace {

using cuda_emulation::calls_queued;
using cuda_emulation::graph_counts;

constexpr int64_t kVocab = 61;

Json shape(const std::string& type, int64_t head, int64_t heads, int64_t kv) {
  return testing::tiny_shape(type, 2, head, heads, kv);
}

std::vector<std::pair<std::string, Json>> shapes() {
  std::vector<std::pair<std::string, Json>> all;
  for (const std::string type : {"qwen2", "qwen3", "rwkv6qwen2", "rwkv7qwen2"})
    all.emplace_back(type, shape(type, 8, 4, 2));
  Json windowed = shape("llama", 8, 4, 2), hybrid = shape("rwkv7qwen2", 8, 4, 2);
  windowed["qwerky_windows"] = {5, 0}, windowed["qwerky_sinks"] = 2;
  hybrid["qwerky_mixers"] = {"softmax", "rwkv7"};
  all.emplace_back("windowed", windowed), all.emplace_back("hybrid", hybrid);
  all.emplace_back("many queries a key", shape("qwen2", 16, 16, 1));
  return all;
}

std::unique_ptr<Model> random_model(const Json& json) {
  auto model = make_model(read_config(json, nullptr), true);
  model->params.each([](Param& p) {
    const Random random(7, hash_name(p.name));
    for (int64_t i = 0; i < p.count(); ++i)
      p.weight.as<float>()[i] =
          static_cast<float>((p.name.ends_with("norm.weight") ? 1 : 0) + 0.2 * random.normal(static_cast<uint64_t>(i)));
  });
  return model;
}

/// Sequences of one model with memory of their own, whose steps are repeated or not.
class Sequences {
 public:
  Sequences(const Model& model, const Backend& on, bool repeat, int64_t capacity)
      : model_(*model.decoder), on_(on), repeat_(repeat), capacity_(capacity) {}

  /// A new sequence that has read `ids`; at `position` of its state if not 0, as if that many had been read.
  void join(const std::vector<int32_t>& ids, int64_t position = 0) {
    states_.push_back(model_.make_state(on_.scalar(), capacity_));
    State& s = *states_.back();
    if (position > 0) {
      float* values = s.at(0, s.scalars()).as<float>();
      for (int64_t i = 0; i < s.scalars(); ++i) values[i] = static_cast<float>(i % 97) / 97 - 0.5f;
      s.set_position(position);
    }
    Scope scope(scratch_);
    const Exec ex{on_, scratch_};
    const Segment segment{&s, 0, static_cast<int64_t>(ids.size())};
    model_.forward(ex, ids, {&segment, 1}, ex.make(segment.rows, model_.config().hidden));
  }
  /// One token to each of these; their logits.
  std::vector<float> step(const std::vector<size_t>& who, const std::vector<int32_t>& ids) {
    Scope scope(scratch_);
    const Exec ex{on_, scratch_};
    const auto n = static_cast<int64_t>(who.size());
    const Tensor hidden = ex.make(n, model_.config().hidden), logits = ex.make(n, kVocab);
    std::vector<Segment> batch;
    for (const size_t i : who) batch.push_back({states_[i].get(), static_cast<int64_t>(batch.size()), 1});
    const auto run = [&] {
      model_.forward(ex, ids, batch, hidden);
      model_.logits(ex, hidden, logits);
    };
    repeat_ ? on_.repeat(run) : run();
    wait_for_device();
    return {logits.as<float>(), logits.as<float>() + logits.count()};
  }
  std::vector<float> state(size_t i) const {
    const Tensor all = states_[i]->at(0, states_[i]->scalars());
    return {all.as<float>(), all.as<float>() + all.count()};
  }
  size_t sequences() const { return states_.size(); }

 private:
  const Decoder& model_;
  const Backend& on_;
  bool repeat_;
  int64_t capacity_;
  Arena scratch_;
  std::vector<std::unique_ptr<State>> states_;
};

std::vector<int32_t> some_ids(int64_t n, uint64_t seed) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n; ++i)
    ids.push_back(static_cast<int32_t>(Random(seed).below(static_cast<uint64_t>(i), kVocab)));
  return ids;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST(CudaGraph, DecodingGivesTheSameBitsWhoeverComesAndGoes) {
  for (const auto& [name, json] : shapes())
    for (const Precision precision : {Precision::f32, Precision::bf16}) {
      SCOPED_TRACE(name + (precision == Precision::f32 ? " f32" : " bf16"));
      const auto on = make_backend("cuda", precision);
      const auto model = random_model(json);
      Sequences plain(*model, *on, false, 64), repeated(*model, *on, true, 64);
      const Random random(11);
      const auto before = graph_counts();
      int64_t steps = 0;
      // Sequences join after prompts that grow, so that working memory does; any of them take part, in any order.
      for (uint64_t round = 0; round < 6; ++round) {
        for (uint64_t i = 0; i < 2; ++i) {
          const auto prompt = some_ids(static_cast<int64_t>(1 + 5 * round + i), round);
          plain.join(prompt), repeated.join(prompt);
        }
        for (uint64_t turn = 0; turn < 5; ++turn) {
          std::vector<size_t> who(plain.sequences());
          std::iota(who.begin(), who.end(), size_t{0});
          std::ranges::rotate(who, who.begin() + static_cast<int64_t>(random.below(10 * round + turn, who.size())));
          who.resize(std::min(who.size(), std::array<size_t, 4>{1, 2, 3, 10}[turn % 2 + round / 2]));
          const auto ids = some_ids(static_cast<int64_t>(who.size()), 100 * round + turn);
          EXPECT_TRUE(same_bits(plain.step(who, ids), repeated.step(who, ids)))
              << "round " << round << " turn " << turn;
          ++steps;
        }
      }
      for (size_t i = 0; i < plain.sequences(); ++i) EXPECT_TRUE(same_bits(plain.state(i), repeated.state(i))) << i;
      // Four sizes of batch, of which 10 rows go by other products; steps are plain when new, and where memory grew.
      EXPECT_GE(graph_counts().launched - before.launched, steps / 2);
    }
}

TEST(CudaGraph, AStepThatIsKnownIsOneCopyAndOneLaunch) {
  const auto on = make_backend("cuda", Precision::f32);
  for (const auto& [name, json] : shapes()) {
    SCOPED_TRACE(name);
    const auto model = random_model(json);
    Sequences run(*model, *on, true, 64);
    for (uint64_t i = 0; i < 3; ++i) run.join(some_ids(static_cast<int64_t>(3 + i), i));
    for (int n = 0; n < 3; ++n) run.step({0, 1}, {5, 6}), run.step({2}, {7});
    const auto before = graph_counts();
    const int64_t queued = calls_queued();
    run.step({2, 0}, {1, 2}), run.step({1}, {3});
    EXPECT_EQ(graph_counts().captured, before.captured);
    EXPECT_EQ(graph_counts().launched, before.launched + 2);
    EXPECT_EQ(calls_queued(), queued + 2);
  }
}

// Softmax over more than a run of 1,024 positions takes another grid and more working memory with each further run.
TEST(CudaGraph, DepthMayPassABorder) {
  const auto model = random_model(shape("qwen2", 8, 4, 2));
  const auto on = make_backend("cuda", Precision::f32);
  Sequences plain(*model, *on, false, 1100), repeated(*model, *on, true, 1100);
  for (const int64_t position : {1016, 3}) plain.join({1}, position), repeated.join({1}, position);
  const auto before = graph_counts();
  for (int32_t i = 0; i < 12; ++i)
    EXPECT_TRUE(same_bits(plain.step({0, 1}, {i, i + 1}), repeated.step({0, 1}, {i, i + 1}))) << i;
  EXPECT_EQ(graph_counts().captured, before.captured + 2);
}

/// y += x in memory of its own.
struct Sum {
  Block memory{int64_t{2} * 64 * 4, "test"};
  Tensor x{memory.data(), DType::f32, {64}}, y{memory.data() + int64_t{64} * 4, DType::f32, {64}};
  Sum() { std::fill_n(x.as<float>(), 64, 1.0f); }
  float value() const {
    wait_for_device();
    return y.as<float>()[63];
  }
};

TEST(CudaGraph, OtherArgumentsAreOtherCalls) {
  const auto on = make_backend("cuda", Precision::f32);
  Sum s;
  const auto before = graph_counts();
  float expected = 0;
  for (const double t : {0.5, 0.25, 0.5, 0.25, 0.125}) {
    on->repeat([&] { on->lerp(s.y, s.x, t); });
    expected += static_cast<float>(t) * (1 - expected);
    EXPECT_EQ(s.value(), expected);
  }
  EXPECT_EQ(graph_counts().captured, before.captured + 2);
}

struct Padded {
  char narrow;
  int64_t wide;
  void operator()(cuda::Device&) const {}
};

TEST(CudaGraph, PaddingIsNoDifference) {
  cuda::Calls calls[2];
  for (int i = 0; i < 2; ++i) {
    alignas(Padded) unsigned char memory[sizeof(Padded)];
    std::memset(memory, 0x11 * (i + 1), sizeof memory);
    auto* call = reinterpret_cast<Padded*>(memory);
    call->narrow = 1, call->wide = 2;
    calls[i].add(*call);
  }
  EXPECT_TRUE(calls[0] == calls[1]);
  calls[0].add(Padded{1, 2}), calls[1].add(Padded{1, 3});
  EXPECT_FALSE(calls[0] == calls[1]);
}

// Calls that are only written down use the working memory that a later one of the step outgrows. Comes before the tests
// that take more.
TEST(CudaGraph, WorkingMemoryMayMoveWithinAStep) {
  const auto on = make_backend("cuda", Precision::f32);
  Arena arena;
  constexpr int64_t K = 64;
  const Tensor x = arena.tensor(DType::f32, {1, K});
  std::fill_n(x.as<float>(), K, 1.0f);
  // Each has twice the outputs of the one before: whatever there is at first, some outgrow it.
  for (int64_t out = 64; out <= 1 << 16; out *= 2) {
    const Tensor rows = arena.tensor(DType::f32, {out, K}), panels = arena.panels({.type = DType::f32}, {out, K}),
                 wide = arena.tensor(DType::f32, {1, out}), narrow = arena.tensor(DType::f32, {1, 64});
    std::fill_n(rows.as<float>(), rows.count(), 0.5f);
    on->pack(panels, rows, false);
    Tensor first = panels;
    first.shape = Shape{64, K};
    on->repeat([&] { on->linear(std::array{Product{x, first, {}, narrow}, Product{x, panels, {}, wide}}); });
    wait_for_device();
    EXPECT_EQ(narrow.as<float>()[63], 32);
    EXPECT_EQ(wide.as<float>()[out - 1], 32);
  }
}

TEST(CudaGraph, WorkingMemoryMayMove) {
  const auto on = make_backend("cuda", Precision::f32);
  constexpr int64_t kRows = 2, K = 64, kOut = 128;
  Arena arena;
  const Tensor x = arena.tensor(DType::f32, {kRows, K}), y = arena.tensor(DType::f32, {kRows, kOut}),
               rows = arena.tensor(DType::f32, {kOut, K}), panels = arena.panels({.type = DType::f32}, {kOut, K});
  for (int64_t i = 0; i < x.count(); ++i) x.as<float>()[i] = static_cast<float>(i % 7);
  for (int64_t i = 0; i < rows.count(); ++i) rows.as<float>()[i] = static_cast<float>(i % 5);
  on->pack(panels, rows, false);
  const auto step = [&] {
    on->zero(y);
    on->repeat([&] { on->linear(std::array{Product{x, panels, {}, y}}); });
    wait_for_device();
    return std::vector<float>(y.as<float>(), y.as<float>() + y.count());
  };
  const auto truth = step();  // takes working memory
  for (int i = 0; i < 2; ++i) EXPECT_EQ(step(), truth);
  const auto before = graph_counts();
  EXPECT_EQ(step(), truth);
  EXPECT_EQ(graph_counts().captured, before.captured);
  EXPECT_EQ(graph_counts().launched, before.launched + 1);
  // Sums over the rows of this many columns want more of the memory that the product has for its parts.
  const int64_t wide = int64_t{1} << 20;
  const Tensor dy = arena.zeros(DType::f32, {1, wide}), dbias = arena.zeros(DType::f32, {wide});
  on->linear_vjp(arena.zeros(DType::f32, {1, 1}), {}, std::array{ProductVjp{{}, {}, dbias, dy}}, Into::overwrite);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(step(), truth);
  EXPECT_EQ(graph_counts().captured, before.captured + 1);
  EXPECT_EQ(graph_counts().launched, before.launched + 3);
}

TEST(CudaGraph, WhatWaitsEndsAStepEarly) {
  const auto on = make_backend("cuda", Precision::f32);
  Sum s;
  for (int i = 1; i <= 4; ++i) {
    on->repeat([&] {
      on->add(s.y, s.x);
      EXPECT_EQ(on->sum(s.y), 64 * (2 * i - 1));
      on->add(s.y, s.x);
      const Block other(64, "test");  // clears, and waits for it
    });
    EXPECT_EQ(s.value(), static_cast<float>(2 * i));
  }
}

TEST(CudaGraph, TablesBeyondTheirRoomAreNoGraph) {
  const auto on = make_backend("cuda", Precision::f32);
  Arena arena;
  const int64_t rows = int64_t{1} << 19;
  const Tensor table = arena.tensor(DType::f32, {kVocab, 1}), y = arena.tensor(DType::f32, {rows, 1});
  for (int64_t i = 0; i < kVocab; ++i) table.as<float>()[i] = static_cast<float>(i);
  for (uint64_t seed = 0; seed < 3; ++seed) {
    const auto few = some_ids(8, seed), many = some_ids(rows, seed + 10);
    on->repeat([&] {
      on->embed(y.rows(0, 8), table, few);
      on->embed(y.rows(8, rows - 8), table, std::span(many).first(static_cast<size_t>(rows) - 8));
    });
    wait_for_device();
    for (size_t i = 0; i < 100; ++i) EXPECT_EQ(y.as<float>()[i], static_cast<float>(i < 8 ? few[i] : many[i - 8]));
  }
}

TEST(CudaGraph, AnErrorLeavesNothingBehind) {
  const auto on = make_backend("cuda", Precision::f32);
  Sum s;
  const auto step = [&](bool fails) {
    on->repeat([&] {
      on->repeat([&] { on->add(s.y, s.x); });  // a part of this one
      if (fails) fail("no more");
    });
  };
  step(false), step(false);
  EXPECT_EQ(testing::error_of([&] { step(true); }), "no more");
  EXPECT_EQ(s.value(), 2);
  on->add(s.y, s.x);
  step(false);
  EXPECT_EQ(s.value(), 4);
}

TEST(CudaGraph, TheLeastUsedAreDropped) {
  const auto on = make_backend("cuda", Precision::f32);
  constexpr size_t kKept = cuda::Graphs::kMost, kAll = kKept + 16;
  std::vector<Sum> sums(kAll);
  for (int i = 0; i < 3; ++i)
    for (const Sum& s : sums)
      for (int twice = 0; twice < 2; ++twice) on->repeat([&] { on->add(s.y, s.x); });
  const auto before = graph_counts();
  for (size_t i = kAll - 1; i >= kAll - kKept; --i) on->repeat([&] { on->add(sums[i].y, sums[i].x); });
  EXPECT_EQ(graph_counts().launched, before.launched + int{kKept});
  EXPECT_EQ(graph_counts().captured, before.captured);
  on->repeat([&] { on->add(sums[0].y, sums[0].x); });
  EXPECT_EQ(graph_counts().launched, before.launched + int{kKept});
  for (size_t i = 0; i < sums.size(); ++i) EXPECT_EQ(sums[i].value(), i == 0 || i >= kAll - kKept ? 7 : 6) << i;
}

// Prefill, sessions, the batcher and `bench` decode by graphs.
TEST(CudaGraph, EverythingThatDecodesRepeatsItsSteps) {
  const Json json = shape("rwkv7qwen2", 8, 4, 2);
  const Path dir = testing::scratch_dir("cuda-graph");
  {
    const auto model = random_model(json);
    save_model(dir, model->config(), model->params, DType::f32, {});
  }
  const Engine engine(dir.string(), {.backend = "cuda", .tokenizer = false});
  const Model& model = *engine.internals().model;
  const Backend& on = *engine.internals().backend;
  const auto greedy = [&](const std::vector<int32_t>& prompt, int64_t n) {
    Sequences plain(model, on, false, 64);
    plain.join({prompt.begin(), prompt.end() - 1});
    std::vector<int32_t> ids{prompt.back()};
    for (int64_t i = 0; i < n; ++i) {
      const auto logits = plain.step({0}, {ids.back()});
      ids.push_back(static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin()));
    }
    return std::vector<int32_t>(ids.begin() + 1, ids.end());
  };
  auto before = graph_counts();
  Batcher batcher(engine, nullptr, {});
  std::map<int64_t, std::vector<int32_t>> found;
  for (int64_t i = 0; i < 4; ++i) {
    Generation g;
    g.prompt = some_ids(3 + i, static_cast<uint64_t>(i)), g.max_tokens = 6 + 3 * i, g.stop_at_end = false;
    g.sampler.temperature = 0;
    g.on_token = [&found, i](const Logprobs& told) { return found[i].push_back(told.id), true; };
    batcher.submit(std::move(g));
  }
  while (batcher.step()) {
  }
  for (int64_t i = 0; i < 4; ++i)
    EXPECT_EQ(found[i], greedy(some_ids(3 + i, static_cast<uint64_t>(i)), 6 + 3 * i)) << i;
  EXPECT_GE(graph_counts().launched - before.launched, 8);

  before = graph_counts();
  Session session(engine, 64);
  const auto prompt = some_ids(4, 1);
  GenerateOptions options;
  options.max_tokens = 9, options.stop_at_end = false;
  options.sampler.temperature = 0;
  const auto out = generate(session, engine, prompt, options);
  EXPECT_EQ(out.ids, greedy(prompt, 9));
  EXPECT_EQ(graph_counts().launched - before.launched, 7);  // of 8 steps

  before = graph_counts();
  measure_decode(model, on, {.batch = 2, .depth = 4, .tokens = 5});
  EXPECT_GE(graph_counts().launched - before.launched, 4);
}

}  // namespace
}  // namespace qwerky
