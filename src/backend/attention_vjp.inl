// SPDX-License-Identifier: MIT
// The VJP of softmax attention, and its statistics by lag: both make the probabilities anew from log Σ exp.

namespace kernels {

/// One key/value head of one segment. With p the probabilities and delta = o·do:
///   dv_j = Σ p_ij do_i,   ds_ij = scale p_ij (do_i·v_j - delta_i),   dq_i = Σ ds_ij k_j,   dk_j = Σ ds_ij q_i.
inline void attend_vjp(const Keys& keys, const Queries& all, const float* o, const float* d_o, float* dq, float* dk,
                       float* dv, const AttentionScratch& s) {
  const AttentionShape& shape = keys.shape;
  const int64_t N = shape.head, W = keys.stride, end = all.last() + 1;
  const V scale = set(static_cast<float>(shape.scale));
  attend(keys, all, nullptr, s);
  const size_t bytes = static_cast<size_t>(N) * sizeof(float);
  for (int64_t h = 0; h < all.heads; ++h)
    for (int64_t i = 0; i < all.count; ++i) {
      const int64_t at = h * all.head + i * all.stride;
      V dot = zero();
      sweep(
          N, [&](int64_t n, auto lanes) __attribute__((always_inline)) {
            dot = fma(load(o + at + n, lanes), load(d_o + at + n, lanes), dot);
          });
      s.delta[h * all.count + i] = sum(dot);
      std::memset(dq + at, 0, bytes);
    }
  for (int64_t p = 0; p < end; ++p) std::memset(dk + p * W, 0, bytes), std::memset(dv + p * W, 0, bytes);
  for (int64_t first = 0; first < end; first += kKeyBlock) {
    const int64_t count = std::min(kKeyBlock, end - first);
    keys.transposed(s.keys, s.values, keys.own_k, nullptr, first, count);
    keys.transposed(s.values, s.values, keys.own_v, nullptr, first, count);
    for (int64_t h = 0; h < all.heads; ++h)
      for (int64_t i = 0; i < all.count; i += kQueryTile) {
        const Queries t = all.tile(h, i);
        const Columns c = columns_of(shape, t.position, t.last(), first);
        if (c.begin >= c.end) continue;
        const int64_t at = t.q - all.q, width = c.end - c.begin, there = std::min(c.end, count) - c.begin;
        float *const p = s.scores + c.begin, *const ds = s.slopes + c.begin;
        gemm_f32(t.count, width, N, t.q, t.stride, 1, s.keys + c.begin, kKeyBlock, p, kKeyBlock, false);
        gemm_f32(t.count, width, N, d_o + at, t.stride, 1, s.values + c.begin, kKeyBlock, ds, kKeyBlock, false);
        for (int64_t j = 0; j < t.count; ++j) {
          const Sight w = sight(shape, t.position + j * t.step, first);
          const int64_t index = h * all.count + i + j;
          const V log_sum = set(s.maximum[index]), delta = set(s.delta[index]);
          float *const prow = s.scores + j * kKeyBlock, *const drow = s.slopes + j * kKeyBlock;
          for (int64_t col = c.begin; col < c.end; col += kLanes) {
            const V x = exp(seen(load(prow + col) * scale - log_sum, col, w));
            store(prow + col, x);
            store(drow + col, x * (load(drow + col) - delta) * scale);
          }
        }
        const int64_t key = (first + c.begin) * W;
        add_product(t.count, N, there, ds, kKeyBlock, 1, keys.own_k + key, W, dq + at, t.stride, true);
        add_product(there, N, t.count, p, 1, kKeyBlock, d_o + at, t.stride, dv + key, W, true);
        add_product(there, N, t.count, ds, 1, kKeyBlock, t.q, t.stride, dk + key, W, true);
      }
  }
}

inline void attention_vjp(Tensor dq, Tensor dk, Tensor dv, Tensor d_o, Tensor q, Tensor k, Tensor v, Tensor o,
                          const AttentionShape& shape, Batch batch) {
  const int64_t N = shape.head, A = shape.heads * N, G = shape.heads / shape.kv_heads, W = shape.kv_heads * N;
  const float *const pq = q.as<float>(), *const pk = k.as<float>(), *const pv = v.as<float>();
  const float *const po = o.as<float>(), *const pdo = d_o.as<float>();
  float *const pdq = dq.as<float>(), *const pdk = dk.as<float>(), *const pdv = dv.as<float>();
  parallel_for(static_cast<int64_t>(batch.size()) * shape.kv_heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const Segment& s = batch[static_cast<size_t>(item / shape.kv_heads)];
      if (s.rows == 0) continue;
      const int64_t g = item % shape.kv_heads, key = s.row * W + g * N, row = s.row * A + g * G * N;
      const Keys keys{pk + key, pv + key, nullptr, nullptr, 0, W, shape};
      const Queries queries = queries_of(pq + row, shape, 0, 0, s.rows);
      attend_vjp(keys, queries, po + row, pdo + row, pdq + row, pdk + key, pdv + key,
                 AttentionScratch(N, queries.total()));
    }
  });
}

inline void attention_lags(Tensor mass, Tensor sink, Tensor q, Tensor k, const AttentionShape& shape, Batch batch,
                           int64_t skip) {
  const int64_t N = shape.head, A = shape.heads * N, G = shape.heads / shape.kv_heads, W = shape.kv_heads * N;
  const int64_t bins = mass.cols();
  const float *const pq = q.as<float>(), *const pk = k.as<float>();
  double *const pmass = mass.as<double>(), *const psink = sink.as<double>();
  parallel_for(shape.kv_heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g)
      for (const Segment& segment : batch) {
        if (segment.rows <= skip) continue;
        const float* const own = pk + segment.row * W + g * N;
        const Keys keys{own, nullptr, nullptr, nullptr, 0, W, shape};
        const Queries all = queries_of(pq + segment.row * A + g * G * N, shape, 0, skip, segment.rows - skip);
        const AttentionScratch s(N, all.total());
        attend(keys, all, nullptr, s);
        for (int64_t first = 0; first < segment.rows; first += kKeyBlock) {
          keys.transposed(s.keys, s.values, own, nullptr, first, std::min(kKeyBlock, segment.rows - first));
          for (int64_t h = 0; h < all.heads; ++h)
            for (int64_t i = 0; i < all.count; i += kQueryTile) {
              const Queries t = all.tile(h, i);
              const Columns c = columns_of(shape, t.position, t.last(), first);
              if (c.begin >= c.end) continue;
              gemm_f32(t.count, c.end - c.begin, N, t.q, t.stride, 1, s.keys + c.begin, kKeyBlock, s.scores + c.begin,
                       kKeyBlock, false);
              for (int64_t j = 0; j < t.count; ++j) {
                const int64_t position = t.position + j * t.step;
                const Sight w = sight(shape, position, first);
                const V scale = set(static_cast<float>(shape.scale)), log_sum = set(s.maximum[h * all.count + i + j]);
                float* const p = s.scores + j * kKeyBlock;
                for (int64_t col = c.begin; col < c.end; col += kLanes)
                  store(p + col, exp(seen(load(p + col) * scale - log_sum, col, w)));
                const int64_t head = g * G + (t.step == 0 ? i + j : h);
                double* const to = pmass + head * bins;
                int64_t col = c.begin;
                if (first == 0 && col == 0 && position > 0) psink[head] += static_cast<double>(p[col++]);
                for (; col < std::min(c.end, w.to); ++col)
                  to[std::min(position - first - col, bins - 1)] += static_cast<double>(p[col]);
              }
            }
        }
      }
  });
}

}  // namespace kernels
