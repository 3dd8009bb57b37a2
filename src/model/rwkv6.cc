// SPDX-License-Identifier: MIT
// RAD-RWKV6 (arXiv 2505.03005, A.1): data-dependent token shift, the teacher's projections, per-channel data-dependent
// decay, keys balanced by 1 - w, sigmoid gate. State: S [H, N, N], then the last input row [D] when tokens are shifted.
#include <array>
#include <cmath>

#include "model/projections.h"

namespace qwerky {
namespace {

class Rwkv6 final : public Mixer {
 public:
  Rwkv6(const Config& c, int64_t layer, Params& params)
      : config_(c), project_(c, mixer_prefix(layer), params), output_(c, mixer_prefix(layer), project_, params) {
    const std::string prefix = mixer_prefix(layer);
    const int64_t D = c.hidden, A = c.width();
    if (c.token_shift) {
      maa_x_ = &params.declare(prefix + "time_maa_x", {1, 1, D});
      for (size_t s = 0; s < kStreams; ++s) maa_[s] = &params.declare(prefix + "time_maa_" + "rkvwg" [s], { 1, 1, D });
      maa_down_ = &params.declare(prefix + "time_maa_w1", {D, int64_t{kStreams} * c.rank_shift}, Use::product_in_out);
      maa_up_ = &params.declare(prefix + "time_maa_w2", {int64_t{kStreams}, c.rank_shift, D}, Use::product_in_out);
    }
    decay_ = &params.declare(prefix + "time_decay", {1, 1, A});
    decay_down_ = &params.declare(prefix + "time_decay_w1", {D, c.rank_decay}, Use::product_in_out);
    decay_up_ = &params.declare(prefix + "time_decay_w2", {c.rank_decay, A}, Use::product_in_out);
    if (c.gate == GateKind::full) gate_ = &params.declare(prefix + "gate.weight", {A, D}, Use::product);
    if (c.gate == GateKind::low_rank) {
      gate_down_ = &params.declare(prefix + "g1", {D, c.rank_gate}, Use::product_in_out);
      gate_up_ = &params.declare(prefix + "g2", {c.rank_gate, A}, Use::product_in_out);
    }
  }

  int64_t state_scalars(int64_t) const override {
    return config_.width() * config_.head_dim + (config_.token_shift ? config_.hidden : 0);
  }

  void forward(const Exec& ex, const Io& io, Batch batch) const override {
    Scope scope(ex.scratch);
    run(ex, io, batch);
  }

  void backward(const Exec& ex, const Io& io, const Io& d, Batch batch, const Between& between) const override {
    Scope scope(ex.scratch);
    const Locals l = run(ex, io, batch);
    if (between) between();

    const int64_t rows = io.x.dim(0), A = config_.width(), D = config_.hidden;
    const MixerOutput::Values dout = output_.finish_vjp(ex, l.out, d.y);

    const Projections::Values dp = project_.make(ex, rows);
    Wkv6 dw = l.w;
    dw.r = dp.q, dw.log_w = ex.make(rows, A), dw.k = ex.make(rows, A), dw.v = dp.v;
    ex.on.wkv6_vjp(dw, dout.o, l.w, batch);
    Rwkv6PrepareGrad ds = l.s;
    ds.k = dp.k, ds.decay = ex.make(rows, A), ds.log_w = dw.log_w, ds.k_tilde = dw.k;
    ex.on.rwkv6_prepare_vjp(ds, l.s);
    project_.finish_vjp(ex, dp, l.p, rope(io));

    std::vector<ProductVjp> gate_products;
    if (gate_) gate_products.push_back({gate_->weight, ex.grad(gate_), {}, dout.gate});
    if (gate_down_)
      gate_products.push_back(
          low_rank_vjp(ex, *gate_down_, *gate_up_, nullptr, l.gate_hidden, dout.gate, Activation::sigmoid));
    const ProductVjp decay_product =
        low_rank_vjp(ex, *decay_down_, *decay_up_, decay_, l.decay_hidden, ds.decay, Activation::tanh);

    const std::array<std::vector<ProductVjp>, kStreams> products{
        std::vector{project_.q_vjp(ex, dp)}, std::vector{project_.k_vjp(ex, dp)}, std::vector{project_.v_vjp(ex, dp)},
        std::vector{decay_product}, gate_products};
    if (!config_.token_shift) {
      std::vector<ProductVjp> all;
      for (const auto& stream : products) all.insert(all.end(), stream.begin(), stream.end());
      ex.on.linear_vjp(io.x, d.x, all, Into::overwrite);
      return;
    }
    ex.on.zero(d.x);
    const Tensor ddelta = ex.zeros(rows, D), dhidden = ex.make(rows, int64_t{kStreams} * config_.rank_shift);
    const Tensor dxs = ex.make(rows, D), dm = ex.make(rows, D), dpart = ex.make(rows, config_.rank_shift);
    for (size_t s = 0; s < kStreams; ++s) {
      ex.on.linear_vjp(l.xs[s], dxs, products[s], Into::overwrite);
      ex.on.shift_mix_vjp(d.x, ddelta, ex.grad(maa_[s]), dm, dxs, l.delta, maa_[s]->weight, l.m[s]);
      ex.on.linear_vjp(l.part[s], dpart,
                       std::vector{ProductVjp{up(maa_up_->weight, s), up(ex.grad(maa_up_), s), {}, dm, true}},
                       Into::overwrite);
      ex.on.activate_vjp(dhidden, dpart, l.part[s], Activation::tanh, static_cast<int64_t>(s) * config_.rank_shift);
    }
    const Tensor du = dxs;
    ex.on.linear_vjp(l.u, du, std::vector{ProductVjp{maa_down_->weight, ex.grad(maa_down_), {}, dhidden, true}},
                     Into::overwrite);
    ex.on.shift_mix_vjp(d.x, ddelta, ex.grad(maa_x_), {}, du, l.delta, maa_x_->weight, {});
    ex.on.token_shift_vjp(d.x, ddelta, batch);
  }

 private:
  static constexpr size_t kStreams = 5;  // r, k, v, w, g: the published order of time_maa_w2

  struct Locals {
    Tensor delta, u;                           // [R, D]
    std::array<Tensor, kStreams> part, m, xs;  // [R, rt], [R, D], [R, D]
    Projections::Values p;
    Tensor decay_hidden, gate_hidden;
    Rwkv6Prepare s;
    Wkv6 w;
    MixerOutput::Values out;
  };

  int heads() const { return static_cast<int>(config_.heads); }
  Tensor rope(const Io& io) const { return config_.rope_in_rwkv ? io.rope : Tensor(); }
  /// Stream s of time_maa_w2 [5, rt, D], or of its gradient.
  Tensor up(Tensor w2, size_t s) const { return w2 ? w2.matrix(static_cast<int64_t>(s)) : Tensor(); }

  void shift(const Exec& ex, const Io& io, Batch batch, Locals& l) const {
    const int64_t rows = io.x.dim(0), D = config_.hidden, rank = config_.rank_shift;
    l.xs.fill(io.x);
    if (!config_.token_shift) return;
    l.delta = ex.make(rows, D), l.u = ex.make(rows, D);
    ex.on.token_shift(l.delta, io.x, batch, io.state_offset + config_.width() * config_.head_dim);
    ex.on.shift_mix(l.u, io.x, l.delta, maa_x_->weight, {});
    const Tensor hidden = ex.make(rows, int64_t{kStreams} * rank);
    ex.linear(std::vector{Product{l.u, maa_down_->weight, {}, hidden, true}});
    std::vector<Product> ups;
    for (size_t s = 0; s < kStreams; ++s) {
      l.part[s] = ex.make(rows, rank), l.m[s] = ex.make(rows, D), l.xs[s] = ex.make(rows, D);
      ex.on.activate(l.part[s], hidden, Activation::tanh, static_cast<int64_t>(s) * rank);
      ups.push_back({l.part[s], up(maa_up_->weight, s), {}, l.m[s], true});
    }
    ex.linear(ups);
    for (size_t s = 0; s < kStreams; ++s) ex.on.shift_mix(l.xs[s], io.x, l.delta, maa_[s]->weight, l.m[s]);
  }

  Locals run(const Exec& ex, const Io& io, Batch batch) const {
    const int64_t rows = io.x.dim(0), A = config_.width();
    Locals l;
    shift(ex, io, batch, l);
    l.p = project_.make(ex, rows);
    l.decay_hidden = ex.make(rows, config_.rank_decay);
    std::vector products{project_.q(l.xs[0], l.p), project_.k(l.xs[1], l.p), project_.v(l.xs[2], l.p),
                         Product{l.xs[3], decay_down_->weight, {}, l.decay_hidden, true}};
    if (gate_) products.push_back({l.xs[4], gate_->weight, {}, l.out.gate = ex.make(rows, A)});
    if (gate_down_)
      products.push_back({l.xs[4], gate_down_->weight, {}, l.gate_hidden = ex.make(rows, config_.rank_gate), true});
    ex.linear(products);
    project_.finish(ex, l.p, rope(io));
    const Tensor decay = ex.make(rows, A);
    ex.on.activate(l.decay_hidden, l.decay_hidden, Activation::tanh, 0);
    std::vector ups{Product{l.decay_hidden, decay_up_->weight, decay_->weight, decay, true}};
    if (gate_down_) {
      ex.on.activate(l.gate_hidden, l.gate_hidden, Activation::sigmoid, 0);
      ups.push_back({l.gate_hidden, gate_up_->weight, {}, l.out.gate = ex.make(rows, A), true});
    }
    ex.linear(ups);

    const int kv_heads = static_cast<int>(config_.kv_heads), head = static_cast<int>(config_.head_dim);
    l.s = {.heads = heads(),
           .kv_heads = kv_heads,
           .head = head,
           .balance = config_.balance,
           .k = l.p.k,
           .decay = decay,
           .log_w = ex.make(rows, A),
           .k_tilde = ex.make(rows, A)};
    ex.on.rwkv6_prepare(l.s);
    l.w = {.heads = heads(),
           .kv_heads = kv_heads,
           .head = head,
           .scale = 1 / std::sqrt(static_cast<double>(head)),
           .r = l.p.q,
           .log_w = l.s.log_w,
           .k = l.s.k_tilde,
           .v = l.p.v};
    l.out.o = ex.make(rows, A);
    ex.on.wkv6(l.out.o, l.w, batch, io.state_offset);
    output_.finish(ex, l.out, io);
    return l;
  }

  /// Reverses bias + f(x down) up to the input of f; returns the product that reverses `down`.
  ProductVjp low_rank_vjp(const Exec& ex, const Param& down, const Param& up_weight, const Param* bias, Tensor hidden,
                          Tensor dy, Activation f) const {
    const Tensor dhidden = ex.make(hidden.dim(0), hidden.cols());
    ex.on.linear_vjp(hidden, dhidden,
                     std::vector{ProductVjp{up_weight.weight, ex.grad(up_weight), ex.grad(bias), dy, true}},
                     Into::overwrite);
    ex.on.activate_vjp(dhidden, dhidden, hidden, f, 0);
    return {down.weight, ex.grad(down), {}, dhidden, true};
  }

  Config config_;
  Projections project_;
  MixerOutput output_;
  Param *maa_x_ = nullptr, *maa_down_ = nullptr, *maa_up_ = nullptr;
  std::array<Param*, kStreams> maa_{};
  Param *decay_, *decay_down_, *decay_up_;
  Param *gate_ = nullptr, *gate_down_ = nullptr, *gate_up_ = nullptr;
};

}  // namespace

std::unique_ptr<Mixer> make_rwkv6(const Config& config, int64_t layer, Params& params) {
  return std::make_unique<Rwkv6>(config, layer, params);
}

}  // namespace qwerky
