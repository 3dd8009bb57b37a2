// SPDX-License-Identifier: MIT
// Filling panels (tensor/panels.h) from rows of weights, bit for bit as reference_panels.h does.

QWERKY_INLINE V widen(const f16* p, AllLanes) { return load_f16(p); }
QWERKY_INLINE V widen(const f16* p, FirstLanes part) {
  f16 some[kLanes];
  std::memcpy(some, p, static_cast<size_t>(part.n) * sizeof(f16));
  return load_f16(some);
}
QWERKY_INLINE void store_bf16(bf16* p, V a, AllLanes) { store_bf16(p, a); }
QWERKY_INLINE void store_bf16(bf16* p, V a, FirstLanes part) { store_bf16(p, a, part.n); }

constexpr int64_t kPackWords = 64;  ///< words of 64 outputs that are turned at once

/// n elements as f32, or as pairs of bf16.
template <class T>
void copy_words(float* to, const T* p, int64_t n, bool half) noexcept {
  if (!half) return sweep(n, [=](int64_t i, auto lanes) { store(to + i, widen(p + i, lanes), lanes); });
  bf16* pairs = reinterpret_cast<bf16*>(to);
  if constexpr (std::is_same_v<T, bf16>)
    std::memcpy(pairs, p, static_cast<size_t>(n) * sizeof(bf16));
  else
    sweep(n, [=](int64_t i, auto lanes) { store_bf16(pairs + i, widen(p + i, lanes), lanes); });
  if (n % 2 == 1) pairs[n] = bf16();
}

/// Panel of outputs [n, n + width) from w[output][input].
template <class T>
void pack_words(float* out, const T* w, const PanelsOf& of, int64_t n, int64_t width) noexcept {
  const bool half = of.format.type == DType::bf16;
  const int64_t depth = half ? 2 : 1, total = of.words();
  alignas(64) float rows[kPanelOutputs * kPackWords];
  for (int64_t first = 0; first < total; first += kPackWords) {
    const int64_t words = smaller(kPackWords, total - first),
                  inputs = smaller(words * depth, of.inputs - first * depth);
    for (int64_t i = 0; i < width; ++i)
      copy_words(rows + i * kPackWords, w + (n + i) * of.inputs + first * depth, inputs, half);
    transpose(out + first * kPanelOutputs, kPanelOutputs, rows, kPackWords, width, words);
  }
}

/// Codes of `group` weights w (zeros behind the first n) with scale and minimum, as bytes.
inline void codes_of(uint8_t* codes, const float* w, int64_t n, const PanelsOf& of, float scale,
                     float minimum) noexcept {
  const I zero = set_i(of.zero()), least = set_i(of.format.type == DType::i8 ? 1 : 0), most = set_i(of.largest_code());
  for (int64_t i = 0; i < of.format.group; i += kLanes) {
    const I code = scale == 0 ? zero : min(most, max(least, to_int((load(w + i) - set(minimum)) / set(scale)) + zero));
    store_bytes(codes + i, code);
  }
  for (int64_t i = n; i < of.format.group; ++i) codes[i] = static_cast<uint8_t>(of.zero());
}

/// The same of codes: `panel` is the panel's own view.
template <class T>
void pack_codes(const PanelView& panel, const T* w, int64_t n, int64_t width) noexcept {
  const PanelsOf& of = panel.of();
  const int64_t group = of.format.group;
  alignas(64) float weights[128];
  alignas(64) uint8_t codes[128];
  for (int64_t g = 0; g < of.groups(); ++g) {
    const int64_t inputs = smaller(group, of.inputs - g * group);
    for (int64_t i = 0; i < width; ++i) {
      copy_words(weights, w + (n + i) * of.inputs + g * group, inputs, false);
      const reference_panels::GroupScale s = reference_panels::group_scale(of.format, weights, inputs);
      std::memset(weights + inputs, 0, static_cast<size_t>(group - inputs) * sizeof(float));
      codes_of(codes, weights, inputs, of, static_cast<float>(s.scale), static_cast<float>(s.minimum));
      panel.set_group(i, g, codes, s.scale, s.minimum);
    }
  }
}

namespace kernels {

template <class T>
void pack_matrix(Tensor panels, const T* w, bool in_out) noexcept {
  const PanelsOf of(panels.panels, panels.dim(0), panels.dim(1));
  char* data = static_cast<char*>(panels.data);
  if (in_out)
    return reference_panels::pack_matrix(
        panels, [=](int64_t n, int64_t k) { return static_cast<float>(w[k * of.outputs + n]); });
  parallel_for(of.panels(), 1 + (1 << 16) / of.panel_bytes(), [=](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t n = p * kPanelOutputs, width = smaller(kPanelOutputs, of.outputs - n);
      Tensor own = panels;
      own.data = data + p * of.panel_bytes();
      own.shape = {width, of.inputs};
      const PanelView panel(own);
      if (width < kPanelOutputs) panel.clear();
      of.quantised() ? pack_codes(panel, w, n, width) : pack_words(static_cast<float*>(own.data), w, of, n, width);
    }
  });
}

inline void pack(Tensor panels, Tensor rows, bool in_out) {
  const int64_t matrices = panels.shape.rank == 3 ? panels.dim(0) : 1;
  CHECK(rows.layout == Layout::rows && rows.count() == panels.count(), "pack ", rows.shape.str(), " as ",
        panels.shape.str());
  for (int64_t i = 0; i < matrices; ++i) {
    const Tensor to = panels.shape.rank == 3 ? panels.matrix(i) : panels;
    const int64_t first = i * to.count();
    switch (rows.type) {
      case DType::f32: pack_matrix(to, rows.as<float>() + first, in_out); break;
      case DType::bf16: pack_matrix(to, rows.as<bf16>() + first, in_out); break;
      case DType::f16: pack_matrix(to, rows.as<f16>() + first, in_out); break;
      default: CHECK(false, "pack from ", name_of(rows.type));
    }
  }
}

}  // namespace kernels
