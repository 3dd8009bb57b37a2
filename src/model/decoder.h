// SPDX-License-Identifier: MIT
// The one decoder: embedding, L × [norm → mixer → + → norm → MLP → +], norm, head. Its forward serves decoding (one
// row), prefill (many), training (rows with null state) and batches of sequences (several segments).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "model/layer_weights.h"
#include "model/mixer.h"
#include "model/mlp.h"

namespace qwerky {

/// Called after each layer's mixer with its index, normed input and output.
using Tap = std::function<void(int64_t layer, const Io& io)>;
/// Reads the final hidden rows [R, D] (after the last norm) and fills their gradient.
using HiddenLoss = std::function<void(Tensor hidden, Tensor dhidden)>;

/// Declares its parameters in `params`, which must outlive it; immutable afterwards, but for set_layer_weights().
class Decoder {
 public:
  Decoder(Config config, Params& params);

  const Config& config() const { return config_; }
  const Param& head() const { return *head_; }
  const Mixer& mixer(int64_t layer) const { return *layers_[static_cast<size_t>(layer)].mixer; }
  /// Weights of layers are there only from the moment these are told (null: always). They must outlive its use.
  void set_layer_weights(LayerWeights* weights) { layer_weights_ = weights; }
  LayerWeights* layer_weights() const { return layer_weights_; }

  /// Scalars of state for a sequence of at most `capacity` tokens.
  int64_t state_scalars(int64_t capacity) const;
  /// What a token adds to it; 0 where the state is constant. Windowed layers grow until their window is full.
  int64_t state_scalars_per_token() const { return state_scalars(1) - state_scalars(0); }
  std::unique_ptr<State> make_state(DType type, int64_t capacity) const;
  /// `to` becomes what `from` is, whose capacity may be another (its position: nothing unused). Only what `from` uses
  /// is copied; the rest of `to` keeps values that are never read.
  void copy_state(State& to, const State& from) const;

  /// Hidden rows after the last norm [R, D]. Advances each segment's state. All states of a batch must have the same
  /// capacity. With fewer `layers` than there are only so many run, and `hidden` is left alone.
  void forward(const Exec& ex, std::span<const int32_t> tokens, Batch batch, Tensor hidden, const Tap& tap = nullptr,
               int64_t layers = INT64_MAX) const;
  /// logits = hidden headᵀ   [R, V]
  void logits(const Exec& ex, Tensor hidden, Tensor logits) const;
  /// dhidden = dlogits head;  the head's gradient is +=.
  void logits_vjp(const Exec& ex, Tensor hidden, Tensor dhidden, Tensor dlogits) const;
  /// Forward, loss, backward; gradients of what trains are added to ex.gradients. Segments start at zero state.
  /// With `recompute`, each layer keeps only its input and runs its forward again on the way back.
  void train(const Exec& ex, std::span<const int32_t> tokens, Batch batch, const HiddenLoss& loss,
             bool recompute) const;

  /// Values of one call that every layer sees.
  struct Shared {
    Tensor rope, v_first, dv_first;
  };
  Shared share(const Exec& ex, Batch batch, int64_t rows, bool with_gradient) const;

 private:
  struct Layer {
    Param *input_norm, *post_norm;
    std::unique_ptr<Mixer> mixer;
    std::unique_ptr<Mlp> mlp;
  };
  using Next = std::function<void(Tensor x)>;
  std::unique_lock<std::mutex> pass() const {
    return layer_weights_ ? layer_weights_->pass() : std::unique_lock<std::mutex>();
  }
  /// Layer `layer` runs now, then the one `step` (1 or -1) further. A whole pass runs all that it announces.
  void enter(size_t layer, int64_t step) const;
  void layer_vjp(const Exec& ex, const Layer& layer, Tensor x, Tensor dx, const Shared& shared, Batch batch,
                 const Next& next) const;
  void descend(const Exec& ex, size_t layer, Tensor x, Tensor dx, const Shared& shared, Batch batch,
               const HiddenLoss& loss) const;
  void head_vjp(const Exec& ex, Tensor x, Tensor dx, const HiddenLoss& loss) const;

  Config config_;
  std::vector<double> frequencies_;
  std::vector<Layer> layers_;
  Param *embedding_, *final_norm_, *head_;
  LayerWeights* layer_weights_ = nullptr;
};

}  // namespace qwerky
