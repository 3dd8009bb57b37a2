// SPDX-License-Identifier: MIT
// What the sources of src/backend/cuda use of CUDA, on a CPU: the same kernels compile as plain C++ and run thread by
// thread. Launches and copies are queued and run when the host synchronises, so that a missing wait gives wrong
// results; see emulation.h for how the threads of a block run.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

#define CUDART_VERSION 13000

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

// The host's side.
enum cudaError_t {
  cudaSuccess,
  cudaErrorInvalidValue,
  cudaErrorMemoryAllocation,
  cudaErrorNoDevice,
  cudaErrorStreamCaptureUnsupported,
  cudaErrorStreamCaptureInvalidated,
  cudaErrorIllegalState
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaMemcpyKind { cudaMemcpyDefault, cudaMemcpyDeviceToDevice };
enum cudaMemoryAdvise { cudaMemAdviseSetPreferredLocation, cudaMemAdviseSetAccessedBy };
enum cudaMemLocationType { cudaMemLocationTypeDevice, cudaMemLocationTypeHost };
enum cudaDeviceAttr {
  cudaDevAttrComputeCapabilityMajor,
  cudaDevAttrComputeCapabilityMinor,
  cudaDevAttrConcurrentManagedAccess
};
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal };
constexpr unsigned cudaMemAttachGlobal = 1, cudaHostAllocDefault = 0, cudaStreamNonBlocking = 1;
using cudaStream_t = struct EmulatedStream*;
using cudaGraph_t = struct EmulatedGraph*;
using cudaGraphExec_t = struct EmulatedGraphExec*;
struct cudaMemLocation {
  cudaMemLocationType type;
  int id;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  void* attrs;
  unsigned numAttrs;
};

const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaMalloc(void** memory, size_t bytes);
cudaError_t cudaMallocManaged(void** memory, size_t bytes, unsigned flags = cudaMemAttachGlobal);
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned flags);
cudaError_t cudaFree(void* memory);
cudaError_t cudaFreeHost(void* memory);
cudaError_t cudaMemAdvise(const void* memory, size_t bytes, cudaMemoryAdvise advice, cudaMemLocation location);
cudaError_t cudaMemGetInfo(size_t* available, size_t* total);
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
// Between these two, launches and copies are kept with the values of their arguments; what waits or allocates is an
// error.
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph);

namespace cuda_emulation {

struct Shape {
  dim3 grid, block;
  size_t shared;
};
void enqueue(const Shape& shape, std::function<void()> thread);
/// Host code in the stream.
void enqueue(std::function<void()> work);
void allow_shared(const void* kernel, int bytes);
bool fits(const void* kernel, const cudaLaunchConfig_t& config);
/// Of the running block.
unsigned char* dynamic_shared();

enum class Meeting { warp, shuffle, product, block };
/// Returns when every thread of the warp (or block) has come to the same kind of meeting.
void meet(Meeting kind);
/// Leaves `bytes` (at most 64) for the other lanes at the next meeting of the warp, which happens here.
void exchange(Meeting kind, const void* mine, size_t bytes);
/// What a lane left at the last meeting.
const void* left_by(unsigned lane);
/// Copies of the running thread, done together at copy_now().
void copy_later(void* to, const void* from, size_t bytes);
void copy_now();

template <class T>
T taken_from(unsigned lane, T mine) {
  static_assert(sizeof(T) <= 8);
  exchange(Meeting::shuffle, &mine, sizeof mine);
  T theirs;
  std::memcpy(&theirs, left_by(lane), sizeof theirs);
  return theirs;
}

}  // namespace cuda_emulation

template <class... P>
cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute, int bytes) {
  cuda_emulation::allow_shared(reinterpret_cast<const void*>(kernel), bytes);
  return cudaSuccess;
}

template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(P...), A&&... arguments) {
  if (!cuda_emulation::fits(reinterpret_cast<const void*>(kernel), *config)) return cudaErrorInvalidValue;
  std::tuple<P...> kept(std::forward<A>(arguments)...);
  cuda_emulation::enqueue({config->gridDim, config->blockDim, config->dynamicSmemBytes},
                          [kernel, kept] { std::apply(kernel, kept); });
  return cudaSuccess;
}

// The device's side. Masks are always full: kernels here never split a warp.
inline void __syncthreads() { cuda_emulation::meet(cuda_emulation::Meeting::block); }
inline void __syncwarp() { cuda_emulation::meet(cuda_emulation::Meeting::warp); }
inline unsigned emulated_lane() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }
template <class T>
T __shfl_sync(unsigned, T value, int lane) {
  return cuda_emulation::taken_from(static_cast<unsigned>(lane) % 32, value);
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int lanes) {
  return cuda_emulation::taken_from((emulated_lane() ^ static_cast<unsigned>(lanes)) % 32, value);
}
template <class T>
T __shfl_down_sync(unsigned, T value, unsigned lanes) {
  const unsigned me = emulated_lane() % 32;
  return cuda_emulation::taken_from(me + lanes < 32 ? me + lanes : me, value);
}
template <class T>
T __ldg(const T* at) {
  return *at;
}
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }
/// Four products of signed bytes.
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; ++i) c += static_cast<int8_t>(a >> 8 * i) * static_cast<int8_t>(b >> 8 * i);
  return c;
}
