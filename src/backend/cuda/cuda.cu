// SPDX-License-Identifier: MIT
// The CUDA backend: each operation forwards to a family of kernels.
#include "backend/cuda/cuda.h"

#include "backend/cuda/operations.h"
#include "backend/cuda/wkv_chunks.h"
#include "backend/reference.h"

namespace qwerky::cuda {
namespace {

class Cuda final : public Backend {
 public:
  Cuda(Device& device, Precision precision) : on_(device), precision_(precision) {}

  std::string name() const override { return "cuda"; }
  DType scalar() const override { return DType::f32; }
  void repeat(const std::function<void()>& step) const override { on_.repeat(step); }

  // Products.
  void linear(std::span<const Product> products) const override { cuda::linear(turn(), precision_, products); }
  bool prefers_panels() const override { return false; }
  /// On the host: done once, when a model is loaded.
  void pack(Tensor panels, Tensor rows, bool in_out) const override {
    on_.wait();
    Reference().pack(panels, rows, in_out);
  }
  void linear_vjp(Tensor x, Tensor dx, std::span<const ProductVjp> products, Into into) const override {
    cuda::linear_vjp(turn(), precision_, x, dx, products, into);
  }
  void embed(Tensor y, Tensor table, std::span<const int32_t> tokens) const override {
    cuda::embed(turn(), y, table, tokens);
  }
  void embed_vjp(Tensor dtable, Tensor dy, std::span<const int32_t> tokens) const override {
    cuda::embed_vjp(turn(), dtable, dy, tokens);
  }

  // Rows and positions.
  void zero(Tensor y) const override { cuda::zero(turn(), y); }
  void copy(Tensor y, Tensor x) const override { cuda::copy(turn(), y, x); }
  void add(Tensor y, Tensor x) const override { cuda::add(turn(), y, x); }
  void lerp(Tensor y, Tensor x, double t) const override { cuda::lerp(turn(), y, x, t); }
  void rmsnorm(Tensor y, Tensor x, Tensor gain, double eps) const override { cuda::rmsnorm(turn(), y, x, gain, eps); }
  void rmsnorm_vjp(Tensor dx, Tensor dgain, Tensor dy, Tensor x, Tensor gain, double eps, Into into) const override {
    cuda::rmsnorm_vjp(turn(), dx, dgain, dy, x, gain, eps, into);
  }
  void add_rmsnorm(Tensor sum, Tensor y, Tensor a, Tensor b, Tensor gain, double eps) const override {
    cuda::add_rmsnorm(turn(), sum, y, a, b, gain, eps);
  }
  void groupnorm(Tensor y, Tensor x, Tensor gain, Tensor bias, int heads, double eps) const override {
    cuda::groupnorm(turn(), y, x, gain, bias, heads, eps);
  }
  void groupnorm_vjp(Tensor dx, Tensor dgain, Tensor dbias, Tensor dy, Tensor x, Tensor gain, int heads,
                     double eps) const override {
    cuda::groupnorm_vjp(turn(), dx, dgain, dbias, dy, x, gain, heads, eps);
  }
  void activate(Tensor y, Tensor x, Activation f, int64_t first) const override {
    cuda::activate(turn(), y, x, f, first);
  }
  void activate_vjp(Tensor dx, Tensor dy, Tensor y, Activation f, int64_t first) const override {
    cuda::activate_vjp(turn(), dx, dy, y, f, first);
  }
  void swiglu(Tensor y, Tensor gate, Tensor up) const override { cuda::swiglu(turn(), y, gate, up); }
  void swiglu_vjp(Tensor dgate, Tensor dup, Tensor dy, Tensor gate, Tensor up) const override {
    cuda::swiglu_vjp(turn(), dgate, dup, dy, gate, up);
  }
  void gate(Tensor y, Tensor o, Tensor g, bool sigmoid) const override { cuda::gate(turn(), y, o, g, sigmoid); }
  void gate_vjp(Tensor d_o, Tensor dg, Tensor dy, Tensor o, Tensor g, bool sigmoid) const override {
    cuda::gate_vjp(turn(), d_o, dg, dy, o, g, sigmoid);
  }
  void rope_table(Tensor table, std::span<const double> frequencies, double magnitude, Batch batch) const override {
    cuda::rope_table(turn(), table, frequencies, magnitude, batch);
  }
  void rope(Tensor x, Tensor table, bool transpose) const override { cuda::rope(turn(), x, table, transpose); }
  void token_shift(Tensor delta, Tensor x, Batch batch, int64_t offset) const override {
    cuda::token_shift(turn(), delta, x, batch, offset);
  }
  void token_shift_vjp(Tensor dx, Tensor ddelta, Batch batch) const override {
    cuda::token_shift_vjp(turn(), dx, ddelta, batch);
  }
  void shift_mix(Tensor y, Tensor x, Tensor delta, Tensor mu, Tensor m) const override {
    cuda::shift_mix(turn(), y, x, delta, mu, m);
  }
  void shift_mix_vjp(Tensor dx, Tensor ddelta, Tensor dmu, Tensor dm, Tensor dy, Tensor delta, Tensor mu,
                     Tensor m) const override {
    cuda::shift_mix_vjp(turn(), dx, ddelta, dmu, dm, dy, delta, mu, m);
  }

  // Mixers.
  void attention(Tensor o, Tensor q, Tensor k, Tensor v, const AttentionShape& shape, Batch batch,
                 int64_t offset) const override {
    cuda::attention(turn(), precision_, o, q, k, v, shape, batch, offset);
  }
  void attention_vjp(Tensor dq, Tensor dk, Tensor dv, Tensor d_o, Tensor q, Tensor k, Tensor v, Tensor o,
                     const AttentionShape& shape, Batch batch) const override {
    cuda::attention_vjp(turn(), dq, dk, dv, d_o, q, k, v, o, shape, batch);
  }
  void attention_lags(Tensor mass, Tensor sink, Tensor q, Tensor k, const AttentionShape& shape, Batch batch,
                      int64_t skip) const override {
    cuda::attention_lags(turn(), mass, sink, q, k, shape, batch, skip);
  }
  void rwkv6_prepare(const Rwkv6Prepare& p) const override { cuda::rwkv6_prepare(turn(), p); }
  void rwkv6_prepare_vjp(const Rwkv6PrepareGrad& d, const Rwkv6Prepare& p) const override {
    cuda::rwkv6_prepare_vjp(turn(), d, p);
  }
  void rwkv7_prepare(const Rwkv7Prepare& p) const override { cuda::rwkv7_prepare(turn(), p); }
  void rwkv7_prepare_vjp(const Rwkv7PrepareGrad& d, const Rwkv7Prepare& p) const override {
    cuda::rwkv7_prepare_vjp(turn(), d, p);
  }
  void wkv6(Tensor o, const Wkv6& p, Batch batch, int64_t offset) const override {
    cuda::wkv6(turn(), precision_, o, p, batch, offset);
  }
  void wkv6_vjp(const Wkv6& d, Tensor d_o, const Wkv6& p, Batch batch) const override {
    cuda::wkv6_vjp(turn(), precision_, d, d_o, p, batch);
  }
  void wkv7(Tensor o, const Wkv7& p, Batch batch, int64_t offset) const override {
    cuda::wkv7(turn(), precision_, o, p, batch, offset);
  }
  void wkv7_vjp(const Wkv7& d, Tensor d_o, const Wkv7& p, Batch batch) const override {
    cuda::wkv7_vjp(turn(), precision_, d, d_o, p, batch);
  }
  /// Whether rows go by chunks depends on how many a call has, and the last chunk's roundings on its rows.
  int64_t wkv_border(int head, bool) const override { return cuda::has_chunks(head) ? 0 : 1; }

  // Losses and optimiser.
  void align(Tensor loss, Tensor dys, Tensor ys, Tensor yt, double weight) const override {
    cuda::align(turn(), loss, dys, ys, yt, weight);
  }
  void cross_entropy(Tensor loss, Tensor dlogits, Tensor logits, std::span<const int32_t> targets,
                     double weight) const override {
    cuda::cross_entropy(turn(), loss, dlogits, logits, targets, weight);
  }
  void kl(Tensor loss, Tensor dstudent, Tensor student, Tensor teacher, double weight) const override {
    cuda::kl(turn(), loss, dstudent, student, teacher, weight);
  }
  void argmax(std::span<int32_t> best, Tensor logits) const override { cuda::argmax(turn(), best, logits); }
  double sum(Tensor x) const override { return cuda::sum(turn(), x); }
  double sum_of_squares(Tensor x) const override { return cuda::sum_of_squares(turn(), x); }
  void adamw(const AdamW& rule, Tensor w, Tensor dw, Tensor m, Tensor v) const override {
    cuda::adamw(turn(), rule, w, dw, m, v);
  }

 private:
  Device::Turn turn() const { return Device::Turn(on_); }

  Device& on_;
  Precision precision_;
};

}  // namespace

std::unique_ptr<Backend> make(Precision precision) {
  require_device();
  return std::make_unique<Cuda>(Device::first(), precision);
}

}  // namespace qwerky::cuda
