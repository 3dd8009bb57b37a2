// SPDX-License-Identifier: MIT
#include "tensor/panels.h"

namespace qwerky {

PanelsOf::PanelsOf(const PanelFormat& f, int64_t n, int64_t k) : format(f), outputs(n), inputs(k) {}

int64_t PanelsOf::words() const {
  switch (format.type) {
    case DType::f32: return inputs;
    case DType::bf16: return (inputs + 1) / 2;
    case DType::i8: return groups() * format.group / 4;
    case DType::i4: return groups() * format.group / 8;
    default: CHECK(false, "no panels of ", name_of(format.type));
  }
}

int64_t PanelsOf::group_bytes() const {
  return codes_offset() + format.group * kPanelOutputs / (format.type == DType::i8 ? 1 : 2);
}

int64_t PanelsOf::panel_bytes() const { return quantised() ? groups() * group_bytes() : words() * kPanelOutputs * 4; }

PanelView::PanelView(Tensor t) : of_(t.panels, t.dim(0), t.dim(1)), data_(static_cast<char*>(t.data)) {
  CHECK(t.layout == Layout::panels && t.shape.rank == 2, "a panel view of ", t.shape.str());
}

char* PanelView::at(int64_t n, int64_t k) const {
  const int64_t column = n % kPanelOutputs;
  switch (of_.format.type) {
    case DType::f32: return panel(n) + (k * kPanelOutputs + column) * 4;
    case DType::bf16: return panel(n) + (k / 2 * kPanelOutputs + column) * 4 + k % 2 * 2;
    default: {
      const int64_t in_group = k % of_.format.group, per_word = of_.format.type == DType::i8 ? 4 : 8;
      return group(n, k / of_.format.group) + of_.codes_offset() + (in_group / per_word * kPanelOutputs + column) * 4 +
             k % 4;
    }
  }
}

int PanelView::code(int64_t n, int64_t k) const {
  const auto byte = static_cast<uint8_t>(*at(n, k));
  return of_.format.type == DType::i8 ? byte : k % 8 < 4 ? byte & 15 : byte >> 4;
}

float PanelView::scale(int64_t n, int64_t g) const { return static_cast<float>(*scales(n, g)); }

float PanelView::minimum(int64_t n, int64_t g) const {
  return of_.format.minimum ? static_cast<float>(scales(n, g)[kPanelOutputs]) : 0;
}

float PanelView::value(int64_t n, int64_t k) const {
  float value;
  if (of_.format.type == DType::f32) {
    std::memcpy(&value, at(n, k), 4);
  } else if (of_.format.type == DType::bf16) {
    bf16 half;
    std::memcpy(&half, at(n, k), 2);
    value = static_cast<float>(half);
  } else {
    const int64_t g = k / of_.format.group;
    value = scale(n, g) * static_cast<float>(code(n, k) - of_.zero()) + minimum(n, g);
  }
  return value;
}

void PanelView::set_value(int64_t n, int64_t k, float value) const {
  if (of_.format.type == DType::f32) {
    std::memcpy(at(n, k), &value, 4);
  } else {
    const bf16 half(value);
    std::memcpy(at(n, k), &half, 2);
  }
}

void PanelView::set_code(int64_t n, int64_t k, int code) const {
  auto* byte = reinterpret_cast<uint8_t*>(at(n, k));
  if (of_.format.type == DType::i8) {
    *byte = static_cast<uint8_t>(code);
  } else {
    *byte = static_cast<uint8_t>(k % 8 < 4 ? (*byte & 0xf0) | code : (*byte & 0x0f) | code << 4);
  }
}

void PanelView::set_scale(int64_t n, int64_t g, f16 scale) const { *scales(n, g) = scale; }
void PanelView::set_minimum(int64_t n, int64_t g, f16 minimum) const { scales(n, g)[kPanelOutputs] = minimum; }

void PanelView::set_group(int64_t n, int64_t g, const uint8_t* codes, f16 scale, f16 minimum) const {
  set_scale(n, g, scale);
  if (of_.format.minimum) set_minimum(n, g, minimum);
  char* word = group(n, g) + of_.codes_offset() + n % kPanelOutputs * 4;
  const bool bytes = of_.format.type == DType::i8;
  for (int64_t k = 0; k < of_.format.group; k += bytes ? 4 : 8, word += kPanelOutputs * 4) {
    uint32_t low, high = 0;
    std::memcpy(&low, codes + k, 4);
    if (!bytes) std::memcpy(&high, codes + k + 4, 4);
    low |= high << 4;
    std::memcpy(word, &low, 4);
  }
}

void PanelView::clear() const {
  std::memset(data_, 0, static_cast<size_t>(of_.bytes()));
  if (!of_.quantised() || of_.zero() == 0) return;
  const int zeros = of_.format.type == DType::i8 ? 0x80 : 0x88;
  for (int64_t g = 0; g < of_.panels() * of_.groups(); ++g)
    std::memset(data_ + g * of_.group_bytes() + of_.codes_offset(), zeros,
                static_cast<size_t>(of_.group_bytes() - of_.codes_offset()));
}

void check_format(const PanelFormat& f, const std::string& what) {
  const bool floats = f.type == DType::f32 || f.type == DType::bf16, codes = f.type == DType::i8 || f.type == DType::i4;
  if (!floats && !codes) fail(what, ": expected f32, bf16, int8 or int4, found ", name_of(f.type));
  if (floats && (f.group != 0 || f.minimum)) fail(what, ": ", name_of(f.type), " has no groups");
  if (codes && f.group != 32 && f.group != 64 && f.group != 128)
    fail(what, ": groups of ", int{f.group}, ", expected 32, 64 or 128");
  if (f.minimum && f.type != DType::i4) fail(what, ": minima are for int4, found ", name_of(f.type));
}

std::string name_of(const PanelFormat& f) {
  std::string name = name_of(f.type);
  if (f.group != 0) name += " in groups of " + std::to_string(f.group);
  return f.minimum ? name + " with minima" : name;
}

}  // namespace qwerky
