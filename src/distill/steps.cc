// SPDX-License-Identifier: MIT
#include "distill/steps.h"

#include "engine/measure.h"

namespace qwerky {

namespace {

/// The student's forward and backward. loss(first row, rows, logits, their targets, loss) gives the loss of a slice of
/// rows and turns its logits into their gradient.
template <class F>
double train_on_logits(const Exec& ex, const Decoder& student, const WindowBatch& windows, bool recompute, F&& loss) {
  const std::vector<int32_t> inputs = windows.inputs(), targets = windows.targets();
  const int64_t rows = static_cast<int64_t>(inputs.size()), V = student.config().vocab;
  double total = 0;
  student.train(
      ex, inputs, windows.segments(),
      [&](Tensor hidden, Tensor dhidden) {
        in_logit_slices(ex, V, rows, [&](int64_t r, int64_t n) {
          const Tensor logits = ex.make(n, V), losses = ex.make(1, n);
          student.logits(ex, hidden.rows(r, n), logits);
          loss(r, n, logits, std::span(targets).subspan(static_cast<size_t>(r), static_cast<size_t>(n)), losses);
          total += ex.on.sum(losses);
          student.logits_vjp(ex, hidden.rows(r, n), dhidden.rows(r, n), logits);
        });
      },
      recompute);
  return total;
}

}  // namespace

std::vector<int32_t> WindowBatch::ids(int64_t first) const {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) {
    const auto w = tokens.subspan(static_cast<size_t>(i * (length + 1) + first), static_cast<size_t>(length));
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
    ex.leave(layer);
  };
  // The layer that sets v_first is reversed last: deeper layers first add their gradients of v_first.
  const Tensor first_x = first >= 0 ? ex.make(rows, D) : Tensor(), first_y = first >= 0 ? ex.make(rows, D) : Tensor();
  const Tap align_layer = [&](int64_t layer, const Io& io) {
    if (!student.config().is_linear(layer)) return;
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
  const Tensor hidden_t = ex.make(windows.count * windows.length, teacher.config().hidden);
  teacher.forward(ex, windows.inputs(), windows.segments(), hidden_t);
  return train_on_logits(ex, student, windows, recompute,
                         [&](int64_t r, int64_t n, Tensor logits, std::span<const int32_t> targets, Tensor loss) {
                           const Tensor logits_t = ex.make(n, logits.cols());
                           teacher.logits(ex, hidden_t.rows(r, n), logits_t);
                           const Tensor dnext = next_token > 0 ? ex.make(n, logits.cols()) : Tensor();
                           if (dnext) ex.on.cross_entropy(loss, dnext, logits, targets, next_token * weight);
                           ex.on.kl(loss, logits, logits, logits_t, weight);
                           if (dnext) ex.on.add(logits, dnext);
                         });
}

double cross_entropy_step(const Exec& ex, const Decoder& student, const WindowBatch& windows, double weight,
                          bool recompute) {
  return train_on_logits(ex, student, windows, recompute,
                         [&](int64_t, int64_t, Tensor logits, std::span<const int32_t> targets, Tensor loss) {
                           ex.on.cross_entropy(loss, logits, logits, targets, weight);
                         });
}

}  // namespace qwerky
