// SPDX-License-Identifier: MIT
// What kernels share: loads by element type, sums over a warp and a block, and the two patterns most operations are.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "backend/cuda/device.h"

// Dynamic shared memory of the running block as T*.
#ifdef __CUDACC__
#define DYNAMIC_SHARED(T, name)                               \
  extern __shared__ __align__(16) unsigned char raw_shared[]; \
  T* const name = reinterpret_cast<T*>(raw_shared)
#else
#define DYNAMIC_SHARED(T, name) T* const name = reinterpret_cast<T*>(cuda_emulation::dynamic_shared())
#endif

namespace qwerky::cuda {

constexpr unsigned kAll = 0xffffffffu;  ///< lanes of a warp
constexpr int kWarp = 32;

/// Weights that may be f32 or bf16, read as f32; null reads as 0.
struct Values {
  const void* data = nullptr;
  bool half = false;
  Values() = default;
  explicit Values(const Tensor& t) : data(t.data), half(t.type == DType::bf16) {
    CHECK(!t || t.type == DType::f32 || half, "operand of type ", name_of(t.type));
  }
  __device__ float operator[](int64_t i) const {
    if (data == nullptr) return 0;
    return half ? __bfloat162float(static_cast<const __nv_bfloat16*>(data)[i]) : static_cast<const float*>(data)[i];
  }
};

__device__ inline float sigmoid(float x) { return 1 / (1 + expf(-x)); }

template <class T>
__device__ inline T warp_sum(T x) {
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(kAll, x, lanes);
  return x;
}
__device__ inline float warp_max(float x) {
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) x = fmaxf(x, __shfl_xor_sync(kAll, x, lanes));
  return x;
}

/// The sum over the block (of one dimension), for every thread, in an order that the number of threads alone decides.
template <class T>
__device__ inline T block_sum(T x) {
  __shared__ T parts[kWarp];
  x = warp_sum(x);
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = x;
  __syncthreads();
  T total = 0;
  for (unsigned w = 0; w < blockDim.x / kWarp; ++w) total += parts[w];
  __syncthreads();  // parts may be written again
  return total;
}
__device__ inline float block_max(float x) {
  __shared__ float parts[kWarp];
  x = warp_max(x);
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = x;
  __syncthreads();
  float top = parts[0];
  for (unsigned w = 1; w < blockDim.x / kWarp; ++w) top = fmaxf(top, parts[w]);
  __syncthreads();
  return top;
}

/// Threads of a block that works on one row: a function of the columns alone, and so is the order of its sums.
inline unsigned row_threads(int64_t cols) {
  return static_cast<unsigned>(std::clamp<int64_t>((cols + kWarp - 1) / kWarp * kWarp, kWarp, 256));
}

template <class F>
__global__ void each_kernel(int64_t n, F f) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step) f(i);
}
/// f(i) for i < n, in any order.
template <class F>
void each(Device& on, int64_t n, F f) {
  launch(on, std::min(blocks_for(n, 256), 1u << 16), 256, 0, each_kernel<F>, n, f);
}

template <class F>
__global__ void each_in_segments_kernel(const DeviceSegment* segments, int64_t per_row, F f) {
  const DeviceSegment s = segments[blockIdx.y];
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < s.rows * per_row; i += step)
    f(s, i / per_row, i % per_row);
}
/// f(segment, t, i) for each row t of each segment and i < per_row, in any order.
template <class F>
void each_in_segments(Device& on, Batch batch, int64_t offset, int64_t per_row, F f) {
  int64_t longest = 0;
  for (const Segment& s : batch) longest = std::max(longest, s.rows);
  launch(on, dim3(std::min(blocks_for(longest * per_row, 256), 1u << 16), static_cast<unsigned>(batch.size())), 256, 0,
         each_in_segments_kernel<F>, on.upload(batch, offset), per_row, f);
}

constexpr int64_t kSumRows = 128;  ///< summed by one block of column_parts

/// parts[chunk][c] = Σ f(r, c) over the rows of a chunk. Block (32 columns, 8 lanes along the rows).
template <class F>
__global__ void column_parts_kernel(float* parts, int64_t rows, int64_t cols, F f) {
  __shared__ float sums[8][kWarp];
  const int64_t c = int64_t{blockIdx.x} * kWarp + threadIdx.x, first = int64_t{blockIdx.y} * kSumRows;
  const int64_t last = first + kSumRows < rows ? first + kSumRows : rows;
  float sum = 0;
  for (int64_t r = first + threadIdx.y; r < last && c < cols; r += 8) sum += f(r, c);
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || c >= cols) return;
  for (int y = 1; y < 8; ++y) sum += sums[y][threadIdx.x];
  parts[blockIdx.y * cols + c] = sum;
}

/// out[c] += Σ_r f(r, c), in an order that the number of rows alone decides.
template <class F>
void add_column_sums(Device& on, float* out, int64_t rows, int64_t cols, F f) {
  const int64_t chunks = blocks_for(rows, kSumRows);
  float* parts = on.scratch<float>(Use::sums, chunks * cols);
  launch(on, dim3(blocks_for(cols, kWarp), static_cast<unsigned>(chunks)), dim3(kWarp, 8), 0, column_parts_kernel<F>,
         parts, rows, cols, f);
  each(on, cols, [=] __device__(int64_t c) {
    float sum = 0;
    for (int64_t i = 0; i < chunks; ++i) sum += parts[i * cols + c];
    out[c] += sum;
  });
}

}  // namespace qwerky::cuda
