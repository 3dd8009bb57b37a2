// SPDX-License-Identifier: MIT
// Quantisers: what calibration gains on correlated inputs, and whole models.
#include "engine/quantize.h"

#include <gtest/gtest.h>

#include <cmath>

#include "backend/reference_panels.h"
#include "base/random.h"
#include "data.h"
#include "distill/tune_codes.h"
#include "engine/engine.h"
#include "expect_error.h"
#include "tiny_model.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::has;
using testing::scratch_dir;

/// Inputs that are mixtures of a few sources and noise, and Σ x xᵀ of them.
struct Inputs {
  std::vector<std::vector<double>> rows;
  std::vector<double> gram;
  /// The same sources whatever the seed.
  Inputs(int64_t n, int64_t K, uint64_t seed) : gram(static_cast<size_t>(K * K)) {
    const Random sources(7), random(seed);
    uint64_t i = 0;
    std::vector<double> mix(static_cast<size_t>(6 * K));
    for (double& m : mix) m = sources.normal(i++);
    for (int64_t r = 0; r < n; ++r) {
      std::vector<double> x(static_cast<size_t>(K));
      for (double& v : x) v = 0.3 * random.normal(i++);
      for (int64_t s = 0; s < 6; ++s) {
        const double source = random.normal(i++);
        for (int64_t k = 0; k < K; ++k) x[static_cast<size_t>(k)] += source * mix[static_cast<size_t>(s * K + k)];
      }
      for (int64_t a = 0; a < K; ++a)
        for (int64_t b = 0; b < K; ++b)
          gram[static_cast<size_t>(a * K + b)] += x[static_cast<size_t>(a)] * x[static_cast<size_t>(b)];
      rows.push_back(std::move(x));
    }
  }
};

std::vector<float> weights(int64_t n, uint64_t seed) {
  std::vector<float> w(static_cast<size_t>(n));
  const Random random(seed);
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(0.1 * random.normal(i));
  return w;
}

Tensor rounded(Arena& arena, const PanelFormat& format, const std::vector<float>& w, int64_t N, int64_t K) {
  const Tensor panels = arena.panels(format, {N, K});
  reference_panels::pack_matrix(panels, [&](int64_t n, int64_t k) { return w[static_cast<size_t>(n * K + k)]; });
  return panels;
}

/// Σ over inputs and outputs of ((w - ŵ) x)².
double output_error(Tensor panels, const std::vector<float>& w, const Inputs& x) {
  const PanelView view(panels);
  const int64_t N = view.of().outputs, K = view.of().inputs;
  double error = 0;
  for (const auto& row : x.rows)
    for (int64_t n = 0; n < N; ++n) {
      double y = 0;
      for (int64_t k = 0; k < K; ++k)
        y += (static_cast<double>(w[static_cast<size_t>(n * K + k)]) - static_cast<double>(view.value(n, k))) *
             row[static_cast<size_t>(k)];
      error += y * y;
    }
  return error;
}

const PanelFormat kInt4{DType::i4, 32, false}, kInt4Minimum{DType::i4, 32, true}, kInt8{DType::i8, 64, false};

TEST(QuantizeMatrix, InverseFactor) {
  const int64_t K = 37;
  Inputs x(60, K, 5);
  damp(x.gram, K);
  const std::vector<float> u = inverse_factor(x.gram, K);
  // (Uᵀ U) G = 1
  for (int64_t i = 0; i < K; ++i)
    for (int64_t j = 0; j < K; ++j) {
      double sum = 0;
      for (int64_t a = 0; a < K; ++a)
        for (int64_t k = 0; k <= std::min(i, a); ++k)
          sum += static_cast<double>(u[static_cast<size_t>(k * K + i)]) *
                 static_cast<double>(u[static_cast<size_t>(k * K + a)]) * x.gram[static_cast<size_t>(a * K + j)];
      EXPECT_NEAR(sum, i == j ? 1 : 0, 1e-3) << i << ", " << j;
      if (j < i) {
        EXPECT_EQ(u[static_cast<size_t>(i * K + j)], 0) << "below the diagonal";
      }
    }
}

TEST(QuantizeMatrix, CalibrationReducesTheOutputError) {
  const int64_t N = 70, K = 83;  // incomplete panels and groups
  const Inputs seen(400, K, 1), fresh(400, K, 2);
  const std::vector<float> w = weights(N * K, 2);
  for (const PanelFormat& format : {kInt4, kInt4Minimum, kInt8}) {
    Arena arena;
    const double plain = output_error(rounded(arena, format, w, N, K), w, fresh);
    const Tensor scaled = arena.panels(format, {N, K}), feedback = arena.panels(format, {N, K});
    quantize_matrix(scaled, w, seen.gram, Calibration::scale);
    quantize_matrix(feedback, w, seen.gram, Calibration::gptq);
    const double scale = output_error(scaled, w, fresh), gptq = output_error(feedback, w, fresh);
    EXPECT_LT(scale, 0.97 * plain) << name_of(format);
    EXPECT_LT(gptq, 0.5 * scale) << name_of(format);
    // What padding holds must be what Backend::pack would leave.
    for (const Tensor& t : {scaled, feedback}) {
      const Tensor zeros = rounded(arena, format, std::vector<float>(w.size()), N, K);
      const PanelView a(t), b(zeros);
      for (int64_t n = 0; n < N; ++n)
        for (int64_t k = 0; k < K; ++k) a.set_code(n, k, b.code(n, k));
      for (int64_t n = 0; n < N; ++n)
        for (int64_t g = 0; g < a.of().groups(); ++g) {
          a.set_scale(n, g, f16());
          b.set_scale(n, g, f16());  // which packing made -0
          if (format.minimum) a.set_minimum(n, g, f16());
        }
      EXPECT_EQ(std::memcmp(t.data, zeros.data, static_cast<size_t>(t.bytes())), 0) << name_of(format);
    }
  }
}

TEST(QuantizeMatrix, ExactWhereTheGridHoldsTheWeights) {
  const int64_t N = 5, K = 64;
  std::vector<float> w(static_cast<size_t>(N * K));
  for (size_t i = 0; i < w.size(); ++i) w[i] = 0.25f * static_cast<float>(static_cast<int>(i * 7 % 16) - 8);
  Inputs x(100, K, 9);
  for (const Calibration how : {Calibration::scale, Calibration::gptq}) {
    Arena arena;
    const Tensor panels = arena.panels(kInt4, {N, K});
    quantize_matrix(panels, w, x.gram, how);
    EXPECT_EQ(output_error(panels, w, x), 0);
  }
}

TEST(QuantizeMatrix, InputsThatNeverCame) {
  const int64_t N = 3, K = 40;
  const std::vector<float> w = weights(N * K, 4);
  Arena arena;
  for (const Calibration how : {Calibration::scale, Calibration::gptq}) {
    const Tensor nothing = arena.panels(kInt4, {N, K}), zeros = arena.panels(kInt4, {N, K});
    quantize_matrix(nothing, w, {}, how);
    quantize_matrix(zeros, w, std::vector<double>(static_cast<size_t>(K * K)), how);
    for (const Tensor& t : {nothing, zeros}) {
      const PanelView view(t);
      for (int64_t n = 0; n < N; ++n)
        for (int64_t k = 0; k < K; ++k) EXPECT_NEAR(view.value(n, k), w[static_cast<size_t>(n * K + k)], 0.06);
    }
  }
}

Path make_directory(const std::string& type, bool tied) {
  return testing::tiny_model("quantize-" + type + (tied ? "-tied" : ""), type, tied, 61);
}

std::vector<int32_t> some_ids(size_t n, uint64_t seed) {
  std::vector<int32_t> ids;
  const Random random(seed);
  for (size_t i = 0; i < n; ++i) ids.push_back(static_cast<int32_t>(random.below(i, 61)));
  return ids;
}

TEST(Quantize, CalibrationLowersTheCostOfEveryModel) {
  const auto text = some_ids(2049, 1), other = some_ids(1025, 2);
  const Windows calibrate(text, 32), measure(other, 32), none({}, 32);
  for (const char* type : {"qwen2", "rwkv6qwen2", "rwkv7qwen2"})
    for (const bool tied : {false, true}) {
      const Path dir = make_directory(type, tied);
      const std::string file = (dir / "m.qwk").string(), label = concat(type, tied ? ", tied" : "");
      const Checkpoint checkpoint = open_checkpoint(dir);
      const Quantized plain = quantize(checkpoint, {}, none, measure, {}, file);
      EXPECT_EQ(plain.calibration, Calibration::none);
      const Quantized done = quantize(checkpoint, {}, calibrate, measure, {{"note", "kept"}}, file);
      EXPECT_LT(done.cost.kl, 0.8 * plain.cost.kl) << label;
      const Quantized eight = quantize(checkpoint, {.type = "int8"}, calibrate, measure, {}, file + "8");
      EXPECT_LT(eight.cost.kl, 0.05 * plain.cost.kl) << label;

      // The card tells what was measured, and the file gives it again.
      const Checkpoint written = open_checkpoint(file);
      const Json& card = written.packed->card();
      EXPECT_EQ(card["note"], "kept");
      EXPECT_EQ(card["calibration"], "gptq");
      EXPECT_EQ(card["type"], "int4 in groups of 32");
      EXPECT_EQ(card["measured"]["kl"].get<double>(), done.cost.kl);
      const auto backend = make_backend("auto", Precision::f32);
      const auto model = load_model(written, {.need_tokenizer = false, .pack_for = backend.get()});
      EXPECT_EQ(score(*backend, *model->decoder, measure).nll, done.cost.student.nll) << label;
    }
}

TEST(Quantize, PassesOverSeveralLayersAgree) {
  // With all layers in one pass the inputs are those of the unquantised model: other codes, a similar cost.
  const Path dir = make_directory("rwkv7qwen2", true);
  const auto text = some_ids(2049, 1), other = some_ids(1025, 2);
  const Windows calibrate(text, 32), measure(other, 32);
  const Checkpoint checkpoint = open_checkpoint(dir);
  const double one = quantize(checkpoint, {}, calibrate, measure, {}, (dir / "1.qwk").string()).cost.kl,
               all = quantize(checkpoint, {.layers_at_once = 9}, calibrate, measure, {}, (dir / "2.qwk").string())
                         .cost.kl;
  EXPECT_NE(one, all);
  EXPECT_LT(std::abs(std::log(one / all)), 0.5);
}

TEST(Quantize, TuningLowersTheCost) {
  const auto text = some_ids(32769, 1), other = some_ids(1025, 2);
  const Windows calibrate(text, 32), measure(other, 32);
  const auto backend = make_backend("auto", Precision::f32);
  for (const char* type : {"qwen2", "rwkv7qwen2"}) {
    const Path dir = make_directory(type, true);
    const Checkpoint checkpoint = open_checkpoint(dir);
    for (const bool minimum : {false, true}) {
      const QuantizeOptions options{.minimum = minimum};
      const double before = quantize(checkpoint, options, calibrate, measure, {}, (dir / "a.qwk").string()).cost.kl;
      const Improve tune = [&](const Model& original, Model& quantized) {
        tune_codes(*backend, original, quantized, calibrate, {.steps = 200});
      };
      const double after =
          quantize(checkpoint, options, calibrate, measure, {}, (dir / "b.qwk").string(), nullptr, tune).cost.kl;
      EXPECT_LT(after, 0.9 * before) << type;
    }
  }
}

TEST(Quantize, RefusesBadInput) {
  const Path dir = make_directory("qwen2", true);
  const std::string file = (dir / "m.qwk").string();
  const Checkpoint checkpoint = open_checkpoint(dir);
  const Windows none({}, 32);
  const auto with = [&](const QuantizeOptions& options) {
    return error_of([&] { quantize(checkpoint, options, none, none, {}, file); });
  };
  EXPECT_PRED2(has, with({.type = "q4"}), "--type: expected int8 or int4, found \"q4\"");
  EXPECT_PRED2(has, with({.type = "bf16"}), "--type: expected int8 or int4");
  EXPECT_PRED2(has, with({.head = "none"}), "--head: expected");
  EXPECT_PRED2(has, with({.low_rank = "x"}), "--low-rank: expected");
  EXPECT_PRED2(has, with({.embedding = "int8"}), "--embedding: the embedding is the head of this model; use --head");
  Config untied = read_config(checkpoint.config, nullptr);
  untied.tied = false;
  EXPECT_PRED2(has, error_of([&] { quantized_formats({.embedding = "x"}, untied); }), "--embedding: expected");
  EXPECT_EQ(quantized_formats({}, untied).table->type, DType::i8);
  EXPECT_EQ(quantized_formats({.embedding = "bf16"}, untied).table->type, DType::bf16);
  EXPECT_PRED2(has, with({.group = 16}), "--group: expected 32, 64 or 128, found 16");
  EXPECT_PRED2(has, with({.type = "int8", .minimum = true}), "--minimum");
  EXPECT_PRED2(has, error_of([] { calibration_named("awq", "--calibrate"); }), "--calibrate: expected none, scale");
  EXPECT_FALSE(std::filesystem::exists(file));
  quantize(checkpoint, {}, none, none, {}, file);
  EXPECT_PRED2(has, error_of([&] { quantize(open_checkpoint(file), {}, none, none, {}, file); }),
               "packed model already");
  const auto ids = some_ids(20, 1);
  const Windows too_short(ids, 32);
  const auto backend = make_backend("auto", Precision::f32);
  const auto original = load_model(dir, {.need_tokenizer = false});
  EXPECT_PRED2(has, error_of([&] { tune_codes(*backend, *original, *original, too_short, {.steps = 1}); }),
               "at least 33 tokens");
}

}  // namespace
}  // namespace qwerky
