// SPDX-License-Identifier: MIT
// How llama.cpp names and lays out the tensors of the families that both sides know (llama.cpp's conversion scripts and
// src/llama-arch.cpp), against the Hugging Face names used here.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qwerky {

/// general.architecture of the supported families: llama, qwen2, qwen3, rwkv6qwen2; the model_type of config.json is
/// the same word.
bool is_gguf_architecture(std::string_view name);
std::string gguf_architectures();  ///< for messages

/// How a tensor lies in GGUF (row-major shapes, outermost first) against Hugging Face's. D hidden, R rank.
enum class GgufLayout {
  same,
  rotary,       ///< rows of each head interleaved: row 2i + h here is row i + h · N/2 there (llama's RoPE of pairs)
  transposed,   ///< [R, D] here, [D, R] there
  streams_in,   ///< time_maa_w1: [5R, D] here, [D, 5R] there, streams reordered
  streams_out,  ///< time_maa_w2: [5, D, R] here, [5, R, D] there, streams reordered
  lerp,         ///< [5, 1, 1, D] here, five tensors [1, 1, D] there
};

/// The token shift's streams: stream s of GGUF (w, k, v, r, g) is stream kGgufStreams[s] of Hugging Face's (r, k, v, w,
/// g).
inline constexpr std::array<int, 5> kGgufStreams{3, 1, 2, 0, 4};

struct GgufName {
  std::string name;  ///< "blk.0.attn_q.weight"
  GgufLayout layout = GgufLayout::same;
  bool small = false;  ///< always F32 in the file, whatever the matrices are
};

/// The GGUF tensor that holds this Hugging Face tensor; nothing when the architecture has no place for it.
std::optional<GgufName> gguf_name(std::string_view architecture, std::string_view hf_name);
/// The Hugging Face tensor in this GGUF tensor, or the five of `lerp` in GGUF's order w, k, v, r, g; none when unknown.
struct HfNames {
  std::vector<std::string> names;
  GgufLayout layout = GgufLayout::same;
};
HfNames hf_names(std::string_view architecture, std::string_view gguf_name);

}  // namespace qwerky
