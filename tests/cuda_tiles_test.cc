// SPDX-License-Identifier: MIT
// Products of tiles: factors from rows and from memory give the same, and each term adds eight bits.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "backend/cuda/tiles.h"
#include "base/random.h"
#include "cuda_emulation/emulation.h"

namespace qwerky::cuda {
namespace {

/// c = a bᵀ, with b as it is and through memory; once more through a product that goes on as a factor: twice = c bᵀ.
template <int kTerms>
void product_kernel(const float* a, const float* b, float* c, float* twice, __nv_bfloat16* memory) {
  const Tile right = load_tile(b, kSide);
  for (int e = 0; e < 8; ++e) put<kTerms>(memory + at_in_tile(Tile::row(e), Tile::column(e)), 256, right.x[e]);
  __syncwarp();
  const Factor<kTerms> stored = load_factor<kTerms>(memory, 256), own(right);
  for (int i = 0; i < kTerms; ++i)
    for (int q = 0; q < 4; ++q) EXPECT_EQ(stored.words[i][q], own.words[i][q]);
  Tile sum{}, next{};
  add_product(sum, Factor<kTerms>(load_tile(a, kSide)), stored);
  store_tile(c, kSide, sum);
  add_product(next, Factor<kTerms>(sum), own);
  store_tile(twice, kSide, next);
}

/// Largest error of `product` against x yᵀ, in units of Σ |x| |y|.
double error(const std::vector<float>& product, const std::vector<float>& x, const std::vector<float>& y) {
  double worst = 0;
  for (size_t i = 0; i < kSide; ++i)
    for (size_t j = 0; j < kSide; ++j) {
      double sum = 0, size = 0;
      for (size_t k = 0; k < kSide; ++k) {
        const double term = double(x[i * kSide + k]) * double(y[j * kSide + k]);
        sum += term, size += std::abs(term);
      }
      worst = std::max(worst, std::abs(product[i * kSide + j] - sum) / size);
    }
  return worst;
}

template <int kTerms>
void check(double low, double high) {
  std::vector<float> a(256), b(256), c(256), twice(256);
  std::vector<__nv_bfloat16> memory(256 * kTerms);
  for (size_t i = 0; i < a.size(); ++i) {
    a[i] = static_cast<float>(Random(1).normal(i));
    b[i] = static_cast<float>(Random(2).normal(i));
  }
  launch(Device::first(), 1, kWarp, 0, product_kernel<kTerms>, a.data(), b.data(), c.data(), twice.data(),
         memory.data());
  Device::first().wait();
  for (const double found : {error(c, a, b), error(twice, c, b)}) {
    EXPECT_LT(found, high);
    EXPECT_GT(found, low);
  }
}

TEST(Tiles, TermsAddBits) {
  check<1>(std::ldexp(1, -12), std::ldexp(1, -8));
  check<2>(std::ldexp(1, -21), std::ldexp(1, -16));
  check<3>(0, std::ldexp(1, -22));  // what is left are the roundings of f32 sums
}

}  // namespace
}  // namespace qwerky::cuda
