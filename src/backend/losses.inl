// SPDX-License-Identifier: MIT
// Losses over rows, reductions and the optimiser. Included in the namespace of one instruction set after rows.inl.
// Sums over a vocabulary or a tensor are made of blocks of kSumBlock elements, which are added in order in f64, so
// neither length nor threads cost accuracy or change a bit.

namespace kernels {

constexpr int64_t kSumBlock = 4096;

/// The largest element; NaN counts for nothing.
inline float largest(const float* x, int64_t n) {
  V a = set(-__builtin_inff()), b = a;
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) a = max(load(x + i), a), b = max(load(x + i + kLanes), b);
  for (; i + kLanes <= n; i += kLanes) a = max(load(x + i), a);
  if (i < n) {
    const int rest = static_cast<int>(n - i);
    b = max(select(first_lanes(rest), load(x + i, rest), b), b);
  }
  return max_of(max(a, b));
}

/// Σ term(i, lanes, sum) over [0, n) in f64 over blocks. Lanes past n must be 0.
template <class Term>
QWERKY_INLINE double sum_blocks(int64_t n, const Term& term) {
  double total = 0;
  for (int64_t at = 0; at < n; at += kSumBlock)
    total += static_cast<double>(sum(sum_terms(
        std::min(kSumBlock, n - at), [&](int64_t i, auto lanes, V s)
                                         __attribute__((always_inline)) { return term(at + i, lanes, s); })));
  return total;
}

inline void align(Tensor loss, Tensor dys, Tensor ys, Tensor yt, double weight) {
  const int64_t D = ys.cols();
  float *const ploss = loss.as<float>(), *const pd = dys.as<float>();
  const float *const ps = ys.as<float>(), *const pt = yt.as<float>();
  const double scale = weight / __builtin_sqrt(static_cast<double>(D));
  parallel_for(ys.row_count(), row_grain(D), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float *const s = ps + r * D, *const t = pt + r * D;
      const double squares = sum_blocks(
          D, [=](int64_t i, auto lanes, V total) __attribute__((always_inline)) {
            const V e = load(s + i, lanes) - load(t + i, lanes);
            return fma(e, e, total);
          });
      const double norm = __builtin_sqrt(squares);
      ploss[r] = static_cast<float>(norm * scale);
      if (pd == nullptr) continue;
      const V factor = set(norm > 0 ? static_cast<float>(scale / norm) : 0.0f);
      float* const d = pd + r * D;
      sweep(
          D, [=](int64_t i, auto lanes) __attribute__((always_inline)) {
            store(d + i, (load(s + i, lanes) - load(t + i, lanes)) * factor, lanes);
          });
    }
  });
}

/// Σ exp(x - top); the terms are left in `terms` unless it is null. May be x itself.
inline double sum_of_exp(const float* x, float* terms, int64_t n, float top) {
  const V shift = set(top);
  return sum_blocks(
      n, [=](int64_t i, auto lanes, V total) __attribute__((always_inline)) {
        const V e = keep(lanes, exp(load(x + i, lanes) - shift));
        if (terms != nullptr) store(terms + i, e, lanes);
        return total + e;
      });
}

inline void cross_entropy(Tensor loss, Tensor dlogits, Tensor logits, std::span<const int32_t> targets, double weight) {
  const int64_t vocabulary = logits.cols();
  float *const ploss = loss.as<float>(), *const pd = dlogits.as<float>();
  const float* const px = logits.as<float>();
  const int32_t* const target = targets.data();
  parallel_for(logits.row_count(), row_grain(vocabulary), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* const x = px + r * vocabulary;
      float* const d = pd != nullptr ? pd + r * vocabulary : nullptr;
      if (target[r] < 0) {
        ploss[r] = 0;
        if (d != nullptr) std::memset(d, 0, static_cast<size_t>(vocabulary) * sizeof(float));
        continue;
      }
      const float top = largest(x, vocabulary), own = x[target[r]];
      const double total = sum_of_exp(x, d, vocabulary, top);
      ploss[r] = static_cast<float>(weight * (std::log(total) - (static_cast<double>(own) - static_cast<double>(top))));
      if (d == nullptr) continue;
      const V share = set(static_cast<float>(weight / total));
      sweep(
          vocabulary, [=](int64_t i, auto lanes)
                          __attribute__((always_inline)) { store(d + i, load(d + i, lanes) * share, lanes); });
      d[target[r]] -= static_cast<float>(weight);
    }
  });
}

/// With s' = s - max s and t' = t - max t:  loss = Σ e^t' (t' - s') / Σ e^t' - log(Σ e^t' / Σ e^s'), whose parts are
/// all small where teacher and student agree. One exponential for each logit: e^s' waits in dstudent, e^t' in scratch.
inline void kl(Tensor loss, Tensor dstudent, Tensor student, Tensor teacher, double weight) {
  const int64_t vocabulary = student.cols();
  float *const ploss = loss.as<float>(), *const pd = dstudent.as<float>();
  const float *const ps = student.as<float>(), *const pt = teacher.as<float>();
  parallel_for(student.row_count(), row_grain(vocabulary), [=](int64_t begin, int64_t end) {
    float* const waiting = static_cast<float*>(scratch(Scratch::losses, vocabulary * 4));
    for (int64_t r = begin; r < end; ++r) {
      const float *const s = ps + r * vocabulary, *const t = pt + r * vocabulary;
      float* const d = pd != nullptr ? pd + r * vocabulary : nullptr;
      const V top_s = set(largest(s, vocabulary)), top_t = set(largest(t, vocabulary));
      double total_s = 0, total_t = 0, dot = 0;
      for (int64_t at = 0; at < vocabulary; at += kSumBlock) {
        V sum_s = zero(), sum_t = zero(), sum_dot = zero();
        sweep(
            std::min(kSumBlock, vocabulary - at), [&](int64_t j, auto lanes) __attribute__((always_inline)) {
              const int64_t i = at + j;
              const V a = load(s + i, lanes) - top_s, b = load(t + i, lanes) - top_t;
              const V es = keep(lanes, exp(a)), et = keep(lanes, exp(b));
              sum_s += es;
              sum_t += et;
              sum_dot += keep(lanes, et * (b - a));
              if (d != nullptr) store(d + i, es, lanes), store(waiting + i, et, lanes);
            });
        total_s += static_cast<double>(sum(sum_s));
        total_t += static_cast<double>(sum(sum_t));
        dot += static_cast<double>(sum(sum_dot));
      }
      ploss[r] = static_cast<float>(weight * (dot / total_t - std::log(total_t / total_s)));
      if (d == nullptr) continue;
      const V share_s = set(static_cast<float>(weight / total_s)), share_t = set(static_cast<float>(weight / total_t));
      sweep(
          vocabulary, [=](int64_t i, auto lanes) __attribute__((always_inline)) {
            store(d + i, fnma(load(waiting + i, lanes), share_t, load(d + i, lanes) * share_s), lanes);
          });
    }
  });
}

inline void argmax(std::span<int32_t> best, Tensor logits) {
  const int64_t vocabulary = logits.cols();
  const float* const px = logits.as<float>();
  int32_t* const out = best.data();
  parallel_for(logits.row_count(), row_grain(vocabulary), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* const x = px + r * vocabulary;
      const V top = set(largest(x, vocabulary));
      out[r] = 0;
      for (int64_t i = 0; i < vocabulary; i += kLanes) {
        const int lanes = static_cast<int>(std::min<int64_t>(kLanes, vocabulary - i));
        const uint32_t equal = bits(load(x + i, lanes) == top) & ((1u << lanes) - 1u);
        if (equal == 0) continue;
        out[r] = static_cast<int32_t>(i) + __builtin_ctz(equal);
        break;
      }
    }
  });
}

/// Σ f(x) over a tensor, where f adds a vector's lanes to a pair of f64 sums.
template <class Add>
inline double sum_wide(const Tensor& x, const Add& add_to) {
  const int64_t n = x.count(), blocks = (n + kSumBlock - 1) / kSumBlock;
  const float* const p = x.as<float>();
  double* const partial = static_cast<double*>(scratch(Scratch::losses, blocks * 8));
  parallel_for(blocks, 8, [=, &add_to](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const float* const from = p + b * kSumBlock;
      D low = zero_d(), high = zero_d();
      sweep(
          std::min(kSumBlock, n - b * kSumBlock), [&](int64_t i, auto lanes) __attribute__((always_inline)) {
            const V v = load(from + i, lanes);
            low = add_to(widen_low(v), low);
            high = add_to(widen_high(v), high);
          });
      partial[b] = sum(low + high);
    }
  });
  double total = 0;
  for (int64_t b = 0; b < blocks; ++b) total += partial[b];
  return total;
}

inline double sum(Tensor x) {
  return sum_wide(
      x, [](D v, D total) __attribute__((always_inline)) { return total + v; });
}
inline double sum_of_squares(Tensor x) {
  return sum_wide(
      x, [](D v, D total) __attribute__((always_inline)) { return fma(v, v, total); });
}

inline void adamw(const AdamW& rule, Tensor w, Tensor dw, Tensor m, Tensor v) {
  const double correct1 = 1 - std::pow(rule.beta1, static_cast<double>(rule.step));
  const double correct2 = 1 - std::pow(rule.beta2, static_cast<double>(rule.step));
  float *const pw = w.as<float>(), *const pm = m.as<float>(), *const pv = v.as<float>();
  const float* const pd = dw.as<float>();
  const float scale = static_cast<float>(rule.grad_scale), eps = static_cast<float>(rule.eps);
  const float beta1 = static_cast<float>(rule.beta1), rest1 = static_cast<float>(1 - rule.beta1);
  const float beta2 = static_cast<float>(rule.beta2), rest2 = static_cast<float>(1 - rule.beta2);
  const float rate = static_cast<float>(rule.lr / correct1), unbias = static_cast<float>(1 / correct2);
  const float decay = static_cast<float>(rule.lr * rule.weight_decay);
  each_element(
      w.count(), [=](int64_t i, auto lanes) __attribute__((always_inline)) {
        const V g = load(pd + i, lanes) * set(scale), old = load(pw + i, lanes);
        const V first = fma(set(rest1), g, set(beta1) * load(pm + i, lanes));
        const V second = fma(set(rest2) * g, g, set(beta2) * load(pv + i, lanes));
        const V move = set(rate) * first / (sqrt(second * set(unbias)) + set(eps));
        store(pm + i, first, lanes);
        store(pv + i, second, lanes);
        store(pw + i, fnma(set(decay), old, old) - move, lanes);
      });
}

}  // namespace kernels
