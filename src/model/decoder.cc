// SPDX-License-Identifier: MIT
#include "model/decoder.h"

namespace qwerky {

Tensor Exec::grad(const Param& p) const {
  if (!p.trains || (!gradients && layer_gradients == nullptr)) return {};
  CHECK(p.offset >= 0, "gradient of a parameter without memory of its own: ", p.name);
  if (layer_gradients != nullptr) return layer_gradients->of(p);
  return Tensor(static_cast<char*>(gradients.data) + p.offset * size_of(gradients.type), gradients.type, p.shape);
}

Decoder::Decoder(Config config, Params& params)
    : config_(std::move(config)), frequencies_(config_.rope.frequencies(config_.head_dim)) {
  embedding_ = &params.declare("model.embed_tokens.weight", {config_.vocab, config_.hidden},
                               config_.tied ? Use::product : Use::table);
  for (int64_t i = 0; i < config_.layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    Layer layer;
    layer.input_norm = &params.declare(prefix + "input_layernorm.weight", {config_.hidden});
    layer.mixer = make_mixer(config_, i, params);
    layer.post_norm = &params.declare(prefix + "post_attention_layernorm.weight", {config_.hidden});
    layer.mlp = std::make_unique<Mlp>(config_, prefix + "mlp.", params);
    layers_.push_back(std::move(layer));
  }
  final_norm_ = &params.declare("model.norm.weight", {config_.hidden});
  head_ = config_.tied ? embedding_ : &params.declare("lm_head.weight", {config_.vocab, config_.hidden}, Use::product);
}

int64_t Decoder::state_scalars(int64_t capacity) const {
  int64_t n = 0;
  for (const Layer& layer : layers_) n += layer.mixer->state_scalars(capacity);
  return n;
}

std::unique_ptr<State> Decoder::make_state(DType type, int64_t capacity) const {
  return std::make_unique<State>(type, state_scalars(capacity), capacity);
}

void Decoder::copy_state(State& to, const State& from) const {
  CHECK(from.position() <= to.capacity() && from.type() == to.type(), "a state of ", from.position(), " tokens for ",
        to.capacity());
  wait_for_device();
  int64_t into = 0, out_of = 0;
  for (const Layer& layer : layers_) {
    const Mixer& mixer = *layer.mixer;
    const int64_t parts = mixer.state_parts(), used = mixer.state_scalars(from.position()) / parts;
    const int64_t step_to = mixer.state_scalars(to.capacity()) / parts;
    const int64_t step_from = mixer.state_scalars(from.capacity()) / parts;
    for (int64_t i = 0; i < parts; ++i, into += step_to, out_of += step_from) {
      const Tensor target = to.at(into, used);
      std::memcpy(target.data, from.at(out_of, used).data, static_cast<size_t>(target.bytes()));
    }
  }
  to.set_position(from.position());
}

Decoder::Shared Decoder::share(const Exec& ex, Batch batch, int64_t rows, bool with_gradient) const {
  Shared shared;
  shared.rope = ex.make(rows, config_.head_dim);
  ex.on.rope_table(shared.rope, frequencies_, config_.rope.magnitude(), batch);
  if (config_.first_rwkv7() >= 0) {
    shared.v_first = ex.make(rows, config_.width());
    if (with_gradient) shared.dv_first = ex.zeros(rows, config_.width());
  }
  return shared;
}

void Decoder::enter(size_t layer, int64_t step) const {
  if (layer_weights_ == nullptr) return;
  const int64_t at = static_cast<int64_t>(layer), next = at + step;
  layer_weights_->enter(at, next < config_.layers ? next : -1);
}

void Decoder::forward(const Exec& ex, std::span<const int32_t> tokens, Batch batch, Tensor hidden, const Tap& tap,
                      int64_t layers) const {
  const auto pass = this->pass();
  Scope scope(ex.scratch);
  const int64_t rows = static_cast<int64_t>(tokens.size()), D = config_.hidden;
  const Shared shared = share(ex, batch, rows, false);
  const Tensor x = ex.make(rows, D), h = ex.make(rows, D), y = ex.make(rows, D);
  int64_t capacity = 0;
  for (const Segment& s : batch)
    if (s.state) {
      CHECK(capacity == 0 || capacity == s.state->capacity(), "states of different capacity in one batch");
      capacity = s.state->capacity();
    }
  int64_t offset = 0;
  ex.on.embed(x, embedding_->weight, tokens);
  ex.on.rmsnorm(h, x, layers_.front().input_norm->weight, config_.norm_eps);
  for (size_t i = 0; i < layers_.size() && static_cast<int64_t>(i) < layers; ++i) {
    const Layer& layer = layers_[i];
    const Io io{h, y, shared.rope, shared.v_first, offset};
    enter(i, static_cast<int64_t>(i) + 1 < layers ? 1 : 0);
    layer.mixer->forward(ex, io, batch);
    offset += layer.mixer->state_scalars(capacity);
    if (tap) tap(static_cast<int64_t>(i), io);
    ex.on.add_rmsnorm(x, h, x, y, layer.post_norm->weight, config_.norm_eps);
    layer.mlp->forward(ex, h, y);
    const bool last = i + 1 == layers_.size();
    ex.on.add_rmsnorm(x, last ? hidden : h, x, y, (last ? final_norm_ : layers_[i + 1].input_norm)->weight,
                      config_.norm_eps);
  }
  for (const Segment& s : batch)
    if (s.state) s.state->advance(s.rows);
}

void Decoder::logits(const Exec& ex, Tensor hidden, Tensor logits) const {
  ex.linear(std::vector{Product{hidden, head_->weight, {}, logits}});
}

void Decoder::logits_vjp(const Exec& ex, Tensor hidden, Tensor dhidden, Tensor dlogits) const {
  ex.on.linear_vjp(hidden, dhidden, std::vector{ProductVjp{head_->weight, ex.grad(head_), {}, dlogits}},
                   Into::overwrite);
}

void Decoder::train(const Exec& ex, std::span<const int32_t> tokens, Batch batch, const HiddenLoss& loss,
                    bool recompute) const {
  const auto pass = this->pass();
  Scope scope(ex.scratch);
  const int64_t rows = static_cast<int64_t>(tokens.size()), D = config_.hidden;
  const Shared shared = share(ex, batch, rows, true);
  const Tensor x = ex.make(rows, D), dx = ex.make(rows, D);
  ex.on.embed(x, embedding_->weight, tokens);
  if (!recompute) {
    descend(ex, 0, x, dx, shared, batch, loss);
  } else {
    std::vector<Tensor> inputs{x};
    for (const Layer& layer : layers_) {
      Tensor next = ex.make(rows, D);
      Scope inner(ex.scratch);
      const Tensor h = ex.make(rows, D), y = ex.make(rows, D);
      enter(inputs.size() - 1, 1);
      ex.on.rmsnorm(h, inputs.back(), layer.input_norm->weight, config_.norm_eps);
      layer.mixer->forward(ex, {h, y, shared.rope, shared.v_first}, batch);
      ex.on.add_rmsnorm(next, h, inputs.back(), y, layer.post_norm->weight, config_.norm_eps);
      layer.mlp->forward(ex, h, y);
      ex.on.add(next, y);
      inputs.push_back(next);
    }
    head_vjp(ex, inputs.back(), dx, loss);
    for (size_t i = layers_.size(); i-- > 0;) {
      enter(i, -1);
      layer_vjp(ex, layers_[i], inputs[i], dx, shared, batch, nullptr);
      ex.leave(static_cast<int64_t>(i));
    }
  }
  if (const Tensor d = ex.grad(embedding_)) ex.on.embed_vjp(d, dx, tokens);
}

/// Layer `layer` and everything deeper, in continuation-passing style: deeper layers run between this layer's forward
/// and its reversal, so its activations stay where they are.
void Decoder::descend(const Exec& ex, size_t layer, Tensor x, Tensor dx, const Shared& shared, Batch batch,
                      const HiddenLoss& loss) const {
  if (layer == layers_.size()) return head_vjp(ex, x, dx, loss);
  enter(layer, 1);
  layer_vjp(ex, layers_[layer], x, dx, shared, batch, [&](Tensor out) {
    descend(ex, layer + 1, out, dx, shared, batch, loss);
    enter(layer, -1);
  });
  ex.leave(static_cast<int64_t>(layer));
}

void Decoder::head_vjp(const Exec& ex, Tensor x, Tensor dx, const HiddenLoss& loss) const {
  Scope scope(ex.scratch);
  const Tensor hidden = ex.make(x.dim(0), config_.hidden);
  ex.on.rmsnorm(hidden, x, final_norm_->weight, config_.norm_eps);
  loss(hidden, dx);
  ex.leave(config_.layers);
  ex.on.rmsnorm_vjp(dx, ex.grad(final_norm_), dx, x, final_norm_->weight, config_.norm_eps, Into::overwrite);
}

/// dx holds the gradient of the layer's output (when `next` is null, or after it ran), then of its input.
void Decoder::layer_vjp(const Exec& ex, const Layer& layer, Tensor x, Tensor dx, const Shared& shared, Batch batch,
                        const Next& next) const {
  Scope scope(ex.scratch);
  const int64_t rows = x.dim(0), D = config_.hidden;
  const double eps = config_.norm_eps;
  const Tensor h = ex.make(rows, D), y = ex.make(rows, D), dh = ex.make(rows, D);
  ex.on.rmsnorm(h, x, layer.input_norm->weight, eps);
  layer.mixer->backward(ex, {h, y, shared.rope, shared.v_first}, {dh, dx, {}, shared.dv_first}, batch, [&] {
    Scope inner(ex.scratch);
    const Tensor middle = ex.make(rows, D), h2 = ex.make(rows, D), out = ex.make(rows, D), dh2 = ex.make(rows, D);
    ex.on.add_rmsnorm(middle, h2, x, y, layer.post_norm->weight, eps);
    Between deeper;
    if (next)
      deeper = [&] {
        ex.on.add(out, middle);
        next(out);
      };
    layer.mlp->backward(ex, h2, out, dh2, dx, deeper);
    ex.on.rmsnorm_vjp(dx, ex.grad(layer.post_norm), dh2, middle, layer.post_norm->weight, eps, Into::add);
  });
  ex.on.rmsnorm_vjp(dx, ex.grad(layer.input_norm), dh, x, layer.input_norm->weight, eps, Into::add);
}

}  // namespace qwerky
