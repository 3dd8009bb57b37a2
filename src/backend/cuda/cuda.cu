// SPDX-License-Identifier: MIT
// The CUDA backend: each operation forwards to a family of kernels.
#include "backend/cuda/cuda.h"

#include "backend/cuda/operations.h"
#include "backend/reference.h"

namespace qwerky::cuda {
namespace {

class Cuda final : public Backend {
 public:
  Cuda(Device& device, Precision precision) : on_(device), precision_(precision) {}

  std::string name() const override { return "cuda"; }
  DType scalar() const override { return DType::f32; }

  // Products.
  void linear(std::span<const Product> products) const override { cuda::linear(on_, precision_, products); }
  bool prefers_panels() const override { return false; }
  /// On the host: done once, when a model is loaded.
  void pack(Tensor panels, Tensor rows, bool in_out) const override {
    on_.wait();
    Reference().pack(panels, rows, in_out);
  }
  void linear_vjp(Tensor x, Tensor dx, std::span<const ProductVjp> products, Into into) const override {
    cuda::linear_vjp(on_, precision_, x, dx, products, into);
  }
  void embed(Tensor y, Tensor table, std::span<const int32_t> tokens) const override {
    cuda::embed(on_, y, table, tokens);
  }
  void embed_vjp(Tensor dtable, Tensor dy, std::span<const int32_t> tokens) const override {
    cuda::embed_vjp(on_, dtable, dy, tokens);
  }

  // Rows and positions.
  void zero(Tensor y) const override { cuda::zero(on_, y); }
  void copy(Tensor y, Tensor x) const override { cuda::copy(on_, y, x); }
  void add(Tensor y, Tensor x) const override { cuda::add(on_, y, x); }
  void lerp(Tensor y, Tensor x, double t) const override { cuda::lerp(on_, y, x, t); }
  void rmsnorm(Tensor y, Tensor x, Tensor gain, double eps) const override { cuda::rmsnorm(on_, y, x, gain, eps); }
  void rmsnorm_vjp(Tensor dx, Tensor dgain, Tensor dy, Tensor x, Tensor gain, double eps, Into into) const override {
    cuda::rmsnorm_vjp(on_, dx, dgain, dy, x, gain, eps, into);
  }
  void add_rmsnorm(Tensor sum, Tensor y, Tensor a, Tensor b, Tensor gain, double eps) const override {
    cuda::add_rmsnorm(on_, sum, y, a, b, gain, eps);
  }
  void groupnorm(Tensor y, Tensor x, Tensor gain, Tensor bias, int heads, double eps) const override {
    cuda::groupnorm(on_, y, x, gain, bias, heads, eps);
  }
  void groupnorm_vjp(Tensor dx, Tensor dgain, Tensor dbias, Tensor dy, Tensor x, Tensor gain, int heads,
                     double eps) const override {
    cuda::groupnorm_vjp(on_, dx, dgain, dbias, dy, x, gain, heads, eps);
  }
  void activate(Tensor y, Tensor x, Activation f, int64_t first) const override { cuda::activate(on_, y, x, f, first); }
  void activate_vjp(Tensor dx, Tensor dy, Tensor y, Activation f, int64_t first) const override {
    cuda::activate_vjp(on_, dx, dy, y, f, first);
  }
  void swiglu(Tensor y, Tensor gate, Tensor up) const override { cuda::swiglu(on_, y, gate, up); }
  void swiglu_vjp(Tensor dgate, Tensor dup, Tensor dy, Tensor gate, Tensor up) const override {
    cuda::swiglu_vjp(on_, dgate, dup, dy, gate, up);
  }
  void gate(Tensor y, Tensor o, Tensor g, bool sigmoid) const override { cuda::gate(on_, y, o, g, sigmoid); }
  void gate_vjp(Tensor d_o, Tensor dg, Tensor dy, Tensor o, Tensor g, bool sigmoid) const override {
    cuda::gate_vjp(on_, d_o, dg, dy, o, g, sigmoid);
  }
  void rope_table(Tensor table, std::span<const double> frequencies, double magnitude, Batch batch) const override {
    cuda::rope_table(on_, table, frequencies, magnitude, batch);
  }
  void rope(Tensor x, Tensor table, bool transpose) const override { cuda::rope(on_, x, table, transpose); }
  void token_shift(Tensor delta, Tensor x, Batch batch, int64_t offset) const override {
    cuda::token_shift(on_, delta, x, batch, offset);
  }
  void token_shift_vjp(Tensor dx, Tensor ddelta, Batch batch) const override {
    cuda::token_shift_vjp(on_, dx, ddelta, batch);
  }
  void shift_mix(Tensor y, Tensor x, Tensor delta, Tensor mu, Tensor m) const override {
    cuda::shift_mix(on_, y, x, delta, mu, m);
  }
  void shift_mix_vjp(Tensor dx, Tensor ddelta, Tensor dmu, Tensor dm, Tensor dy, Tensor delta, Tensor mu,
                     Tensor m) const override {
    cuda::shift_mix_vjp(on_, dx, ddelta, dmu, dm, dy, delta, mu, m);
  }

  // Mixers.
  void attention(Tensor o, Tensor q, Tensor k, Tensor v, const AttentionShape& shape, Batch batch,
                 int64_t offset) const override {
    cuda::attention(on_, o, q, k, v, shape, batch, offset);
  }
  void attention_vjp(Tensor dq, Tensor dk, Tensor dv, Tensor d_o, Tensor q, Tensor k, Tensor v, Tensor o,
                     const AttentionShape& shape, Batch batch) const override {
    cuda::attention_vjp(on_, dq, dk, dv, d_o, q, k, v, o, shape, batch);
  }
  void attention_lags(Tensor mass, Tensor sink, Tensor q, Tensor k, const AttentionShape& shape, Batch batch,
                      int64_t skip) const override {
    cuda::attention_lags(on_, mass, sink, q, k, shape, batch, skip);
  }
  void rwkv6_prepare(const Rwkv6Prepare& p) const override { cuda::rwkv6_prepare(on_, p); }
  void rwkv6_prepare_vjp(const Rwkv6PrepareGrad& d, const Rwkv6Prepare& p) const override {
    cuda::rwkv6_prepare_vjp(on_, d, p);
  }
  void rwkv7_prepare(const Rwkv7Prepare& p) const override { cuda::rwkv7_prepare(on_, p); }
  void rwkv7_prepare_vjp(const Rwkv7PrepareGrad& d, const Rwkv7Prepare& p) const override {
    cuda::rwkv7_prepare_vjp(on_, d, p);
  }
  void wkv6(Tensor o, const Wkv6& p, Batch batch, int64_t offset) const override {
    cuda::wkv6(on_, precision_, o, p, batch, offset);
  }
  void wkv6_vjp(const Wkv6& d, Tensor d_o, const Wkv6& p, Batch batch) const override {
    cuda::wkv6_vjp(on_, precision_, d, d_o, p, batch);
  }
  void wkv7(Tensor o, const Wkv7& p, Batch batch, int64_t offset) const override {
    cuda::wkv7(on_, precision_, o, p, batch, offset);
  }
  void wkv7_vjp(const Wkv7& d, Tensor d_o, const Wkv7& p, Batch batch) const override {
    cuda::wkv7_vjp(on_, precision_, d, d_o, p, batch);
  }

  // Losses and optimiser.
  void align(Tensor loss, Tensor dys, Tensor ys, Tensor yt, double weight) const override {
    cuda::align(on_, loss, dys, ys, yt, weight);
  }
  void cross_entropy(Tensor loss, Tensor dlogits, Tensor logits, std::span<const int32_t> targets,
                     double weight) const override {
    cuda::cross_entropy(on_, loss, dlogits, logits, targets, weight);
  }
  void kl(Tensor loss, Tensor dstudent, Tensor student, Tensor teacher, double weight) const override {
    cuda::kl(on_, loss, dstudent, student, teacher, weight);
  }
  void argmax(std::span<int32_t> best, Tensor logits) const override { cuda::argmax(on_, best, logits); }
  double sum(Tensor x) const override { return cuda::sum(on_, x); }
  double sum_of_squares(Tensor x) const override { return cuda::sum_of_squares(on_, x); }
  void adamw(const AdamW& rule, Tensor w, Tensor dw, Tensor m, Tensor v) const override {
    cuda::adamw(on_, rule, w, dw, m, v);
  }

 private:
  Device& on_;
  Precision precision_;
};

}  // namespace

std::unique_ptr<Backend> make(Precision precision) { return std::make_unique<Cuda>(Device::first(), precision); }

}  // namespace qwerky::cuda
