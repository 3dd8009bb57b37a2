// SPDX-License-Identifier: MIT
#include "model/projections.h"

namespace qwerky {

Projections::Projections(const Config& c, const std::string& prefix, Params& params)
    : width_(c.width()), kv_width_(c.kv_width()), head_(c.head_dim), eps_(c.norm_eps) {
  q_ = &params.declare(prefix + "q_proj.weight", {width_, c.hidden}, Use::product);
  k_ = &params.declare(prefix + "k_proj.weight", {kv_width_, c.hidden}, Use::product);
  v_ = &params.declare(prefix + "v_proj.weight", {kv_width_, c.hidden}, Use::product);
  o_ = &params.declare(prefix + "o_proj.weight", {c.hidden, width_}, Use::product);
  if (c.qkv_bias) {
    bq_ = &params.declare(prefix + "q_proj.bias", {width_});
    bk_ = &params.declare(prefix + "k_proj.bias", {kv_width_});
    bv_ = &params.declare(prefix + "v_proj.bias", {kv_width_});
  }
  if (c.o_bias) bo_ = &params.declare(prefix + "o_proj.bias", {c.hidden});
  if (c.qk_norm) {
    q_norm_ = &params.declare(prefix + "q_norm.weight", {head_});
    k_norm_ = &params.declare(prefix + "k_norm.weight", {head_});
  }
}

Projections::Values Projections::make(const Exec& ex, int64_t rows) const {
  Values values{ex.make(rows, width_), ex.make(rows, kv_width_), ex.make(rows, kv_width_), {}, {}};
  if (q_norm_) {
    values.q_raw = ex.make(rows, width_);
    values.k_raw = ex.make(rows, kv_width_);
  }
  return values;
}

void Projections::finish(const Exec& ex, const Values& values, Tensor rope) const {
  const auto by_head = [&](Tensor t) { return t.shaped({t.count() / head_, head_}); };
  if (q_norm_) {
    ex.on.rmsnorm(by_head(values.q), by_head(values.q_raw), q_norm_->weight, eps_);
    ex.on.rmsnorm(by_head(values.k), by_head(values.k_raw), k_norm_->weight, eps_);
  }
  if (rope) {
    ex.on.rope(values.q, rope, false);
    ex.on.rope(values.k, rope, false);
  }
}

void Projections::finish_vjp(const Exec& ex, const Values& d, const Values& values, Tensor rope) const {
  const auto by_head = [&](Tensor t) { return t.shaped({t.count() / head_, head_}); };
  const auto norm_vjp = [&](Tensor dy, Tensor before, const Param* gain) {
    ex.on.rmsnorm_vjp(by_head(dy), ex.grad(gain), by_head(dy), by_head(before), gain->weight, eps_, Into::overwrite);
  };
  if (rope) {
    ex.on.rope(d.q, rope, true);
    ex.on.rope(d.k, rope, true);
  }
  if (q_norm_) {
    norm_vjp(d.q, values.q_raw, q_norm_);
    norm_vjp(d.k, values.k_raw, k_norm_);
  }
}

MixerOutput::MixerOutput(const Config& c, const std::string& prefix, const Projections& project, Params& params)
    : project_(project),
      heads_(static_cast<int>(c.heads)),
      eps_(1e-5 * static_cast<double>(c.head_dim)),
      sigmoid_(c.gate == GateKind::full) {
  if (!c.groupnorm) return;
  norm_gain_ = &params.declare(prefix + "ln_x.weight", {c.width()});
  norm_bias_ = &params.declare(prefix + "ln_x.bias", {c.width()});
}

void MixerOutput::finish(const Exec& ex, Values& v, const Io& io) const {
  const int64_t rows = v.o.dim(0), A = v.o.cols();
  v.normed = v.o;
  if (norm_gain_)
    ex.on.groupnorm(v.normed = ex.make(rows, A), v.o, norm_gain_->weight, norm_bias_->weight, heads_, eps_);
  v.gated = v.normed;
  if (v.gate) ex.on.gate(v.gated = ex.make(rows, A), v.normed, v.gate, sigmoid_);
  if (io.mixed) ex.on.copy(io.mixed, v.gated);
  ex.linear(std::vector{project_.o(v.gated, io.y)});
}

MixerOutput::Values MixerOutput::finish_vjp(const Exec& ex, const Values& v, Tensor dy) const {
  const int64_t rows = v.o.dim(0), A = v.o.cols();
  Values d{.o = ex.make(rows, A), .normed = {}, .gate = v.gate ? ex.make(rows, A) : Tensor(), .gated = {}};
  ex.on.linear_vjp(v.gated, d.o, std::vector{project_.o_vjp(ex, dy)}, Into::overwrite);
  if (v.gate) ex.on.gate_vjp(d.o, d.gate, d.o, v.normed, v.gate, sigmoid_);
  if (norm_gain_)
    ex.on.groupnorm_vjp(d.o, ex.grad(norm_gain_), ex.grad(norm_bias_), d.o, v.o, norm_gain_->weight, heads_, eps_);
  return d;
}

}  // namespace qwerky
