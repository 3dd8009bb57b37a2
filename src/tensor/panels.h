// SPDX-License-Identifier: MIT
// The one layout of weights for matrix products of any number of rows, on every CPU. W [N outputs, K inputs] is cut
// into panels of 64 outputs; a panel is contiguous and runs along the inputs, so that a product reads it once, in
// order:
//
//   f32    [K][64] values
//   bf16   [⌈K/2⌉][64] words: inputs k (low half) and k+1
//   int8   for each group of g inputs: 64 scales (f16), then [g/4][64] words of 4 codes, the smallest input lowest
//   int4   for each group: 64 scales, 64 minima if there are any, then [g/8][64] words: byte j holds the codes of input
//          8i+j (low nibble) and 8i+4+j (high nibble)
//
// A value is scale · (code - zero), zero = 128 (int8) or 8 (int4), or scale · code + minimum. Outputs beyond N and
// inputs beyond K have value 0 (with a minimum: code, scale and minimum 0 for outputs; inputs there meet activations of
// 0).
#pragma once

#include "tensor/tensor.h"

namespace qwerky {

constexpr int64_t kPanelOutputs = 64;

/// Where things lie in a matrix of a format.
class PanelsOf {
 public:
  PanelsOf(const PanelFormat& format, int64_t outputs, int64_t inputs);

  bool quantised() const { return format.type == DType::i8 || format.type == DType::i4; }
  int64_t panels() const { return (outputs + kPanelOutputs - 1) / kPanelOutputs; }
  /// Quantised: groups of a row, the last one perhaps incomplete.
  int64_t groups() const { return (inputs + format.group - 1) / format.group; }
  /// Words of 32 bits along the inputs, scales not counted.
  int64_t words() const;
  int64_t panel_bytes() const;
  int64_t bytes() const { return panels() * panel_bytes(); }
  /// Quantised: bytes of a group of one panel, and where its codes begin.
  int64_t group_bytes() const;
  int64_t codes_offset() const { return kPanelOutputs * 2 * (format.minimum ? 2 : 1); }
  int zero() const { return format.minimum ? 0 : format.type == DType::i8 ? 128 : 8; }
  int largest_code() const { return format.type == DType::i8 ? 255 : 15; }

  PanelFormat format;
  int64_t outputs, inputs;
};

/// Element-wise access to a matrix in panels: for references, tests and quantisers. n < N, k < K, g < groups.
class PanelView {
 public:
  /// Of a Tensor [N, K] with Layout::panels.
  explicit PanelView(Tensor panels);

  float value(int64_t n, int64_t k) const;
  int code(int64_t n, int64_t k) const;
  float scale(int64_t n, int64_t g) const;
  float minimum(int64_t n, int64_t g) const;

  void set_value(int64_t n, int64_t k, float value) const;  ///< f32 and bf16 (rounded)
  void set_code(int64_t n, int64_t k, int code) const;
  void set_scale(int64_t n, int64_t g, f16 scale) const;
  void set_minimum(int64_t n, int64_t g, f16 minimum) const;
  /// A whole group of output n: format.group codes.
  void set_group(int64_t n, int64_t g, const uint8_t* codes, f16 scale, f16 minimum) const;
  /// Every code is zero(), scales and minima are 0, floats are 0: what padding must hold.
  void clear() const;

  const PanelsOf& of() const { return of_; }

 private:
  char* panel(int64_t n) const { return data_ + n / kPanelOutputs * of_.panel_bytes(); }
  char* group(int64_t n, int64_t g) const { return panel(n) + g * of_.group_bytes(); }
  f16* scales(int64_t n, int64_t g) const { return reinterpret_cast<f16*>(group(n, g)) + n % kPanelOutputs; }
  char* at(int64_t n, int64_t k) const;  ///< the byte (or float, or bf16) of an element

  PanelsOf of_;
  char* data_;
};

/// Throws Error unless the format is one that exists; `what` names it in the message.
void check_format(const PanelFormat& format, const std::string& what);
/// "bf16", "int8 in groups of 64", "int4 in groups of 32 with minima"
std::string name_of(const PanelFormat& format);

}  // namespace qwerky
