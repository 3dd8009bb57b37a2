// SPDX-License-Identifier: MIT
// Products of activations and weights in rows. A few rows are bound by reading the weights: a kernel of our own reads
// them as stored. The rest goes to multiply().
#include "backend/cuda/products.h"

#include "backend/cuda/kernel.h"
#include "backend/cuda/operations.h"

namespace qwerky::cuda {
namespace {

constexpr int kFewRows = 8;         ///< up to these the weights' bytes bound a product, and sums fit in registers
constexpr int kOutputsOfBlock = 4;  ///< a warp each

__device__ float rounded(float x, bool half) { return half ? __bfloat162float(__float2bfloat16(x)) : x; }

/// Four neighbouring weights: 8 or 16 bytes by one load.
__device__ void load4(const float* w, float out[4]) {
  const float4 v = *reinterpret_cast<const float4*>(w);
  out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
}
struct alignas(8) Four {
  __nv_bfloat16 of[4];
};
__device__ void load4(const __nv_bfloat16* w, float out[4]) {
  const Four four = *reinterpret_cast<const Four*>(w);
#pragma unroll
  for (int i = 0; i < 4; ++i) out[i] = __bfloat162float(four.of[i]);
}

/// y[r][o] = Σ_k x[r][k] W[o][k] + bias[o] for R <= kFewRows rows, an output a warp. `wide`: K and the addresses allow
/// loads of four.
template <class W>
__global__ void few_rows_kernel(float* y, const float* x, const W* weight, const float* bias, int R, int64_t K,
                                int64_t out, bool half, bool wide) {
  const int64_t o = int64_t{blockIdx.x} * kOutputsOfBlock + threadIdx.x / kWarp;
  if (o >= out) return;
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const W* w = weight + o * K;
  float sums[kFewRows] = {};
  if (wide) {
    for (int64_t k = 4 * lane; k < K; k += 4 * kWarp) {
      float ws[4], xs[4];
      load4(w + k, ws);
#pragma unroll
      for (int r = 0; r < kFewRows; ++r) {
        if (r >= R) break;
        load4(x + r * K + k, xs);
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[r] += rounded(xs[i], half) * rounded(ws[i], half);
      }
    }
  } else {
    for (int64_t k = lane; k < K; k += kWarp) {
      const float wk = rounded(static_cast<float>(w[k]), half);
#pragma unroll
      for (int r = 0; r < kFewRows; ++r) {
        if (r >= R) break;
        sums[r] += rounded(x[r * K + k], half) * wk;
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kFewRows; ++r) {
    if (r >= R) break;
    const float sum = warp_sum(sums[r]);
    if (lane == 0) y[r * out + o] = sum + (bias != nullptr ? bias[o] : 0);
  }
}

bool aligned(const void* p, size_t to) { return reinterpret_cast<uintptr_t>(p) % to == 0; }

void few_rows(Device& on, const Product& p, bool half) {
  const int64_t K = p.x.cols(), out = p.y.cols();
  const auto run = [&](const auto* weight) {
    const bool wide = K % 4 == 0 && aligned(weight, 16) && aligned(p.x.data, 16);
    launch(on, blocks_for(out, kOutputsOfBlock), kOutputsOfBlock * kWarp, 0,
           few_rows_kernel<std::remove_cvref_t<decltype(*weight)>>, p.y.as<float>(), p.x.as<float>(), weight,
           bias_of(on, p.bias), static_cast<int>(p.x.row_count()), K, out, half, wide);
  };
  p.weight.type == DType::bf16 ? run(static_cast<const __nv_bfloat16*>(p.weight.data)) : run(p.weight.as<float>());
}

}  // namespace

void multiply(Device& on, const Multiply& p) {
  struct Call {
    Multiply p;
    void* memory;
    void operator()(Device& device) const { queue_multiply(device, p, memory); }
  };
  on.queue(Call{p, on.scratch<char>(Use::products, kMultiplyBytes)});
}

const void* operand(Device& on, Use use, Tensor x, bool half) {
  CHECK(x.type == DType::f32 || x.type == DType::bf16, "operand of type ", name_of(x.type));
  if ((x.type == DType::bf16) == half) return x.data;
  const Values from(x);
  if (half) {
    auto* to = on.scratch<__nv_bfloat16>(use, x.count());
    each(on, x.count(), [=] __device__(int64_t i) { to[i] = __float2bfloat16(from[i]); });
    return to;
  }
  auto* to = on.scratch<float>(use, x.count());
  each(on, x.count(), [=] __device__(int64_t i) { to[i] = from[i]; });
  return to;
}

const float* bias_of(Device& on, Tensor bias) {
  return bias ? static_cast<const float*>(operand(on, Use::bias, bias, false)) : nullptr;
}

void linear(Device& on, Precision precision, std::span<const Product> products) {
  const bool half = precision == Precision::bf16;
  Tensor converted;  // the x whose operand is at hand
  const void* x = nullptr;
  for (const Product& p : products) {
    const int64_t R = p.x.row_count(), K = p.x.cols(), out = p.y.cols();
    if (R == 0 || out == 0) continue;
    if (p.weight.layout == Layout::panels) {
      linear_panels(on, precision, p);
      converted = Tensor();
    } else if (R <= kFewRows && !p.in_out) {
      few_rows(on, p, half);
    } else {
      if (converted.data != p.x.data || converted.count() != p.x.count()) x = operand(on, Use::operand_x, p.x, half);
      converted = p.x;
      multiply(on, {.m = R,
                    .n = out,
                    .k = K,
                    .a = x,
                    .b = operand(on, Use::operand_w, p.weight, half),
                    .b_transposed = !p.in_out,
                    .half = half,
                    .c = p.y.as<float>(),
                    .c_stride = out,
                    .bias = bias_of(on, p.bias)});
    }
  }
}

void linear_vjp(Device& on, Precision precision, Tensor x, Tensor dx, std::span<const ProductVjp> products, Into into) {
  const bool half = precision == Precision::bf16;
  const int64_t R = x.row_count(), K = x.cols();
  bool add = into == Into::add;
  if (dx && !add && (R == 0 || products.empty())) zero(on, dx);
  const void* xs = nullptr;
  for (const ProductVjp& p : products) {
    const int64_t out = p.dy.cols();
    if (p.dbias)
      add_column_sums(on, p.dbias.as<float>(), R, out,
                      [=, d = p.dy.as<float>()] __device__(int64_t r, int64_t c) { return d[r * out + c]; });
    if (R == 0 || K == 0 || (!dx && !p.dweight)) continue;
    const void* dy = operand(on, Use::operand_dy, p.dy, half);
    if (dx) {
      multiply(on, {.m = R,
                    .n = K,
                    .k = out,
                    .a = dy,
                    .b = operand(on, Use::operand_w, p.weight, half),
                    .b_transposed = p.in_out,
                    .half = half,
                    .c = dx.as<float>(),
                    .c_stride = K,
                    .add = add});
      add = true;
    }
    if (!p.dweight) continue;
    if (xs == nullptr) xs = operand(on, Use::operand_x, x, half);
    Multiply w{.k = R, .a_transposed = true, .half = half, .c = p.dweight.as<float>(), .add = true};
    if (p.in_out) {
      w.m = K, w.n = out, w.a = xs, w.b = dy;
    } else {
      w.m = out, w.n = K, w.a = dy, w.b = xs;
    }
    w.c_stride = w.n;
    multiply(on, w);
  }
}

}  // namespace qwerky::cuda
