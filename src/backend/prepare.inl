// SPDX-License-Identifier: MIT
// rwkv6_prepare, rwkv7_prepare and their VJPs: between the projections and the recurrence, row by row. Keys and values
// are repeated to all heads in a scratch row, so that everything but the norms runs over whole rows whatever the head.

namespace kernels {

/// 1 - e^x for x <= 0, without cancellation: the Taylor polynomial to x^7 above -0.35 (next term < 2^-25 of the
/// result).
QWERKY_INLINE V one_minus_exp(V x) {
  V p = fma(x, set(1.0f / 5040), set(1.0f / 720));
  p = fma(p, x, set(1.0f / 120));
  p = fma(p, x, set(1.0f / 24));
  p = fma(p, x, set(1.0f / 6));
  p = fma(p, x, set(0.5f));
  return select(set(-0.35f) < x, neg(fma(p * x, x, x)), set(1.0f) - exp(x));
}

/// x [kv_heads·N] with every head repeated `group` times: `row`, or x itself when there is nothing to repeat.
inline const float* repeat_heads(float* row, const float* x, int kv_heads, int group, int64_t N) {
  if (group == 1) return x;
  for (int h = 0; h < kv_heads * group; ++h)
    sweep(N, [&](int64_t i, auto lanes) { store(row + h * N + i, load(x + h / group * N + i, lanes), lanes); });
  return row;
}
/// The transpose: y [kv_heads·N] = sums of x over each group.
inline void fold_heads(float* y, const float* x, int kv_heads, int group, int64_t N) {
  for (int h = 0; h < kv_heads; ++h)
    sweep(N, [&](int64_t i, auto lanes) {
      V s = load(x + h * group * N + i, lanes);
      for (int g = 1; g < group; ++g) s += load(x + (h * group + g) * N + i, lanes);
      store(y + h * N + i, s, lanes);
    });
}

/// In all lanes of each 8: their sum.
QWERKY_INLINE V sum_of_8(V a) {
#if QWERKY_ISA == 512
  __m512 s = _mm512_add_ps(a.r, _mm512_shuffle_f32x4(a.r, a.r, 0xb1));
  s = _mm512_add_ps(s, _mm512_permute_ps(s, 0x4e));
  return {_mm512_add_ps(s, _mm512_permute_ps(s, 0xb1))};
#else
  __m256 s = _mm256_add_ps(a.r, _mm256_permute2f128_ps(a.r, a.r, 1));
  s = _mm256_add_ps(s, _mm256_permute_ps(s, 0x4e));
  return {_mm256_add_ps(s, _mm256_permute_ps(s, 0xb1))};
#endif
}
/// For every head: s = Σ_n term(n), then body(i, lanes, s in all lanes) over its channels. term(i, lanes) is 0 past the
/// end.
template <class Term, class Body>
QWERKY_INLINE void each_head_sum(int heads, int64_t N, const Term& term, const Body& body) {
  if (N == 8) {
    sweep(
        heads * N, [&](int64_t i, auto lanes)
                       __attribute__((always_inline)) { body(i, lanes, sum_of_8(term(i, lanes))); });
    return;
  }
  for (int64_t first = 0; first < heads * N; first += N) {
    V s = zero();
    sweep(
        N, [&](int64_t i, auto lanes) __attribute__((always_inline)) { s += term(first + i, lanes); });
    s = set(sum(s));
    sweep(
        N, [&](int64_t i, auto lanes) __attribute__((always_inline)) { body(first + i, lanes, s); });
  }
}

inline void rwkv6_prepare(const Rwkv6Prepare& p) {
  const int64_t N = p.head, A = p.heads * N, W = p.kv_heads * N;
  const int group = p.heads / p.kv_heads;
  parallel_for(p.log_w.row_count(), row_grain(A), [&](int64_t begin, int64_t end) {
    float* buffer = static_cast<float*>(scratch(Scratch::rows, A * 4));
    for (int64_t r = begin; r < end; ++r) {
      const float* k = repeat_heads(buffer, p.k.as<float>() + r * W, p.kv_heads, group, N);
      const float* decay = p.decay.as<float>() + r * A;
      float *log_w = p.log_w.as<float>() + r * A, *k_tilde = p.k_tilde.as<float>() + r * A;
      sweep(
          A, [&](int64_t i, auto lanes) __attribute__((always_inline)) {
            const V lw = max(set(-5.0f), neg(exp(load(decay + i, lanes)))), ki = load(k + i, lanes);
            store(log_w + i, lw, lanes);
            store(k_tilde + i, p.balance ? ki * one_minus_exp(lw) : ki, lanes);
          });
    }
  });
}

inline void rwkv6_prepare_vjp(const Rwkv6PrepareGrad& d, const Rwkv6Prepare& p) {
  const int64_t N = p.head, A = p.heads * N, W = p.kv_heads * N;
  const int group = p.heads / p.kv_heads;
  parallel_for(p.log_w.row_count(), row_grain(A), [&](int64_t begin, int64_t end) {
    float *buffer = static_cast<float*>(scratch(Scratch::rows, 2 * A * 4)), *dk = buffer + A;
    for (int64_t r = begin; r < end; ++r) {
      const float* k = repeat_heads(buffer, p.k.as<float>() + r * W, p.kv_heads, group, N);
      const float *decay = p.decay.as<float>() + r * A, *log_w = p.log_w.as<float>() + r * A;
      const float *d_log_w = d.log_w.as<float>() + r * A, *d_k_tilde = d.k_tilde.as<float>() + r * A;
      float* d_decay = d.decay.as<float>() + r * A;
      sweep(
          A, [&](int64_t i, auto lanes) __attribute__((always_inline)) {
            const V raw = neg(exp(load(decay + i, lanes))), lw = load(log_w + i, lanes),
                    dkt = load(d_k_tilde + i, lanes);
            V dlw = load(d_log_w + i, lanes);
            if (p.balance) dlw = fnma(dkt * load(k + i, lanes), exp(lw), dlw);
            store(d_decay + i, keep(!(raw < set(-5.0f)), dlw * raw), lanes);
            store(dk + i, p.balance ? dkt * one_minus_exp(lw) : dkt, lanes);
          });
      fold_heads(d.k.as<float>() + r * W, dk, p.kv_heads, group, N);
    }
  });
}

/// k_k and k_a as f32, from `buffer` [2, A] when they have to be widened; null with balance.
struct KeyGains {
  const float *k_k = nullptr, *k_a = nullptr;
  KeyGains(const Rwkv7Prepare& p, float* buffer) {
    if (p.balance) return;
    k_k = parameter(p.k_k, buffer);
    k_a = parameter(p.k_a, buffer + p.heads * p.head);
  }
};
constexpr float kDecayFactor = 0.60653066f;  ///< exp(-1/2)
constexpr float kLeastNorm = 1e-12f;

inline void rwkv7_prepare(const Rwkv7Prepare& p) {
  const int64_t N = p.head, A = p.heads * N, W = p.kv_heads * N;
  const int group = p.heads / p.kv_heads;
  const KeyGains gains(p, static_cast<float*>(scratch(Scratch::wkv, 2 * A * 4)));
  parallel_for(p.log_w.row_count(), row_grain(A), [&](int64_t begin, int64_t end) {
    float* buffer = static_cast<float*>(scratch(Scratch::rows, 2 * A * 4));
    for (int64_t r = begin; r < end; ++r) {
      const float* k = repeat_heads(buffer, p.k.as<float>() + r * W, p.kv_heads, group, N);
      const float* v = repeat_heads(buffer + A, p.v.as<float>() + r * W, p.kv_heads, group, N);
      const float *decay = p.decay.as<float>() + r * A, *rate = p.rate.as<float>() + r * A;
      const float* mix = p.mix ? p.mix.as<float>() + r * A : nullptr;
      float *v_first = p.v_first.as<float>() + r * A, *v_out = p.v_out.as<float>() + r * A;
      float *log_w = p.log_w.as<float>() + r * A, *k_tilde = p.k_tilde.as<float>() + r * A;
      float *kappa = p.kappa.as<float>() + r * A, *a_out = p.a.as<float>() + r * A;
      sweep(
          A, [&](int64_t i, auto lanes) __attribute__((always_inline)) {
            const V lw = set(-kDecayFactor) * sigmoid(load(decay + i, lanes)), a = sigmoid(load(rate + i, lanes));
            const V ki = load(k + i, lanes), vi = load(v + i, lanes);
            store(log_w + i, lw, lanes);
            store(a_out + i, a, lanes);
            if (mix) {
              store(v_out + i, fma(load(v_first + i, lanes) - vi, sigmoid(load(mix + i, lanes)), vi), lanes);
            } else {
              store(v_out + i, vi, lanes);
              store(v_first + i, vi, lanes);
            }
            if (p.balance)
              store(k_tilde + i, ki * (one_minus_exp(lw) + a), lanes);
            else
              store(k_tilde + i, ki * fma(a - set(1.0f), load(gains.k_a + i, lanes), set(1.0f)), lanes);
          });
      const auto key = [&](int64_t i, auto lanes) __attribute__((always_inline)) {
        const V ki = load(k + i, lanes);
        return gains.k_k ? ki * load(gains.k_k + i, lanes) : ki;
      };
      each_head_sum(
          p.heads,
          N, [&](int64_t i, auto lanes) __attribute__((always_inline)) { return key(i, lanes) * key(i, lanes); },
          [&](int64_t i, auto lanes, V square) __attribute__((always_inline)) {
            store(kappa + i, key(i, lanes) / max(sqrt(square), set(kLeastNorm)), lanes);
          });
    }
  });
}

inline void rwkv7_prepare_vjp(const Rwkv7PrepareGrad& d, const Rwkv7Prepare& p) {
  const int64_t N = p.head, A = p.heads * N, W = p.kv_heads * N, rows = p.log_w.row_count();
  const int group = p.heads / p.kv_heads;
  const int64_t blocks = p.balance ? 0 : row_blocks(rows);
  float* buffer = static_cast<float*>(scratch(Scratch::wkv, (1 + blocks) * 2 * A * 4));
  float* partials = buffer + 2 * A;  // d k_k, d k_a of each block of rows
  const KeyGains gains(p, buffer);
  each_row_block(rows, A, partials, p.balance ? 0 : 2 * A, [&](int64_t begin, int64_t end, float* partial) {
    float *key = static_cast<float*>(scratch(Scratch::rows, 6 * A * 4)), *value = key + A, *dk = value + A,
          *dv = dk + A;
    float *norm = dv + A, *unscaled = norm + A;
    for (int64_t r = begin; r < end; ++r) {
      const float* k = repeat_heads(key, p.k.as<float>() + r * W, p.kv_heads, group, N);
      const float* v = repeat_heads(value, p.v.as<float>() + r * W, p.kv_heads, group, N);
      const float *decay = p.decay.as<float>() + r * A, *mix = p.mix ? p.mix.as<float>() + r * A : nullptr;
      const float *log_w = p.log_w.as<float>() + r * A, *a_out = p.a.as<float>() + r * A;
      const float *kappa = p.kappa.as<float>() + r * A, *v_first = p.v_first ? p.v_first.as<float>() + r * A : nullptr;
      const float *d_log_w = d.log_w.as<float>() + r * A, *d_k_tilde = d.k_tilde.as<float>() + r * A;
      const float *d_a = d.a.as<float>() + r * A, *d_v_out = d.v_out.as<float>() + r * A;
      const float* d_kappa = d.kappa.as<float>() + r * A;
      float *d_decay = d.decay.as<float>() + r * A, *d_rate = d.rate.as<float>() + r * A;
      float *d_mix = mix ? d.mix.as<float>() + r * A : nullptr, *d_v_first = d.v_first.as<float>() + r * A;
      sweep(
          A, [&](int64_t i, auto lanes) __attribute__((always_inline)) {
            const V lw = load(log_w + i, lanes), a = load(a_out + i, lanes), ki = load(k + i, lanes);
            const V dkt = load(d_k_tilde + i, lanes), one = set(1.0f);
            V dlw = load(d_log_w + i, lanes), da = load(d_a + i, lanes);
            if (p.balance) {
              store(dk + i, dkt * (one_minus_exp(lw) + a), lanes);
              dlw = fnma(dkt * ki, exp(lw), dlw);
              da = fma(dkt, ki, da);
            } else {
              const V k_a = load(gains.k_a + i, lanes);
              store(dk + i, dkt * fma(a - one, k_a, one), lanes);
              da = fma(dkt * ki, k_a, da);
              store(partial + A + i, fma(dkt * ki, a - one, load(partial + A + i, lanes)), lanes);
            }
            store(d_decay + i, dlw * lw * sigmoid(neg(load(decay + i, lanes))), lanes);
            store(d_rate + i, da * a * (one - a), lanes);
            const V g = load(d_v_out + i, lanes);
            if (mix) {
              const V nu = sigmoid(load(mix + i, lanes));
              store(dv + i, g * (one - nu), lanes);
              store(d_v_first + i, fma(g, nu, load(d_v_first + i, lanes)), lanes);
              store(d_mix + i, g * (load(v_first + i, lanes) - load(v + i, lanes)) * nu * (one - nu), lanes);
            } else {
              store(dv + i, g + load(d_v_first + i, lanes), lanes);
            }
          });
      const auto u = [&](int64_t i, auto lanes) __attribute__((always_inline)) {
        const V ki = load(k + i, lanes);
        return gains.k_k ? ki * load(gains.k_k + i, lanes) : ki;
      };
      each_head_sum(
          p.heads, N, [&](int64_t i, auto lanes) __attribute__((always_inline)) { return u(i, lanes) * u(i, lanes); },
          [&](int64_t i, auto lanes, V square)
              __attribute__((always_inline)) { store(norm + i, max(sqrt(square), set(kLeastNorm)), lanes); });
      // kappa = u / ‖u‖ with u = k (or k ⊙ k_k):  du = (dkappa - kappa (kappa·dkappa)) / ‖u‖
      each_head_sum(
          p.heads, N,
          [&](int64_t i, auto lanes)
              __attribute__((always_inline)) { return load(kappa + i, lanes) * load(d_kappa + i, lanes); },
          [&](int64_t i, auto lanes, V dot) __attribute__((always_inline)) {
            store(unscaled + i, fnma(load(kappa + i, lanes), dot, load(d_kappa + i, lanes)), lanes);
          });
      sweep(
          A, [&](int64_t i, auto lanes) __attribute__((always_inline)) {
            V du = keep(lanes, load(unscaled + i, lanes) / load(norm + i, lanes));
            if (gains.k_k) {
              store(partial + i, fma(du, load(k + i, lanes), load(partial + i, lanes)), lanes);
              du *= load(gains.k_k + i, lanes);
            }
            store(dk + i, load(dk + i, lanes) + du, lanes);
          });
      fold_heads(d.k.as<float>() + r * W, dk, p.kv_heads, group, N);
      fold_heads(d.v.as<float>() + r * W, dv, p.kv_heads, group, N);
    }
  });
  if (p.balance) return;
  if (d.k_k) add_blocks(d.k_k.as<float>(), partials, blocks, 2 * A, A);
  if (d.k_a) add_blocks(d.k_a.as<float>(), partials + A, blocks, 2 * A, A);
}

}  // namespace kernels
