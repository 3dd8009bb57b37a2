// SPDX-License-Identifier: MIT
#include "model/mlp.h"

namespace qwerky {

Mlp::Mlp(const Config& c, const std::string& prefix, Params& params)
    : gate_(params.declare(prefix + "gate_proj.weight", {c.intermediate, c.hidden}, Use::product)),
      up_(params.declare(prefix + "up_proj.weight", {c.intermediate, c.hidden}, Use::product)),
      down_(params.declare(prefix + "down_proj.weight", {c.hidden, c.intermediate}, Use::product)) {}

Mlp::Locals Mlp::run(const Exec& ex, Tensor x) const {
  const int64_t rows = x.dim(0), F = gate_.shape.dim[0];
  Locals l{ex.make(rows, F), ex.make(rows, F), ex.make(rows, F)};
  ex.linear(std::vector{Product{x, gate_.weight, {}, l.gate}, Product{x, up_.weight, {}, l.up}});
  ex.on.swiglu(l.hidden, l.gate, l.up);
  return l;
}

void Mlp::forward(const Exec& ex, Tensor x, Tensor y) const {
  Scope scope(ex.scratch);
  const int64_t rows = x.dim(0), F = gate_.shape.dim[0];
  const Tensor hidden = ex.make(rows, F), gate = ex.make(rows, F), up = ex.make(rows, F);
  ex.linear_swiglu(hidden, {x, gate_.weight, {}, gate}, {x, up_.weight, {}, up});
  ex.linear(std::vector{Product{hidden, down_.weight, {}, y}});
}

void Mlp::backward(const Exec& ex, Tensor x, Tensor y, Tensor dx, Tensor dy, const Between& between) const {
  Scope scope(ex.scratch);
  const Locals l = run(ex, x);
  if (between) {
    ex.linear(std::vector{Product{l.hidden, down_.weight, {}, y}});
    between();
  }
  const int64_t rows = x.dim(0), F = gate_.shape.dim[0];
  const Tensor dhidden = ex.make(rows, F), dgate = ex.make(rows, F), dup = ex.make(rows, F);
  ex.on.linear_vjp(l.hidden, dhidden, std::vector{ProductVjp{down_.weight, ex.grad(down_), {}, dy}}, Into::overwrite);
  ex.on.swiglu_vjp(dgate, dup, dhidden, l.gate, l.up);
  ex.on.linear_vjp(
      x, dx,
      std::vector{ProductVjp{gate_.weight, ex.grad(gate_), {}, dgate}, ProductVjp{up_.weight, ex.grad(up_), {}, dup}},
      Into::overwrite);
}

}  // namespace qwerky
