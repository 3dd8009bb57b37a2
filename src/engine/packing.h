// SPDX-License-Identifier: MIT
// Where the weights of a model for inference lie: those of products in panels, tables as rows, the rest as f32.
#pragma once

#include <optional>

#include "engine/model.h"
#include "io/gguf_model.h"

namespace qwerky {

/// Formats of the three kinds of product weights.
struct PackFormats {
  PanelFormat weights, head, small;  ///< small: the low-rank matrices [in, out] of RWKV mixers
  /// An embedding that is not also the head: rows of bf16 or f32 as stored when absent.
  std::optional<PanelFormat> table = std::nullopt;
  /// All f32 or bf16; or codes in groups of 64, where int4 keeps head and low-rank matrices in int8.
  static PackFormats of(DType type);
  /// The same with the embedding in panels of no more bits, so that nothing in a file is larger than asked for.
  static PackFormats for_file(DType type);
  const PanelFormat& operator()(const Param& p) const;
};

class Packer {
 public:
  /// Panels in `arena`, which must outlive the model: of these formats, or bf16 and f32 as each tensor is stored.
  Packer(const Backend& on, const std::optional<PackFormats>& formats, Arena& arena)
      : on_(on), formats_(formats), arena_(arena) {}

  /// How place() and place_blocks() hold p, which is stored as `stored` or as a GGUF file's blocks: a Tensor without
  /// memory. block_form() of a p that is not in blocks has no axes.
  Tensor form(const Param& p, DType stored) const;
  static Tensor block_form(const Param& p, const GgufSource& source);
  /// What block_form() does not keep of such blocks, for people; empty when it keeps every value.
  static std::string rounding(BlockType type);
  /// Copies a stored tensor of p's shape (f32, bf16 or f16 in rows) to its place and points p.weight at it.
  void place(Param& p, Tensor stored) const;
  /// The same from a GGUF file's blocks, none of which become floats on the way; false when p's are not quantized
  /// there, or p is not a product's weight. Scales that are not finite, or not so in f16, are an Error.
  bool place_blocks(Param& p, const GgufSource& source) const;

 private:
  const Backend& on_;
  std::optional<PackFormats> formats_;
  Arena& arena_;
};

/// Packs a model that is in memory as rows; its former memory is released.
void pack(Model& model, const Backend& on, const PackFormats& formats);

}  // namespace qwerky
