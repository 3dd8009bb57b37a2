// SPDX-License-Identifier: MIT
#include "tensor/params.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "base/parallel.h"
#include "tensor/memory.h"

namespace qwerky {
namespace {

constexpr int64_t kConvertGrain = 1 << 16;
constexpr int64_t kAlignElements = 64;  // every tensor starts on a cache line whatever the type

template <class To, class From>
To convert_one(From x) {
  if constexpr (std::is_same_v<From, std::complex<double>>) {
    return convert_one<To>(x.real());
  } else if constexpr (std::is_same_v<From, bf16> || std::is_same_v<From, f16>) {
    return convert_one<To>(static_cast<float>(x));
  } else if constexpr (std::is_same_v<To, bf16>) {
    return bf16(static_cast<float>(x));
  } else {
    return static_cast<To>(x);
  }
}

template <class To, class From>
void convert_all(Tensor dst, Tensor src) {
  To* to = dst.as<To>();
  const From* from = src.as<From>();
  parallel_for(dst.count(), kConvertGrain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] = convert_one<To>(from[i]);
  });
}

template <class To>
void convert_to(Tensor dst, Tensor src) {
  switch (src.type) {
    case DType::f32: return convert_all<To, float>(dst, src);
    case DType::bf16: return convert_all<To, bf16>(dst, src);
    case DType::f16: return convert_all<To, f16>(dst, src);
    case DType::f64: return convert_all<To, double>(dst, src);
    case DType::c128: return convert_all<To, std::complex<double>>(dst, src);
    default: CHECK(false, "convert from ", name_of(src.type));
  }
}

bool is_real_float(DType type) {
  return type == DType::f32 || type == DType::bf16 || type == DType::f16 || type == DType::f64;
}

/// A NaN or infinity has all exponent bits set.
bool all_finite(Tensor t) {
  const int64_t n = t.count();
  const auto scan = [&](auto bits, auto exponent) {
    using U = decltype(exponent);
    const U* p = static_cast<const U*>(bits);
    bool bad = false;
    for (int64_t i = 0; i < n; ++i) bad |= (p[i] & exponent) == exponent;
    return !bad;
  };
  switch (t.type) {
    case DType::f32: return scan(t.data, uint32_t{0x7f800000});
    case DType::bf16: return scan(t.data, uint16_t{0x7f80});
    case DType::f16: return scan(t.data, uint16_t{0x7c00});
    case DType::f64: return scan(t.data, uint64_t{0x7ff0000000000000});
    default: return true;
  }
}

/// Equal but for axes of extent 1.
bool same_shape(const Shape& a, const Shape& b) {
  const auto squeezed = [](const Shape& s) {
    std::vector<int64_t> dims;
    for (int i = 0; i < s.rank; ++i)
      if (s.dim[static_cast<size_t>(i)] != 1) dims.push_back(s.dim[static_cast<size_t>(i)]);
    return dims;
  };
  return squeezed(a) == squeezed(b);
}

/// What is wrong with a source, all of it in one Error, the first of it by name.
class Problems {
 public:
  template <class... Parts>
  void add(const Parts&... parts) {
    constexpr int kMostNamed = 12;
    if (++count_ <= kMostNamed) named_ += "\n  " + concat(parts...);
    if (count_ > kMostNamed) more_ = concat("\n  … and ", count_ - kMostNamed, " more");
  }
  void fail_if_any(const TensorSource& source) const {
    if (count_ > 0)
      fail(source.describe(), ": ", count_, count_ == 1 ? " tensor does not" : " tensors do not",
           " fit the configuration:", named_, more_);
  }

 private:
  int count_ = 0;
  std::string named_, more_;
};

/// Without backtracking over more than the last star, so that no pattern takes long.
bool glob_one(std::string_view glob, std::string_view name) {
  size_t g = 0, n = 0, star = glob.npos, resume = 0;
  while (n < name.size()) {
    if (g < glob.size() && glob[g] == '*') {
      star = g++, resume = n;
    } else if (g < glob.size() && glob[g] == name[n]) {
      ++g, ++n;
    } else if (star != glob.npos) {
      g = star + 1, n = ++resume;
    } else {
      return false;
    }
  }
  while (g < glob.size() && glob[g] == '*') ++g;
  return g == glob.size();
}

}  // namespace

Range overlap(Range a, Range b) {
  const int64_t begin = std::max(a.begin, b.begin);
  return {begin, std::max<int64_t>(0, std::min(a.end(), b.end()) - begin)};
}

Shape Param::panel_shape() const {
  Shape s = shape;
  if (use == Use::product_in_out)
    std::swap(s.dim[static_cast<size_t>(s.rank - 2)], s.dim[static_cast<size_t>(s.rank - 1)]);
  return s;
}

void convert(Tensor dst, Tensor src) {
  CHECK(dst.count() == src.count(), "convert ", src.shape.str(), " to ", dst.shape.str());
  wait_for_device();
  switch (dst.type) {
    case DType::f32: return convert_to<float>(dst, src);
    case DType::bf16: return convert_to<bf16>(dst, src);
    case DType::f64: return convert_to<double>(dst, src);
    case DType::c128: return convert_to<std::complex<double>>(dst, src);
    default: CHECK(false, "convert to ", name_of(dst.type));
  }
}

Param& Params::declare(std::string name, Shape shape, Use use) {
  CHECK(!by_name_.contains(name), "parameter declared twice: ", name);
  list_.push_back(Param{.name = std::move(name), .shape = shape, .use = use, .weight = {}});
  by_name_[list_.back().name] = &list_.back();
  return list_.back();
}

Param* Params::find(std::string_view name) {
  const auto it = by_name_.find(std::string(name));
  return it == by_name_.end() ? nullptr : it->second;
}

const Param* Params::find(std::string_view name) const { return const_cast<Params*>(this)->find(name); }

void Params::allocate(Arena& arena, DType type, const Which& own, const Which& product, const Sharding& sharding) {
  block_count_ = 0;
  for (bool of_products : {true, false}) {
    for (Param& p : list_) {
      if ((product && product(p)) != of_products) continue;
      p.offset = own && !own(p) ? -1 : block_count_;
      if (p.offset >= 0) block_count_ += (p.count() + kAlignElements - 1) / kAlignElements * kAlignElements;
    }
    if (of_products) product_count_ = block_count_;
  }
  held_ = sharding.rounded ? owned(sharding.rank, sharding.ranks) : Range{0, block_count_};
  if (sharding.rounded) {
    block_ = {};
    products_ = arena.zeros(DType::bf16, {product_count_});
    rest_ = arena.zeros(type, {block_count_ - product_count_});
    masters_ = arena.zeros(type, {held_.count});
  } else {
    masters_ = block_ = arena.zeros(type, {block_count_});
    products_ = block_.rows(0, product_count_);
    rest_ = block_.rows(product_count_, block_count_ - product_count_);
  }
  for (Param& p : list_)
    if (p.offset >= 0) p.weight = weights({p.offset, p.count()}).shaped(p.shape);
}

Range Params::owned(int rank, int ranks) const {
  const int64_t each = (block_count_ + kAlignElements * ranks - 1) / (kAlignElements * ranks) * kAlignElements;
  return overlap({std::min(block_count_, rank * each), each}, {0, block_count_});
}

std::vector<int64_t> Params::shares(Range at, int ranks) const {
  std::vector<int64_t> counts;
  for (int rank = 0; rank < ranks; ++rank) counts.push_back(overlap(at, owned(rank, ranks)).count);
  return counts;
}

Tensor Params::weights(Range at) const {
  if (at.end() <= product_count_) return products_.rows(at.begin, at.count);
  return rest_.rows(at.begin - product_count_, at.count);
}

void Params::set(Range at, Tensor values) {
  const auto put = [&](Range of, auto&& place) {
    if (const Range to = overlap(at, of); to.count > 0) convert(place(to), values.rows(to.begin - at.begin, to.count));
  };
  const auto weights_of = [this](Range to) { return weights(to); };
  put({0, product_count_}, weights_of);
  put({product_count_, rest_.count()}, weights_of);
  if (!block_) put(held_, [this](Range to) { return masters(to); });
}

void Params::allocate(Arena& arena, DType matrices, DType vectors) {
  block_ = {};
  block_count_ = product_count_ = 0;
  for (Param& p : list_) {
    int wide = 0;
    for (int i = 0; i < p.shape.rank; ++i) wide += p.shape.dim[static_cast<size_t>(i)] > 1;
    p.weight = arena.tensor(wide >= 2 ? matrices : vectors, p.shape);
    p.offset = 0;
  }
}

void Params::check(const TensorSource& source, const std::function<bool(std::string_view)>& ignore) const {
  Problems problems;
  std::unordered_set<std::string> used;
  for (const auto& [name, shape] : unused_) used.insert(name);
  for (const Param& p : list_) {
    const std::optional<TensorSource::Info> stored = source.info(p.name);
    used.insert(p.name);
    if (!stored) {
      problems.add("tensor ", p.name, ": missing, expected ", p.shape.str());
    } else if (stored->layout == Layout::panels) {
      if (p.use == Use::elementwise) {
        problems.add("tensor ", p.name, ": expected rows, file has panels");
      } else if (stored->shape != p.panel_shape()) {
        problems.add("tensor ", p.name, ": expected ", p.panel_shape().str(), " in panels, file has ",
                     stored->shape.str());
      }
    } else if (!is_real_float(stored->type)) {
      problems.add("tensor ", p.name, ": expected f32, bf16 or f16, file has ", name_of(stored->type));
    } else if (!same_shape(stored->shape, p.shape)) {
      problems.add("tensor ", p.name, ": expected ", p.shape.str(), ", file has ", stored->shape.str());
    }
  }
  for (const std::string& name : source.names())
    if (!used.contains(name) && !(ignore && ignore(name)))
      problems.add("tensor ", name, ": in the file but not part of this architecture");
  problems.fail_if_any(source);
}

void Params::bind(const TensorSource& source, bool borrow, const std::function<bool(std::string_view)>& ignore) {
  const auto place = [&](Param& p, Tensor stored) {
    if (stored.layout != Layout::rows)
      fail(source.describe(), ": tensor ", p.name,
           " is packed for inference; use the model that the file was made from");
    if (p.offset >= 0) return convert(p.weight, stored);
    CHECK(borrow, "bind without memory for ", p.name);
    p.weight = stored;
  };
  bind(source, place, ignore);
}

void Params::bind(const TensorSource& source, const Place& place, const std::function<bool(std::string_view)>& ignore,
                  const std::function<bool(Param&)>& unread) {
  check(source, ignore);
  Problems problems;
  for (Param& p : list_) {
    if (unread && unread(p)) continue;
    const Tensor stored = source.find(p.name);
    if (stored.layout == Layout::panels) {
      place(p, stored);
    } else if ((p.use == Use::elementwise || !source.checked()) && !all_finite(stored)) {
      problems.add("tensor ", p.name, ": contains NaN or infinity");
    } else {
      place(p, stored.shaped(p.shape));
      if (p.weight.data != stored.data) source.forget(p.name);  // copied
    }
  }
  problems.fail_if_any(source);
}

int64_t Params::count() const {
  int64_t n = 0;
  for (const Param& p : list_) n += p.count();
  return n;
}

void Params::freeze_all_but(std::string_view globs) {
  bool any = false;
  for (Param& p : list_) {
    p.trains = glob_match(globs, p.name);
    any |= p.trains;
  }
  if (!any && !globs.empty()) fail("train: no parameter matches the pattern '", globs, "'");
}

bool glob_match(std::string_view globs, std::string_view name) {
  while (true) {
    const size_t bar = globs.find('|');
    if (glob_one(globs.substr(0, bar), name)) return true;
    if (bar == std::string_view::npos) return false;
    globs.remove_prefix(bar + 1);
  }
}

}  // namespace qwerky
