// SPDX-License-Identifier: MIT
#include "io/llama2c.h"

#include <array>
#include <cstdlib>
#include <cstring>

#include "base/error.h"

namespace qwerky {
namespace {

constexpr int64_t kHeaderBytes = 7 * 4;
constexpr int32_t kLaterMagic = 0x616b3432;  // "ak42": the versioned exports, whose layout differs

struct Header {
  int64_t dim, hidden, layers, heads, kv_heads, vocab, length;
  bool tied;
};

int64_t floats_in(const Header& h) {
  const int64_t head = h.dim / h.heads;
  const int64_t matrices = 2 * h.dim * h.dim + 2 * h.kv_heads * head * h.dim + 3 * h.hidden * h.dim;
  const int64_t rotary = h.length * head;  // cosines and sines, head / 2 each
  return h.vocab * h.dim * (h.tied ? 1 : 2) + h.layers * (matrices + 2 * h.dim) + h.dim + rotary;
}

/// Reads the header; what is wrong with it or with the size, empty when all fits. The limits keep every product of
/// extents far below 2^63; real models stay far below the limits.
std::string examine(std::string_view bytes, Header& h) {
  const auto have = static_cast<int64_t>(bytes.size());
  if (have < kHeaderBytes)
    return concat("not a llama2.c model: ", have, " bytes, the header alone needs ", kHeaderBytes);
  std::array<int32_t, 7> raw{};
  std::memcpy(raw.data(), bytes.data(), kHeaderBytes);
  if (raw[0] == kLaterMagic)
    return concat("a llama2.c export of version ", raw[1], "; supported is version 0 (export.py --version 0)");
  const int64_t stated_vocab = raw[5];
  h = {raw[0], raw[1], raw[2], raw[3], raw[4], std::abs(stated_vocab), raw[6], stated_vocab > 0};
  const struct {
    const char* name;
    int64_t value, most;
  } fields[] = {{"dim", h.dim, 1 << 20},       {"hidden_dim", h.hidden, 1 << 24},   {"n_layers", h.layers, 1 << 12},
                {"n_heads", h.heads, h.dim},   {"n_kv_heads", h.kv_heads, h.heads}, {"|vocab_size|", h.vocab, 1 << 24},
                {"seq_len", h.length, 1 << 24}};
  for (const auto& field : fields)
    if (field.value < 1 || field.value > field.most)
      return concat("not a llama2.c model: header field ", field.name, " is ", field.value, ", expected 1 to ",
                    field.most);
  if (h.dim % h.heads != 0 || h.dim / h.heads % 2 != 0)
    return concat("not a llama2.c model: dim ", h.dim, " in ", h.heads, " heads, expected heads of an even whole size");
  if (h.heads % h.kv_heads != 0)
    return concat("not a llama2.c model: n_heads ", h.heads, " is not a multiple of n_kv_heads ", h.kv_heads);
  const int64_t need = kHeaderBytes + 4 * floats_in(h);
  if (have != need)
    return concat("not a llama2.c model, or truncated: its header (dim ", h.dim, ", hidden_dim ", h.hidden,
                  ", n_layers ", h.layers, ", n_heads ", h.heads, ", n_kv_heads ", h.kv_heads, ", vocab_size ",
                  stated_vocab, ", seq_len ", h.length, ") needs ", need, " bytes, the file has ", have);
  return {};
}

/// llama2.c rotates channels (2i, 2i + 1) of a head together, Hugging Face models (i, i + head/2): moves rows
/// accordingly.
void halves_from_pairs(char* to, const char* from, int64_t rows, int64_t head, int64_t row_bytes) {
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t i = r % head;
    const int64_t moved = r - i + i / 2 + (i % 2) * (head / 2);
    std::memcpy(to + moved * row_bytes, from + r * row_bytes, static_cast<size_t>(row_bytes));
  }
}

}  // namespace

bool is_llama2c(std::string_view bytes) {
  Header ignored{};
  return examine(bytes, ignored).empty();
}

Llama2cFile::Llama2cFile(const Path& path) : file_(std::make_unique<MappedFile>(path)), name_(path.string()) {
  parse(file_->bytes());
}

Llama2cFile::Llama2cFile(std::string_view bytes, const std::string& name) : name_(name) { parse(bytes); }

void Llama2cFile::parse(std::string_view bytes) {
  Header h{};
  if (const std::string problem = examine(bytes, h); !problem.empty()) fail(name_, ": ", problem);
  const int64_t floats = floats_in(h);
  const int64_t head = h.dim / h.heads;
  const int64_t kv_dim = h.kv_heads * head;

  const char* at = bytes.data() + kHeaderBytes;
  if (reinterpret_cast<uintptr_t>(at) % alignof(float) != 0) {
    moved_ = Block(4 * floats, name_);
    std::memcpy(moved_.data(), at, static_cast<size_t>(4 * floats));
    at = moved_.data();
  }
  const auto take = [&](std::string name, Shape shape) {
    tensors_.emplace(name, Tensor(const_cast<char*>(at), DType::f32, shape));
    order_.push_back(std::move(name));
    at += 4 * shape.count();
  };
  const auto take_layers = [&](const char* part, Shape shape) {
    for (int64_t i = 0; i < h.layers; ++i) take(concat("model.layers.", i, '.', part, ".weight"), shape);
  };
  take("model.embed_tokens.weight", {h.vocab, h.dim});
  take_layers("input_layernorm", {h.dim});
  rotated_ = Block(4 * h.layers * (h.dim + kv_dim) * h.dim, name_);
  char* rotated = rotated_.data();
  const auto take_rotated = [&](const char* part, int64_t rows) {
    take_layers(part, {rows, h.dim});
    for (int64_t i = 0; i < h.layers; ++i) {
      Tensor& t = tensors_.at(concat("model.layers.", i, '.', part, ".weight"));
      halves_from_pairs(rotated, static_cast<const char*>(t.data), rows, head, 4 * h.dim);
      t.data = rotated;
      rotated += t.bytes();
    }
  };
  take_rotated("self_attn.q_proj", h.dim);
  take_rotated("self_attn.k_proj", kv_dim);
  take_layers("self_attn.v_proj", {kv_dim, h.dim});
  take_layers("self_attn.o_proj", {h.dim, h.dim});
  take_layers("post_attention_layernorm", {h.dim});
  take_layers("mlp.gate_proj", {h.hidden, h.dim});
  take_layers("mlp.down_proj", {h.dim, h.hidden});
  take_layers("mlp.up_proj", {h.hidden, h.dim});
  take("model.norm.weight", {h.dim});
  at += 4 * h.length * head;  // cosines and sines of the rotary angles: computed from rope_theta instead
  if (!h.tied) take("lm_head.weight", {h.vocab, h.dim});

  // What the header does not say is fixed in llama2.c's run.c.
  config_ = Json{{"model_type", "llama"},
                 {"architectures", {"LlamaForCausalLM"}},
                 {"hidden_size", h.dim},
                 {"intermediate_size", h.hidden},
                 {"num_hidden_layers", h.layers},
                 {"num_attention_heads", h.heads},
                 {"num_key_value_heads", h.kv_heads},
                 {"vocab_size", h.vocab},
                 {"max_position_embeddings", h.length},
                 {"tie_word_embeddings", h.tied},
                 {"rms_norm_eps", 1e-5},
                 {"rope_theta", 10000.0},
                 {"hidden_act", "silu"},
                 {"bos_token_id", 1},
                 {"eos_token_id", 2}};
}

Tensor Llama2cFile::find(std::string_view name) const {
  const auto at = tensors_.find(name);
  return at == tensors_.end() ? Tensor() : at->second;
}

}  // namespace qwerky
