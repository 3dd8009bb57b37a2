// SPDX-License-Identifier: MIT
// Step 0 of a conversion: published formulas, and what a calibrated start promises exactly.
#include "distill/initialise.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"
#include "expect_error.h"

namespace qwerky {
namespace {

constexpr int64_t kVocab = 23, kWindow = 48;

Json tiny_config(const std::string& type = "qwen2") {
  return {{"model_type", type},       {"hidden_size", 32},      {"intermediate_size", 24},
          {"vocab_size", kVocab},     {"num_hidden_layers", 3}, {"num_attention_heads", 4},
          {"num_key_value_heads", 2}, {"head_dim", 8},          {"max_position_embeddings", 128},
          {"rms_norm_eps", 1e-5}};
}

std::unique_ptr<Model> make_teacher(const std::string& type = "qwen2") {
  auto model = make_model(read_config(tiny_config(type), nullptr), true);
  init_random(*model, 3);
  model->params.each([](Param& p) {
    const Random random(11, hash_name(p.name));
    for (int64_t i = 0; i < p.count(); ++i) {
      float& w = p.weight.as<float>()[i];
      w = p.name.ends_with(".bias")         ? static_cast<float>(0.3 * random.normal(static_cast<uint64_t>(i)))
          : p.name.ends_with("norm.weight") ? w
                                            : 8 * w;
    }
  });
  return model;
}

struct Calibrated {
  std::unique_ptr<Backend> on = make_backend("auto", Precision::f32);
  std::unique_ptr<Model> teacher = make_teacher();
  std::vector<int32_t> ids;
  Recipe recipe{.name = "test", .seed = 5, .stages = {}};

  Calibrated() {
    const Random random(2);
    for (uint64_t i = 0; i < 32 * kWindow + 1; ++i) ids.push_back(static_cast<int32_t>(random.below(i, kVocab)));
  }
  Windows windows() const { return {ids, kWindow}; }
  std::unique_ptr<Model> student(MixerKind kind, bool calibrate = true, const std::vector<int64_t>& keep = {}) const {
    auto model = make_model(student_config(teacher->config(), kind, keep), true);
    copy_from_teacher(*model, *teacher);
    if (calibrate) init_calibrated(*model, *teacher, *on, windows(), recipe);
    return model;
  }
};

std::vector<double> values(const Model& m, const std::string& name) {
  const Param* p = m.params.find(name);
  if (p == nullptr) {
    ADD_FAILURE() << "no parameter " << name;
    return {};
  }
  wait_for_device();
  return {p->weight.as<float>(), p->weight.as<float>() + p->count()};
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

TEST(Initialise, CopiesWhatTheModelsShare) {
  const Calibrated c;
  const auto student = c.student(MixerKind::rwkv7, true, {1});
  int64_t same = 0;
  c.teacher->params.each([&](const Param& p) {
    const Param* copy = student->params.find(p.name);
    ASSERT_NE(copy, nullptr) << p.name;
    if (p.name.find("o_proj") != p.name.npos && p.name.find("layers.1.") == p.name.npos) return;  // fitted
    EXPECT_EQ(std::memcmp(copy->weight.data, p.weight.data, static_cast<size_t>(p.weight.bytes())), 0) << p.name;
    ++same;
  });
  EXPECT_GT(same, 30);
}

TEST(Initialise, LookBackSumsToOne) {
  const Calibrated c;
  const LookBack look = measure_look_back(*c.teacher, *c.on, c.windows());
  ASSERT_EQ(look.mass.size(), 3u);
  EXPECT_EQ(look.bins, kWindow);
  for (int64_t layer = 0; layer < 3; ++layer)
    for (int64_t head = 0; head < 4; ++head) {
      double sum = 0;
      for (int64_t lag = 0; lag < look.bins; ++lag) {
        const double p = look.mass[static_cast<size_t>(layer)][static_cast<size_t>(head * look.bins + lag)];
        EXPECT_GE(p, 0);
        sum += p;
      }
      EXPECT_NEAR(sum, 1, 1e-9);
      const double sink = look.sink[static_cast<size_t>(layer)][static_cast<size_t>(head)];
      EXPECT_GE(sink, 0);
      EXPECT_LT(sink, 1);
      double before = 0;
      for (double share : {0.1, 0.3, 0.5, 0.7, 0.9}) {
        const double lag = look.quantile(layer, head, share);
        EXPECT_GT(lag, before);
        EXPECT_LE(lag, kWindow);
        before = lag;
      }
    }
}

TEST(Initialise, LookBackOfAUniformHead) {
  Calibrated c;
  for (int64_t layer = 0; layer < 3; ++layer)
    for (const char* name : {"q_proj.weight", "q_proj.bias"}) {
      Param& p = *c.teacher->params.find(mixer_prefix(layer) + name);
      std::fill_n(p.weight.as<float>(), p.count(), 0.0F);  // every position weighs the same
    }
  // Position t sees lags 0 … t-1 (the sink aside) with 1/(t+1) each, and the sink with 1/(t+1).
  std::vector<double> expected(kWindow);
  double sink = 0;
  for (int64_t t = kWindow / 2; t < kWindow; ++t) {
    for (int64_t lag = 0; lag < t; ++lag) expected[static_cast<size_t>(lag)] += 1.0 / static_cast<double>(t + 1);
    sink += 1.0 / static_cast<double>(t + 1);
  }
  const double total = static_cast<double>(kWindow - kWindow / 2);
  const LookBack look = measure_look_back(*c.teacher, *c.on, c.windows());
  for (size_t lag = 0; lag < expected.size(); ++lag)
    EXPECT_NEAR(look.mass[1][lag], expected[lag] / (total - sink), 1e-6) << lag;
  EXPECT_NEAR(look.sink[2][3], sink / total, 1e-6);
}

TEST(Initialise, HalfLivesAreTheLookBack) {
  const Calibrated c;
  const LookBack look = measure_look_back(*c.teacher, *c.on, c.windows());
  const auto six = c.student(MixerKind::rwkv6), seven = c.student(MixerKind::rwkv7);
  int64_t exact = 0;
  for (int64_t layer = 0; layer < 3; ++layer) {
    const auto decay = values(*six, mixer_prefix(layer) + "time_decay"),
               w0 = values(*seven, mixer_prefix(layer) + "w0");
    ASSERT_EQ(decay.size(), 32u);
    for (int64_t n = 0; n < 32; ++n) {
      const int64_t pair = n % 8 % 4;
      const double h = look.quantile(layer, n / 8, (static_cast<double>(pair) + 0.5) / 4) + 0.5;
      const double w6 = std::exp(std::max(-std::exp(decay[static_cast<size_t>(n)]), -5.0));
      const double w7 = std::exp(-std::exp(-0.5) * sigmoid(w0[static_cast<size_t>(n)]));
      EXPECT_NEAR(std::pow(w6, h), 0.5, 0.005) << "layer " << layer << " channel " << n;
      if (h >= 1.1428 / 0.9 && h <= 1.1428 / 1e-3) {  // within reach
        EXPECT_NEAR(std::pow(w7, h), 0.5, 0.005) << "layer " << layer << " channel " << n;
        ++exact;
      }
      EXPECT_GT(w7, std::exp(-std::exp(-0.5)));
      EXPECT_LT(w7, 1);
    }
  }
  EXPECT_GT(exact, 48);
}

TEST(Initialise, GatesAreNeutral) {
  const Calibrated c;
  const auto six = c.student(MixerKind::rwkv6), seven = c.student(MixerKind::rwkv7);
  for (int64_t layer = 0; layer < 3; ++layer) {
    const std::string p = mixer_prefix(layer);
    for (double w : values(*six, p + "gate.weight")) EXPECT_EQ(w, 0);  // σ(0) = ½ exactly
    for (double w : values(*seven, p + "g1")) EXPECT_EQ(w, 0);
    const auto g2 = values(*seven, p + "g2");
    const size_t A = 32, rank = g2.size() / A;
    double most = 0;
    for (size_t a = 0; a < A; ++a) {
      double sum = 0;
      for (size_t r = 0; r < rank; ++r) sum += 0.5 * g2[r * A + a];
      most = std::max(most, std::abs(sum - 1));
    }
    EXPECT_LT(most, 1e-6);
    EXPECT_NE(std::vector(g2.begin(), g2.begin() + 32),
              std::vector(g2.begin() + 32, g2.begin() + 64));  // rows stay distinct
  }
}

TEST(Initialise, CalibratedConstants) {
  const Calibrated c;
  const auto seven = c.student(MixerKind::rwkv7);
  for (int64_t layer = 0; layer < 3; ++layer)
    for (double a : values(*seven, mixer_prefix(layer) + "a0")) EXPECT_EQ(a, c.recipe.rate_bias);
  for (int64_t layer = 1; layer < 3; ++layer) {
    for (double v : values(*seven, mixer_prefix(layer) + "v0")) EXPECT_EQ(v, -4);  // a mix of 0.018
    for (double v : values(*seven, mixer_prefix(layer) + "v1")) EXPECT_EQ(v, 0);
  }
}

/// Σ over a layer's rows of ‖y_T - y_S‖² / ‖y_T‖², on the text of the fit.
std::vector<double> unexplained(const Calibrated& c, const Model& student) {
  return compare(*c.on, *c.teacher->decoder, *student.decoder, c.windows(), true).unexplained;
}

TEST(Initialise, OutputFitNeverHurtsOnItsText) {
  const Calibrated c;
  for (MixerKind kind : {MixerKind::rwkv6, MixerKind::rwkv7}) {
    const auto fitted = c.student(kind), plain = c.student(kind);
    for (int64_t layer = 0; layer < 3; ++layer) {  // back to the teacher's projection
      const std::string name = mixer_prefix(layer) + "o_proj.weight";
      convert(plain->params.find(name)->weight, c.teacher->params.find(name)->weight);
    }
    const auto with = unexplained(c, *fitted), without = unexplained(c, *plain);
    for (size_t layer = 0; layer < 3; ++layer) {
      EXPECT_LT(with[layer], without[layer]) << name_of(kind) << " layer " << layer;
      EXPECT_LT(with[layer], 1) << name_of(kind) << " layer " << layer;  // no worse than no mixer at all
    }
  }
}

TEST(Initialise, OutputFitRecoversAProjection) {
  // A student that differs from a twin only in its output projection: the fit on the twin finds it.
  const Calibrated c;
  const auto student = c.student(MixerKind::rwkv6, false);
  init_published(*student, 1);
  const auto before = values(*student, mixer_prefix(1) + "o_proj.weight");
  Param& w = *student->params.find(mixer_prefix(1) + "o_proj.weight");
  std::fill_n(w.weight.as<float>(), w.count(), 0.0F);
  const auto twin = make_model(student->config(), true);
  copy_from_teacher(*twin, *student);
  Param& there = *twin->params.find(mixer_prefix(1) + "o_proj.weight");
  for (int64_t i = 0; i < there.count(); ++i)
    there.weight.as<float>()[i] = static_cast<float>(before[static_cast<size_t>(i)]);
  fit_output(*student, *twin, *c.on, c.windows(), 1e-9);
  wait_for_device();
  double error = 0, size = 0;
  for (int64_t i = 0; i < w.count(); ++i) {
    error += std::pow(static_cast<double>(w.weight.as<float>()[i]) - before[static_cast<size_t>(i)], 2);
    size += std::pow(before[static_cast<size_t>(i)], 2);
  }
  EXPECT_LT(error, 1e-3 * size);
}

TEST(Initialise, PublishedValues) {
  const Calibrated c;
  const auto six = c.student(MixerKind::rwkv6, false), seven = c.student(MixerKind::rwkv7, false);
  init_published(*six, 1), init_published(*seven, 1);
  for (int64_t layer = 0; layer < 3; ++layer) {
    const std::string p = mixer_prefix(layer);
    const double depth = static_cast<double>(layer) / 2;
    const auto decay = values(*six, p + "time_decay"), w0 = values(*seven, p + "w0");
    EXPECT_FLOAT_EQ(static_cast<float>(decay.front()), -6);
    EXPECT_FLOAT_EQ(static_cast<float>(decay.back()), -1);
    EXPECT_NEAR(decay[10], -6 + 5 * std::pow(10.0 / 31, 0.7 + 1.3 * depth), 1e-6);
    EXPECT_FLOAT_EQ(static_cast<float>(w0.front()), -6.5);
    EXPECT_FLOAT_EQ(static_cast<float>(w0.back()), -1.5);
    EXPECT_NEAR(w0[10], -6.5 + 5 * std::pow(10.0 / 31, 0.85 + std::sqrt(depth)), 1e-6);
    for (double a : values(*seven, p + "a0")) EXPECT_EQ(a, 0);
    if (layer > 0) {
      for (double v : values(*seven, p + "v0")) EXPECT_EQ(v, 1);
    }
    for (double x : values(*six, p + "time_maa_x")) EXPECT_EQ(x, 1);
    for (const char* zero : {"time_maa_r", "time_maa_k", "time_maa_v", "time_maa_w", "time_maa_g", "time_maa_w1",
                             "time_decay_w1", "gate.weight"})
      for (double x : values(*six, p + zero)) EXPECT_EQ(x, 0) << zero;
    for (const char* small : {"time_maa_w2", "time_decay_w2"})
      for (double x : values(*six, p + small)) EXPECT_LE(std::abs(x), 0.01) << small;
    // g2 is orthogonal: rows (here as many as columns) of one length, at right angles.
    const Param& g2 = *seven->params.find(p + "g2");
    const int64_t rank = g2.shape.dim[0], A = g2.shape.dim[1];
    ASSERT_LE(rank, A);
    const auto g = values(*seven, p + "g2");
    for (int64_t i = 0; i < rank; ++i)
      for (int64_t j = 0; j < rank; ++j) {
        double dot = 0;
        for (int64_t a = 0; a < A; ++a) dot += g[static_cast<size_t>(i * A + a)] * g[static_cast<size_t>(j * A + a)];
        EXPECT_NEAR(dot, i == j ? 0.01 : 0, 1e-6);
      }
  }
}

TEST(Initialise, IsAFunctionOfTheSeed) {
  const Calibrated c;
  const auto a = c.student(MixerKind::rwkv7), b = c.student(MixerKind::rwkv7);
  const Tensor x = a->params.block(), y = b->params.block();
  EXPECT_EQ(std::memcmp(x.data, y.data, static_cast<size_t>(x.bytes())), 0);
  init_published(*b, 6);
  EXPECT_NE(values(*a, mixer_prefix(0) + "g2"), values(*b, mixer_prefix(0) + "g2"));
}

/// RWKV-7 without removal (a = 0) is RWKV-6 with rotary positions, no token shift and the same decays.
TEST(Initialise, Rwkv7WithoutRemovalIsRwkv6) {
  const Calibrated c;
  Config six = student_config(c.teacher->config(), MixerKind::rwkv6, {}),
         seven = student_config(c.teacher->config(), MixerKind::rwkv7, {});
  six.token_shift = false, six.rope_in_rwkv = true;
  six.gate = seven.gate = GateKind::none;
  const auto a = make_model(six, true), b = make_model(seven, true);
  for (Model* m : {a.get(), b.get()}) copy_from_teacher(*m, *c.teacher), init_published(*m, 1);
  for (int64_t layer = 0; layer < 3; ++layer) {
    const std::string p = mixer_prefix(layer);
    const auto set = [&](Model& m, const std::string& name, const std::function<double(int64_t)>& f) {
      if (Param* q = m.params.find(p + name))
        for (int64_t i = 0; i < q->count(); ++i) q->weight.as<float>()[i] = static_cast<float>(f(i));
    };
    const auto log_w = [](int64_t n) { return -0.02 - 0.015 * static_cast<double>(n); };  // of channel n
    set(*a, "time_decay", [&](int64_t n) { return std::log(-log_w(n)); });
    set(*b, "w0", [&](int64_t n) {
      const double s = -log_w(n) * std::exp(0.5);
      return std::log(s / (1 - s));
    });
    set(*b, "a0", [](int64_t) { return -30; });
    set(*b, "v0", [](int64_t) { return -40; });  // no value of the first layer
  }
  const Comparison d = compare(*c.on, *a->decoder, *b->decoder, c.windows(), true);
  for (double x : d.unexplained) EXPECT_LT(std::sqrt(x), 1e-5);
  EXPECT_LT(d.kl, 1e-8);
  EXPECT_NEAR(d.ratio(), 1, 1e-5);
}

TEST(Initialise, SingularStatisticsAreAnError) {
  const Calibrated c;
  const auto student = c.student(MixerKind::rwkv6, false);
  init_published(*student, 1);
  const Windows few{std::span(c.ids).first(4), kWindow};  // 3 rows for 32 unknowns
  EXPECT_PRED2(testing::has, testing::error_of([&] { fit_output(*student, *c.teacher, *c.on, few, 0); }),
               "output fit of layer 0");
}

}  // namespace
}  // namespace qwerky
