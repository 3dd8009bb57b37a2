// SPDX-License-Identifier: MIT
#include "tensor/tensor.h"

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
  }
  CHECK(false, "unknown DType");
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
  }
  CHECK(false, "unknown DType");
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
  CHECK(shape.rank >= 1 && first >= 0 && n >= 0 && first + n <= dim(0), "rows ", first, "+", n, " of ", shape.str());
  Tensor view = *this;
  const int64_t row_bytes = dim(0) == 0 ? 0 : bytes() / dim(0);
  view.data = static_cast<char*>(data) + first * row_bytes;
  view.shape.dim[0] = n;
  return view;
}

Tensor Tensor::shaped(Shape other) const {
  CHECK(other.count() == count(), shape.str(), " as ", other.str());
  Tensor view = *this;
  view.shape = other;
  return view;
}

}  // namespace qwerky
