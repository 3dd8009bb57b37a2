// SPDX-License-Identifier: MIT
// Losses, reductions and the optimiser of every backend this CPU can run, against the mathematics in f64.
#include "backend_check.h"

namespace qwerky {
namespace {

using testing::expect_reference;
using testing::expect_same_on_threads;
using testing::Get;
using testing::Operands;

constexpr int64_t kVocabularies[] = {1, 2, 15, 16, 17, 100, 512, 4096, 4101, 9000};

TEST(Losses, Align) {
  for (const int64_t D : {1, 8, 15, 64, 100, 896}) {
    Operands x;
    const int loss = x.add({4}), d = x.add({4, D}), ys = x.add({4, D}), yt = x.add({4, D});
    for (int64_t i = 0; i < D; ++i) x.set(ys, D + i, 0.25), x.set(yt, D + i, 0.25);  // a row without error
    expect_reference(x, 16 + double(D) / 8,
                     [=](const Backend& on, const Get& t) { on.align(t(loss), t(d), t(ys), t(yt), 3); });
    expect_reference(x, 16 + double(D) / 8,
                     [=](const Backend& on, const Get& t) { on.align(t(loss), Tensor(), t(ys), t(yt), 3); });
  }
}

TEST(Losses, CrossEntropy) {
  for (const int64_t V : kVocabularies) {
    Operands x;
    const int loss = x.add({5}), d = x.add({5, V}), logits = x.add({5, V}, -20, 20);
    const std::vector<int32_t> targets = {0, static_cast<int32_t>(V - 1), -1, static_cast<int32_t>(V / 2), -7};
    for (const bool in_place : {false, true})
      expect_reference(x, 64, [=](const Backend& on, const Get& t) {
        on.cross_entropy(t(loss), t(in_place ? logits : d), t(logits), targets, 0.7);
      });
    expect_reference(
        x, 64, [=](const Backend& on, const Get& t) { on.cross_entropy(t(loss), Tensor(), t(logits), targets, 0.7); });
  }
}

TEST(Losses, Kl) {
  for (const int64_t V : kVocabularies) {
    Operands x;
    const int loss = x.add({3}), d = x.add({3, V}), s = x.add({3, V}, -9, 9), near = x.add({3, V}, -9, 9);
    const int t = x.add({3, V}, -9, 9);
    for (int64_t i = 0; i < 3 * V; ++i)  // a student that almost agrees, but for a constant
      x.set(near, i, testing::value(x.get(t, DType::f64), i) * 1.001 + 5);
    for (const int student : {s, near}) {
      for (const bool in_place : {false, true})
        expect_reference(x, 64, [=](const Backend& on, const Get& get) {
          on.kl(get(loss), get(in_place ? student : d), get(student), get(t), 0.7);
        });
      expect_reference(
          x, 64, [=](const Backend& on, const Get& get) { on.kl(get(loss), Tensor(), get(student), get(t), 0.7); });
    }
  }
}

TEST(Losses, Argmax) {
  for (const std::string& name : available_backends()) {
    const std::unique_ptr<Backend> on = make_backend(name, Precision::f32);
    for (const int64_t V : kVocabularies) {
      Operands x;
      const int logits = x.add({40, V}, -1, 0);
      for (int64_t r = 1; r < 40; ++r) {  // in row r two equal winners, of which the first counts
        x.set(logits, r * V + (r * 37) % V, 1);
        x.set(logits, r * V + (r * 37) % V / 2, 1);
      }
      for (int64_t i = 0; i < V; ++i) x.set(logits, i, -std::numeric_limits<double>::infinity());
      std::vector<int32_t> best(40, -1);
      on->argmax(best, x.get(logits, DType::f32));
      EXPECT_EQ(best[0], 0);
      for (int64_t r = 1; r < 40; ++r) EXPECT_EQ(best[size_t(r)], (r * 37) % V / 2) << name << " V " << V;
    }
  }
}

TEST(Losses, Sums) {
  for (const int64_t n : {1, 7, 64, 4095, 4096, 4097, 100000}) {
    Operands x;
    const int in = x.add({n});
    const ReferenceOf<double> exact;
    const double sum = exact.sum(x.get(in, DType::f64)), squares = exact.sum_of_squares(x.get(in, DType::f64));
    for (const std::string& name : available_backends()) {
      const std::unique_ptr<Backend> on = make_backend(name, Precision::f32);
      // The plain loop's n additions each round a number below the running sum of magnitudes.
      const double bound = double(n) * squares * std::ldexp(1, -53);
      EXPECT_NEAR(on->sum(x.get(in, DType::f32)), sum, 4 * bound) << name;
      EXPECT_NEAR(on->sum_of_squares(x.get(in, DType::f32)), squares, bound) << name;
    }
  }
}

TEST(Losses, AdamW) {
  for (const int64_t n : {1, 13, 64, 1000})
    for (const int64_t step : {1, 2, 1000}) {
      Operands x;
      const int w = x.add({n}), dw = x.add({n}, -10, 10), m = x.add({n}), v = x.add({n}, 0, 2);
      AdamW rule;
      rule.lr = 1e-2, rule.weight_decay = 0.1, rule.step = step, rule.grad_scale = 0.25;
      expect_reference(x, 24, [=](const Backend& on, const Get& t) { on.adamw(rule, t(w), t(dw), t(m), t(v)); });
    }
}

TEST(Losses, ThreadsDoNotChangeResults) {
  const int64_t R = 64, V = 1500;
  Operands x;
  const int loss = x.add({R}), d = x.add({R, V}), s = x.add({R, V}, -9, 9), t = x.add({R, V}, -9, 9), sums = x.add({2});
  expect_same_on_threads(x, [=](const Backend& on, const Get& get) {
    on.kl(get(loss), get(d), get(s), get(t), 1);
    get(sums).as<float>()[0] = static_cast<float>(on.sum(get(s)) * 1e9);
    get(sums).as<float>()[1] = static_cast<float>(on.sum_of_squares(get(s)) * 1e9);
  });
  const std::vector<int32_t> targets(R, 3);
  expect_same_on_threads(
      x, [=](const Backend& on, const Get& get) { on.cross_entropy(get(loss), get(d), get(s), targets, 1); });
}

}  // namespace
}  // namespace qwerky
