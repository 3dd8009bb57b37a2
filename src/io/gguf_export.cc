// SPDX-License-Identifier: MIT
#include "io/gguf_export.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "base/error.h"
#include "io/gguf_names.h"

namespace qwerky {
namespace {

constexpr int64_t kStreams = 5;

/// `n` elements of a tensor from element `first` on, as f32.
void copy(Tensor from, int64_t first, int64_t n, float* out) {
  char* at = static_cast<char*>(from.data) + first * size_of(from.type);
  convert(Tensor(out, DType::f32, {n}), Tensor(at, from.type, {n}));
}

/// A tensor of a source, made when it is asked for.
struct Lazy {
  const TensorSource* source = nullptr;
  GgufIn in;

  Tensor get() const { return source->find(in.stored).shaped(in.shape); }
  void forget() const { source->forget(in.stored); }
};

std::vector<float> whole(Tensor t) {
  std::vector<float> values(static_cast<size_t>(t.count()));
  copy(t, 0, t.count(), values.data());
  return values;
}

/// Writes a matrix that is small enough to be rearranged whole: at(row, column) of `values`.
template <class At>
auto rearranged(const Lazy& lazy, int64_t cols, At at) {
  return [lazy, cols, at](int64_t first, int64_t n, float* out) {
    const std::vector<float> values = whole(lazy.get());
    for (int64_t r = 0; r < n; ++r)
      for (int64_t c = 0; c < cols; ++c) out[r * cols + c] = values[static_cast<size_t>(at(first + r, c))];
  };
}

Shape squeezed(const Shape& shape) {
  std::vector<int64_t> dims;
  for (int i = 0; i < shape.rank; ++i)
    if (const int64_t n = shape.dim[static_cast<size_t>(i)]; n != 1) dims.push_back(n);
  if (dims.empty()) dims.push_back(1);
  return Shape(dims);
}

int64_t last_of(const Shape& shape) { return shape.dim[static_cast<size_t>(shape.rank - 1)]; }

/// Rows of each head interleaved. A vector counts as rows of one element, and stays a vector.
GgufOut rotary(GgufOut out, const Lazy& lazy, int64_t head) {
  const bool vector = out.shape.rank == 1;
  const int64_t cols = vector ? 1 : last_of(out.shape), half = head / 2;
  const auto source = [half, head](int64_t r) { return r - r % head + r % head / 2 + r % 2 * half; };
  out.rows = [lazy, cols, vector, source](int64_t first, int64_t n, float* to) {
    const Tensor t = lazy.get();
    const int64_t from = vector ? 0 : first, rows = vector ? t.count() : n;  // a vector is one row of GGUF
    for (int64_t r = 0; r < rows; ++r) copy(t, source(from + r) * cols, cols, to + r * cols);
  };
  return out;
}

GgufOut one_tensor(const GgufName& target, const Lazy& lazy, int64_t head) {
  const Shape& shape = lazy.in.shape;
  GgufOut out{target.name, BlockType::f32, squeezed(shape), {}, [lazy] { lazy.forget(); }};
  const int64_t cols = last_of(shape), rows = shape.count() / cols;
  switch (target.layout) {
    case GgufLayout::same:
      out.rows = [lazy, width = last_of(out.shape)](int64_t first, int64_t n, float* to) {
        copy(lazy.get(), first * width, n * width, to);
      };
      return out;
    case GgufLayout::rotary: return rotary(std::move(out), lazy, head);
    case GgufLayout::transposed:
      out.shape = {cols, rows};
      out.rows = rearranged(lazy, rows, [cols](int64_t r, int64_t c) { return c * cols + r; });
      return out;
    case GgufLayout::streams_in: {  // [D, 5R] to [5R, D]
      const int64_t rank = cols / kStreams;
      out.shape = {cols, rows};
      out.rows = rearranged(lazy, rows, [cols, rank](int64_t r, int64_t c) {
        return c * cols + kGgufStreams[static_cast<size_t>(r / rank)] * rank + r % rank;
      });
      return out;
    }
    case GgufLayout::streams_out: {  // [5, R, D] to [5, D, R]
      const int64_t rank = rows / kStreams;
      out.shape = {kStreams, cols, rank};
      out.rows = rearranged(lazy, rank, [cols, rank](int64_t r, int64_t c) {
        return (kGgufStreams[static_cast<size_t>(r / cols)] * rank + c) * cols + r % cols;
      });
      return out;
    }
    case GgufLayout::lerp: break;
  }
  CHECK(false, "one tensor of five: ", target.name);
}

/// Five vectors as one tensor of GGUF shape {D, 1, 1, 5}.
GgufOut lerp(const std::string& name, const std::array<Lazy, kStreams>& streams) {
  const int64_t D = streams[0].in.shape.count();
  return {name, BlockType::f32, Shape{kStreams, 1, 1, D},
          [streams, D](int64_t first, int64_t n, float* to) {
            for (int64_t s = 0; s < n; ++s) copy(streams[static_cast<size_t>(first + s)].get(), 0, D, to + s * D);
          },
          [streams] {
            for (const Lazy& s : streams) s.forget();
          }};
}

}  // namespace

std::vector<GgufOut> gguf_tensors(std::string_view architecture, int64_t head, const TensorSource& source,
                                  const std::vector<GgufIn>& tensors, BlockType matrices) {
  const bool tied =
      std::none_of(tensors.begin(), tensors.end(), [](const auto& t) { return t.name == "lm_head.weight"; });
  std::vector<GgufOut> out;
  std::map<std::string, std::array<Lazy, kStreams>> fused;
  for (const GgufIn& t : tensors) {
    const auto target = gguf_name(architecture, t.name);
    if (!target) fail("tensor ", t.name, ": GGUF's ", architecture, " has no place for it");
    if (target->layout == GgufLayout::lerp) {
      const HfNames parts = hf_names(architecture, target->name);
      auto& streams = fused[target->name];
      const auto part = std::find(parts.names.begin(), parts.names.end(), t.name) - parts.names.begin();
      streams[static_cast<size_t>(part)] = {&source, t};
      if (std::all_of(streams.begin(), streams.end(), [](const Lazy& s) { return s.source != nullptr; }))
        out.push_back(lerp(target->name, streams));
      continue;
    }
    GgufOut made = one_tensor(*target, {&source, t}, head);
    if (!target->small && made.shape.rank > 1) {
      const bool head_layer = t.name == "lm_head.weight" || (tied && t.name == "model.embed_tokens.weight");
      made.type = matrices == BlockType::q4_0 && head_layer ? BlockType::q8_0 : matrices;
      if (last_of(t.shape) % format_of(made.type).elements != 0) made.type = BlockType::f16;
    }
    out.push_back(std::move(made));
  }
  for (const auto& [name, streams] : fused)
    for (const Lazy& s : streams)
      if (s.source == nullptr) fail("tensor ", name, ": one of its five parts is missing");
  return out;
}

}  // namespace qwerky
