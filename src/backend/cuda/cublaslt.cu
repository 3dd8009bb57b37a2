// SPDX-License-Identifier: MIT
// queue_multiply() by cuBLASLt: f32 operands in f32 (no TF32), bf16 operands on tensor cores, sums in f32, the bias
// fused.
#include <cublasLt.h>

#include <map>
#include <tuple>

#include "backend/cuda/kernel.h"
#include "backend/cuda/products.h"

namespace qwerky::cuda {
namespace {

void check(cublasStatus_t status, const Multiply& p) {
  if (status != CUBLAS_STATUS_SUCCESS)
    fail("cuda: product [", p.m, ", ", p.k, "] x [", p.k, ", ", p.n, "]: ", cublasLtGetStatusString(status));
}

/// Destroys a descriptor of the library at the end of a scope.
template <class T, cublasStatus_t (*destroy)(T)>
struct Owned {
  T it{};
  ~Owned() {
    if (it != nullptr) destroy(it);
  }
};
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Description = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

cublasLtHandle_t handle() {
  static const cublasLtHandle_t made = [] {
    cublasLtHandle_t h = nullptr;
    if (const cublasStatus_t s = cublasLtCreate(&h); s != CUBLAS_STATUS_SUCCESS)
      fail("cuda: cuBLASLt: ", cublasLtGetStatusString(s));
    return h;
  }();
  return made;
}

/// The largest power of two up to 16 that divides an address and the bytes between rows.
uint32_t alignment(const void* p, int64_t row_bytes) {
  uint32_t bytes = 16;
  while (bytes > 1 && (reinterpret_cast<uintptr_t>(p) % bytes != 0 || row_bytes % bytes != 0)) bytes /= 2;
  return bytes;
}

/// What decides how a product is computed.
using Kind = std::tuple<int64_t, int64_t, int64_t, int64_t, bool, bool, bool, bool, bool, uint32_t, uint32_t, uint32_t>;

}  // namespace

// cuBLASLt counts columns first: to it our row-major C is Cᵀ = Bᵀ Aᵀ, and a bias along our columns lies along its rows.
void queue_multiply(Device& on, const Multiply& p, void* memory) {
  if (p.m == 0 || p.n == 0) return;
  if (p.k == 0) {
    if (p.add) return;
    return each(on, p.m * p.n,
                [p] __device__(int64_t i) { p.c[i / p.n * p.c_stride + i % p.n] = p.bias ? p.bias[i % p.n] : 0; });
  }
  const cudaDataType_t type = p.half ? CUDA_R_16BF : CUDA_R_32F;
  const int64_t element = p.half ? 2 : 4, a_stride = p.a_transposed ? p.m : p.k, b_stride = p.b_transposed ? p.k : p.n;
  Layout a, b, c;
  check(cublasLtMatrixLayoutCreate(&a.it, type, static_cast<uint64_t>(a_stride),
                                   static_cast<uint64_t>(p.a_transposed ? p.k : p.m), a_stride),
        p);
  check(cublasLtMatrixLayoutCreate(&b.it, type, static_cast<uint64_t>(b_stride),
                                   static_cast<uint64_t>(p.b_transposed ? p.n : p.k), b_stride),
        p);
  check(
      cublasLtMatrixLayoutCreate(&c.it, CUDA_R_32F, static_cast<uint64_t>(p.n), static_cast<uint64_t>(p.m), p.c_stride),
      p);
  Description d;
  check(cublasLtMatmulDescCreate(&d.it, CUBLAS_COMPUTE_32F, CUDA_R_32F), p);
  const auto set = [&](cublasLtMatmulDescAttributes_t which, const auto& value) {
    check(cublasLtMatmulDescSetAttribute(d.it, which, &value, sizeof value), p);
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, p.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_TRANSB, p.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  if (p.bias != nullptr) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_32F);
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
  }
  const uint32_t align_a = alignment(p.a, a_stride * element), align_b = alignment(p.b, b_stride * element),
                 align_c = alignment(p.c, p.c_stride * 4);

  // Choosing takes longer than a small product: once for each kind.
  static auto& chosen = *new std::map<Kind, cublasLtMatmulAlgo_t>;
  const Kind kind{
      p.m,     p.n,     p.k,    p.c_stride, p.a_transposed, p.b_transposed, p.half, p.add, p.bias != nullptr,
      align_a, align_b, align_c};
  auto found = chosen.find(kind);
  if (found == chosen.end()) {
    Preference wish;
    check(cublasLtMatmulPreferenceCreate(&wish.it), p);
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t which, const auto& value) {
      check(cublasLtMatmulPreferenceSetAttribute(wish.it, which, &value, sizeof value), p);
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<size_t>(kMultiplyBytes));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, align_b);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, align_a);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, align_c);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, align_c);
    cublasLtMatmulHeuristicResult_t best{};
    int count = 0;
    check(cublasLtMatmulAlgoGetHeuristic(handle(), d.it, b.it, a.it, c.it, c.it, wish.it, 1, &best, &count), p);
    check(count > 0 ? best.state : CUBLAS_STATUS_NOT_SUPPORTED, p);
    found = chosen.emplace(kind, best.algo).first;
  }
  const float one = 1, keep = p.add ? 1 : 0;
  check(cublasLtMatmul(handle(), d.it, &one, p.b, b.it, p.a, a.it, &keep, p.c, c.it, p.c, c.it, &found->second, memory,
                       static_cast<size_t>(kMultiplyBytes), on.stream()),
        p);
}

}  // namespace qwerky::cuda
