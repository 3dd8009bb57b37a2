// SPDX-License-Identifier: MIT
// Ranks over MPI (3.1).
#include <mpi.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <sstream>
#include <thread>
#include <vector>

#include "backend/collective.h"
#include "base/error.h"
#include "tensor/memory.h"

namespace qwerky {
namespace {

bool started = false;

/// This process sees one of the machine's GPUs alone, number `number` of those it would see. Before CUDA starts.
void own_device(int number) {
  constexpr const char* kVisible = "CUDA_VISIBLE_DEVICES";
  std::string own = std::to_string(number);
  if (const char* visible = std::getenv(kVisible)) {
    std::istringstream list(visible);
    for (int i = 0; i <= number; ++i)
      if (!std::getline(list, own, ',')) return;  // fewer than ranks
  }
  ::setenv(kVisible, own.c_str(), 1);
}

class Mpi final : public Collective {
 public:
  Mpi() {
    started = true;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &level_);  // errors end all ranks with a message
    if (level_ < MPI_THREAD_SERIALIZED) fail("MPI: this installation allows calls of the main thread alone");
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    MPI_Comm machine;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &machine);
    MPI_Comm_size(machine, &on_this_machine_);
    int number = 0;
    MPI_Comm_rank(machine, &number);
    if (on_this_machine_ > 1) own_device(number);
    MPI_Comm_free(&machine);
  }
  /// For another thread. Its communicator goes with the process.
  explicit Mpi(MPI_Comm of) {
    MPI_Comm_dup(of, &comm_);
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
  }
  ~Mpi() override {
    if (comm_ == MPI_COMM_WORLD) MPI_Finalize();
  }
  Mpi(const Mpi&) = delete;
  Mpi& operator=(const Mpi&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void reduce_scatter(Tensor block, std::span<const int64_t> counts) override {
    const Parts parts = parts_of(block, counts);
    wait_for_device();
    const auto mine = static_cast<size_t>(parts.count[static_cast<size_t>(rank_)]);
    part_.resize(mine);  // MPI writes no result into the middle of its input
    MPI_Reduce_scatter(block.data, part_.data(), parts.count.data(), MPI_FLOAT, MPI_SUM, comm_);
    std::copy(part_.begin(), part_.end(), block.as<float>() + parts.begin[static_cast<size_t>(rank_)]);
  }

  void all_gather(Tensor block, std::span<const int64_t> counts) override {
    const Parts parts = parts_of(block, counts);
    wait_for_device();
    const MPI_Datatype type = block.type == DType::bf16 ? MPI_UINT16_T : MPI_FLOAT;
    if (comm_ == MPI_COMM_WORLD) {
      MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, block.data, parts.count.data(), parts.begin.data(), type,
                     comm_);
      return;
    }
    // MPI waits by looking all the time, which would take a core from the thread that computes.
    constexpr auto kBetweenLooks = std::chrono::microseconds(50);
    MPI_Request request;
    gathered_ = parts;  // MPI reads these until the gather is complete, also after it was given up
    MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, block.data, gathered_.count.data(), gathered_.begin.data(),
                    type, comm_, &request);
    for (int there = 0; MPI_Test(&request, &there, MPI_STATUS_IGNORE), !there;) {
      if (given_up_) fail("a gather of ", size_, " ranks was given up");
      std::this_thread::sleep_for(kBetweenLooks);
    }
  }

  void sum(std::span<double> values) override {
    MPI_Allreduce(MPI_IN_PLACE, values.data(), static_cast<int>(values.size()), MPI_DOUBLE, MPI_SUM, comm_);
  }

  void broadcast(void* data, int64_t bytes) override {
    wait_for_device();
    for (int64_t begin = 0; begin < bytes; begin += kMostElements)
      MPI_Bcast(static_cast<char*>(data) + begin, static_cast<int>(std::min(kMostElements, bytes - begin)), MPI_BYTE, 0,
                comm_);
  }

  Collective* for_another_thread() override {
    if (level_ < MPI_THREAD_MULTIPLE) return nullptr;
    if (!beside_) beside_ = std::make_unique<Mpi>(comm_);
    return beside_.get();
  }
  void give_up() override { given_up_ = true; }

  int on_this_machine() const override { return on_this_machine_; }

  void abort(int status) override {
    MPI_Abort(MPI_COMM_WORLD, status);
    std::_Exit(status);
  }

 private:
  struct Parts {
    std::vector<int> count, begin;
  };
  Parts parts_of(Tensor block, std::span<const int64_t> counts) const {
    CHECK(static_cast<int>(counts.size()) == size_ && block.count() <= kMostElements, "parts of a block of ",
          block.count(), " elements for ", counts.size(), " of ", size_, " ranks");
    Parts parts;
    int at = 0;
    for (int64_t n : counts) {
      parts.begin.push_back(at);
      parts.count.push_back(static_cast<int>(n));
      at += static_cast<int>(n);
    }
    CHECK(at == block.count(), "parts of ", at, " elements of a block of ", block.count());
    return parts;
  }

  std::vector<float> part_;
  Parts gathered_;
  int rank_ = 0, size_ = 1, on_this_machine_ = 1, level_ = MPI_THREAD_SINGLE;
  MPI_Comm comm_ = MPI_COMM_WORLD;
  std::unique_ptr<Mpi> beside_;
  std::atomic<bool> given_up_{false};
};

bool started_by_mpirun() {
  return std::getenv("OMPI_COMM_WORLD_SIZE") || std::getenv("PMI_SIZE") || std::getenv("PMIX_RANK");
}

}  // namespace

Collective& ranks_of_this_run() {
  if (!started_by_mpirun()) return one_process();
  static Mpi mpi;
  return mpi;
}

std::string rank_name() {
  if (!started) return "";
  Collective& ranks = ranks_of_this_run();
  char host[MPI_MAX_PROCESSOR_NAME] = "";
  int length = 0;
  MPI_Get_processor_name(host, &length);
  return concat("rank ", ranks.rank(), " of ", ranks.size(), " on ", std::string(host, static_cast<size_t>(length)));
}

}  // namespace qwerky
