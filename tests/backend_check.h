// SPDX-License-Identifier: MIT
// Runs an operation on every backend of this CPU and on ReferenceOf<double>, on the same numbers, and compares.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include "backend/reference.h"
#include "base/parallel.h"

namespace qwerky::testing {

/// Operands by index, as f32 or f64 (or bf16 for both).
class Operands {
 public:
  explicit Operands(uint32_t seed = 1) : random_(seed) {}

  /// Uniform in [low, high). Returns the index.
  int add(Shape shape, double low = -1, double high = 1, DType type = DType::f32) {
    Item item{shape, type, {}, {}, {}};
    std::uniform_real_distribution<double> number(low, high);
    for (int64_t i = 0; i < shape.count(); ++i) {
      const bf16 rounded(static_cast<float>(number(random_)));
      item.single.push_back(type == DType::bf16 ? static_cast<float>(rounded) : static_cast<float>(number(random_)));
      item.wide.push_back(item.single.back());
      item.half.push_back(rounded);
    }
    items_.push_back(std::move(item));
    return static_cast<int>(items_.size()) - 1;
  }
  /// f64 on every backend, zero.
  int add_f64(Shape shape) {
    const int index = add(shape, 0, 0);
    items_.back().type = DType::f64;
    return index;
  }
  Tensor get(int i, DType scalar) {
    Item& item = items_[static_cast<size_t>(i)];
    if (item.type == DType::bf16) return Tensor(item.half.data(), DType::bf16, item.shape);
    if (scalar == DType::f64 || item.type == DType::f64) return Tensor(item.wide.data(), DType::f64, item.shape);
    return Tensor(item.single.data(), DType::f32, item.shape);
  }
  int size() const { return static_cast<int>(items_.size()); }
  bool parameter(int i) const { return items_[static_cast<size_t>(i)].type == DType::bf16; }
  void set(int i, int64_t element, double value) {
    items_[static_cast<size_t>(i)].single[static_cast<size_t>(element)] = static_cast<float>(value);
    items_[static_cast<size_t>(i)].wide[static_cast<size_t>(element)] = static_cast<float>(value);
  }

 private:
  struct Item {
    Shape shape;
    DType type;
    std::vector<float> single;
    std::vector<double> wide;
    std::vector<bf16> half;
  };
  std::mt19937 random_;
  std::vector<Item> items_;
};

using Get = std::function<Tensor(int)>;
using Operation = std::function<void(const Backend&, const Get&)>;

inline double value(const Tensor& t, int64_t i) {
  return t.type == DType::f64 ? t.as<double>()[i] : static_cast<double>(t.as<float>()[i]);
}

inline void run_on(const Backend& backend, Operands& operands, const Operation& operation) {
  operation(backend, [&](int i) { return operands.get(i, backend.scalar()); });
  wait_for_device();
}

/// Every operand must come out equal to the f64 reference within `ulps` half-units of f32 in the last place of the
/// largest element of the operand (at least 1).
inline void expect_reference(const Operands& operands, double ulps, const Operation& operation) {
  Operands expected = operands;
  run_on(ReferenceOf<double>(), expected, operation);
  for (const std::string& name : available_backends()) {
    const std::unique_ptr<Backend> backend = make_backend(name, Precision::f32);
    Operands found = operands;
    run_on(*backend, found, operation);
    for (int i = 0; i < operands.size(); ++i) {
      if (operands.parameter(i)) continue;
      const Tensor want = expected.get(i, DType::f64), have = found.get(i, DType::f32);
      double largest = 1;
      for (int64_t e = 0; e < want.count(); ++e) largest = std::max(largest, std::abs(value(want, e)));
      const double bound = ulps * std::ldexp(largest, -24);
      for (int64_t e = 0; e < want.count(); ++e) {
        const double error = std::abs(value(want, e) - value(have, e));
        ASSERT_TRUE(error <= bound) << name << ", operand " << i << want.shape.str() << " element " << e
                                    << ": expected " << value(want, e) << ", found " << value(have, e) << ", bound "
                                    << bound;
      }
    }
  }
}

/// The operation must give the same bits on one and on three threads.
inline void expect_same_on_threads(const Operands& operands, const Operation& operation) {
  const int before = threads();
  for (const std::string& name : available_backends()) {
    const std::unique_ptr<Backend> backend = make_backend(name, Precision::f32);
    Operands one = operands, three = operands;
    set_threads(1);
    run_on(*backend, one, operation);
    set_threads(3);
    run_on(*backend, three, operation);
    set_threads(before);
    for (int i = 0; i < operands.size(); ++i) {
      const Tensor a = one.get(i, DType::f32), b = three.get(i, DType::f32);
      ASSERT_EQ(std::memcmp(a.data, b.data, static_cast<size_t>(a.bytes())), 0) << name << ", operand " << i;
    }
  }
}

}  // namespace qwerky::testing
