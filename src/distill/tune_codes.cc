// SPDX-License-Identifier: MIT
#include "distill/tune_codes.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <numbers>

#include "base/parallel.h"
#include "base/random.h"
#include "distill/steps.h"
#include "tensor/panels.h"

namespace qwerky {
namespace {

/// f32 numbers with their gradient and AdamW's moments.
struct Trained {
  Tensor value, gradient, first, second;
  Trained() = default;
  Trained(Arena& arena, int64_t n)
      : value(arena.zeros(DType::f32, {n})),
        gradient(arena.zeros(DType::f32, {n})),
        first(arena.zeros(DType::f32, {n})),
        second(arena.zeros(DType::f32, {n})) {}
  void step(const Backend& on, AdamW rule, double rate) const {
    rule.lr = rate;
    on.adamw(rule, value, gradient, first, second);
  }
};

/// A matrix whose codes move.
class Codes {
 public:
  Codes(Tensor panels, Param& work, Tensor gradient, Arena& arena)
      : view_(panels),
        of_(view_.of()),
        weight_(work.weight),
        gradient_(gradient),
        codes_(arena, of_.outputs * of_.inputs),
        scales_(arena, of_.outputs * of_.groups()) {
    each([&](int64_t n, int64_t k, int64_t at, int64_t) {
      codes_.value.as<float>()[at] = static_cast<float>(view_.code(n, k));
    });
  }

  /// ŵ of the codes as they are, into the student's weight.
  void show() const {
    wait_for_device();
    each([&](int64_t n, int64_t k, int64_t at, int64_t group) {
      weight_.as<float>()[at] =
          scale(n, k, group) * static_cast<float>(code(at) - of_.zero()) + view_.minimum(n, k / of_.format.group);
    });
  }
  void step(const Backend& on, const AdamW& rule, double code_rate, double scale_rate) const {
    on.zero(scales_.gradient);
    wait_for_device();
    each([&](int64_t n, int64_t k, int64_t at, int64_t group) {
      const float d = gradient_.as<float>()[at] * scale(n, k, group);
      codes_.gradient.as<float>()[at] = d;
      scales_.gradient.as<float>()[group] += d * static_cast<float>(code(at) - of_.zero());
    });
    codes_.step(on, rule, code_rate);
    scales_.step(on, rule, scale_rate);
    wait_for_device();
    // A code that wants to leave the range waits just outside.
    each([&](int64_t, int64_t, int64_t at, int64_t) {
      float& value = codes_.value.as<float>()[at];
      value = std::clamp(value, -0.5f, static_cast<float>(of_.largest_code()) + 0.5f);
    });
  }
  /// Into the panels. Scales are rounded to f16 at last.
  void write() const {
    wait_for_device();
    each([&](int64_t n, int64_t k, int64_t at, int64_t) { view_.set_code(n, k, code(at)); });
    for (int64_t n = 0; n < of_.outputs; ++n)
      for (int64_t g = 0; g < of_.groups(); ++g)
        view_.set_scale(n, g, f16(scale(n, g * of_.format.group, n * of_.groups() + g)));
  }

 private:
  /// f(output, input, element, group of all groups); rows in parallel.
  template <class F>
  void each(const F& f) const {
    parallel_for(of_.outputs, 1 + (1 << 12) / of_.inputs, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n)
        for (int64_t k = 0; k < of_.inputs; ++k) f(n, k, n * of_.inputs + k, n * of_.groups() + k / of_.format.group);
    });
  }
  int code(int64_t at) const {
    return std::clamp(static_cast<int>(std::nearbyint(codes_.value.as<float>()[at])), 0, of_.largest_code());
  }
  float scale(int64_t n, int64_t k, int64_t group) const {
    return view_.scale(n, k / of_.format.group) * std::exp(scales_.value.as<float>()[group]);
  }

  PanelView view_;
  const PanelsOf& of_;
  Tensor weight_, gradient_;
  Trained codes_, scales_;  ///< [N, K] in codes; [N, groups], logarithms of what multiplies the stored scale
};

/// The values of a quantised model's weight, as the student's f32 rows.
void unpack(Param& to, Tensor from) {
  if (from.layout == Layout::rows) return convert(to.weight, from);
  const bool stack = from.shape.rank == 3, in_out = to.use == Use::product_in_out;
  for (int64_t i = 0; i < (stack ? from.dim(0) : 1); ++i) {
    const PanelView view(stack ? from.matrix(i) : from);
    const int64_t N = view.of().outputs, K = view.of().inputs;
    float* w = to.weight.as<float>() + i * N * K;
    for (int64_t n = 0; n < N; ++n)
      for (int64_t k = 0; k < K; ++k) w[in_out ? k * N + n : n * K + k] = view.value(n, k);
  }
}

}  // namespace

void tune_codes(const Backend& on, const Model& original, Model& quantised, const Windows& text,
                const TuneOptions& options, const Progress& progress) {
  std::vector<int64_t> full;
  for (int64_t i = 0; i < text.count(); ++i)
    if (static_cast<int64_t>(text.inputs(i).size()) == text.length) full.push_back(i);
  if (full.empty()) fail("--tune: expected text of at least ", text.length + 1, " tokens to tune on");
  const auto student = make_model(quantised.config(), true);
  Arena arena("tuning"), scratch("tuning scratch");
  const Tensor gradients = arena.zeros(DType::f32, {student->params.block_count()});
  const Exec ex{on, scratch, gradients};

  std::deque<Codes> matrices;
  std::vector<std::pair<Param*, Trained>> vectors;
  student->params.each([&](Param& p) {
    const Tensor from = quantised.params.find(p.name)->weight;
    if (!from) {
      p.weight = {};
      return;
    }
    unpack(p, from);
    const bool codes = p.use == Use::product && from.layout == Layout::panels && from.type == DType::i4;
    p.trains = codes || p.use == Use::elementwise;
    if (codes) matrices.emplace_back(from, p, ex.grad(p), arena);
    if (p.use == Use::elementwise) {
      Trained& t = vectors.emplace_back(&p, Trained(arena, p.count())).second;
      t.value = p.weight.shaped({p.count()});
      t.gradient = ex.grad(p).shaped({p.count()});
    }
  });
  const Random random(1, hash_name("tune codes"));
  std::vector<int32_t> ids;
  for (int64_t step = 0; step < options.steps; ++step) {
    ids.clear();
    for (int64_t i = 0; i < options.batch; ++i) {
      const int64_t window = full[random.below(static_cast<uint64_t>(step * options.batch + i), full.size())];
      const auto inputs = text.inputs(window);
      ids.insert(ids.end(), inputs.begin(), inputs.end());
      ids.push_back(text.targets(window).back());
    }
    for (const Codes& m : matrices) m.show();
    on.zero(gradients);
    const double rows = static_cast<double>(options.batch * text.length);
    kl_step(ex, *original.decoder, *student->decoder, {ids, options.batch, text.length}, 1 / rows, false, 0);
    const double fall =
        0.5 * (1 + std::cos(std::numbers::pi * static_cast<double>(step) / static_cast<double>(options.steps)));
    const AdamW rule{.step = step + 1};
    for (const Codes& m : matrices) m.step(on, rule, fall * options.code_rate, fall * options.scale_rate);
    for (const auto& [p, t] : vectors) t.step(on, rule, fall * options.vector_rate);
    if (progress) progress(step + 1, options.steps);
  }
  for (const Codes& m : matrices) m.write();
  for (const auto& [p, t] : vectors) convert(quantised.params.find(p->name)->weight, p->weight);
}

}  // namespace qwerky
