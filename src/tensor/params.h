// SPDX-License-Identifier: MIT
// The one list of parameters: declared by constructors, bound once, walked by load, save, initialise,
// optimise, count and freeze.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tensor/arena.h"
#include "tensor/tensor.h"

namespace qwerky {

/// Named tensors from somewhere: a checkpoint directory, a file, another model. Implemented by io.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  /// Where the tensors come from, for messages.
  virtual std::string describe() const = 0;
  /// All names, in file order.
  virtual std::vector<std::string> names() const = 0;
  /// The tensor as stored; null if there is none of this name. The memory lives as long as the source, or until
  /// forget().
  virtual Tensor find(std::string_view name) const = 0;
  /// What find() would give, without making it; `codes`: it makes floats of a quantised tensor's codes.
  struct Info {
    DType type = DType::f32;
    Shape shape;
    bool codes = false;
    Layout layout = Layout::rows;
  };
  /// Nothing if there is no tensor of this name.
  virtual std::optional<Info> info(std::string_view name) const {
    const Tensor t = find(name);
    if (!t) return std::nullopt;
    return Info{t.type, t.shape, false, t.layout};
  }
  /// The caller is done with this tensor: a source that made its memory on demand may free it, one that maps a file
  /// lets its pages go until they are read again.
  virtual void forget(std::string_view) const {}
  /// Begins to read what find() gives from its file. False when it does not lie in a mapped file; true also means that
  /// it stays valid after forget().
  virtual bool prefetch(std::string_view) const { return false; }
  /// All values were seen to be finite when the source was made: reading them to see it again is a waste.
  virtual bool checked() const { return false; }
};

/// What the forward does with a parameter, and so how it may be stored.
enum class Use : uint8_t {
  elementwise,     ///< read by rows of f32
  product,         ///< weight [out, in] of a matrix product
  product_in_out,  ///< weight [in, out] of a matrix product, or a stack [n, in, out] of them
  table            ///< rows looked up by token
};

struct Param {
  std::string name;
  Shape shape;
  Use use = Use::elementwise;
  bool trains = false;  ///< set by Params::freeze_all_but
  Tensor weight;        ///< what products and rows read
  int64_t offset = -1;  ///< elements before this one in the block made by allocate(); -1 when bound elsewhere
  int64_t count() const { return shape.count(); }
  /// In panels: always [out, in], or a stack of such.
  Shape panel_shape() const;
};

/// Elements [begin, begin + count) of a block.
struct Range {
  int64_t begin = 0, count = 0;
  int64_t end() const { return begin + count; }
};
Range overlap(Range a, Range b);

/// How the processes that train one model together hold its weights.
struct Sharding {
  int rank = 0, ranks = 1;
  /// Weights that products alone read are bf16, and the f32 values of all weights ("masters") are held by the rank that
  /// owns their part; otherwise weights are f32, and their own masters.
  bool rounded = false;
};

class Params {
 public:
  using Which = std::function<bool(const Param& p)>;

  Params() = default;
  Params(const Params&) = delete;
  Params& operator=(const Params&) = delete;

  /// The reference stays valid for the life of this Params. Throws CHECK on a repeated name.
  Param& declare(std::string name, Shape shape, Use use = Use::elementwise);
  /// A tensor that published models have and nothing reads: sources may hold it, it is saved as zeros.
  void declare_unused(std::string name, Shape shape) { unused_.emplace_back(std::move(name), shape); }
  const std::vector<std::pair<std::string, Shape>>& unused() const { return unused_; }
  Param* find(std::string_view name);
  const Param* find(std::string_view name) const;

  /// Whether `source` holds what is declared: all missing, misshapen and unused tensors and those of another type in
  /// one Error. Needs no memory for weights. Extents of 1 may be added or dropped ([1,1,A] = [A]). `ignore(name)` tells
  /// which unused names are fine.
  void check(const TensorSource& source, const std::function<bool(std::string_view)>& ignore = nullptr) const;
  /// One block of `type` in `arena` for all parameters, zero-filled, in declaration order, but those that products
  /// alone read first. Sets offset. Those that are not `own` stay out of it, for the caller to point elsewhere.
  void allocate(Arena& arena, DType type, const Which& own = nullptr, const Which& product = nullptr,
                const Sharding& sharding = {});
  /// The same with a type of their own for matrices (two extents above 1): what inference holds. No common block.
  void allocate(Arena& arena, DType matrices, DType vectors);
  /// check(), then copies every declared tensor from `source` into allocated memory with conversion of type, or, where
  /// nothing was allocated and the source's memory outlives this (`borrow`), points at it. All non-finite tensors are
  /// reported in one Error.
  void bind(const TensorSource& source, bool borrow, const std::function<bool(std::string_view)>& ignore = nullptr);
  /// The same checks, but `place` puts each stored tensor (of the declared shape) where it belongs and sets p.weight.
  /// `unread`, asked first, may do so (true) without find(): then it answers for finite values.
  using Place = std::function<void(Param& p, Tensor stored)>;
  void bind(const TensorSource& source, const Place& place, const std::function<bool(std::string_view)>& ignore,
            const std::function<bool(Param& p)>& unread = nullptr);

  template <class F>
  void each(F&& f) {
    for (Param& p : list_) f(p);
  }
  template <class F>
  void each(F&& f) const {
    for (const Param& p : list_) f(p);
  }
  /// Elements of all declared parameters.
  int64_t count() const;
  /// Elements of the block made by allocate().
  int64_t block_count() const { return block_count_; }
  /// Null where part of it is bf16.
  Tensor block() const { return block_; }
  /// Elements of the block before this one are of weights that products alone read.
  int64_t product_count() const { return product_count_; }
  /// Elements of the block that a rank owns.
  Range owned(int rank, int ranks) const;
  /// Elements of a place of the block that each of so many ranks owns.
  std::vector<int64_t> shares(Range at, int ranks) const;
  /// Weights at a place of the block, either all before product_count() or none.
  Tensor weights(Range at) const;
  /// Their f32 masters, which this process must hold.
  Tensor masters(Range at) const { return masters_.rows(at.begin - held_.begin, at.count); }
  /// Weights, and as many of their masters as this process holds, become `values` [at.count].
  void set(Range at, Tensor values);
  void set(Param& p, Tensor values) { set({p.offset, p.count()}, values.shaped({p.count()})); }
  /// What trains is a glob over names: alternatives separated by '|', '*' matches anything. Throws if a
  /// non-empty glob matches nothing.
  void freeze_all_but(std::string_view globs);

 private:
  std::deque<Param> list_;
  std::vector<std::pair<std::string, Shape>> unused_;
  std::unordered_map<std::string, Param*> by_name_;
  Tensor block_, products_, rest_;  // products_ and rest_ lie one after the other where they are of one type
  Tensor masters_;
  Range held_;  // of masters
  int64_t block_count_ = 0, product_count_ = 0;
};

/// `*` matches any run of characters, `|` separates alternatives.
bool glob_match(std::string_view globs, std::string_view name);

/// dst[i] = src[i] with conversion among f32, bf16, f16, f64, c128 (real part).
void convert(Tensor dst, Tensor src);

}  // namespace qwerky
