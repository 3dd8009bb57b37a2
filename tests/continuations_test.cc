// SPDX-License-Identifier: MIT
// Scores of continuations: the same whatever is shared, kept or run side by side, and those of a plain session.
#include "engine/continuations.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "engine/model.h"
#include "expect_error.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::has;

constexpr int64_t kVocab = 29;

std::unique_ptr<Model> tiny(const std::string& type) {
  const Json json{{"model_type", type},       {"hidden_size", 16},      {"intermediate_size", 24},
                  {"vocab_size", kVocab},     {"num_hidden_layers", 2}, {"num_attention_heads", 2},
                  {"num_key_value_heads", 1}, {"head_dim", 8},          {"max_position_embeddings", 900},
                  {"rms_norm_eps", 1e-5}};
  auto model = make_model(read_config(json, nullptr), true);
  model->params.each([&](Param& p) {
    const Random random(1, hash_name(p.name));
    for (int64_t i = 0; i < p.count(); ++i)
      p.weight.as<float>()[i] =
          static_cast<float>((p.name.ends_with("norm.weight") ? 1 : 0) + 0.3 * random.normal(static_cast<uint64_t>(i)));
  });
  return model;
}

std::vector<int32_t> some_ids(size_t n, uint64_t seed) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < n; ++i) ids.push_back(static_cast<int32_t>(Random(seed).below(i, kVocab)));
  return ids;
}

Continuation joined(std::vector<int32_t> context, const std::vector<int32_t>& continuation) {
  const auto first = static_cast<int64_t>(context.size());
  context.insert(context.end(), continuation.begin(), continuation.end());
  return {std::move(context), first};
}

/// Documents with choices of several and of one id, after examples that all share; equal and nested ones; a long one.
std::vector<Continuation> requests(size_t shared, uint64_t seed) {
  std::vector<Continuation> list;
  const auto examples = some_ids(shared, 99);
  for (uint64_t document = 0; document < 9; ++document) {
    auto context = examples;
    const auto own = some_ids(document == 4 ? 150 : 3 + 7 * document, seed + document);
    context.insert(context.end(), own.begin(), own.end());
    for (uint64_t choice = 0; choice < 4; ++choice)
      list.push_back(joined(context, some_ids(document % 2 == 0 ? 1 : 1 + 2 * choice, seed + 50 + choice)));
    list.push_back(list.back());  // twice
    auto deeper = list.back().ids;
    list.push_back(joined(deeper, some_ids(5, seed + 70)));  // goes on after a choice
  }
  return list;
}

/// Each request alone, an id at a time.
std::vector<ContinuationScore> plainly(const Backend& on, const Decoder& model, std::span<const Continuation> list) {
  std::vector<ContinuationScore> scores;
  for (const Continuation& c : list) {
    Arena scratch("test");
    const Exec ex{on, scratch};
    const auto state = model.make_state(on.scalar(), static_cast<int64_t>(c.ids.size()));
    ContinuationScore score;
    for (size_t i = 0; i + 1 < c.ids.size(); ++i) {
      Scope scope(scratch);
      const Segment segment{state.get(), 0, 1};
      const Tensor hidden = ex.make(1, model.config().hidden), logits = ex.make(1, kVocab);
      model.forward(ex, std::span(c.ids).subspan(i, 1), {&segment, 1}, hidden);
      if (static_cast<int64_t>(i) + 1 < c.first) continue;
      model.logits(ex, hidden, logits);
      wait_for_device();
      const float* x = logits.as<float>();
      double total = 0;
      for (int64_t v = 0; v < kVocab; ++v) total += std::exp(double(x[v]));
      score.loglikelihood += x[c.ids[i + 1]] - std::log(total);
      score.greedy = score.greedy && std::max_element(x, x + kVocab) - x == c.ids[i + 1];
    }
    scores.push_back(score);
  }
  return scores;
}

TEST(Continuations, ScoresDoNotDependOnWhatIsShared) {
  for (const char* kind : {"qwen2", "rwkv6qwen2", "rwkv7qwen2"}) {
    const auto model = tiny(kind);
    for (const std::string& backend : available_backends()) {
      const auto on = make_backend(backend, Precision::f32);
      ContinuationScorer shared(*on, *model->decoder, {.share = true, .rows = 64}),
          alone(*on, *model->decoder, {.share = false, .rows = 64}),
          poor(*on, *model->decoder, {.share = true, .rows = 64, .state_bytes = 1});
      for (const auto& [examples, seed] : {std::pair<size_t, uint64_t>{70, 5}, {70, 700}, {2, 900}, {70, 5}}) {
        const auto list = requests(examples, seed);
        const auto want = plainly(*on, *model->decoder, list);
        for (ContinuationScorer* scorer : {&shared, &alone, &poor}) {
          const auto got = scorer->score(list);
          ASSERT_EQ(got.size(), list.size());
          for (size_t i = 0; i < list.size(); ++i) {
            EXPECT_NEAR(got[i].loglikelihood, want[i].loglikelihood, 1e-4)
                << kind << " " << backend << " request " << i;
            EXPECT_EQ(got[i].greedy, want[i].greedy) << kind << " " << backend << " request " << i;
          }
        }
      }
      EXPECT_EQ(alone.rows_run(), alone.rows_asked());
      EXPECT_LT(shared.rows_run() * 3, shared.rows_asked());
    }
  }
}

/// What all requests of a call begin with is not run again in the next call.
TEST(Continuations, ABeginningIsKeptFromCallToCall) {
  for (const char* kind : {"qwen2", "rwkv7qwen2"}) {
    const auto model = tiny(kind);
    const auto on = make_backend("auto", Precision::f32);
    ContinuationScorer scorer(*on, *model->decoder);
    std::vector<int64_t> rows;
    for (uint64_t document = 0; document < 3; ++document) {
      auto context = some_ids(200, 99);
      const auto own = some_ids(document == 2 ? 300 : 1, document);  // the last needs states of another size
      context.insert(context.end(), own.begin(), own.end());
      const int64_t before = scorer.rows_run();
      scorer.score(std::vector{joined(context, {1, 2}), joined(context, {3, 4})});
      rows.push_back(scorer.rows_run() - before);
    }
    EXPECT_GE(rows[0], 200);
    EXPECT_LT(rows[1], 10);
    EXPECT_LT(rows[2], 310);
  }
}

/// What the tree has more than a trie of all requests stays small: choices share short contexts too.
TEST(Continuations, RowsAreNearlyThoseOfATrie) {
  const auto model = tiny("rwkv7qwen2");
  const auto on = make_backend("auto", Precision::f32);
  ContinuationScorer scorer(*on, *model->decoder);
  std::vector<Continuation> list;
  int64_t trie = 0;
  for (uint64_t document = 0; document < 20; ++document) {
    const auto context = some_ids(12, 300 + document);
    trie += 12;
    for (uint64_t choice = 0; choice < 2; ++choice, trie += 9)
      list.push_back(joined(context, some_ids(10, 1000 + 2 * document + choice)));
  }
  scorer.score(list);
  EXPECT_LT(scorer.rows_run(), trie * 105 / 100) << "of " << scorer.rows_asked();
}

TEST(Continuations, RefusesWhatCannotBeScored) {
  const auto model = tiny("qwen2");
  const auto on = make_backend("auto", Precision::f32);
  ContinuationScorer scorer(*on, *model->decoder);
  EXPECT_TRUE(scorer.score({}).empty());
  for (const Continuation& bad : {Continuation{{1, 2}, 0}, Continuation{{1, 2}, 2}, Continuation{{}, 1}})
    EXPECT_TRUE(has(error_of([&] { scorer.score({&bad, 1}); }), "cannot be scored"));
  const Continuation outside{{1, 29}, 1};
  EXPECT_TRUE(has(error_of([&] { scorer.score({&outside, 1}); }), "token 29 is outside the vocabulary"));
}

}  // namespace
}  // namespace qwerky
