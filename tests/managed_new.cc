// SPDX-License-Identifier: MIT
// In tests of a build with CUDA: `new` gives memory that the device addresses too, since tests keep operands in
// vectors. Without a device it is malloc's.
#include <cuda_runtime.h>

#include <array>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <new>

namespace {

constexpr size_t kRegion = size_t{8} << 30;  // addresses; the driver gives pages when they are touched
constexpr size_t kLeast = 64;

/// Sizes are powers of two; what is freed waits in a list of its size. The size lies before the memory.
class Region {
 public:
  void* take(size_t bytes) {
    const std::lock_guard lock(mutex_);
    if (!asked_) ask();
    const size_t size = std::bit_ceil(bytes + kLeast);
    void*& free = free_[static_cast<size_t>(std::countr_zero(size))];
    if (free != nullptr) {
      void* const memory = free;
      free = *static_cast<void**>(memory);
      return memory;
    }
    if (begin_ == nullptr || used_ + size > kRegion) return nullptr;
    char* const memory = begin_ + used_ + kLeast;
    *reinterpret_cast<size_t*>(memory - kLeast) = size;
    used_ += size;
    return memory;
  }
  bool give_back(void* memory) {
    const std::lock_guard lock(mutex_);
    char* const at = static_cast<char*>(memory);
    if (begin_ == nullptr || at < begin_ || at >= begin_ + kRegion) return false;
    void*& free = free_[static_cast<size_t>(std::countr_zero(*reinterpret_cast<size_t*>(at - kLeast)))];
    *static_cast<void**>(memory) = free;
    free = memory;
    return true;
  }

 private:
  void ask() {
    asked_ = true;  // first: the driver allocates as well
    int devices = 0;
    void* memory = nullptr;
    if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0 &&
        cudaMallocManaged(&memory, kRegion) == cudaSuccess)
      begin_ = static_cast<char*>(memory);
  }

  std::recursive_mutex mutex_;
  std::array<void*, 64> free_{};
  char* begin_ = nullptr;
  size_t used_ = 0;
  bool asked_ = false;
};

Region& region() {
  static Region* const instance = new (std::malloc(sizeof(Region))) Region;
  return *instance;
}

}  // namespace

void* operator new(size_t bytes) {
  void* memory = region().take(bytes);
  if (memory == nullptr) memory = std::malloc(bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept {
  if (memory != nullptr && !region().give_back(memory)) std::free(memory);
}
void operator delete(void* memory, size_t) noexcept { operator delete(memory); }
