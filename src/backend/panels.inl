// SPDX-License-Identifier: MIT
// Products with weights in panels (tensor/panels.h). Rows of x are converted once for all products that read them; then
// threads share the panels of all products, and blocks of rows where there are many.
//
// Order of summation: f32 and bf16 as in gemm_kernel.inl. Codes: for each group in order, an integer sum (exact), then
// y = fma(scale·d, sum, y) and, with minima, y = fma(minimum·d, Σq, y). The bias is added last.

/// What a product reads instead of a row of x.
enum class Form : uint8_t { f32, padded, pairs, codes };  // padded: f32 and a 0 behind an odd end

struct Operand {
  const float* x;
  int64_t K;
  Form form;
  int64_t group;
  int64_t row = 0;         ///< words of 32 bits from one row to the next
  float* words = nullptr;  ///< f32, pairs of bf16 or four codes
  // With codes: [R, groups]
  float* d = nullptr;
  int32_t* sum = nullptr;
  int64_t groups = 0;
};

/// q and d of one group (see Product), n <= group inputs, the rest 0. Returns Σ q. A NaN makes d NaN.
inline int32_t round_group(const float* x, int64_t n, int64_t group, void* q, float* d) noexcept {
  I largest = set_i(0);
  sweep(n, [&](int64_t i, auto lanes) { largest = max(largest, bits_of(abs(load(x + i, lanes)))); });
  const int32_t bits = max_of(largest);
  float top;
  std::memcpy(&top, &bits, 4);
  *d = top / 127.0f;
  if (!(top > 0)) {
    std::memset(q, 0, static_cast<size_t>(group));
    return 0;
  }
  const V divisor = set(*d);
  I total = set_i(0);
  for (int64_t i = 0; i < group; i += kLanes) {
    const V part = i + kLanes <= n ? load(x + i) : load(x + i, static_cast<int>(i < n ? n - i : 0));
    const I code = to_int(part / divisor);
    store_bytes(static_cast<char*>(q) + i, code);
    total = total + code;
  }
  return sum(total);
}

inline void convert_row(const Operand& to, int64_t r) noexcept {
  const float* x = to.x + r * to.K;
  float* words = to.words + r * to.row;
  switch (to.form) {
    case Form::f32: return;
    case Form::padded:
      std::memcpy(words, x, static_cast<size_t>(to.K) * 4);
      words[to.K] = 0;
      return;
    case Form::pairs:
#if QWERKY_ISA == 512
      for (int64_t k = 0; k < to.K; k += 32) store(words + k / 2, load_pairs(x + k, to.K - k));
#endif
      return;
    case Form::codes:
      for (int64_t g = 0; g < to.groups; ++g)
        to.sum[r * to.groups + g] = round_group(x + g * to.group, smaller(to.group, to.K - g * to.group), to.group,
                                                words + g * to.group / 4, to.d + r * to.groups + g);
  }
}

/// A block of rows times a block of groups of one panel, from a column on.
struct CodeTile {
  const int32_t* q;  ///< four codes a word
  int64_t q_row;
  const float* d;
  const int32_t* sum;
  int64_t d_row;
  const char* codes;  ///< of the first group; `codes_step` bytes from group to group
  int64_t codes_step;
  const char* scales;  ///< f16 [64], and minima behind them
  int64_t scales_step;
  float* c;
  int64_t c_row;
  int64_t groups, words;  ///< words of a group: 4 (int8) or 8 (int4) codes each
  int zero;
  bool minimum, accumulate;
  const float* bias;
  int64_t width;  ///< columns from here on
};

constexpr int kCodeCols = QWERKY_ISA == 512 ? 4 : 2;  ///< vectors of a tile of codes
constexpr int kCodeRows = 3;  ///< sums of a group and of all groups and a row of codes fill the registers

/// Asks for what a tile of a panel that is read once, from memory, will read soon.
QWERKY_INLINE void ask_ahead(const char* codes) {
#pragma GCC unroll 4
  for (int line = 0; line < kCodeCols * kLanes / 16; ++line)
    _mm_prefetch(codes + kAheadBytes + line * 64, _MM_HINT_NTA);
}

/// acc += products of one word of codes of every column, unpacked by `bytes`, with one word of q of every row.
template <class Dot, int kRows, class Unpack>
QWERKY_INLINE void multiply_word(I (&acc)[kRows][kCodeCols], const int32_t* q, int64_t q_row, const char* codes, I zero,
                                 const Unpack& bytes) {
  typename Dot::Weights w[kCodeCols];
#pragma GCC unroll 4
  for (int v = 0; v < kCodeCols; ++v) w[v] = Dot::weights(bytes(load_i(codes + v * kLanes * 4)), zero);
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    const I a = set_i(q[r * q_row]);
#pragma GCC unroll 4
    for (int v = 0; v < kCodeCols; ++v) acc[r][v] = Dot::dot(acc[r][v], w[v], a);
  }
}

struct Bytes {
  template <class Dot, int kRows>
  static QWERKY_INLINE void step(I (&acc)[kRows][kCodeCols], const int32_t* q, int64_t q_row, const char* codes,
                                 I zero) {
    multiply_word<Dot>(acc, q, q_row, codes, zero, [](I w) { return w; });
  }
  static constexpr int kWords = 1;  ///< words of q that a word of codes meets
};
struct Nibbles {
  template <class Dot, int kRows>
  static QWERKY_INLINE void step(I (&acc)[kRows][kCodeCols], const int32_t* q, int64_t q_row, const char* codes,
                                 I zero) {
    const I mask = set_i(0x0f0f0f0f);
    multiply_word<Dot>(acc, q, q_row, codes, zero, [=](I w) { return w & mask; });
    multiply_word<Dot>(acc, q + 1, q_row, codes, zero, [=](I w) { return shift_right_4(w) & mask; });
  }
  static constexpr int kWords = 2;
};

template <class Dot, class Codes, int kRows, bool kStream>
void code_tile(const CodeTile& t) noexcept {
  V y[kRows][kCodeCols];
  int lanes[kCodeCols];
#pragma GCC unroll 4
  for (int v = 0; v < kCodeCols; ++v) {
    lanes[v] = static_cast<int>(smaller(t.width > v * kLanes ? t.width - v * kLanes : 0, kLanes));
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) y[r][v] = t.accumulate ? load(t.c + r * t.c_row + v * kLanes, lanes[v]) : zero();
  }
  const int32_t* q = t.q;
  const int64_t q_row = t.q_row;
  const I zero = set_i(static_cast<int32_t>(static_cast<uint32_t>(t.zero) * 0x01010101u));
  const char *codes = t.codes, *scales = t.scales;
  for (int64_t g = 0; g < t.groups; ++g, codes += t.codes_step, scales += t.scales_step) {
    I acc[kRows][kCodeCols];
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const I start = Dot::start(t.zero, t.sum[r * t.d_row + g]);
#pragma GCC unroll 4
      for (int v = 0; v < kCodeCols; ++v) acc[r][v] = start;
    }
    const char* word = codes;
    for (int64_t w = t.words; w > 0; --w, word += kPanelOutputs * 4, q += Codes::kWords) {
      if (kStream) ask_ahead(word);
      Codes::template step<Dot, kRows>(acc, q, q_row, word, zero);
    }
    V scale[kCodeCols];
#pragma GCC unroll 4
    for (int v = 0; v < kCodeCols; ++v) scale[v] = load_f16(scales + v * kLanes * 2);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const V d = set(t.d[r * t.d_row + g]);
#pragma GCC unroll 4
      for (int v = 0; v < kCodeCols; ++v) y[r][v] = fma(scale[v] * d, to_float(acc[r][v]), y[r][v]);
    }
    if (!t.minimum) continue;
#pragma GCC unroll 4
    for (int v = 0; v < kCodeCols; ++v) scale[v] = load_f16(scales + (kPanelOutputs + v * kLanes) * 2);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const V d = set(t.d[r * t.d_row + g]), sum = set(static_cast<float>(t.sum[r * t.d_row + g]));
#pragma GCC unroll 4
      for (int v = 0; v < kCodeCols; ++v) y[r][v] = fma(scale[v] * d, sum, y[r][v]);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < kCodeCols; ++v)
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      V sum = y[r][v];
      if (t.bias != nullptr) sum += load(t.bias + v * kLanes, lanes[v]);
      store(t.c + r * t.c_row + v * kLanes, sum, lanes[v]);
    }
}

template <class Dot, class Codes, bool kStream>
void (*code_tile_of(int64_t rows))(const CodeTile&) noexcept {
  switch (rows) {
    case 1: return &code_tile<Dot, Codes, 1, kStream>;
    case 2: return &code_tile<Dot, Codes, 2, kStream>;
    default: return &code_tile<Dot, Codes, kCodeRows, kStream>;
  }
}

constexpr int64_t kFewCodeRows = 12;  ///< up to here panels stream one by one

/// The first rows bring a block of the panel from memory, the others find it in a cache and ask for the next one: the
/// `ahead` bytes behind it, a share before each tile.
template <class Dot, class Codes>
void code_rows(CodeTile t, int64_t rows, bool stream, int64_t ahead) noexcept {
  const char* next = t.scales + t.scales_step * t.groups;
  const int64_t share = ahead / (1 + rows / kCodeRows) / 64 * 64 + 64;
  for (int64_t n; rows > 0; rows -= n, stream = false) {
    n = smaller(rows, kCodeRows);
    (stream ? code_tile_of<Dot, Codes, true>(n) : code_tile_of<Dot, Codes, false>(n))(t);
    t.q += n * t.q_row;
    t.d += n * t.d_row;
    t.sum += n * t.d_row;
    t.c += n * t.c_row;
    for (int64_t line = 0; line < smaller(share, ahead); line += 64) _mm_prefetch(next + line, _MM_HINT_T1);
    next += share;
    ahead -= share;
  }
}

/// All rows and all columns of a block of a panel; `nibbles`: four bits a code.
template <class Dot>
void code_panel(CodeTile t, int64_t rows, bool nibbles, bool stream) noexcept {
  const int64_t ahead = rows > kFewCodeRows ? t.scales_step * t.groups * kCodeCols * kLanes / kPanelOutputs : 0;
  for (; t.width > 0; t.width -= kCodeCols * kLanes) {
    nibbles ? code_rows<Dot, Nibbles>(t, rows, stream, ahead) : code_rows<Dot, Bytes>(t, rows, stream, ahead);
    t.codes += kCodeCols * kLanes * 4;
    t.scales += kCodeCols * kLanes * 2;
    t.c += kCodeCols * kLanes;
    if (t.bias != nullptr) t.bias += kCodeCols * kLanes;
  }
}

/// Nibbles of `groups` groups as bytes, without scales.
inline void unpack_nibbles(char* out, const char* codes, int64_t step, int64_t groups, int64_t words) noexcept {
  const I mask = set_i(0x0f0f0f0f);
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t w = 0; w < words; ++w, out += 2 * kPanelOutputs * 4) {
      for (int64_t i = 0; i < kPanelOutputs * 4; i += 64)
        _mm_prefetch(codes + g * step + w * kPanelOutputs * 4 + i + kAheadBytes, _MM_HINT_T0);
      for (int64_t i = 0; i < kPanelOutputs * 4; i += kLanes * 4) {
        const I both = load_i(codes + g * step + w * kPanelOutputs * 4 + i);
        store_i(out + i, both & mask);
        store_i(out + kPanelOutputs * 4 + i, shift_right_4(both) & mask);
      }
    }
}

/// One product, as the loops below see it.
struct PanelProduct {
  PanelsOf of;
  const Operand* x;
  const char* panels;
  float* y;  ///< of row m0 and panel p0
  int64_t y_row, m0, p0;
  const float* bias;
  const char* panel(int64_t p) const { return panels + p * of.panel_bytes(); }
  float* out(int64_t m, int64_t column) const { return y + (m - m0) * y_row + column - p0 * kPanelOutputs; }
  int64_t width(int64_t p) const { return smaller(kPanelOutputs, of.outputs - p * kPanelOutputs); }
};

constexpr int64_t kInnerWords = 128;  ///< of a block of a panel that stays in the L1 cache while rows pass
constexpr int64_t kInnerCodes = 512;  ///< the same in inputs, where codes are bytes
constexpr int64_t kFewCodes = 256;    ///< the same for a few rows, whose sums are soon moved
constexpr int64_t kLeftBytes = int64_t{512} << 10;  ///< of rows of x that stay in the L2 cache while panels pass

/// body(panel, first, count) for blocks of `inner` of the `units` along the inputs of each panel: all blocks of a panel
/// before the next, but only so many units at a time as of which the rows of x (`unit_bytes` each) stay in the cache.
template <class Body>
void each_block(int64_t units, int64_t inner, int64_t rows, int64_t unit_bytes, int64_t p0, int64_t p1,
                const Body& body) noexcept {
  int64_t outer = kLeftBytes / (rows * unit_bytes) / inner * inner;
  if (outer < inner) outer = inner;
  for (int64_t o = 0; o < units; o += outer)
    for (int64_t p = p0; p < p1; ++p)
      for (int64_t i = o; i < smaller(units, o + outer); i += inner)
        body(p, i, smaller(inner, smaller(units, o + outer) - i));
}

/// Rows [m, m + rows) times panels [p0, p1), codes.
template <class Dot>
void multiply_codes(const PanelProduct& a, int64_t m, int64_t rows, int64_t p0, int64_t p1) noexcept {
  const PanelsOf& of = a.of;
  const Operand& x = *a.x;
  const int64_t group = of.format.group, groups = of.groups(), words = of.words() / groups;
  const bool few = rows <= kFewCodeRows, nibbles = of.format.type == DType::i4, unpacks = nibbles && !few;
  const bool once = rows <= kCodeRows && kCodeCols * kLanes == kPanelOutputs;
  const int64_t inner = once ? groups : (few ? kFewCodes : kInnerCodes) / group;
  char* unpacked = unpacks ? static_cast<char*>(scratch(Scratch::codes, inner * group * kPanelOutputs)) : nullptr;
  each_block(groups, inner, rows, group, p0, p1, [&](int64_t p, int64_t g, int64_t count) {
    const int64_t column = p * kPanelOutputs;
    const char* from = a.panel(p) + g * of.group_bytes();
    CodeTile t{reinterpret_cast<const int32_t*>(x.words + m * x.row + g * group / 4),
               x.row,
               x.d + m * groups + g,
               x.sum + m * groups + g,
               groups,
               from + of.codes_offset(),
               of.group_bytes(),
               from,
               of.group_bytes(),
               a.out(m, column),
               a.y_row,
               count,
               words,
               of.zero(),
               of.format.minimum,
               g > 0,
               a.bias != nullptr && g + count == groups ? a.bias + column : nullptr,
               a.width(p)};
    if (unpacks) {
      unpack_nibbles(unpacked, t.codes, t.codes_step, count, words);
      t.codes = unpacked;
      t.codes_step = group * kPanelOutputs;
      t.words = 2 * words;
    }
    code_panel<Dot>(t, rows, nibbles && !unpacks, !unpacks);
  });
}

/// Rows [m, m + rows) times panels [p0, p1), f32 or bf16.
template <class Word>
void multiply_words(const PanelProduct& a, int64_t m, int64_t rows, int64_t p0, int64_t p1) noexcept {
  const PanelsOf& of = a.of;
  const Operand& x = *a.x;
  const bool once = rows <= tile_rows<Word>(kTileVectors) && kPanel == kPanelOutputs;
  const int64_t total = of.words(), a_col = x.form == Form::pairs ? 1 : Word::kDepth;
  each_block(total, once ? total : kInnerWords, rows, 4 * a_col, p0, p1, [&](int64_t p, int64_t w, int64_t count) {
    const float* panel = reinterpret_cast<const float*>(a.panel(p)) + w * kPanelOutputs;
    for (int64_t n = 0; n < a.width(p); n += kPanel) {
      const int64_t width = smaller(kPanel, a.width(p) - n), column = p * kPanelOutputs + n;
      Tile t{x.words + m * x.row + w * a_col,
             x.row,
             a_col,
             panel + n,
             kPanelOutputs,
             a.out(m, column),
             a.y_row,
             count,
             a.bias != nullptr && w + count == total ? a.bias + column : nullptr,
             w > 0,
             static_cast<int>(width - (vectors_of(width) - 1) * kLanes)};
      // The first tile brings the block from memory, the others find it in a cache and ask for the next one.
      const int64_t first = smaller(rows, tile_rows<Word>(static_cast<int>(vectors_of(width))));
      multiply_panel<Streamed<Word>, false>(t, first, vectors_of(width));
      if (first == rows) continue;
      t.a += first * t.a_row;
      t.c += first * t.c_row;
      const Ahead next{reinterpret_cast<const char*>(panel + count * kPanelOutputs + n), kPanelOutputs * 4, kPanel * 4,
                       count};
      multiply_panel<Word, false>(t, rows - first, vectors_of(width), next);
    }
  });
}

inline void multiply_panels(bool vnni, const PanelProduct& a, int64_t m, int64_t rows, int64_t p0,
                            int64_t p1) noexcept {
  if (a.of.quantised()) {
#if QWERKY_ISA == 512
    if (vnni) return multiply_codes<DotVnni>(a, m, rows, p0, p1);
#endif
    static_cast<void>(vnni);
    return multiply_codes<DotMadd>(a, m, rows, p0, p1);
  }
#if QWERKY_ISA == 512
  if (a.x->form == Form::pairs) return multiply_words<WordBf16>(a, m, rows, p0, p1);
#endif
  if (a.of.format.type == DType::bf16) return multiply_words<WordWide>(a, m, rows, p0, p1);
  multiply_words<WordF32>(a, m, rows, p0, p1);
}

namespace kernels {

constexpr size_t kMostProducts = 16;  ///< of one fork-join

/// What a group of products reads.
struct Operands {
  Operand list[kMostProducts];
  std::array<const Operand*, kMostProducts> of;  ///< each product
};

/// Converts the rows of x, each only once for all products that read it in the same form. At most kMostProducts.
inline void convert_operands(Operands& to, Precision precision, std::span<const Product> products) noexcept {
  const int64_t R = products.front().x.row_count();
  size_t used = 0;
  int64_t bytes = 0;
  const auto reserve = [&](int64_t n) {
    const int64_t at = bytes;
    bytes += (n + 63) / 64 * 64;
    return at;
  };
  std::array<std::array<int64_t, 3>, kMostProducts> places;  // of words, d and sum
  for (size_t i = 0; i < products.size(); ++i) {
    const PanelFormat& format = products[i].weight.panels;
    const int64_t K = products[i].x.cols();
    const bool codes = format.group > 0, half = format.type == DType::bf16;
    const Form form = codes                                  ? Form::codes
                      : precision == Precision::bf16 && half ? Form::pairs
                      : half && K % 2 == 1                   ? Form::padded
                                                             : Form::f32;
    const float* x = products[i].x.as<float>();
    size_t o = 0;
    while (o < used && !(to.list[o].x == x && to.list[o].form == form && to.list[o].group == format.group)) ++o;
    to.of[i] = &to.list[o];
    if (o < used) continue;
    Operand& operand = to.list[used] = {x, K, form, format.group};
    operand.row = K;
    if (form == Form::codes) {
      operand.groups = (K + format.group - 1) / format.group;
      operand.row = operand.groups * format.group / 4 + kLanes;  // rows 4 KiB apart would share cache sets
    } else if (form == Form::pairs) {
      operand.row = vectors_of((K + 1) / 2) * kLanes + kLanes;
    } else if (form == Form::padded) {
      operand.row = K + 1;
    }
    places[used] = {form == Form::f32 ? 0 : reserve(R * operand.row * 4), reserve(R * operand.groups * 4),
                    reserve(R * operand.groups * 4)};
    ++used;
  }
  char* memory = static_cast<char*>(scratch(Scratch::operands, bytes));
  int64_t work = 0;
  for (size_t o = 0; o < used; ++o) {
    Operand& operand = to.list[o];
    operand.words =
        operand.form == Form::f32 ? const_cast<float*>(operand.x) : reinterpret_cast<float*>(memory + places[o][0]);
    operand.d = reinterpret_cast<float*>(memory + places[o][1]);
    operand.sum = reinterpret_cast<int32_t*>(memory + places[o][2]);
    if (operand.form != Form::f32) work += 2 * operand.K;
  }
  const std::span<const Operand> convert(to.list, used);
  if (work > 0)
    parallel_for(R, grain_of(work), [&](int64_t begin, int64_t end) {
      for (const Operand& operand : convert)
        for (int64_t r = begin; r < end; ++r) convert_row(operand, r);
    });
}

/// Items are one panel for one block of rows: blocks of rows, then panels. run(m, rows, p0, p1).
template <class Run>
void each_item(int64_t rows, int64_t panels, int64_t begin, int64_t end, const Run& run) {
  while (begin < end) {
    const int64_t p0 = begin % panels, p1 = smaller(panels, p0 + (end - begin)), m = begin / panels * kLeftRows;
    run(m, smaller(kLeftRows, rows - m), p0, p1);
    begin += p1 - p0;
  }
}
inline int64_t left_blocks(int64_t rows) { return (rows + kLeftRows - 1) / kLeftRows; }
/// Of an item, for the grain of a loop over them.
inline int64_t item_cost(const PanelsOf& of, int64_t rows) {
  return (of.panel_bytes() / 2 + rows * of.inputs * kPanelOutputs / 2) / left_blocks(rows);
}

/// At most kMostProducts products.
inline void linear_panels_once(Precision precision, bool vnni, std::span<const Product> products) noexcept {
  const int64_t R = products.front().x.row_count();
  Operands operands;
  convert_operands(operands, precision, products);
  std::array<int64_t, kMostProducts + 1> first{};
  int64_t cost = 0;
  for (size_t i = 0; i < products.size(); ++i) {
    const PanelsOf of(products[i].weight.panels, products[i].weight.dim(0), products[i].weight.dim(1));
    const int64_t items = of.panels() * left_blocks(R);
    first[i + 1] = first[i] + items;
    cost += items * item_cost(of, R);
  }
  const int64_t items = first[products.size()];
  parallel_for(items, grain_of(cost / items), [&](int64_t begin, int64_t end) {
    for (size_t i = 0; begin < end; ++i) {
      if (first[i + 1] <= begin) continue;
      const Product& p = products[i];
      const PanelProduct a{{p.weight.panels, p.weight.dim(0), p.weight.dim(1)},
                           operands.of[i],
                           static_cast<const char*>(p.weight.data),
                           p.y.as<float>(),
                           p.weight.dim(0),
                           0,
                           0,
                           p.bias ? p.bias.as<float>() : nullptr};
      const int64_t last = smaller(end, first[i + 1]);
      each_item(R, a.of.panels(), begin - first[i], last - first[i],
                [&](int64_t m, int64_t rows, int64_t p0, int64_t p1) { multiply_panels(vnni, a, m, rows, p0, p1); });
      begin = last;
    }
  });
}

inline void linear_panels(Precision precision, bool vnni, std::span<const Product> products) noexcept {
  if (products.empty() || products.front().x.row_count() == 0) return;
  for (; !products.empty(); products = products.subspan(std::min(products.size(), kMostProducts)))
    linear_panels_once(precision, vnni, products.first(std::min(products.size(), kMostProducts)));
}

inline void embed_panels(Tensor y, Tensor table, std::span<const int32_t> tokens) noexcept {
  const PanelView view(table);
  const int64_t D = y.cols();
  parallel_for(static_cast<int64_t>(tokens.size()), grain_of(64 * D), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t i = 0; i < D; ++i) y.as<float>()[r * D + i] = view.value(tokens[static_cast<size_t>(r)], i);
  });
}

}  // namespace kernels
