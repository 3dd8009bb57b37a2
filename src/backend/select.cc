// SPDX-License-Identifier: MIT
// Which backend this machine can run: the only file that looks at its features.
#include <algorithm>

#include "backend/cpu.h"
#include "backend/cuda/cuda.h"

namespace qwerky {

template class ReferenceOf<float>;

namespace {

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

}  // namespace

bool has_native_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }

bool has_native_int8() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }

bool multiplies_bf16(const std::string& backend) {
  const std::string taken = backend == "auto" ? available_backends().front() : backend;
  return taken == "cuda" || (taken == "avx512" && has_native_bf16());
}

std::vector<std::string> available_backends() {
  std::vector<std::string> names;
  if (cuda::available()) names.emplace_back("cuda");
  if (has_avx512()) names.emplace_back("avx512");
  if (has_avx2()) names.emplace_back("avx2");
  names.emplace_back("reference");
  return names;
}

std::unique_ptr<Backend> make_backend(const std::string& name, Precision precision) {
  const std::vector<std::string> names = available_backends();
  const std::string wanted = name == "auto" ? names.front() : name;
  if (wanted == "cuda") return cuda::make(precision);
  if (wanted != "avx512" && wanted != "avx2" && wanted != "reference")
    fail("backend ", name, ": expected auto, cuda, avx512, avx2 or reference");
  if (std::find(names.begin(), names.end(), wanted) == names.end()) {
    std::string have;
    for (const std::string& n : names) have += (have.empty() ? "" : ", ") + n;
    fail("backend ", name, ": this CPU lacks the instructions, use one of: ", have);
  }
  if (precision == Precision::bf16 && wanted != "avx512")
    fail("precision bf16: the ", wanted, " backend multiplies in f32 only; use --precision f32, or ",
         has_native_bf16() ? "--backend avx512" : "a CPU with AVX512_BF16");
  if (precision == Precision::bf16 && !has_native_bf16())
    fail("precision bf16: this CPU lacks AVX512_BF16; use --precision f32 (or auto)");
  if (wanted == "avx512") return avx512::make(precision, has_native_int8());
  if (wanted == "avx2") return avx2::make();
  return std::make_unique<Reference>();
}

}  // namespace qwerky
