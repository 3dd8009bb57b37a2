// SPDX-License-Identifier: MIT
// The operations of backend.h that models and training spend their time in, each with operands of a model's sizes and
// the bytes and operations that it needs by formula. Adding one is an entry in op_cases.cc.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "model/config.h"

namespace qwerky {

/// The memory of one run of a case: made in the same order each time, so that another may copy it.
class Operands {
 public:
  /// New numbers; with `like`, the first elements of what `like` was given, call by call.
  Operands(Arena& arena, const Backend& on, const Operands* like = nullptr) : arena_(arena), on_(on), like_(like) {}

  /// Uniform in [low, high) and exact in bf16, so that rounding an operand to bf16 changes nothing.
  Tensor uniform(Shape shape, double low = -1, double high = 1, DType type = DType::f32);
  /// A matrix [outputs, inputs] of such numbers.
  Tensor panels(const PanelFormat& format, int64_t outputs, int64_t inputs);
  /// n of i32 in [0, below).
  Tensor ids(int64_t n, int64_t below);
  /// Of one sequence that has seen `position` tokens and may see `more`; given to this until it ends.
  State* state(int64_t scalars, int64_t position, int64_t more);
  const Backend& on() const { return on_; }

 private:
  Tensor place(Tensor t, const std::function<void(Tensor)>& fill);

  Arena& arena_;
  const Backend& on_;
  const Operands* like_;
  std::vector<Tensor> made_;
  std::deque<State> states_;
};

/// A case on operands, and what it writes.
struct OpRun {
  std::function<void(const Backend&)> call;
  std::vector<Tensor> outputs;
};

struct OpCase {
  std::string op;            ///< the function of Backend
  std::string variant = "";  ///< "int8", "tanh", …
  int64_t rows = 0;
  double bytes = 0, operations = 0;  ///< of a call; a multiply-add is two operations, anything else (÷, exp, …) one
  std::string bytes_formula = "", operations_formula = "";  ///< in the letters of OpSizes; M: bytes of the weights
  DType type = DType::f32;                                  ///< whose products it does: which peak bounds it
  bool streams = false;  ///< its operands come from memory in a model; others were just written
  bool by_row = true;    ///< its first rows do not depend on later ones
  double tolerance = 0;  ///< difference from the reference ÷ largest |value| of the output
  std::function<OpRun(Operands&, int64_t rows)> make = nullptr;
  int64_t inputs = 0, outputs = 0;  ///< of a forward product, else 0

  std::string name() const { return variant.empty() ? op : op + " " + variant; }
};

struct OpSizes {
  int64_t hidden = 0, intermediate = 0, vocab = 0;  ///< D, F, V
  int heads = 0, kv_heads = 0, head = 0;            ///< A = heads·N, W = kv_heads·N, N
  int64_t rows = 512, logit_rows = 32;              ///< R: of a call, and where a row has V columns
  int64_t depth = 4096;                             ///< T: positions before the row that attends
};
OpSizes op_sizes(const Config& config);

std::vector<OpCase> op_cases(const OpSizes& sizes);

}  // namespace qwerky
