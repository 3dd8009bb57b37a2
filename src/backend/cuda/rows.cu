// SPDX-License-Identifier: MIT
// Operations on one element at a time.
#include "backend/cuda/kernel.h"
#include "backend/cuda/operations.h"

namespace qwerky::cuda {
namespace {

struct Clear {
  void* to;
  size_t bytes;
  void operator()(Device& on) const { check(cudaMemsetAsync(to, 0, bytes, on.stream()), "zero"); }
};
struct Copy {
  void* to;
  const void* from;
  size_t bytes;
  void operator()(Device& on) const { check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, on.stream()), "copy"); }
};

}  // namespace

void zero(Device& on, Tensor y) { on.queue(Clear{y.data, static_cast<size_t>(y.bytes())}); }

void copy(Device& on, Tensor y, Tensor x) {
  if (y.data == x.data) return;
  if (y.type == DType::bf16 && x.type == DType::f32)
    return each(on, y.count(), [to = static_cast<__nv_bfloat16*>(y.data), from = x.as<float>()] __device__(int64_t i) {
      to[i] = __float2bfloat16(from[i]);
    });
  on.queue(Copy{y.data, x.data, static_cast<size_t>(y.bytes())});
}

void add(Device& on, Tensor y, Tensor x) {
  each(on, y.count(), [to = y.as<float>(), from = x.as<float>()] __device__(int64_t i) { to[i] += from[i]; });
}

void lerp(Device& on, Tensor y, Tensor x, double t) {
  each(on, y.count(), [to = y.as<float>(), from = x.as<float>(), s = static_cast<float>(t)] __device__(int64_t i) {
    to[i] += s * (from[i] - to[i]);
  });
}

void activate(Device& on, Tensor y, Tensor x, Activation f, int64_t first) {
  const int64_t n = y.cols(), wide = x.cols();
  each(on, y.count(), [=, to = y.as<float>(), from = x.as<float>()] __device__(int64_t i) {
    const float value = from[i / n * wide + first + i % n];
    to[i] = f == Activation::tanh ? tanhf(value) : sigmoid(value);
  });
}

void activate_vjp(Device& on, Tensor dx, Tensor dy, Tensor y, Activation f, int64_t first) {
  const int64_t n = y.cols(), wide = dx.cols();
  each(on, y.count(), [=, to = dx.as<float>(), from = dy.as<float>(), at = y.as<float>()] __device__(int64_t i) {
    const float v = at[i];
    to[i / n * wide + first + i % n] = from[i] * (f == Activation::tanh ? 1 - v * v : v * (1 - v));
  });
}

void swiglu(Device& on, Tensor y, Tensor gate, Tensor up) {
  each(on, y.count(), [to = y.as<float>(), g = gate.as<float>(), u = up.as<float>()] __device__(int64_t i) {
    to[i] = g[i] * sigmoid(g[i]) * u[i];
  });
}

void swiglu_vjp(Device& on, Tensor dgate, Tensor dup, Tensor dy, Tensor gate, Tensor up) {
  each(on, dy.count(),
       [dg = dgate.as<float>(), du = dup.as<float>(), d = dy.as<float>(), gates = gate.as<float>(),
        ups = up.as<float>()] __device__(int64_t i) {
         const float g = gates[i], s = sigmoid(g), dyi = d[i], u = ups[i];
         dg[i] = dyi * u * s * (1 + g * (1 - s));
         du[i] = dyi * g * s;
       });
}

void gate(Device& on, Tensor y, Tensor o, Tensor g, bool squash) {
  each(on, y.count(), [=, to = y.as<float>(), from = o.as<float>(), gates = g.as<float>()] __device__(int64_t i) {
    to[i] = from[i] * (squash ? sigmoid(gates[i]) : gates[i]);
  });
}

void gate_vjp(Device& on, Tensor d_o, Tensor dg, Tensor dy, Tensor o, Tensor g, bool squash) {
  each(on, dy.count(),
       [=, to_o = d_o.as<float>(), to_g = dg.as<float>(), from = dy.as<float>(), os = o.as<float>(),
        gates = g.as<float>()] __device__(int64_t i) {
         const float d = from[i], value = os[i], v = squash ? sigmoid(gates[i]) : gates[i];
         to_g[i] = d * value * (squash ? v * (1 - v) : 1);
         to_o[i] = d * v;
       });
}

}  // namespace qwerky::cuda
