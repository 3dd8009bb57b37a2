// SPDX-License-Identifier: MIT
// Tensors with memory of their own, the fast backends of this CPU, and comparisons, for tests of products.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "backend/reference.h"

namespace qwerky {

/// A tensor that owns its memory; values in [-1, 1), the same for the same seed.
struct Owned {
  std::vector<char> memory;
  Tensor t;
  Owned() = default;
  Owned(DType type, Shape shape, uint64_t seed) : memory(static_cast<size_t>(shape.count() * size_of(type))) {
    t = Tensor(memory.data(), type, shape);
    uint64_t s = seed * 0x9e3779b97f4a7c15u + 1;
    for (int64_t i = 0; i < shape.count(); ++i) {
      s = s * 6364136223846793005u + 1442695040888963407u;
      const float v = static_cast<float>(static_cast<int64_t>(s >> 33) - (int64_t{1} << 30)) * 0x1p-30f;
      if (type == DType::bf16)
        t.as<bf16>()[i] = bf16(v);
      else if (type == DType::f16)
        t.as<f16>()[i] = f16(v);
      else
        t.as<float>()[i] = v;
    }
  }
};

/// The same values rounded to bf16 where asked, as f32: what a bf16 product really multiplies.
inline Owned rounded(Tensor from, bool round) {
  Owned to(DType::f32, from.shape, 0);
  for (int64_t i = 0; i < from.count(); ++i) {
    const float v = from.type == DType::bf16 ? static_cast<float>(from.as<bf16>()[i]) : from.as<float>()[i];
    to.t.as<float>()[i] = round ? static_cast<float>(bf16(v)) : v;
  }
  return to;
}

/// Sums of n products of values in [-1, 1) with random signs: n roundings of about sqrt(n) · eps / 2 each, whose signs
/// are random too, so about n · eps / 2; 2 covers the tails.
inline double tolerance(int64_t n) { return static_cast<double>(n + 1) * std::numeric_limits<float>::epsilon(); }

inline void expect_near(Tensor got, Tensor want, double within, const std::string& what) {
  wait_for_device();
  double worst = 0;
  int64_t where = 0;
  for (int64_t i = 0; i < got.count(); ++i) {
    const double d = std::abs(double(got.as<float>()[i]) - double(want.as<float>()[i]));
    if (!(d <= worst)) worst = d, where = i;
  }
  EXPECT_LE(worst, within) << what << " at " << where;
}

inline void expect_same_bits(Tensor got, Tensor want, const std::string& what) {
  wait_for_device();
  EXPECT_EQ(std::memcmp(got.data, want.data, static_cast<size_t>(got.bytes())), 0) << what;
}

struct Fast {
  std::unique_ptr<Backend> backend;
  bool rounds;  ///< operands to bf16
  std::string label;
  /// Whether the order of a product's sums is the same for any number of rows: not where a library chooses it.
  bool same_order() const { return backend->name() != "cuda"; }
};

inline std::vector<Fast> fast_backends() {
  std::vector<Fast> all;
  for (const std::string& name : available_backends()) {
    if (name == "reference") continue;
    all.push_back({make_backend(name, Precision::f32), false, name + " f32"});
    if (multiplies_bf16(name))
      all.push_back({make_backend(name, Precision::bf16), true, name + " bf16"});
  }
  return all;
}

}  // namespace qwerky
