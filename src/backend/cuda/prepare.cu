// SPDX-License-Identifier: MIT
// What stands between the projections of an RWKV mixer and its recurrence. Channels of query heads and the key/value
// channels they read: (r, h, n) of [R, H, N] and (r, h / G, n) of [R, Hk, N], G = H / Hk.
#include "backend/cuda/kernel.h"
#include "backend/cuda/operations.h"

namespace qwerky::cuda {
namespace {

constexpr float kLeastLogDecay6 = -5;
constexpr float kLogDecay7 = -0.6065306597126334f;  // -exp(-1/2)
constexpr float kLeastNorm = 1e-12f;
constexpr int kHeadsOfBlock = 4;  ///< warps

/// Fields of Rwkv7Prepare as kernels see them.
struct Seven {
  int heads, kv_heads, N;
  bool balance;
  float *k, *v, *decay, *rate, *mix;
  float *v_first, *log_w, *k_tilde, *kappa, *a, *v_out;
  Values k_k, k_a;
  explicit Seven(const Rwkv7Prepare& p)
      : heads(p.heads),
        kv_heads(p.kv_heads),
        N(p.head),
        balance(p.balance),
        k(p.k.as<float>()),
        v(p.v.as<float>()),
        decay(p.decay.as<float>()),
        rate(p.rate.as<float>()),
        mix(p.mix.as<float>()),
        v_first(p.v_first.as<float>()),
        log_w(p.log_w.as<float>()),
        k_tilde(p.k_tilde.as<float>()),
        kappa(p.kappa.as<float>()),
        a(p.a.as<float>()),
        v_out(p.v_out.as<float>()) {}
  /// With the gains, which the gradients of a Rwkv7PrepareGrad are not.
  static Seven with_gains(const Rwkv7Prepare& p) {
    Seven s(p);
    s.k_k = Values(p.k_k), s.k_a = Values(p.k_a);
    return s;
  }
};

/// 1 / max(‖k‖, tiny) or 1 / max(‖k k_k‖, tiny) of a head, for every lane of its warp. c: its first channel.
__device__ float inverse_norm(const Seven& p, const float* k, int64_t c) {
  float sum = 0;
  for (int n = static_cast<int>(threadIdx.x % kWarp); n < p.N; n += kWarp) {
    const float u = k[n] * (p.balance ? 1 : p.k_k[c + n]);
    sum += u * u;
  }
  return 1 / fmaxf(sqrtf(warp_sum(sum)), kLeastNorm);
}

/// A head of a row a warp.
__global__ void seven_kernel(Seven p, int64_t items) {
  const int64_t item = int64_t{blockIdx.x} * kHeadsOfBlock + threadIdx.x / kWarp;
  if (item >= items) return;
  const int64_t row = item / p.heads, head = item % p.heads, c = head * p.N;
  const int64_t kv = (row * p.kv_heads + head / (p.heads / p.kv_heads)) * p.N;
  const float scale = inverse_norm(p, p.k + kv, c);
  for (int n = static_cast<int>(threadIdx.x % kWarp); n < p.N; n += kWarp) {
    const int64_t i = item * p.N + n;
    const float lw = kLogDecay7 * sigmoid(p.decay[i]), a = sigmoid(p.rate[i]), k = p.k[kv + n], v = p.v[kv + n];
    p.log_w[i] = lw;
    p.a[i] = a;
    if (p.mix != nullptr) {
      p.v_out[i] = v + (p.v_first[i] - v) * sigmoid(p.mix[i]);
    } else {
      p.v_out[i] = p.v_first[i] = v;
    }
    p.kappa[i] = k * (p.balance ? 1 : p.k_k[c + n]) * scale;
    p.k_tilde[i] = k * (p.balance ? a - expm1f(lw) : 1 + (a - 1) * p.k_a[c + n]);
  }
}

/// kappa·dkappa and 1 / ‖u‖ of each head of each row, where kappa = u / ‖u‖:  du = (dkappa - kappa (kappa·dkappa)) /
/// ‖u‖.
__global__ void seven_norms_kernel(float2* norms, Seven d, Seven p, int64_t items) {
  const int64_t item = int64_t{blockIdx.x} * kHeadsOfBlock + threadIdx.x / kWarp;
  if (item >= items) return;
  const int64_t row = item / p.heads, head = item % p.heads;
  const int64_t kv = (row * p.kv_heads + head / (p.heads / p.kv_heads)) * p.N;
  float dot = 0;
  for (int n = static_cast<int>(threadIdx.x % kWarp); n < p.N; n += kWarp)
    dot += p.kappa[item * p.N + n] * d.kappa[item * p.N + n];
  dot = warp_sum(dot);
  const float scale = inverse_norm(p, p.k + kv, head * p.N);
  if (threadIdx.x % kWarp == 0) norms[item] = {dot, scale};
}

}  // namespace

void rwkv6_prepare(Device& on, const Rwkv6Prepare& p) {
  const int64_t N = p.head, A = p.heads * N, G = p.heads / p.kv_heads, W = p.kv_heads * N;
  each(on, p.log_w.count(),
       [=, balance = p.balance, k = p.k.as<float>(), decay = p.decay.as<float>(), log_w = p.log_w.as<float>(),
        k_tilde = p.k_tilde.as<float>()] __device__(int64_t i) {
         const float lw = fmaxf(-expf(decay[i]), kLeastLogDecay6), ki = k[i / A * W + i % A / N / G * N + i % N];
         log_w[i] = lw;
         k_tilde[i] = balance ? -ki * expm1f(lw) : ki;
       });
}

void rwkv6_prepare_vjp(Device& on, const Rwkv6PrepareGrad& d, const Rwkv6Prepare& p) {
  const int64_t N = p.head, A = p.heads * N, G = p.heads / p.kv_heads, W = p.kv_heads * N;
  each(on, p.k.count(),
       [=, balance = p.balance, k = p.k.as<float>(), decay = p.decay.as<float>(), log_w = p.log_w.as<float>(),
        dk = d.k.as<float>(), ddecay = d.decay.as<float>(), dlog_w = d.log_w.as<float>(),
        dk_tilde = d.k_tilde.as<float>()] __device__(int64_t kv) {
         float sum = 0;
         for (int64_t g = 0; g < G; ++g) {
           const int64_t i = kv / W * A + (kv % W / N * G + g) * N + kv % N;
           const float raw = -expf(decay[i]), w = expf(log_w[i]), dkt = dk_tilde[i];
           const float dlw = dlog_w[i] - (balance ? dkt * k[kv] * w : 0);
           ddecay[i] = raw < kLeastLogDecay6 ? 0 : dlw * raw;
           sum += dkt * (balance ? -expm1f(log_w[i]) : 1);
         }
         dk[kv] = sum;
       });
}

void rwkv7_prepare(Device& on, const Rwkv7Prepare& p) {
  const int64_t items = p.log_w.count() / p.head;
  launch(on, blocks_for(items, kHeadsOfBlock), kHeadsOfBlock * kWarp, 0, seven_kernel, Seven::with_gains(p), items);
}

void rwkv7_prepare_vjp(Device& on, const Rwkv7PrepareGrad& dp, const Rwkv7Prepare& of) {
  const Seven p = Seven::with_gains(of), d(dp);
  const int64_t N = p.N, A = p.heads * N, G = p.heads / p.kv_heads, W = p.kv_heads * N, R = of.log_w.count() / A;
  auto* norms = on.scratch<float2>(Use::rows, R * p.heads);
  launch(on, blocks_for(R * p.heads, kHeadsOfBlock), kHeadsOfBlock * kWarp, 0, seven_norms_kernel, norms, d, p,
         R * p.heads);
  if (!p.balance) {
    add_column_sums(on, dp.k_a.as<float>(), R, A, [=] __device__(int64_t r, int64_t c) {
      const int64_t i = r * A + c;
      return d.k_tilde[i] * p.k[r * W + c / N / G * N + c % N] * (p.a[i] - 1);
    });
    add_column_sums(on, dp.k_k.as<float>(), R, A, [=] __device__(int64_t r, int64_t c) {
      const int64_t i = r * A + c;
      const float2 norm = norms[i / N];
      return (d.kappa[i] - p.kappa[i] * norm.x) * norm.y * p.k[r * W + c / N / G * N + c % N];
    });
  }
  each(on, R * W, [=] __device__(int64_t kv) {
    float dk = 0, dv = 0;
    for (int64_t g = 0; g < G; ++g) {
      const int64_t c = (kv % W / N * G + g) * N + kv % N, i = kv / W * A + c;
      const float lw = p.log_w[i], a = p.a[i], k = p.k[kv], dkt = d.k_tilde[i];
      float dlw = d.log_w[i], da = d.a[i];
      if (p.balance) {
        dk += dkt * (a - expm1f(lw));
        dlw -= dkt * k * expf(lw);
        da += dkt * k;
      } else {
        dk += dkt * (1 + (a - 1) * p.k_a[c]);
        da += dkt * k * p.k_a[c];
      }
      const float2 norm = norms[i / N];
      dk += (d.kappa[i] - p.kappa[i] * norm.x) * norm.y * (p.balance ? 1 : p.k_k[c]);
      d.decay[i] = dlw * lw * (1 - sigmoid(p.decay[i]));
      d.rate[i] = da * a * (1 - a);
      const float dvo = d.v_out[i];
      if (p.mix != nullptr) {
        const float nu = sigmoid(p.mix[i]);
        dv += dvo * (1 - nu);
        d.v_first[i] += dvo * nu;
        d.mix[i] = dvo * (p.v_first[i] - p.v[kv]) * nu * (1 - nu);
      } else {
        dv += dvo + d.v_first[i];
      }
    }
    d.k[kv] = dk;
    d.v[kv] = dv;
  });
}

}  // namespace qwerky::cuda
