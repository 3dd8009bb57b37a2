// SPDX-License-Identifier: MIT
#include "eval/report.h"

#include <algorithm>
#include <cmath>

#include "eval/report_parts.h"
#include "eval/report_style.h"
#include "io/tokenizer_utf8.h"

namespace qwerky {

using namespace report_parts;

namespace {

Dot dot_of(const Estimate& e) {
  const auto interval = e.interval();
  return {e.value, interval ? interval->low : NAN, interval ? interval->high : NAN};
}

std::string tasks_section(const Report& report) {
  if (report.scores.empty()) return "";
  std::vector<Cells> rows;
  Forest scores{.title = "Scores",
                .x_label = "score, 95 % interval; bar: level of chance",
                .series = {"teacher", "student"},
                .rows = {}},
      changes{.title = "Student − teacher",
              .x_label = "paired difference, 95 % interval",
              .series = {},
              .rows = {},
              .reference = 0},
      relative{.title = "Relative score",
               .x_label = "(student − chance) / (teacher − chance)",
               .series = {},
               .rows = {},
               .reference = 1},
      ratios{.title = "Perplexity, student / teacher",
             .x_label = "paired ratio, 95 % interval",
             .series = {},
             .rows = {},
             .reference = 1};
  bool at_chance = false;
  for (const PairedScore& s : report.scores) {
    Cells cells = paired_cells(s);
    cells[0] = s.name;
    for (int i = 0; i < s.depth; ++i) cells[0].insert(0, "\u2003");  // em space
    rows.push_back(std::move(cells));
    if (s.depth > 1) continue;  // the subjects of mmlu are in the table alone
    at_chance |= s.chance && !s.relative;
    const std::string name = s.name + ", " + s.metric;
    const Dot change{s.shown_change(), s.interval ? s.interval->low : NAN, s.interval ? s.interval->high : NAN};
    if (s.chance) {
      scores.rows.push_back({name, {dot_of(s.teacher), dot_of(s.student)}, s.chance});
      changes.rows.push_back({name, {change}});
      if (s.relative) relative.rows.push_back({name, {dot_of(*s.relative)}});
    } else if (s.ratio) {
      ratios.rows.push_back({name, {change}});
    }
  }
  std::string out = paragraph(
      "",
      "Both models answered the same documents with lm-evaluation-harness's prompts and metrics. ± is one standard "
      "error. Differences are taken document by document, so their intervals are narrower than two separate errors "
      "suggest; perplexities are compared as a ratio.");
  out += table("lrrlrrrrr", paired_headers(), rows);
  if (at_chance)
    out +=
        paragraph("note",
                  "No relative score is given where the teacher is less than 1.96 standard errors above chance: there "
                  "is nothing to lose.");
  std::string notes;  // a line each
  for (const char c : report.score_notes.substr(0, report.score_notes.find_last_not_of('\n') + 1))
    notes += c == '\n' ? " · " : std::string(1, c);
  if (!notes.empty()) out += paragraph("note", escaped(notes));
  std::vector<std::string> drawn;
  for (const Forest* f : {&scores, &changes, &relative, &ratios})
    if (!f->rows.empty()) drawn.push_back(svg_element(*f));
  return section("Tasks", out + figures(drawn));
}

std::string text_section(const Report& report) {
  if (!report.text) return "";
  const Comparison& c = *report.text;
  const std::string out =
      paragraph("", concat("Every next token of ", c.teacher.tokens, " tokens of text, predicted in windows of ",
                           c.kl_by_position.size(), ". KL(teacher‖student) is ", fixed(c.kl, 5),
                           " nats per token; both rank the same token first at ", fixed(100 * c.top1, 2),
                           " % of the positions.")) +
      table("lrrr", {"", "teacher", "student", "student / teacher"},
            {{"perplexity", fixed(c.teacher.perplexity(), 4), fixed(c.student.perplexity(), 4), fixed(c.ratio(), 4)}});
  Chart perplexity{.title = "Perplexity by position",
                   .x_label = "position in the window",
                   .y_label = "",
                   .series = {{"teacher", {}, {}}, {"student", {}, {}}},
                   .log_y = false};
  Chart kl{.title = "KL(teacher‖student) by position",
           .x_label = "position in the window",
           .y_label = "nats per token",
           .series = {{"", {}, {}}}};
  for (const PositionBand& b : position_bands(c, 32)) {
    const double x = static_cast<double>(b.begin + b.end - 1) / 2;
    for (Series* s : {&perplexity.series[0], &perplexity.series[1], &kl.series[0]}) s->x.push_back(x);
    perplexity.series[0].y.push_back(b.teacher), perplexity.series[1].y.push_back(b.student);
    kl.series[0].y.push_back(b.kl);
  }
  return section("Prediction of text", out + figures({svg_element(perplexity), svg_element(kl)}));
}

std::string layers_section(const Report& report) {
  if (!report.text || report.text->alignment.empty()) return "";
  const Comparison& c = *report.text;
  Chart distance{.title = "Distance by layer", .x_label = "layer", .y_label = "‖Δ‖₂ / √D", .series = {{"", {}, {}}}};
  Chart share{.title = "Unexplained variance by layer",
              .x_label = "layer",
              .y_label = "Σ‖Δ‖² / Σ‖y‖²",
              .series = {{"", {}, {}}}};
  std::vector<Cells> rows;
  for (size_t l = 0; l < c.alignment.size(); ++l) {
    rows.push_back({std::to_string(l), l < report.mixers.size() ? report.mixers[l] : "", fixed(c.alignment[l], 5),
                    fixed(c.unexplained[l], 5)});
    for (Chart* chart : {&distance, &share}) chart->series[0].x.push_back(static_cast<double>(l));
    distance.series[0].y.push_back(c.alignment[l]), share.series[0].y.push_back(c.unexplained[l]);
  }
  return section("Alignment by layer",
                 paragraph("",
                           "Each layer's mixer of the student on the input that the teacher's has, Δ the difference "
                           "of their outputs, D the width.") +
                     figures({svg_element(distance), svg_element(share)}) +
                     table("rlrr", {"layer", "mixer", "‖Δ‖₂ / √D", "unexplained"}, rows));
}

std::string agreement_section(const Report& report) {
  if (report.agreement.empty()) return "";
  std::vector<Agreement> all = report.agreement;
  if (all.size() > 1) all.push_back(pooled(report.agreement));
  const int64_t tokens = all[0].tokens;
  std::vector<Cells> rows;
  for (const Agreement& a : all)
    rows.push_back({a.source, std::to_string(a.agreed.size()), fixed(100 * a.share(1), 1) + " %",
                    fixed(100 * a.identical(), 1) + " %",
                    a.median_agreed() >= static_cast<double>(tokens) ? concat("none in ", tokens)
                                                                     : fixed(a.median_agreed() + 1, 0)});
  Chart chart{.title = "Continuations still the same",
              .x_label = "tokens generated",
              .y_label = "share of prompts",
              .series = {{"", {}, {}}}};
  for (int64_t k = 0; k <= tokens; ++k) {
    chart.series[0].x.push_back(static_cast<double>(k)), chart.series[0].y.push_back(all.back().share(k));
  }
  return section("Agreement of generated text",
                 paragraph("", concat("Both models continue the same prompts greedily by at most ", tokens,
                                      " tokens. After the first token that differs they read different texts, so what "
                                      "counts is where it stands.")) +
                     table("lrrrr",
                           {"prompts from", "prompts", "first token the same", "all the same",
                            "median place of the first difference"},
                           rows) +
                     figures({svg_element(chart)}));
}

/// "28 × less", "1.2 × more"
std::string times_less(double ratio) {
  const double times = ratio < 1 ? 1 / ratio : ratio;
  return fixed(times, times < 10 ? 1 : 0) + (ratio < 1 ? " × less" : " × more");
}

/// The page in a handful of numbers.
std::string headline(const Report& report) {
  std::string items;
  const auto item = [&](const std::string& number, const std::string& what) {
    items += concat("<li><b>", escaped(with_minus(number)), "</b><span>", escaped(what), "</span></li>\n");
  };
  double sum = 0, squares = 0;
  int64_t count = 0;
  std::string last;
  for (const PairedScore& s : report.scores)
    if (s.depth == 0 && s.relative && s.relative->error && s.name != last) {  // the first metric of each task
      sum += s.relative->value, squares += *s.relative->error * *s.relative->error, ++count;
      last = s.name;
    }
  if (count > 0)
    item(concat(fixed(100 * sum / static_cast<double>(count), 0), " ± ",
                fixed(100 * std::sqrt(squares) / static_cast<double>(count), 0), " %"),
         concat("of the teacher's score above chance, mean of ", count, count == 1 ? " task" : " tasks"));
  if (report.text) {
    item("× " + fixed(report.text->ratio(), 3), "perplexity of text");
    item(fixed(report.text->kl, 4), "nats of KL per token");
    item(fixed(100 * report.text->top1, 1) + " %", "same likeliest token");
  }
  if (!report.agreement.empty()) {
    const Agreement all = pooled(report.agreement);
    item(fixed(100 * all.identical(), 1) + " %", concat("greedy texts identical for ", all.tokens, " tokens"));
  }
  if (report.costs.size() == 2 && !report.costs[0].costs.empty() && !report.costs[1].costs.empty()) {
    const size_t i = std::min(report.costs[0].costs.size(), report.costs[1].costs.size()) - 1;
    const ContextCost &t = report.costs[0].costs[i], &s = report.costs[1].costs[i];
    item(times_less(s.seconds_per_token / t.seconds_per_token), concat("time per token at ", t.context, " tokens"));
    item(times_less(static_cast<double>(s.state_bytes) / static_cast<double>(t.state_bytes)),
         concat("memory of a sequence of ", t.context, " tokens"));
  }
  return items.empty() ? "" : "<ul class=\"numbers\">\n" + items + "</ul>\n";
}

}  // namespace

std::string report_html(const Report& report) {
  std::string by = report.date;
  if (!report.version.empty()) by += (by.empty() ? "" : " · ") + report.version;
  const std::string page = concat(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>", escaped(report.student),
      " against ", escaped(report.teacher), "</title>\n<style>", kReportStyle, "</style>\n</head>\n<body>\n<main>\n",
      "<header>\n<h1>What conversion cost</h1>\n",
      paragraph("by", concat("Student ", escaped(report.student), " against its teacher ", escaped(report.teacher))),
      by.empty() ? "" : paragraph("by", escaped(by)),
      report.partial.empty() ? "" : paragraph("partial", escaped(report.partial)), headline(report), "</header>\n",
      tasks_section(report), text_section(report), layers_section(report), agreement_section(report),
      recall_section(report), costs_section(report), record_section(report), "</main>\n</body>\n</html>\n");
  std::string storage;
  return std::string(valid_utf8(page, storage));
}

}  // namespace qwerky
