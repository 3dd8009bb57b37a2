// SPDX-License-Identifier: MIT
// The device as kernels' callers see it: a stream of queued work, working memory, and small tables from the host.
// Sources of this directory hold to a subset of CUDA that tests/cuda_emulation runs on a CPU: kernels start by launch()
// alone.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstring>
#include <mutex>
#include <span>

#include "backend/backend.h"

namespace qwerky::cuda {

/// Fails with what was being done and what the driver said.
void check(cudaError_t error, const char* what);
/// Fails unless there is a driver and a device that the kernels run on.
void require_device();
/// Fails with what was asked for, what is free and what to do.
[[noreturn]] void fail_for_memory(int64_t bytes, const std::string& purpose);

/// The rows of a segment and what its state holds, as kernels read them.
struct DeviceSegment {
  int64_t row, rows;
  int64_t position, capacity;  ///< of the state; 0 without
  float* state;                ///< at the operation's offset, or null
};

/// Working memory by purpose: an operation that calls another must not share its purpose.
enum class Use {
  operand_x,
  operand_dy,
  operand_w,
  bias,
  codes,
  products,
  sums,
  rows,
  attention,
  wkv,
  wkv_values,
  losses,
  count
};

/// The first device of the machine, with one stream for the process. An operation holds it (Turn) while it queues its
/// kernels: what these share lies in order in the stream.
class Device {
 public:
  /// Made by the first call, and for good: memory may outlive the last backend.
  static Device& first();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  /// The device for the calling thread alone until the end of an expression.
  class Turn {
   public:
    explicit Turn(Device& device) : device_(device), lock_(device.mutex_) {}
    operator Device&() const { return device_; }

   private:
    Device& device_;
    std::lock_guard<std::recursive_mutex> lock_;
  };

  cudaStream_t stream() const { return stream_; }
  void wait();

  /// At least `bytes` of device memory, valid until the next call with the same purpose. Uninitialised.
  template <class T>
  T* scratch(Use use, int64_t count) {
    return static_cast<T*>(scratch_bytes(use, count * static_cast<int64_t>(sizeof(T))));
  }
  /// A copy that kernels queued soon can read.
  template <class T>
  const T* upload(std::span<const T> values) {
    void* to = upload_bytes(static_cast<int64_t>(values.size_bytes()));
    if (!values.empty()) std::memcpy(to, values.data(), values.size_bytes());
    return static_cast<const T*>(to);
  }
  const DeviceSegment* upload(Batch batch, int64_t offset);
  /// Host memory for what kernels queued next find; read it after wait().
  template <class T>
  T* results(int64_t count) {
    return static_cast<T*>(upload_bytes(count * static_cast<int64_t>(sizeof(T))));
  }

 private:
  Device();
  void* scratch_bytes(Use use, int64_t bytes);
  void* upload_bytes(int64_t bytes);

  struct Buffer {
    void* data = nullptr;
    int64_t bytes = 0;
  };
  mutable std::recursive_mutex mutex_;
  cudaStream_t stream_ = nullptr;
  std::array<Buffer, static_cast<size_t>(Use::count)> scratch_;
  // Pinned host memory that the device reads in place; filled in turn, and from the start again when all is done.
  char* ring_ = nullptr;
  int64_t ring_bytes_ = 0, ring_used_ = 0;
};

/// Dynamic shared memory a kernel may take without asking.
constexpr size_t kPlainShared = 48 << 10;

/// Queues kernel<<<grid, block, shared>>>(arguments…); nothing for an empty grid. The one way a kernel is started.
template <class... P, class... A>
void launch(const Device& on, dim3 grid, dim3 block, size_t shared, void (*kernel)(P...), A&&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  cudaLaunchConfig_t config{};
  config.gridDim = grid, config.blockDim = block, config.dynamicSmemBytes = shared, config.stream = on.stream();
  if (shared > kPlainShared)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
          "shared memory of a kernel");
  check(cudaLaunchKernelEx(&config, kernel, std::forward<A>(arguments)...), "launch of a kernel");
}

inline unsigned blocks_for(int64_t n, int64_t each) { return static_cast<unsigned>((n + each - 1) / each); }

}  // namespace qwerky::cuda
