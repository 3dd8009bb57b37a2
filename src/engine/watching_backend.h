// SPDX-License-Identifier: MIT
// A backend that shows what the products of chosen weights read, so that model code need not know.
#pragma once

#include <functional>
#include <string>

#include "backend/backend.h"

namespace qwerky {

/// Forwards every operation to another backend, and each product to `see` before it runs.
class WatchingBackend final : public Backend {
 public:
  using See = std::function<void(std::span<const Product>)>;
  /// `on` must outlive this.
  WatchingBackend(const Backend& on, See see) : on_(on), see_(std::move(see)) {}

  std::string name() const override { return on_.name(); }
  void linear(std::span<const Product> products) const override {
    see_(products);
    on_.linear(products);
  }
  DType scalar() const override { return on_.scalar(); }
  bool prefers_panels() const override { return on_.prefers_panels(); }
  void pack(Tensor panels, Tensor rows, bool in_out) const override { on_.pack(panels, rows, in_out); }
  void linear_vjp(Tensor x, Tensor dx, std::span<const ProductVjp> products, Into into) const override {
    on_.linear_vjp(x, dx, products, into);
  }
  void embed(Tensor y, Tensor table, std::span<const int32_t> tokens) const override { on_.embed(y, table, tokens); }
  void embed_vjp(Tensor dtable, Tensor dy, std::span<const int32_t> tokens) const override {
    on_.embed_vjp(dtable, dy, tokens);
  }
  void zero(Tensor y) const override { on_.zero(y); }
  void copy(Tensor y, Tensor x) const override { on_.copy(y, x); }
  void add(Tensor y, Tensor x) const override { on_.add(y, x); }
  void rmsnorm(Tensor y, Tensor x, Tensor gain, double eps) const override { on_.rmsnorm(y, x, gain, eps); }
  void rmsnorm_vjp(Tensor dx, Tensor dgain, Tensor dy, Tensor x, Tensor gain, double eps, Into into) const override {
    on_.rmsnorm_vjp(dx, dgain, dy, x, gain, eps, into);
  }
  void add_rmsnorm(Tensor sum, Tensor y, Tensor a, Tensor b, Tensor gain, double eps) const override {
    on_.add_rmsnorm(sum, y, a, b, gain, eps);
  }
  void groupnorm(Tensor y, Tensor x, Tensor gain, Tensor bias, int heads, double eps) const override {
    on_.groupnorm(y, x, gain, bias, heads, eps);
  }
  void groupnorm_vjp(Tensor dx, Tensor dgain, Tensor dbias, Tensor dy, Tensor x, Tensor gain, int heads,
                     double eps) const override {
    on_.groupnorm_vjp(dx, dgain, dbias, dy, x, gain, heads, eps);
  }
  void activate(Tensor y, Tensor x, Activation f, int64_t first) const override { on_.activate(y, x, f, first); }
  void activate_vjp(Tensor dx, Tensor dy, Tensor y, Activation f, int64_t first) const override {
    on_.activate_vjp(dx, dy, y, f, first);
  }
  void swiglu(Tensor y, Tensor gate, Tensor up) const override { on_.swiglu(y, gate, up); }
  void swiglu_vjp(Tensor dgate, Tensor dup, Tensor dy, Tensor gate, Tensor up) const override {
    on_.swiglu_vjp(dgate, dup, dy, gate, up);
  }
  void gate(Tensor y, Tensor o, Tensor g, bool sigmoid) const override { on_.gate(y, o, g, sigmoid); }
  void gate_vjp(Tensor d_o, Tensor dg, Tensor dy, Tensor o, Tensor g, bool sigmoid) const override {
    on_.gate_vjp(d_o, dg, dy, o, g, sigmoid);
  }
  void rope_table(Tensor table, std::span<const double> frequencies, double magnitude, Batch batch) const override {
    on_.rope_table(table, frequencies, magnitude, batch);
  }
  void rope(Tensor x, Tensor table, bool transpose) const override { on_.rope(x, table, transpose); }
  void token_shift(Tensor delta, Tensor x, Batch batch, int64_t offset) const override {
    on_.token_shift(delta, x, batch, offset);
  }
  void token_shift_vjp(Tensor dx, Tensor ddelta, Batch batch) const override { on_.token_shift_vjp(dx, ddelta, batch); }
  void shift_mix(Tensor y, Tensor x, Tensor delta, Tensor mu, Tensor m) const override {
    on_.shift_mix(y, x, delta, mu, m);
  }
  void shift_mix_vjp(Tensor dx, Tensor ddelta, Tensor dmu, Tensor dm, Tensor dy, Tensor delta, Tensor mu,
                     Tensor m) const override {
    on_.shift_mix_vjp(dx, ddelta, dmu, dm, dy, delta, mu, m);
  }
  void attention(Tensor o, Tensor q, Tensor k, Tensor v, const AttentionShape& shape, Batch batch,
                 int64_t offset) const override {
    on_.attention(o, q, k, v, shape, batch, offset);
  }
  void attention_vjp(Tensor dq, Tensor dk, Tensor dv, Tensor d_o, Tensor q, Tensor k, Tensor v, Tensor o,
                     const AttentionShape& shape, Batch batch) const override {
    on_.attention_vjp(dq, dk, dv, d_o, q, k, v, o, shape, batch);
  }
  void attention_lags(Tensor mass, Tensor sink, Tensor q, Tensor k, const AttentionShape& shape, Batch batch,
                      int64_t skip) const override {
    on_.attention_lags(mass, sink, q, k, shape, batch, skip);
  }
  void rwkv6_prepare(const Rwkv6Prepare& p) const override { on_.rwkv6_prepare(p); }
  void rwkv6_prepare_vjp(const Rwkv6PrepareGrad& d, const Rwkv6Prepare& p) const override {
    on_.rwkv6_prepare_vjp(d, p);
  }
  void rwkv7_prepare(const Rwkv7Prepare& p) const override { on_.rwkv7_prepare(p); }
  void rwkv7_prepare_vjp(const Rwkv7PrepareGrad& d, const Rwkv7Prepare& p) const override {
    on_.rwkv7_prepare_vjp(d, p);
  }
  void wkv6(Tensor o, const Wkv6& p, Batch batch, int64_t offset) const override { on_.wkv6(o, p, batch, offset); }
  void wkv6_vjp(const Wkv6& d, Tensor d_o, const Wkv6& p, Batch batch) const override {
    on_.wkv6_vjp(d, d_o, p, batch);
  }
  void wkv7(Tensor o, const Wkv7& p, Batch batch, int64_t offset) const override { on_.wkv7(o, p, batch, offset); }
  void wkv7_vjp(const Wkv7& d, Tensor d_o, const Wkv7& p, Batch batch) const override {
    on_.wkv7_vjp(d, d_o, p, batch);
  }
  void align(Tensor loss, Tensor dys, Tensor ys, Tensor yt, double weight) const override {
    on_.align(loss, dys, ys, yt, weight);
  }
  void cross_entropy(Tensor loss, Tensor dlogits, Tensor logits, std::span<const int32_t> targets,
                     double weight) const override {
    on_.cross_entropy(loss, dlogits, logits, targets, weight);
  }
  void kl(Tensor loss, Tensor dstudent, Tensor student, Tensor teacher, double weight) const override {
    on_.kl(loss, dstudent, student, teacher, weight);
  }
  void argmax(std::span<int32_t> best, Tensor logits) const override { on_.argmax(best, logits); }
  double sum(Tensor x) const override { return on_.sum(x); }
  double sum_of_squares(Tensor x) const override { return on_.sum_of_squares(x); }
  void adamw(const AdamW& rule, Tensor w, Tensor dw, Tensor m, Tensor v) const override {
    on_.adamw(rule, w, dw, m, v);
  }

 private:
  const Backend& on_;
  See see_;
};

}  // namespace qwerky
