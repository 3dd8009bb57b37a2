// SPDX-License-Identifier: MIT
#include "engine/footprint.h"

#include "engine/packing.h"
#include "engine/prefill.h"

namespace qwerky {
namespace {

/// A backend that computes nothing: a decoder on it takes the memory that it takes on `on`, and touches none of it.
class SizesOnly final : public Backend {
 public:
  explicit SizesOnly(const Backend& on) : on_(on) {}
  std::string name() const override { return on_.name(); }
  DType scalar() const override { return on_.scalar(); }
  bool prefers_panels() const override { return on_.prefers_panels(); }

  void linear(std::span<const Product>) const override {}
  void pack(Tensor, Tensor, bool) const override {}
  void linear_vjp(Tensor, Tensor, std::span<const ProductVjp>, Into) const override {}
  void embed(Tensor, Tensor, std::span<const int32_t>) const override {}
  void embed_vjp(Tensor, Tensor, std::span<const int32_t>) const override {}
  void zero(Tensor) const override {}
  void copy(Tensor, Tensor) const override {}
  void add(Tensor, Tensor) const override {}
  void lerp(Tensor, Tensor, double) const override {}
  void rmsnorm(Tensor, Tensor, Tensor, double) const override {}
  void rmsnorm_vjp(Tensor, Tensor, Tensor, Tensor, Tensor, double, Into) const override {}
  void add_rmsnorm(Tensor, Tensor, Tensor, Tensor, Tensor, double) const override {}
  void groupnorm(Tensor, Tensor, Tensor, Tensor, int, double) const override {}
  void groupnorm_vjp(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int, double) const override {}
  void activate(Tensor, Tensor, Activation, int64_t) const override {}
  void activate_vjp(Tensor, Tensor, Tensor, Activation, int64_t) const override {}
  void swiglu(Tensor, Tensor, Tensor) const override {}
  void swiglu_vjp(Tensor, Tensor, Tensor, Tensor, Tensor) const override {}
  void gate(Tensor, Tensor, Tensor, bool) const override {}
  void gate_vjp(Tensor, Tensor, Tensor, Tensor, Tensor, bool) const override {}
  void rope_table(Tensor, std::span<const double>, double, Batch) const override {}
  void rope(Tensor, Tensor, bool) const override {}
  void token_shift(Tensor, Tensor, Batch, int64_t) const override {}
  void token_shift_vjp(Tensor, Tensor, Batch) const override {}
  void shift_mix(Tensor, Tensor, Tensor, Tensor, Tensor) const override {}
  void shift_mix_vjp(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor) const override {}
  void attention(Tensor, Tensor, Tensor, Tensor, const AttentionShape&, Batch, int64_t) const override {}
  void attention_vjp(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, const AttentionShape&,
                     Batch) const override {}
  void attention_lags(Tensor, Tensor, Tensor, Tensor, const AttentionShape&, Batch, int64_t) const override {}
  void rwkv6_prepare(const Rwkv6Prepare&) const override {}
  void rwkv6_prepare_vjp(const Rwkv6PrepareGrad&, const Rwkv6Prepare&) const override {}
  void rwkv7_prepare(const Rwkv7Prepare&) const override {}
  void rwkv7_prepare_vjp(const Rwkv7PrepareGrad&, const Rwkv7Prepare&) const override {}
  void wkv6(Tensor, const Wkv6&, Batch, int64_t) const override {}
  void wkv6_vjp(const Wkv6&, Tensor, const Wkv6&, Batch) const override {}
  void wkv7(Tensor, const Wkv7&, Batch, int64_t) const override {}
  void wkv7_vjp(const Wkv7&, Tensor, const Wkv7&, Batch) const override {}
  void align(Tensor, Tensor, Tensor, Tensor, double) const override {}
  void cross_entropy(Tensor, Tensor, Tensor, std::span<const int32_t>, double) const override {}
  void kl(Tensor, Tensor, Tensor, Tensor, double) const override {}
  void argmax(std::span<int32_t>, Tensor) const override {}
  double sum(Tensor) const override { return 0; }
  double sum_of_squares(Tensor) const override { return 0; }
  void adamw(const AdamW&, Tensor, Tensor, Tensor, Tensor) const override {}

 private:
  const Backend& on_;
};

/// How load_model() holds p for inference: a Tensor without memory.
Tensor form_of(const Param& p, const TensorSource::Info& stored, const Checkpoint& checkpoint, const Packer& packer,
               bool panels, DType matrices) {
  if (checkpoint.packed != nullptr) return checkpoint.packed->find(p.name);
  if (!panels) return {nullptr, is_matrix(p.shape) ? matrices : DType::f32, p.shape};
  if (const auto* blocks = dynamic_cast<const GgufSource*>(checkpoint.tensors.get()))
    if (const Tensor form = Packer::block_form(p, *blocks); form.shape.rank > 0) return form;
  return packer.form(p, stored.type);
}

}  // namespace

Footprint footprint(const Checkpoint& checkpoint, const Config& config, const Backend& on, int64_t tokens) {
  const auto model = declare_model(config);
  model->params.check(*checkpoint.tensors, ignored_names(config));
  const Packer packer(on, std::nullopt, *model->weights);
  const DType matrices = stored_matrix_type(*checkpoint.tensors);
  Footprint print;
  static char nowhere;  // only tells that a tensor is present
  model->params.each([&](Param& p) {
    const auto stored = checkpoint.tensors->info(p.name);
    if (!stored) return;
    p.weight = form_of(p, *stored, checkpoint, packer, on.prefers_panels(), matrices);
    p.weight.data = &nowhere;
    print.weights += p.weight.bytes();
  });
  print.parameters = model->params.count();
  print.state = model->decoder->state_scalars(tokens) * size_of(on.scalar());

  const SizesOnly sizes(on);
  Arena scratch("session scratch");
  const std::vector<int32_t> prompt(static_cast<size_t>(std::min(tokens, kPrefillRows)));
  const auto state = model->decoder->make_state(on.scalar(), static_cast<int64_t>(prompt.size()));
  std::vector<float> logits(static_cast<size_t>(config.vocab));
  prefill({sizes, scratch}, *model->decoder, *state, prompt, Tensor(logits.data(), DType::f32, {1, config.vocab}));
  print.scratch = scratch.peak_bytes();
  return print;
}

}  // namespace qwerky
