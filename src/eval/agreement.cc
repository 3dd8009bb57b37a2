// SPDX-License-Identifier: MIT
#include "eval/agreement.h"

#include <algorithm>

#include "base/error.h"
#include "engine/side_by_side.h"
#include "engine/throughput.h"
#include "eval/text_rules.h"

namespace qwerky {
namespace {

constexpr size_t kSideBySide = 16;  // prompts that decode together

/// Calls f(i) for at most `most` of n numbers, evenly spaced from the first.
template <class F>
void spaced(int64_t n, int64_t most, const F& f) {
  const int64_t count = std::min(n, most);
  for (int64_t k = 0; k < count; ++k) f(k * n / count);
}

}  // namespace

GreedyPrompts task_prompts(const TaskRun& run, const Tokenizer& tokenizer, int64_t most, int64_t room) {
  CHECK(room > 0);
  GreedyPrompts prompts{run.task->name, {}};
  if (run.task->kind == Kind::rolling) return prompts;
  spaced(static_cast<int64_t>(run.outcomes.size()), most, [&](int64_t i) {
    const std::string context = run.requests(i)[0].context;
    Ids ids = tokenizer.encode(run.prompts.render ? context : python_rstrip(context));
    if (ids.empty()) return;
    if (static_cast<int64_t>(ids.size()) > room) ids.erase(ids.begin(), ids.end() - room);
    prompts.ids.push_back(std::move(ids));
  });
  return prompts;
}

GreedyPrompts window_prompts(const Windows& windows, int64_t most) {
  GreedyPrompts prompts{"text", {}};
  spaced(windows.count(), most, [&](int64_t i) {
    const auto window = windows.inputs(i);
    const auto half = window.first((window.size() + 1) / 2);
    prompts.ids.emplace_back(half.begin(), half.end());
  });
  return prompts;
}

std::vector<Ids> continuations(const Engine& engine, const std::vector<Ids>& prompts, int64_t tokens,
                               const std::function<void(int64_t)>& progress) {
  const Engine::Internals& in = engine.internals();
  std::vector<Ids> written(prompts.size());
  for (size_t from = 0; from < prompts.size(); from += kSideBySide) {
    const size_t n = std::min(kSideBySide, prompts.size() - from);
    continue_prompts(*in.backend, *in.model->decoder, std::span(prompts).subspan(from, n), tokens,
                     [&](size_t i, int32_t id) {
                       written[from + i].push_back(id);
                       return !engine.ends_text(id);
                     });
    if (progress) progress(static_cast<int64_t>(from + n));
  }
  return written;
}

double Agreement::share(int64_t k) const {
  const auto n = std::count_if(agreed.begin(), agreed.end(), [&](int64_t ids) { return ids >= k; });
  return static_cast<double>(n) / static_cast<double>(agreed.size());
}

double Agreement::median_agreed() const { return median({agreed.begin(), agreed.end()}); }

Agreement agreement(const std::string& source, int64_t tokens, std::span<const Ids> teacher,
                    std::span<const Ids> student) {
  CHECK(teacher.size() == student.size());
  Agreement result{source, tokens, {}};
  for (size_t i = 0; i < teacher.size(); ++i) {
    const auto [t, s] = std::mismatch(teacher[i].begin(), teacher[i].end(), student[i].begin(), student[i].end());
    const bool same = t == teacher[i].end() && s == student[i].end();
    result.agreed.push_back(same ? tokens : t - teacher[i].begin());
  }
  return result;
}

Json to_json(const Agreement& a) {
  return {{"source", a.source},
          {"tokens", a.tokens},
          {"prompts", a.agreed.size()},
          {"identical", a.identical()},
          {"median_agreed", a.median_agreed()},
          {"agreed", a.agreed}};
}

Agreement pooled(std::span<const Agreement> parts) {
  CHECK(!parts.empty());
  Agreement all{"all", parts[0].tokens, {}};
  for (const Agreement& part : parts) all.agreed.insert(all.agreed.end(), part.agreed.begin(), part.agreed.end());
  return all;
}

}  // namespace qwerky
