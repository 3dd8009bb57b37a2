// SPDX-License-Identifier: MIT
#include "engine/packing.h"

#include <atomic>
#include <cmath>

#include "backend/reference_panels.h"
#include "base/parallel.h"

namespace qwerky {
namespace {

/// What GGUF blocks become, in groups of 32. Q8_0, Q4_0, Q4_1 and Q5_0 keep every value; Q4_K's scales and minima
/// (products of f16 and 6 bits) are rounded to f16; Q5_1, Q5_K and Q6_K, which have no such form, are rounded to int8.
PanelFormat panels_for(BlockType type) {
  const bool four = type == BlockType::q4_0 || type == BlockType::q4_1 || type == BlockType::q4_k;
  return {four ? DType::i4 : DType::i8, 32, four && type != BlockType::q4_0};
}

Tensor in_panels(const PanelFormat& format, const Shape& shape) {
  Tensor t(nullptr, format.type, shape);
  t.layout = Layout::panels;
  t.panels = format;
  return t;
}

bool finite(float scale, float minimum) { return std::isfinite(scale) && std::isfinite(minimum); }

/// Group g of 32 of a row, as codes with scale and minimum. False when one of these is not finite, or not so in f16.
bool repack_group(const PanelView& to, int64_t n, int64_t g, BlockType type, const char* row) {
  constexpr int kGroup = 32;
  uint8_t codes[kGroup];
  if (type == BlockType::q5_1 || type == BlockType::q5_k || type == BlockType::q6_k) {
    float w[kGroup];
    bool fits = true;
    const int size = format_of(type).group;
    for (int part = 0; part < kGroup / size; ++part) {
      const QuantGroup q = decode_group(type, row, g * (kGroup / size) + part);
      fits = fits && finite(q.scale, q.minimum);
      for (int i = 0; i < size; ++i) w[part * size + i] = q.scale * static_cast<float>(q.q[i]) + q.minimum;
    }
    if (!fits) return false;
    const f16 scale = reference_panels::group_scale(to.of().format, w, kGroup).scale;
    for (int i = 0; i < kGroup; ++i)
      codes[i] = static_cast<uint8_t>(reference_panels::nearest_code(to.of(), w[i], static_cast<float>(scale), 0));
    to.set_group(n, g, codes, scale, {});
    return std::isfinite(static_cast<float>(scale));
  }
  const QuantGroup q = decode_group(type, row, g);
  const int offset = type == BlockType::q8_0 ? 128 : type == BlockType::q5_0 ? 128 - 16 : 0;
  for (int i = 0; i < kGroup; ++i) codes[i] = static_cast<uint8_t>(q.q[i] + offset);
  const f16 scale(q.scale), minimum(to.of().format.minimum ? q.minimum : 0);
  to.set_group(n, g, codes, scale, minimum);
  return finite(static_cast<float>(scale), static_cast<float>(minimum));
}

}  // namespace

PackFormats PackFormats::of(DType type) {
  constexpr uint8_t kGroup = 64;
  if (type == DType::f32 || type == DType::bf16) return {{.type = type}, {.type = type}, {.type = type}};
  const PanelFormat bytes{DType::i8, kGroup, false};
  return {{type, kGroup, false}, bytes, bytes};
}

PackFormats PackFormats::for_file(DType type) {
  PackFormats formats = of(type);
  if (type != DType::f32) formats.table = formats.head;
  return formats;
}

const PanelFormat& PackFormats::operator()(const Param& p) const {
  if (p.use == Use::product_in_out) return small;
  return p.name == "lm_head.weight" || p.name == "model.embed_tokens.weight" ? head : weights;
}

Tensor Packer::form(const Param& p, DType stored) const {
  const DType type = stored == DType::bf16 ? DType::bf16 : DType::f32;
  if (p.use == Use::product || p.use == Use::product_in_out)
    return in_panels(formats_ ? (*formats_)(p) : PanelFormat{.type = type}, p.panel_shape());
  if (p.use == Use::table && formats_ && formats_->table) return in_panels(*formats_->table, p.shape);
  return {nullptr, p.use == Use::table ? type : DType::f32, p.shape};
}

Tensor Packer::block_form(const Param& p, const GgufSource& source) {
  const auto info = source.info(p.name);
  if (p.use != Use::product || !info || !info->codes) return {};
  const std::optional<StoredRows> rows = source.stored_rows(p.name);
  return rows ? in_panels(panels_for(rows->type), p.panel_shape()) : Tensor();
}

std::string Packer::rounding(BlockType type) {
  switch (type) {
    case BlockType::q4_k: return "scales and minima to f16";
    case BlockType::q5_1:
    case BlockType::q5_k:
    case BlockType::q6_k: return "to " + name_of(panels_for(type));
    default: return "";
  }
}

void Packer::place(Param& p, Tensor stored) const {
  const Tensor like = form(p, stored.type);
  if (like.layout == Layout::panels) {
    p.weight = arena_.panels(like.panels, like.shape);
    on_.pack(p.weight, stored, p.use == Use::product_in_out);
  } else {
    p.weight = arena_.tensor(like.type, like.shape);
    convert(p.weight, stored);
  }
}

bool Packer::place_blocks(Param& p, const GgufSource& source) const {
  const Tensor like = block_form(p, source);
  if (like.shape.rank == 0) return false;
  const std::optional<StoredRows> rows = source.stored_rows(p.name);
  p.weight = arena_.panels(like.panels, like.shape);
  const PanelView to(p.weight);
  const PanelsOf& of = to.of();
  if (of.outputs % kPanelOutputs != 0) to.clear();
  std::atomic<int64_t> wrong = -1;
  parallel_for(of.panels(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin * kPanelOutputs; n < std::min(of.outputs, end * kPanelOutputs); ++n)
      for (int64_t g = 0; g < of.groups(); ++g)
        if (!repack_group(to, n, g, rows->type, rows->row(n))) wrong = n;
  });
  if (wrong >= 0)
    fail(source.describe(), ": tensor ", p.name, ": row ", wrong.load(),
         " has a scale that is NaN, infinite or too large for ", name_of(like.panels),
         "; --backend reference holds finite ones in f32");
  return true;
}

void pack(Model& model, const Backend& on, const PackFormats& formats) {
  auto arena = std::make_unique<Arena>("weights");
  const Packer packer(on, formats, *arena);
  model.params.each([&](Param& p) {
    if (p.weight) packer.place(p, p.weight);
  });
  model.weights = std::move(arena);
}

}  // namespace qwerky
