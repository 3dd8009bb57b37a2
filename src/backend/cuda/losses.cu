// SPDX-License-Identifier: MIT
// Losses (a block a row), sums for the host, and the optimiser.
#include <cmath>

#include "backend/cuda/kernel.h"
#include "backend/cuda/operations.h"

namespace qwerky::cuda {
namespace {

__global__ void align_kernel(float* loss, float* dys, const float* ys, const float* yt, int64_t D, float scale) {
  const int64_t row = blockIdx.x * D;
  float square = 0;
  for (int64_t i = threadIdx.x; i < D; i += blockDim.x) {
    const float e = ys[row + i] - yt[row + i];
    square += e * e;
  }
  const float norm = sqrtf(block_sum(square));
  if (threadIdx.x == 0) loss[blockIdx.x] = norm * scale;
  for (int64_t i = threadIdx.x; i < D && dys != nullptr; i += blockDim.x)
    dys[row + i] = norm > 0 ? (ys[row + i] - yt[row + i]) / norm * scale : 0;
}

/// log Σ exp of a row as its largest element and the rest, for every thread: a logit minus both keeps its digits.
struct LogSum {
  float top, log_sum;
  __device__ float log_softmax(float x) const { return x - top - log_sum; }
};
__device__ LogSum log_sum_exp(const float* x, int64_t V) {
  float top = -INFINITY, sum = 0;  // of this thread: Σ exp(x - top)
  for (int64_t i = threadIdx.x; i < V; i += blockDim.x) {
    const float value = x[i];
    if (value > top) sum *= expf(top - value), top = value;
    sum += expf(value - top);
  }
  const float largest = block_max(top);
  return {largest, logf(block_sum(top == -INFINITY ? 0.0f : sum * expf(top - largest)))};
}

__global__ void cross_entropy_kernel(float* loss, float* dlogits, const float* logits, const int32_t* targets,
                                     int64_t V, float weight) {
  const int64_t row = blockIdx.x * V;
  const int32_t target = targets[blockIdx.x];
  const LogSum z = log_sum_exp(logits + row, V);
  if (threadIdx.x == 0) loss[blockIdx.x] = target < 0 ? 0 : -weight * z.log_softmax(logits[row + target]);
  __syncthreads();  // dlogits may be logits
  for (int64_t i = threadIdx.x; i < V && dlogits != nullptr; i += blockDim.x) {
    const float p = expf(z.log_softmax(logits[row + i]));
    dlogits[row + i] = target < 0 ? 0 : weight * (p - (i == target ? 1 : 0));
  }
}

__global__ void kl_kernel(float* loss, float* dstudent, const float* student, const float* teacher, int64_t V,
                          float weight) {
  const int64_t row = blockIdx.x * V;
  const LogSum zs = log_sum_exp(student + row, V), zt = log_sum_exp(teacher + row, V);
  float sum = 0;
  for (int64_t i = threadIdx.x; i < V; i += blockDim.x) {
    const float lt = zt.log_softmax(teacher[row + i]), ls = zs.log_softmax(student[row + i]), pt = expf(lt);
    sum += pt * (lt - ls);
    if (dstudent != nullptr) dstudent[row + i] = weight * (expf(ls) - pt);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) loss[blockIdx.x] = sum * weight;
}

__global__ void argmax_kernel(int32_t* best, const float* logits, int64_t V) {
  __shared__ float tops[256];
  __shared__ int64_t places[256];
  const float* x = logits + blockIdx.x * V;
  float top = -INFINITY;
  int64_t place = V;
  for (int64_t i = threadIdx.x; i < V; i += blockDim.x)
    if (x[i] > top || place == V) top = x[i], place = i;
  tops[threadIdx.x] = top, places[threadIdx.x] = place;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (unsigned t = 1; t < blockDim.x; ++t)
    if (places[t] < V && (tops[t] > top || (tops[t] == top && places[t] < place))) top = tops[t], place = places[t];
  best[blockIdx.x] = static_cast<int32_t>(place);
}

constexpr int64_t kSumOfBlock = 8192;  ///< elements: the order of a sum depends on their number alone

__global__ void sum_kernel(double* parts, const float* x, int64_t n, bool squares) {
  const int64_t first = blockIdx.x * kSumOfBlock, last = first + kSumOfBlock < n ? first + kSumOfBlock : n;
  double sum = 0;
  for (int64_t i = first + threadIdx.x; i < last; i += blockDim.x)
    sum += squares ? static_cast<double>(x[i]) * static_cast<double>(x[i]) : static_cast<double>(x[i]);
  sum = block_sum(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

/// One block.
__global__ void sum_parts_kernel(double* total, const double* parts, int64_t n) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += parts[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *total = sum;
}

double sum_of(Device& on, Tensor x, bool squares) {
  const int64_t n = x.count(), blocks = blocks_for(n, kSumOfBlock);
  if (n == 0) return 0;
  auto* parts = on.scratch<double>(Use::losses, blocks);
  auto* total = on.results<double>(1);
  launch(on, static_cast<unsigned>(blocks), 256, 0, sum_kernel, parts, x.as<float>(), n, squares);
  launch(on, 1, 256, 0, sum_parts_kernel, total, parts, blocks);
  on.wait();
  return *total;
}

}  // namespace

void align(Device& on, Tensor loss, Tensor dys, Tensor ys, Tensor yt, double weight) {
  const int64_t D = ys.cols();
  launch(on, blocks_for(ys.row_count(), 1), row_threads(D), 0, align_kernel, loss.as<float>(), dys.as<float>(),
         ys.as<float>(), yt.as<float>(), D, static_cast<float>(weight / std::sqrt(static_cast<double>(D))));
}

void cross_entropy(Device& on, Tensor loss, Tensor dlogits, Tensor logits, std::span<const int32_t> targets,
                   double weight) {
  launch(on, blocks_for(logits.row_count(), 1), row_threads(logits.cols()), 0, cross_entropy_kernel, loss.as<float>(),
         dlogits.as<float>(), logits.as<float>(), on.upload(targets), logits.cols(), static_cast<float>(weight));
}

void kl(Device& on, Tensor loss, Tensor dstudent, Tensor student, Tensor teacher, double weight) {
  launch(on, blocks_for(student.row_count(), 1), row_threads(student.cols()), 0, kl_kernel, loss.as<float>(),
         dstudent.as<float>(), student.as<float>(), teacher.as<float>(), student.cols(), static_cast<float>(weight));
}

void argmax(Device& on, std::span<int32_t> best, Tensor logits) {
  auto* found = on.results<int32_t>(logits.row_count());
  launch(on, blocks_for(logits.row_count(), 1), row_threads(logits.cols()), 0, argmax_kernel, found, logits.as<float>(),
         logits.cols());
  on.wait();
  std::copy_n(found, logits.row_count(), best.begin());
}

double sum(Device& on, Tensor x) { return sum_of(on, x, false); }
double sum_of_squares(Device& on, Tensor x) { return sum_of(on, x, true); }

void adamw(Device& on, const AdamW& rule, Tensor w, Tensor dw, Tensor m, Tensor v) {
  const auto step = static_cast<double>(rule.step);
  const auto scale = static_cast<float>(rule.grad_scale), keep1 = static_cast<float>(rule.beta1),
             keep2 = static_cast<float>(rule.beta2), take1 = static_cast<float>(1 - rule.beta1),
             take2 = static_cast<float>(1 - rule.beta2), lr = static_cast<float>(rule.lr),
             correct1 = static_cast<float>(1 / (1 - std::pow(rule.beta1, step))),
             correct2 = static_cast<float>(1 / (1 - std::pow(rule.beta2, step))), eps = static_cast<float>(rule.eps),
             decay = static_cast<float>(rule.weight_decay);
  each(on, w.count(),
       [=, ws = w.as<float>(), dws = dw.as<float>(), ms = m.as<float>(), vs = v.as<float>()] __device__(int64_t i) {
         const float g = dws[i] * scale;
         const float first = keep1 * ms[i] + take1 * g, second = keep2 * vs[i] + take2 * g * g;
         ms[i] = first, vs[i] = second;
         ws[i] -= lr * (first * correct1 / (sqrtf(second * correct2) + eps) + decay * ws[i]);
       });
}

}  // namespace qwerky::cuda
