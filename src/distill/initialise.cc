// SPDX-License-Identifier: MIT
#include "distill/initialise.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/parallel.h"
#include "base/random.h"

namespace qwerky {
namespace {

using Fill = std::function<double(int64_t)>;

void put(Model& m, Param& p, std::vector<float>& values) {
  m.params.set(p, Tensor(values.data(), DType::f32, p.shape));
}

void fill(Model& m, Param& p, const Fill& f) {
  std::vector<float> values(static_cast<size_t>(p.count()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(f(static_cast<int64_t>(i)));
  put(m, p, values);
}

void fill(Model& m, const std::string& name, const Fill& f) {
  if (Param* p = m.params.find(name)) fill(m, *p, f);
}

double logit(double p) { return std::log(p / (1 - p)); }

/// Rows (or columns, if fewer) orthonormal, times 0.1 · max(1, √(rows/cols)): the published LoRA initialiser.
std::vector<float> orthogonal(const Param& p, uint64_t seed) {
  const Random random(seed, hash_name(p.name));
  const int64_t rows = p.shape.dim[0], cols = p.shape.dim[1], n = std::min(rows, cols), m = std::max(rows, cols);
  std::vector<std::vector<double>> v(static_cast<size_t>(n), std::vector<double>(static_cast<size_t>(m)));
  for (int64_t i = 0; i < n; ++i) {
    auto& row = v[static_cast<size_t>(i)];
    for (int64_t j = 0; j < m; ++j) row[static_cast<size_t>(j)] = random.normal(static_cast<uint64_t>(i * m + j));
    for (int64_t k = 0; k < i; ++k) {
      const auto& before = v[static_cast<size_t>(k)];
      double dot = 0;
      for (size_t j = 0; j < row.size(); ++j) dot += row[j] * before[j];
      for (size_t j = 0; j < row.size(); ++j) row[j] -= dot * before[j];
    }
    double norm = 0;
    for (double x : row) norm += x * x;
    for (double& x : row) x /= std::sqrt(norm);
  }
  const double gain = 0.1 * std::max(1.0, std::sqrt(static_cast<double>(rows) / static_cast<double>(cols)));
  std::vector<float> values;
  values.reserve(static_cast<size_t>(rows * cols));
  for (size_t r = 0; r < static_cast<size_t>(rows); ++r)
    for (size_t c = 0; c < static_cast<size_t>(cols); ++c)
      values.push_back(static_cast<float>(gain * (rows <= cols ? v[r][c] : v[c][r])));
  return values;
}

void init_rwkv6(Model& m, int64_t layer, uint64_t seed) {
  const Config& c = m.config();
  const std::string p = mixer_prefix(layer);
  const double depth = c.layers > 1 ? static_cast<double>(layer) / static_cast<double>(c.layers - 1) : 0;
  const double last = static_cast<double>(std::max<int64_t>(c.width() - 1, 1));
  const auto small = [&](const std::string& name) {
    const Random random(seed, hash_name(p + name));
    fill(m, p + name, [&](int64_t i) { return 0.02 * random.uniform(static_cast<uint64_t>(i)) - 0.01; });
  };
  fill(m, p + "time_maa_x", [](int64_t) { return 1; });
  for (const char* name : {"time_maa_r", "time_maa_k", "time_maa_v", "time_maa_w", "time_maa_g", "time_maa_w1",
                           "time_decay_w1", "gate.weight"})
    fill(m, p + name, [](int64_t) { return 0; });
  small("time_maa_w2");
  small("time_decay_w2");
  fill(m, p + "time_decay",
       [&](int64_t n) { return -6 + 5 * std::pow(static_cast<double>(n) / last, 0.7 + 1.3 * depth); });
}

void init_rwkv7(Model& m, int64_t layer, uint64_t seed) {
  const Config& c = m.config();
  const std::string p = mixer_prefix(layer);
  const double depth = c.layers > 1 ? static_cast<double>(layer) / static_cast<double>(c.layers - 1) : 0;
  const double last = static_cast<double>(std::max<int64_t>(c.width() - 1, 1));
  fill(m, p + "w0",
       [&](int64_t n) { return -6.5 + 5 * std::pow(static_cast<double>(n) / last, 0.85 + std::sqrt(depth)); });
  fill(m, p + "a0", [](int64_t) { return 0; });
  fill(m, p + "v0", [](int64_t) { return 1; });
  fill(m, p + "k_k", [](int64_t) { return 0.85; });
  fill(m, p + "k_a", [](int64_t) { return 1; });
  for (const char* letter : {"w", "a", "v", "g"}) {
    fill(m, p + letter + "1", [](int64_t) { return 0; });
    if (Param* up = m.params.find(p + letter + "2")) {
      std::vector<float> values = orthogonal(*up, seed);
      put(m, *up, values);
    }
  }
}

/// In place: G = L Lᵀ, lower triangle. False when G is not positive definite.
bool cholesky(std::vector<double>& g, int64_t n) {
  for (int64_t j = 0; j < n; ++j) {
    double* row = g.data() + j * n;
    for (int64_t k = 0; k < j; ++k) {
      double sum = row[k];
      const double* other = g.data() + k * n;
      for (int64_t i = 0; i < k; ++i) sum -= row[i] * other[i];
      row[k] = sum / other[k];
    }
    double diagonal = row[j];
    for (int64_t i = 0; i < j; ++i) diagonal -= row[i] * row[i];
    if (!(diagonal > 0)) return false;
    row[j] = std::sqrt(diagonal);
  }
  return true;
}

void solve(const std::vector<double>& l, int64_t n, double* x) {
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t k = 0; k < i; ++k) x[i] -= l[static_cast<size_t>(i * n + k)] * x[k];
    x[i] /= l[static_cast<size_t>(i * n + i)];
  }
  for (int64_t i = n; i-- > 0;) {
    for (int64_t k = i + 1; k < n; ++k) x[i] -= l[static_cast<size_t>(k * n + i)] * x[k];
    x[i] /= l[static_cast<size_t>(i * n + i)];
  }
}

/// What the teacher has for a tensor of the student; null if nothing.
const Param* counterpart(const Model& teacher, const Param& p) {
  const Param* from = teacher.params.find(p.name);
  if (p.name == "lm_head.weight" && from == nullptr) from = teacher.params.find("model.embed_tokens.weight");
  CHECK(from == nullptr || from->shape == p.shape, p.name, ": ", from->shape.str(), " and ", p.shape.str());
  return from;
}

}  // namespace

void init_random(Model& model, uint64_t seed) {
  const double residual = 0.02 / std::sqrt(2 * static_cast<double>(model.config().layers));
  model.params.each([&](Param& p) {
    const Random random(seed, hash_name(p.name));
    if (p.name.ends_with("norm.weight") || p.name.ends_with("ln_x.weight"))
      return fill(model, p, [](int64_t) { return 1; });
    if (p.name.ends_with(".bias")) return fill(model, p, [](int64_t) { return 0; });
    const double scale = p.name.ends_with("o_proj.weight") || p.name.ends_with("down_proj.weight") ? residual : 0.02;
    fill(model, p, [&](int64_t i) { return scale * random.normal(static_cast<uint64_t>(i)); });
  });
  init_published(model, seed);
}

std::function<bool(const Param& p)> owned_by_student(const Config& config, const Recipe& recipe, const Model* teacher) {
  return [&config, &recipe, teacher](const Param& p) {
    if (teacher == nullptr || counterpart(*teacher, p) == nullptr) return true;
    for (const Stage& stage : recipe.stages)
      if (glob_match(stage.train, p.name)) return true;
    for (int64_t layer = 0; layer < config.layers; ++layer)
      if (config.is_linear(layer) && p.name.starts_with(mixer_prefix(layer))) return true;
    return false;
  };
}

std::unique_ptr<Model> make_student(const Config& config, const Recipe& recipe, const Model& teacher,
                                    const Sharding& sharding) {
  auto student = make_model(config, owned_by_student(config, recipe, &teacher), sharding);
  student->params.each([&](Param& p) {
    if (p.offset < 0) p.weight = counterpart(teacher, p)->weight;
  });
  student->decoder->set_layer_weights(teacher.layers.get());
  return student;
}

void copy_from_teacher(Model& student, const Model& teacher) {
  student.params.each([&](Param& p) {
    if (const Param* from = counterpart(teacher, p); from != nullptr && p.offset >= 0)
      student.params.set(p, teacher.stored_weight(*from));
  });
}

void read_shared_from_files(Model& student, const Model& teacher) {
  student.params.each([&](Param& p) {
    if (p.offset < 0) p.weight = teacher.stored_weight(*counterpart(teacher, p));
  });
}

void init_published(Model& student, uint64_t seed) {
  for (int64_t layer = 0; layer < student.config().layers; ++layer) {
    const MixerKind kind = student.config().mixers[static_cast<size_t>(layer)];
    if (kind == MixerKind::rwkv6) init_rwkv6(student, layer, seed);
    if (kind == MixerKind::rwkv7) init_rwkv7(student, layer, seed);
    fill(student, mixer_prefix(layer) + "ln_x.weight", [](int64_t) { return 1; });
    fill(student, mixer_prefix(layer) + "ln_x.bias", [](int64_t) { return 0; });
  }
}

double LookBack::quantile(int64_t layer, int64_t head, double share) const {
  const double* p = mass[static_cast<size_t>(layer)].data() + head * bins;
  double below = 0;
  for (int64_t lag = 0; lag < bins; ++lag) {
    if (below + p[lag] >= share) return static_cast<double>(lag) + (share - below) / p[lag];
    below += p[lag];
  }
  return static_cast<double>(bins);
}

LookBack measure_look_back(const Model& teacher, const Backend& on, const Windows& windows) {
  const Config& c = teacher.config();
  LookBack look;
  look.bins = windows.length;
  Arena scratch("calibration");
  const Tensor mass = scratch.zeros(DType::f64, {c.layers, c.heads, look.bins}),
               sink = scratch.zeros(DType::f64, {c.layers, c.heads});
  const Exec ex{on, scratch};
  for (int64_t i = 0; i < windows.count(); ++i) {
    Scope scope(scratch);
    const auto inputs = windows.inputs(i);
    const int64_t rows = static_cast<int64_t>(inputs.size());
    const Segment segment{nullptr, 0, rows};
    teacher.decoder->forward(ex, inputs, {&segment, 1}, ex.make(rows, c.hidden), [&](int64_t layer, const Io& io) {
      Scope inner(scratch);
      Tensor q, k;
      const Mixer& mixer = teacher.decoder->mixer(layer);
      mixer.query_and_key(ex, io, q, k);
      on.attention_lags(mass.matrix(layer), sink.rows(layer, 1), q, k, *mixer.attention_shape(), {&segment, 1},
                        windows.length / 2);  // rows that can look far back
    });
  }
  wait_for_device();
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    const double *p = mass.matrix(layer).as<double>(), *s = sink.rows(layer, 1).as<double>();
    look.mass.emplace_back(p, p + c.heads * look.bins);
    look.sink.emplace_back(s, s + c.heads);
  }
  for (size_t layer = 0; layer < look.mass.size(); ++layer)
    for (int64_t h = 0; h < c.heads; ++h) {
      double* p = look.mass[layer].data() + h * look.bins;
      double total = 0;
      for (int64_t lag = 0; lag < look.bins; ++lag) total += p[lag];
      if (total <= 0) {  // everything on the sink, or no row counted: nothing is known, the shortest memory serves
        p[0] = total = 1;
      }
      look.sink[layer][static_cast<size_t>(h)] /= total + look.sink[layer][static_cast<size_t>(h)];
      for (int64_t lag = 0; lag < look.bins; ++lag) p[lag] /= total;
    }
  return look;
}

void init_calibrated(Model& student, const Model& teacher, const Backend& on, const Windows& windows,
                     const Recipe& recipe) {
  constexpr double kFirstValueMix = -4;  // σ(-4) = 0.018: nearly none, with a slope left to learn from
  constexpr double kReach7 = 1.1428;     // ln 2 · e^½: half-life h needs σ(w0) = kReach7 / h
  const Config& c = student.config();
  const LookBack look = measure_look_back(teacher, on, windows);
  init_published(student, recipe.seed);
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    if (!c.is_linear(layer)) continue;
    const std::string p = mixer_prefix(layer);
    const int64_t N = c.head_dim, half = N / 2;
    // Both channels of a rotary pair decay alike; fast rotations get short half-lives.
    const auto half_life = [&](int64_t n) {
      const int64_t pair = n % N % half;
      const double share = (static_cast<double>(pair) + 0.5) / static_cast<double>(half);
      return recipe.half_life_scale * (look.quantile(layer, n / N, share) + 0.5);
    };
    fill(student, p + "time_decay",
         [&](int64_t n) { return std::min(std::log(std::log(2.0) / half_life(n)), std::log(5.0)); });
    fill(student, p + "w0", [&](int64_t n) {
      return logit(std::clamp(kReach7 / half_life(n), windows.length >= 4096 ? 1e-4 : 1e-3, 0.9));
    });
    fill(student, p + "a0", [&](int64_t) { return recipe.rate_bias; });
    fill(student, p + "v0", [&](int64_t) { return kFirstValueMix; });
    if (Param* g2 = student.params.find(p + "g2")) {  // g = ½ colsum(g2) = 1, rows distinct
      const int64_t rank = g2->shape.dim[0], A = g2->shape.dim[1];
      std::vector<float> values = orthogonal(*g2, recipe.seed);
      for (int64_t a = 0; a < A; ++a) {
        float* w = values.data() + a;
        double sum = 0;
        for (int64_t r = 0; r < rank; ++r) sum += static_cast<double>(w[r * A]);
        for (int64_t r = 0; r < rank; ++r) w[r * A] += static_cast<float>((2 - sum) / static_cast<double>(rank));
      }
      put(student, *g2, values);
    }
  }
  fit_output(student, teacher, on, windows, recipe.ridge);
}

void fit_output(Model& student, const Model& teacher, const Backend& on, const Windows& windows, double ridge) {
  const Config& c = student.config();
  const int64_t A = c.width(), D = c.hidden;
  Arena sums("output fit"), scratch("calibration");
  std::vector<Tensor> gram(static_cast<size_t>(c.layers)), cross(static_cast<size_t>(c.layers));
  for (int64_t layer = 0; layer < c.layers; ++layer)
    if (c.is_linear(layer)) {
      gram[static_cast<size_t>(layer)] = sums.zeros(on.scalar(), {A, A});
      cross[static_cast<size_t>(layer)] = sums.zeros(on.scalar(), {D, A});
      fill(student, mixer_prefix(layer) + "o_proj.bias", [](int64_t) { return 0; });  // the fit explains y whole
    }
  const Exec ex{on, scratch};
  for (int64_t i = 0; i < windows.count(); ++i) {
    Scope scope(scratch);
    const auto inputs = windows.inputs(i);
    const int64_t rows = static_cast<int64_t>(inputs.size());
    const Segment segment{nullptr, 0, rows};
    const Batch batch{&segment, 1};
    const Decoder::Shared shared = student.decoder->share(ex, batch, rows, false);
    const Tensor mixed = ex.make(rows, A), y = ex.make(rows, D);
    teacher.decoder->forward(ex, inputs, batch, ex.make(rows, D), [&](int64_t layer, const Io& io) {
      if (!c.is_linear(layer)) return;
      student.decoder->mixer(layer).forward(ex, {io.x, y, shared.rope, shared.v_first, 0, mixed}, batch);
      // linear_vjp's weight gradients are the products OᵀO and Y_Tᵀ O.
      on.linear_vjp(mixed, {},
                    std::vector{ProductVjp{{}, gram[static_cast<size_t>(layer)], {}, mixed},
                                ProductVjp{{}, cross[static_cast<size_t>(layer)], {}, io.y}},
                    Into::overwrite);
    });
  }
  wait_for_device();
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    if (!c.is_linear(layer)) continue;
    const float* g = gram[static_cast<size_t>(layer)].as<float>();
    std::vector<double> l(g, g + A * A);
    double mean = 0;
    for (int64_t n = 0; n < A; ++n) mean += l[static_cast<size_t>(n * A + n)] / static_cast<double>(A);
    for (int64_t n = 0; n < A; ++n) l[static_cast<size_t>(n * A + n)] += ridge * mean;
    if (!cholesky(l, A))
      fail("output fit of layer ", layer,
           ": the statistics are singular; use more calibration tokens or a larger ridge");
    Param& w = *student.params.find(mixer_prefix(layer) + "o_proj.weight");
    const float* b = cross[static_cast<size_t>(layer)].as<float>();
    std::vector<float> values(static_cast<size_t>(D * A));
    float* out = values.data();
    parallel_for(D, 1, [&](int64_t begin, int64_t end) {
      std::vector<double> x(static_cast<size_t>(A));
      for (int64_t d = begin; d < end; ++d) {
        std::copy(b + d * A, b + (d + 1) * A, x.begin());
        solve(l, A, x.data());
        for (int64_t n = 0; n < A; ++n) out[d * A + n] = static_cast<float>(x[static_cast<size_t>(n)]);
      }
    });
    put(student, w, values);
  }
}

}  // namespace qwerky
