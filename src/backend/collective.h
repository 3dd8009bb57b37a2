// SPDX-License-Identifier: MIT
// The processes that train one model together ("ranks"), and what they tell each other. The transport is MPI's.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "tensor/tensor.h"

namespace qwerky {

/// Elements of a block of one call: MPI counts in ints.
constexpr int64_t kMostElements = int64_t{1} << 30;

/// All ranks call the same functions in the same order. Sums are the same bits on every rank; their order may depend on
/// the number of ranks.
class Collective {
 public:
  virtual ~Collective() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  bool first() const { return rank() == 0; }

  /// block [Σ counts] f32: the counts[rank()] elements at this rank's place become the sum over ranks; the others stay.
  virtual void reduce_scatter(Tensor block, std::span<const int64_t> counts) = 0;
  /// The inverse, of f32 or bf16: every rank gives the counts[rank()] elements at its own place, and all are filled in.
  virtual void all_gather(Tensor block, std::span<const int64_t> counts) = 0;
  /// Elementwise sums over ranks.
  virtual void sum(std::span<double> values) = 0;
  /// What the first rank has.
  virtual void broadcast(void* data, int64_t bytes) = 0;
  /// Returns when all ranks have come here.
  void wait() {
    double nothing = 0;
    sum({&nothing, 1});
  }
  /// The same ranks for another thread, whose calls do not mix with those made here; all ranks ask for it at the same
  /// time. Null where the transport serves one thread alone.
  virtual Collective* for_another_thread() { return nullptr; }
  /// On what for_another_thread() gave: its all_gather(), running or to come, throws Error instead of waiting for ranks
  /// that may not come. Their memory must stay, since the others may read it. Only for a rank that fails.
  virtual void give_up() {}
  /// How many of the ranks share this machine's memory.
  virtual int on_this_machine() const = 0;
  /// Ends all ranks, because this one cannot go on.
  [[noreturn]] virtual void abort(int status) = 0;
};

/// One process alone: every function is the identity.
Collective& one_process();

/// This process as the first of `size` ranks whose others give nothing: every function is the identity. It holds and
/// computes what it would among them, to be measured before the others are asked; sums are not those of a run.
std::unique_ptr<Collective> first_of(int size);

/// The ranks that mpirun started, this process among them; one_process() where it started none. Throws Error when it
/// did and this program was built without MPI. Call once, before threads are made.
Collective& ranks_of_this_run();

/// The same ranks, where a backend has been made that computes on devices: what they share goes from device to device
/// by NCCL if this program was built with it. Throws Error when NCCL cannot connect them. Other ranks as they are.
Collective& between_devices(Collective& ranks);

/// "rank 2 of 4 on HOST" once ranks_of_this_run() found several processes; else empty.
std::string rank_name();

}  // namespace qwerky
