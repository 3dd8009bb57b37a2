// SPDX-License-Identifier: MIT
#include "distill/steps.h"

#include "engine/measure.h"

namespace qwerky {

namespace {

/// f(first row, rows) for slices of rows whose logits fit in memory; what f takes from the arena ends with the slice.
template <class F>
void in_slices(const Exec& ex, int64_t vocab, int64_t rows, F&& f) {
  const int64_t step = logit_rows(vocab, rows);
  for (int64_t r = 0; r < rows; r += step) {
    Scope scope(ex.scratch);
    f(r, std::min(step, rows - r));
  }
}

}  // namespace

std::vector<int32_t> WindowBatch::inputs() const {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) {
    const auto w = tokens.subspan(static_cast<size_t>(i * (length + 1)), static_cast<size_t>(length));
    ids.insert(ids.end(), w.begin(), w.end());
  }
  return ids;
}

std::vector<int32_t> WindowBatch::targets() const {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) {
    const auto w = tokens.subspan(static_cast<size_t>(i * (length + 1) + 1), static_cast<size_t>(length));
    ids.insert(ids.end(), w.begin(), w.end());
  }
  return ids;
}

std::vector<Segment> WindowBatch::segments() const {
  std::vector<Segment> list;
  for (int64_t i = 0; i < count; ++i) list.push_back({nullptr, i * length, length});
  return list;
}

int64_t converted_layers(const Config& student) {
  int64_t n = 0;
  for (MixerKind kind : student.mixers) n += kind != MixerKind::softmax;
  return n;
}

double align_step(const Exec& ex, const Decoder& teacher, const Decoder& student, const WindowBatch& windows,
                  double weight, const TargetCache* cache, const std::string& key) {
  Scope scope(ex.scratch);
  const std::vector<int32_t> inputs = windows.inputs();
  const std::vector<Segment> batch = windows.segments();
  const int64_t rows = static_cast<int64_t>(inputs.size()), D = teacher.config().hidden,
                first = student.config().first_rwkv7();
  const Decoder::Shared shared = student.share(ex, batch, rows, true);
  double total = 0;

  const auto pull = [&](int64_t layer, Tensor x, Tensor y_teacher) {
    Scope inner(ex.scratch);
    const Tensor y = ex.make(rows, D), dx = ex.make(rows, D), dy = ex.make(rows, D), loss = ex.make(1, rows);
    student.mixer(layer).backward(ex, {x, y, shared.rope, shared.v_first}, {dx, dy, {}, shared.dv_first}, batch, [&] {
      ex.on.align(loss, dy, y, y_teacher, weight);
      total += ex.on.sum(loss);
    });
  };
  // The layer that sets v_first is reversed last: deeper layers first add their gradients of v_first.
  const Tensor first_x = first >= 0 ? ex.make(rows, D) : Tensor(), first_y = first >= 0 ? ex.make(rows, D) : Tensor();
  const Tap align_layer = [&](int64_t layer, const Io& io) {
    if (student.config().mixers[static_cast<size_t>(layer)] == MixerKind::softmax) return;
    if (layer == first) {
      ex.on.copy(first_x, io.x);
      ex.on.copy(first_y, io.y);
      Scope inner(ex.scratch);
      student.mixer(layer).forward(ex, {io.x, ex.make(rows, D), shared.rope, shared.v_first}, batch);
    } else {
      pull(layer, io.x, io.y);
    }
  };
  if (cache) {
    cache->run(ex, teacher, inputs, batch, key, align_layer);
  } else {
    teacher.forward(ex, inputs, batch, ex.make(rows, D), align_layer);
  }
  if (first >= 0) pull(first, first_x, first_y);
  return total;
}

double kl_step(const Exec& ex, const Decoder& teacher, const Decoder& student, const WindowBatch& windows,
               double weight, bool recompute, double next_token) {
  Scope scope(ex.scratch);
  const std::vector<int32_t> inputs = windows.inputs(), targets = windows.targets();
  const std::vector<Segment> batch = windows.segments();
  const int64_t rows = static_cast<int64_t>(inputs.size()), V = student.config().vocab;
  const Tensor hidden_t = ex.make(rows, teacher.config().hidden);
  teacher.forward(ex, inputs, batch, hidden_t);
  double total = 0;
  student.train(
      ex, inputs, batch,
      [&](Tensor hidden, Tensor dhidden) {
        in_slices(ex, V, rows, [&](int64_t r, int64_t n) {
          const Tensor logits_t = ex.make(n, V), logits_s = ex.make(n, V), loss = ex.make(1, n);
          teacher.logits(ex, hidden_t.rows(r, n), logits_t);
          student.logits(ex, hidden.rows(r, n), logits_s);
          const Tensor dnext = next_token > 0 ? ex.make(n, V) : Tensor();
          if (dnext)
            ex.on.cross_entropy(loss, dnext, logits_s,
                                std::span(targets).subspan(static_cast<size_t>(r), static_cast<size_t>(n)),
                                next_token * weight);
          ex.on.kl(loss, logits_s, logits_s, logits_t, weight);
          if (dnext) ex.on.add(logits_s, dnext);
          total += ex.on.sum(loss);
          student.logits_vjp(ex, hidden.rows(r, n), dhidden.rows(r, n), logits_s);
        });
      },
      recompute);
  return total;
}

double cross_entropy_step(const Exec& ex, const Decoder& student, const WindowBatch& windows, double weight,
                          bool recompute) {
  const std::vector<int32_t> inputs = windows.inputs(), targets = windows.targets();
  const std::vector<Segment> batch = windows.segments();
  const int64_t rows = static_cast<int64_t>(inputs.size()), V = student.config().vocab;
  double total = 0;
  student.train(
      ex, inputs, batch,
      [&](Tensor hidden, Tensor dhidden) {
        in_slices(ex, V, rows, [&](int64_t r, int64_t n) {
          const Tensor logits = ex.make(n, V), loss = ex.make(1, n);
          student.logits(ex, hidden.rows(r, n), logits);
          ex.on.cross_entropy(loss, logits, logits,
                              std::span(targets).subspan(static_cast<size_t>(r), static_cast<size_t>(n)), weight);
          total += ex.on.sum(loss);
          student.logits_vjp(ex, hidden.rows(r, n), dhidden.rows(r, n), logits);
        });
      },
      recompute);
  return total;
}

}  // namespace qwerky
