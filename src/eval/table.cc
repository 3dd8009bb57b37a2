// SPDX-License-Identifier: MIT
#include "eval/table.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/error.h"
#include "eval/text_rules.h"

namespace qwerky {
namespace {

enum class Type { blank, text, integer, real };

Type type_of(const std::string& cell) {
  if (python_strip(cell).empty()) return Type::blank;
  if (cell == "Infinity" || cell == "NaN") return Type::real;
  if (cell.find_first_not_of("-.0123456789") != cell.npos) return Type::text;
  const size_t dot = cell.find('.');
  return dot == cell.npos || cell.find_first_not_of('0', dot + 1) == cell.npos ? Type::integer : Type::real;
}

/// Decimals that remain without trailing zeros.
size_t decimals_of(const std::string& cell) {
  const size_t dot = cell.find('.');
  return dot == cell.npos ? 0 : std::max(cell.find_last_not_of('0'), dot) - dot;
}

std::string with_decimals(const std::string& cell, size_t decimals) {
  const size_t dot = std::min(cell.find('.'), cell.size());
  if (cell.find_first_of("IN") != cell.npos) return cell;
  std::string text = cell.substr(0, dot);
  if (decimals == 0) return text;
  std::string digits = dot < cell.size() ? cell.substr(dot + 1) : "";
  digits.resize(decimals, '0');
  return text + "." + digits;
}

std::string padded(const std::string& text, size_t width, double left_share) {
  const size_t slack = width - static_cast<size_t>(code_points(text));
  const auto left = static_cast<size_t>(static_cast<double>(slack) * left_share);
  return std::string(left, ' ') + text + std::string(slack - left, ' ');
}

/// The cells of a column: header, rule, body.
std::vector<std::string> lay_out(const std::string& header, const std::vector<std::string>& cells) {
  // DataProperty takes a cell for text, number or not, once most cells above it were text; the first of equals wins.
  std::vector<Type> types;
  std::vector<std::pair<Type, int>> counts;
  for (const std::string& cell : cells) {
    const auto most = std::max_element(counts.begin(), counts.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    Type type = type_of(cell);
    if (type != Type::blank && most != counts.end() && most->first == Type::text) type = Type::text;
    types.push_back(type);
    const auto found = std::find_if(counts.begin(), counts.end(), [&](const auto& c) { return c.first == type; });
    if (found == counts.end()) {
      counts.emplace_back(type, 1);
    } else {
      ++found->second;
    }
  }
  const auto any = [&](Type type) { return std::find(types.begin(), types.end(), type) != types.end(); };
  const bool numeric = !any(Type::text) && (any(Type::integer) || any(Type::real));
  size_t decimals = 0, width = std::max<size_t>(3, static_cast<size_t>(code_points(header)));
  for (size_t i = 0; i < cells.size(); ++i)
    if (types[i] == Type::real) decimals = std::max(decimals, decimals_of(cells[i]));
  std::vector<std::string> body;
  for (size_t i = 0; i < cells.size(); ++i) {
    const bool number = types[i] == Type::integer || types[i] == Type::real;
    const bool whole = types[i] == Type::integer && !numeric;
    body.push_back(number ? with_decimals(cells[i], whole ? 0 : decimals) : cells[i]);
    width = std::max(width, static_cast<size_t>(code_points(body.back())));
  }
  std::vector<std::string> column = {padded(header, width, 0.5),
                                     std::string(width - (numeric ? 1 : 0), '-') + (numeric ? ":" : "")};
  for (size_t i = 0; i < cells.size(); ++i) {
    const bool right = types[i] == Type::integer || types[i] == Type::real || (types[i] == Type::blank && numeric);
    column.push_back(padded(body[i], width, right ? 1 : 0));
  }
  return column;
}

/// "%.4f", with the names that the table gives to what is no number.
std::string fixed(double x) {
  if (std::isnan(x)) return "NaN";
  if (std::isinf(x)) return x > 0 ? "Infinity" : "-Infinity";
  char text[400];
  std::snprintf(text, sizeof text, "%.4f", x);
  return text;
}

}  // namespace

std::string markdown_table(const std::vector<std::string>& headers, const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::string> lines(rows.size() + 2, "|");
  for (size_t c = 0; c < headers.size(); ++c) {
    std::vector<std::string> cells;
    for (const auto& row : rows) cells.push_back(row[c]);
    const std::vector<std::string> column = lay_out(headers[c], cells);
    for (size_t i = 0; i < lines.size(); ++i) lines[i] += column[i] + "|";
  }
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

std::string results_table(std::span<const Entry> entries, bool groups) {
  std::vector<std::vector<std::string>> rows;
  for (const Entry& entry : entries) {
    if (groups && !entry.group) continue;
    std::string name = entry.alias, version = std::to_string(entry.version);
    if (entry.depth > 0) name = std::string(static_cast<size_t>(entry.depth), ' ') + "- " + name;
    std::vector<Score> scores = entry.scores;
    std::sort(scores.begin(), scores.end(),
              [](const Score& a, const Score& b) { return a.metric + "," + a.filter < b.metric + "," + b.filter; });
    for (const Score& score : scores) {
      rows.push_back({name, version, score.filter, entry.shots ? std::to_string(*entry.shots) : " ", score.metric,
                      score.higher_is_better ? "↑" : "↓", fixed(score.value), "±",
                      score.error ? fixed(*score.error) : "   N/A"});
      name.clear();
      version.clear();
    }
  }
  return markdown_table(
      {groups ? "Groups" : "Tasks", "Version", "Filter", "n-shot", "Metric", "", "Value", "", "Stderr"}, rows);
}

std::string comparability_notes(std::span<const Entry> entries) {
  std::string notes;
  for (const Entry& entry : entries)
    if (!entry.comparable)
      notes += concat(entry.name, ": ", entry.documents, " of ", entry.published, " rows",
                      entry.documents == entry.published ? ", other than those published" : "",
                      "; not comparable with published numbers\n");
  return notes;
}

}  // namespace qwerky
