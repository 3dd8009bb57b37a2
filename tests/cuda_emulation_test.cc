// SPDX-License-Identifier: MIT
// That the emulated device finds what it is there to find: divergent barriers, missing barriers and waits, memory
// written out of bounds or read before it is written; and what the backend says of a device that will not do.
#include <cuda_pipeline.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "backend/cuda/cuda.h"
#include "backend/cuda/mma.h"
#include "cuda_emulation/emulation.h"
#include "expect_error.h"
#include "tensor/arena.h"

namespace qwerky {
namespace {

using cuda::Device;
using cuda::launch;
using testing::error_of;
using testing::has;

/// What running the kernel on one block throws.
template <class... P, class... A>
std::string run(unsigned threads, size_t shared, void (*kernel)(P...), A... arguments) {
  return error_of([&] {
    launch(Device::first(), 1, threads, shared, kernel, arguments...);
    wait_for_device();
  });
}

void some_end(int) {
  if (threadIdx.x < 32) return;
  __syncthreads();
}
void a_lane_ends(int) {
  if (threadIdx.x == 7) return;
  __syncwarp();
}
void lanes_part(int) {
  if (threadIdx.x < 16) {
    __syncwarp();
  } else {
    __shfl_sync(cuda::kAll, 1, 0);
  }
}
void writes_behind(int at) {
  DYNAMIC_SHARED(float, shared);
  shared[at] = 1;
}

TEST(CudaEmulation, ThreadsMustMeetAtBarriers) {
  EXPECT_PRED2(has, run(64, 0, some_end, 0), "32 of 64 threads ended, others wait at __syncthreads");
  EXPECT_PRED2(has, run(32, 0, a_lane_ends, 0), "lane 7 has ended");
  EXPECT_PRED2(has, run(32, 0, lanes_part, 0), "lane 0 waits at __syncwarp, lane 16 waits at a shuffle");
}

TEST(CudaEmulation, SharedMemoryHasABound) {
  EXPECT_PRED2(has, run(32, 64, writes_behind, 16), "written behind its 64 bytes of shared memory");
  EXPECT_PRED2(has, run(32, 200 << 10, writes_behind, 0), "launch of a kernel: invalid argument");
  EXPECT_PRED2(has, run(33, 0, writes_behind, 0), "launch of a kernel: invalid argument");
}

/// to[t] = what the thread before wrote; `meet` is what a correct kernel does.
void neighbours(float* to, bool meet) {
  DYNAMIC_SHARED(float, shared);
  shared[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (meet) __syncthreads();
  to[threadIdx.x] = shared[threadIdx.x == 0 ? 0 : threadIdx.x - 1];
}

TEST(CudaEmulation, AMissingBarrierShowsInOneOrder) {
  Device& on = Device::first();
  const Block block(4 * 64, "test");
  auto* found = reinterpret_cast<float*>(block.data());
  const auto right = [&](cuda_emulation::Order order, bool meet) {
    cuda_emulation::run_in(order);
    launch(on, 1, 64, 64 * sizeof(float), neighbours, found, meet);
    wait_for_device();
    cuda_emulation::run_in(cuda_emulation::Order::ascending);
    for (int t = 1; t < 64; ++t)
      if (found[t] != static_cast<float>(t - 1)) return false;
    return true;
  };
  EXPECT_TRUE(right(cuda_emulation::Order::ascending, true));
  EXPECT_TRUE(right(cuda_emulation::Order::descending, true));
  EXPECT_TRUE(right(cuda_emulation::Order::ascending, false));  // by luck
  EXPECT_FALSE(right(cuda_emulation::Order::descending, false));
}

/// to[t] = from[t] by way of shared memory; `wait` is what a correct kernel does.
void copies(float* to, const float* from, bool wait) {
  DYNAMIC_SHARED(float, shared);
  if (threadIdx.x < 8) __pipeline_memcpy_async(shared + 4 * threadIdx.x, from + 4 * threadIdx.x, 16);
  __pipeline_commit();
  if (wait) __pipeline_wait_prior(0);
  __syncthreads();
  to[threadIdx.x] = shared[threadIdx.x];
}

TEST(CudaEmulation, CopiesHappenWhenWaitedFor) {
  std::vector<float> from(32), to(32);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<float>(i);
  for (const bool wait : {true, false}) {
    launch(Device::first(), 1, 32, 32 * sizeof(float), copies, to.data(), from.data(), wait);
    wait_for_device();
    EXPECT_EQ(to == from, wait);
  }
}

TEST(CudaEmulation, NothingHappensBeforeSomeoneWaits) {
  const auto on = cuda::make(Precision::f32);
  const Block block(64, "test");
  const Tensor x(block.data(), DType::f32, {1});
  x.as<float>()[0] = 3;
  on->add(x, x);
  EXPECT_EQ(x.as<float>()[0], 3);
  wait_for_device();
  EXPECT_EQ(x.as<float>()[0], 6);
}

void add_to(float* to, const float* from, float more) {
  if (threadIdx.x == 0) *to += *from + more;
}

TEST(CudaEmulation, AGraphHoldsArgumentsAndReadsMemory) {
  Device& on = Device::first();
  float to = 0, from = 1, more = 10;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t made = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(on.stream(), cudaStreamCaptureModeThreadLocal), cudaSuccess);
  EXPECT_EQ(cudaStreamBeginCapture(on.stream(), cudaStreamCaptureModeThreadLocal), cudaErrorIllegalState);
  launch(on, 1, 32, 0, add_to, &to, &from, more);
  ASSERT_EQ(cudaStreamEndCapture(on.stream(), &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&made, graph, 0), cudaSuccess);
  wait_for_device();
  EXPECT_EQ(to, 0);  // captured, not run
  from = 2, more = 20;
  cudaGraphLaunch(made, on.stream());
  cudaGraphDestroy(graph);
  EXPECT_EQ(to, 0);  // queued
  wait_for_device();
  EXPECT_EQ(to, 12);
  cudaGraphLaunch(made, on.stream());
  cudaGraphExecDestroy(made);
  wait_for_device();
  EXPECT_EQ(to, 24);
}

TEST(CudaEmulation, NothingWaitsOrAllocatesInACapture) {
  Device& on = Device::first();
  void *memory = nullptr, *other = nullptr;
  ASSERT_EQ(cudaMalloc(&memory, 64), cudaSuccess);
  const std::vector<std::function<cudaError_t()>> forbidden = {
      [&] { return cudaMalloc(&other, 64); }, [&] { return cudaMallocManaged(&other, 64); },
      [&] { return cudaHostAlloc(&other, 64, cudaHostAllocDefault); }, [&] { return cudaFree(memory); },
      [&] { return cudaStreamSynchronize(on.stream()); }};
  for (const auto& call : forbidden) {
    cudaGraph_t graph = nullptr;
    ASSERT_EQ(cudaStreamBeginCapture(on.stream(), cudaStreamCaptureModeThreadLocal), cudaSuccess);
    EXPECT_EQ(call(), cudaErrorStreamCaptureUnsupported);
    EXPECT_EQ(cudaStreamEndCapture(on.stream(), &graph), cudaErrorStreamCaptureInvalidated);
    EXPECT_EQ(graph, nullptr);
  }
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
}

/// One product of each kind; A [16, k], B [k, 8] in rows, C [16, 8].
void products(float* c, const bf16* a, const bf16* b, int* ci, const int8_t* ai, const int8_t* bi) {
  const unsigned g = threadIdx.x / 4, t = threadIdx.x % 4;
  unsigned fa[4] = {}, fb[2] = {}, ia[4] = {}, ib[2] = {};
  for (unsigned w = 0; w < 4; ++w) {
    const unsigned row = g + w % 2 * 8;
    for (unsigned i = 0; i < 2; ++i) fa[w] |= unsigned{a[row * 16 + 2 * t + w / 2 * 8 + i].bits} << 16 * i;
    for (unsigned i = 0; i < 4; ++i) ia[w] |= (ai[row * 32 + 4 * t + w / 2 * 16 + i] & 255u) << 8 * i;
  }
  for (unsigned w = 0; w < 2; ++w) {
    for (unsigned i = 0; i < 2; ++i) fb[w] |= unsigned{b[(2 * t + w * 8 + i) * 8 + g].bits} << 16 * i;
    for (unsigned i = 0; i < 4; ++i) ib[w] |= (bi[(4 * t + w * 16 + i) * 8 + g] & 255u) << 8 * i;
  }
  float fc[4] = {};
  int ic[4] = {};
  cuda::mma_bf16_16x8x16(fc, fa, fb);
  cuda::mma_s8_16x8x32(ic, ia, ib);
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned at = (g + i / 2 * 8) * 8 + 2 * t + i % 2;
    c[at] = fc[i], ci[at] = ic[i];
  }
}

TEST(CudaEmulation, TensorCoreProducts) {
  std::vector<bf16> a(16 * 16), b(16 * 8);
  std::vector<int8_t> ai(16 * 32), bi(32 * 8);
  for (size_t i = 0; i < a.size(); ++i) a[i] = bf16(static_cast<float>(int(i * 37 % 41) - 20));
  for (size_t i = 0; i < b.size(); ++i) b[i] = bf16(static_cast<float>(int(i * 17 % 29) - 14));
  for (size_t i = 0; i < ai.size(); ++i) ai[i] = static_cast<int8_t>(i * 37);
  for (size_t i = 0; i < bi.size(); ++i) bi[i] = static_cast<int8_t>(i * 91 + 5);
  std::vector<float> c(16 * 8);
  std::vector<int> ci(16 * 8);
  launch(Device::first(), 1, 32, 0, products, c.data(), a.data(), b.data(), ci.data(), ai.data(), bi.data());
  wait_for_device();
  for (size_t row = 0; row < 16; ++row)
    for (size_t column = 0; column < 8; ++column) {
      float sum = 0;  // exact: small integers
      int whole = 0;
      for (size_t k = 0; k < 16; ++k) sum += float(a[row * 16 + k]) * float(b[k * 8 + column]);
      for (size_t k = 0; k < 32; ++k) whole += ai[row * 32 + k] * bi[k * 8 + column];
      EXPECT_EQ(c[row * 8 + column], sum) << row << "," << column;
      EXPECT_EQ(ci[row * 8 + column], whole) << row << "," << column;
    }
}

TEST(Cuda, SaysWhatADeviceLacks) {
  cuda_emulation::pretend({.devices = 0});
  EXPECT_FALSE(cuda::available());
  EXPECT_EQ(std::ranges::count(available_backends(), "cuda"), 0);
  EXPECT_PRED2(has, error_of([] { make_backend("cuda", Precision::f32); }), "no device found (no CUDA-capable device");
  cuda_emulation::pretend({.devices = 1, .major = 7, .minor = 5});
  EXPECT_FALSE(cuda::available());
  EXPECT_PRED2(has, error_of([] { make_backend("cuda", Precision::f32); }), "capability 7.5, at least 8.0 is needed");
  cuda_emulation::pretend({.managed = 0});
  EXPECT_PRED2(has, error_of([] { make_backend("cuda", Precision::f32); }), "share memory at the same time");
  cuda_emulation::pretend({});
  EXPECT_EQ(make_backend("auto", Precision::bf16)->name(), "cuda");
}

TEST(Cuda, NamesWhatDidNotFit) {
  const auto on = cuda::make(Precision::f32);
  cuda_emulation::limit_memory(64 << 20);
  const std::string what = error_of([] { Block(int64_t{1} << 30, "weights"); });
  cuda_emulation::limit_memory(int64_t{1} << 40);
  EXPECT_PRED2(has, what, "memory for weights: 1.0 GiB asked");
  EXPECT_PRED2(has, what, "free on the device; quantised weights");
}

}  // namespace
}  // namespace qwerky
