// SPDX-License-Identifier: MIT
// What a model is: the published config.json keys of every supported family, read into one struct and written back.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "tensor/params.h"

namespace qwerky {

enum class MixerKind { softmax, rwkv6, rwkv7 };
const char* name_of(MixerKind kind);
/// From that name or the published one ("rad-rwkv7"); throws on anything else, with `where` before the message.
MixerKind mixer_kind(const std::string& name, const std::string& where = "");
/// The published names of all but softmax.
std::string linear_mixers(const char* separator);

/// The output gate of an RWKV mixer (config key gate_rank_type).
enum class GateKind { none = 0, full = 1, low_rank = 2 };

/// Rotary positions: base frequencies and the scalings the supported teachers use.
struct Rope {
  double theta = 10000;
  std::string type = "default";  ///< default | linear | llama3 | yarn
  double factor = 1;
  double low_freq_factor = 1, high_freq_factor = 4;            // llama3
  double beta_fast = 32, beta_slow = 1, attention_factor = 0;  // yarn; 0: 0.1 ln(factor) + 1
  double original_positions = 0;

  /// θ_i per position for channel pairs i = 0 … N/2-1.
  std::vector<double> frequencies(int64_t head_dim) const;
  /// Multiplies cos and sin.
  double magnitude() const;
};

struct Config {
  std::string model_type;  ///< as in config.json
  int64_t hidden = 0, intermediate = 0, vocab = 0, layers = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t max_positions = 0;
  double norm_eps = 1e-6;
  bool tied = false;
  bool qkv_bias = false, o_bias = false, qk_norm = false;
  Rope rope;
  std::vector<MixerKind> mixers;  ///< one per layer
  std::vector<int64_t> windows;   ///< one per layer; 0: full attention (softmax layers only)
  int64_t sinks = 0;              ///< first positions a windowed layer always sees

  bool rope_in_rwkv = false;  ///< use_rope
  bool balance = true, groupnorm = false, token_shift = false;
  GateKind gate = GateKind::low_rank;
  int64_t rank_decay = 0, rank_shift = 0, rank_iclr = 0, rank_mix = 0, rank_gate = 0;

  Json extra;  ///< keys this struct does not interpret (token ids, dtype, …), carried over

  int64_t width() const { return heads * head_dim; }
  int64_t kv_width() const { return kv_heads * head_dim; }
  /// The RWKV kind used in this model, softmax if none.
  MixerKind linear_kind() const;
  bool is_linear(int64_t layer) const;
  /// The layer whose values the deeper RAD-RWKV7 layers mix in; -1 if there is none.
  int64_t first_rwkv7() const;
};

/// Reads and validates config.json. Ranks and biases that the keys leave open are taken from `tensors` (may be null).
/// An unsupported family or feature is refused by name, with what is supported. `where` is the place for messages.
Config read_config(const Json& json, const TensorSource* tensors, const std::string& where = "config.json");
/// Throws unless model_type is a family that read_config() knows: what can be said before any weights are opened.
void check_family(const Json& json, const std::string& where);
Json write_config(const Config& config);

/// The configuration of a student of `teacher` with mixers of `kind`, except in `keep_softmax` layers: model_type
/// rwkv6qwen2 / rwkv7qwen2 (qwen3rwkv7 for RAD-RWKV7 with per-head norms), ranks by the published rules.
Config student_config(const Config& teacher, MixerKind kind, const std::vector<int64_t>& keep_softmax);

/// "model.layers.3.self_attn."
std::string mixer_prefix(int64_t layer);

/// Families and what each means, for `inspect` and error messages.
std::string supported_architectures();

}  // namespace qwerky
