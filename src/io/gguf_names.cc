// SPDX-License-Identifier: MIT
#include "io/gguf_names.h"

#include <charconv>
#include <span>

namespace qwerky {
namespace {

enum Architecture : unsigned { kLlama = 1, kQwen2 = 2, kQwen3 = 4, kRwkv6Qwen2 = 8 };
constexpr unsigned kSoftmax = kLlama | kQwen2 | kQwen3, kAll = kSoftmax | kRwkv6Qwen2;

constexpr struct {
  const char* name;
  Architecture bit;
} kArchitectures[] = {{"llama", kLlama}, {"qwen2", kQwen2}, {"qwen3", kQwen3}, {"rwkv6qwen2", kRwkv6Qwen2}};

unsigned bit_of(std::string_view name) {
  for (const auto& a : kArchitectures)
    if (name == a.name) return a.bit;
  return 0;
}

struct Row {
  unsigned architectures;
  const char* hf;  // between "model.layers.N." and ".weight" or ".bias"
  const char* gguf;
  GgufLayout layout = GgufLayout::same;
  bool bare = false;  // Hugging Face's name ends here, GGUF's in ".weight"; small
};

constexpr Row kLayerRows[] = {
    {kAll, "input_layernorm", "attn_norm"},
    {kAll, "post_attention_layernorm", "ffn_norm"},
    {kAll, "mlp.gate_proj", "ffn_gate"},
    {kAll, "mlp.up_proj", "ffn_up"},
    {kAll, "mlp.down_proj", "ffn_down"},
    {kLlama, "self_attn.q_proj", "attn_q", GgufLayout::rotary},
    {kLlama, "self_attn.k_proj", "attn_k", GgufLayout::rotary},
    {kQwen2 | kQwen3, "self_attn.q_proj", "attn_q"},
    {kQwen2 | kQwen3, "self_attn.k_proj", "attn_k"},
    {kSoftmax, "self_attn.v_proj", "attn_v"},
    {kSoftmax, "self_attn.o_proj", "attn_output"},
    {kQwen3, "self_attn.q_norm", "attn_q_norm"},
    {kQwen3, "self_attn.k_norm", "attn_k_norm"},
    {kRwkv6Qwen2, "self_attn.q_proj", "time_mix_receptance"},
    {kRwkv6Qwen2, "self_attn.k_proj", "time_mix_key"},
    {kRwkv6Qwen2, "self_attn.v_proj", "time_mix_value"},
    {kRwkv6Qwen2, "self_attn.gate", "time_mix_gate"},
    {kRwkv6Qwen2, "self_attn.o_proj", "time_mix_output"},
    {kRwkv6Qwen2, "self_attn.time_maa_x", "time_mix_lerp_x", GgufLayout::same, true},
    {kRwkv6Qwen2, "self_attn.time_maa_w", "time_mix_lerp_fused", GgufLayout::lerp, true},
    {kRwkv6Qwen2, "self_attn.time_maa_k", "time_mix_lerp_fused", GgufLayout::lerp, true},
    {kRwkv6Qwen2, "self_attn.time_maa_v", "time_mix_lerp_fused", GgufLayout::lerp, true},
    {kRwkv6Qwen2, "self_attn.time_maa_r", "time_mix_lerp_fused", GgufLayout::lerp, true},
    {kRwkv6Qwen2, "self_attn.time_maa_g", "time_mix_lerp_fused", GgufLayout::lerp, true},
    {kRwkv6Qwen2, "self_attn.time_maa_w1", "time_mix_w1", GgufLayout::streams_in, true},
    {kRwkv6Qwen2, "self_attn.time_maa_w2", "time_mix_w2", GgufLayout::streams_out, true},
    {kRwkv6Qwen2, "self_attn.time_decay", "time_mix_decay", GgufLayout::same, true},
    {kRwkv6Qwen2, "self_attn.time_decay_w1", "time_mix_decay_w1", GgufLayout::transposed, true},
    {kRwkv6Qwen2, "self_attn.time_decay_w2", "time_mix_decay_w2", GgufLayout::transposed, true},
};
constexpr Row kTopRows[] = {
    {kAll, "model.embed_tokens", "token_embd"}, {kAll, "model.norm", "output_norm"}, {kAll, "lm_head", "output"}};

constexpr std::string_view kWeight = ".weight", kBias = ".bias";

/// Cuts "PREFIX<number>." off; false when it is not there or the number is not written plainly.
bool cut_layer(std::string_view& name, std::string_view prefix, std::string_view& number) {
  if (!name.starts_with(prefix)) return false;
  const std::string_view rest = name.substr(prefix.size());
  number = rest.substr(0, std::min(rest.find('.'), rest.size()));
  int layer = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), layer);
  if (error != std::errc() || end != number.data() + number.size() || layer < 0 || std::to_string(layer) != number ||
      number.size() == rest.size())
    return false;
  name = rest.substr(number.size() + 1);
  return true;
}

std::string_view cut_ending(std::string_view& name) {
  for (const std::string_view ending : {kWeight, kBias})
    if (name.ends_with(ending)) {
      name.remove_suffix(ending.size());
      return ending;
    }
  return {};
}

}  // namespace

bool is_gguf_architecture(std::string_view name) { return bit_of(name) != 0; }

std::string gguf_architectures() {
  std::string all;
  for (const auto& a : kArchitectures) all += (all.empty() ? "" : ", ") + std::string(a.name);
  return all;
}

std::optional<GgufName> gguf_name(std::string_view architecture, std::string_view hf_name) {
  const unsigned bit = bit_of(architecture);
  std::string_view name = hf_name, layer;
  const bool in_layer = cut_layer(name, "model.layers.", layer);
  const std::string prefix = in_layer ? "blk." + std::string(layer) + "." : "";
  std::string_view stem = name;
  const std::string_view ending = cut_ending(stem);
  for (const Row& row : in_layer ? std::span<const Row>(kLayerRows) : std::span<const Row>(kTopRows)) {
    if ((row.architectures & bit) == 0 || (row.bare ? name : stem) != row.hf || (!row.bare && ending.empty())) continue;
    return GgufName{prefix + row.gguf + std::string(row.bare ? kWeight : ending), row.layout, row.bare};
  }
  return std::nullopt;
}

HfNames hf_names(std::string_view architecture, std::string_view gguf_name) {
  const unsigned bit = bit_of(architecture);
  std::string_view stem = gguf_name, layer;
  const bool in_layer = cut_layer(stem, "blk.", layer);
  const std::string prefix = in_layer ? "model.layers." + std::string(layer) + "." : "";
  const std::string_view ending = cut_ending(stem);
  HfNames found;
  for (const Row& row : in_layer ? std::span<const Row>(kLayerRows) : std::span<const Row>(kTopRows)) {
    if ((row.architectures & bit) == 0 || stem != row.gguf || ending.empty() || (row.bare && ending != kWeight))
      continue;
    found.names.push_back(prefix + row.hf + std::string(row.bare ? "" : ending));
    found.layout = row.layout;
  }
  return found;
}

}  // namespace qwerky
