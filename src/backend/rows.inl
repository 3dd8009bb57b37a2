// SPDX-License-Identifier: MIT
// Norms, activations, gates, rotations and shifts: everything that works row by row. Included in the namespace of one
// instruction set after simd.h. Each function is the Backend operation of the same name.
//
// A row's result depends on that row alone. Gradients of parameters are summed over blocks of kBlockRows rows, and the
// blocks in order, so they do not depend on the threads.

namespace kernels {

constexpr int64_t kRowWork = 16384;  ///< elements worth a thread
constexpr int64_t kBlockRows = 32;

inline int64_t row_grain(int64_t cols) { return std::max<int64_t>(1, kRowWork / std::max<int64_t>(1, cols)); }
inline int64_t row_blocks(int64_t rows) { return (rows + kBlockRows - 1) / kBlockRows; }

/// body(i, lanes) over [0, n), the range split over threads.
template <class Body>
inline void each_element(int64_t n, const Body& body) {
  parallel_for(n, kRowWork, [&body](int64_t begin, int64_t end) {
    sweep(
        end - begin, [&](int64_t i, auto lanes) __attribute__((always_inline)) { body(begin + i, lanes); });
  });
}

/// The elements of a parameter as f32: its own memory, or `buffer` when they have to be widened.
inline const float* parameter(const Tensor& t, float* buffer) {
  if (t.type != DType::bf16) return t.as<float>();
  const bf16* from = t.as<bf16>();
  int64_t i = 0;
  for (; i + kLanes <= t.count(); i += kLanes) store(buffer + i, load_bf16(from + i));
  if (i < t.count()) {
    const int rest = static_cast<int>(t.count() - i);
    store(buffer + i, load_bf16(from + i, rest), rest);
  }
  return buffer;
}

/// body(first, last, partial) over blocks of rows, where partial is zeroed [width]; returns how many blocks.
template <class Body>
inline int64_t each_row_block(int64_t rows, int64_t cols, float* partials, int64_t width, const Body& body) {
  const int64_t blocks = row_blocks(rows);
  parallel_for(blocks, std::max<int64_t>(1, row_grain(cols) / kBlockRows), [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      float* partial = partials + b * width;
      std::memset(partial, 0, static_cast<size_t>(width) * sizeof(float));
      body(b * kBlockRows, std::min(rows, (b + 1) * kBlockRows), partial);
    }
  });
  return blocks;
}

/// total[0 … n) += Σ_b partials[b · stride + 0 … n).
inline void add_blocks(float* total, const float* partials, int64_t blocks, int64_t stride, int64_t n) {
  sweep(
      n, [&](int64_t i, auto lanes) __attribute__((always_inline)) {
        V s = zero();
        for (int64_t b = 0; b < blocks; ++b) s += load(partials + b * stride + i, lanes);
        store(total + i, load(total + i, lanes) + s, lanes);
      });
}

/// Σ term(i, lanes) over [0, n), in four interleaved sums. Lanes past n must be 0.
template <class Term>
QWERKY_INLINE V sum_terms(int64_t n, const Term& term) {
  V s0 = zero(), s1 = zero(), s2 = zero(), s3 = zero();
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    s0 = term(i, AllLanes{}, s0);
    s1 = term(i + kLanes, AllLanes{}, s1);
    s2 = term(i + 2 * kLanes, AllLanes{}, s2);
    s3 = term(i + 3 * kLanes, AllLanes{}, s3);
  }
  for (; i + kLanes <= n; i += kLanes) s0 = term(i, AllLanes{}, s0);
  if (i < n) s1 = term(i, FirstLanes{static_cast<int>(n - i)}, s1);
  return (s0 + s1) + (s2 + s3);
}

QWERKY_INLINE float square_root(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }

/// 1 / sqrt(mean(x²) + eps)
QWERKY_INLINE float inverse_rms(const float* x, int64_t n, float eps) {
  const float squares = sum(sum_terms(
      n, [x](int64_t i, auto lanes, V s) __attribute__((always_inline)) {
        const V v = load(x + i, lanes);
        return fma(v, v, s);
      }));
  return 1.0f / square_root(squares / static_cast<float>(n) + eps);
}

inline void add(Tensor y, Tensor x) {
  float* py = y.as<float>();
  const float* px = x.as<float>();
  each_element(
      y.count(), [=](int64_t i, auto lanes) __attribute__((always_inline)) {
        store(py + i, load(py + i, lanes) + load(px + i, lanes), lanes);
      });
}

inline void lerp(Tensor y, Tensor x, double t) {
  float* py = y.as<float>();
  const float* px = x.as<float>();
  const V share = set(static_cast<float>(t));
  each_element(
      y.count(), [=](int64_t i, auto lanes) __attribute__((always_inline)) {
        const V from = load(py + i, lanes);
        store(py + i, fma(share, load(px + i, lanes) - from, from), lanes);
      });
}

inline void rmsnorm(Tensor y, Tensor x, Tensor gain, double eps) {
  const int64_t D = x.cols();
  float* py = y.as<float>();
  const float* px = x.as<float>();
  const float* g = parameter(gain, static_cast<float*>(scratch(Scratch::rows, D * 4)));
  const float small = static_cast<float>(eps);
  parallel_for(x.row_count(), row_grain(D), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* a = px + r * D;
      float* b = py + r * D;
      const V s = set(inverse_rms(a, D, small));
      sweep(
          D, [=](int64_t i, auto lanes)
                 __attribute__((always_inline)) { store(b + i, load(a + i, lanes) * s * load(g + i, lanes), lanes); });
    }
  });
}

inline void add_rmsnorm(Tensor sum_out, Tensor y, Tensor a, Tensor b, Tensor gain, double eps) {
  const int64_t D = y.cols();
  float *ps = sum_out.as<float>(), *py = y.as<float>();
  const float *pa = a.as<float>(), *pb = b.as<float>();
  const float* g = parameter(gain, static_cast<float*>(scratch(Scratch::rows, D * 4)));
  const float small = static_cast<float>(eps);
  parallel_for(y.row_count(), row_grain(D), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t at = r * D;
      const float squares = sum(sum_terms(
          D, [=](int64_t i, auto lanes, V total) __attribute__((always_inline)) {
            const V v = load(pa + at + i, lanes) + load(pb + at + i, lanes);
            store(ps + at + i, v, lanes);
            return fma(v, v, total);
          }));
      const V s = set(1.0f / square_root(squares / static_cast<float>(D) + small));
      sweep(
          D, [=](int64_t i, auto lanes) __attribute__((always_inline)) {
            store(py + at + i, load(ps + at + i, lanes) * s * load(g + i, lanes), lanes);
          });
    }
  });
}

/// With s = 1 / rms(x):  dx = s dy gain - x s³ mean(dy gain x),  dgain = Σ_rows dy x s.
inline void rmsnorm_vjp(Tensor dx, Tensor dgain, Tensor dy, Tensor x, Tensor gain, double eps, Into into) {
  const int64_t D = x.cols(), R = x.row_count(), width = dgain ? D : 0;
  float* const memory = static_cast<float*>(scratch(Scratch::rows, (row_blocks(R) * width + D) * 4));
  const float* g = parameter(gain, memory);
  float* const pdx = dx.as<float>();
  const float *pdy = dy.as<float>(), *px = x.as<float>();
  const float small = static_cast<float>(eps);
  const bool accumulate = into == Into::add, wants_gain = static_cast<bool>(dgain);
  const int64_t blocks = each_row_block(R, D, memory + D, width, [=](int64_t first, int64_t last, float* partial) {
    for (int64_t r = first; r < last; ++r) {
      const float *a = px + r * D, *d = pdy + r * D;
      const float s = inverse_rms(a, D, small);
      const float dot = sum(sum_terms(
          D, [=](int64_t i, auto lanes, V total) __attribute__((always_inline)) {
            return fma(load(d + i, lanes) * load(g + i, lanes), load(a + i, lanes), total);
          }));
      const V scale = set(s), back = set(dot * s * s * s / static_cast<float>(D));
      float* out = pdx ? pdx + r * D : nullptr;
      sweep(
          D, [=](int64_t i, auto lanes) __attribute__((always_inline)) {
            const V dv = load(d + i, lanes), xv = load(a + i, lanes), ds = dv * scale;
            if (wants_gain) store(partial + i, fma(ds, xv, load(partial + i, lanes)), lanes);
            if (out == nullptr) return;
            const V v = fnma(xv, back, ds * load(g + i, lanes));
            store(out + i, accumulate ? load(out + i, lanes) + v : v, lanes);
          });
    }
  });
  if (dgain) add_blocks(dgain.as<float>(), memory + D, blocks, D, D);
}

/// What one head of a row looks like to the group norm.
struct Moments {
  float mean, scale;  // scale = 1 / sqrt(var + eps)
};
QWERKY_INLINE Moments moments(const float* x, int64_t n, float eps) {
  const float mean =
      sum(sum_terms(
          n, [=](int64_t i, auto lanes, V s) __attribute__((always_inline)) { return s + load(x + i, lanes); })) /
      static_cast<float>(n);
  const V m = set(mean);
  const float squares = sum(sum_terms(
      n, [=](int64_t i, auto lanes, V s) __attribute__((always_inline)) {
        const V c = keep(lanes, load(x + i, lanes) - m);
        return fma(c, c, s);
      }));
  return {mean, 1.0f / square_root(squares / static_cast<float>(n) + eps)};
}

/// A row of heads of eight channels, so that a vector holds whole heads. n is the normalised input.
template <class Body>
QWERKY_INLINE void each_head_of_eight(const float* x, int64_t cols, float eps, const Body& body) {
  const V eighth = set(0.125f);
  sweep(
      cols, [&](int64_t i, auto lanes) __attribute__((always_inline)) {
        const V v = load(x + i, lanes);
        const V c = v - sum_of_eight(v) * eighth;
        const V scale = set(1.0f) / sqrt(fma(sum_of_eight(c * c), eighth, set(eps)));
        body(i, lanes, c * scale, scale);
      });
}

inline void groupnorm(Tensor y, Tensor x, Tensor gain, Tensor bias, int heads, double eps) {
  const int64_t A = x.cols(), N = A / heads;
  float* const memory = static_cast<float*>(scratch(Scratch::rows, 2 * A * 4));
  const float *g = parameter(gain, memory), *b = parameter(bias, memory + A), *px = x.as<float>();
  float* const py = y.as<float>();
  const float small = static_cast<float>(eps);
  parallel_for(x.row_count(), row_grain(A), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* a = px + r * A;
      float* out = py + r * A;
      if (N == 8) {
        each_head_of_eight(
            a, A, small, [=](int64_t i, auto lanes, V n, V) __attribute__((always_inline)) {
              store(out + i, fma(n, load(g + i, lanes), load(b + i, lanes)), lanes);
            });
        continue;
      }
      for (int64_t c = 0; c < A; c += N) {
        const Moments m = moments(a + c, N, small);
        const V mean = set(m.mean), scale = set(m.scale);
        sweep(
            N, [=](int64_t i, auto lanes) __attribute__((always_inline)) {
              const V n = (load(a + c + i, lanes) - mean) * scale;
              store(out + c + i, fma(n, load(g + c + i, lanes), load(b + c + i, lanes)), lanes);
            });
      }
    }
  });
}

/// With n the normalised input and dn = dy gain:  dx = scale (dn - mean(dn) - n mean(dn n)),  dgain = Σ dy n,
/// dbias = Σ dy.
inline void groupnorm_vjp(Tensor dx, Tensor dgain, Tensor dbias, Tensor dy, Tensor x, Tensor gain, int heads,
                          double eps) {
  const int64_t A = x.cols(), N = A / heads, R = x.row_count();
  float* const memory = static_cast<float*>(scratch(Scratch::rows, (row_blocks(R) * 2 * A + A) * 4));
  const float *g = parameter(gain, memory), *px = x.as<float>(), *pdy = dy.as<float>();
  float* const pdx = dx.as<float>();
  const float small = static_cast<float>(eps);
  const auto body = [=](int64_t first, int64_t last, float* partial) {
    float* const to_bias = partial + A;
    for (int64_t r = first; r < last; ++r) {
      const float *a = px + r * A, *d = pdy + r * A;
      float* out = pdx + r * A;
      const auto add_to_partials = [=](int64_t i, auto lanes, V n, V dv) __attribute__((always_inline)) {
        store(partial + i, fma(dv, n, load(partial + i, lanes)), lanes);
        store(to_bias + i, dv + load(to_bias + i, lanes), lanes);
      };
      if (N == 8) {
        const V eighth = set(0.125f);
        each_head_of_eight(
            a, A, small, [=](int64_t i, auto lanes, V n, V scale) __attribute__((always_inline)) {
              const V dv = load(d + i, lanes), dn = dv * load(g + i, lanes);
              const V mean = sum_of_eight(dn) * eighth, slope = sum_of_eight(dn * n) * eighth;
              add_to_partials(i, lanes, n, dv);
              store(out + i, scale * fnma(n, slope, dn - mean), lanes);
            });
        continue;
      }
      for (int64_t c = 0; c < A; c += N) {
        const Moments m = moments(a + c, N, small);
        const V mean = set(m.mean), scale = set(m.scale);
        V dn_sum = zero(), dot = zero();
        sweep(
            N, [&](int64_t i, auto lanes) __attribute__((always_inline)) {
              const V n = (load(a + c + i, lanes) - mean) * scale;
              const V dv = load(d + c + i, lanes), dn = dv * load(g + c + i, lanes);
              dn_sum += dn;
              dot = fma(dn, n, dot);
              add_to_partials(c + i, lanes, n, dv);
            });
        const V dn_mean = set(sum(dn_sum) / static_cast<float>(N)), slope = set(sum(dot) / static_cast<float>(N));
        sweep(
            N, [=](int64_t i, auto lanes) __attribute__((always_inline)) {
              const V n = (load(a + c + i, lanes) - mean) * scale;
              const V dn = load(d + c + i, lanes) * load(g + c + i, lanes);
              store(out + c + i, scale * fnma(n, slope, dn - dn_mean), lanes);
            });
      }
    }
  };
  const int64_t blocks = each_row_block(R, A, memory + A, 2 * A, body);
  if (dgain) add_blocks(dgain.as<float>(), memory + A, blocks, 2 * A, A);
  if (dbias) add_blocks(dbias.as<float>(), memory + 2 * A, blocks, 2 * A, A);
}

/// body(i in narrow, i in wide, lanes), where narrow [R, n] lies at column `first` of wide [R, cols].
template <class Body>
inline void each_activated(int64_t rows, int64_t n, int64_t cols, int64_t first, const Body& body) {
  parallel_for(rows, row_grain(n), [&body, n, cols, first](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      sweep(
          n, [&](int64_t i, auto lanes)
                 __attribute__((always_inline)) { body(r * n + i, r * cols + first + i, lanes); });
  });
}

inline void activate(Tensor y, Tensor x, Activation f, int64_t first) {
  float* const py = y.as<float>();
  const float* const px = x.as<float>();
  if (f == Activation::tanh)
    each_activated(
        y.row_count(), y.cols(), x.cols(),
        first, [=](int64_t to, int64_t from, auto lanes) __attribute__((always_inline)) {
          store(py + to, tanh(load(px + from, lanes)), lanes);
        });
  else
    each_activated(
        y.row_count(), y.cols(), x.cols(),
        first, [=](int64_t to, int64_t from, auto lanes) __attribute__((always_inline)) {
          store(py + to, sigmoid(load(px + from, lanes)), lanes);
        });
}

inline void activate_vjp(Tensor dx, Tensor dy, Tensor y, Activation f, int64_t first) {
  float* const pdx = dx.as<float>();
  const float *const pdy = dy.as<float>(), *const py = y.as<float>();
  const bool is_tanh = f == Activation::tanh;
  each_activated(
      y.row_count(), y.cols(), dx.cols(),
      first, [=](int64_t from, int64_t to, auto lanes) __attribute__((always_inline)) {
        const V v = load(py + from, lanes);
        const V slope = is_tanh ? fnma(v, v, set(1.0f)) : fnma(v, v, v);
        store(pdx + to, load(pdy + from, lanes) * slope, lanes);
      });
}

inline void swiglu_row(float* y, const float* gate, const float* up, int64_t n) {
  sweep(
      n, [=](int64_t i, auto lanes) __attribute__((always_inline)) {
        const V g = load(gate + i, lanes);
        store(y + i, g * sigmoid(g) * load(up + i, lanes), lanes);
      });
}
inline void swiglu(Tensor y, Tensor gate, Tensor up) {
  parallel_for(y.count(), kRowWork, [=](int64_t begin, int64_t end) {
    swiglu_row(y.as<float>() + begin, gate.as<float>() + begin, up.as<float>() + begin, end - begin);
  });
}

inline void swiglu_vjp(Tensor dgate, Tensor dup, Tensor dy, Tensor gate, Tensor up) {
  float *const pdg = dgate.as<float>(), *const pdu = dup.as<float>();
  const float *const pdy = dy.as<float>(), *const pg = gate.as<float>(), *const pu = up.as<float>();
  each_element(
      dy.count(), [=](int64_t i, auto lanes) __attribute__((always_inline)) {
        const V g = load(pg + i, lanes), s = sigmoid(g), d = load(pdy + i, lanes), ds = d * s;
        const V du = ds * g, dg = ds * load(pu + i, lanes) * fma(g, set(1.0f) - s, set(1.0f));
        store(pdg + i, dg, lanes);
        store(pdu + i, du, lanes);
      });
}

inline void gate(Tensor y, Tensor o, Tensor g, bool squash) {
  float* const py = y.as<float>();
  const float *const po = o.as<float>(), *const pg = g.as<float>();
  each_element(
      y.count(), [=](int64_t i, auto lanes) __attribute__((always_inline)) {
        const V v = load(pg + i, lanes);
        store(py + i, load(po + i, lanes) * (squash ? sigmoid(v) : v), lanes);
      });
}

inline void gate_vjp(Tensor d_o, Tensor dg, Tensor dy, Tensor o, Tensor g, bool squash) {
  float *const pdo = d_o.as<float>(), *const pdg = dg.as<float>();
  const float *const pdy = dy.as<float>(), *const po = o.as<float>(), *const pg = g.as<float>();
  each_element(
      dy.count(), [=](int64_t i, auto lanes) __attribute__((always_inline)) {
        const V raw = load(pg + i, lanes), d = load(pdy + i, lanes), v = squash ? sigmoid(raw) : raw;
        const V to_gate = d * load(po + i, lanes);
        store(pdg + i, squash ? to_gate * fnma(v, v, v) : to_gate, lanes);
        store(pdo + i, d * v, lanes);
      });
}

inline void rope(Tensor x, Tensor table, bool transpose) {
  const int64_t N = table.cols(), half = N / 2, A = x.cols();
  float* const px = x.as<float>();
  const float* const angles = table.as<float>();
  const V turn = set(transpose ? -1.0f : 1.0f);
  alignas(64) float minus_plus[kLanes];
  for (int i = 0; i < kLanes; ++i) minus_plus[i] = ((i & 4) != 0) != transpose ? 1.0f : -1.0f;
  const V signs = load(minus_plus);
  parallel_for(x.row_count(), row_grain(A), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      float* const row = px + r * A;
      const float *const c = angles + r * N, *const s = c + half;
      if (half == 4) {  // a vector holds whole heads: x · (c c) + (second, first) · (-s s)
        const V cc = repeat_4(c), ss = repeat_4(s) * signs;
        sweep(
            A, [=](int64_t i, auto lanes) __attribute__((always_inline)) {
              const V v = load(row + i, lanes);
              store(row + i, fma(swap_4(v), ss, v * cc), lanes);
            });
        continue;
      }
      sweep(
          half, [=](int64_t i, auto lanes) __attribute__((always_inline)) {
            const V cos = load(c + i, lanes), sin = load(s + i, lanes) * turn;
            for (int64_t head = 0; head < A; head += N) {
              float *const first = row + head + i, *const second = first + half;
              const V a = load(first, lanes), b = load(second, lanes);
              store(first, fnma(b, sin, a * cos), lanes);
              store(second, fma(a, sin, b * cos), lanes);
            }
          });
    }
  });
}

inline void token_shift(Tensor delta, Tensor x, Batch batch, int64_t offset) {
  const int64_t D = x.cols();
  for (const Segment& s : batch) {
    if (s.rows == 0) continue;
    float* const last = s.state != nullptr ? s.state->at(offset, D).as<float>() : nullptr;
    float* const out = delta.as<float>() + s.row * D;
    const float* const in = x.as<float>() + s.row * D;
    parallel_for(s.rows, row_grain(D), [=](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const float* const here = in + t * D;
        const float* const before = t > 0 ? here - D : last;
        sweep(
            D, [=](int64_t i, auto lanes) __attribute__((always_inline)) {
              const V old = before != nullptr ? load(before + i, lanes) : zero();
              store(out + t * D + i, old - load(here + i, lanes), lanes);
            });
      }
    });
    if (last != nullptr) std::memcpy(last, in + (s.rows - 1) * D, static_cast<size_t>(D) * sizeof(float));
  }
}

inline void token_shift_vjp(Tensor dx, Tensor ddelta, Batch batch) {
  const int64_t D = dx.cols();
  for (const Segment& s : batch) {
    float* const out = dx.as<float>() + s.row * D;
    const float* const in = ddelta.as<float>() + s.row * D;
    const int64_t rows = s.rows;
    parallel_for(rows, row_grain(D), [=](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const float *const here = in + t * D, *const next = t + 1 < rows ? here + D : nullptr;
        sweep(
            D, [=](int64_t i, auto lanes) __attribute__((always_inline)) {
              const V later = next != nullptr ? load(next + i, lanes) : zero();
              store(out + t * D + i, load(out + t * D + i, lanes) + (later - load(here + i, lanes)), lanes);
            });
      }
    });
  }
}

inline void shift_mix(Tensor y, Tensor x, Tensor delta, Tensor mu, Tensor m) {
  const int64_t D = x.cols();
  const float* const pmu = parameter(mu, static_cast<float*>(scratch(Scratch::rows, D * 4)));
  float* const py = y.as<float>();
  const float *const px = x.as<float>(), *const pd = delta.as<float>(), *const pm = m.as<float>();
  parallel_for(y.row_count(), row_grain(D), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      sweep(
          D, [=](int64_t i, auto lanes) __attribute__((always_inline)) {
            const int64_t at = r * D + i;
            const V weight = pm != nullptr ? load(pmu + i, lanes) + load(pm + at, lanes) : load(pmu + i, lanes);
            store(py + at, fma(load(pd + at, lanes), weight, load(px + at, lanes)), lanes);
          });
  });
}

inline void shift_mix_vjp(Tensor dx, Tensor ddelta, Tensor dmu, Tensor dm, Tensor dy, Tensor delta, Tensor mu,
                          Tensor m) {
  const int64_t D = dy.cols(), R = dy.row_count(), width = dmu ? D : 0;
  float* const memory = static_cast<float*>(scratch(Scratch::rows, (row_blocks(R) * width + D) * 4));
  const float* const pmu = parameter(mu, memory);
  float *const pdx = dx.as<float>(), *const pdd = ddelta.as<float>(), *const pdm = dm.as<float>();
  const float *const pdy = dy.as<float>(), *const pd = delta.as<float>(), *const pm = m.as<float>();
  const int64_t blocks = each_row_block(R, D, memory + D, width, [=](int64_t first, int64_t last, float* partial) {
    for (int64_t r = first; r < last; ++r)
      sweep(
          D, [=](int64_t i, auto lanes) __attribute__((always_inline)) {
            const int64_t at = r * D + i;
            const V d = load(pdy + at, lanes), to_weight = d * load(pd + at, lanes);
            const V weight = pm != nullptr ? load(pmu + i, lanes) + load(pm + at, lanes) : load(pmu + i, lanes);
            if (pdx != nullptr) store(pdx + at, load(pdx + at, lanes) + d, lanes);
            if (pdd != nullptr) store(pdd + at, fma(d, weight, load(pdd + at, lanes)), lanes);
            if (pdm != nullptr) store(pdm + at, to_weight, lanes);
            if (width > 0) store(partial + i, load(partial + i, lanes) + to_weight, lanes);
          });
  });
  if (dmu) add_blocks(dmu.as<float>(), memory + D, blocks, D, D);
}

}  // namespace kernels
