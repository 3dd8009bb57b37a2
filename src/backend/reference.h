// SPDX-License-Identifier: MIT
// The mathematics of every operation, in plain loops over any scalar. Fast backends override what they do better and
// are tested against this; run on std::complex<double> it yields exact derivatives (complex step), against which the
// VJPs (reference_vjp.h) are tested.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <type_traits>
#include <vector>

#include "backend/backend.h"
#include "backend/reference_panels.h"
#include "tensor/params.h"

namespace qwerky {

inline double real(double x) { return x; }
inline double real(const std::complex<double>& x) { return x.real(); }

template <class T>
class ReferenceOf : public Backend {
 public:
  /// Sums run in f64 (complex where T is), results are rounded once.
  using Acc = std::conditional_t<std::is_same_v<T, float>, double, T>;

  std::string name() const override { return "reference"; }
  DType scalar() const override { return dtype_of<T>(); }

  // Products.
  void linear(std::span<const Product> products) const override {
    for (const Product& p : products) {
      const int64_t R = p.x.row_count(), K = p.x.cols(), out = p.y.cols();
      if (p.weight.layout == Layout::panels) {
        linear_panels(p);
        continue;
      }
      for (int64_t r = 0; r < R; ++r)
        for (int64_t o = 0; o < out; ++o) {
          Acc sum = p.bias ? at(p.bias, o) : Acc(0);
          for (int64_t k = 0; k < K; ++k) sum += at(p.x, r * K + k) * at(p.weight, p.in_out ? k * out + o : o * K + k);
          put(p.y, r * out + o, sum);
        }
    }
  }

  bool prefers_panels() const override { return false; }
  void pack(Tensor panels, Tensor rows, bool in_out) const override {
    if (panels.shape.rank == 3) {
      for (int64_t i = 0; i < panels.dim(0); ++i) pack(panels.matrix(i), rows.matrix(i), in_out);
      return;
    }
    const int64_t out = panels.dim(0), K = panels.dim(1);
    CHECK(rows.count() == out * K, "pack ", rows.shape.str(), " as ", panels.shape.str());
    const auto pack_from = [&](const auto* w) {
      reference_panels::pack_matrix(
          panels, [&](int64_t n, int64_t k) { return static_cast<float>(w[in_out ? k * out + n : n * K + k]); });
    };
    switch (rows.type) {
      case DType::f32: return pack_from(rows.as<float>());
      case DType::bf16: return pack_from(rows.as<bf16>());
      case DType::f16: return pack_from(rows.as<f16>());
      default: CHECK(false, "pack from ", name_of(rows.type));
    }
  }

  void linear_vjp(Tensor x, Tensor dx, std::span<const ProductVjp> products, Into into) const override;

  void embed(Tensor y, Tensor table, std::span<const int32_t> tokens) const override {
    const int64_t D = y.cols();
    for (size_t r = 0; r < tokens.size(); ++r)
      for (int64_t i = 0; i < D; ++i)
        put(y, static_cast<int64_t>(r) * D + i,
            table.layout == Layout::panels ? Acc(PanelView(table).value(tokens[r], i)) : at(table, tokens[r] * D + i));
  }

  void embed_vjp(Tensor dtable, Tensor dy, std::span<const int32_t> tokens) const override;

  // Rows.
  void zero(Tensor y) const override { std::memset(y.data, 0, static_cast<size_t>(y.bytes())); }
  void copy(Tensor y, Tensor x) const override {
    if (y.type != x.type) return convert(y, x);
    std::memcpy(y.data, x.data, static_cast<size_t>(y.bytes()));
  }
  void add(Tensor y, Tensor x) const override {
    for (int64_t i = 0; i < y.count(); ++i) accumulate(y, i, at(x, i));
  }
  void lerp(Tensor y, Tensor x, double t) const override {
    for (int64_t i = 0; i < y.count(); ++i) accumulate(y, i, Acc(t) * (at(x, i) - at(y, i)));
  }

  void rmsnorm(Tensor y, Tensor x, Tensor gain, double eps) const override {
    const int64_t D = x.cols();
    for (int64_t r = 0; r < x.row_count(); ++r) {
      const Acc scale = inverse_rms(x, r, D, eps);
      for (int64_t i = 0; i < D; ++i) put(y, r * D + i, at(x, r * D + i) * scale * at(gain, i));
    }
  }

  void rmsnorm_vjp(Tensor dx, Tensor dgain, Tensor dy, Tensor x, Tensor gain, double eps, Into into) const override;

  void add_rmsnorm(Tensor sum, Tensor y, Tensor a, Tensor b, Tensor gain, double eps) const override {
    for (int64_t i = 0; i < sum.count(); ++i) put(sum, i, at(a, i) + at(b, i));
    rmsnorm(y, sum, gain, eps);
  }

  void groupnorm(Tensor y, Tensor x, Tensor gain, Tensor bias, int heads, double eps) const override {
    const int64_t A = x.cols(), N = A / heads;
    for (int64_t g = 0; g < x.row_count() * heads; ++g) {
      const auto [mean, scale] = moments(x, g, N, eps);
      for (int64_t i = 0; i < N; ++i) {
        const int64_t c = g % heads * N + i;
        put(y, g * N + i, (at(x, g * N + i) - mean) * scale * at(gain, c) + at(bias, c));
      }
    }
  }

  void groupnorm_vjp(Tensor dx, Tensor dgain, Tensor dbias, Tensor dy, Tensor x, Tensor gain, int heads,
                     double eps) const override;

  void activate(Tensor y, Tensor x, Activation f, int64_t first) const override {
    each_activated(y, x, first, [&](int64_t to, int64_t from) {
      put(y, to, f == Activation::tanh ? std::tanh(at(x, from)) : sigmoid(at(x, from)));
    });
  }

  void activate_vjp(Tensor dx, Tensor dy, Tensor y, Activation f, int64_t first) const override;

  void swiglu(Tensor y, Tensor gate, Tensor up) const override {
    for (int64_t i = 0; i < y.count(); ++i) put(y, i, at(gate, i) * sigmoid(at(gate, i)) * at(up, i));
  }

  void swiglu_vjp(Tensor dgate, Tensor dup, Tensor dy, Tensor gate, Tensor up) const override;

  void gate(Tensor y, Tensor o, Tensor g, bool squash) const override {
    for (int64_t i = 0; i < y.count(); ++i) put(y, i, at(o, i) * (squash ? sigmoid(at(g, i)) : at(g, i)));
  }

  void gate_vjp(Tensor d_o, Tensor dg, Tensor dy, Tensor o, Tensor g, bool squash) const override;

  // Positions.
  void rope_table(Tensor table, std::span<const double> frequencies, double magnitude, Batch batch) const override {
    const int64_t half = static_cast<int64_t>(frequencies.size());
    for (const Segment& s : batch)
      for (int64_t t = 0; t < s.rows; ++t)
        for (int64_t i = 0; i < half; ++i) {
          const double angle = static_cast<double>(s.position() + t) * frequencies[static_cast<size_t>(i)];
          put(table, (s.row + t) * 2 * half + i, Acc(magnitude * std::cos(angle)));
          put(table, (s.row + t) * 2 * half + half + i, Acc(magnitude * std::sin(angle)));
        }
  }

  void rope(Tensor x, Tensor table, bool transpose) const override {
    const int64_t N = table.cols(), half = N / 2, A = x.cols();
    for (int64_t r = 0; r < x.row_count(); ++r)
      for (int64_t head = 0; head < A; head += N)
        for (int64_t i = 0; i < half; ++i) {
          const int64_t first = r * A + head + i, second = first + half;
          const Acc c = at(table, r * N + i), s = at(table, r * N + half + i) * Acc(transpose ? -1 : 1);
          const Acc a = at(x, first), b = at(x, second);
          put(x, first, a * c - b * s);
          put(x, second, b * c + a * s);
        }
  }

  void token_shift(Tensor delta, Tensor x, Batch batch, int64_t offset) const override {
    const int64_t D = x.cols();
    for (const Segment& s : batch) {
      if (s.rows == 0) continue;
      const Tensor last = s.state ? s.state->at(offset, D) : Tensor();
      for (int64_t t = 0; t < s.rows; ++t)
        for (int64_t i = 0; i < D; ++i) {
          const int64_t here = (s.row + t) * D + i;
          const Acc before = t > 0 ? at(x, here - D) : last ? at(last, i) : Acc(0);
          put(delta, here, before - at(x, here));
        }
      if (last) copy(last, x.rows(s.row + s.rows - 1, 1));
    }
  }

  void token_shift_vjp(Tensor dx, Tensor ddelta, Batch batch) const override;

  void shift_mix(Tensor y, Tensor x, Tensor delta, Tensor mu, Tensor m) const override {
    const int64_t D = x.cols();
    for (int64_t i = 0; i < y.count(); ++i)
      put(y, i, at(x, i) + at(delta, i) * (at(mu, i % D) + (m ? at(m, i) : Acc(0))));
  }

  void shift_mix_vjp(Tensor dx, Tensor ddelta, Tensor dmu, Tensor dm, Tensor dy, Tensor delta, Tensor mu,
                     Tensor m) const override;

  // Softmax attention.
  void attention(Tensor o, Tensor q, Tensor k, Tensor v, const AttentionShape& shape, Batch batch,
                 int64_t offset) const override {
    const int64_t N = shape.head, A = shape.heads * N, G = shape.heads / shape.kv_heads, W = shape.kv_heads * N;
    for (const Segment& s : batch) {
      const int64_t before = s.position();
      const int64_t slots = s.state ? shape.slots(s.state->capacity()) : 0;
      const Tensor keys = s.state ? s.state->at(offset, slots * W) : Tensor();
      const Tensor values = s.state ? s.state->at(offset + slots * W, slots * W) : Tensor();
      CHECK(!s.state || shape.window > 0 || before + s.rows <= slots, "state full");
      for (int64_t t = 0; t < s.rows; ++t) {
        const int64_t now = before + t;
        for (int64_t h = 0; h < shape.heads; ++h) {
          std::vector<Acc> p;
          std::vector<std::pair<Tensor, int64_t>> seen;  // values and their element offset
          for (int64_t j = 0; j <= now; ++j) {
            if (!visible(shape, now, j)) continue;
            const bool own = j >= before;
            const int64_t at_key = (own ? s.row + j - before : shape.slot(j)) * W + h / G * N;
            Acc score = 0;
            for (int64_t n = 0; n < N; ++n)
              score += at(q, (s.row + t) * A + h * N + n) * at(own ? k : keys, at_key + n);
            p.push_back(score * Acc(shape.scale));
            seen.emplace_back(own ? v : values, at_key);
          }
          softmax(p);
          for (int64_t n = 0; n < N; ++n) {
            Acc sum = 0;
            for (size_t j = 0; j < p.size(); ++j) sum += p[j] * at(seen[j].first, seen[j].second + n);
            put(o, (s.row + t) * A + h * N + n, sum);
          }
        }
      }
      for (int64_t t = 0; t < s.rows && s.state; ++t)
        for (int64_t i = 0; i < W; ++i) {
          put(keys, shape.slot(before + t) * W + i, at(k, (s.row + t) * W + i));
          put(values, shape.slot(before + t) * W + i, at(v, (s.row + t) * W + i));
        }
    }
  }

  void attention_vjp(Tensor dq, Tensor dk, Tensor dv, Tensor d_o, Tensor q, Tensor k, Tensor v, Tensor o,
                     const AttentionShape& shape, Batch batch) const override;

  void attention_lags(Tensor mass, Tensor sink, Tensor q, Tensor k, const AttentionShape& shape, Batch batch,
                      int64_t skip) const override;

  // Linear attention.
  void rwkv6_prepare(const Rwkv6Prepare& p) const override {
    each_channel(p, [&](int64_t i, int64_t kv) {
      const Acc raw = -std::exp(at(p.decay, i)), lw = real(raw) < -5 ? Acc(-5) : raw;
      put(p.log_w, i, lw);
      put(p.k_tilde, i, at(p.k, kv) * (p.balance ? Acc(1) - std::exp(lw) : Acc(1)));
    });
  }

  void rwkv6_prepare_vjp(const Rwkv6PrepareGrad& d, const Rwkv6Prepare& p) const override;

  void rwkv7_prepare(const Rwkv7Prepare& p) const override {
    const int64_t N = p.head;
    each_channel(p, [&](int64_t i, int64_t kv) {
      const int64_t c = i % (p.heads * N), head_start = i - i % N, kv_start = kv - kv % N;
      const Acc lw = Acc(-std::exp(-0.5)) * sigmoid(at(p.decay, i)), a = sigmoid(at(p.rate, i));
      const Acc k = at(p.k, kv), v = at(p.v, kv);
      put(p.log_w, i, lw);
      put(p.a, i, a);
      if (p.mix) {
        put(p.v_out, i, v + (at(p.v_first, i) - v) * sigmoid(at(p.mix, i)));
      } else {
        put(p.v_out, i, v);
        put(p.v_first, i, v);
      }
      const Acc inverse_norm = Acc(1) / kappa_norm(p, head_start, kv_start);
      put(p.kappa, i, k * (p.balance ? Acc(1) : at(p.k_k, c)) * inverse_norm);
      put(p.k_tilde, i, k * (p.balance ? Acc(1) - std::exp(lw) + a : Acc(1) + (a - Acc(1)) * at(p.k_a, c)));
    });
  }

  void rwkv7_prepare_vjp(const Rwkv7PrepareGrad& d, const Rwkv7Prepare& p) const override;

  void wkv6(Tensor o, const Wkv6& p, Batch batch, int64_t offset) const override {
    const int64_t N = p.head, A = p.heads * N, G = p.heads / p.kv_heads, W = p.kv_heads * N;
    each_head(p.heads, N, batch, offset, [&](const Segment& s, int64_t h, std::vector<Acc>& S) {
      for (int64_t t = 0; t < s.rows; ++t) {
        const int64_t i = (s.row + t) * A + h * N, iv = (s.row + t) * W + h / G * N;
        for (int64_t j = 0; j < N; ++j) {
          Acc sum = 0;
          for (int64_t n = 0; n < N; ++n) {
            Acc& state = S[static_cast<size_t>(n * N + j)];
            state = std::exp(at(p.log_w, i + n)) * state + at(p.k, i + n) * at(p.v, iv + j);
            sum += at(p.r, i + n) * state;
          }
          put(o, i + j, sum * Acc(p.scale));
        }
      }
    });
  }

  void wkv6_vjp(const Wkv6& d, Tensor d_o, const Wkv6& p, Batch batch) const override;

  void wkv7(Tensor o, const Wkv7& p, Batch batch, int64_t offset) const override {
    const int64_t N = p.head, A = p.heads * N;
    each_head(p.heads, N, batch, offset, [&](const Segment& s, int64_t h, std::vector<Acc>& S) {
      for (int64_t t = 0; t < s.rows; ++t) {
        const int64_t i = (s.row + t) * A + h * N;
        for (int64_t j = 0; j < N; ++j) {
          Acc erased = 0;  // (κ S)_j
          for (int64_t n = 0; n < N; ++n) erased += at(p.kappa, i + n) * S[static_cast<size_t>(n * N + j)];
          Acc sum = 0;
          for (int64_t n = 0; n < N; ++n) {
            Acc& state = S[static_cast<size_t>(n * N + j)];
            state = std::exp(at(p.log_w, i + n)) * state - at(p.a, i + n) * at(p.kappa, i + n) * erased +
                    at(p.k, i + n) * at(p.v, i + j);
            sum += at(p.r, i + n) * state;
          }
          put(o, i + j, sum * Acc(p.scale));
        }
      }
    });
  }

  void wkv7_vjp(const Wkv7& d, Tensor d_o, const Wkv7& p, Batch batch) const override;

  // Losses and optimiser.
  void align(Tensor loss, Tensor dys, Tensor ys, Tensor yt, double weight) const override {
    const int64_t D = ys.cols();
    const double scale = weight / std::sqrt(static_cast<double>(D));
    for (int64_t r = 0; r < ys.row_count(); ++r) {
      Acc square = 0;
      for (int64_t i = 0; i < D; ++i) {
        const Acc e = at(ys, r * D + i) - at(yt, r * D + i);
        square += e * e;
      }
      const Acc norm = std::sqrt(square);
      put(loss, r, norm * Acc(scale));
      if (!dys) continue;
      for (int64_t i = 0; i < D; ++i) {
        const Acc e = at(ys, r * D + i) - at(yt, r * D + i);
        put(dys, r * D + i, real(norm) > 0 ? e / norm * Acc(scale) : Acc(0));
      }
    }
  }

  void cross_entropy(Tensor loss, Tensor dlogits, Tensor logits, std::span<const int32_t> targets,
                     double weight) const override {
    const int64_t V = logits.cols();
    for (int64_t r = 0; r < logits.row_count(); ++r) {
      const int32_t target = targets[static_cast<size_t>(r)];
      const Acc log_z = log_sum_exp(logits, r);
      put(loss, r, target < 0 ? Acc(0) : Acc(weight) * (log_z - at(logits, r * V + target)));
      for (int64_t i = 0; i < V && dlogits; ++i) {
        const Acc p = std::exp(at(logits, r * V + i) - log_z);
        put(dlogits, r * V + i, target < 0 ? Acc(0) : Acc(weight) * (p - Acc(i == target ? 1 : 0)));
      }
    }
  }

  void kl(Tensor loss, Tensor dstudent, Tensor student, Tensor teacher, double weight) const override {
    const int64_t V = student.cols();
    for (int64_t r = 0; r < student.row_count(); ++r) {
      const Acc log_zs = log_sum_exp(student, r), log_zt = log_sum_exp(teacher, r);
      Acc sum = 0;
      for (int64_t i = 0; i < V; ++i) {
        const Acc lt = at(teacher, r * V + i) - log_zt, ls = at(student, r * V + i) - log_zs, pt = std::exp(lt);
        sum += pt * (lt - ls);
        if (dstudent) put(dstudent, r * V + i, Acc(weight) * (std::exp(ls) - pt));
      }
      put(loss, r, sum * Acc(weight));
    }
  }

  void argmax(std::span<int32_t> best, Tensor logits) const override {
    const int64_t V = logits.cols();
    for (int64_t r = 0; r < logits.row_count(); ++r) {
      int64_t top = 0;
      for (int64_t i = 1; i < V; ++i)
        if (real(at(logits, r * V + i)) > real(at(logits, r * V + top))) top = i;
      best[static_cast<size_t>(r)] = static_cast<int32_t>(top);
    }
  }

  double sum(Tensor x) const override {
    double total = 0;
    for (int64_t i = 0; i < x.count(); ++i) total += real(at(x, i));
    return total;
  }

  double sum_of_squares(Tensor x) const override {
    double total = 0;
    for (int64_t i = 0; i < x.count(); ++i) total += real(at(x, i)) * real(at(x, i));
    return total;
  }

  void adamw(const AdamW& rule, Tensor w, Tensor dw, Tensor m, Tensor v) const override {
    const double correct1 = 1 - std::pow(rule.beta1, static_cast<double>(rule.step));
    const double correct2 = 1 - std::pow(rule.beta2, static_cast<double>(rule.step));
    for (int64_t i = 0; i < w.count(); ++i) {
      const Acc g = at(dw, i) * Acc(rule.grad_scale);
      const Acc first = Acc(rule.beta1) * at(m, i) + Acc(1 - rule.beta1) * g;
      const Acc second = Acc(rule.beta2) * at(v, i) + Acc(1 - rule.beta2) * g * g;
      put(m, i, first), put(v, i, second);
      const Acc move = first / Acc(correct1) / (std::sqrt(second / Acc(correct2)) + Acc(rule.eps));
      put(w, i, at(w, i) - Acc(rule.lr) * (move + Acc(rule.weight_decay) * at(w, i)));
    }
  }

 private:
  static Acc at(const Tensor& t, int64_t i) {
    if (t.type == dtype_of<T>()) return Acc(static_cast<const T*>(t.data)[i]);
    if (t.type == DType::bf16) return Acc(static_cast<float>(static_cast<const bf16*>(t.data)[i]));
    CHECK(t.type == DType::f32, "operand of type ", name_of(t.type));
    return Acc(static_cast<const float*>(t.data)[i]);
  }
  static void put(const Tensor& t, int64_t i, Acc x) { t.as<T>()[i] = static_cast<T>(x); }
  static void accumulate(const Tensor& t, int64_t i, Acc x) { t.as<T>()[i] += static_cast<T>(x); }
  static Acc sigmoid(Acc x) { return Acc(1) / (Acc(1) + std::exp(-x)); }

  static Acc inverse_rms(const Tensor& x, int64_t r, int64_t D, double eps) {
    Acc sum = 0;
    for (int64_t i = 0; i < D; ++i) sum += at(x, r * D + i) * at(x, r * D + i);
    return Acc(1) / std::sqrt(sum / Acc(double(D)) + Acc(eps));
  }

  static std::pair<Acc, Acc> moments(const Tensor& x, int64_t g, int64_t N, double eps) {
    Acc mean = 0, var = 0;
    for (int64_t i = 0; i < N; ++i) mean += at(x, g * N + i) / Acc(double(N));
    for (int64_t i = 0; i < N; ++i) var += (at(x, g * N + i) - mean) * (at(x, g * N + i) - mean) / Acc(double(N));
    return {mean, Acc(1) / std::sqrt(var + Acc(eps))};
  }

  template <class F>
  static void each_activated(const Tensor& narrow, const Tensor& wide, int64_t first, F&& f) {
    const int64_t n = narrow.cols();
    for (int64_t r = 0; r < narrow.row_count(); ++r)
      for (int64_t i = 0; i < n; ++i) f(r * n + i, r * wide.cols() + first + i);
  }

  static bool visible(const AttentionShape& shape, int64_t now, int64_t j) {
    return j <= now && (shape.window == 0 || now - j < shape.window || j < shape.sinks);
  }

  static void softmax(std::vector<Acc>& p) {
    Acc top = p[0], sum = 0;
    for (const Acc& x : p) top = real(x) > real(top) ? x : top;
    for (Acc& x : p) sum += x = std::exp(x - top);
    for (Acc& x : p) x /= sum;
  }

  static Acc log_sum_exp(const Tensor& logits, int64_t r) {
    const int64_t V = logits.cols();
    Acc top = at(logits, r * V), sum = 0;
    for (int64_t i = 1; i < V; ++i) top = real(at(logits, r * V + i)) > real(top) ? at(logits, r * V + i) : top;
    for (int64_t i = 0; i < V; ++i) sum += std::exp(at(logits, r * V + i) - top);
    return top + std::log(sum);
  }

  static void linear_panels(const Product& p) {
    const int64_t R = p.x.row_count(), K = p.x.cols(), out = p.y.cols();
    const PanelView w(p.weight);
    for (int64_t r = 0; r < R; ++r) {
      const auto write = [&](int64_t o, Acc sum) { put(p.y, r * out + o, p.bias ? sum + at(p.bias, o) : sum); };
      if (w.of().quantised()) {
        std::vector<float> x(static_cast<size_t>(K));
        for (int64_t k = 0; k < K; ++k) x[static_cast<size_t>(k)] = static_cast<float>(real(at(p.x, r * K + k)));
        const reference_panels::RoundedRow rounded(x.data(), K, w.of().format.group);
        for (int64_t o = 0; o < out; ++o) write(o, Acc(reference_panels::product(w, o, rounded)));
        continue;
      }
      for (int64_t o = 0; o < out; ++o) {
        Acc sum = 0;
        for (int64_t k = 0; k < K; ++k) sum += at(p.x, r * K + k) * Acc(w.value(o, k));
        write(o, sum);
      }
    }
  }

  /// p_tj of row t, head h, for j = 0 … t within the segment; 0 where not visible.
  static std::vector<Acc> weights(const Tensor& q, const Tensor& k, const AttentionShape& shape, const Segment& s,
                                  int64_t t, int64_t h) {
    const int64_t N = shape.head, A = shape.heads * N, G = shape.heads / shape.kv_heads, W = shape.kv_heads * N;
    std::vector<Acc> p, all(static_cast<size_t>(t + 1));
    for (int64_t j = 0; j <= t; ++j) {
      if (!visible(shape, t, j)) continue;
      Acc score = 0;
      for (int64_t n = 0; n < N; ++n)
        score += at(q, (s.row + t) * A + h * N + n) * at(k, (s.row + j) * W + h / G * N + n);
      p.push_back(score * Acc(shape.scale));
    }
    softmax(p);
    for (int64_t j = 0, next = 0; j <= t; ++j)
      if (visible(shape, t, j)) all[static_cast<size_t>(j)] = p[static_cast<size_t>(next++)];
    return all;
  }

  /// f(index of a query-head channel, index of the key/value channel it reads).
  template <class P, class F>
  static void each_channel(const P& p, F&& f) {
    const int64_t N = p.head, A = p.heads * N, G = p.heads / p.kv_heads, W = p.kv_heads * N;
    for (int64_t i = 0; i < p.log_w.count(); ++i) f(i, i / A * W + i % A / N / G * N + i % N);
  }

  static Acc kappa_norm(const Rwkv7Prepare& p, int64_t head_start, int64_t kv_start) {
    Acc sum = 0;
    for (int64_t n = 0; n < p.head; ++n) {
      const Acc u = at(p.k, kv_start + n) * (p.balance ? Acc(1) : at(p.k_k, head_start % (p.heads * p.head) + n));
      sum += u * u;
    }
    const Acc norm = std::sqrt(sum);
    return real(norm) < 1e-12 ? Acc(1e-12) : norm;
  }

  /// Runs f(segment, head, S [N, N]) with S read from, and written back to, the segment's state.
  template <class F>
  static void each_head(int heads, int64_t N, Batch batch, int64_t offset, F&& f) {
    for (const Segment& s : batch)
      for (int64_t h = 0; h < heads; ++h) {
        std::vector<Acc> S(static_cast<size_t>(N * N));
        const Tensor stored = s.state ? s.state->at(offset + h * N * N, N * N) : Tensor();
        for (int64_t e = 0; e < N * N && stored; ++e) S[static_cast<size_t>(e)] = at(stored, e);
        f(s, h, S);
        for (int64_t e = 0; e < N * N && stored; ++e) put(stored, e, S[static_cast<size_t>(e)]);
      }
  }
};

using Reference = ReferenceOf<float>;

}  // namespace qwerky

#include "backend/reference_vjp.h"
