// SPDX-License-Identifier: MIT
#include "engine/continuations.h"

#include <algorithm>
#include <numeric>

#include "base/units.h"
#include "engine/measure.h"
#include "engine/prefill.h"

namespace qwerky {
namespace {

/// Rows that a branch must save. It costs copies of states, each about half a row's time, and deep in the tree calls
/// that are not full.
constexpr int64_t kWorthSharing = 8;
/// Beginnings shorter than this are not kept from call to call.
constexpr int64_t kWorthKeeping = 16;

int64_t common(std::span<const int32_t> a, std::span<const int32_t> b) {
  const size_t most = std::min(a.size(), b.size());
  size_t n = 0;
  while (n < most && a[n] == b[n]) ++n;
  return static_cast<int64_t>(n);
}

/// What the model reads: all ids but the last.
std::span<const int32_t> inputs(const Continuation& c) { return std::span(c.ids).first(c.ids.size() - 1); }

}  // namespace

/// Positions [begin, end) of the requests order[lo, hi), whose inputs agree up to `end`.
struct ContinuationScorer::Node {
  int64_t begin, end;
  size_t lo, hi;
  std::vector<int32_t> children;
};

/// What a node goes on from; null: from zero.
struct ContinuationScorer::Parent {
  State* state = nullptr;
  bool last = false;  ///< nobody else goes on from it: it need not be copied
};

struct ContinuationScorer::Job {
  std::span<const Continuation> requests;
  std::vector<size_t> order;  ///< by inputs, lexicographically
  std::vector<Node> nodes;
  std::vector<ContinuationScore> scores;
  int64_t capacity = 0;

  const Continuation& request(size_t i) const { return requests[order[i]]; }
  int64_t length(size_t i) const { return static_cast<int64_t>(request(i).ids.size()) - 1; }

  /// The nodes that cover order[lo, hi) from position `begin` on, appended to `to`.
  void grow(size_t lo, size_t hi, int64_t begin, bool share, std::vector<int32_t>& to) {
    if (!share) {
      for (size_t i = lo; i < hi; ++i) to.push_back(add({begin, length(i), i, i + 1, {}}));
      return;
    }
    const int64_t end = common(inputs(request(lo)), inputs(request(hi - 1)));  // sorted: what all have in common
    size_t ended = lo;
    while (ended < hi && length(ended) == end) ++ended;
    std::vector<std::pair<size_t, size_t>> groups;
    for (size_t i = ended; i < hi;) {
      const int32_t id = request(i).ids[static_cast<size_t>(end)];
      size_t j = i;
      while (j < hi && request(j).ids[static_cast<size_t>(end)] == id) ++j;
      groups.emplace_back(i, j);
      i = j;
    }
    const auto branches = static_cast<int64_t>(groups.size() + (ended > lo ? 1 : 0));
    if (branches > 1 && (end - begin) * (branches - 1) < kWorthSharing && groups.size() > 0) {
      if (ended > lo) to.push_back(add({begin, end, lo, ended, {}}));
      for (const auto& [a, b] : groups) grow(a, b, begin, true, to);
      return;
    }
    const int32_t node = add({begin, end, lo, hi, {}});
    std::vector<int32_t> children;
    for (const auto& [a, b] : groups) grow(a, b, end, true, children);
    nodes[static_cast<size_t>(node)].children = std::move(children);
    to.push_back(node);
  }

 private:
  int32_t add(Node node) {
    nodes.push_back(std::move(node));
    return static_cast<int32_t>(nodes.size()) - 1;
  }
};

/// The state after `ids`.
struct ContinuationScorer::Kept {
  std::vector<int32_t> ids;
  std::unique_ptr<State> state;
};

ContinuationScorer::ContinuationScorer(const Backend& on, const Decoder& model, const ContinuationOptions& options)
    : on_(on), model_(model), options_(options), scratch_("scoring scratch") {}
ContinuationScorer::~ContinuationScorer() = default;

std::unique_ptr<State> ContinuationScorer::take_state(int64_t capacity) {
  if (!free_.empty() && free_.back()->capacity() != capacity) free_.clear();
  if (free_.empty()) return model_.make_state(on_.scalar(), capacity);
  auto state = std::move(free_.back());
  free_.pop_back();
  return state;
}

std::vector<ContinuationScore> ContinuationScorer::score(std::span<const Continuation> requests) {
  Job job{requests, std::vector<size_t>(requests.size()), {}, std::vector<ContinuationScore>(requests.size()), 0};
  if (requests.empty()) return job.scores;
  int64_t longest = 0;
  for (const Continuation& c : requests) {
    const auto n = static_cast<int64_t>(c.ids.size());
    if (c.first < 1 || c.first >= n) fail("continuation: ids from ", c.first, " of ", n, " cannot be scored");
    for (int32_t id : c.ids)
      if (id < 0 || id >= model_.config().vocab)
        fail("token ", id, " is outside the vocabulary of ", model_.config().vocab);
    rows_asked_ += n - 1;
    longest = std::max(longest, n - 1);
  }
  constexpr int64_t kCapacityStep = 256;  // states of a few sizes only, to be used again
  job.capacity = (longest + kCapacityStep - 1) / kCapacityStep * kCapacityStep;
  std::iota(job.order.begin(), job.order.end(), size_t{0});
  std::stable_sort(job.order.begin(), job.order.end(), [&](size_t a, size_t b) {
    return std::ranges::lexicographical_compare(inputs(requests[a]), inputs(requests[b]));
  });
  const int64_t shared = common(inputs(job.request(0)), inputs(job.request(requests.size() - 1)));
  int64_t first_scored = longest;
  for (const Continuation& c : requests) first_scored = std::min(first_scored, c.first - 1);
  const int64_t keep = options_.share ? std::min(shared, first_scored) : 0;  // no logits are needed before it

  std::vector<int32_t> roots;
  std::vector<Parent> parents;
  const auto start = inputs(job.request(0)).first(static_cast<size_t>(keep));
  if (keep >= kWorthKeeping) {
    const bool known = kept_ && common(kept_->ids, start) == static_cast<int64_t>(kept_->ids.size());
    if (!known) {
      kept_ = std::make_unique<Kept>(Kept{{start.begin(), start.end()}, take_state(job.capacity)});
      kept_->state->reset();
      const auto began = Clock::now();
      prefill({on_, scratch_}, model_, *kept_->state, start, {});
      model_seconds_ += seconds_since(began);
      rows_run_ += keep;
    }
    job.grow(0, requests.size(), static_cast<int64_t>(kept_->ids.size()), true, roots);
    parents.assign(roots.size(), {kept_->state.get(), false});
  } else {
    job.grow(0, requests.size(), 0, options_.share, roots);
    parents.resize(roots.size());
  }
  visit(job, roots, parents);
  return job.scores;
}

/// Runs `nodes` after `parents`, then what comes after them. Calls are filled with nodes of one level, whoever their
/// parents are; as many levels' states are alive as the tree is deep.
void ContinuationScorer::visit(Job& job, std::span<const int32_t> nodes, std::span<const Parent> parents) {
  const int64_t bytes = model_.state_scalars(job.capacity) * size_of(on_.scalar());
  const auto most = static_cast<size_t>(std::max<int64_t>(1, options_.state_bytes / std::max<int64_t>(1, bytes)));
  const auto node = [&](size_t i) -> const Node& { return job.nodes[static_cast<size_t>(nodes[i])]; };
  for (size_t from = 0; from < nodes.size();) {
    std::vector<std::unique_ptr<State>> kept;  // states that nodes go on from
    std::vector<int32_t> children;
    std::vector<Parent> their_parents;
    while (from < nodes.size() && kept.size() < most) {
      std::vector<State*> states;
      std::vector<std::unique_ptr<State>> leaves;
      size_t to = from;
      for (int64_t rows = 0; to < nodes.size() && kept.size() + leaves.size() < most; ++to) {
        const int64_t length = node(to).end - node(to).begin;
        rows += length;
        if (to > from && rows > options_.rows) break;
        State* const parent = parents[to].state;
        State* state = parents[to].last ? parent : nullptr;
        if (state == nullptr && (parent != nullptr || !node(to).children.empty() || length > options_.rows)) {
          auto& owner = node(to).children.empty() ? leaves : kept;
          owner.push_back(take_state(job.capacity));
          state = owner.back().get();
          parent != nullptr ? model_.copy_state(*state, *parent) : state->reset();
        }
        states.push_back(state);
      }
      run_chunk(job, nodes.subspan(from, to - from), states);
      for (size_t i = from; i < to; ++i)
        for (const int32_t child : node(i).children) {
          children.push_back(child);
          their_parents.push_back({states[i - from], child == node(i).children.back()});
        }
      for (auto& state : leaves) free_.push_back(std::move(state));
      from = to;
    }
    if (!children.empty()) visit(job, children, their_parents);
    for (auto& state : kept) free_.push_back(std::move(state));
  }
}

/// Nodes side by side in one call; a single node that is longer than a call in several.
void ContinuationScorer::run_chunk(Job& job, std::span<const int32_t> nodes, std::span<State* const> states) {
  const Exec ex{on_, scratch_};
  const Node& first = job.nodes[static_cast<size_t>(nodes[0])];
  const int64_t longest = nodes.size() == 1 ? first.end - first.begin : options_.rows;
  for (int64_t at = 0; at == 0 || at < longest; at += options_.rows) {
    Scope scope(scratch_);
    std::vector<int32_t> ids;
    std::vector<Segment> batch;
    for (size_t i = 0; i < nodes.size(); ++i) {
      const Node& node = job.nodes[static_cast<size_t>(nodes[i])];
      const auto part = inputs(job.request(node.lo))
                            .subspan(static_cast<size_t>(node.begin + at),
                                     static_cast<size_t>(std::min(options_.rows, node.end - node.begin - at)));
      batch.push_back({states[i], static_cast<int64_t>(ids.size()), static_cast<int64_t>(part.size())});
      ids.insert(ids.end(), part.begin(), part.end());
    }
    if (ids.empty()) continue;
    if (options_.before_call) options_.before_call();
    rows_run_ += static_cast<int64_t>(ids.size());
    const auto began = Clock::now();
    const Tensor hidden = ex.make(static_cast<int64_t>(ids.size()), model_.config().hidden);
    model_.forward(ex, ids, batch, hidden);
    read_logits(job, nodes, batch, at, hidden);
    model_seconds_ += seconds_since(began);
  }
}

/// The rows of a call that predict what is scored: logits of a slice at a time, each row's normaliser once.
void ContinuationScorer::read_logits(Job& job, std::span<const int32_t> nodes, Batch batch, int64_t at, Tensor hidden) {
  struct Row {
    const Node* node;
    int64_t row, position;
  };
  std::vector<Row> wanted;
  for (size_t i = 0; i < nodes.size(); ++i) {
    const Node& node = job.nodes[static_cast<size_t>(nodes[i])];
    const int64_t begin = node.begin + at, end = begin + batch[i].rows;
    int64_t from = end;
    for (size_t r = node.lo; r < node.hi; ++r) from = std::min(from, std::max(begin, job.request(r).first - 1));
    for (int64_t p = from; p < end; ++p) wanted.push_back({&node, batch[i].row + p - begin, p});
  }
  const Exec ex{on_, scratch_};
  const int64_t V = model_.config().vocab;
  in_logit_slices(ex, V, static_cast<int64_t>(wanted.size()), [&](int64_t from, int64_t n) {
    const auto rows = std::span(wanted).subspan(static_cast<size_t>(from), static_cast<size_t>(n));
    const Tensor x = ex.make(n, model_.config().hidden), logits = ex.make(n, V), loss = ex.make(1, n);
    std::vector<int32_t> targets, best(rows.size());
    for (int64_t i = 0; i < n; ++i) {
      const Row& row = rows[static_cast<size_t>(i)];
      on_.copy(x.rows(i, 1), hidden.rows(row.row, 1));
      targets.push_back(job.request(row.node->lo).ids[static_cast<size_t>(row.position) + 1]);
    }
    model_.logits(ex, x, logits);
    on_.cross_entropy(loss, {}, logits, targets, 1);
    on_.argmax(best, logits);
    for (size_t i = 0; i < rows.size(); ++i) {
      const float* logit = logits.as<float>() + static_cast<int64_t>(i) * V;
      const double normaliser = double(loss.as<float>()[i]) + double(logit[targets[i]]);  // log Σ exp
      const Row& row = rows[i];
      for (size_t r = row.node->lo; r < row.node->hi; ++r) {
        if (row.position < job.request(r).first - 1 || row.position >= job.length(r)) continue;
        const int32_t id = job.request(r).ids[static_cast<size_t>(row.position) + 1];
        ContinuationScore& score = job.scores[job.order[r]];
        score.loglikelihood += double(logit[id]) - normaliser;
        score.greedy = score.greedy && best[i] == id;
      }
    }
  });
}

}  // namespace qwerky
