// SPDX-License-Identifier: MIT
#include "engine/prompt_tree.h"

#include <algorithm>
#include <numeric>

#include "engine/measure.h"
#include "engine/prefill.h"

namespace qwerky {
namespace {

/// Of ids that both read before their last, whose logits each prompt wants for itself.
int64_t common(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  const auto most = static_cast<int64_t>(std::min(a.size(), b.size())) - 1;
  return std::mismatch(a.begin(), a.begin() + most, b.begin()).first - a.begin();
}

/// Indices of the prompts, lexicographically.
std::vector<size_t> sorted(Prompts prompts) {
  std::vector<size_t> order(prompts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return prompts[a] < prompts[b]; });
  return order;
}

struct Reader {
  const Exec& ex;
  const Decoder& model;
  Prompts prompts;
  int64_t capacity;
  const RowsRead& on_rows;
  const PromptRead& on_read;
  const std::function<bool(size_t i)>& wanted;

  std::unique_ptr<State> new_state() const { return model.make_state(ex.on.scalar(), capacity); }

  bool read(State& state, std::span<const int32_t> ids, Tensor logits) const {
    while (!ids.empty()) {
      const auto part = ids.first(std::min<size_t>(ids.size(), kPrefillRows));
      ids = ids.subspan(part.size());
      prefill(ex, model, state, part, ids.empty() ? logits : Tensor{});
      if (!on_rows(static_cast<int64_t>(part.size()))) return false;
    }
    return true;
  }

  bool finish(size_t i, State& state) const {
    Scope scope(ex.scratch);
    const Tensor logits = ex.make(1, model.config().vocab);
    if (!read(state, std::span(prompts[i]).subspan(static_cast<size_t>(state.position())), logits)) return false;
    on_read(i, state, logits);
    return true;
  }

  /// `group` is sorted; `state` has read what is at the beginning of all of it.
  bool visit(std::span<const size_t> group, State& state) const {
    if (wanted && std::none_of(group.begin(), group.end(), wanted)) return true;
    if (group.size() == 1) return finish(group[0], state);
    const std::vector<int32_t>& first = prompts[group.front()];
    int64_t at = static_cast<int64_t>(first.size()) - 1;
    for (size_t i : group) at = std::min(at, common(first, prompts[i]));
    if (!read(state,
              std::span(first)
                  .subspan(static_cast<size_t>(state.position()))
                  .first(static_cast<size_t>(at - state.position())),
              {}))
      return false;
    std::vector<std::span<const size_t>> branches;
    const auto ends = [&](size_t i) { return static_cast<int64_t>(prompts[group[i]].size()) == at + 1; };
    const auto id = [&](size_t i) { return prompts[group[i]][static_cast<size_t>(at)]; };
    for (size_t begin = 0, end = 0; begin < group.size(); begin = end) {
      ++end;  // one that ends is a branch of its own
      while (!ends(begin) && end < group.size() && id(end) == id(begin)) ++end;
      branches.push_back(group.subspan(begin, end - begin));
    }
    std::stable_sort(branches.begin(), branches.end(), [](auto a, auto b) { return a.size() < b.size(); });
    for (size_t b = 0; b + 1 < branches.size(); ++b) {
      const auto branch = new_state();
      branch->copy_from(state);
      if (!visit(branches[b], *branch)) return false;
    }
    return visit(branches.back(), state);
  }
};

}  // namespace

int64_t prompt_rows(Prompts prompts, bool share) {
  int64_t rows = 0;
  for (const auto& prompt : prompts) rows += static_cast<int64_t>(prompt.size());
  if (!share) return rows;
  const auto order = sorted(prompts);
  for (size_t i = 1; i < order.size(); ++i) rows -= common(prompts[order[i - 1]], prompts[order[i]]);
  return rows;
}

bool read_prompts(const Exec& ex, const Decoder& model, Prompts prompts, bool share, int64_t room,
                  const RowsRead& on_rows, const PromptRead& on_read, const std::function<bool(size_t i)>& wanted) {
  int64_t longest = 0;
  for (const auto& prompt : prompts) {
    CHECK(!prompt.empty(), "an empty prompt");
    longest = std::max(longest, static_cast<int64_t>(prompt.size()));
  }
  const Reader reader{ex, model, prompts, longest + room, on_rows, on_read, wanted};
  const auto order = sorted(prompts);
  for (size_t i = 0; i < order.size(); i += share ? order.size() : 1) {
    const auto state = reader.new_state();
    if (!reader.visit(std::span(order).subspan(i, share ? order.size() : 1), *state)) return false;
  }
  return true;
}

std::vector<double> sequence_losses(const Exec& ex, const Decoder& model, std::span<const int32_t> ids, int64_t first,
                                    const RowsRead& on_rows) {
  const auto n = static_cast<int64_t>(ids.size()) - 1;  // rows read
  CHECK(first >= 1 && first <= n, "losses from ", first, " of ", n + 1, " ids");
  const int64_t V = model.config().vocab;
  const auto state = model.make_state(ex.on.scalar(), n);
  std::vector<double> losses;
  for (int64_t at = 0; at < n; at += kPrefillRows) {
    Scope scope(ex.scratch);
    const int64_t rows = std::min(kPrefillRows, n - at), from = std::clamp(first - 1 - at, int64_t{0}, rows);
    const Segment segment{state.get(), 0, rows};
    const Tensor hidden = ex.make(rows, model.config().hidden);
    model.forward(ex, ids.subspan(static_cast<size_t>(at), static_cast<size_t>(rows)), {&segment, 1}, hidden);
    in_logit_slices(ex, V, rows - from, [&](int64_t r, int64_t m) {
      const Tensor logits = ex.make(m, V), loss = ex.make(1, m);
      model.logits(ex, hidden.rows(from + r, m), logits);
      ex.on.cross_entropy(loss, {}, logits, ids.subspan(static_cast<size_t>(at + from + r + 1), static_cast<size_t>(m)),
                          1);
      wait_for_device();
      for (int64_t i = 0; i < m; ++i) losses.push_back(double(loss.as<float>()[i]));
    });
    if (!on_rows(rows)) break;
  }
  return losses;
}

}  // namespace qwerky
