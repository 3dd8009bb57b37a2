// SPDX-License-Identifier: MIT
#include "engine/export_gguf.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "engine/model.h"
#include "io/checkpoint.h"
#include "io/gguf_export.h"
#include "io/tokenizer_gguf.h"
#include "model/decoder.h"

namespace qwerky {
namespace {

/// Name on the command line, in the file, and llama.cpp's general.file_type.
constexpr struct {
  const char* name;
  BlockType type;
  uint32_t file_type;
} kTypes[] = {{"f32", BlockType::f32, 0},
              {"f16", BlockType::f16, 1},
              {"bf16", BlockType::bf16, 32},
              {"q8_0", BlockType::q8_0, 7},
              {"q4_0", BlockType::q4_0, 2}};

constexpr uint32_t kUnlimited = 1 << 20;  // positions that llama.cpp's converter writes for RWKV models
constexpr uint32_t kQuantisation = 2;     // version of the block formats

uint32_t u32(int64_t value) { return static_cast<uint32_t>(value); }

void add_rope(GgufMetadata& meta, const std::string& prefix, const Rope& rope) {
  meta.add(prefix + "rope.freq_base", static_cast<float>(rope.theta));
  if (rope.type != "linear" && rope.type != "yarn") return;
  meta.add(prefix + "rope.scaling.type", rope.type);
  meta.add(prefix + "rope.scaling.factor", static_cast<float>(rope.factor));
  if (rope.type == "linear") return;
  meta.add(prefix + "rope.scaling.original_context_length", u32(static_cast<int64_t>(rope.original_positions)));
  meta.add(prefix + "rope.scaling.yarn_beta_fast", static_cast<float>(rope.beta_fast));
  meta.add(prefix + "rope.scaling.yarn_beta_slow", static_cast<float>(rope.beta_slow));
  // llama.cpp has 0.1 ln(factor) + 1 built in and multiplies it by this.
  if (rope.attention_factor > 0) {
    const double own = rope.factor > 1 ? 0.1 * std::log(rope.factor) + 1 : 1;
    meta.add(prefix + "rope.scaling.attn_factor", static_cast<float>(rope.attention_factor / own));
  }
}

GgufMetadata metadata_of(const Config& c, const std::string& name, uint32_t file_type) {
  GgufMetadata meta;
  const std::string prefix = c.model_type + ".";
  meta.add("general.architecture", c.model_type);
  meta.add("general.type", "model");
  meta.add("general.name", name);
  meta.add("general.file_type", file_type);
  meta.add("general.quantization_version", kQuantisation);
  meta.add(prefix + "block_count", u32(c.layers));
  meta.add(prefix + "embedding_length", u32(c.hidden));
  meta.add(prefix + "feed_forward_length", u32(c.intermediate));
  meta.add(prefix + "attention.head_count_kv", u32(c.kv_heads));
  meta.add(prefix + "attention.layer_norm_rms_epsilon", static_cast<float>(c.norm_eps));
  meta.add(prefix + "vocab_size", u32(c.vocab));
  if (c.linear_kind() == MixerKind::rwkv6) {
    meta.add(prefix + "context_length", kUnlimited);
    meta.add(prefix + "attention.head_count", uint32_t{0});  // required and unused
    meta.add(prefix + "wkv.head_size", u32(c.head_dim));
    meta.add(prefix + "time_mix_extra_dim", u32(c.rank_shift));
    meta.add(prefix + "time_decay_extra_dim", u32(c.rank_decay));
    meta.add(prefix + "token_shift_count", uint32_t{1});
    return meta;
  }
  meta.add(prefix + "context_length", u32(c.max_positions));
  meta.add(prefix + "attention.head_count", u32(c.heads));
  meta.add(prefix + "attention.key_length", u32(c.head_dim));
  meta.add(prefix + "attention.value_length", u32(c.head_dim));
  meta.add(prefix + "rope.dimension_count", u32(c.head_dim));
  add_rope(meta, prefix, c.rope);
  return meta;
}

/// The last part of a path: of a file without its ending.
std::string name_of_model(const Path& path) {
  const Path last = path.has_filename() ? path.filename() : path.parent_path().filename();
  const bool file = last.extension() == ".gguf" || last.extension() == ".bin";
  return (file ? last.stem() : last).string();
}

/// Llama 3's frequencies: what llama.cpp divides the unscaled ones by.
GgufOut rope_divisors(const Config& c) {
  Rope plain = c.rope;
  plain.type = "default";
  const std::vector<double> scaled = c.rope.frequencies(c.head_dim), unscaled = plain.frequencies(c.head_dim);
  std::vector<float> divisors;
  for (size_t i = 0; i < scaled.size(); ++i) divisors.push_back(static_cast<float>(unscaled[i] / scaled[i]));
  return {"rope_freqs.weight", BlockType::f32, Shape{c.head_dim / 2},
          [divisors](int64_t, int64_t, float* out) { std::copy(divisors.begin(), divisors.end(), out); }};
}

}  // namespace

std::string why_not_gguf(const Config& c) {
  const MixerKind kind = c.linear_kind();
  const bool hybrid = kind != MixerKind::softmax &&
                      std::any_of(c.mixers.begin(), c.mixers.end(), [&](MixerKind k) { return k != kind; });
  if (kind == MixerKind::rwkv7)
    return "GGUF has no architecture for RAD-RWKV7 (arwkv7 shifts tokens and has keys and values of full width)";
  if (hybrid) return "GGUF has no architecture for a model that keeps softmax layers among RWKV ones";
  if (kind == MixerKind::rwkv6) {
    if (c.rope_in_rwkv) return "GGUF's rwkv6qwen2 has no rotary positions (use_rope)";
    if (c.gate != GateKind::full) return "GGUF's rwkv6qwen2 needs a full gate (gate_rank_type 1)";
    if (c.groupnorm) return "GGUF's rwkv6qwen2 has no norm after the recurrence (groupnorm_att)";
    if (!c.token_shift) return "GGUF's rwkv6qwen2 needs the token shift (use_tokenshift)";
    if (!c.balance) return "GGUF's rwkv6qwen2 always balances its state (balance_state)";
  } else {
    if (std::any_of(c.windows.begin(), c.windows.end(), [](int64_t w) { return w > 0; }) || c.sinks > 0)
      return "GGUF's " + c.model_type + " has no attention windows";
    if (c.rope.type == "llama3" && c.model_type != "llama")
      return "GGUF's " + c.model_type + " has no rotary scaling of type llama3";
  }
  if (c.o_bias && c.model_type != "llama") return "GGUF's " + c.model_type + " has no bias on the output projection";
  if (c.width() != c.hidden && (c.model_type == "qwen2" || c.model_type == "rwkv6qwen2"))
    return "GGUF's " + c.model_type + " needs heads that together are as wide as the hidden state";
  return "";
}

GgufExport export_gguf(const std::string& model, const std::string& out, const std::string& type) {
  const auto row = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& t) { return type == t.name; });
  if (row == std::end(kTypes)) fail("--type: expected f32, f16, bf16, q8_0 or q4_0, found \"", type, "\"");
  const Checkpoint checkpoint = open_model(model);
  const Config config = read_config(checkpoint.config, checkpoint.tensors.get(), checkpoint.config_name);
  if (checkpoint.packed != nullptr)
    fail(model, ": a packed model is for inference only; use the model it was made from");
  if (const std::string reason = why_not_gguf(config); !reason.empty())
    fail(model, ": ", reason, "; --packed writes a file that this program runs");

  Params params;
  const Decoder decoder(config, params);
  params.check(*checkpoint.tensors, ignored_names(config));  // values are looked at when they are written
  std::vector<GgufIn> tensors;
  params.each([&](const Param& p) { tensors.push_back({p.name, p.shape, p.name}); });
  // llama.cpp shares the embedding by itself in softmax models only.
  if (config.tied && config.linear_kind() != MixerKind::softmax)
    tensors.push_back({"lm_head.weight", {config.vocab, config.hidden}, "model.embed_tokens.weight"});
  std::vector<GgufOut> writes =
      gguf_tensors(config.model_type, config.head_dim, *checkpoint.tensors, tensors, row->type);
  if (config.rope.type == "llama3") writes.push_back(rope_divisors(config));

  GgufMetadata meta = metadata_of(config, name_of_model(checkpoint.path), row->file_type);
  if (checkpoint.tokenizer.empty()) {
    meta.add("tokenizer.ggml.model", "none");
  } else {
    add_tokenizer(meta, *load_tokenizer(checkpoint.tokenizer), config.vocab);
  }
  write_gguf(out, meta, writes);

  GgufExport done{config.model_type, format_of(row->type).name, static_cast<int64_t>(writes.size()), 0, 0};
  for (const GgufOut& t : writes) {
    const int64_t cols = t.shape.dim[static_cast<size_t>(t.shape.rank - 1)];
    done.bytes += t.shape.count() / cols * row_bytes(t.type, cols);
    if (t.type == BlockType::f16 && row->type != BlockType::f16) ++done.f16;
  }
  return done;
}

}  // namespace qwerky
