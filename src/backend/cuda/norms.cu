// SPDX-License-Identifier: MIT
// Norms over rows and over heads: a block a row, a warp a head.
#include "backend/cuda/kernel.h"
#include "backend/cuda/operations.h"

namespace qwerky::cuda {
namespace {

/// 1 / sqrt(mean(x²) + eps) of a row, for every thread of its block.
__device__ float inverse_rms(const float* x, int64_t D, float eps) {
  float sum = 0;
  for (int64_t i = threadIdx.x; i < D; i += blockDim.x) sum += x[i] * x[i];
  return 1 / sqrtf(block_sum(sum) / static_cast<float>(D) + eps);
}

/// A row a block. With b, sum = a + b first; else a is the input and `sum` is not written.
__global__ void rmsnorm_kernel(float* y, float* sum, const float* a, const float* b, Values gain, int64_t D,
                               float eps) {
  const int64_t row = blockIdx.x * D;
  const float* x = a + row;
  if (b != nullptr) {
    for (int64_t i = threadIdx.x; i < D; i += blockDim.x) sum[row + i] = a[row + i] + b[row + i];
    x = sum + row;  // each thread reads what it wrote itself
  }
  const float scale = inverse_rms(x, D, eps);
  for (int64_t i = threadIdx.x; i < D; i += blockDim.x) y[row + i] = x[i] * scale * gain[i];
}

/// scales[r] is left for the gradient of the gain.
__global__ void rmsnorm_vjp_kernel(float* dx, float* scales, const float* dy, const float* x, Values gain, int64_t D,
                                   float eps, bool add) {
  const int64_t row = blockIdx.x * D;
  const float s = inverse_rms(x + row, D, eps);
  float part = 0;  // of Σ dy·gain·x
  for (int64_t i = threadIdx.x; i < D; i += blockDim.x) part += dy[row + i] * gain[i] * x[row + i];
  const float slope = block_sum(part) * s * s * s / static_cast<float>(D);
  for (int64_t i = threadIdx.x; i < D; i += blockDim.x) {
    const float d = s * dy[row + i] * gain[i] - x[row + i] * slope;
    dx[row + i] = add ? dx[row + i] + d : d;
  }
  if (threadIdx.x == 0) scales[blockIdx.x] = s;
}

__global__ void scales_kernel(float* scales, const float* x, int64_t D, float eps) {
  const float s = inverse_rms(x + blockIdx.x * D, D, eps);
  if (threadIdx.x == 0) scales[blockIdx.x] = s;
}

/// Mean and 1 / sqrt(variance + eps) of N values, for every lane of a warp.
__device__ float2 head_moments(const float* x, int N, float eps) {
  const unsigned lane = threadIdx.x % kWarp;
  float mean = 0, variance = 0;
  for (int i = static_cast<int>(lane); i < N; i += kWarp) mean += x[i];
  mean = warp_sum(mean) / static_cast<float>(N);
  for (int i = static_cast<int>(lane); i < N; i += kWarp) variance += (x[i] - mean) * (x[i] - mean);
  return {mean, 1 / sqrtf(warp_sum(variance) / static_cast<float>(N) + eps)};
}

constexpr int kHeadsOfBlock = 4;  ///< warps

__global__ void groupnorm_kernel(float* y, const float* x, Values gain, Values bias, int64_t groups, int heads, int N,
                                 float eps) {
  const int64_t g = int64_t{blockIdx.x} * kHeadsOfBlock + threadIdx.x / kWarp;
  if (g >= groups) return;
  const auto [mean, scale] = head_moments(x + g * N, N, eps);
  for (int i = static_cast<int>(threadIdx.x % kWarp); i < N; i += kWarp) {
    const int64_t c = g % heads * N + i;
    y[g * N + i] = (x[g * N + i] - mean) * scale * gain[c] + bias[c];
  }
}

/// moments[g] is left for the gradients of the parameters.
__global__ void groupnorm_vjp_kernel(float* dx, float2* moments, const float* dy, const float* x, Values gain,
                                     int64_t groups, int heads, int N, float eps) {
  const int64_t g = int64_t{blockIdx.x} * kHeadsOfBlock + threadIdx.x / kWarp;
  if (g >= groups) return;
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const float2 of = head_moments(x + g * N, N, eps);
  const float mean = of.x, scale = of.y, n_inverse = 1 / static_cast<float>(N);
  float sum = 0, dot = 0;  // of dn and dn·n, where n is the normalised input
  for (int i = lane; i < N; i += kWarp) {
    const float dn = dy[g * N + i] * gain[g % heads * N + i];
    sum += dn, dot += dn * (x[g * N + i] - mean) * scale;
  }
  sum = warp_sum(sum) * n_inverse, dot = warp_sum(dot) * n_inverse;
  if (lane == 0) moments[g] = of;
  for (int i = lane; i < N; i += kWarp) {
    const float n = (x[g * N + i] - mean) * scale, dn = dy[g * N + i] * gain[g % heads * N + i];
    dx[g * N + i] = scale * (dn - sum - n * dot);
  }
}

}  // namespace

void rmsnorm(Device& on, Tensor y, Tensor x, Tensor gain, double eps) {
  launch(on, blocks_for(x.row_count(), 1), row_threads(x.cols()), 0, rmsnorm_kernel, y.as<float>(), nullptr,
         x.as<float>(), nullptr, Values(gain), x.cols(), static_cast<float>(eps));
}

void add_rmsnorm(Device& on, Tensor sum, Tensor y, Tensor a, Tensor b, Tensor gain, double eps) {
  launch(on, blocks_for(a.row_count(), 1), row_threads(a.cols()), 0, rmsnorm_kernel, y.as<float>(), sum.as<float>(),
         a.as<float>(), b.as<float>(), Values(gain), a.cols(), static_cast<float>(eps));
}

void rmsnorm_vjp(Device& on, Tensor dx, Tensor dgain, Tensor dy, Tensor x, Tensor gain, double eps, Into into) {
  const int64_t R = x.row_count(), D = x.cols();
  float* scales = on.scratch<float>(Use::rows, R);
  if (dgain) {  // first: dx may be the memory of dy
    launch(on, blocks_for(R, 1), row_threads(D), 0, scales_kernel, scales, x.as<float>(), D, static_cast<float>(eps));
    add_column_sums(on, dgain.as<float>(), R, D,
                    [=, d = dy.as<float>(), from = x.as<float>()] __device__(int64_t r, int64_t c) {
                      return d[r * D + c] * from[r * D + c] * scales[r];
                    });
  }
  launch(on, blocks_for(R, 1), row_threads(D), 0, rmsnorm_vjp_kernel, dx.as<float>(), scales, dy.as<float>(),
         x.as<float>(), Values(gain), D, static_cast<float>(eps), into == Into::add);
}

void groupnorm(Device& on, Tensor y, Tensor x, Tensor gain, Tensor bias, int heads, double eps) {
  const int64_t groups = x.row_count() * heads;
  launch(on, blocks_for(groups, kHeadsOfBlock), kHeadsOfBlock * kWarp, 0, groupnorm_kernel, y.as<float>(),
         x.as<float>(), Values(gain), Values(bias), groups, heads, static_cast<int>(x.cols() / heads),
         static_cast<float>(eps));
}

void groupnorm_vjp(Device& on, Tensor dx, Tensor dgain, Tensor dbias, Tensor dy, Tensor x, Tensor gain, int heads,
                   double eps) {
  const int64_t R = x.row_count(), A = x.cols(), groups = R * heads, N = A / heads;
  float2* moments = on.scratch<float2>(Use::rows, groups);
  // Where dx is the memory of dy or x, the parameters' gradients would come too late: they need both.
  const bool in_place = dx.data == dy.data || dx.data == x.data;
  float* to = in_place ? on.scratch<float>(Use::operand_x, R * A) : dx.as<float>();
  launch(on, blocks_for(groups, kHeadsOfBlock), kHeadsOfBlock * kWarp, 0, groupnorm_vjp_kernel, to, moments,
         dy.as<float>(), x.as<float>(), Values(gain), groups, heads, static_cast<int>(N), static_cast<float>(eps));
  if (dgain)
    add_column_sums(on, dgain.as<float>(), R, A,
                    [=, d = dy.as<float>(), from = x.as<float>()] __device__(int64_t r, int64_t c) {
                      const float2 m = moments[r * heads + c / N];
                      return d[r * A + c] * (from[r * A + c] - m.x) * m.y;
                    });
  if (dbias)
    add_column_sums(on, dbias.as<float>(), R, A,
                    [=, d = dy.as<float>()] __device__(int64_t r, int64_t c) { return d[r * A + c]; });
  if (in_place) copy(on, dx, Tensor(to, DType::f32, dx.shape));
}

}  // namespace qwerky::cuda
