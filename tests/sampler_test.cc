// SPDX-License-Identifier: MIT
// Each option of the sampler against distributions computed by hand, on small vocabularies.
#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "base/random.h"
#include "expect_error.h"
#include "io/tokenizer.h"
#include "repetitions.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::has;
using Ids = std::vector<int32_t>;

/// Logits of a distribution.
std::vector<float> log_of(const std::vector<double>& p) {
  std::vector<float> out;
  for (double x : p) out.push_back(static_cast<float>(std::log(x)));
  return out;
}

/// Draws with as many seeds, each from a sampler that has read `prompt`, against these probabilities: what has none is
/// never drawn, and Pearson's chi-square of the others stays below its 0.9999 quantile.
void expect_shares(const std::vector<float>& logits, const SamplerOptions& options, const std::vector<double>& expected,
                   const Ids& prompt = {}, const std::vector<uint8_t>& allowed = {}) {
  constexpr uint64_t kDraws = 20000;
  std::vector<int64_t> drawn(logits.size());
  for (uint64_t seed = 0; seed < kDraws; ++seed) {
    SamplerOptions o = options;
    o.seed = seed;
    Sampler sampler(o, static_cast<int64_t>(logits.size()));
    sampler.read(prompt);
    ++drawn[static_cast<size_t>(sampler.draw(logits, allowed))];
  }
  double chi_square = 0;
  size_t kept = 0;
  const double total = std::accumulate(expected.begin(), expected.end(), 0.0);
  for (size_t i = 0; i < logits.size(); ++i) {
    if (expected[i] == 0) {
      EXPECT_EQ(drawn[i], 0) << "token " << i;
      continue;
    }
    ++kept;
    const double want = expected[i] / total * static_cast<double>(kDraws);
    chi_square += (static_cast<double>(drawn[i]) - want) * (static_cast<double>(drawn[i]) - want) / want;
  }
  // Quantiles 0.9999 of the chi-square distribution with 0 to 7 degrees of freedom.
  constexpr double kQuantiles[] = {1e-9, 15.14, 18.42, 21.11, 23.51, 25.74, 27.86, 29.88};
  ASSERT_TRUE(kept >= 1 && kept <= 8);
  EXPECT_LT(chi_square, kQuantiles[kept - 1]);
}

const std::vector<double> kFive{0.4, 0.3, 0.15, 0.1, 0.05};

TEST(Sampler, TemperatureAlone) {
  expect_shares(log_of(kFive), {.temperature = 1}, kFive);
  expect_shares(log_of(kFive), {.temperature = 0.5}, {0.16, 0.09, 0.0225, 0.01, 0.0025});
  expect_shares(log_of({0.64, 0.36}), {.temperature = 2}, {0.8, 0.6});
}

TEST(Sampler, TopK) {
  expect_shares(log_of({0.1, 0.4, 0.2, 0.3}), {.temperature = 1, .top_k = 2}, {0, 0.4, 0, 0.3});
  expect_shares({1, 2, 2, 2, 0}, {.temperature = 1, .top_k = 2}, {0, 1, 1, 0, 0});  // of equals the first
  expect_shares(log_of(kFive), {.temperature = 1, .top_k = 9}, kFive);
}

/// Against a full sort: 5,000 logits of few different values, so that ties meet every border.
TEST(Sampler, TopKOfManyIsThatOfASort) {
  std::vector<float> logits(5000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(Random(3).below(i, 40));
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  for (int64_t k : {1, 2, 63, 64, 65, 100, 1000, 4999}) {
    std::vector<double> weight;
    double total = 0;
    for (int64_t i = 0; i < k; ++i)
      total += std::exp((static_cast<double>(logits[static_cast<size_t>(order[static_cast<size_t>(i)])]) - 39) / 3);
    for (int64_t index = 0; index < 200; ++index) {
      // The draw is the inverse of the distribution function along the sorted order.
      double left = Random(7, hash_name("sampler")).uniform(static_cast<uint64_t>(index)) * total;
      size_t at = 0;
      while ((left -= std::exp((static_cast<double>(logits[static_cast<size_t>(order[at])]) - 39) / 3)) >= 0) ++at;
      ASSERT_EQ(sample(logits, {.temperature = 3, .top_k = k, .seed = 7}, index), order[at]) << k;
    }
  }
}

TEST(Sampler, TopPIsTheSmallestSetWithTheMass) {
  expect_shares(log_of(kFive), {.temperature = 1, .top_p = 0.69}, {0.4, 0.3, 0, 0, 0});
  expect_shares(log_of(kFive), {.temperature = 1, .top_p = 0.71}, {0.4, 0.3, 0.15, 0, 0});
  expect_shares(log_of(kFive), {.temperature = 1, .top_p = 0}, {1, 0, 0, 0, 0});
  expect_shares({0, 0, 0, 0}, {.temperature = 1, .top_p = 0.5}, {1, 1, 0, 0});  // ties; exactly the mass
  // The tempered distribution counts: 0.16, 0.09, 0.0225, 0.01, 0.0025 of 0.285.
  expect_shares(log_of(kFive), {.temperature = 0.5, .top_p = 0.9}, {0.16, 0.09, 0.0225, 0, 0});
  // Behind top-k it is a share of what top-k left: 0.4 / 0.85 < 0.5.
  expect_shares(log_of(kFive), {.temperature = 1, .top_k = 3, .top_p = 0.5}, {0.4, 0.3, 0, 0, 0});
}

/// A truncation by a sort of everything: likeliest, or nearest to the entropy, first, up to `share` of the mass. The
/// sampler's draws must be those of it, bit for bit.
void expect_draws_of_a_sort(const std::vector<float>& logits, const SamplerOptions& options) {
  const bool typical = options.typical_p < 1;
  const double best = *std::max_element(logits.begin(), logits.end());
  std::vector<double> weight, distance;
  double total = 0, moment = 0;
  const auto log_weight = [&](float x) { return (static_cast<double>(x) - best) / options.temperature; };
  for (const float x : logits) {
    weight.push_back(std::exp(log_weight(x)));
    total += weight.back(), moment += weight.back() * log_weight(x);
  }
  const double entropy = std::log(total) - moment / total;
  for (const float x : logits) distance.push_back(std::abs(std::log(total) - log_weight(x) - entropy));
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    const auto i = static_cast<size_t>(a), j = static_cast<size_t>(b);
    return typical && distance[i] != distance[j] ? distance[i] < distance[j] : logits[i] > logits[j];
  });
  const double mass = (typical ? options.typical_p : options.top_p) * total;
  double kept = 0;
  size_t last = 0;
  while (last < order.size() && (last == 0 || kept < mass)) kept += weight[static_cast<size_t>(order[last++])];
  for (int64_t index = 0; index < testing::repetitions(50, 5); ++index) {
    double left = Random(options.seed, hash_name("sampler")).uniform(static_cast<uint64_t>(index)) * kept;
    size_t at = 0;
    while (at + 1 < last && (left -= weight[static_cast<size_t>(order[at])]) >= 0) ++at;
    ASSERT_EQ(sample(logits, options, index), order[at])
        << options.temperature << ", " << options.top_p << ", " << options.typical_p << ", draw " << index;
  }
}

/// Flat and peaked, with and without ties, of both signs.
TEST(Sampler, TopPAndTypicalOfManyAreThoseOfASort) {
  for (const size_t size : {1000, 1024, 1025, 30000})
    for (const double step : {0.0, 0.25}) {
      std::vector<float> logits(size);
      for (size_t i = 0; i < size; ++i) {
        const double x = 2.5 * Random(4).normal(i);
        logits[i] = static_cast<float>(step > 0 ? step * std::round(x / step) : x);  // rounded: ties, and -0 beside 0
      }
      for (const double temperature : {0.3, 1.0, 5.0})
        for (const double share : {0.1, 0.5, 0.9, 0.999}) {
          expect_draws_of_a_sort(logits, {.temperature = temperature, .top_p = share, .seed = 7});
          expect_draws_of_a_sort(logits, {.temperature = temperature, .typical_p = share, .seed = 7});
        }
    }
}

TEST(Sampler, TypicalOfFlatDistributionsIsThatOfASort) {
  std::vector<float> two(3000, 1.0F), near(3000);
  for (size_t i = 0; i < two.size(); i += 3) two[i] = 0.5F;  // surprises on both sides of the entropy
  for (size_t i = 0; i < near.size(); ++i) near[i] = 1 + 1e-7F * static_cast<float>(Random(9).below(i, 5));
  for (const std::vector<float>& logits : {std::vector<float>(3000, 1.0F), two, near})
    for (const double temperature : {0.01, 1.0, 100.0})
      for (const double share : {0.0, 0.25, 0.7, 0.999})
        expect_draws_of_a_sort(logits, {.temperature = temperature, .typical_p = share, .seed = 7});
}

TEST(Sampler, TopPOfManyEquals) {
  const std::vector<float> logits(3000, 1.0F);
  std::map<int32_t, int> drawn;
  for (int64_t i = 0; i < 5000; ++i) ++drawn[sample(logits, {.temperature = 1, .top_p = 0.25, .seed = 1}, i)];
  EXPECT_LT(drawn.rbegin()->first, 750);
  EXPECT_GT(drawn.size(), 740u);
  EXPECT_EQ(sample(logits, {.temperature = 1, .top_p = 1e-17, .seed = 1}, 5), 0);
}

TEST(Sampler, MinP) {
  expect_shares(log_of(kFive), {.temperature = 1, .min_p = 0.24}, {0.4, 0.3, 0.15, 0.1, 0});
  expect_shares(log_of(kFive), {.temperature = 1, .min_p = 0.26}, {0.4, 0.3, 0.15, 0, 0});
  expect_shares({3, 1, 3}, {.temperature = 1, .min_p = 1}, {1, 0, 1});
  // Of the tempered distribution: (0.05 / 0.4)^(1/2) = 0.354.
  expect_shares(log_of({0.4, 0.05, 0.01}), {.temperature = 2, .min_p = 0.3}, {std::sqrt(0.4), std::sqrt(0.05), 0});
  // Behind top-p, whose mass counts the tokens that min-p drops.
  expect_shares(log_of(kFive), {.temperature = 1, .top_p = 0.86, .min_p = 0.3}, {0.4, 0.3, 0.15, 0, 0});
}

TEST(Sampler, TypicalKeepsTheSurprisesNearestToTheEntropy) {
  // kFive: entropy 1.392; surprises 0.916, 1.204, 1.897, 2.303, 2.996, so the order is 1, 0, 2, 3, 4.
  expect_shares(log_of(kFive), {.temperature = 1, .typical_p = 0.25}, {0, 1, 0, 0, 0});
  expect_shares(log_of(kFive), {.temperature = 1, .typical_p = 0.65}, {0.4, 0.3, 0, 0, 0});
  expect_shares(log_of(kFive), {.temperature = 1, .typical_p = 0.75}, {0.4, 0.3, 0.15, 0, 0});
  expect_shares({2, 2, 2}, {.temperature = 1, .typical_p = 0.3}, {1, 0, 0});  // all equally near
  // Truncations follow one another: top-p takes its share of what typical left, 0.3 of 0.7.
  expect_shares(log_of(kFive), {.temperature = 1, .top_p = 0.5, .typical_p = 0.65}, {1, 0, 0, 0, 0});
}

TEST(Sampler, XtcDropsAllButTheLeastOfTheTopChoices) {
  expect_shares(log_of(kFive), {.temperature = 1, .xtc_probability = 1, .xtc_threshold = 0.12},
                {0, 0, 0.15, 0.1, 0.05});
  expect_shares(log_of(kFive), {.temperature = 1, .xtc_probability = 1, .xtc_threshold = 0.35}, kFive);  // one only
  expect_shares(log_of(kFive), {.temperature = 1, .xtc_probability = 1, .xtc_threshold = 0.45}, kFive);
  expect_shares({1, 1, 1, -9}, {.temperature = 1, .top_k = 3, .xtc_probability = 1, .xtc_threshold = 0.2},
                {0, 0, 1, 0});  // of equals the last
  // One draw in four drops the first of two: 3/4 · 1/2, 3/4 · 1/2 + 1/4.
  expect_shares({0, 0}, {.temperature = 1, .xtc_probability = 0.25, .xtc_threshold = 0.5}, {0.375, 0.625});
  // Min-p is counted first: without it 0.3 is not above the threshold, and no one is dropped.
  expect_shares(log_of(kFive), {.temperature = 1, .min_p = 0.7, .xtc_probability = 1, .xtc_threshold = 0.4},
                {0, 1, 0, 0, 0});
}

TEST(Sampler, MirostatLeavesOutSurprisesAboveMu) {
  // mu = 2 tau: 2 bits is 0.25, 3 bits 0.125.
  expect_shares(log_of(kFive), {.temperature = 1, .mirostat = 2, .mirostat_tau = 1}, {0.4, 0.3, 0, 0, 0});
  expect_shares(log_of(kFive), {.temperature = 1, .mirostat = 2, .mirostat_tau = 1.5}, {0.4, 0.3, 0.15, 0, 0});
  expect_shares(log_of(kFive), {.temperature = 1, .mirostat = 2, .mirostat_tau = 0}, {1, 0, 0, 0, 0});
  // It replaces the truncations.
  expect_shares(log_of(kFive), {.temperature = 1, .top_k = 1, .top_p = 0.1, .mirostat = 2, .mirostat_tau = 3}, kFive);
}

TEST(Sampler, MirostatMovesMuAgainstTheError) {
  // One token of 1/2, two of 1/4: surprises of 1 and 2 bits. mu starts at 1.6, so that token 0 is drawn, and moves by
  // eta · (tau - 1): with tau 0.8 and eta 1 down, and stays at one token; with tau 1.8 it starts at 3.6.
  const std::vector<float> logits = log_of({0.5, 0.25, 0.25});
  Sampler low({.temperature = 1, .mirostat = 2, .mirostat_tau = 0.8, .mirostat_eta = 1, .seed = 2}, 3);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(low.draw(logits), 0);
  // The same rule followed by hand, against the draws.
  Sampler sampler({.temperature = 1, .mirostat = 2, .mirostat_tau = 1.2, .mirostat_eta = 0.4, .seed = 2}, 3);
  double mu = 2.4;
  int both = 0;
  for (int i = 0; i < 200; ++i) {
    const int32_t id = sampler.draw(logits);
    EXPECT_TRUE(id == 0 || mu >= 2) << i;
    both += mu >= 2 && id != 0 ? 1 : 0;
    mu -= 0.4 * ((id == 0 ? 1 : 2) - 1.2);
  }
  EXPECT_GT(both, 20);
}

TEST(Sampler, BiasAndMask) {
  expect_shares(log_of(kFive), {.temperature = 1, .logit_bias = {{4, std::log(8.0)}, {0, std::log(0.5)}}},
                {0.2, 0.3, 0.15, 0.1, 0.4});
  expect_shares(log_of(kFive), {.temperature = 1, .logit_bias = {{0, -100}, {0, -100}}}, {0, 0.3, 0.15, 0.1, 0.05});
  expect_shares(log_of(kFive), {.temperature = 1}, {0, 0, 0.15, 0, 0.05}, {}, {0, 0, 1, 0, 1});
  expect_shares(log_of(kFive), {.temperature = 1, .top_k = 1}, {0, 0, 1, 0, 0}, {}, {0, 0, 1, 0, 1});
  expect_shares(log_of(kFive), {.temperature = 0}, {0, 0, 0, 0, 1}, {}, {0, 0, 0, 0, 1});
  // No bias and no penalty forbids the only token that is left, and none frees a masked one.
  expect_shares(log_of(kFive), {.temperature = 1, .logit_bias = {{4, -1e300}, {0, 1e300}}}, {0, 0, 0, 0, 1}, {},
                {0, 0, 0, 0, 1});
}

TEST(Sampler, RepetitionPenaltyLooksAtPromptAndAnswer) {
  const std::vector<float> logits{2, -1, 2, -1};
  Sampler sampler({.temperature = 0, .repetition_penalty = 2}, 4);
  sampler.read(Ids{0, 0, 1});
  // Once, whatever the number of times: 1, -2, 2, -1.
  EXPECT_EQ(sampler.draw(logits), 2);
  const double e = std::exp(1.0);
  expect_shares(logits, {.temperature = 1, .repetition_penalty = 2}, {e, 1 / (e * e), e * e, 1 / e}, {0, 0, 1});
}

TEST(Sampler, PresenceAndFrequencyCountWhatWasGenerated) {
  const SamplerOptions options{.temperature = 0, .presence_penalty = 0.5, .frequency_penalty = 0.2};
  Sampler sampler(options, 3);
  sampler.read(Ids{0, 0, 0, 0, 0, 0});
  // Logits after n draws of a token: x - 0.5 - 0.2 n.
  const std::vector<float> logits{1.0F, 0.35F, -9};
  EXPECT_EQ(sampler.draw(logits), 0);  // 1 against 0.35
  EXPECT_EQ(sampler.draw(logits), 1);  // 0.3 against 0.35
  EXPECT_EQ(sampler.draw(logits), 0);  // 0.3 against -0.35
  EXPECT_EQ(sampler.draw(logits), 0);  // 0.1
  EXPECT_EQ(sampler.draw(logits), 0);  // -0.1
  EXPECT_EQ(sampler.draw(logits), 0);  // -0.3
  EXPECT_EQ(sampler.draw(logits), 1);  // -0.5 against -0.35
}

TEST(Sampler, TheWindowForgets) {
  // Every token that was generated within the window is pushed below all others.
  Sampler sampler({.temperature = 0, .presence_penalty = 100, .penalty_window = 2}, 4);
  const std::vector<float> logits{4, 3, 2, 1};
  Ids ids;
  for (int i = 0; i < 7; ++i) ids.push_back(sampler.draw(logits));
  EXPECT_EQ(ids, (Ids{0, 1, 2, 0, 1, 2, 0}));
  // The prompt is in the window too, and leaves it: 0 counts while one of the last two.
  Sampler read({.temperature = 0, .repetition_penalty = 100, .penalty_window = 2}, 3);
  read.read(Ids{2, 0, 1});
  const std::vector<float> first_only{3, -9, 2};
  EXPECT_EQ(read.draw(first_only), 2);  // 0.03, -900, 2
  EXPECT_EQ(read.draw(first_only), 0);  // window 1, 2: 3, -900, 0.02
  Sampler all({.temperature = 0, .presence_penalty = 100}, 3);
  ids.clear();
  for (int i = 0; i < 3; ++i) ids.push_back(all.draw(std::vector<float>{3, 2, 1}));
  EXPECT_EQ(ids, (Ids{0, 1, 2}));
}

/// What DRY takes from each logit after `text`, by its definition (docs/sampling.md).
std::vector<double> dry_by_definition(const Ids& text, int64_t vocab, const SamplerOptions& o) {
  const auto breaks = [&](int32_t id) { return std::ranges::find(o.dry_breakers, id) != o.dry_breakers.end(); };
  const auto size = static_cast<int64_t>(text.size());
  const int64_t first = o.penalty_window > 0 ? std::max<int64_t>(0, size - o.penalty_window) : 0;
  std::vector<double> taken(static_cast<size_t>(vocab));
  for (int64_t i = first; i + 1 < size; ++i) {
    const auto at = [&](int64_t j) { return text[static_cast<size_t>(j)]; };
    int64_t n = 0;
    while (n < 50 && i - n >= first && at(i - n) == at(size - 1 - n) && !breaks(at(i - n))) ++n;
    double& most = taken[static_cast<size_t>(at(i + 1))];
    if (n >= o.dry_allowed_length && !breaks(at(i + 1)))
      most = std::max(most, o.dry_multiplier * std::pow(o.dry_base, static_cast<double>(n - o.dry_allowed_length)));
  }
  return taken;
}

TEST(Sampler, DryIsItsDefinition) {
  constexpr int64_t kIds = 4;
  for (uint64_t run = 0; run < 200; ++run) {
    const Random random(run);
    SamplerOptions o{.temperature = 0, .dry_multiplier = 0.3, .dry_base = 1.03};
    o.dry_allowed_length = 1 + static_cast<int64_t>(random.below(1, 4));
    if (run % 3 == 0) o.penalty_window = 20 + static_cast<int64_t>(random.below(2, 150));
    if (run % 4 == 0) o.dry_breakers = {3};
    // Of few ids, and in long runs of one: repetitions of every length, more than 50 too.
    Ids text;
    while (text.size() < 300) {
      const int32_t id = static_cast<int32_t>(random.below(10 + text.size(), run % 2 == 0 ? 2 : kIds));
      text.insert(text.end(), run % 5 == 0 ? 1 + random.below(20 + text.size(), 90) : 1, id);
    }
    Sampler sampler(o, kIds);
    sampler.read(text);
    for (uint64_t i = 0; i < 100; ++i) {
      std::vector<float> logits(kIds);
      for (size_t k = 0; k < kIds; ++k) logits[k] = static_cast<float>(random.uniform(1000 + 4 * i + k));
      const std::vector<double> taken = dry_by_definition(text, kIds, o);
      std::vector<float> left = logits;
      for (size_t k = 0; k < kIds; ++k) left[k] = static_cast<float>(double{logits[k]} - taken[k]);
      const auto best = static_cast<int32_t>(std::ranges::max_element(left) - left.begin());
      ASSERT_EQ(sampler.draw(logits), best) << "run " << run << " draw " << i;
      text.push_back(best);
    }
  }
}

/// A draw takes time in proportion to how far DRY looks back, whatever the text: all repeats at its longest here.
TEST(Sampler, DryLooksBackSoFar) {
  SamplerOptions o{.temperature = 0, .dry_multiplier = 1};
  Sampler sampler(o, 3);
  sampler.read(Ids{1, 0, 2});
  sampler.read(Ids(16381, 1));
  sampler.read(Ids{1, 0});
  const std::vector<float> logits{0, 0, 0.5};
  EXPECT_EQ(sampler.draw(logits), 2) << "that 2 followed 1, 0 is too long ago";
  Sampler nearer(o, 3);
  nearer.read(Ids{1, 0, 2});
  nearer.read(Ids(16379, 1));
  nearer.read(Ids{1, 0});
  EXPECT_NE(nearer.draw(logits), 2);
}

/// The token that DRY makes lose against a rival, for growing leads of the token: the penalty to a hundredth.
double dry_penalty(const Ids& text, int32_t id, SamplerOptions options) {
  options.temperature = 0;
  for (int lead = 0; lead < 3000; ++lead) {
    std::vector<float> logits(10, -1e9F);
    logits[9] = 0;
    logits[static_cast<size_t>(id)] = static_cast<float>(lead) / 100 + 0.005F;
    Sampler sampler(options, 10);
    sampler.read(text);
    if (sampler.draw(logits) == id) return lead / 100.0;
  }
  return 30;
}

TEST(Sampler, DryPenalisesWhatLengthensARepetition) {
  const SamplerOptions dry{.dry_multiplier = 0.5, .dry_base = 2, .dry_allowed_length = 2};
  EXPECT_EQ(dry_penalty({1, 2, 3, 4, 1, 2}, 3, dry), 0.5);      // n = 2: 0.5 · 2^0
  EXPECT_EQ(dry_penalty({0, 1, 2, 3, 4, 0, 1, 2}, 3, dry), 1);  // n = 3: 0.5 · 2^1
  EXPECT_EQ(dry_penalty({0, 1, 2, 3, 4, 0, 1, 2}, 4, dry), 0);
  EXPECT_EQ(dry_penalty({2, 3, 4, 1, 2}, 3, dry), 0);                   // n = 1 is allowed
  EXPECT_EQ(dry_penalty({1, 2, 3, 0, 1, 2, 3, 4, 1, 2}, 3, dry), 0.5);  // the longest of several, all of 2
  EXPECT_EQ(dry_penalty({2, 3, 0, 1, 2, 3, 5, 1, 2}, 3, dry), 0.5);     // of 1 and 2
  EXPECT_EQ(dry_penalty({7, 7, 7, 7}, 7, dry), 1);                      // overlaps itself: n = 3
  EXPECT_EQ(dry_penalty({1}, 1, dry), 0);
  EXPECT_EQ(dry_penalty({}, 1, dry), 0);
  SamplerOptions one = dry;
  one.dry_allowed_length = 1;
  EXPECT_EQ(dry_penalty({2, 3, 4, 1, 2}, 3, one), 0.5);
}

TEST(Sampler, DryStopsAtBreakersAndTheWindow) {
  SamplerOptions dry{.dry_multiplier = 0.5, .dry_base = 2, .dry_allowed_length = 1};
  const Ids text{0, 1, 2, 3, 4, 0, 1, 2};
  EXPECT_EQ(dry_penalty(text, 3, dry), 2);
  dry.dry_breakers = {1};
  EXPECT_EQ(dry_penalty(text, 3, dry), 0.5);  // only the 2 behind it repeats
  dry.dry_breakers = {8, 2};
  EXPECT_EQ(dry_penalty(text, 3, dry), 0);  // the text ends in one
  dry.dry_breakers = {3};
  EXPECT_EQ(dry_penalty(text, 3, dry), 0);  // a breaker is not penalised
  dry.dry_breakers = {};
  dry.penalty_window = 7;
  EXPECT_EQ(dry_penalty(text, 3, dry), 1);  // the first 0 is out of sight
  dry.penalty_window = 5;
  EXPECT_EQ(dry_penalty(text, 3, dry), 0);
}

TEST(Sampler, DryCountsAtMostFifty) {
  Ids text(200, 5);
  SamplerOptions dry{.temperature = 0, .dry_multiplier = 1, .dry_base = 1.05, .dry_allowed_length = 1};
  EXPECT_NEAR(dry_penalty(text, 5, dry), std::pow(1.05, 49), 0.01);
  dry.dry_base = 1e300;  // a penalty beyond all floats, and the only token: still drawn
  Sampler sampler(dry, 10);
  sampler.read(text);
  std::vector<uint8_t> only(10, 0);
  only[5] = 1;
  EXPECT_EQ(sampler.draw(std::vector<float>(10, 0.0F), only), 5);
}

TEST(Sampler, BiasComesBeforePenaltiesAndPenaltiesBeforeTemperature) {
  // (1 + 3) / 2 = 2 with the bias first, 1 / 2 + 3 otherwise.
  expect_shares({1, 2}, {.temperature = 2, .repetition_penalty = 2, .logit_bias = {{0, 3}}}, {1, 1}, {0});
  expect_shares({4, 1}, {.temperature = 2, .repetition_penalty = 2}, {std::exp(1.0), std::exp(0.5)}, {0});
}

TEST(Sampler, DrawsAreAFunctionOfSeedAndIndex) {
  const std::vector<float> logits = log_of(kFive);
  const auto draws = [&](SamplerOptions o, size_t skip) {
    Sampler sampler(o, 5);
    Ids ids;
    for (int i = 0; i < 40; ++i) ids.push_back(sampler.draw(logits));
    for (size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(ids[i], sample(logits, o, static_cast<int64_t>(i)));
    return Ids(ids.begin() + static_cast<int64_t>(skip), ids.end());
  };
  const SamplerOptions o{.temperature = 1, .xtc_probability = 0.5, .xtc_threshold = 0.2, .seed = 11};
  EXPECT_EQ(draws(o, 0), draws(o, 0));
  SamplerOptions other = o;
  other.seed = 12;
  EXPECT_NE(draws(o, 0), draws(other, 0));
  // A sampler among others, and a copy, draw as one alone.
  Sampler a(o, 5), b(other, 5);
  for (int64_t i = 0; i < 20; ++i) {
    EXPECT_EQ(a.draw(logits), sample(logits, o, i));
    b.draw(logits);
    Sampler copy = a;
    EXPECT_EQ(copy.draw(logits), sample(logits, o, i + 1));
  }
}

TEST(Sampler, BadLogits) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
  for (double temperature : {0.0, 1.0}) {
    const SamplerOptions o{.temperature = temperature, .top_p = 0.9};
    EXPECT_EQ(sample(std::vector<float>{kNan, -3, kNan}, o, 0), 1);
    EXPECT_EQ(sample(std::vector<float>{3, kInf, -kInf}, o, 0), 1);
    EXPECT_PRED2(has, error_of([&] { sample(std::vector<float>{kNan, -kInf}, o, 0); }), "every token is forbidden");
    Sampler sampler(o, 2);
    EXPECT_PRED2(has, error_of([&] {
                   sampler.draw(std::vector<float>{1, 2}, std::vector<uint8_t>{0, 0});
                 }),
                 "every token is forbidden");
  }
}

TEST(Sampler, OptionsOutOfRangeAreNamed) {
  const auto message = [](const SamplerOptions& o) { return error_of([&] { Sampler sampler(o, 10); }); };
  const double nan = std::nan(""), inf = INFINITY;
  for (double wrong : {-0.1, 1.1, nan}) {
    EXPECT_PRED2(has, message({.top_p = wrong}), "top-p: expected a number from 0 to 1");
    EXPECT_PRED2(has, message({.min_p = wrong}), "min-p: expected a number from 0 to 1");
    EXPECT_PRED2(has, message({.typical_p = wrong}), "typical-p: expected a number from 0 to 1");
    EXPECT_PRED2(has, message({.xtc_probability = wrong}), "xtc-probability: expected a number from 0 to 1");
    EXPECT_PRED2(has, message({.xtc_threshold = wrong}), "xtc-threshold: expected a number from 0 to 1");
  }
  for (double wrong : {nan, inf}) {
    EXPECT_PRED2(has, message({.presence_penalty = wrong}), "presence-penalty: expected a number");
    EXPECT_PRED2(has, message({.frequency_penalty = wrong}), "frequency-penalty: expected a number");
    EXPECT_PRED2(has, message({.logit_bias = {{1, wrong}}}), "logit-bias: expected a number");
  }
  for (double wrong : {-1.0, nan, inf}) {
    EXPECT_PRED2(has, message({.temperature = wrong}), "temperature: expected a number of at least 0");
    EXPECT_PRED2(has, message({.repetition_penalty = wrong}), "repetition-penalty: expected a number above 0");
    EXPECT_PRED2(has, message({.dry_multiplier = wrong}), "dry-multiplier: expected a number of at least 0");
    EXPECT_PRED2(has, message({.dry_base = wrong}), "dry-base: expected a number of at least 1");
    EXPECT_PRED2(has, message({.mirostat_tau = wrong}), "mirostat-tau: expected a number of at least 0");
    EXPECT_PRED2(has, message({.mirostat_eta = wrong}), "mirostat-eta: expected a number of at least 0");
  }
  EXPECT_PRED2(has, message({.repetition_penalty = 0}), "repetition-penalty: expected a number above 0, found 0");
  EXPECT_PRED2(has, message({.top_k = -1}), "top-k: expected a number of at least 0, found -1");
  EXPECT_PRED2(has, message({.penalty_window = -1}), "penalty-window: expected a number of at least 0, found -1");
  EXPECT_PRED2(has, message({.dry_allowed_length = 0}), "dry-allowed-length: expected a number of at least 1");
  EXPECT_PRED2(has, message({.mirostat = 1}), "mirostat: expected 0 (off) or 2, found 1");
  EXPECT_PRED2(has, message({.dry_breakers = {10}}), "dry-breakers: token 10 is outside the vocabulary of 10");
  EXPECT_PRED2(has, message({.logit_bias = {{-1, 0}}}), "logit-bias: token -1 is outside the vocabulary of 10");
}

TEST(Sampler, BreakersAreTheTokensThatHoldATheirText) {
  const auto tokenizer = load_tokenizer(std::string(QWERKY_SOURCE_DIR) + "/models/teacher");
  const std::vector<std::string> texts{"\n", ":"};
  const Ids ids = dry_breakers(*tokenizer, texts);
  ASSERT_FALSE(ids.empty());
  size_t n = 0;
  for (int32_t id = 0; id < tokenizer->size(); ++id) {
    const std::string piece = tokenizer->piece(id);
    const bool breaks = piece.find_first_of("\n:") != piece.npos;
    EXPECT_EQ(breaks, n < ids.size() && ids[n] == id) << piece;
    n += breaks ? 1 : 0;
  }
  EXPECT_TRUE(dry_breakers(*tokenizer, {}).empty());
}

}  // namespace
}  // namespace qwerky
