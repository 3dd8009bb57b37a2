// SPDX-License-Identifier: MIT
// The reverse of every operation of ReferenceOf, and the statistics of attention: included by reference.h alone.
#pragma once

#include "backend/reference.h"

namespace qwerky {

template <class T>
void ReferenceOf<T>::linear_vjp(Tensor x, Tensor dx, std::span<const ProductVjp> products, Into into) const {
  const int64_t R = x.row_count(), K = x.cols();
  if (dx && into == Into::overwrite) zero(dx);
  for (const ProductVjp& p : products) {
    const int64_t out = p.dy.cols();
    const auto index = [&](int64_t o, int64_t k) { return p.in_out ? k * out + o : o * K + k; };
    if (dx)
      for (int64_t r = 0; r < R; ++r)
        for (int64_t k = 0; k < K; ++k) {
          Acc sum = 0;
          for (int64_t o = 0; o < out; ++o) sum += at(p.dy, r * out + o) * at(p.weight, index(o, k));
          accumulate(dx, r * K + k, sum);
        }
    for (int64_t o = 0; o < out; ++o) {
      if (p.dweight)
        for (int64_t k = 0; k < K; ++k) {
          Acc sum = 0;
          for (int64_t r = 0; r < R; ++r) sum += at(p.dy, r * out + o) * at(x, r * K + k);
          accumulate(p.dweight, index(o, k), sum);
        }
      if (p.dbias) {
        Acc sum = 0;
        for (int64_t r = 0; r < R; ++r) sum += at(p.dy, r * out + o);
        accumulate(p.dbias, o, sum);
      }
    }
  }
}

template <class T>
void ReferenceOf<T>::embed_vjp(Tensor dtable, Tensor dy, std::span<const int32_t> tokens) const {
  const int64_t D = dy.cols();
  for (size_t r = 0; r < tokens.size(); ++r)
    for (int64_t i = 0; i < D; ++i) accumulate(dtable, tokens[r] * D + i, at(dy, static_cast<int64_t>(r) * D + i));
}

template <class T>
void ReferenceOf<T>::rmsnorm_vjp(Tensor dx, Tensor dgain, Tensor dy, Tensor x, Tensor gain, double eps,
                                 Into into) const {
  const int64_t D = x.cols();
  for (int64_t r = 0; r < x.row_count(); ++r) {
    const Acc s = inverse_rms(x, r, D, eps);
    Acc dot = 0;  // Σ dy·gain·x
    for (int64_t i = 0; i < D; ++i) {
      dot += at(dy, r * D + i) * at(gain, i) * at(x, r * D + i);
      if (dgain) accumulate(dgain, i, at(dy, r * D + i) * at(x, r * D + i) * s);
    }
    for (int64_t i = 0; i < D; ++i) {
      const Acc d = s * at(dy, r * D + i) * at(gain, i) - at(x, r * D + i) * dot * s * s * s / Acc(double(D));
      into == Into::add ? accumulate(dx, r * D + i, d) : put(dx, r * D + i, d);
    }
  }
}

template <class T>
void ReferenceOf<T>::groupnorm_vjp(Tensor dx, Tensor dgain, Tensor dbias, Tensor dy, Tensor x, Tensor gain, int heads,
                                   double eps) const {
  const int64_t A = x.cols(), N = A / heads;
  for (int64_t g = 0; g < x.row_count() * heads; ++g) {
    const auto [mean, scale] = moments(x, g, N, eps);
    Acc sum = 0, dot = 0;  // of dn and dn·n, where n is the normalised input
    for (int64_t i = 0; i < N; ++i) {
      const int64_t c = g % heads * N + i;
      const Acc n = (at(x, g * N + i) - mean) * scale, dn = at(dy, g * N + i) * at(gain, c);
      sum += dn;
      dot += dn * n;
      if (dgain) accumulate(dgain, c, at(dy, g * N + i) * n);
      if (dbias) accumulate(dbias, c, at(dy, g * N + i));
    }
    for (int64_t i = 0; i < N; ++i) {
      const Acc n = (at(x, g * N + i) - mean) * scale, dn = at(dy, g * N + i) * at(gain, g % heads * N + i);
      put(dx, g * N + i, scale * (dn - sum / Acc(double(N)) - n * dot / Acc(double(N))));
    }
  }
}

template <class T>
void ReferenceOf<T>::activate_vjp(Tensor dx, Tensor dy, Tensor y, Activation f, int64_t first) const {
  each_activated(y, dx, first, [&](int64_t to, int64_t from) {
    const Acc v = at(y, to), slope = f == Activation::tanh ? Acc(1) - v * v : v * (Acc(1) - v);
    put(dx, from, at(dy, to) * slope);
  });
}

template <class T>
void ReferenceOf<T>::swiglu_vjp(Tensor dgate, Tensor dup, Tensor dy, Tensor gate, Tensor up) const {
  for (int64_t i = 0; i < dy.count(); ++i) {
    const Acc g = at(gate, i), s = sigmoid(g), d = at(dy, i), u = at(up, i);
    put(dgate, i, d * u * s * (Acc(1) + g * (Acc(1) - s)));
    put(dup, i, d * g * s);
  }
}

template <class T>
void ReferenceOf<T>::gate_vjp(Tensor d_o, Tensor dg, Tensor dy, Tensor o, Tensor g, bool squash) const {
  for (int64_t i = 0; i < dy.count(); ++i) {
    const Acc d = at(dy, i), v = squash ? sigmoid(at(g, i)) : at(g, i), slope = squash ? v * (Acc(1) - v) : Acc(1);
    put(dg, i, d * at(o, i) * slope);
    put(d_o, i, d * v);
  }
}

template <class T>
void ReferenceOf<T>::token_shift_vjp(Tensor dx, Tensor ddelta, Batch batch) const {
  const int64_t D = dx.cols();
  for (const Segment& s : batch)
    for (int64_t t = 0; t < s.rows; ++t)
      for (int64_t i = 0; i < D; ++i) {
        const int64_t here = (s.row + t) * D + i;
        accumulate(dx, here, (t + 1 < s.rows ? at(ddelta, here + D) : Acc(0)) - at(ddelta, here));
      }
}

template <class T>
void ReferenceOf<T>::shift_mix_vjp(Tensor dx, Tensor ddelta, Tensor dmu, Tensor dm, Tensor dy, Tensor delta, Tensor mu,
                                   Tensor m) const {
  const int64_t D = dy.cols();
  for (int64_t i = 0; i < dy.count(); ++i) {
    const Acc d = at(dy, i);
    accumulate(dx, i, d);
    accumulate(ddelta, i, d * (at(mu, i % D) + (m ? at(m, i) : Acc(0))));
    if (dmu) accumulate(dmu, i % D, d * at(delta, i));
    if (dm) put(dm, i, d * at(delta, i));
  }
}

template <class T>
void ReferenceOf<T>::attention_vjp(Tensor dq, Tensor dk, Tensor dv, Tensor d_o, Tensor q, Tensor k, Tensor v, Tensor o,
                                   const AttentionShape& shape, Batch batch) const {
  const int64_t N = shape.head, A = shape.heads * N, G = shape.heads / shape.kv_heads, W = shape.kv_heads * N;
  zero(dq), zero(dk), zero(dv);
  for (const Segment& s : batch)
    for (int64_t t = 0; t < s.rows; ++t)
      for (int64_t h = 0; h < shape.heads; ++h) {
        const int64_t query = (s.row + t) * A + h * N;
        const std::vector<Acc> p = weights(q, k, shape, s, t, h);
        Acc dot = 0;  // o·do
        for (int64_t n = 0; n < N; ++n) dot += at(o, query + n) * at(d_o, query + n);
        for (int64_t j = 0; j <= t; ++j) {
          if (!visible(shape, t, j)) continue;
          const int64_t key = (s.row + j) * W + h / G * N;
          const Acc pj = p[static_cast<size_t>(j)];
          Acc dp = 0;
          for (int64_t n = 0; n < N; ++n) {
            dp += at(d_o, query + n) * at(v, key + n);
            accumulate(dv, key + n, pj * at(d_o, query + n));
          }
          const Acc dscore = pj * (dp - dot) * Acc(shape.scale);
          for (int64_t n = 0; n < N; ++n) {
            accumulate(dq, query + n, dscore * at(k, key + n));
            accumulate(dk, key + n, dscore * at(q, query + n));
          }
        }
      }
}

template <class T>
void ReferenceOf<T>::attention_lags(Tensor mass, Tensor sink, Tensor q, Tensor k, const AttentionShape& shape,
                                    Batch batch, int64_t skip) const {
  const int64_t bins = mass.cols();
  for (const Segment& s : batch)
    for (int64_t t = skip; t < s.rows; ++t)
      for (int64_t h = 0; h < shape.heads; ++h) {
        const std::vector<Acc> p = weights(q, k, shape, s, t, h);
        for (int64_t j = 0; j <= t; ++j) {
          const double pj = real(p[static_cast<size_t>(j)]);
          (j == 0 && t > 0 ? sink.as<double>()[h] : mass.as<double>()[h * bins + std::min(t - j, bins - 1)]) += pj;
        }
      }
}

template <class T>
void ReferenceOf<T>::rwkv6_prepare_vjp(const Rwkv6PrepareGrad& d, const Rwkv6Prepare& p) const {
  zero(d.k);
  each_channel(p, [&](int64_t i, int64_t kv) {
    const Acc raw = -std::exp(at(p.decay, i)), w = std::exp(at(p.log_w, i));
    Acc dlw = at(d.log_w, i);
    if (p.balance) dlw -= at(d.k_tilde, i) * at(p.k, kv) * w;
    put(d.decay, i, real(raw) < -5 ? Acc(0) : dlw * raw);
    accumulate(d.k, kv, at(d.k_tilde, i) * (p.balance ? Acc(1) - w : Acc(1)));
  });
}

template <class T>
void ReferenceOf<T>::rwkv7_prepare_vjp(const Rwkv7PrepareGrad& d, const Rwkv7Prepare& p) const {
  const int64_t N = p.head;
  zero(d.k), zero(d.v);
  each_channel(p, [&](int64_t i, int64_t kv) {
    const int64_t c = i % (p.heads * N), head_start = i - i % N, kv_start = kv - kv % N;
    const Acc lw = at(p.log_w, i), w = std::exp(lw), a = at(p.a, i), k = at(p.k, kv);
    const Acc dkt = at(d.k_tilde, i);
    Acc dlw = at(d.log_w, i), da = at(d.a, i), dk = 0;
    if (p.balance) {
      dk += dkt * (Acc(1) - w + a);
      dlw -= dkt * k * w;
      da += dkt * k;
    } else {
      dk += dkt * (Acc(1) + (a - Acc(1)) * at(p.k_a, c));
      da += dkt * k * at(p.k_a, c);
      accumulate(d.k_a, c, dkt * k * (a - Acc(1)));
    }
    // kappa = u / ‖u‖ with u = k (or k ⊙ k_k):  du = (dkappa - kappa (kappa·dkappa)) / ‖u‖
    Acc dot = 0;
    for (int64_t n = 0; n < N; ++n) dot += at(p.kappa, head_start + n) * at(d.kappa, head_start + n);
    const Acc du = (at(d.kappa, i) - at(p.kappa, i) * dot) / kappa_norm(p, head_start, kv_start);
    dk += du * (p.balance ? Acc(1) : at(p.k_k, c));
    if (!p.balance) accumulate(d.k_k, c, du * k);
    accumulate(d.k, kv, dk);
    const Acc s = at(p.decay, i);
    put(d.decay, i, dlw * lw * (Acc(1) - sigmoid(s)));
    put(d.rate, i, da * a * (Acc(1) - a));
    const Acc dv = at(d.v_out, i);
    if (p.mix) {
      const Acc nu = sigmoid(at(p.mix, i));
      accumulate(d.v, kv, dv * (Acc(1) - nu));
      accumulate(d.v_first, i, dv * nu);
      put(d.mix, i, dv * (at(p.v_first, i) - at(p.v, kv)) * nu * (Acc(1) - nu));
    } else {
      accumulate(d.v, kv, dv + at(d.v_first, i));
    }
  });
}

template <class T>
void ReferenceOf<T>::wkv6_vjp(const Wkv6& d, Tensor d_o, const Wkv6& p, Batch batch) const {
  const int64_t N = p.head, A = p.heads * N, G = p.heads / p.kv_heads, W = p.kv_heads * N;
  zero(d.v);
  for (const Segment& s : batch)
    for (int64_t h = 0; h < p.heads; ++h) {
      const auto i = [&](int64_t t, int64_t n) { return (s.row + t) * A + h * N + n; };
      const auto iv = [&](int64_t t, int64_t n) { return (s.row + t) * W + h / G * N + n; };
      std::vector<std::vector<Acc>> S(static_cast<size_t>(s.rows + 1), std::vector<Acc>(static_cast<size_t>(N * N)));
      for (int64_t t = 0; t < s.rows; ++t)
        for (int64_t n = 0; n < N; ++n)
          for (int64_t j = 0; j < N; ++j)
            S[size_t(t + 1)][size_t(n * N + j)] =
                std::exp(at(p.log_w, i(t, n))) * S[size_t(t)][size_t(n * N + j)] + at(p.k, i(t, n)) * at(p.v, iv(t, j));
      std::vector<Acc> dS(static_cast<size_t>(N * N));
      for (int64_t t = s.rows; t-- > 0;) {
        std::vector<Acc> dv(static_cast<size_t>(N));
        for (int64_t n = 0; n < N; ++n) {
          Acc dr = 0, dw = 0, dk = 0;
          const Acc w = std::exp(at(p.log_w, i(t, n)));
          for (int64_t j = 0; j < N; ++j) {
            const size_t e = static_cast<size_t>(n * N + j);
            const Acc go = at(d_o, i(t, j)) * Acc(p.scale);
            dr += S[size_t(t + 1)][e] * go;
            dS[e] += at(p.r, i(t, n)) * go;
            dk += dS[e] * at(p.v, iv(t, j));
            dv[size_t(j)] += dS[e] * at(p.k, i(t, n));
            dw += dS[e] * S[size_t(t)][e];
            dS[e] *= w;
          }
          put(d.r, i(t, n), dr), put(d.k, i(t, n), dk), put(d.log_w, i(t, n), dw * w);
        }
        for (int64_t j = 0; j < N; ++j) accumulate(d.v, iv(t, j), dv[size_t(j)]);
      }
    }
}

template <class T>
void ReferenceOf<T>::wkv7_vjp(const Wkv7& d, Tensor d_o, const Wkv7& p, Batch batch) const {
  const int64_t N = p.head, A = p.heads * N;
  for (const Segment& s : batch)
    for (int64_t h = 0; h < p.heads; ++h) {
      const auto i = [&](int64_t t, int64_t n) { return (s.row + t) * A + h * N + n; };
      const auto erased = [&](const std::vector<Acc>& S, int64_t t, int64_t j) {
        Acc sum = 0;
        for (int64_t n = 0; n < N; ++n) sum += at(p.kappa, i(t, n)) * S[size_t(n * N + j)];
        return sum;
      };
      std::vector<std::vector<Acc>> S(static_cast<size_t>(s.rows + 1), std::vector<Acc>(static_cast<size_t>(N * N)));
      for (int64_t t = 0; t < s.rows; ++t)
        for (int64_t j = 0; j < N; ++j) {
          const Acc e = erased(S[size_t(t)], t, j);
          for (int64_t n = 0; n < N; ++n)
            S[size_t(t + 1)][size_t(n * N + j)] = std::exp(at(p.log_w, i(t, n))) * S[size_t(t)][size_t(n * N + j)] -
                                                  at(p.a, i(t, n)) * at(p.kappa, i(t, n)) * e +
                                                  at(p.k, i(t, n)) * at(p.v, i(t, j));
        }
      std::vector<Acc> dS(static_cast<size_t>(N * N));
      for (int64_t t = s.rows; t-- > 0;) {
        const std::vector<Acc>& before = S[size_t(t)];
        std::vector<Acc> dr(static_cast<size_t>(N)), dw(dr), dk(dr), dkappa(dr), da(dr);
        for (int64_t j = 0; j < N; ++j) {
          const Acc go = at(d_o, i(t, j)) * Acc(p.scale), e = erased(before, t, j);
          Acc dv = 0, de = 0;
          for (int64_t n = 0; n < N; ++n) {
            const size_t x = static_cast<size_t>(n * N + j), c = static_cast<size_t>(n);
            dr[c] += S[size_t(t + 1)][x] * go;
            dS[x] += at(p.r, i(t, n)) * go;
            dv += dS[x] * at(p.k, i(t, n));
            dk[c] += dS[x] * at(p.v, i(t, j));
            dw[c] += dS[x] * before[x];
            da[c] -= dS[x] * at(p.kappa, i(t, n)) * e;
            dkappa[c] -= dS[x] * at(p.a, i(t, n)) * e;
            de -= dS[x] * at(p.a, i(t, n)) * at(p.kappa, i(t, n));
          }
          for (int64_t n = 0; n < N; ++n) {
            const size_t x = static_cast<size_t>(n * N + j);
            dkappa[size_t(n)] += de * before[x];
            dS[x] = dS[x] * std::exp(at(p.log_w, i(t, n))) + de * at(p.kappa, i(t, n));
          }
          put(d.v, i(t, j), dv);
        }
        for (int64_t n = 0; n < N; ++n) {
          const size_t c = static_cast<size_t>(n);
          put(d.r, i(t, n), dr[c]), put(d.k, i(t, n), dk[c]), put(d.kappa, i(t, n), dkappa[c]);
          put(d.a, i(t, n), da[c]), put(d.log_w, i(t, n), dw[c] * std::exp(at(p.log_w, i(t, n))));
        }
      }
    }
}

}  // namespace qwerky
