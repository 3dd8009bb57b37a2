// SPDX-License-Identifier: MIT
// RAD-RWKV7 (arXiv 2505.03005, A.2): the teacher's projections and rotary positions, RWKV-7's generalised delta rule
// with per-channel decay w, in-context learning rate a and removal key κ, low-rank gate, value mixing with the first
// such layer. State: S [H, N, N].
#include <cmath>

#include "model/projections.h"

namespace qwerky {
namespace {

class Rwkv7 final : public Mixer {
 public:
  Rwkv7(const Config& c, int64_t layer, Params& params)
      : config_(c),
        first_(layer == c.first_rwkv7()),
        project_(c, mixer_prefix(layer), params),
        output_(c, mixer_prefix(layer), project_, params) {
    const std::string prefix = mixer_prefix(layer);
    const int64_t D = c.hidden, A = c.width();
    const auto low_rank = [&](const char* letter, int64_t rank, bool bias) {
      LowRank m;
      if (bias) m.bias = &params.declare(prefix + letter + "0", {1, 1, A});
      m.down = &params.declare(prefix + letter + "1", {D, rank}, Use::product_in_out);
      m.up = &params.declare(prefix + letter + "2", {rank, A}, Use::product_in_out);
      m.rank = rank;
      return m;
    };
    decay_ = low_rank("w", c.rank_decay, true);
    rate_ = low_rank("a", c.rank_iclr, true);
    if (!first_) mix_ = low_rank("v", c.rank_mix, true);
    if (c.gate == GateKind::low_rank) gate_ = low_rank("g", c.rank_gate, false);
    if (c.gate == GateKind::full) full_gate_ = &params.declare(prefix + "gate.weight", {A, D}, Use::product);
    if (!c.balance) {
      k_k_ = &params.declare(prefix + "k_k", {1, 1, A});
      k_a_ = &params.declare(prefix + "k_a", {1, 1, A});
    }
    // The published class declares these in every layer.
    params.declare_unused(prefix + "r_k", {c.heads, c.head_dim});
    if (c.balance)
      for (const char* name : {"k_k", "k_a"}) params.declare_unused(prefix + name, {1, 1, A});
    if (first_) {
      params.declare_unused(prefix + "v0", {1, 1, A});
      params.declare_unused(prefix + "v1", {D, c.rank_mix});
      params.declare_unused(prefix + "v2", {c.rank_mix, A});
    }
  }

  int64_t state_scalars(int64_t) const override { return config_.width() * config_.head_dim; }

  void forward(const Exec& ex, const Io& io, Batch batch) const override {
    Scope scope(ex.scratch);
    run(ex, io, batch);
  }

  void backward(const Exec& ex, const Io& io, const Io& d, Batch batch, const Between& between) const override {
    Scope scope(ex.scratch);
    const Locals l = run(ex, io, batch);
    if (between) between();

    const int64_t rows = io.x.dim(0), A = config_.width();
    const MixerOutput::Values dout = output_.finish_vjp(ex, l.out, d.y);

    Rwkv7PrepareGrad ds = l.s;
    Projections::Values dp = project_.make(ex, rows);
    for (Tensor* t : {&ds.log_w, &ds.k_tilde, &ds.kappa, &ds.a, &ds.v_out, &ds.decay, &ds.rate}) *t = ex.make(rows, A);
    if (!first_) ds.mix = ex.make(rows, A);
    ds.k = dp.k, ds.v = dp.v, ds.v_first = d.v_first;
    ds.k_k = wanted(ex, k_k_), ds.k_a = wanted(ex, k_a_);
    Wkv7 dw = l.w;
    dw.r = dp.q, dw.log_w = ds.log_w, dw.k = ds.k_tilde, dw.v = ds.v_out, dw.kappa = ds.kappa, dw.a = ds.a;
    ex.on.wkv7_vjp(dw, dout.o, l.w, batch);
    ex.on.rwkv7_prepare_vjp(ds, l.s);
    project_.finish_vjp(ex, dp, l.p, rope(io));

    std::vector products{project_.q_vjp(ex, dp), project_.k_vjp(ex, dp), project_.v_vjp(ex, dp)};
    low_rank_vjp(ex, decay_, l.decay_hidden, ds.decay, Squash::tanh, products);
    low_rank_vjp(ex, rate_, l.rate_hidden, ds.rate, Squash::none, products);
    if (!first_) low_rank_vjp(ex, mix_, l.mix_hidden, ds.mix, Squash::none, products);
    if (gate_.down) low_rank_vjp(ex, gate_, l.gate_hidden, dout.gate, Squash::sigmoid, products);
    if (full_gate_) products.push_back({full_gate_->weight, ex.grad(full_gate_), {}, dout.gate});
    ex.on.linear_vjp(io.x, d.x, products, Into::overwrite);
  }

 private:
  enum class Squash { none, tanh, sigmoid };
  struct LowRank {  // bias + f(x down) up;  down [D, rank], up [rank, A]
    Param *bias = nullptr, *down = nullptr, *up = nullptr;
    int64_t rank = 0;
  };
  struct Locals {
    Projections::Values p;
    Tensor decay_hidden, rate_hidden, mix_hidden, gate_hidden;  // [R, rank], squashed
    Rwkv7Prepare s;
    Wkv7 w;
    MixerOutput::Values out;
  };

  int heads() const { return static_cast<int>(config_.heads); }
  Tensor rope(const Io& io) const { return config_.rope_in_rwkv ? io.rope : Tensor(); }
  /// The gradient of p, or scratch for it when it is frozen: prepare's VJP always writes these.
  Tensor wanted(const Exec& ex, const Param* p) const {
    if (!p) return {};
    const Tensor g = ex.grad(p);
    return g ? g : ex.zeros(1, p->count());
  }

  Locals run(const Exec& ex, const Io& io, Batch batch) const {
    const int64_t rows = io.x.dim(0), A = config_.width();
    Locals l;
    l.p = project_.make(ex, rows);
    std::vector products{project_.q(io.x, l.p), project_.k(io.x, l.p), project_.v(io.x, l.p)};
    const auto down = [&](const LowRank& m) {
      const Tensor hidden = ex.make(rows, m.rank);
      products.push_back({io.x, m.down->weight, {}, hidden, true});
      return hidden;
    };
    l.decay_hidden = down(decay_);
    l.rate_hidden = down(rate_);
    if (!first_) l.mix_hidden = down(mix_);
    if (gate_.down) l.gate_hidden = down(gate_);
    if (full_gate_) products.push_back({io.x, full_gate_->weight, {}, l.out.gate = ex.make(rows, A)});
    ex.linear(products);
    project_.finish(ex, l.p, rope(io));

    products.clear();
    const auto up = [&](const LowRank& m, Tensor hidden) {
      const Tensor y = ex.make(rows, A);
      products.push_back({hidden, m.up->weight, weight(m.bias), y, true});
      return y;
    };
    ex.on.activate(l.decay_hidden, l.decay_hidden, Activation::tanh, 0);
    const Tensor decay = up(decay_, l.decay_hidden), rate = up(rate_, l.rate_hidden);
    const Tensor mix = first_ ? Tensor() : up(mix_, l.mix_hidden);
    if (gate_.down) {
      ex.on.activate(l.gate_hidden, l.gate_hidden, Activation::sigmoid, 0);
      l.out.gate = up(gate_, l.gate_hidden);
    }
    ex.linear(products);

    l.s = {.heads = heads(),
           .kv_heads = static_cast<int>(config_.kv_heads),
           .head = static_cast<int>(config_.head_dim),
           .balance = config_.balance,
           .k = l.p.k,
           .v = l.p.v,
           .decay = decay,
           .rate = rate,
           .mix = mix,
           .k_k = weight(k_k_),
           .k_a = weight(k_a_),
           .v_first = io.v_first,
           .log_w = ex.make(rows, A),
           .k_tilde = ex.make(rows, A),
           .kappa = ex.make(rows, A),
           .a = ex.make(rows, A),
           .v_out = ex.make(rows, A)};
    ex.on.rwkv7_prepare(l.s);
    l.w = {.heads = heads(),
           .head = static_cast<int>(config_.head_dim),
           .scale = config_.groupnorm ? 1.0 : 1 / std::sqrt(static_cast<double>(config_.head_dim)),
           .r = l.p.q,
           .log_w = l.s.log_w,
           .k = l.s.k_tilde,
           .v = l.s.v_out,
           .kappa = l.s.kappa,
           .a = l.s.a};
    l.out.o = ex.make(rows, A);
    ex.on.wkv7(l.out.o, l.w, batch, io.state_offset);

    output_.finish(ex, l.out, io);
    return l;
  }

  /// Reverses `up`, and adds the reversal of `down` to `products`.
  void low_rank_vjp(const Exec& ex, const LowRank& m, Tensor hidden, Tensor dy, Squash f,
                    std::vector<ProductVjp>& products) const {
    const Tensor dhidden = ex.make(hidden.dim(0), m.rank);
    ex.on.linear_vjp(hidden, dhidden, std::vector{ProductVjp{m.up->weight, ex.grad(m.up), ex.grad(m.bias), dy, true}},
                     Into::overwrite);
    if (f != Squash::none)
      ex.on.activate_vjp(dhidden, dhidden, hidden, f == Squash::tanh ? Activation::tanh : Activation::sigmoid, 0);
    products.push_back({m.down->weight, ex.grad(m.down), {}, dhidden, true});
  }

  Config config_;
  bool first_;
  Projections project_;
  MixerOutput output_;
  LowRank decay_, rate_, mix_, gate_;
  Param *full_gate_ = nullptr, *k_k_ = nullptr, *k_a_ = nullptr;
};

}  // namespace

std::unique_ptr<Mixer> make_rwkv7(const Config& config, int64_t layer, Params& params) {
  return std::make_unique<Rwkv7>(config, layer, params);
}

}  // namespace qwerky
