// SPDX-License-Identifier: MIT
// The CPU backend of one instruction set: included in namespace qwerky::avx2 or qwerky::avx512 within a target region.
// Each override forwards to a kernel family; whatever has no kernel here is the reference's.

// Each file builds on those before it.
// clang-format off
#include "backend/simd.h"
#include "backend/gemm_kernel.inl"
#include "backend/gemm_pack.inl"
#include "backend/gemm.inl"
#include "backend/panels.inl"
#include "backend/panels_pack.inl"
#include "backend/rows.inl"
#include "backend/gated.inl"
#include "backend/attention.inl"
#include "backend/losses.inl"
#include "backend/prepare.inl"
#include "backend/wkv.inl"
// clang-format on

class Cpu final : public Reference {
 public:
  /// Precision::bf16 asks for products in bf16, `vnni` for the byte product: passed only where the CPU has them.
  Cpu(Precision precision, bool vnni) : precision_(precision), vnni_(vnni) {}

  std::string name() const override { return kName; }

  // Products.
  void linear(std::span<const Product> products) const override {
    bool panels = true, rows = true;
    for (const Product& p : products) {
      panels = panels && p.weight.layout == Layout::panels;
      rows = rows && p.weight.layout == Layout::rows && packable(p.x, p.weight);
    }
    if (panels) return kernels::linear_panels(precision_, vnni_, products);
    if (rows) return kernels::linear_rows(precision_, products);
    if (products.size() == 1) return Reference::linear(products);
    for (const Product& p : products) linear({&p, 1});
  }
  void linear_swiglu(Tensor y, const Product& gate, const Product& up) const override {
    const auto fits = [](const Product& p) { return p.weight.layout == Layout::panels && !p.bias; };
    if (fits(gate) && fits(up) && gate.weight.panels == up.weight.panels && y.count() > 0)
      return kernels::linear_swiglu_panels(precision_, vnni_, y, gate, up);
    Backend::linear_swiglu(y, gate, up);
  }
  bool prefers_panels() const override { return true; }
  void pack(Tensor panels, Tensor rows, bool in_out) const override { kernels::pack(panels, rows, in_out); }
  void linear_vjp(Tensor x, Tensor dx, std::span<const ProductVjp> products, Into into) const override {
    bool packs = !products.empty();
    for (const ProductVjp& p : products) packs = packs && p.dy.count() > 0 && (!dx || packable(x, p.weight));
    packs ? kernels::linear_vjp(precision_, x, dx, products, into) : Reference::linear_vjp(x, dx, products, into);
  }
  void embed(Tensor y, Tensor table, std::span<const int32_t> tokens) const override {
    if (table.layout == Layout::panels) return kernels::embed_panels(y, table, tokens);
    packable(y, table) ? kernels::embed(y, table, tokens) : Reference::embed(y, table, tokens);
  }
  void embed_vjp(Tensor dtable, Tensor dy, std::span<const int32_t> tokens) const override {
    kernels::embed_vjp(dtable, dy, tokens);
  }

  // Rows and positions.
  void add(Tensor y, Tensor x) const override { kernels::add(y, x); }
  void lerp(Tensor y, Tensor x, double t) const override { kernels::lerp(y, x, t); }
  void rmsnorm(Tensor y, Tensor x, Tensor gain, double eps) const override { kernels::rmsnorm(y, x, gain, eps); }
  void rmsnorm_vjp(Tensor dx, Tensor dgain, Tensor dy, Tensor x, Tensor gain, double eps, Into into) const override {
    kernels::rmsnorm_vjp(dx, dgain, dy, x, gain, eps, into);
  }
  void add_rmsnorm(Tensor sum, Tensor y, Tensor a, Tensor b, Tensor gain, double eps) const override {
    kernels::add_rmsnorm(sum, y, a, b, gain, eps);
  }
  void groupnorm(Tensor y, Tensor x, Tensor gain, Tensor bias, int heads, double eps) const override {
    kernels::groupnorm(y, x, gain, bias, heads, eps);
  }
  void groupnorm_vjp(Tensor dx, Tensor dgain, Tensor dbias, Tensor dy, Tensor x, Tensor gain, int heads,
                     double eps) const override {
    kernels::groupnorm_vjp(dx, dgain, dbias, dy, x, gain, heads, eps);
  }
  void activate(Tensor y, Tensor x, Activation f, int64_t first) const override { kernels::activate(y, x, f, first); }
  void activate_vjp(Tensor dx, Tensor dy, Tensor y, Activation f, int64_t first) const override {
    kernels::activate_vjp(dx, dy, y, f, first);
  }
  void swiglu(Tensor y, Tensor gate, Tensor up) const override { kernels::swiglu(y, gate, up); }
  void swiglu_vjp(Tensor dgate, Tensor dup, Tensor dy, Tensor gate, Tensor up) const override {
    kernels::swiglu_vjp(dgate, dup, dy, gate, up);
  }
  void gate(Tensor y, Tensor o, Tensor g, bool sigmoid) const override { kernels::gate(y, o, g, sigmoid); }
  void gate_vjp(Tensor d_o, Tensor dg, Tensor dy, Tensor o, Tensor g, bool sigmoid) const override {
    kernels::gate_vjp(d_o, dg, dy, o, g, sigmoid);
  }
  void rope(Tensor x, Tensor table, bool transpose) const override { kernels::rope(x, table, transpose); }
  void token_shift(Tensor delta, Tensor x, Batch batch, int64_t offset) const override {
    kernels::token_shift(delta, x, batch, offset);
  }
  void token_shift_vjp(Tensor dx, Tensor ddelta, Batch batch) const override {
    kernels::token_shift_vjp(dx, ddelta, batch);
  }
  void shift_mix(Tensor y, Tensor x, Tensor delta, Tensor mu, Tensor m) const override {
    kernels::shift_mix(y, x, delta, mu, m);
  }
  void shift_mix_vjp(Tensor dx, Tensor ddelta, Tensor dmu, Tensor dm, Tensor dy, Tensor delta, Tensor mu,
                     Tensor m) const override {
    kernels::shift_mix_vjp(dx, ddelta, dmu, dm, dy, delta, mu, m);
  }

  // Softmax attention.
  void attention(Tensor o, Tensor q, Tensor k, Tensor v, const AttentionShape& shape, Batch batch,
                 int64_t offset) const override {
    kernels::attention(o, q, k, v, shape, batch, offset);
  }
  void attention_vjp(Tensor dq, Tensor dk, Tensor dv, Tensor d_o, Tensor q, Tensor k, Tensor v, Tensor o,
                     const AttentionShape& shape, Batch batch) const override {
    kernels::attention_vjp(dq, dk, dv, d_o, q, k, v, o, shape, batch);
  }
  void attention_lags(Tensor mass, Tensor sink, Tensor q, Tensor k, const AttentionShape& shape, Batch batch,
                      int64_t skip) const override {
    kernels::attention_lags(mass, sink, q, k, shape, batch, skip);
  }

  // RWKV.
  void rwkv6_prepare(const Rwkv6Prepare& p) const override { kernels::rwkv6_prepare(p); }
  void rwkv6_prepare_vjp(const Rwkv6PrepareGrad& d, const Rwkv6Prepare& p) const override {
    kernels::rwkv6_prepare_vjp(d, p);
  }
  void rwkv7_prepare(const Rwkv7Prepare& p) const override { kernels::rwkv7_prepare(p); }
  void rwkv7_prepare_vjp(const Rwkv7PrepareGrad& d, const Rwkv7Prepare& p) const override {
    kernels::rwkv7_prepare_vjp(d, p);
  }
  void wkv6(Tensor o, const Wkv6& p, Batch batch, int64_t offset) const override { kernels::wkv6(o, p, batch, offset); }
  void wkv6_vjp(const Wkv6& d, Tensor d_o, const Wkv6& p, Batch batch) const override {
    kernels::wkv6_vjp(d, d_o, p, batch);
  }
  void wkv7(Tensor o, const Wkv7& p, Batch batch, int64_t offset) const override { kernels::wkv7(o, p, batch, offset); }
  void wkv7_vjp(const Wkv7& d, Tensor d_o, const Wkv7& p, Batch batch) const override {
    kernels::wkv7_vjp(d, d_o, p, batch);
  }
  int64_t wkv_border(int head, bool seven) const override {
    return head >= (seven ? kernels::kChunkFromN<true> : kernels::kChunkFromN<false>) ? kernels::kChunk : 1;
  }

  // Losses and optimiser.
  void align(Tensor loss, Tensor dys, Tensor ys, Tensor yt, double weight) const override {
    kernels::align(loss, dys, ys, yt, weight);
  }
  void cross_entropy(Tensor loss, Tensor dlogits, Tensor logits, std::span<const int32_t> targets,
                     double weight) const override {
    kernels::cross_entropy(loss, dlogits, logits, targets, weight);
  }
  void kl(Tensor loss, Tensor dstudent, Tensor student, Tensor teacher, double weight) const override {
    kernels::kl(loss, dstudent, student, teacher, weight);
  }
  void argmax(std::span<int32_t> best, Tensor logits) const override { kernels::argmax(best, logits); }
  double sum(Tensor x) const override { return kernels::sum(x); }
  double sum_of_squares(Tensor x) const override { return kernels::sum_of_squares(x); }
  void adamw(const AdamW& rule, Tensor w, Tensor dw, Tensor m, Tensor v) const override {
    kernels::adamw(rule, w, dw, m, v);
  }

 private:
  /// Whether there is anything to multiply, of types with a kernel.
  static bool packable(Tensor x, Tensor weight) {
    return x.count() > 0 && (weight.type == DType::f32 || weight.type == DType::bf16);
  }

  Precision precision_;
  bool vnni_;
};
