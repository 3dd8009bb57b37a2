// SPDX-License-Identifier: MIT
// What conversion cost, as one HTML page that needs nothing else: no network, no script, no font; light and dark; for
// screen, phone and paper.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/svg.h"
#include "engine/context_cost.h"
#include "engine/measure.h"
#include "eval/agreement.h"
#include "eval/paired.h"
#include "eval/recall.h"

namespace qwerky {

/// A name and what is said about it.
using Facts = std::vector<std::pair<std::string, std::string>>;

/// Data that were read, by task or "text".
struct ReportData {
  std::string name, file, sha256;
  std::string amount;  ///< "570 of 2376 documents", "50000 tokens"
};

/// Sections without data are left out. All texts are taken as hostile.
struct Report {
  std::string teacher, student;      ///< names
  std::string date, version;         ///< of the measurement, of the program
  std::string partial;               ///< what to know of a measurement that was stopped; empty: it was not
  Facts finished;                    ///< of such a one, by task and model
  std::vector<PairedScore> scores;   ///< of tasks
  std::string score_notes;           ///< a line for each task whose numbers are not comparable with published ones
  std::optional<Comparison> text;    ///< on text, in windows
  std::vector<std::string> mixers;   ///< of the student's layers
  std::vector<Agreement> agreement;  ///< of greedy text, by source of the prompts
  std::vector<Recall> recall;        ///< of the teacher and the student; nothing in it where not measured
  std::vector<ContextCosts> costs;   ///< of the teacher and the student
  std::vector<std::array<std::string, 3>> models;  ///< rows of a table: what, of the teacher, of the student
  std::vector<ReportData> data;
  Facts settings, machine;
  std::string command;  ///< that repeats the measurement
};

std::string report_html(const Report& report);

}  // namespace qwerky
