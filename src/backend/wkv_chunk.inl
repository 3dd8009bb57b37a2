// SPDX-License-Identifier: MIT
// WKV-6 and WKV-7 by chunks of c <= kChunk rows, as matrix products. With G_i the sum of log_w over the chunk's rows up
// to and with i, E_i = G_i - log_w_i, m = G of the middle row, b = -a κ, S the state before, and
//   R = r e^{G-m}   A = κ e^{E-m}   K = k e^{m-G}   B = b e^{m-G}   S' = e^m S
// the recurrence becomes (WKV-6: without A, B and Z)
//   Z = A S' + lower(A Kᵀ) V + lower(A Bᵀ) Z        by forward substitution; lower: below the diagonal
//   o = scale (R S' + tril(R Kᵀ) V + tril(R Bᵀ) Z)   tril: with the diagonal
//   S <- e^{G_c - m} (S' + Kᵀ V + Bᵀ Z)
// In memory R and A lie on top of each other (Q, h = 2c rows or c), K and B (Y), V and Z (X), so that M = Q Yᵀ is one
// product. Exponents stay within ± 8 · 5 for WKV-6 (log_w >= -5): f32 holds even the squares of e^40 that are masked.
// Chunks end at positions of the sequence that are multiples of kChunk; a chunk of few rows goes row by row. Forward, S
// is scaled by e^{G_c - m} and then by the next e^m, rounded in between, as if it had been stored: where a sequence is
// cut into calls at such positions, no bit changes.

namespace kernels {

constexpr int kChunk = 16;
/// Rows of a chunk from which products are faster than going row by row, in heads of N.
constexpr int chunk_from_rows(int N) { return N < 256 ? kChunk : 4; }
constexpr int kStack = 2 * kChunk;  ///< rows of Q, Y, X; also the row length of M

/// Scratch of one chunk of one head: matrices [kStack, padded] unless said otherwise.
struct Chunk {
  int N;
  int64_t padded;
  int c = 0, h = 0;           // rows of the chunk, of Q
  float *q, *y, *x, *y_t;     // y_t [N, kStack]: Yᵀ
  float* decay;               // [kChunk + 1, padded]: e^{E_0 - m}, then e^{G_i - m}
  float *middle, *from, *to;  // [padded]: m, e^m and e^{G_c - m}
  float* m;                   // [kStack, kStack]

  static int64_t floats(int64_t padded) { return (4 * kStack + kChunk + 1 + 3) * padded + kStack * kStack; }
  Chunk(int n, float* memory) : N(n), padded(whole_vectors(n)) {
    const auto take = [&memory](int64_t count) { return (memory += count) - count; };
    q = take(kStack * padded), y = take(kStack * padded), x = take(kStack * padded), y_t = take(kStack * padded);
    decay = take((kChunk + 1) * padded), middle = take(padded), from = take(padded), to = take(padded);
    m = take(kStack * kStack);
  }
};

/// Reads `rows` rows of a head: everything above but Z, Yᵀ and M.
template <bool kDelta>
void load_chunk(Chunk& u, const HeadRows& p, int rows) {
  u.c = rows;
  u.h = kDelta ? 2 * rows : rows;
  const int64_t second = rows * u.padded;
  clear(u.decay, u.padded);
  for (int t = 0; t < rows; ++t)
    sweep(
        u.N, [&](int64_t i, auto lanes) __attribute__((always_inline)) {
          store(u.decay + (t + 1) * u.padded + i,
                load(u.decay + t * u.padded + i) + load(p.log_w + t * p.stride + i, lanes));
        });
  for (int64_t i = 0; i < u.padded; i += kLanes) {
    const V middle = load(u.decay + (rows + 1) / 2 * u.padded + i);
    store(u.middle + i, middle);
    store(u.from + i, exp(middle));
    store(u.to + i, exp(load(u.decay + rows * u.padded + i) - middle));
    store(u.decay + i, exp(neg(middle)));
  }
  for (int t = 0; t < rows; ++t)
    sweep(
        u.N, [&](int64_t i, auto lanes) __attribute__((always_inline)) {
          const int64_t at = t * u.padded + i, in = t * p.stride + i;
          const V e = exp(load(u.decay + u.padded + at) - load(u.middle + i)), inverse = set(1.0f) / e;
          store(u.decay + u.padded + at, e);
          store(u.q + at, load(p.r + in, lanes) * e);
          store(u.y + at, load(p.k + in, lanes) * inverse);
          if constexpr (kDelta) {
            const V kappa = load(p.kappa + in, lanes);
            store(u.q + second + at, kappa * load(u.decay + at));
            store(u.y + second + at, neg(load(p.a + in, lanes) * kappa) * inverse);
          }
          store(u.x + at, load(p.v + t * p.v_stride + i, lanes));
        });
}

/// Sets to 0 what lies above the diagonals of the quarters of m [h, h]; in its lower half, and with `strict`
/// everywhere, the diagonal too.
inline void mask_chunk(float* m, int c, int h, bool strict) {
  for (int i = 0; i < h; ++i) {
    const int keep_to = i < c && !strict ? i + 1 : i % c;
    for (int j = 0; j < h; j += c) clear(m + i * kStack + j + keep_to, c - keep_to);
  }
}

/// z_i += Σ coefficient(i, j) z_j over the rows j that come before i: from the first row down or from the last row up.
template <bool kUp>
void substitute(float* z, int64_t padded, const float* m, int c) {
  for (int64_t col = 0; col < padded; col += 4 * kLanes) {
    const int vectors = static_cast<int>(padded - col < 4 * kLanes ? (padded - col) / kLanes : 4);
    for (int p = 1; p < c; ++p) {
      const int i = kUp ? c - 1 - p : p;
      V sum[4];
      for (int n = 0; n < vectors; ++n) sum[n] = load(z + i * padded + col + n * kLanes);
      for (int q = 0; q < p; ++q) {
        const int j = kUp ? c - 1 - q : q;
        const V f = set(kUp ? m[j * kStack + i] : m[i * kStack + j]);
        if (vectors == 4) {
#pragma GCC unroll 4
          for (int n = 0; n < 4; ++n) sum[n] = fma(f, load(z + j * padded + col + n * kLanes), sum[n]);
        } else {
          for (int n = 0; n < vectors; ++n) sum[n] = fma(f, load(z + j * padded + col + n * kLanes), sum[n]);
        }
      }
      for (int n = 0; n < vectors; ++n) store(z + i * padded + col + n * kLanes, sum[n]);
    }
  }
}

/// Fills M and, for WKV-7, Z, from S' [N, padded].
template <bool kDelta>
void chunk_products(Chunk& u, const float* S, int64_t ld) {
  transpose(u.y_t, kStack, u.y, u.padded, u.h, u.N);
  gemm_f32(u.h, u.h, u.N, u.q, u.padded, 1, u.y_t, kStack, u.m, kStack, false);
  mask_chunk(u.m, u.c, u.h, false);
  if constexpr (kDelta) {
    float* z = u.x + u.c * u.padded;
    gemm_f32(u.c, u.padded, u.N, u.q + u.c * u.padded, u.padded, 1, S, ld, z, u.padded, false);
    gemm_f32(u.c, u.padded, u.c, u.m + u.c * kStack, kStack, 1, u.x, u.padded, z, u.padded, true);
    substitute<false>(z, u.padded, u.m + u.c * kStack + u.c, u.c);
  }
}

/// S = factor ⊙ (S + added), by rows of S [N, padded]; added may be null.
inline void scale_rows(float* S, const float* added, int N, int64_t padded, const float* factor) {
  for (int n = 0; n < N; ++n) {
    const V f = set(factor[n]);
    for (int64_t i = n * padded; i < (n + 1) * padded; i += kLanes)
      store(S + i, f * (added ? load(S + i) + load(added + i) : load(S + i)));
  }
}
/// S = second ⊙ (first ⊙ S), each product rounded.
inline void scale_rows_twice(float* S, int N, int64_t padded, const float* first, const float* second) {
  for (int n = 0; n < N; ++n) {
    const V f = set(first[n]), g = set(second[n]);
    for (int64_t i = n * padded; i < (n + 1) * padded; i += kLanes) store(S + i, g * (f * load(S + i)));
  }
}
/// to = a ⊙ b, [padded] each.
inline void multiply_vectors(float* to, const float* a, const float* b, int64_t padded) {
  for (int64_t i = 0; i < padded; i += kLanes) store(to + i, load(a + i) * load(b + i));
}

/// Rows of the chunk that starts at row t of `rows`, when the first row is at `position`.
QWERKY_INLINE int chunk_rows(int64_t position, int64_t t, int64_t rows) {
  const int64_t whole = kChunk - (position + t) % kChunk;
  return static_cast<int>(rows - t < whole ? rows - t : whole);
}

/// Asks for the next chunk of a head of which `left` rows are left.
template <bool kDelta>
QWERKY_INLINE void prefetch_chunk(const HeadRows& x, int c, int64_t left) {
  if (left > 0) prefetch<kDelta>(x, c, static_cast<int>(left < kChunk ? left : kChunk));
}

/// Like scan_head.
template <bool kDelta>
void chunk_head(float* o, const Wkv& p, int head, const Segment& s, float* state) {
  const int N = p.head;
  const int64_t padded = whole_vectors(N);
  const int64_t few = kChunk * padded;
  float* memory = static_cast<float*>(
      scratch(Scratch::wkv, (Chunk::floats(padded) + (kChunk + 1 + N) * padded + 2 * few) * int64_t{sizeof(float)}));
  Chunk u(N, memory);
  float *out = memory + Chunk::floats(padded), *pending = out + kChunk * padded, *S = pending + padded,
        *w = S + N * padded;
  const Strips strips = strips_of(N, N);
  bool scaled = true;  // else S is still to be scaled by `pending`
  if (!state) clear(S, N * padded);
  if (state) load_strip(S, padded, state, N, 0);
  int rows;
  for (int64_t t = 0; t < s.rows; t += rows) {
    rows = chunk_rows(s.position(), t, s.rows);
    const HeadRows x = head_rows(p, head, s.row + t, w, w + few);
    float* to = o + (s.row + t) * x.stride + head * N;
    if (rows < chunk_from_rows(N)) {
      if (!scaled) scale_rows(S, nullptr, N, padded, pending);
      scaled = true;
      fill_decays<kDelta>(x, rows);
      scan_rows<kDelta>(S, padded, strips, x, rows, to);
      continue;
    }
    load_chunk<kDelta>(u, x, rows);
    scaled ? scale_rows(S, nullptr, N, padded, u.from) : scale_rows_twice(S, N, padded, pending, u.from);
    prefetch_chunk<kDelta>(x, u.c, s.rows - t - u.c);
    chunk_products<kDelta>(u, S, padded);
    gemm_f32(u.c, padded, N, u.q, padded, 1, S, padded, out, padded, false);
    gemm_f32(u.c, padded, u.h, u.m, kStack, 1, u.x, padded, out, padded, true);
    for (int i = 0; i < u.c; ++i)
      sweep(
          N, [&](int64_t n, auto lanes) __attribute__((always_inline)) {
            store(to + i * x.stride + n, set(p.scale) * load(out + i * padded + n), lanes);
          });
    if (t + u.c == s.rows && !state) return;
    gemm_f32(N, padded, u.h, u.y, 1, padded, u.x, padded, S, padded, true);
    __builtin_memcpy(pending, u.to, static_cast<size_t>(padded) * sizeof(float));
    scaled = false;
  }
  if (!state) return;
  if (!scaled) scale_rows(S, nullptr, N, padded, pending);
  store_strip(state, S, padded, N, 0);
}

/// What the gradients of a chunk need besides the chunk: matrices [kStack, padded] unless said otherwise.
struct ChunkGrad {
  float *dq, *dy, *p;  // p: scale dO on top of the gradient of Z
  float* dv;           // [kChunk, padded]
  float *x_t, *dm;     // [N, kStack] and [kStack, kStack]
  float *dS, *turned;  // [N, padded], [padded, padded]
  float* ends;         // [padded]: Σ over values of S dS, after the chunk
  float* next_from;    // [padded]: e^m of the next chunk
  static int64_t floats(int N, int64_t padded) {
    return (4 * kStack + kChunk + N + padded + 2) * padded + kStack * kStack;
  }
  ChunkGrad(int N, int64_t padded, float* memory) {
    const auto take = [&memory](int64_t count) { return (memory += count) - count; };
    dq = take(kStack * padded), dy = take(kStack * padded), p = take(kStack * padded), x_t = take(kStack * padded);
    dv = take(kChunk * padded), dS = take(N * padded), turned = take(padded * padded), ends = take(padded);
    next_from = take(padded), dm = take(kStack * kStack);
    clear(dS, N * padded);
    clear(ends, padded);
    clear(turned, padded * padded);
  }
};

/// Gradients of Q, Y and V of a chunk, from p's upper half and g.dS = the gradient of S' + Kᵀ V + Bᵀ Z, which becomes
/// that of S'. The diagonal of M is left out of dQ and dY: dm keeps its gradient.
template <bool kDelta>
void chunk_gradients(const Chunk& u, ChunkGrad& g, const float* S) {
  const int64_t padded = u.padded;
  const int c = u.c, h = u.h, N = u.N;
  if constexpr (kDelta) {
    float* dz = g.p + c * padded;
    gemm_f32(c, padded, c, u.m + c, 1, kStack, g.p, padded, dz, padded, false);
    gemm_f32(c, padded, N, u.y + c * padded, padded, 1, g.dS, padded, dz, padded, true);
    substitute<true>(dz, padded, u.m + c * kStack + c, c);
  }
  gemm_f32(c, padded, h, u.m, 1, kStack, g.p, padded, g.dv, padded, false);
  gemm_f32(c, padded, N, u.y, padded, 1, g.dS, padded, g.dv, padded, true);
  transpose(g.x_t, kStack, u.x, padded, h, N);
  gemm_f32(h, h, N, g.p, padded, 1, g.x_t, kStack, g.dm, kStack, false);
  float diagonal[kStack];  // of the upper quarters: R Kᵀ and R Bᵀ
  for (int i = 0; i < h; ++i) diagonal[i] = g.dm[i % c * kStack + i];
  mask_chunk(g.dm, c, h, true);
  transpose(g.turned, padded, g.dS, padded, N, N);
  gemm_f32(h, padded, h, g.dm, 1, kStack, u.q, padded, g.dy, padded, false);
  gemm_f32(h, padded, N, u.x, padded, 1, g.turned, padded, g.dy, padded, true);
  transpose(g.turned, padded, S, padded, N, N);
  gemm_f32(h, padded, h, g.dm, kStack, 1, u.y, padded, g.dq, padded, false);
  gemm_f32(h, padded, N, g.p, padded, 1, g.turned, padded, g.dq, padded, true);
  gemm_f32(N, padded, h, u.q, 1, padded, g.p, padded, g.dS, padded, true);
  for (int i = 0; i < h; ++i) g.dm[i % c * kStack + i] = diagonal[i];
}

/// From dQ, dY and dm to the gradients of the operands; dlog_w_s = Σ_{i >= s} dG_i + Σ_{i > s} dE_i + ends.
template <bool kDelta>
void store_chunk(const WkvGrad& d, const Chunk& u, const ChunkGrad& g, const HeadRows& p, int64_t at0) {
  const int64_t second = u.c * u.padded;
  sweep(
      u.N, [&](int64_t n, auto lanes) __attribute__((always_inline)) {
        V later = load(g.ends + n);
        for (int i = u.c; i-- > 0;) {
          const int64_t at = i * u.padded + n, in = i * p.stride + n, out = at0 + in;
          const V e = load(u.decay + u.padded + at), inverse = set(1.0f) / e;
          const V dq = load(g.dq + at), dy = load(g.dy + at), r = load(p.r + in, lanes), k = load(p.k + in, lanes);
          const V on_k = set(g.dm[i * kStack + i]);
          V dr = fma(dq, e, on_k * k);
          later += fnma(dy, load(u.y + at), dq * load(u.q + at));
          if constexpr (kDelta) {
            const V dqa = load(g.dq + second + at), dyb = load(g.dy + second + at),
                    on_b = set(g.dm[i * kStack + u.c + i]);
            const V kappa = load(p.kappa + in, lanes), a = load(p.a + in, lanes);
            const V db = fma(dyb, inverse, on_b * r);
            dr = fnma(on_b, a * kappa, dr);
            later = fnma(dyb, load(u.y + second + at), later);
            store(d.log_w + out, later, lanes);
            later = fma(dqa, load(u.q + second + at), later);
            store(d.kappa + out, fnma(a, db, dqa * load(u.decay + at)), lanes);
            store(d.a + out, neg(kappa * db), lanes);
          } else {
            store(d.log_w + out, later, lanes);
          }
          store(d.r + out, dr, lanes);
          store(d.k + out, fma(dy, inverse, on_k * r), lanes);
        }
      });
}

/// Like reverse_head.
template <bool kDelta>
void reverse_chunks(const WkvGrad& d, const float* d_o, const Wkv& p, int head, int64_t row, int64_t rows,
                    bool add_dv) {
  const int N = p.head;
  const int64_t padded = whole_vectors(N), full = N * padded, chunks = (rows + kChunk - 1) / kChunk;
  const int64_t kept = full + kStack * kStack + (kDelta ? kChunk * padded : 0);  // S', M and Z of each chunk
  float* memory = static_cast<float*>(scratch(
      Scratch::wkv, (Chunk::floats(padded) + ChunkGrad::floats(N, padded) + chunks * kept) * int64_t{sizeof(float)}));
  Chunk u(N, memory);
  ChunkGrad g(N, padded, memory + Chunk::floats(padded));
  float* saved = memory + Chunk::floats(padded) + ChunkGrad::floats(N, padded);
  float* const own_m = u.m;
  clear(saved, full);
  for (int64_t j = 0; j < chunks; ++j) {
    float* S = saved + j * kept;
    const HeadRows x = head_rows(p, head, row + j * kChunk, nullptr, nullptr);
    load_chunk<kDelta>(u, x, chunk_rows(0, j * kChunk, rows));
    u.m = S + full;
    prefetch_chunk<kDelta>(x, u.c, rows - j * kChunk - u.c);
    if (j > 0) {
      multiply_vectors(u.from, u.from, g.next_from, padded);
      scale_rows(S, S - kept, N, padded, u.from);
    }
    chunk_products<kDelta>(u, S, padded);
    if constexpr (kDelta)
      __builtin_memcpy(S + full + kStack * kStack, u.x + u.c * padded,
                       static_cast<size_t>(u.c * padded) * sizeof(float));
    if (j + 1 == chunks) break;
    gemm_f32(N, padded, u.h, u.y, 1, padded, u.x, padded, S + kept, padded, false);
    __builtin_memcpy(g.next_from, u.to, static_cast<size_t>(padded) * sizeof(float));
  }
  u.m = own_m;
  for (int64_t j = chunks; j-- > 0;) {
    const float* S = saved + j * kept;
    const HeadRows x = head_rows(p, head, row + j * kChunk, nullptr, nullptr);
    load_chunk<kDelta>(u, x, chunk_rows(0, j * kChunk, rows));
    u.m = saved + j * kept + full;
    if constexpr (kDelta)
      __builtin_memcpy(u.x + u.c * padded, S + full + kStack * kStack,
                       static_cast<size_t>(u.c * padded) * sizeof(float));
    if (j + 1 < chunks) {
      multiply_vectors(u.to, u.to, g.next_from, padded);
      scale_rows(g.dS, nullptr, N, padded, u.to);
    }
    if (j > 0) {  // the rows before: operands and where their gradients go
      prefetch<kDelta>(x, -kChunk, kChunk);
      prefetch(d_o + (x.r - p.r) - kChunk * x.stride, x.stride, kChunk, N);
      prefetch<kDelta>(HeadRows{N, padded, x.stride, x.v_stride, 0, d.r + (x.r - p.r), d.log_w + (x.r - p.r),
                                d.k + (x.r - p.r), d.v + (x.v - p.v), kDelta ? d.kappa + (x.r - p.r) : nullptr,
                                kDelta ? d.a + (x.r - p.r) : nullptr, nullptr, nullptr},
                       -kChunk, kChunk);
    }
    const int64_t at = x.r - p.r, at_v = x.v - p.v;
    for (int i = 0; i < u.c; ++i)
      sweep(
          N, [&](int64_t n, auto lanes) __attribute__((always_inline)) {
            store(g.p + i * padded + n, set(p.scale) * load(d_o + at + i * x.stride + n, lanes));
          });
    chunk_gradients<kDelta>(u, g, S);
    store_chunk<kDelta>(d, u, g, x, at);
    for (int i = 0; i < u.c; ++i)
      sweep(
          N, [&](int64_t n, auto lanes) __attribute__((always_inline)) {
            float* dv = d.v + at_v + i * x.v_stride + n;
            const V own = load(g.dv + i * padded + n);
            store(dv, add_dv ? load(dv, lanes) + own : own, lanes);
          });
    for (int n = 0; n < N; ++n) {
      V sum_n = zero();
      for (int64_t i = 0; i < padded; i += kLanes)
        sum_n = fma(load(S + n * padded + i), load(g.dS + n * padded + i), sum_n);
      g.ends[n] = sum(sum_n);
    }
    __builtin_memcpy(g.next_from, u.from, static_cast<size_t>(padded) * sizeof(float));
  }
}

}  // namespace kernels
