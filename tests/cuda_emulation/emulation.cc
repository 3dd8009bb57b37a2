// SPDX-License-Identifier: MIT
#include "emulation.h"

#include <cuda_runtime.h>
#include <sys/mman.h>

#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/error.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

// Saves the registers a call must keep on the present stack, leaves that stack in *from and goes on with stack `to`.
asm(R"(
.text
.globl cuda_emulation_switch
.type cuda_emulation_switch, @function
cuda_emulation_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size cuda_emulation_switch, .-cuda_emulation_switch
)");
extern "C" void cuda_emulation_switch(void** from, void* to);

/// The work of launches, with their arguments, and of copies.
using Work = std::function<void()>;
struct EmulatedGraph {
  std::vector<Work> works;
};
struct EmulatedGraphExec {
  std::shared_ptr<const EmulatedGraph> graph;
};

namespace cuda_emulation {

using qwerky::concat;
using qwerky::fail;

namespace {

constexpr size_t kStack = 256 << 10, kWarp = 32, kMostThreads = 1024;
constexpr size_t kPlainShared = 48 << 10, kMostShared = 163 << 10;  // of a block: as taken, and on request (sm_80)
constexpr size_t kGuard = 256;                                      // bytes behind a block's shared memory

enum class At : uint8_t { ready, meeting, done };

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
};

struct Fiber {
  void* stack_pointer = nullptr;
  At at = At::ready;
  Meeting kind = Meeting::block;
  std::vector<Copy> copies;  // begun, not waited for
};

struct Lane {
  alignas(16) unsigned char left[2][64];  // of the last two meetings
  unsigned turn = 0;
};

const char* name_of(Meeting kind) {
  switch (kind) {
    case Meeting::warp: return "__syncwarp";
    case Meeting::shuffle: return "a shuffle";
    case Meeting::product: return "a product of the warp";
    case Meeting::block: return "__syncthreads";
  }
  return "";
}

class Machine {
 public:
  Order order = Order::ascending;

  Machine() {
    void* memory = mmap(nullptr, kStack * kMostThreads, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED, "stacks of the emulated threads");
    stacks_ = static_cast<char*>(memory);
  }

  void run(const Shape& s, const std::function<void()>& thread) {
    thread_ = &thread;
    blockDim = s.block, gridDim = s.grid;
    threads_ = size_t{s.block.x} * s.block.y * s.block.z;
    shared_.resize(s.shared + kGuard);
    const uint64_t blocks = uint64_t{s.grid.x} * s.grid.y * s.grid.z;
    for (uint64_t i = 0; i < blocks; ++i) {
      const uint64_t b = order == Order::ascending ? i : blocks - 1 - i;
      blockIdx = {static_cast<unsigned>(b % s.grid.x), static_cast<unsigned>(b / s.grid.x % s.grid.y),
                  static_cast<unsigned>(b / s.grid.x / s.grid.y)};
      std::memset(shared_.data(), 0xff, shared_.size());  // NaN: nothing may count on what was there
      run_block();
      for (size_t g = 0; g < kGuard; ++g)
        if (shared_[s.shared + g] != 0xff)
          fail("emulated block: written behind its ", s.shared, " bytes of shared memory");
    }
  }

  void meet(Meeting kind) {
    Fiber& me = fibers_[now_];
    me.kind = kind, me.at = At::meeting;
    cuda_emulation_switch(&me.stack_pointer, scheduler_);
  }
  void exchange(Meeting kind, const void* mine, size_t bytes) {
    Lane& lane = lanes_[now_];
    std::memcpy(lane.left[++lane.turn % 2], mine, bytes);
    meet(kind);
  }
  const void* left_by(unsigned lane) const { return lanes_[now_ / kWarp * kWarp + lane].left[lanes_[now_].turn % 2]; }
  unsigned char* shared() { return shared_.data(); }
  void copy_later(const Copy& copy) { fibers_[now_].copies.push_back(copy); }
  void copy_now() {
    for (const Copy& c : fibers_[now_].copies) std::memcpy(c.to, c.from, c.bytes);
    fibers_[now_].copies.clear();
  }

 private:
  static void enter();

  void run_block() {
    for (size_t t = 0; t < threads_; ++t) {
      fibers_[t] = {}, lanes_[t].turn = 0;
      // A stack that returns into enter() as if it had been called: 16-byte aligned before its return address.
      auto* top = reinterpret_cast<void**>(stacks_ + (t + 1) * kStack - 64);
      *--top = nullptr;
      *--top = reinterpret_cast<void*>(&Machine::enter);
      fibers_[t].stack_pointer = top - 6;
    }
    for (bool all_done = false; !all_done;) {
      const size_t warps = threads_ / kWarp;
      for (size_t i = 0; i < warps; ++i) run_warp(order == Order::ascending ? i : warps - 1 - i);
      size_t done = 0;
      for (size_t t = 0; t < threads_; ++t) done += fibers_[t].at == At::done;
      all_done = done == threads_;
      if (done > 0 && !all_done)
        fail("emulated block: ", done, " of ", threads_, " threads ended, others wait at __syncthreads");
      for (size_t t = 0; t < threads_ && !all_done; ++t) fibers_[t].at = At::ready;
    }
  }

  /// Until every lane has ended or waits for the block.
  void run_warp(size_t warp) {
    Fiber* const lanes = &fibers_[warp * kWarp];
    while (true) {
      for (size_t i = 0; i < kWarp; ++i) {
        const size_t lane = order == Order::ascending ? i : kWarp - 1 - i;
        if (lanes[lane].at == At::ready) resume(warp * kWarp + lane);
      }
      for (size_t i = 1; i < kWarp; ++i)
        if (lanes[i].at != lanes[0].at || (lanes[0].at == At::meeting && lanes[i].kind != lanes[0].kind))
          fail("emulated warp: lane 0 ", where(lanes[0]), ", lane ", i, " ", where(lanes[i]));
      if (lanes[0].at == At::done || lanes[0].kind == Meeting::block) return;
      for (size_t i = 0; i < kWarp; ++i) lanes[i].at = At::ready;
    }
  }
  static std::string where(const Fiber& f) {
    return f.at == At::done ? std::string("has ended") : concat("waits at ", name_of(f.kind));
  }

  void resume(size_t t) {
    now_ = t;
    const auto n = static_cast<unsigned>(t);
    threadIdx = {n % blockDim.x, n / blockDim.x % blockDim.y, n / blockDim.x / blockDim.y};
    cuda_emulation_switch(&scheduler_, fibers_[t].stack_pointer);
  }

  char* stacks_;
  void* scheduler_ = nullptr;
  const std::function<void()>* thread_ = nullptr;
  size_t threads_ = 0, now_ = 0;
  std::vector<Fiber> fibers_{kMostThreads};
  std::vector<Lane> lanes_{kMostThreads};
  std::vector<unsigned char> shared_;
};

Machine& machine() {
  static Machine instance;
  return instance;
}

void Machine::enter() {
  Machine& m = machine();
  (*m.thread_)();
  Fiber& me = m.fibers_[m.now_];
  me.at = At::done;
  cuda_emulation_switch(&me.stack_pointer, m.scheduler_);
}

std::deque<Work> queue;
std::optional<std::vector<Work>> captured;  // while a stream is captured
bool invalidated = false;                   // by a call that must not happen meanwhile
GraphCounts graphs;
int64_t queued = 0;
std::map<const void*, int> allowed_shared;
std::map<void*, size_t> allocated;
int64_t in_use = 0, limit = int64_t{1} << 40;
Pretence pretence;

void run_queue() {
  while (!queue.empty()) {
    const auto work = std::move(queue.front());
    queue.pop_front();
    work();
  }
}

void submit(Work work) {
  if (captured) {
    captured->push_back(std::move(work));
  } else {
    ++queued;
    queue.push_back(std::move(work));
  }
}

/// Whether a call that waits or allocates comes while a stream is captured.
bool must_not_happen() {
  if (captured) invalidated = true;
  return captured.has_value();
}

/// Filled with NaN: nothing may count on what is in fresh memory.
cudaError_t allocate(void** memory, size_t bytes) {
  if (must_not_happen()) return cudaErrorStreamCaptureUnsupported;
  if (in_use + static_cast<int64_t>(bytes) > limit) return cudaErrorMemoryAllocation;
  *memory = mmap(nullptr, std::max<size_t>(bytes, 1), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(*memory != MAP_FAILED, "memory of the emulated device");
  std::memset(*memory, 0xff, bytes);
  allocated[*memory] = bytes;
  in_use += static_cast<int64_t>(bytes);
  return cudaSuccess;
}

}  // namespace

void run_in(Order order) {
  run_queue();
  machine().order = order;
}
void limit_memory(int64_t bytes) { limit = bytes; }
void pretend(const Pretence& p) { pretence = p; }
GraphCounts graph_counts() { return graphs; }
int64_t calls_queued() { return queued; }

void enqueue(const Shape& shape, std::function<void()> thread) {
  submit([shape, thread = std::move(thread)] { machine().run(shape, thread); });
}
void enqueue(std::function<void()> work) { submit(std::move(work)); }
void allow_shared(const void* kernel, int bytes) { allowed_shared[kernel] = bytes; }
bool fits(const void* kernel, const cudaLaunchConfig_t& c) {
  const uint64_t threads = uint64_t{c.blockDim.x} * c.blockDim.y * c.blockDim.z;
  const auto allowed = allowed_shared.find(kernel);
  const size_t most = allowed == allowed_shared.end() ? kPlainShared : static_cast<size_t>(allowed->second);
  return threads > 0 && threads <= kMostThreads && threads % kWarp == 0 && c.gridDim.x > 0 && c.gridDim.x < 1u << 31 &&
         c.gridDim.y > 0 && c.gridDim.y < 1u << 16 && c.gridDim.z > 0 && c.gridDim.z < 1u << 16 &&
         c.dynamicSmemBytes <= std::min(most, kMostShared);
}
unsigned char* dynamic_shared() { return machine().shared(); }
void meet(Meeting kind) { machine().meet(kind); }
void exchange(Meeting kind, const void* mine, size_t bytes) { machine().exchange(kind, mine, bytes); }
const void* left_by(unsigned lane) { return machine().left_by(lane); }
void copy_later(void* to, const void* from, size_t bytes) { machine().copy_later({to, from, bytes}); }
void copy_now() { machine().copy_now(); }

}  // namespace cuda_emulation

using namespace cuda_emulation;

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
    case cudaErrorIllegalState: return "the operation cannot be performed in the present state";
  }
  return "";
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = pretence.devices;
  return pretence.devices > 0 ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrComputeCapabilityMajor   ? pretence.major
           : attribute == cudaDevAttrComputeCapabilityMinor ? pretence.minor
                                                            : pretence.managed;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = nullptr;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  if (must_not_happen()) return cudaErrorStreamCaptureUnsupported;
  run_queue();
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** memory, size_t bytes) { return allocate(memory, bytes); }
cudaError_t cudaMallocManaged(void** memory, size_t bytes, unsigned) { return allocate(memory, bytes); }
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) { return allocate(memory, bytes); }
cudaError_t cudaFree(void* memory) {
  if (must_not_happen()) return cudaErrorStreamCaptureUnsupported;
  run_queue();  // as the real one waits
  const auto found = allocated.find(memory);
  CHECK(found != allocated.end() || memory == nullptr, "cudaFree of memory that is not allocated");
  if (memory == nullptr) return cudaSuccess;
  in_use -= static_cast<int64_t>(found->second);
  // Its pages go, its addresses stay taken: who still uses them ends the test.
  madvise(memory, std::max<size_t>(found->second, 1), MADV_DONTNEED);
  mprotect(memory, std::max<size_t>(found->second, 1), PROT_NONE);
  allocated.erase(found);
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) { return cudaFree(memory); }
cudaError_t cudaMemAdvise(const void*, size_t, cudaMemoryAdvise, cudaMemLocation) { return cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
  *available = static_cast<size_t>(limit - in_use), *total = static_cast<size_t>(limit);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t) {
  submit([=] { std::memset(memory, value, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  submit([=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  if (captured) return cudaErrorIllegalState;
  captured.emplace(), invalidated = false;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = nullptr;
  if (!captured) return cudaErrorIllegalState;
  std::vector<Work> works = *std::exchange(captured, std::nullopt);
  if (invalidated) return cudaErrorStreamCaptureInvalidated;
  *graph = new EmulatedGraph{std::move(works)};
  ++graphs.captured;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long) {
  *made = new EmulatedGraphExec{std::make_shared<EmulatedGraph>(*graph)};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t) {
  if (must_not_happen()) return cudaErrorStreamCaptureUnsupported;
  ++graphs.launched;
  queue.emplace_back([of = graph->graph] {
    for (const Work& work : of->works) work();
  });
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete graph;
  return cudaSuccess;
}
