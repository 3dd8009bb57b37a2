// SPDX-License-Identifier: MIT
#include "backend/cuda/device.h"

#include <algorithm>
#include <vector>

#include "backend/cuda/cuda.h"
#include "base/units.h"

namespace qwerky::cuda {
namespace {

constexpr int64_t kRingBytes = 8 << 20;
constexpr int64_t kTablesBytes = 1 << 20;  // of a step that is repeated; more is not worth a graph
constexpr int kLeastMajor = 8;             // bf16 on tensor cores, asynchronous copies

/// Every Block of the process, once a backend has been made: addressed by the host and the device, kept on the device.
class ManagedMemory final : public DeviceMemory {
 public:
  explicit ManagedMemory(Device& on) : on_(on) {}
  void* allocate(int64_t bytes, const std::string& purpose, bool on_host) override {
    const Device::Turn turn(on_);
    void* memory = nullptr;
    // Managed memory may exceed the device's; it would then be paged over the bus for each operation.
    if (!on_host && bytes > available()) fail_for_memory(bytes, purpose);
    if (cudaMallocManaged(&memory, static_cast<size_t>(bytes)) != cudaSuccess) fail_for_memory(bytes, purpose);
    cudaMemLocation device{}, home{};
    device.type = cudaMemLocationTypeDevice, device.id = 0;
    home = device;
    if (on_host) home.type = cudaMemLocationTypeHost;
    const auto advise = [&](cudaMemoryAdvise advice, cudaMemLocation where) {
      check(cudaMemAdvise(memory, static_cast<size_t>(bytes), advice, where), "memory advice");
    };
    advise(cudaMemAdviseSetPreferredLocation, home);
    if (on_host) advise(cudaMemAdviseSetAccessedBy, device);  // mapped there, so that its pages do not move
    check(cudaMemsetAsync(memory, 0, static_cast<size_t>(bytes), on_.stream()), "clearing memory");
    wait();
    return memory;
  }
  void release(void* memory) noexcept override {
    const Device::Turn turn(on_);
    try {
      on_.wait();  // who waits next is told of errors
    } catch (const Error&) {
    }
    cudaFree(memory);
  }
  int64_t available() override {
    size_t bytes = 0, total = 0;
    check(cudaMemGetInfo(&bytes, &total), "free memory of the device");
    return static_cast<int64_t>(bytes);
  }
  void wait() override { on_.wait(); }

 private:
  Device& on_;
};

/// Pinned host memory.
void* pinned(int64_t bytes) {
  void* memory = nullptr;
  check(cudaHostAlloc(&memory, static_cast<size_t>(bytes), cudaHostAllocDefault), "pinned host memory");
  return memory;
}

int attribute(cudaDeviceAttr which) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, 0), "attributes of the device");
  return value;
}

}  // namespace

void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) fail("cuda: ", what, ": ", cudaGetErrorString(error));
}

void fail_for_memory(int64_t bytes, const std::string& purpose) {
  size_t available = 0, total = 0;
  cudaMemGetInfo(&available, &total);
  fail("cuda: memory for ", purpose, ": ", bytes_text(bytes), " asked, ", bytes_text(static_cast<int64_t>(available)),
       " of ", bytes_text(static_cast<int64_t>(total)),
       " free on the device; quantised weights (quantize), a smaller --batch or --context need less");
}

bool available() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0 &&
         attribute(cudaDevAttrComputeCapabilityMajor) >= kLeastMajor;
}

void require_device() {
  int count = 0;
  const cudaError_t found = cudaGetDeviceCount(&count);
  if (found != cudaSuccess || count == 0)
    fail("backend cuda: no device found (", cudaGetErrorString(found), "); is the NVIDIA driver installed?");
  const int major = attribute(cudaDevAttrComputeCapabilityMajor), minor = attribute(cudaDevAttrComputeCapabilityMinor);
  if (major < kLeastMajor)
    fail("backend cuda: the device has compute capability ", major, ".", minor,
         ", at least 8.0 is needed (A100 or newer)");
  if (attribute(cudaDevAttrConcurrentManagedAccess) == 0)
    fail(
        "backend cuda: this system does not let host and device share memory at the same time (managed memory, as on "
        "Linux outside WSL, is needed)");
}

Device::Device() {
  check(cudaSetDevice(0), "choosing the device");
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
  ring_ = static_cast<char*>(pinned(kRingBytes));
  ring_bytes_ = kRingBytes;
  tables_ = static_cast<char*>(pinned(kTablesBytes));
  void* on_device = nullptr;
  if (cudaMalloc(&on_device, kTablesBytes) != cudaSuccess) fail_for_memory(kTablesBytes, "tables of a step");
  tables_on_device_ = static_cast<char*>(on_device);
}

Device& Device::first() {
  static Device& device = *new Device;
  static ManagedMemory& memory = *new ManagedMemory(device);
  use_device_memory(&memory);
  return device;
}

void Device::repeat(const std::function<void()>& step) {
  const Turn turn(*this);
  if (repeating_) return step();
  calls_.clear(), tables_used_ = 0, repeating_ = true;
  try {
    step();
  } catch (...) {
    repeating_ = false;
    throw;
  }
  end_repeating();
}

void Device::end_repeating() {
  if (!repeating_) return;
  repeating_ = false;
  if (tables_used_ > 0)
    check(cudaMemcpyAsync(tables_on_device_, tables_, static_cast<size_t>(tables_used_), cudaMemcpyDefault, stream_),
          "tables of a step");
  graphs_.queue(*this, calls_);
}

void Device::wait() {
  const Turn turn(*this);
  end_repeating();
  check(cudaStreamSynchronize(stream_), "an operation");
}

void* Device::scratch_bytes(Use use, int64_t bytes) {
  Buffer& b = scratch_[static_cast<size_t>(use)];
  if (b.bytes < bytes) {
    end_repeating();
    check(cudaFree(b.data), "freeing working memory");  // waits for who still uses it
    const int64_t grown = std::max({bytes, b.bytes * 3 / 2, int64_t{1} << 16});
    b = {};
    if (cudaMalloc(&b.data, static_cast<size_t>(grown)) != cudaSuccess)
      fail_for_memory(grown, "kernels' working memory");
    b.bytes = grown;
  }
  return b.data;
}

Device::Table Device::table(int64_t bytes) {
  bytes = (bytes + 63) / 64 * 64;
  if (repeating_ && tables_used_ + bytes > kTablesBytes) end_repeating();
  if (repeating_) {
    if (tables_used_ == 0) check(cudaStreamSynchronize(stream_), "an operation");  // the step before has read its own
    const int64_t at = std::exchange(tables_used_, tables_used_ + bytes);
    return {tables_ + at, tables_on_device_ + at};
  }
  if (ring_used_ + bytes > ring_bytes_) {
    wait();
    if (bytes > ring_bytes_) {
      ring_bytes_ = 2 * bytes;  // the old one stays: the operation at hand may have tables there
      ring_ = static_cast<char*>(pinned(ring_bytes_));
    }
    ring_used_ = 0;
  }
  char* to = ring_ + ring_used_;
  ring_used_ += bytes;
  return {to, to};
}

const DeviceSegment* Device::upload(Batch batch, int64_t offset) {
  std::vector<DeviceSegment> segments;
  for (const Segment& s : batch)
    segments.push_back({s.row, s.rows, s.position(), s.state ? s.state->capacity() : 0,
                        s.state ? s.state->at(offset, 0).as<float>() : nullptr});
  return upload(std::span<const DeviceSegment>(segments));
}

}  // namespace qwerky::cuda
