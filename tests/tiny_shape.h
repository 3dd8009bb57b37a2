// SPDX-License-Identifier: MIT
// The config.json of a tiny model of any kind, with odd widths.
#pragma once

#include "base/json.h"

namespace qwerky::testing {

inline Json tiny_shape(const std::string& type, int64_t layers, int64_t head, int64_t heads, int64_t kv) {
  return {{"model_type", type},
          {"hidden_size", 40},
          {"intermediate_size", 56},
          {"vocab_size", 61},
          {"num_hidden_layers", layers},
          {"num_attention_heads", heads},
          {"num_key_value_heads", kv},
          {"head_dim", head},
          {"max_position_embeddings", 2048},
          {"rms_norm_eps", 1e-5},
          {"use_rope", type == "rwkv7qwen2"},
          {"lora_rank_decay", 8},
          {"lora_rank_tokenshift", 4},
          {"lora_rank_iclr", 8},
          {"lora_rank_value_residual_mix", 4},
          {"lora_rank_gate", 12}};
}

}  // namespace qwerky::testing
