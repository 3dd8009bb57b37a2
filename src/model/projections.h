// SPDX-License-Identifier: MIT
// Query, key and value projections with optional biases, per-head norms and rotary positions.
#pragma once

#include <string>
#include <vector>

#include "model/mixer.h"

namespace qwerky {

inline Tensor weight(const Param* p) { return p ? p->weight : Tensor(); }

class Projections {
 public:
  Projections(const Config& config, const std::string& prefix, Params& params);

  struct Values {
    Tensor q, k, v;       // [R, A], [R, Hk·N] ×2, after norm and rotation
    Tensor q_raw, k_raw;  // before the per-head norm; null without it
  };
  Values make(const Exec& ex, int64_t rows) const;
  /// Norm and rotation of what the products of q(), k(), v() wrote; `rope` null: no rotation.
  void finish(const Exec& ex, const Values& values, Tensor rope) const;
  /// Reverses finish() in place: afterwards d.q, d.k hold the gradients of the products.
  void finish_vjp(const Exec& ex, const Values& d, const Values& values, Tensor rope) const;

  Product q(Tensor x, const Values& to) const { return {x, q_->weight, weight(bq_), raw(to.q_raw, to.q)}; }
  Product k(Tensor x, const Values& to) const { return {x, k_->weight, weight(bk_), raw(to.k_raw, to.k)}; }
  Product v(Tensor x, const Values& to) const { return {x, v_->weight, weight(bv_), to.v}; }
  ProductVjp q_vjp(const Exec& ex, const Values& d) const { return {q_->weight, ex.grad(q_), ex.grad(bq_), d.q}; }
  ProductVjp k_vjp(const Exec& ex, const Values& d) const { return {k_->weight, ex.grad(k_), ex.grad(bk_), d.k}; }
  ProductVjp v_vjp(const Exec& ex, const Values& d) const { return {v_->weight, ex.grad(v_), ex.grad(bv_), d.v}; }
  Product o(Tensor x, Tensor y) const { return {x, o_->weight, weight(bo_), y}; }
  ProductVjp o_vjp(const Exec& ex, Tensor dy) const { return {o_->weight, ex.grad(o_), ex.grad(bo_), dy}; }

 private:
  static Tensor raw(Tensor before_norm, Tensor after) { return before_norm ? before_norm : after; }
  int64_t width_, kv_width_, head_;
  double eps_;
  Param *q_, *k_, *v_, *o_;
  Param *bq_ = nullptr, *bk_ = nullptr, *bv_ = nullptr, *bo_ = nullptr, *q_norm_ = nullptr, *k_norm_ = nullptr;
};

/// What follows the recurrence of an RWKV mixer: optional norm per head, optional gate, output projection.
class MixerOutput {
 public:
  MixerOutput(const Config& config, const std::string& prefix, const Projections& project, Params& params);

  struct Values {
    Tensor o, normed, gate, gated;  // [R, A]; o the recurrence's result, normed is o without a norm, gate may be null
  };
  /// Fills normed and gated from o and gate, and writes io.y (and io.mixed).
  void finish(const Exec& ex, Values& values, const Io& io) const;
  /// d.o and d.gate from dy; their memory is taken here.
  Values finish_vjp(const Exec& ex, const Values& values, Tensor dy) const;

 private:
  const Projections& project_;
  int heads_;
  double eps_;
  bool sigmoid_;  ///< a full gate is squashed here, a low-rank one inside
  Param *norm_gain_ = nullptr, *norm_bias_ = nullptr;
};

}  // namespace qwerky
