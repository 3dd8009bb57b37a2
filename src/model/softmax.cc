// SPDX-License-Identifier: MIT
// Softmax attention with grouped keys and values, optional per-head norms, rotary positions, sliding window and sinks.
// State: keys [slots, Hk·N], then values, after rotation.
#include <cmath>

#include "model/projections.h"

namespace qwerky {
namespace {

class Softmax final : public Mixer {
 public:
  Softmax(const Config& c, int64_t layer, Params& params)
      : project_(c, mixer_prefix(layer), params),
        shape_{.heads = static_cast<int>(c.heads),
               .kv_heads = static_cast<int>(c.kv_heads),
               .head = static_cast<int>(c.head_dim),
               .scale = 1 / std::sqrt(static_cast<double>(c.head_dim)),
               .window = c.windows[static_cast<size_t>(layer)],
               .sinks = c.sinks} {}

  int64_t state_scalars(int64_t capacity) const override {
    return state_parts() * shape_.slots(capacity) * shape_.kv_heads * shape_.head;
  }
  int64_t state_parts() const override { return 2; }

  void forward(const Exec& ex, const Io& io, Batch batch) const override {
    Scope scope(ex.scratch);
    run(ex, io, batch);
  }

  void backward(const Exec& ex, const Io& io, const Io& d, Batch batch, const Between& between) const override {
    Scope scope(ex.scratch);
    const Locals l = run(ex, io, batch);
    if (between) between();

    const int64_t rows = io.x.dim(0);
    const Tensor d_o = ex.make(rows, l.o.cols());
    const Projections::Values dp = project_.make(ex, rows);
    ex.on.linear_vjp(l.o, d_o, std::vector{project_.o_vjp(ex, d.y)}, Into::overwrite);
    ex.on.attention_vjp(dp.q, dp.k, dp.v, d_o, l.p.q, l.p.k, l.p.v, l.o, shape_, batch);
    project_.finish_vjp(ex, dp, l.p, io.rope);
    ex.on.linear_vjp(io.x, d.x, std::vector{project_.q_vjp(ex, dp), project_.k_vjp(ex, dp), project_.v_vjp(ex, dp)},
                     Into::overwrite);
  }

  void query_and_key(const Exec& ex, const Io& io, Tensor& q, Tensor& k) const override {
    const Projections::Values p = project_.make(ex, io.x.dim(0));
    ex.linear(std::vector{project_.q(io.x, p), project_.k(io.x, p)});
    project_.finish(ex, p, io.rope);
    q = p.q, k = p.k;
  }
  const AttentionShape* attention_shape() const override { return &shape_; }

 private:
  struct Locals {
    Projections::Values p;
    Tensor o;  // [R, A]
  };

  Locals run(const Exec& ex, const Io& io, Batch batch) const {
    const int64_t rows = io.x.dim(0);
    Locals l{project_.make(ex, rows), ex.make(rows, int64_t{shape_.heads} * shape_.head)};
    ex.linear(std::vector{project_.q(io.x, l.p), project_.k(io.x, l.p), project_.v(io.x, l.p)});
    project_.finish(ex, l.p, io.rope);
    ex.on.attention(l.o, l.p.q, l.p.k, l.p.v, shape_, batch, io.state_offset);
    if (io.mixed) ex.on.copy(io.mixed, l.o);
    ex.linear(std::vector{project_.o(l.o, io.y)});
    return l;
  }

  Projections project_;
  AttentionShape shape_;
};

}  // namespace

std::unique_ptr<Mixer> make_softmax(const Config& config, int64_t layer, Params& params) {
  return std::make_unique<Softmax>(config, layer, params);
}

}  // namespace qwerky
