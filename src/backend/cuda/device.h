// SPDX-License-Identifier: MIT
// The device as kernels' callers see it: a stream of queued work, working memory, and small tables from the host.
// Sources of this directory hold to a subset of CUDA that tests/cuda_emulation runs on a CPU: kernels start by launch()
// alone.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstring>
#include <functional>
#include <mutex>
#include <span>

#include "backend/backend.h"
#include "backend/cuda/graph.h"

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
  /// Queues a call (graph.h), or writes it down while a step is repeated. All work goes this way.
  template <class Call>
  void queue(const Call& call) {
    if (repeating_) {
      calls_.add(call);
    } else {
      call(*this);
    }
  }
  /// Runs `step` and queues its calls at the end, together (graph.h). What waits, moves working memory or needs more
  /// room for tables ends that early: what has been written down is queued, the rest as anything else. An error in
  /// `step` leaves out what has not been queued.
  void repeat(const std::function<void()>& step);
  void wait();

  /// At least `bytes` of device memory, valid until the next call with the same purpose. Uninitialised.
  template <class T>
  T* scratch(Use use, int64_t count) {
    return static_cast<T*>(scratch_bytes(use, count * static_cast<int64_t>(sizeof(T))));
  }
  /// A copy that kernels queued soon can read. In a step that is repeated, the same copies lie at the same addresses.
  template <class T>
  const T* upload(std::span<const T> values) {
    const Table to = table(static_cast<int64_t>(values.size_bytes()));
    if (!values.empty()) std::memcpy(to.host, values.data(), values.size_bytes());
    return static_cast<const T*>(to.device);
  }
  const DeviceSegment* upload(Batch batch, int64_t offset);
  /// Host memory for what kernels queued next find; read it after wait().
  template <class T>
  T* results(int64_t count) {
    return static_cast<T*>(table(count * static_cast<int64_t>(sizeof(T))).host);
  }

 private:
  Device();
  void* scratch_bytes(Use use, int64_t bytes);
  /// Where the host writes and kernels read.
  struct Table {
    void *host, *device;
  };
  Table table(int64_t bytes);
  /// Queues what has been written down.
  void end_repeating();

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
  // A step that is repeated. Its tables are filled in pinned memory from the start, and copied before its calls.
  bool repeating_ = false;
  Calls calls_;
  Graphs graphs_;
  char *tables_ = nullptr, *tables_on_device_ = nullptr;
  int64_t tables_used_ = 0;
};

/// Dynamic shared memory a kernel may take without asking.
constexpr size_t kPlainShared = 48 << 10;

/// kernel<<<grid, block, shared>>>(arguments…)
template <class... P>
struct Launch {
  dim3 grid, block;
  size_t shared;
  void (*kernel)(P...);
  Arguments<P...> arguments;

  void operator()(Device& on) const {
    cudaLaunchConfig_t config{};
    config.gridDim = grid, config.blockDim = block, config.dynamicSmemBytes = shared, config.stream = on.stream();
    arguments.give_to(
        [&](const P&... given) { check(cudaLaunchKernelEx(&config, kernel, given...), "launch of a kernel"); });
  }
};

/// Queues kernel<<<grid, block, shared>>>(arguments…); nothing for an empty grid. The one way a kernel is started.
template <class... P, class... A>
void launch(Device& on, dim3 grid, dim3 block, size_t shared, void (*kernel)(P...), A&&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (shared > kPlainShared)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
          "shared memory of a kernel");
  on.queue(Launch<P...>{grid, block, shared, kernel, {{static_cast<P>(std::forward<A>(arguments))}...}});
}

inline unsigned blocks_for(int64_t n, int64_t each) { return static_cast<unsigned>((n + each - 1) / each); }

}  // namespace qwerky::cuda
