// SPDX-License-Identifier: MIT
#include "tensor/tensor.h"

#include <cmath>

#include "tensor/panels.h"

namespace qwerky {

int64_t size_of(DType type) {
  switch (type) {
    case DType::u8: return 1;
    case DType::bf16:
    case DType::f16: return 2;
    case DType::f32:
    case DType::i32: return 4;
    case DType::f64:
    case DType::i64: return 8;
    case DType::c128: return 16;
    case DType::i8:
    case DType::i4: break;  // see panels.h
  }
  CHECK(false, "no size of ", name_of(type));
}

const char* name_of(DType type) {
  switch (type) {
    case DType::f32: return "f32";
    case DType::bf16: return "bf16";
    case DType::f16: return "f16";
    case DType::f64: return "f64";
    case DType::c128: return "c128";
    case DType::i32: return "i32";
    case DType::i64: return "i64";
    case DType::u8: return "u8";
    case DType::i8: return "int8";
    case DType::i4: return "int4";
  }
  CHECK(false, "unknown DType");
}

f16::f16(float value) {
  uint32_t u;
  std::memcpy(&u, &value, 4);
  const uint16_t sign = static_cast<uint16_t>((u >> 16) & 0x8000u);
  u &= 0x7fffffffu;
  if (u > 0x7f800000u) {
    bits = sign | 0x7e00u;  // NaN
  } else if (u >= 0x477ff000u) {
    bits = sign | 0x7c00u;  // rounds beyond 65504
  } else if (u < 0x38800000u) {
    // Subnormal: a multiple of 2^-24, rounded to even by an addition whose last place is 2^-24.
    float shifted = std::fabs(value) + 0.5f;
    std::memcpy(&u, &shifted, 4);
    bits = static_cast<uint16_t>(sign | (u - 0x3f000000u));
  } else {
    u += 0xfffu + ((u >> 13) & 1u);
    bits = static_cast<uint16_t>(sign | ((u >> 13) - (112u << 10)));
  }
}

Shape::Shape(std::initializer_list<int64_t> dims) : Shape(std::span<const int64_t>(dims.begin(), dims.size())) {}

Shape::Shape(std::span<const int64_t> dims) : rank(static_cast<int>(dims.size())) {
  CHECK(dims.size() <= dim.size(), "a shape has at most 4 axes");
  for (size_t i = 0; i < dims.size(); ++i) dim[i] = dims[i];
}

int64_t Shape::count() const {
  int64_t n = 1;
  for (int i = 0; i < rank; ++i) n *= dim[static_cast<size_t>(i)];
  return n;
}

std::string Shape::str() const {
  std::string text = "[";
  for (int i = 0; i < rank; ++i) text += (i ? ", " : "") + std::to_string(dim[static_cast<size_t>(i)]);
  return text + "]";
}

Tensor Tensor::rows(int64_t first, int64_t n) const {
  CHECK(layout == Layout::rows && shape.rank >= 1 && first >= 0 && n >= 0 && first + n <= dim(0), "rows ", first, "+",
        n, " of ", shape.str());
  Tensor view = *this;
  const int64_t row_bytes = dim(0) == 0 ? 0 : bytes() / dim(0);
  view.data = static_cast<char*>(data) + first * row_bytes;
  view.shape.dim[0] = n;
  return view;
}

Tensor Tensor::matrix(int64_t i) const {
  CHECK(shape.rank == 3 && i >= 0 && i < dim(0), "matrix ", i, " of ", shape.str());
  Tensor view = *this;
  view.data = static_cast<char*>(data) + i * (bytes() / dim(0));
  view.shape = {dim(1), dim(2)};
  return view;
}

int64_t Tensor::panel_bytes() const {
  const int64_t stack = shape.rank == 3 ? dim(0) : 1;
  return stack * PanelsOf(panels, dim(shape.rank - 2), dim(shape.rank - 1)).bytes();
}

Tensor Tensor::shaped(Shape other) const {
  CHECK(other.count() == count() && layout == Layout::rows, shape.str(), " as ", other.str());
  Tensor view = *this;
  view.shape = other;
  return view;
}

}  // namespace qwerky
