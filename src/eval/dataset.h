// SPDX-License-Identifier: MIT
// Rows of evaluation data from local files: JSON lines, JSON lists, CSV and WikiText pages. Every file is read as
// hostile: what does not fit is an Error with file and line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "io/files.h"

namespace qwerky {

/// One row: an object, or a list of texts from a CSV file.
struct Row {
  Json json;
  std::string where;  ///< "file:line", for messages

  /// Throws unless the field is there and of that type.
  const Json& field(const char* key) const;
  const std::string& text(const char* key) const;
  std::vector<std::string> texts(const char* key) const;
  /// Throws with the place.
  template <class... Parts>
  [[noreturn]] void wrong(const Parts&... parts) const {
    fail(where, ": ", parts...);
  }
};

/// Fields of RFC 4180 records: quotes may hold commas, line ends and doubled quotes; nothing is trimmed or converted.
/// `line` is where the record begins.
struct CsvRecord {
  std::vector<std::string> fields;
  int64_t line;
};
std::vector<CsvRecord> parse_csv(std::string_view bytes, const std::string& name);

/// Rows of a file whose bytes are given; the suffix of `name` (.jsonl .json .csv .raw) decides the format.
std::vector<Row> parse_rows(std::string_view bytes, const std::string& name);

/// Sets "label" of each row to its line of a file of whole numbers.
void add_labels(std::vector<Row>& rows, std::string_view bytes, const std::string& name);

/// Where a split of a data set may lie.
struct SplitFiles {
  std::string split;               ///< "test"
  int64_t rows = 0;                ///< of the published data
  std::vector<std::string> files;  ///< below the data folder or its `folder`; the first that is there is read
  std::string folder;              ///< "arc"
  std::string from;                ///< who publishes it, for messages
  bool labels = false;             ///< NAME.jsonl has its answers in NAME-labels.lst
};

struct Rows {
  std::vector<Row> rows;
  Path file;
};

/// Throws when no file is there, and, unless `allow_partial`, when it has another number of rows than published.
Rows read_split(const Path& data, const SplitFiles& split, const std::string& task, bool allow_partial);

}  // namespace qwerky
