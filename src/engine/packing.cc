// SPDX-License-Identifier: MIT
#include "engine/packing.h"

namespace qwerky {

void Packer::place(Param& p, Tensor stored) const {
  const Shape& s = p.shape;
  const bool in_out = p.use == Use::product_in_out;
  if (p.use == Use::product || in_out) {
    // Declared [in, out], or a stack of such; in panels always [out, in].
    Shape packed = s;
    if (in_out) std::swap(packed.dim[static_cast<size_t>(s.rank - 2)], packed.dim[static_cast<size_t>(s.rank - 1)]);
    p.weight = arena_.panels({.type = type_}, packed);
    on_.pack(p.weight, stored, in_out);
    return;
  }
  const bool half = p.use == Use::table && stored.type == DType::bf16;
  p.weight = arena_.tensor(half ? DType::bf16 : DType::f32, s);
  convert(p.weight, stored);
}

void pack(Model& model, const Backend& on, DType type) {
  auto arena = std::make_unique<Arena>("weights");
  const Packer packer(on, type, *arena);
  model.params.each([&](Param& p) {
    if (p.weight) packer.place(p, p.weight);
  });
  model.weights = std::move(arena);
}

}  // namespace qwerky
