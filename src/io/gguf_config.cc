// SPDX-License-Identifier: MIT
// GGUF's metadata as the keys of a config.json (llama.cpp: src/llama-model.cpp and its conversion scripts).
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "io/gguf_model.h"

namespace qwerky {
namespace {

constexpr int64_t kMost = int64_t{1} << 31;
constexpr double kPi = 3.14159265358979323846;

/// Metadata of one architecture: "llama.block_count" and so on.
class Keys {
 public:
  Keys(const GgufFile& file, const std::string& architecture) : file_(file), prefix_(architecture + ".") {}
  std::string name(const char* key) const { return prefix_ + key; }
  int64_t integer(const char* key, int64_t absent) const { return file_.integer(name(key), 0, kMost).value_or(absent); }
  double number(const char* key, double absent) const { return file_.number(name(key)).value_or(absent); }
  std::string text(const char* key, const std::string& absent) const { return file_.text(name(key)).value_or(absent); }
  bool has(const char* key) const { return file_.has(name(key)); }
  int64_t needed(const char* key) const {
    const auto found = file_.integer(name(key), 1, kMost);
    if (!found) fail(file_.name(), ": ", name(key), " is missing");
    return *found;
  }

  /// Features that would change the result and that the supported families do not have.
  void refuse_variants() const {
    for (const char* key : {"expert_count", "attention.sliding_window", "rescale_every_n_layers"})
      if (const int64_t n = integer(key, 0); n != 0) refuse(key, n);
    for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping", "attention.clamp_kqv",
                            "attention.max_alibi_bias", "attention.scale"})
      if (const double x = number(key, 0); x != 0) refuse(key, x);
    for (const char* key : {"logit_scale", "residual_scale", "embedding_scale"})
      if (const double x = number(key, 1); x != 1) refuse(key, x);
    if (file_.flag(name("use_parallel_residual")).value_or(false)) refuse("use_parallel_residual", "true");
    if (!file_.flag(name("attention.causal")).value_or(true)) refuse("attention.causal", "false");
  }

 private:
  template <class T>
  [[noreturn]] void refuse(const char* key, const T& value) const {
    fail(file_.name(), ": ", name(key), " ", value, " is not supported");
  }
  const GgufFile& file_;
  std::string prefix_;
};

/// Divisors of the rotary frequencies by Llama 3's rule: 1 for short waves, `factor` for long ones, between them by
/// how often the wave turns over the original context.
double llama3_divisor(double frequency, double factor, double low, double high, double original) {
  const double turns = original * frequency / (2 * kPi);
  const double keep = std::clamp((turns - low) / (high - low), 0.0, 1.0);
  return 1 / (keep + (1 - keep) / factor);
}

/// Llama 3's parameters that give these divisors. The published models have 1, 4 and 8192 positions; only the number of
/// positions is searched for, among powers of two.
Json llama3_scaling(const std::vector<float>& divisors, double theta, const std::string& where) {
  const double factor = *std::max_element(divisors.begin(), divisors.end());
  if (factor == 1) return nullptr;
  constexpr double kLow = 1, kHigh = 4;
  std::vector<int64_t> candidates{8192};
  for (int64_t original = 16; original <= 1 << 24; original *= 2) candidates.push_back(original);
  for (const int64_t original : candidates) {
    bool same = true;
    for (size_t i = 0; i < divisors.size(); ++i) {
      const double frequency = std::pow(theta, -static_cast<double>(i) / static_cast<double>(divisors.size()));
      const double want = llama3_divisor(frequency, factor, kLow, kHigh, static_cast<double>(original));
      same = same && std::abs(want - double{divisors[i]}) <= 1e-4 * want;
    }
    if (same)
      return {{"rope_type", "llama3"},
              {"factor", factor},
              {"low_freq_factor", kLow},
              {"high_freq_factor", kHigh},
              {"original_max_position_embeddings", original}};
  }
  fail(where,
       ": rope_freqs.weight are not the divisors of a Llama 3 scaling with factors 1 and 4; no other is supported");
}

}  // namespace

Json GgufSource::rope_scaling(int64_t head, double theta, int64_t positions) const {
  const Keys keys(file(), architecture_);
  std::string type = keys.text("rope.scaling.type", "none");
  double factor = keys.number("rope.scaling.factor", 1);
  if (keys.has("rope.scale_linear")) type = "linear", factor = keys.number("rope.scale_linear", 1);  // before 2024
  if (const GgufTensor* freqs = stored("rope_freqs.weight")) {
    if (freqs->shape != Shape{head / 2} || freqs->type != BlockType::f32)
      fail(name_, ": rope_freqs.weight: expected F32 [", head / 2, "], found ", format_of(freqs->type).name, " ",
           freqs->shape.str());
    std::vector<float> divisors(static_cast<size_t>(head / 2));
    dequantise_row(BlockType::f32, freqs->data.data(), head / 2, divisors.data());
    for (const float d : divisors)
      if (!(d >= 1 && d <= 1e6)) fail(name_, ": rope_freqs.weight: expected divisors from 1 to 1e6, found ", d);
    Json scaling = llama3_scaling(divisors, theta, name_);
    if (!scaling.is_null() && type != "none" && factor != 1)
      fail(name_, ": rope_freqs.weight together with rope.scaling.type ", type, " is not supported");
    if (!scaling.is_null()) return scaling;
  }
  if (type == "none" || (type == "linear" && factor == 1)) return nullptr;
  if (type != "linear" && type != "yarn")
    fail(name_, ": ", keys.name("rope.scaling.type"), " \"", type,
         "\" is not supported; supported: none, linear, yarn");
  if (!(factor > 0))
    fail(name_, ": ", keys.name("rope.scaling.factor"), ": expected a positive number, found ", factor);
  Json scaling{{"rope_type", type}, {"factor", factor}};
  if (type == "yarn") {
    scaling["original_max_position_embeddings"] = keys.integer("rope.scaling.original_context_length", positions);
    scaling["beta_fast"] = keys.number("rope.scaling.yarn_beta_fast", 32);
    scaling["beta_slow"] = keys.number("rope.scaling.yarn_beta_slow", 1);
    // llama.cpp multiplies its own magnitude by this.
    if (const double extra = keys.number("rope.scaling.attn_factor", 1); extra != 1)
      scaling["attention_factor"] = extra * (factor > 1 ? 0.1 * std::log(factor) + 1 : 1);
  }
  return scaling;
}

Json GgufSource::config() const {
  const Keys keys(file(), architecture_);
  keys.refuse_variants();
  const GgufTensor* embedding = stored("token_embd.weight");
  if (embedding == nullptr) fail(name_, ": token_embd.weight is missing: a vocabulary without a model");
  const int64_t hidden = keys.needed("embedding_length"), positions = keys.needed("context_length");
  if (!keys.has("attention.layer_norm_rms_epsilon"))
    fail(name_, ": ", keys.name("attention.layer_norm_rms_epsilon"), " is missing");
  Json config{{"model_type", architecture_},
              {"hidden_act", "silu"},
              {"hidden_size", hidden},
              {"intermediate_size", keys.needed("feed_forward_length")},
              {"num_hidden_layers", keys.needed("block_count")},
              {"vocab_size", embedding->rows()},
              {"max_position_embeddings", positions},
              {"rms_norm_eps", keys.number("attention.layer_norm_rms_epsilon", 0)},
              {"tie_word_embeddings", stored("output.weight") == nullptr}};
  for (const char* key : {"bos_token_id", "eos_token_id"})
    if (const auto id = file().integer("tokenizer.ggml." + std::string(key), 0, kMost)) config[key] = *id;

  if (architecture_ == "rwkv6qwen2") {
    const int64_t head = keys.needed("wkv.head_size"), heads = std::max<int64_t>(1, hidden / head);
    if (heads * head != hidden)
      fail(name_, ": embedding_length ", hidden, " is not a multiple of wkv.head_size ", head);
    const int64_t kv_heads = keys.integer("attention.head_count_kv", 0);
    if (const int64_t shifts = keys.integer("token_shift_count", 2); shifts != 1)
      fail(name_, ": ", keys.name("token_shift_count"), " ", shifts, " is not supported; supported: 1");
    config.update({{"num_attention_heads", heads},
                   {"num_key_value_heads", kv_heads == 0 ? heads : kv_heads},
                   {"head_dim", head},
                   {"lora_rank_tokenshift", keys.needed("time_mix_extra_dim")},
                   {"lora_rank_decay", keys.needed("time_decay_extra_dim")},
                   {"attention_bias", stored("blk.0.time_mix_receptance.bias") != nullptr},
                   {"attention_output_bias", false},
                   {"use_rope", false},
                   {"use_tokenshift", true},
                   {"balance_state", true},
                   {"groupnorm_att", false},
                   {"gate_rank_type", 1},
                   {"num_attention_layers", 0}});
    return config;
  }

  const int64_t heads = keys.needed("attention.head_count");
  const int64_t head = keys.integer("attention.key_length", std::max<int64_t>(1, hidden / heads));
  for (const char* key : {"attention.value_length", "rope.dimension_count"})
    if (const int64_t other = keys.integer(key, head); other != head)
      fail(name_, ": ", keys.name(key), " ", other, " is not supported: expected the size of a head, ", head);
  if (head < 2 || head % 2 != 0) fail(name_, ": heads of ", head, " are not supported; supported: even sizes");
  const double theta = keys.number("rope.freq_base", 10000);
  config.update({{"num_attention_heads", heads},
                 {"num_key_value_heads", keys.integer("attention.head_count_kv", heads)},
                 {"head_dim", head},
                 {"attention_bias", stored("blk.0.attn_q.bias") != nullptr},
                 {"attention_output_bias", stored("blk.0.attn_output.bias") != nullptr},
                 {"rope_theta", theta}});
  if (const Json scaling = rope_scaling(head, theta, positions); !scaling.is_null()) config["rope_scaling"] = scaling;
  return config;
}

}  // namespace qwerky
