// SPDX-License-Identifier: MIT
// The report's pieces of HTML, recall and cost at length, and the record of how it was measured.
#include "eval/report_parts.h"

#include <algorithm>
#include <cmath>
#include <iomanip>

#include "base/error.h"

namespace qwerky::report_parts {
namespace {

/// One value of the cells of a task by length and depth.
HeatMap map_of(const Recall& recall, const std::string& task, const std::string& title, double RecallCell::*value) {
  std::vector<int64_t> lengths;
  std::vector<double> depths;
  const auto place = [](auto& list, auto x) {
    const auto at = std::find(list.begin(), list.end(), x);
    if (at != list.end()) return static_cast<size_t>(at - list.begin());
    list.push_back(x);
    return list.size() - 1;
  };
  HeatMap map{
      .title = title, .x_label = "tokens of the prompt", .y_label = "depth", .columns = {}, .rows = {}, .values = {}};
  for (const RecallCell& cell : recall.cells) {
    if (cell.task != task || cell.samples == 0) continue;
    const size_t row = place(depths, cell.depth), column = place(lengths, cell.length);
    if (map.values.size() <= row) map.values.resize(row + 1);
    for (auto& values : map.values) values.resize(lengths.size(), NAN);
    map.values[row][column] = cell.*value;
  }
  for (auto& values : map.values) values.resize(lengths.size(), NAN);
  for (const int64_t length : lengths) map.columns.push_back(std::to_string(length));
  for (const double depth : depths) map.rows.push_back(concat(depth, " %"));
  return map;
}

}  // namespace

std::string fixed(double value, int decimals) { return concat(std::fixed, std::setprecision(decimals), value); }

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

std::string table(const std::string& columns, const Cells& head, const std::vector<Cells>& rows, const char* style) {
  const auto line = [&](const char* tag, const Cells& cells) {
    std::string out = "<tr>";
    for (size_t c = 0; c < cells.size(); ++c) {
      const std::string cell = columns[c] == 'r' ? with_minus(cells[c]) : cells[c];
      const char* look = columns[c] == 'r' ? " class=\"r\"" : columns[c] == 'w' ? " class=\"w\"" : "";
      out += concat("<", tag, look, ">", escaped(cell), "</", tag, ">");
    }
    return out + "</tr>\n";
  };
  std::string body;
  for (const Cells& row : rows) body += line("td", row);
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

std::string recall_section(const Report& report) {
  std::vector<std::string> tasks, drawn;
  for (const Recall& recall : report.recall)
    for (const RecallCell& cell : recall.cells)
      if (std::find(tasks.begin(), tasks.end(), cell.task) == tasks.end()) tasks.push_back(cell.task);
  const struct {
    const char* what;
    double RecallCell::*value;
  } kinds[] = {{"said", &RecallCell::generated}, {"likeliest", &RecallCell::ranked}};
  for (const std::string& task : tasks)
    for (const auto& kind : kinds)
      for (size_t i = 0; i < report.recall.size(); ++i) {
        const std::string title = concat(task, ", ", kind.what, ": ", i == 0 ? "teacher" : "student");
        const HeatMap map = map_of(report.recall[i], task, title, kind.value);
        if (!map.values.empty()) drawn.push_back(svg_element(map));
      }
  Chart by_length{.title = "Perplexity by length of what precedes",
                  .x_label = "tokens",
                  .y_label = "",
                  .series = {},
                  .log_x = true};
  for (size_t i = 0; i < report.recall.size(); ++i) {
    Series series{i == 0 ? "teacher" : "student", {}, {}};
    for (const LengthLoss& l : report.recall[i].by_length)
      if (l.tokens > 0) series.x.push_back(static_cast<double>(l.length)), series.y.push_back(l.perplexity);
    if (!series.x.empty()) by_length.series.push_back(std::move(series));
  }
  std::string text;
  if (!drawn.empty())
    text += paragraph(
        "",
        concat("A key is hidden in a text of a given length at a given depth; 100 % is directly before the question. "
               "Percent of keys that the greedy answer has (said; chance 0), and that the needle makes likelier than ",
               "it makes any of ", kRecallKeys - 1, " others (likeliest; chance ", 100 / kRecallKeys,
               "). Lengths are left out that a model is not made for."));
  if (!by_length.series.empty()) {
    text += paragraph("",
                      "Perplexity of the last tokens of texts, the same tokens for all lengths of a model; where the "
                      "models' longest lengths differ, so do the tokens.");
    drawn.push_back(svg_element(by_length));
  }
  return drawn.empty() ? "" : section("Recall at length", text + figures(drawn));
}

std::string costs_section(const Report& report) {
  if (report.costs.empty()) return "";
  const Unit time = time_unit(report.costs), memory = memory_unit(report.costs);
  std::vector<std::string> drawn;
  for (const Chart& chart : context_charts(report.costs)) drawn.push_back(svg_element(chart));
  Cells head = {"tokens of context"};
  std::string columns = "r";
  size_t longest = 0;
  for (const ContextCosts& m : report.costs) {
    longest = std::max(longest, m.costs.size());
    head.push_back(m.name + ", " + time.name), head.push_back(m.name + ", " + memory.name);
    columns += "rr";
  }
  std::vector<Cells> rows(longest);
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
    std::vector<Cells> rows;
    for (const auto& row : report.models) rows.emplace_back(row.begin(), row.end());
    out += "<h3>Models</h3>\n" + table("www", {"", "teacher", "student"}, rows, "facts");
  }
  if (!report.data.empty()) {
    std::vector<Cells> rows;
    for (const ReportData& d : report.data) rows.push_back({d.name, d.amount, d.file, d.sha256});
    out += "<h3>Data</h3>\n" + table("wwww", {"", "used", "file", "SHA-256 of what was read"}, rows, "facts");
  }
  const auto facts = [&](const char* heading, const Facts& list) {
    if (list.empty()) return;
    std::vector<Cells> rows;
    for (const auto& [name, value] : list) rows.push_back({name, value});
    out += concat("<h3>", heading, "</h3>\n", table("ww", {}, rows, "facts"));
  };
  facts("Finished", report.finished);
  facts("Settings", report.settings);
  facts("Machine", report.machine);
  if (!report.command.empty())
    out += "<h3>The command that repeats this</h3>\n<pre>" + escaped(report.command) + "</pre>\n";
  return out.empty() ? "" : section("How it was measured", out);
}

}  // namespace qwerky::report_parts
