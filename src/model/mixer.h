// SPDX-License-Identifier: MIT
// The token mixer: the one part in which teacher and student differ, chosen per layer.
#pragma once

#include <functional>
#include <memory>

#include "backend/backend.h"
#include "model/config.h"
#include "model/layer_gradients.h"
#include "tensor/arena.h"
#include "tensor/params.h"
#include "tensor/state.h"

namespace qwerky {

/// Where to compute, where to put intermediates, and where gradients go (a block laid out like the parameters').
struct Exec {
  const Backend& on;
  Arena& scratch;
  Tensor gradients = {};
  /// Sees every group of products before it runs: how calibration reads their inputs.
  const std::function<void(std::span<const Product>)>* watch = nullptr;
  /// Where gradients go instead of `gradients`, if not null.
  LayerGradients* layer_gradients = nullptr;

  void linear(std::span<const Product> products) const {
    if (watch != nullptr) (*watch)(products);
    on.linear(products);
  }
  void linear_swiglu(Tensor y, const Product& gate, const Product& up) const {
    if (watch != nullptr) (*watch)(std::array{gate, up});
    on.linear_swiglu(y, gate, up);
  }
  Tensor make(int64_t rows, int64_t cols) const { return scratch.tensor(on.scalar(), {rows, cols}); }
  Tensor zeros(int64_t rows, int64_t cols) const {
    const Tensor t = make(rows, cols);
    on.zero(t);
    return t;
  }
  /// The gradient of `p`; null when it does not train.
  Tensor grad(const Param& p) const;
  /// A backward pass adds no more to gradients of this layer's matrices.
  void leave(int64_t layer) const {
    if (layer_gradients != nullptr) layer_gradients->leave(layer);
  }
  Tensor grad(const Param* p) const { return p ? grad(*p) : Tensor(); }
};

/// x: normed input [R, D];  y: output [R, D];  rope: angle table [R, N];  v_first: [R, A], the one value that crosses
/// layers;  mixed: a copy of what the output projection reads [R, A], if not null;  state_offset: where this mixer's
/// part of a segment's state begins.
struct Io {
  Tensor x, y, rope, v_first;
  int64_t state_offset = 0;
  Tensor mixed = {};
};

/// Runs after a backward's recomputed forward and before its reversal: may read y and fills dy. What is deeper in
/// the network, or the loss, happens there, so activations stay locals of one function. Null when dy is known.
using Between = std::function<void()>;

class Mixer {
 public:
  virtual ~Mixer() = default;
  /// Scalars of state for sequences of at most `capacity` tokens.
  virtual int64_t state_scalars(int64_t capacity) const = 0;
  /// Equal parts that the state consists of. Of a state that has read n tokens, the first state_scalars(n) / parts
  /// scalars of each part are in use.
  virtual int64_t state_parts() const { return 1; }
  virtual void forward(const Exec& ex, const Io& io, Batch batch) const = 0;
  /// Forward (writing io.y), between(), then dx from dy; d.v_first is += except in the layer that sets v_first, which
  /// reads it. Segments start at zero state.
  virtual void backward(const Exec& ex, const Io& io, const Io& d, Batch batch, const Between& between) const = 0;

  /// Rotated queries and keys of x in ex.scratch, and how they attend, for statistics of a teacher; softmax only.
  virtual void query_and_key(const Exec&, const Io&, Tensor&, Tensor&) const { CHECK(false, "not a softmax mixer"); }
  virtual const AttentionShape* attention_shape() const { return nullptr; }
};

std::unique_ptr<Mixer> make_softmax(const Config& config, int64_t layer, Params& params);
std::unique_ptr<Mixer> make_rwkv6(const Config& config, int64_t layer, Params& params);
std::unique_ptr<Mixer> make_rwkv7(const Config& config, int64_t layer, Params& params);
std::unique_ptr<Mixer> make_mixer(const Config& config, int64_t layer, Params& params);

}  // namespace qwerky
