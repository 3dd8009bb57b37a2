// SPDX-License-Identifier: MIT
#include "engine/quantize_matrix.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/parallel.h"

namespace qwerky {
namespace {

constexpr int64_t kLanes = 8;

/// Σ a_i b_i in lanes, which the compiler may then vectorise.
double dot(const double* a, const double* b, int64_t n) {
  std::array<double, kLanes> sums{};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int64_t l = 0; l < kLanes; ++l) sums[static_cast<size_t>(l)] += a[i + l] * b[i + l];
  double total = 0;
  for (; i < n; ++i) total += a[i] * b[i];
  for (const double s : sums) total += s;
  return total;
}

/// Scale and minimum as the product sees them.
struct Grid {
  float scale = 0, minimum = 0;
};

int code_of(const PanelsOf& of, float w, const Grid& g) {
  if (g.scale == 0) return of.zero();
  const float at = std::nearbyint((w - g.minimum) / g.scale) + static_cast<float>(of.zero());
  return static_cast<int>(
      std::clamp(at, of.format.type == DType::i8 ? 1.0f : 0.0f, static_cast<float>(of.largest_code())));
}

float value_of(const PanelsOf& of, int code, const Grid& g) {
  return g.scale * static_cast<float>(code - of.zero()) + g.minimum;
}

Grid rounded(const PanelsOf& of, double scale, double minimum) {
  return {static_cast<float>(f16(static_cast<float>(scale))),
          of.format.minimum ? static_cast<float>(f16(static_cast<float>(minimum))) : 0};
}

/// Chooses the grid of a group: candidates that clip more or less, each then fitted to its codes.
class GridSearch {
 public:
  GridSearch(const PanelsOf& of, const float* w, const float* h, int64_t n) : of_(of), w_(w), h_(h), n_(n) {}

  Grid best() {
    float low = w_[0], high = w_[0];
    for (int64_t i = 1; i < n_; ++i) low = std::min(low, w_[i]), high = std::max(high, w_[i]);
    const double largest = std::max(-low, high);
    constexpr int kSteps = 20;
    for (int step = 0; step <= kSteps; ++step) {
      // int8 has codes to spare: clipping much never pays there.
      const double c = 1 - (of_.format.type == DType::i8 ? 0.1 : 0.5) * step / kSteps;
      if (of_.format.minimum) {
        const double middle = 0.5 * (low + high), half = 0.5 * c * (high - low);
        attempt(2 * half / 15, middle - half);
      } else if (of_.format.type == DType::i8) {
        attempt(c * largest / 127, 0);
      } else {
        // Codes reach from -8 to 7: either end may take the larger side.
        attempt(c * largest / 8, 0);
        attempt(-c * largest / 8, 0);
        attempt(c * largest / 7, 0);
      }
    }
    return best_;
  }

 private:
  void attempt(double scale, double minimum) {
    Grid grid = rounded(of_, scale, minimum);
    for (int round = 0; round < 2; ++round) {
      // Sums of the weighted least squares of w against the codes.
      double error = 0, h = 0, hq = 0, hqq = 0, hw = 0, hqw = 0;
      for (int64_t i = 0; i < n_; ++i) {
        const int code = code_of(of_, w_[i], grid);
        const double q = code - of_.zero(), gap = w_[i] - value_of(of_, code, grid), hi = h_[i];
        error += hi * gap * gap;
        h += hi, hq += hi * q, hqq += hi * q * q, hw += hi * w_[i], hqw += hi * q * w_[i];
      }
      if (error < least_) least_ = error, best_ = grid;
      const double determinant = h * hqq - hq * hq;
      if (of_.format.minimum ? !(determinant > 1e-9 * h * hqq) : !(hqq > 0)) return;
      grid = of_.format.minimum ? rounded(of_, (h * hqw - hq * hw) / determinant, (hqq * hw - hq * hqw) / determinant)
                                : rounded(of_, hqw / hqq, 0);
    }
  }

  const PanelsOf& of_;
  const float *w_, *h_;
  int64_t n_;
  double least_ = INFINITY;
  Grid best_;
};

}  // namespace

Calibration calibration_named(const std::string& name, const std::string& flag) {
  if (name == "none") return Calibration::none;
  if (name == "scale") return Calibration::scale;
  if (name == "gptq") return Calibration::gptq;
  fail(flag, ": expected none, scale or gptq, found \"", name, "\"");
}

void damp(std::vector<double>& g, int64_t K) {
  constexpr double kDamping = 0.01;
  double mean = 0;
  for (int64_t k = 0; k < K; ++k) mean += g[static_cast<size_t>(k * K + k)] / static_cast<double>(K);
  for (int64_t k = 0; k < K; ++k) g[static_cast<size_t>(k * K + k)] += mean > 0 ? kDamping * mean : 1;
}

std::vector<float> inverse_factor(std::vector<double> g, int64_t K) {
  const auto at = [&](int64_t i, int64_t j) -> double& { return g[static_cast<size_t>(i * K + j)]; };
  // G = M Mᵀ, M upper triangular, from the last column to the first; then U = M⁻¹.
  for (int64_t j = K - 1; j >= 0; --j) {
    const int64_t behind = K - 1 - j;
    const double* row = &g[static_cast<size_t>(j * K + j)] + 1;
    // A damped matrix keeps its pivots positive; rounding may not make them much smaller than they can be.
    at(j, j) = std::sqrt(std::max(at(j, j) - dot(row, row, behind), 1e-9 * at(j, j)));
    parallel_for(j, 1 + (1 << 14) / (behind + 1), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        at(i, j) = (at(i, j) - dot(&g[static_cast<size_t>(i * K + j)] + 1, row, behind)) / at(j, j);
    });
  }
  std::vector<float> u(static_cast<size_t>(K * K));
  parallel_for(K, 1, [&](int64_t begin, int64_t end) {
    std::vector<double> rest(static_cast<size_t>(K));
    for (int64_t k = begin; k < end; ++k) {
      std::fill(rest.begin(), rest.end(), 0);
      rest[static_cast<size_t>(k)] = 1;
      for (int64_t i = k; i < K; ++i) {
        const double x = rest[static_cast<size_t>(i)] / at(i, i);
        const double* m = &g[static_cast<size_t>(i * K)];
        for (int64_t j = i + 1; j < K; ++j) rest[static_cast<size_t>(j)] -= x * m[j];
        u[static_cast<size_t>(k * K + i)] = static_cast<float>(x);
      }
    }
  });
  return u;
}

/// Rows of codes that are being chosen.
class RowCodes {
 public:
  RowCodes(const PanelsOf& of, const float* w)
      : of_(of), w_(w), codes_(static_cast<size_t>(of.inputs)), grids_(static_cast<size_t>(of.groups())) {}

  /// Grid of group g for its weights as they are by now.
  void choose_grid(int64_t g, const float* w, const float* h) {
    const int64_t first = g * of_.format.group;
    grids_[static_cast<size_t>(g)] =
        GridSearch(of_, w, h, std::min<int64_t>(of_.format.group, of_.inputs - first)).best();
  }
  /// Rounds input k from `w` and returns what it became.
  float choose_code(int64_t k, float w) {
    codes_[static_cast<size_t>(k)] = code_of(of_, w, grid(k));
    return value(k);
  }
  float value(int64_t k) const { return value_of(of_, codes_[static_cast<size_t>(k)], grid(k)); }

  /// Descends (w - ŵ) G (w - ŵ)ᵀ by one code, scale or minimum at a time.
  void refine(const std::vector<double>& gram) {
    constexpr int kSweeps = 8;
    const int64_t K = of_.inputs;
    rest_.assign(static_cast<size_t>(K), 0);
    slope_.assign(static_cast<size_t>(K), 0);
    for (int64_t k = 0; k < K; ++k) rest_[static_cast<size_t>(k)] = w_[k] - value(k);
    for (int64_t k = 0; k < K; ++k)
      slope_[static_cast<size_t>(k)] = dot(&gram[static_cast<size_t>(k * K)], rest_.data(), K);
    for (int sweep = 0; sweep < kSweeps; ++sweep) {
      bool changed = false;
      for (int64_t k = 0; k < K; ++k) {
        const size_t i = static_cast<size_t>(k);
        const float before = value(k);
        const int code = codes_[i];
        choose_code(k, before + static_cast<float>(slope_[i] / gram[i * static_cast<size_t>(K) + i]));
        if (codes_[i] == code) continue;
        changed = true;
        move(gram, k, value(k) - before);
      }
      for (int64_t g = 0; g < of_.groups(); ++g) fit(gram, g);
      if (!changed) break;
    }
  }

  void write(const PanelView& view, int64_t n) const {
    for (int64_t g = 0; g < of_.groups(); ++g) {
      view.set_scale(n, g, f16(grids_[static_cast<size_t>(g)].scale));
      if (of_.format.minimum) view.set_minimum(n, g, f16(grids_[static_cast<size_t>(g)].minimum));
    }
    for (int64_t k = 0; k < of_.inputs; ++k) view.set_code(n, k, codes_[static_cast<size_t>(k)]);
  }

 private:
  const Grid& grid(int64_t k) const { return grids_[static_cast<size_t>(k / of_.format.group)]; }

  /// ŵ_k grows by d.
  void move(const std::vector<double>& gram, int64_t k, float d) {
    const double* line = &gram[static_cast<size_t>(k * of_.inputs)];
    const auto step = static_cast<double>(d);
    rest_[static_cast<size_t>(k)] -= step;
    for (size_t j = 0; j < slope_.size(); ++j) slope_[j] -= step * line[j];
  }

  /// The scale of group g that is best for its codes and all other groups; where there are minima, then the minimum.
  void fit(const std::vector<double>& gram, int64_t g) {
    const int64_t K = of_.inputs, first = g * of_.format.group, last = std::min<int64_t>(K, first + of_.format.group);
    for (const bool minimum : {false, true}) {
      if (minimum && !of_.format.minimum) return;
      const auto along = [&](int64_t k) {
        return minimum ? 1.0 : static_cast<double>(codes_[static_cast<size_t>(k)] - of_.zero());
      };
      double slope = 0, curve = 0;
      for (int64_t a = first; a < last; ++a) {
        slope += along(a) * slope_[static_cast<size_t>(a)];
        for (int64_t b = first; b < last; ++b) curve += along(a) * along(b) * gram[static_cast<size_t>(a * K + b)];
      }
      if (!(curve > 0)) continue;
      Grid& grid = grids_[static_cast<size_t>(g)];
      float& field = minimum ? grid.minimum : grid.scale;
      const float before = field, after = static_cast<float>(f16(before + static_cast<float>(slope / curve)));
      if (after == before) continue;
      field = after;
      for (int64_t k = first; k < last; ++k) move(gram, k, static_cast<float>(along(k)) * (after - before));
    }
  }

  const PanelsOf& of_;
  const float* w_;
  std::vector<int> codes_;
  std::vector<Grid> grids_;
  std::vector<double> rest_, slope_;  // w - ŵ, and G (w - ŵ)
};

void quantize_matrix(Tensor panels, const std::vector<float>& w, std::vector<double> gram, Calibration how) {
  constexpr int64_t kRows = 16;  // taken together, so that a row of U is read once for all
  const PanelView view(panels);
  const PanelsOf& of = view.of();
  const int64_t N = of.outputs, K = of.inputs, group = of.format.group;
  CHECK(of.quantised() && how != Calibration::none && static_cast<int64_t>(w.size()) == N * K, "quantize ",
        panels.shape.str());
  const bool feedback = how == Calibration::gptq && !gram.empty();
  std::vector<float> h(static_cast<size_t>(K), 1.0f);
  std::vector<float> u;
  if (feedback) {
    damp(gram, K);
    u = inverse_factor(gram, K);
    for (int64_t k = 0; k < K; ++k) {
      const float d = u[static_cast<size_t>(k * K + k)];
      h[static_cast<size_t>(k)] = 1 / (d * d);
    }
  } else if (!gram.empty()) {
    double mean = 0;
    for (int64_t k = 0; k < K; ++k) mean += gram[static_cast<size_t>(k * K + k)] / static_cast<double>(K);
    // An input that never came still counts a little.
    for (int64_t k = 0; k < K && mean > 0; ++k)
      h[static_cast<size_t>(k)] = static_cast<float>(gram[static_cast<size_t>(k * K + k)] / mean + 1e-4);
  }
  view.clear();
  parallel_for((N + kRows - 1) / kRows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * kRows, rows = std::min(kRows, N - first);
      std::vector<float> rest(w.begin() + first * K, w.begin() + (first + rows) * K);
      std::vector<RowCodes> chosen;
      for (int64_t r = 0; r < rows; ++r) chosen.emplace_back(of, &w[static_cast<size_t>((first + r) * K)]);
      for (int64_t k = 0; k < K; ++k)
        for (int64_t r = 0; r < rows; ++r) {
          float* row = &rest[static_cast<size_t>(r * K)];
          RowCodes& codes = chosen[static_cast<size_t>(r)];
          if (k % group == 0) codes.choose_grid(k / group, row + k, &h[static_cast<size_t>(k)]);
          const float value = codes.choose_code(k, row[k]);
          if (!feedback) continue;
          const float* line = &u[static_cast<size_t>(k * K)];
          const float error = (row[k] - value) / line[k];
          for (int64_t j = k + 1; j < K; ++j) row[j] -= error * line[j];
        }
      for (int64_t r = 0; r < rows; ++r) {
        if (feedback) chosen[static_cast<size_t>(r)].refine(gram);
        chosen[static_cast<size_t>(r)].write(view, first + r);
      }
    }
  });
}

}  // namespace qwerky
