// SPDX-License-Identifier: MIT
#include "eval/paired.h"

#include <algorithm>
#include <cmath>
#include <iomanip>

#include "base/error.h"

namespace qwerky {
namespace {

constexpr double kNormal95 = 1.959963984540054;  // 97.5 % quantile of the normal distribution

/// What a task's documents add to a metric and to those of its groups.
struct Documents {
  std::vector<double> teacher, student, weight, chance;
  void append(const Documents& other) {
    teacher.insert(teacher.end(), other.teacher.begin(), other.teacher.end());
    student.insert(student.end(), other.student.begin(), other.student.end());
    weight.insert(weight.end(), other.weight.begin(), other.weight.end());
    chance.insert(chance.end(), other.chance.begin(), other.chance.end());
  }
};

std::vector<double> minus(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> difference(a.size());
  std::transform(a.begin(), a.end(), b.begin(), difference.begin(), std::minus<>());
  return difference;
}

/// Accuracies have a level of chance: 1 / choices, and 0 where the answer is free text.
bool has_chance(const Metric& metric) { return metric.how == Aggregation::mean; }

Documents documents_of(const TaskRun& teacher, const TaskRun& student, size_t column) {
  Documents all;
  for (size_t i = 0; i < teacher.outcomes.size(); ++i) {
    const Document& document = teacher.data.documents[i];
    const Value t = values_of(*teacher.task, document, teacher.outcomes[i])[column],
                s = values_of(*student.task, document, student.outcomes[i])[column];
    all.teacher.push_back(t.x), all.student.push_back(s.x);
    all.weight.push_back(static_cast<double>(t.weight));
    const auto choices = static_cast<double>(std::max(document.contexts.size(), document.choices.size()));
    all.chance.push_back(teacher.task->kind == Kind::multiple_choice ? 1 / choices : 0);
  }
  return all;
}

void compare_documents(PairedScore& score, const Metric& metric, const Documents& all) {
  score.ratio = metric.how == Aggregation::perplexity || metric.how == Aggregation::weighted_perplexity;
  const bool loss = metric.how != Aggregation::mean;  // values are log-likelihoods: less is worse
  score.change = ratio_of_sums(loss ? minus(all.teacher, all.student) : minus(all.student, all.teacher), all.weight);
  if (metric.how == Aggregation::bits_per_byte) {
    score.change.value /= std::log(2.0);
    if (score.change.error) *score.change.error /= std::log(2.0);
  }
  if (!has_chance(metric)) return;
  score.chance = ratio_of_sums(all.chance, all.weight).value;
  const double above = score.teacher.value - *score.chance;
  if (score.teacher.error && above > 0 && above > kNormal95 * *score.teacher.error)
    score.relative = ratio_of_sums(minus(all.student, all.chance), minus(all.teacher, all.chance));
}

/// Four decimals as lm-eval prints them; of what is large, four digits.
std::string fixed(double value) {
  return std::abs(value) < 1e4 ? concat(std::fixed, std::setprecision(4), value) : concat(std::setprecision(4), value);
}

std::string with_error(const Estimate& e) { return fixed(e.value) + (e.error ? " ± " + fixed(*e.error) : ""); }

}  // namespace

std::optional<Interval> Estimate::interval() const {
  if (!error) return std::nullopt;
  return Interval{value - kNormal95 * *error, value + kNormal95 * *error};
}

Estimate ratio_of_sums(std::span<const double> a, std::span<const double> b) {
  CHECK(a.size() == b.size() && !a.empty(), a.size(), " values over ", b.size());
  double above = 0, below = 0, squares = 0;
  for (size_t i = 0; i < a.size(); ++i) above += a[i], below += b[i];
  const double ratio = above / below;
  if (a.size() < 2) return {ratio, std::nullopt};
  for (size_t i = 0; i < a.size(); ++i) squares += (a[i] - ratio * b[i]) * (a[i] - ratio * b[i]);
  const auto n = static_cast<double>(a.size());
  return {ratio, std::sqrt(n / (n - 1) * squares) / std::abs(below)};
}

double PairedScore::shown_change() const { return ratio ? std::exp(change.value) : change.value; }

std::vector<PairedScore> paired_scores(const std::vector<std::string>& names, std::span<const TaskRun> teacher_runs,
                                       std::span<const TaskRun> student_runs, int bootstrap_iters) {
  std::vector<TaskRun> teacher(teacher_runs.begin(), teacher_runs.end()),
      student(student_runs.begin(), student_runs.end());
  CHECK(teacher.size() == student.size());
  for (size_t i = 0; i < teacher.size(); ++i) {
    CHECK(teacher[i].task == student[i].task && teacher[i].data.sha256 == student[i].data.sha256);
    const size_t both = std::min(teacher[i].outcomes.size(), student[i].outcomes.size());
    teacher[i].outcomes.resize(both), student[i].outcomes.resize(both);
  }
  const std::vector<Entry> of_teacher = entries_of(names, teacher, bootstrap_iters),
                           of_student = entries_of(names, student, bootstrap_iters);
  CHECK(of_teacher.size() == of_student.size());
  std::vector<PairedScore> scores;
  struct Open {  // a group above the entry that is looked at
    size_t score;
    Documents documents;
    std::vector<double> errors;
    std::vector<int64_t> sizes;
    Metric metric;
  };
  std::vector<Open> groups;
  const auto close = [&](int depth) {
    while (!groups.empty() && scores[groups.back().score].depth >= depth) {
      Open& group = groups.back();
      PairedScore& score = scores[group.score];
      compare_documents(score, group.metric, group.documents);
      score.change.error = group.errors.size() == group.sizes.size()
                               ? std::optional(pooled_error(group.errors, group.sizes))
                               : std::nullopt;
      groups.pop_back();
    }
  };
  for (size_t e = 0; e < of_teacher.size(); ++e) {
    const Entry &t = of_teacher[e], &s = of_student[e];
    close(t.depth);
    for (size_t column = 0; column < t.scores.size(); ++column) {
      const Score &a = t.scores[column], &b = s.scores[column];
      scores.push_back({.name = t.name,
                        .metric = a.metric,
                        .filter = a.filter,
                        .depth = t.depth,
                        .shots = t.shots,
                        .documents = t.documents,
                        .teacher = {a.value, a.error},
                        .student = {b.value, b.error},
                        .chance = {},
                        .change = {},
                        .interval = {},
                        .relative = {}});
      if (t.group) continue;
      const auto run =
          std::find_if(teacher.begin(), teacher.end(), [&](const TaskRun& r) { return r.task->name == t.name; });
      const Task& task = *run->task;
      const Documents all = documents_of(*run, student[static_cast<size_t>(run - teacher.begin())], column);
      const Metric& metric = task.metrics[column % task.metrics.size()];
      compare_documents(scores.back(), metric, all);
      if (column > 0) continue;  // a group averages the first metric of its tasks
      for (Open& group : groups) {
        group.documents.append(all);
        group.sizes.push_back(t.documents);
        if (scores.back().change.error) group.errors.push_back(*scores.back().change.error);
        group.metric = metric;
      }
    }
    if (t.group) groups.push_back({scores.size() - 1, {}, {}, {}, {}});
  }
  close(0);
  for (PairedScore& score : scores) {
    score.interval = score.change.interval();
    if (score.interval && score.ratio)
      score.interval = Interval{std::exp(score.interval->low), std::exp(score.interval->high)};
  }
  return scores;
}

Json to_json(const PairedScore& s) {
  const auto maybe = [](const std::optional<double>& x) { return x ? Json(*x) : Json(); };
  return {{"task", s.name},
          {"metric", s.metric},
          {"filter", s.filter},
          {"documents", s.documents},
          {"teacher", s.teacher.value},
          {"teacher_stderr", maybe(s.teacher.error)},
          {"student", s.student.value},
          {"student_stderr", maybe(s.student.error)},
          {"chance", maybe(s.chance)},
          {"change", s.shown_change()},
          {"change_is_ratio", s.ratio},
          {"change_95", s.interval ? Json{s.interval->low, s.interval->high} : Json()},
          {"relative", s.relative ? Json(s.relative->value) : Json()},
          {"relative_stderr", s.relative ? maybe(s.relative->error) : Json()}};
}

std::vector<std::string> paired_headers() {
  return {"Tasks", "n-shot", "n", "Metric", "Teacher", "Student", "Student − teacher [95 % CI]", "Relative", "Chance"};
}

std::vector<std::string> paired_cells(const PairedScore& s) {
  std::string indent;
  for (int i = 0; i < s.depth; ++i) indent += " ";
  const auto amount = [&](double x) { return (s.ratio || x < 0 ? "" : "+") + fixed(x); };
  std::string change = (s.ratio ? "× " : "") + amount(s.shown_change());
  if (s.interval) change += " [" + amount(s.interval->low) + ", " + amount(s.interval->high) + "]";
  return {indent + (s.depth > 0 ? "- " : "") + s.name,
          s.shots ? std::to_string(*s.shots) : "",
          std::to_string(s.documents),
          s.metric + (s.filter == "none" ? "" : ", " + s.filter),
          with_error(s.teacher),
          with_error(s.student),
          change,
          s.relative ? with_error(*s.relative) : "N/A",
          s.chance ? fixed(*s.chance) : "N/A"};
}

}  // namespace qwerky
