// SPDX-License-Identifier: MIT
#include "eval/report.h"

#include <algorithm>
#include <cmath>
#include <iomanip>

#include "base/error.h"
#include "eval/report_style.h"
#include "io/tokenizer_utf8.h"

namespace qwerky {
namespace {

using Row = std::vector<std::string>;

std::string fixed(double value, int decimals) { return concat(std::fixed, std::setprecision(decimals), value); }

/// Hyphens before digits as the minus signs they are.
std::string with_minus(const std::string& cell) {
  std::string out;
  for (size_t i = 0; i < cell.size(); ++i)
    if (cell[i] == '-' && i + 1 < cell.size() && std::isdigit(static_cast<unsigned char>(cell[i + 1])) != 0 &&
        (i == 0 || cell[i - 1] == ' ' || cell[i - 1] == '[')) {
      out += "−";
    } else {
      out += cell[i];
    }
  return out;
}

std::string paragraph(const char* style, const std::string& content) {
  return concat("<p class=\"", style, "\">", content, "</p>\n");
}

/// A column for each letter of `columns`: l left, r right, w text that wraps.
std::string table(const std::string& columns, const Row& head, const std::vector<Row>& rows, const char* style = "") {
  const auto line = [&](const char* tag, const Row& cells) {
    std::string out = "<tr>";
    for (size_t c = 0; c < cells.size(); ++c) {
      const std::string cell = columns[c] == 'r' ? with_minus(cells[c]) : cells[c];
      const char* look = columns[c] == 'r' ? " class=\"r\"" : columns[c] == 'w' ? " class=\"w\"" : "";
      out += concat("<", tag, look, ">", escaped(cell), "</", tag, ">");
    }
    return out + "</tr>\n";
  };
  std::string body;
  for (const Row& row : rows) body += line("td", row);
  return concat("<div class=\"scroll\"><table class=\"", style, "\">\n",
                head.empty() ? "" : "<thead>" + line("th", head) + "</thead>\n", "<tbody>\n", body,
                "</tbody></table></div>\n");
}

std::string figures(const std::vector<std::string>& drawings) {
  if (drawings.empty()) return "";
  std::string out = "<div class=\"figures\">\n";
  for (const std::string& drawing : drawings) out += "<figure>" + drawing + "</figure>\n";
  return out + "</div>\n";
}

std::string section(const std::string& heading, const std::string& content) {
  return concat("<section>\n<h2>", heading, "</h2>\n", content, "</section>\n");
}

Dot dot_of(const Estimate& e) {
  const auto interval = e.interval();
  return {e.value, interval ? interval->low : NAN, interval ? interval->high : NAN};
}

std::string tasks_section(const Report& report) {
  if (report.scores.empty()) return "";
  std::vector<Row> rows;
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
    Row cells = paired_cells(s);
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
  std::string note;
  for (const char c : report.score_notes) {
    if (c != '\n') {
      note += c;
    } else if (!note.empty()) {
      out += paragraph("note", escaped(note));
      note.clear();
    }
  }
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
  std::vector<Row> rows;
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
  std::vector<Row> rows;
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

std::string recall_section(const Report& report) {
  if (report.recall.empty() && report.by_length.empty()) return "";
  std::vector<std::string> drawn;
  for (const HeatMap& map : report.recall) drawn.push_back(svg_element(map));
  for (const Chart& chart : report.by_length) drawn.push_back(svg_element(chart));
  return section("Recall at length",
                 (report.recall.empty() ? ""
                                        : paragraph("",
                                                    "Percent of needles found, by the length of the haystack and by "
                                                    "the needle's depth in it.")) +
                     figures(drawn));
}

std::string costs_section(const Report& report) {
  if (report.costs.empty()) return "";
  const Unit time = time_unit(report.costs), memory = memory_unit(report.costs);
  std::vector<std::string> drawn;
  for (const Chart& chart : context_charts(report.costs)) drawn.push_back(svg_element(chart));
  Row head = {"tokens of context"};
  std::string columns = "r";
  size_t longest = 0;
  for (const ContextCosts& m : report.costs) {
    longest = std::max(longest, m.costs.size());
    head.push_back(m.name + ", " + time.name), head.push_back(m.name + ", " + memory.name);
    columns += "rr";
  }
  std::vector<Row> rows(longest);
  std::string note;
  for (const ContextCosts& m : report.costs) {
    for (size_t i = 0; i < longest; ++i) {
      if (rows[i].empty())
        for (const ContextCosts& any : report.costs)
          if (i < any.costs.size()) rows[i] = {std::to_string(any.costs[i].context)};
    }
    for (size_t i = 0; i < longest; ++i) {
      const bool there = i < m.costs.size();
      rows[i].push_back(there ? fixed(m.costs[i].seconds_per_token / time.size, time.size == 1e-6 ? 0 : 2) +
                                    (m.costs[i].beyond ? " *" : "")
                              : "does not fit");
      rows[i].push_back(there ? fixed(static_cast<double>(m.costs[i].state_bytes) / memory.size, 1) : "does not fit");
      if (there && m.costs[i].beyond && note.empty())
        note = concat("* beyond the ", m.most, " positions that ", m.name, "'s config.json allows: the cost alone.");
    }
  }
  return section("Cost at length",
                 paragraph("",
                           "Median time of one decoding step of one sequence that has read so many tokens, and the "
                           "memory of its state, one model after the other on the same machine.") +
                     figures(drawn) + table(columns, head, rows) +
                     (note.empty() ? "" : paragraph("note", escaped(note))));
}

std::string record_section(const Report& report) {
  std::string out;
  if (!report.models.empty()) {
    std::vector<Row> rows;
    for (const auto& row : report.models) rows.emplace_back(row.begin(), row.end());
    out += "<h3>Models</h3>\n" + table("www", {"", "teacher", "student"}, rows, "facts");
  }
  if (!report.data.empty()) {
    std::vector<Row> rows;
    for (const ReportData& d : report.data) rows.push_back({d.name, d.amount, d.file, d.sha256});
    out += "<h3>Data</h3>\n" + table("wwww", {"", "used", "file", "SHA-256 of what was read"}, rows, "facts");
  }
  const auto facts = [&](const char* heading, const Facts& list) {
    if (list.empty()) return;
    std::vector<Row> rows;
    for (const auto& [name, value] : list) rows.push_back({name, value});
    out += concat("<h3>", heading, "</h3>\n", table("ww", {}, rows, "facts"));
  };
  facts("Settings", report.settings);
  facts("Machine", report.machine);
  if (!report.command.empty())
    out += "<h3>The command that repeats this</h3>\n<pre>" + escaped(report.command) + "</pre>\n";
  return out.empty() ? "" : section("How it was measured", out);
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
    item(concat(fixed(100 * sum / static_cast<double>(count), 1), " ± ",
                fixed(100 * std::sqrt(squares) / static_cast<double>(count), 1), " %"),
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
      by.empty() ? "" : paragraph("by", escaped(by)), headline(report), "</header>\n", tasks_section(report),
      text_section(report), layers_section(report), agreement_section(report), recall_section(report),
      costs_section(report), record_section(report), "</main>\n</body>\n</html>\n");
  std::string storage;
  return std::string(valid_utf8(page, storage));
}

}  // namespace qwerky
