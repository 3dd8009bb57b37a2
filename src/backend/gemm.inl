// SPDX-License-Identifier: MIT
// linear, embed and their VJPs: matrix products blocked for the caches and split over threads by outputs only.

/// Columns [first, last) of one product C = A·B (+ bias), C at c[m c_row + n].
struct Output {
  Right b;
  float* c;
  int64_t c_row;
  const float* bias;
  bool accumulate;
  int64_t first, last;
};

// The blocking below is free to choose: see gemm_kernel.inl on the order of summation.
constexpr int64_t kFewRows = 12;               ///< up to here B is streamed once, panel by panel over the whole depth
constexpr int64_t kLeftRows = 258;             ///< rows of A that lie together as words
constexpr int64_t kMostRows = 16 * kLeftRows;  ///< of A that a thread packs at once: bounds memory
constexpr int64_t kBlockWords = 512;           ///< C passes through the outer caches once for so many words along k
constexpr int64_t kStreamWords = 64;           ///< depth of a panel that is packed and used within the L1 cache
constexpr int64_t kPackFromRows = 24;          ///< rows from which packing an untransposed B pays
constexpr int64_t kPackedAsRows = 40;          ///< rows of a product that take as long as packing their B
constexpr int64_t kMaxOutputs = 16;            ///< products handled in one pass over A

constexpr int64_t kMuchRead = 512;  ///< columns of C from which it pays to turn a transposed A into rows

/// A [M, K] as words of the tiles, packed by blocks of kLeftRows rows in memory of the thread that makes it; then all
/// threads may read it. The words of a row lie together, but for a transposed A that is little read: there those of one
/// k. f32 stay where they are, unless they are turned.
template <class Word>
struct LeftWords {
  Left a;
  int64_t M, K, row = 0;
  float* words = nullptr;
  LeftWords(const Left& left, int64_t rows, int64_t depth, int64_t columns) : a(left), M(rows), K(depth) {
    const bool much_read = left.col > kLeftRows && columns >= kMuchRead;
    if (Word::kDepth == 1 && !much_read) return;
    const int64_t k = (depth + Word::kDepth - 1) / Word::kDepth;
    if (left.col == 1 || much_read) row = (vectors_of(k) + 1) * kLanes;  // not a multiple of 4 KiB: cache sets
    words = static_cast<float*>(scratch(Scratch::gemm_a, 4 * (row > 0 ? M * row : blocks() * kLeftColumns * k)));
  }
  int64_t blocks() const { return (M + kLeftRows - 1) / kLeftRows; }
  int64_t height(int64_t block) const { return smaller(kLeftRows, M - block * kLeftRows); }
  Left operator[](int64_t block) const {
    const int64_t m = block * kLeftRows, k = (K + Word::kDepth - 1) / Word::kDepth;
    if (words == nullptr) return {a.p + m * a.row, a.row, a.col};
    if (row > 0) return {words + m * row, row, 1};
    return {words + block * kLeftColumns * k, 1, vectors_of(height(block)) * kLanes};
  }
  void pack(int64_t block) const noexcept {
    if (words == nullptr) return;
    const Left to = (*this)[block], from{a.p + block * kLeftRows * a.row, a.row, a.col};
    pack_left(const_cast<float*>(to.p), to, from, K, height(block), Word());
  }

 private:
  static constexpr int64_t kLeftColumns = vectors_of(kLeftRows) * kLanes;
};

inline const char* start(const Right& b, int64_t row, int64_t column) noexcept {
  return static_cast<const char*>(b.p) + (row * b.row + column) * b.bytes();
}

/// One panel of one output, k in [k, k + depth): each part of B is packed once and meets all rows of A.
template <class Word>
void multiply_block(const LeftWords<Word>& a, const Output& out, int64_t n, int64_t k, int64_t depth,
                    int64_t step) noexcept {
  const int64_t width = smaller(kPanel, out.last - n), vectors = vectors_of(width);
  const int tail = static_cast<int>(width - (vectors - 1) * kLanes);
  const Right& b = out.b;
  const bool direct = Word::kDepth == 1 && !b.half && !b.transposed && (b.row <= 2 * kPanel || a.M < kPackFromRows);
  float* packed =
      direct ? nullptr : static_cast<float*>(scratch(Scratch::gemm_b, kBlockWords * kPanel * int64_t{sizeof(float)}));
  if (direct) step = depth;
  for (int64_t i = 0; i < depth; i += step) {
    const int64_t part = smaller(step, depth - i);
    const bool stream = step < depth;  // the panel's next part, or the next panel's first
    Ahead ahead;                       // the next panel
    if (!direct) {
      pack_panel<Word>(packed, b, k + i, part, n, width, !stream ? 0 : i + step < depth ? step : kPanel * b.row - i);
      if (!stream && n + kPanel < out.last)
        ahead = b.transposed ? Ahead{start(b, n + kPanel, k), b.row * b.bytes(), depth * b.bytes(),
                                     smaller(kPanel, out.last - n - kPanel)}
                             : Ahead{start(b, k, n + kPanel), b.row * b.bytes(), kPanel * b.bytes(), depth};
    }
    for (int64_t block = 0; block < a.blocks(); ++block) {
      const Left words = a[block];
      const Tile t{words.p + (k + i) / Word::kDepth * words.col,
                   words.row,
                   words.col,
                   direct ? static_cast<const float*>(b.p) + (k + i) * b.row + n : packed,
                   direct ? b.row : vectors * kLanes,
                   out.c + block * kLeftRows * out.c_row + n,
                   out.c_row,
                   (part + Word::kDepth - 1) / Word::kDepth,
                   out.bias != nullptr && k + i + part == a.K ? out.bias + n : nullptr,
                   out.accumulate || k + i > 0,
                   tail};
      const Ahead& asked = block + 1 == a.blocks() ? ahead : Ahead();
      direct&& tail < kLanes ? multiply_panel<Word, true>(t, a.height(block), vectors)
                             : multiply_panel<Word, false>(t, a.height(block), vectors, asked);
    }
  }
}

/// All rows of the outputs, on the calling thread.
template <class Word>
void multiply(const LeftWords<Word>& a, const Output* outputs, int64_t count) noexcept {
  const bool few = a.M <= kFewRows;
  const int64_t block = few ? a.K : kBlockWords * Word::kDepth;
  const int64_t step = few ? kStreamWords * Word::kDepth : block;
  for (const Output* out = outputs; out != outputs + count; ++out)
    for (int64_t n = out->first; n < out->last; n += kPanel)
      for (int64_t k = 0; k < a.K; k += block) multiply_block(a, *out, n, k, smaller(block, a.K - k), step);
}

/// Items of `cost` multiplications each that are worth a thread: about 20 microseconds.
constexpr int64_t grain_of(int64_t cost) { return 1 + (int64_t{1} << 20) / (cost + 1); }

/// The same outputs from row m on.
inline void below_row(Output* to, const Output* outputs, int64_t count, int64_t m) noexcept {
  for (int64_t i = 0; i < count; ++i) {
    to[i] = outputs[i];
    to[i].c += m * outputs[i].c_row;
  }
}

/// Threads share the rows; each packs all of B.
template <class Word>
void multiply_by_rows(const Left& a, int64_t M, int64_t K, const Output* outputs, int64_t count) noexcept {
  int64_t columns = 0;
  for (int64_t i = 0; i < count; ++i) columns += outputs[i].last - outputs[i].first;
  parallel_for(M, grain_of(columns * K), [=](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; m += kMostRows) {
      const LeftWords<Word> mine({a.p + m * a.row, a.row, a.col}, smaller(kMostRows, end - m), K, columns);
      for (int64_t i = 0; i < mine.blocks(); ++i) mine.pack(i);
      Output below[kMaxOutputs];
      below_row(below, outputs, count, m);
      multiply(mine, below, count);
    }
  });
}

/// Threads share the column panels of all outputs; A is packed once.
template <class Word>
void multiply_by_columns(const Left& left, int64_t M, int64_t K, const Output* outputs, int64_t count,
                         int64_t panels) noexcept {
  const LeftWords<Word> a(left, M, K, panels * kPanel);
  parallel_for(a.blocks(), grain_of(kLeftRows * K / 8), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) a.pack(i);
  });
  parallel_for(panels, grain_of((M + 4) * kPanel * K), [&](int64_t begin, int64_t end) {
    Output mine[kMaxOutputs];
    int64_t n = 0, before = 0;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t size = (outputs[i].last - outputs[i].first + kPanel - 1) / kPanel;
      const int64_t from = begin > before ? begin - before : 0, to = smaller(end - before, size);
      if (from < to) {
        mine[n] = outputs[i];
        mine[n].last = smaller(outputs[i].last, outputs[i].first + to * kPanel);
        mine[n++].first = outputs[i].first + from * kPanel;
      }
      before += size;
    }
    multiply(a, mine, n);
  });
}

template <class Word>
void multiply_parallel(const Left& a, int64_t M, int64_t K, const Output* outputs, int64_t count) noexcept {
  int64_t panels = 0;
  for (int64_t i = 0; i < count; ++i) panels += (outputs[i].last - outputs[i].first + kPanel - 1) / kPanel;
  const auto share = [](int64_t items) { return (items + threads() - 1) / threads(); };
  if (share(panels) * (M + kPackedAsRows) > panels * (share(M) + kPackedAsRows))
    return multiply_by_rows<Word>(a, M, K, outputs, count);
  for (int64_t m = 0; m < M; m += kMostRows) {
    Output below[kMaxOutputs];
    below_row(below, outputs, count, m);
    multiply_by_columns<Word>({a.p + m * a.row, a.row, a.col}, smaller(kMostRows, M - m), K, below, count, panels);
  }
}

/// C = A·B of all outputs, on all threads.
inline void multiply_parallel(Precision precision, const Left& a, int64_t M, int64_t K, const Output* outputs,
                              int64_t count) noexcept {
#if QWERKY_ISA == 512
  if (precision == Precision::bf16) return multiply_parallel<WordBf16>(a, M, K, outputs, count);
#endif
  static_cast<void>(precision);
  multiply_parallel<WordF32>(a, M, K, outputs, count);
}

namespace kernels {

/// Of weights in rows: products of one x run together.
inline void linear_rows(Precision precision, std::span<const Product> products) noexcept {
  Output outputs[kMaxOutputs];
  int64_t n = 0;
  for (const Product& p : products) {
    const int64_t K = p.x.cols(), out = p.y.cols();
    const Right w{p.weight.data, p.in_out ? out : K, !p.in_out, p.weight.type == DType::bf16};
    outputs[n++] = {w, p.y.as<float>(), out, p.bias ? p.bias.as<float>() : nullptr, false, 0, out};
    const Product* next = &p == &products.back() ? nullptr : &p + 1;
    if (next == nullptr || next->x.data != p.x.data || n == kMaxOutputs) {
      multiply_parallel(precision, {p.x.as<float>(), K, 1}, p.x.row_count(), K, outputs, n);
      n = 0;
    }
  }
}

/// sum[c] += Σ_r p[r, c], each column in row order.
inline void add_column_sums(float* sum, const float* p, int64_t rows, int64_t columns) noexcept {
  parallel_for((columns + kLanes - 1) / kLanes, grain_of(8 * kLanes * rows), [=](int64_t begin, int64_t end) {
    sweep(smaller(columns, end * kLanes) - begin * kLanes, [=](int64_t i, auto lanes) {
      const float* from = p + begin * kLanes + i;
      V s = load(sum + begin * kLanes + i, lanes);
      for (int64_t r = 0; r < rows; ++r) s += load(from + r * columns, lanes);
      store(sum + begin * kLanes + i, s, lanes);
    });
  });
}

inline void linear_vjp(Precision precision, Tensor x, Tensor dx, std::span<const ProductVjp> products,
                       Into into) noexcept {
  const int64_t R = x.row_count(), K = x.cols();
  bool accumulate = into == Into::add;
  for (const ProductVjp& p : products) {
    const int64_t out = p.dy.cols();
    const float* dy = p.dy.as<float>();
    if (dx) {
      const Right w{p.weight.data, p.in_out ? out : K, p.in_out, p.weight.type == DType::bf16};
      const Output o{w, dx.as<float>(), K, nullptr, accumulate, 0, K};
      multiply_parallel(precision, {dy, out, 1}, R, out, &o, 1);
      accumulate = true;
    }
    if (p.dweight) {  // [out, K] += dyᵀ x, or [K, out] += xᵀ dy
      const float *l = p.in_out ? x.as<float>() : dy, *r = p.in_out ? dy : x.as<float>();
      const int64_t rows = p.in_out ? K : out, columns = p.in_out ? out : K;
      const Output o{{r, columns, false, false}, p.dweight.as<float>(), columns, nullptr, true, 0, columns};
      multiply_parallel(precision, {l, 1, rows}, rows, R, &o, 1);
    }
    if (p.dbias) add_column_sums(p.dbias.as<float>(), dy, R, out);
  }
}

template <class T>
void embed_rows(float* y, const T* table, const int32_t* tokens, int64_t rows, int64_t D) noexcept {
  parallel_for(rows, grain_of(8 * D), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      sweep(D, [=](int64_t i, auto lanes) { store(y + r * D + i, widen(table + tokens[r] * D + i, lanes), lanes); });
  });
}

inline void embed(Tensor y, Tensor table, std::span<const int32_t> tokens) noexcept {
  const int64_t rows = static_cast<int64_t>(tokens.size());
  if (table.type == DType::bf16)
    embed_rows(y.as<float>(), table.as<bf16>(), tokens.data(), rows, y.cols());
  else
    embed_rows(y.as<float>(), table.as<float>(), tokens.data(), rows, y.cols());
}

/// Rows in order; threads share the columns.
inline void embed_vjp(Tensor dtable, Tensor dy, std::span<const int32_t> tokens) noexcept {
  const int64_t D = dy.cols(), rows = static_cast<int64_t>(tokens.size());
  const int32_t* token = tokens.data();
  float* to = dtable.as<float>();
  const float* from = dy.as<float>();
  parallel_for((D + kLanes - 1) / kLanes, grain_of(16 * kLanes * rows), [=](int64_t begin, int64_t end) {
    const int64_t first = begin * kLanes, width = smaller(D, end * kLanes) - first;
    for (int64_t r = 0; r < rows; ++r)
      sweep(width, [=](int64_t i, auto lanes) {
        float* p = to + token[r] * D + first + i;
        store(p, load(p, lanes) + load(from + r * D + first + i, lanes), lanes);
      });
  });
}

}  // namespace kernels
