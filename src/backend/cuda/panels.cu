// SPDX-License-Identifier: MIT
// Products with weights in panels (tensor/panels.h). A few rows: the panels are read as they lie, codes are multiplied
// as integers. Many rows: slices of outputs are unpacked, then multiplied as any matrix.
#include "tensor/panels.h"

#include "backend/cuda/mma.h"
#include "backend/cuda/operations.h"
#include "backend/cuda/products.h"

namespace qwerky::cuda {
namespace {

constexpr int kFewRows = 8;       ///< up to these the panels' bytes bound a product
constexpr int kLanes = 8;         ///< along the inputs in a block, beside its 64 outputs
constexpr int64_t kBlocks = 256;  ///< wanted for a product of a few rows: about two a multiprocessor
constexpr int64_t kUnpackedBytes = int64_t{64} << 20;  ///< of a slice

/// What kernels need of PanelsOf.
struct Panels {
  const char* data;
  DType type;
  bool minimum;
  int group, zero;
  int64_t outputs, inputs, groups, panel_bytes, group_bytes, codes_offset;

  explicit Panels(const Tensor& t) {
    const PanelsOf of(t.panels, t.dim(0), t.dim(1));
    data = static_cast<const char*>(t.data), type = of.format.type, minimum = of.format.minimum;
    group = of.format.group, zero = 0, outputs = of.outputs, inputs = of.inputs, panel_bytes = of.panel_bytes();
    groups = group_bytes = codes_offset = 0;
    if (!of.quantised()) return;
    zero = of.zero(), groups = of.groups(), group_bytes = of.group_bytes(), codes_offset = of.codes_offset();
  }
  bool quantised() const { return group != 0; }

  __device__ const char* panel(int64_t n) const { return data + n / kPanelOutputs * panel_bytes; }
  __device__ float value(int64_t n, int64_t k) const {
    const int64_t column = n % kPanelOutputs;
    if (type == DType::f32) return reinterpret_cast<const float*>(panel(n))[k * kPanelOutputs + column];
    if (type == DType::bf16)
      return __bfloat162float(
          reinterpret_cast<const __nv_bfloat16*>(panel(n))[(k / 2 * kPanelOutputs + column) * 2 + k % 2]);
    const char* const of_group = panel(n) + k / group * group_bytes;
    const auto* scales = reinterpret_cast<const __half*>(of_group);
    const int64_t in_group = k % group, per_word = type == DType::i8 ? 4 : 8;
    const auto byte =
        static_cast<unsigned char>(of_group[codes_offset + (in_group / per_word * kPanelOutputs + column) * 4 + k % 4]);
    const int code = type == DType::i8 ? byte : k % 8 < 4 ? byte & 15 : byte >> 4;
    return __half2float(scales[column]) * static_cast<float>(code - zero) +
           (minimum ? __half2float(scales[kPanelOutputs + column]) : 0);
  }
};

/// Rows of x as products with codes see them: x ≈ d q in each group.
struct RoundedRows {
  int* q;     ///< [R, groups, group / 4] words of four
  float* d;   ///< [R, groups]
  int* sums;  ///< [R, groups] of the q
};

/// A group of a row a warp.
__global__ void round_rows_kernel(RoundedRows to, const float* x, int64_t items, int64_t groups, int64_t K, int group) {
  const int64_t item = int64_t{blockIdx.x} * kLanes + threadIdx.x / kWarp;
  if (item >= items) return;
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const int64_t row = item / groups, first = item % groups * group;
  const bool mine = lane < group / 4;  // a word: four inputs
  float four[4], largest = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t k = first + 4 * lane + i;
    four[i] = mine && k < K ? x[row * K + k] : 0;
    largest = fmaxf(largest, fabsf(four[i]));
  }
  float poison = 0;  // NaN where x is not finite: so is then the row's result
#pragma unroll
  for (int i = 0; i < 4; ++i) poison += four[i] * 0;
  const float d = warp_max(largest) / 127.0f + warp_sum(poison);
  int word = 0, sum = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int q = !(d > 0) ? 0 : __float2int_rn(four[i] / d);
    sum += q;
    word |= (q & 255) << 8 * i;
  }
  sum = warp_sum(sum);
  if (mine) to.q[item * (group / 4) + lane] = word;
  if (lane == 0) to.d[item] = d, to.sums[item] = sum;
}

RoundedRows round_rows(Device& on, Tensor x, const Panels& w) {
  const int64_t items = x.row_count() * w.groups, words = w.group / 4;
  int* memory = on.scratch<int>(Use::codes, items * (words + 2));
  const RoundedRows to{memory, reinterpret_cast<float*>(memory + items * words), memory + items * (words + 1)};
  launch(on, blocks_for(items, kLanes), kLanes * kWarp, 0, round_rows_kernel, to, x.as<float>(), items, w.groups,
         x.cols(), w.group);
  return to;
}

/// Σ over a group of q (code - zero), or of q code with minima.
__device__ int code_dot(const Panels& w, const int* words, const int* q, int q_sum, int64_t column) {
  int dot = 0;
  if (w.type == DType::i8) {
    for (int i = 0; i < w.group / 4; ++i)
      dot = __dp4a(words[i * kPanelOutputs + column] ^ static_cast<int>(0x80808080u), q[i], dot);
    return dot;
  }
  for (int i = 0; i < w.group / 8; ++i) {
    const int word = words[i * kPanelOutputs + column];
    dot = __dp4a(word & 0x0f0f0f0f, q[2 * i], dot);
    dot = __dp4a(word >> 4 & 0x0f0f0f0f, q[2 * i + 1], dot);
  }
  return dot - w.zero * q_sum;
}

/// A panel and a range of its inputs a block (64 outputs, kLanes along the inputs); parts[range][r][o].
__global__ void few_rows_kernel(float* parts, Panels w, const float* x, RoundedRows rounded, int R, int64_t units,
                                int64_t units_of_block, bool half) {
  __shared__ float sums[kLanes][kPanelOutputs];
  const int64_t column = threadIdx.x, o = blockIdx.x * kPanelOutputs + column;
  const int64_t first = blockIdx.y * units_of_block,
                last = first + units_of_block < units ? first + units_of_block : units;
  const char* const panel = w.data + blockIdx.x * w.panel_bytes;
  float mine[kFewRows] = {};
  for (int64_t u = first + threadIdx.y; u < last; u += kLanes) {  // a group, or a word of inputs
    if (w.group != 0) {
      const char* const group = panel + u * w.group_bytes;
      const auto* scales = reinterpret_cast<const __half*>(group);
      const float scale = __half2float(scales[column]);
      const float minimum = w.minimum ? __half2float(scales[kPanelOutputs + column]) : 0;
#pragma unroll
      for (int r = 0; r < kFewRows; ++r) {
        if (r >= R) break;
        const int64_t item = r * w.groups + u;
        const int dot = code_dot(w, reinterpret_cast<const int*>(group + w.codes_offset),
                                 rounded.q + item * (w.group / 4), rounded.sums[item], column);
        mine[r] +=
            rounded.d[item] * (scale * static_cast<float>(dot) + minimum * static_cast<float>(rounded.sums[item]));
      }
    } else {
      const int inputs = w.type == DType::f32 ? 1 : 2;
      for (int i = 0; i < inputs; ++i) {
        const int64_t k = u * inputs + i;
        if (k >= w.inputs) break;
        float weight = w.value(o, k);
        if (half) weight = __bfloat162float(__float2bfloat16(weight));
#pragma unroll
        for (int r = 0; r < kFewRows; ++r) {
          if (r >= R) break;
          const float xk = x[r * w.inputs + k];
          mine[r] += (half ? __bfloat162float(__float2bfloat16(xk)) : xk) * weight;
        }
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    sums[threadIdx.y][column] = mine[r];
    __syncthreads();
    if (threadIdx.y == 0 && o < w.outputs) {
      float sum = 0;
      for (int y = 0; y < kLanes; ++y) sum += sums[y][column];
      parts[(blockIdx.y * R + r) * w.outputs + o] = sum;
    }
    __syncthreads();
  }
}

void few_rows(Device& on, const Product& p, const Panels& w, bool half) {
  const int64_t R = p.x.row_count(), panels = blocks_for(w.outputs, kPanelOutputs);
  const int64_t units = w.quantised() ? w.groups : w.type == DType::f32 ? w.inputs : (w.inputs + 1) / 2;
  const int64_t ranges = std::clamp<int64_t>(kBlocks / panels, 1, blocks_for(units, kLanes));
  float* parts = on.scratch<float>(Use::sums, ranges * R * w.outputs);
  launch(on, dim3(static_cast<unsigned>(panels), static_cast<unsigned>(ranges)), dim3(kPanelOutputs, kLanes), 0,
         few_rows_kernel, parts, w, p.x.as<float>(), w.quantised() ? round_rows(on, p.x, w) : RoundedRows{},
         static_cast<int>(R), units, (units + ranges - 1) / ranges, half);
  each(on, R * w.outputs,
       [=, n = R * w.outputs, outputs = w.outputs, y = p.y.as<float>(), bias = Values(p.bias)] __device__(int64_t i) {
         float sum = bias[i % outputs];
         for (int64_t range = 0; range < ranges; ++range) sum += parts[range * n + i];
         y[i] = sum;
       });
}

constexpr int kColumns = 8, kRowsOfWarp = 16, kWarps = 4;  ///< of a product on tensor cores, and of a block

/// Codes times rounded rows on tensor cores, exact within a group. A warp does 16 rows and the 64 outputs of a panel;
/// grid (panels, tiles of 64 rows).
__global__ void many_codes_kernel(float* y, Panels w, RoundedRows x, Values bias, int64_t R) {
  const int64_t first = (int64_t{blockIdx.y} * kWarps + threadIdx.x / kWarp) * kRowsOfWarp;
  if (first >= R) return;
  const int lane = static_cast<int>(threadIdx.x % kWarp), g = lane / 4, t = lane % 4, words = w.group / 4;
  const int64_t upper = first + g < R ? first + g : R - 1, lower = first + g + 8 < R ? first + g + 8 : R - 1;
  const char* const panel = w.data + blockIdx.x * w.panel_bytes;
  float sums[kPanelOutputs / kColumns][4] = {};
  for (int64_t group = 0; group < w.groups; ++group) {
    const char* const of_group = panel + group * w.group_bytes;
    const auto* scales = reinterpret_cast<const __half*>(of_group);
    const auto* codes = reinterpret_cast<const unsigned*>(of_group + w.codes_offset);
    const auto word_of = [&](int word, int64_t column) {
      if (w.type == DType::i8) return codes[word * kPanelOutputs + column] ^ 0x80808080u;  // code - 128
      return codes[word / 2 * kPanelOutputs + column] >> 4 * (word % 2) & 0x0f0f0f0fu;
    };
    const int64_t above = upper * w.groups + group, below = lower * w.groups + group;
    const auto *q_above = x.q + above * words, *q_below = x.q + below * words;
    int dots[kPanelOutputs / kColumns][4] = {};
    for (int word = 0; word < words; word += 8) {
      const unsigned rows[4] = {static_cast<unsigned>(q_above[word + t]), static_cast<unsigned>(q_below[word + t]),
                                static_cast<unsigned>(q_above[word + t + 4]),
                                static_cast<unsigned>(q_below[word + t + 4])};
#pragma unroll
      for (int c = 0; c < kPanelOutputs / kColumns; ++c) {
        const unsigned columns[2] = {word_of(word + t, c * kColumns + g), word_of(word + t + 4, c * kColumns + g)};
        mma_s8_16x8x32(dots[c], rows, columns);
      }
    }
#pragma unroll
    for (int c = 0; c < kPanelOutputs / kColumns; ++c)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int64_t item = i < 2 ? above : below, column = c * kColumns + 2 * t + i % 2;
        const int sum = x.sums[item], dot = dots[c][i] - (w.type == DType::i4 ? w.zero * sum : 0);
        const float minimum = w.minimum ? __half2float(scales[kPanelOutputs + column]) : 0;
        sums[c][i] +=
            x.d[item] * (__half2float(scales[column]) * static_cast<float>(dot) + minimum * static_cast<float>(sum));
      }
  }
#pragma unroll
  for (int c = 0; c < kPanelOutputs / kColumns; ++c)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int64_t row = first + g + i / 2 * 8, o = blockIdx.x * kPanelOutputs + c * kColumns + 2 * t + i % 2;
      if (row < R && o < w.outputs) y[row * w.outputs + o] = sums[c][i] + bias[o];
    }
}

template <class T>
__device__ void store(T* to, float x) {
  if constexpr (std::is_same_v<T, float>) {
    *to = x;
  } else {
    *to = __float2bfloat16(x);
  }
}

/// f32 or bf16 panels: slices of outputs in rows, of type T, multiplied as any matrix.
template <class T>
void many_values(Device& on, const Product& p, const Panels& w) {
  const int64_t R = p.x.row_count(), K = w.inputs;
  constexpr bool half = !std::is_same_v<T, float>;
  const void* x = operand(on, Use::operand_x, p.x, half);
  const int64_t most = kUnpackedBytes / static_cast<int64_t>(sizeof(T)) / K / kPanelOutputs * kPanelOutputs;
  const int64_t slice = std::min(w.outputs, std::max(kPanelOutputs, most));
  const float* bias = bias_of(on, p.bias);
  for (int64_t first = 0; first < w.outputs; first += slice) {
    const int64_t n = std::min(slice, w.outputs - first);
    T* unpacked = on.scratch<T>(Use::operand_w, n * K);
    // Neighbouring threads take neighbouring outputs: panels are read whole lines at a time.
    each(on, blocks_for(n, kPanelOutputs) * kPanelOutputs * K, [=] __device__(int64_t i) {
      const int64_t o = i / (kPanelOutputs * K) * kPanelOutputs + i % kPanelOutputs, k = i / kPanelOutputs % K;
      if (o < n) store(unpacked + o * K + k, w.value(first + o, k));
    });
    multiply(on, {.m = R,
                  .n = n,
                  .k = K,
                  .a = x,
                  .b = unpacked,
                  .b_transposed = true,
                  .half = half,
                  .c = p.y.as<float>() + first,
                  .c_stride = w.outputs,
                  .bias = bias ? bias + first : nullptr});
  }
}

}  // namespace

void linear_panels(Device& on, Precision precision, const Product& p) {
  const Panels w(p.weight);
  const int64_t R = p.x.row_count();
  const bool half = precision == Precision::bf16 && w.type == DType::bf16;
  if (R <= kFewRows) {
    few_rows(on, p, w, half);
  } else if (w.quantised()) {
    launch(on, dim3(blocks_for(w.outputs, kPanelOutputs), blocks_for(R, kWarps * kRowsOfWarp)), kWarps * kWarp, 0,
           many_codes_kernel, p.y.as<float>(), w, round_rows(on, p.x, w), Values(p.bias), R);
  } else {
    half ? many_values<__nv_bfloat16>(on, p, w) : many_values<float>(on, p, w);
  }
}

void embed_panels(Device& on, Tensor y, Tensor table, std::span<const int32_t> tokens) {
  const int64_t D = y.cols();
  each(on, static_cast<int64_t>(tokens.size()) * D,
       [=, to = y.as<float>(), from = Panels(table), ids = on.upload(tokens)] __device__(int64_t i) {
         to[i] = from.value(ids[i / D], i % D);
       });
}

}  // namespace qwerky::cuda
