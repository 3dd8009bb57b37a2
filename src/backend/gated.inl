// SPDX-License-Identifier: MIT
// y = silu(x Gᵀ) ⊙ (x Uᵀ) with G and U in panels: both products of a panel are multiplied while they lie in the cache.

namespace kernels {

/// gate and up: of the same x and format, without bias.
inline void linear_swiglu_panels(Precision precision, bool vnni, Tensor y, const Product& gate,
                                 const Product& up) noexcept {
  const int64_t R = y.row_count(), F = y.cols();
  const std::array<Product, 2> products{gate, up};
  Operands operands;
  convert_operands(operands, precision, products);
  const PanelsOf of(gate.weight.panels, gate.weight.dim(0), gate.weight.dim(1));
  parallel_for(of.panels() * left_blocks(R), grain_of(2 * item_cost(of, R)), [&](int64_t begin, int64_t end) {
    each_item(R, of.panels(), begin, end, [&](int64_t m, int64_t rows, int64_t p0, int64_t p1) {
      float* const tiles = static_cast<float*>(scratch(Scratch::gated, 2 * rows * kPanelOutputs * 4));
      for (int64_t p = p0; p < p1; ++p) {
        for (size_t i = 0; i < 2; ++i)
          multiply_panels(vnni,
                          {of, operands.of[i], static_cast<const char*>(products[i].weight.data),
                           tiles + static_cast<int64_t>(i) * rows * kPanelOutputs, kPanelOutputs, m, p, nullptr},
                          m, rows, p, p + 1);
        const int64_t width = smaller(kPanelOutputs, F - p * kPanelOutputs);
        for (int64_t r = 0; r < rows; ++r)
          swiglu_row(y.as<float>() + (m + r) * F + p * kPanelOutputs, tiles + r * kPanelOutputs,
                     tiles + (rows + r) * kPanelOutputs, width);
      }
    });
  });
}

}  // namespace kernels
