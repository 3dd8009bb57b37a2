// SPDX-License-Identifier: MIT
#include "engine/packing.h"

namespace qwerky {

PackFormats PackFormats::of(DType type) {
  constexpr uint8_t kGroup = 64;
  if (type == DType::f32 || type == DType::bf16) return {{.type = type}, {.type = type}, {.type = type}};
  const PanelFormat bytes{DType::i8, kGroup, false};
  return {{type, kGroup, false}, bytes, bytes};
}

const PanelFormat& PackFormats::operator()(const Param& p) const {
  if (p.use == Use::product_in_out) return small;
  return p.name == "lm_head.weight" || p.name == "model.embed_tokens.weight" ? head : weights;
}

void Packer::place(Param& p, Tensor stored) const {
  const bool in_out = p.use == Use::product_in_out;
  if (p.use == Use::product || in_out) {
    p.weight = arena_.panels(formats_(p), p.panel_shape());
    on_.pack(p.weight, stored, in_out);
    return;
  }
  if (p.use == Use::table && formats_.table) {
    p.weight = arena_.panels(*formats_.table, p.shape);
    on_.pack(p.weight, stored, false);
    return;
  }
  const bool half = p.use == Use::table && stored.type == DType::bf16;
  p.weight = arena_.tensor(half ? DType::bf16 : DType::f32, p.shape);
  convert(p.weight, stored);
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
