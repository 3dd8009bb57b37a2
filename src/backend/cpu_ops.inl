// SPDX-License-Identifier: MIT
// The CPU backend of one instruction set: included in namespace qwerky::avx2 or qwerky::avx512 within a target region.
// Each override forwards to a kernel family; whatever has no kernel here is the reference's.

#include "backend/simd.h"
#include "backend/gemm_kernel.inl"

class Cpu final : public Reference {
 public:
  /// Precision::bf16 asks for products in bf16 and is passed only where the CPU has the instruction.
  explicit Cpu(Precision precision) : precision_(precision) {}

  std::string name() const override { return kName; }

 private:
  [[maybe_unused]] Precision precision_;
};
