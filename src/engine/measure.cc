// SPDX-License-Identifier: MIT
#include "engine/measure.h"

#include <atomic>
#include <cmath>
#include <mutex>
#include <numeric>

#include "base/parallel.h"

namespace qwerky {
namespace {

/// Below this many parameters a window per thread beats threads within an operation.
constexpr int64_t kSmallModel = 20'000'000;
constexpr int64_t kLogitBytes = 32 << 20;

int64_t parameters(const Decoder& d) {
  const Config& c = d.config();
  return c.layers * (2 * c.hidden * c.width() + 2 * c.hidden * c.kv_width() + 3 * c.hidden * c.intermediate) +
         c.vocab * c.hidden;
}

/// What one window yields; summed in window order, so the result does not depend on threads.
struct Partial {
  std::vector<double> nll_teacher, nll_student, kl;
  std::vector<double> align, error, energy;  // per layer
  int64_t same = 0;
};

/// The values of a row vector, behind those that `to` has.
void append(const Exec& ex, Tensor rows, std::vector<double>& to) {
  const Tensor wide = ex.scratch.tensor(DType::f64, rows.shape);
  convert(wide, rows);
  to.insert(to.end(), wide.as<double>(), wide.as<double>() + wide.count());
}

/// Values of all windows in their order: the mean of all, and by position in a window.
class Means {
 public:
  void add(const std::vector<double>& window) {
    if (sums_.size() < window.size()) sums_.resize(window.size()), counts_.resize(window.size());
    for (size_t i = 0; i < window.size(); ++i) total_ += window[i], sums_[i] += window[i], ++counts_[i];
    count_ += static_cast<int64_t>(window.size());
  }
  /// `of` names the values in a message.
  Scores scores(const char* of) const {
    if (!std::isfinite(total_))
      fail(of, ": not finite: the model's weights or activations overflow on this text; try --precision f32");
    Scores s{count_, total_ / static_cast<double>(count_), sums_};
    for (size_t i = 0; i < sums_.size(); ++i) s.nll_by_position[i] /= static_cast<double>(counts_[i]);
    return s;
  }

 private:
  int64_t count_ = 0;
  double total_ = 0;
  std::vector<double> sums_;
  std::vector<int64_t> counts_;
};

}  // namespace

double Scores::perplexity() const { return std::exp(nll); }

void Windows::add(std::span<const int32_t> ids) {
  CHECK(length > 0, "windows of ", length);
  for (size_t first = 0; first + 1 < ids.size(); first += static_cast<size_t>(length))
    windows_.push_back(ids.subspan(first, std::min(static_cast<size_t>(length) + 1, ids.size() - first)));
}

void in_logit_slices(const Exec& ex, int64_t vocab, int64_t rows, const std::function<void(int64_t, int64_t)>& f) {
  const int64_t step = std::clamp<int64_t>(kLogitBytes / (4 * vocab), 16, std::max<int64_t>(rows, 16));
  for (int64_t r = 0; r < rows; r += step) {
    Scope scope(ex.scratch);
    f(r, std::min(step, rows - r));
  }
}

void for_each_window(int64_t n, int64_t params, const std::function<void(int64_t, Arena&)>& job) {
  std::mutex failed;
  std::exception_ptr failure;  // nothing may leave a parallel_for
  const auto run = [&](int64_t begin, int64_t end) {
    try {
      Arena scratch("window scratch");
      for (int64_t i = begin; i < end; ++i) {
        Scope scope(scratch);
        job(i, scratch);
      }
    } catch (...) {
      const std::lock_guard lock(failed);
      failure = std::current_exception();
    }
  };
  if (params > kSmallModel) {
    run(0, n);
  } else {
    parallel_for(n, 1, run);
  }
  if (failure) std::rethrow_exception(failure);
}

namespace {

/// What measure(ex, window, part) finds in each window.
std::vector<Partial> measure_windows(const Backend& on, const Decoder& model, const Windows& windows,
                                     const Progress& progress,
                                     const std::function<void(const Exec&, int64_t, Partial&)>& measure) {
  const int64_t n = windows.count();
  if (n == 0) fail("text: expected a sequence of at least 2 tokens");
  std::vector<Partial> parts(static_cast<size_t>(n));
  std::atomic<int64_t> done = 0;
  for_each_window(n, parameters(model), [&](int64_t i, Arena& scratch) {
    measure({on, scratch}, i, parts[static_cast<size_t>(i)]);
    if (progress) progress(++done, n);
  });
  return parts;
}

}  // namespace

Json to_json(const Scores& s) { return {{"tokens", s.tokens}, {"nll", s.nll}, {"perplexity", s.perplexity()}}; }

Scores score(const Backend& on, const Decoder& model, const Windows& windows, const Progress& progress) {
  const int64_t V = model.config().vocab;
  const auto parts = measure_windows(on, model, windows, progress, [&](const Exec& ex, int64_t i, Partial& part) {
    const auto inputs = windows.inputs(i), targets = windows.targets(i);
    const int64_t rows = static_cast<int64_t>(inputs.size());
    const Segment segment{nullptr, 0, rows};
    const Tensor hidden = ex.make(rows, model.config().hidden);
    model.forward(ex, inputs, {&segment, 1}, hidden);
    in_logit_slices(ex, V, rows, [&](int64_t r, int64_t m) {
      const Tensor logits = ex.make(m, V), loss = ex.make(1, m);
      model.logits(ex, hidden.rows(r, m), logits);
      on.cross_entropy(loss, {}, logits, targets.subspan(static_cast<size_t>(r), static_cast<size_t>(m)), 1);
      append(ex, loss, part.nll_teacher);
    });
  });
  Means nll;
  for (const Partial& p : parts) nll.add(p.nll_teacher);
  return nll.scores("loss of the model");
}

Comparison compare(const Backend& on, const Decoder& teacher, const Decoder& student, const Windows& windows,
                   bool layers, const Progress& progress) {
  if (teacher.config().vocab != student.config().vocab)
    fail("compare: the vocabularies differ: ", teacher.config().vocab, " and ", student.config().vocab, " ids");
  layers = layers && teacher.config().layers == student.config().layers &&
           teacher.config().hidden == student.config().hidden;
  const int64_t L = teacher.config().layers, D = teacher.config().hidden, V = teacher.config().vocab;
  const auto parts = measure_windows(on, teacher, windows, progress, [&](const Exec& ex, int64_t i, Partial& part) {
    const auto inputs = windows.inputs(i), targets = windows.targets(i);
    const int64_t rows = static_cast<int64_t>(inputs.size());
    const Segment segment{nullptr, 0, rows};
    const Batch batch{&segment, 1};
    const Tensor hidden_t = ex.make(rows, D), hidden_s = ex.make(rows, student.config().hidden);
    Tap tap;
    Decoder::Shared shared;
    if (layers) {
      shared = student.share(ex, batch, rows, false);
      tap = [&](int64_t layer, const Io& io) {
        Scope scope(ex.scratch);
        const Tensor y = ex.make(rows, D), loss = ex.make(1, rows), gap = ex.make(rows, D);
        student.mixer(layer).forward(ex, {io.x, y, shared.rope, shared.v_first}, batch);
        on.align(loss, gap, y, io.y, 1);
        part.align.push_back(on.sum(loss));
        // ‖y_T - y_S‖² = D · align², row by row
        part.error.push_back(on.sum_of_squares(loss) * static_cast<double>(D));
        part.energy.push_back(on.sum_of_squares(io.y));
      };
    }
    teacher.forward(ex, inputs, batch, hidden_t, tap);
    student.forward(ex, inputs, batch, hidden_s);
    in_logit_slices(ex, V, rows, [&](int64_t r, int64_t m) {
      const auto targets_now = targets.subspan(static_cast<size_t>(r), static_cast<size_t>(m));
      const Tensor logits_t = ex.make(m, V), logits_s = ex.make(m, V), loss = ex.make(1, m);
      teacher.logits(ex, hidden_t.rows(r, m), logits_t);
      student.logits(ex, hidden_s.rows(r, m), logits_s);
      on.cross_entropy(loss, {}, logits_t, targets_now, 1), append(ex, loss, part.nll_teacher);
      on.cross_entropy(loss, {}, logits_s, targets_now, 1), append(ex, loss, part.nll_student);
      on.kl(loss, {}, logits_s, logits_t, 1), append(ex, loss, part.kl);
      std::vector<int32_t> best_t(static_cast<size_t>(m)), best_s(static_cast<size_t>(m));
      on.argmax(best_t, logits_t), on.argmax(best_s, logits_s);
      for (size_t k = 0; k < best_t.size(); ++k) part.same += best_t[k] == best_s[k];
    });
  });

  Comparison c;
  Means nll_t, nll_s, kl;
  std::vector<double> error(static_cast<size_t>(L)), energy(static_cast<size_t>(L));
  int64_t same = 0;
  if (layers) c.alignment.resize(static_cast<size_t>(L));
  for (const Partial& p : parts) {
    nll_t.add(p.nll_teacher), nll_s.add(p.nll_student), kl.add(p.kl);
    same += p.same;
    for (size_t l = 0; l < p.align.size(); ++l)
      c.alignment[l] += p.align[l], error[l] += p.error[l], energy[l] += p.energy[l];
  }
  c.teacher = nll_t.scores("loss of the teacher"), c.student = nll_s.scores("loss of the student");
  const Scores divergence = kl.scores("KL");
  c.kl = divergence.nll, c.kl_by_position = divergence.nll_by_position;
  const auto tokens = static_cast<double>(c.teacher.tokens);
  c.top1 = static_cast<double>(same) / tokens;
  for (size_t l = 0; l < c.alignment.size(); ++l) {
    c.alignment[l] /= tokens;
    c.unexplained.push_back(energy[l] > 0 ? error[l] / energy[l] : 0);
  }
  return c;
}

std::vector<PositionBand> position_bands(const Comparison& c, size_t count) {
  const auto mean = [](const std::vector<double>& values, size_t begin, size_t end) {
    const auto at = values.begin();
    return std::accumulate(at + static_cast<int64_t>(begin), at + static_cast<int64_t>(end), 0.0) /
           static_cast<double>(end - begin);
  };
  std::vector<PositionBand> bands;
  const size_t length = c.kl_by_position.size(), step = std::max<size_t>(1, length / count);
  for (size_t begin = 0; begin < length; begin += step) {
    const size_t end = std::min(length, begin + step);
    bands.push_back({begin, end, std::exp(mean(c.teacher.nll_by_position, begin, end)),
                     std::exp(mean(c.student.nll_by_position, begin, end)), mean(c.kl_by_position, begin, end)});
  }
  return bands;
}

}  // namespace qwerky
