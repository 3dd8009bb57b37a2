// SPDX-License-Identifier: MIT
// Sums and gathers of device memory between GPUs by NCCL, which MPI starts; the rest stays MPI's.
#include <nccl.h>

#include <algorithm>

#include "backend/collective.h"
#include "base/error.h"
#include "tensor/memory.h"

namespace qwerky {
namespace {

class Nccl final : public Collective {
 public:
  explicit Nccl(Collective& mpi) : mpi_(mpi) {
    ncclUniqueId id{};
    if (mpi.first()) check(ncclGetUniqueId(&id), "an identity for the ranks");
    mpi.broadcast(&id, sizeof(id));
    check(ncclCommInitRank(&ranks_, mpi.size(), id, mpi.rank()), "connecting the ranks");
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream");
  }
  ~Nccl() override {
    ncclCommDestroy(ranks_);
    cudaStreamDestroy(stream_);
  }

  int rank() const override { return mpi_.rank(); }
  int size() const override { return mpi_.size(); }
  void sum(std::span<double> values) override { mpi_.sum(values); }
  void broadcast(void* data, int64_t bytes) override { mpi_.broadcast(data, bytes); }
  int on_this_machine() const override { return mpi_.on_this_machine(); }
  void abort(int status) override { mpi_.abort(status); }

  void reduce_scatter(Tensor block, std::span<const int64_t> counts) override {
    float* at = block.as<float>();
    run("reduce-scatter", [&] {
      if (equal(counts))
        return ncclReduceScatter(at, at + rank() * counts[0], static_cast<size_t>(counts[0]), ncclFloat, ncclSum,
                                 ranks_, stream_);
      return each(counts, [&](size_t begin, size_t count, int owner) {
        return ncclReduce(at + begin, at + begin, count, ncclFloat, ncclSum, owner, ranks_, stream_);
      });
    });
  }

  void all_gather(Tensor block, std::span<const int64_t> counts) override {
    const ncclDataType_t type = block.type == DType::bf16 ? ncclBfloat16 : ncclFloat;
    run("all-gather", [&] {
      if (equal(counts))
        return ncclAllGather(block.rows(rank() * counts[0], counts[0]).data, block.data, static_cast<size_t>(counts[0]),
                             type, ranks_, stream_);
      return each(counts, [&](size_t begin, size_t count, int owner) {
        void* part = block.rows(static_cast<int64_t>(begin), static_cast<int64_t>(count)).data;
        return ncclBroadcast(part, part, count, type, owner, ranks_, stream_);
      });
    });
  }

 private:
  static bool equal(std::span<const int64_t> counts) {
    return std::all_of(counts.begin(), counts.end(), [&](int64_t n) { return n == counts[0]; });
  }
  /// One call for each rank's part, as one operation of NCCL.
  template <class F>
  static ncclResult_t each(std::span<const int64_t> counts, const F& f) {
    ncclResult_t result = ncclGroupStart();
    int64_t at = 0;
    for (size_t owner = 0; owner < counts.size() && result == ncclSuccess; at += counts[owner++])
      if (counts[owner] > 0)
        result = f(static_cast<size_t>(at), static_cast<size_t>(counts[owner]), static_cast<int>(owner));
    const ncclResult_t end = ncclGroupEnd();
    return result == ncclSuccess ? end : result;
  }
  /// What is queued on the device comes first, and what follows finds the result.
  template <class F>
  void run(const char* what, const F& f) {
    wait_for_device();
    check(f(), what);
    check(cudaStreamSynchronize(stream_), what);
    ncclResult_t later = ncclSuccess;
    check(ncclCommGetAsyncError(ranks_, &later), what);
    check(later, what);
  }
  void check(ncclResult_t result, const char* what) const {
    if (result != ncclSuccess)
      fail("nccl: ", what, ": ", ncclGetErrorString(result), " (", ncclGetLastError(ranks_), ")");
  }
  static void check(cudaError_t result, const char* what) {
    if (result != cudaSuccess) fail("nccl: ", what, ": ", cudaGetErrorString(result));
  }

  Collective& mpi_;
  ncclComm_t ranks_ = nullptr;
  cudaStream_t stream_ = nullptr;
};

}  // namespace

Collective& between_devices(Collective& ranks) {
  if (ranks.size() == 1 || device_memory() == nullptr) return ranks;
  static Nccl nccl(ranks);
  return nccl;
}

}  // namespace qwerky
