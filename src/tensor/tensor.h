// SPDX-License-Identifier: MIT
// A dense, row-major, non-owning view of memory, and the element types it may have.
#pragma once

#include <array>
#include <complex>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string>

#include "base/error.h"

namespace qwerky {

/// i8 and i4 are codes of quantised weights and exist in panels only.
enum class DType : uint8_t { f32, bf16, f16, f64, c128, i32, i64, u8, i8, i4 };

/// The high half of an f32, rounded to nearest even. A struct because g++ 12 has no usable __bf16.
struct bf16 {
  uint16_t bits = 0;
  bf16() = default;
  explicit bf16(float value) {
    uint32_t u;
    std::memcpy(&u, &value, 4);
    bits = (u & 0x7fffffffu) > 0x7f800000u ? static_cast<uint16_t>((u >> 16) | 0x40u)  // NaN stays NaN
                                           : static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  explicit operator float() const {
    const uint32_t u = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &u, 4);
    return value;
  }
};

/// IEEE binary16; storage only, converted on load.
struct f16 {
  uint16_t bits = 0;
  f16() = default;
  /// Rounded to nearest even; what exceeds 65504 becomes infinite.
  explicit f16(float value);
  static f16 of_bits(uint16_t bits) {
    f16 half;
    half.bits = bits;
    return half;
  }
  explicit operator float() const {
    // Moved into an f32's fields the exponent is 112 too small; the product is exact, subnormals included.
    uint32_t u = static_cast<uint32_t>(bits & 0x7fffu) << 13;
    float value;
    std::memcpy(&value, &u, 4);
    value *= 0x1p112f;
    std::memcpy(&u, &value, 4);
    if ((bits & 0x7c00u) == 0x7c00u) u = 0x7f800000u | (static_cast<uint32_t>(bits & 0x3ffu) << 13);
    u |= static_cast<uint32_t>(bits & 0x8000u) << 16;
    std::memcpy(&value, &u, 4);
    return value;
  }
};

template <class T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::f32;
}
template <>
constexpr DType dtype_of<bf16>() {
  return DType::bf16;
}
template <>
constexpr DType dtype_of<f16>() {
  return DType::f16;
}
template <>
constexpr DType dtype_of<double>() {
  return DType::f64;
}
template <>
constexpr DType dtype_of<std::complex<double>>() {
  return DType::c128;
}
template <>
constexpr DType dtype_of<int32_t>() {
  return DType::i32;
}
template <>
constexpr DType dtype_of<int64_t>() {
  return DType::i64;
}
template <>
constexpr DType dtype_of<uint8_t>() {
  return DType::u8;
}

/// Bytes of one element.
int64_t size_of(DType type);
/// "f32", "bf16", …
const char* name_of(DType type);

/// Up to four extents, outermost first.
struct Shape {
  int rank = 0;
  std::array<int64_t, 4> dim{};

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims);
  explicit Shape(std::span<const int64_t> dims);
  int64_t count() const;
  bool operator==(const Shape&) const = default;
  /// "[4, 64]"
  std::string str() const;
};

/// How the elements of a Tensor lie in memory: rows of elements, or panels for matrix products (tensor/panels.h).
enum class Layout : uint8_t { rows, panels };

/// Element type of a matrix in panels and, for codes, what belongs to a group of them.
struct PanelFormat {
  DType type = DType::f32;  ///< f32, bf16, i8 or i4
  uint8_t group = 0;        ///< i8, i4: consecutive inputs that share a scale: 32, 64 or 128
  bool minimum = false;     ///< i4: a group also has a minimum, and codes are unsigned
  bool operator==(const PanelFormat&) const = default;
};

/// Dense view; owns nothing. A default-constructed Tensor is null and tests false.
struct Tensor {
  void* data = nullptr;
  DType type = DType::f32;
  Layout layout = Layout::rows;
  PanelFormat panels;  ///< with Layout::panels
  Shape shape;         ///< in panels: [outputs, inputs], or a stack [n, outputs, inputs]

  Tensor() = default;
  Tensor(void* memory, DType element, Shape extents) : data(memory), type(element), shape(extents) {}

  explicit operator bool() const { return data != nullptr; }
  int64_t dim(int i) const { return shape.dim[static_cast<size_t>(i)]; }
  int64_t count() const { return shape.count(); }
  int64_t bytes() const { return layout == Layout::rows ? count() * size_of(type) : panel_bytes(); }
  /// Extent of the last axis, and how many rows of that length there are.
  int64_t cols() const { return shape.rank == 0 ? 1 : dim(shape.rank - 1); }
  int64_t row_count() const { return cols() == 0 ? 0 : count() / cols(); }

  template <class T>
  T* as() const {
    DCHECK(data == nullptr || (type == dtype_of<T>() && layout == Layout::rows), "tensor holds ", name_of(type));
    return static_cast<T*>(data);
  }
  /// Rows [first, first + n) along the first axis.
  Tensor rows(int64_t first, int64_t n) const;
  /// Matrix i [d1, d2] of a stack [n, d1, d2], in either layout.
  Tensor matrix(int64_t i) const;
  /// The same memory with other extents of the same count.
  Tensor shaped(Shape other) const;

 private:
  int64_t panel_bytes() const;
};

}  // namespace qwerky
