// SPDX-License-Identifier: MIT
#include "eval/dataset.h"

#include <algorithm>
#include <charconv>

#include "eval/text_rules.h"
#include "io/corpus.h"
#include "io/tokenizer_utf8.h"

namespace qwerky {
namespace {

/// Calls each(line, number) for the lines of a text; a last line end begins no further line.
template <class Each>
void for_lines(std::string_view bytes, const Each& each) {
  int64_t number = 1;
  for (size_t at = 0; at < bytes.size(); ++number) {
    const size_t end = std::min(bytes.find('\n', at), bytes.size());
    each(bytes.substr(at, end - at), number);
    at = end + 1;
  }
}

/// Articles of a WikiText file as EleutherAI/wikitext_document_level cuts it: before each line "= Title =".
std::vector<Row> parse_pages(std::string_view bytes, const std::string& name) {
  std::vector<Row> rows;
  std::string page;
  bool first = true;
  int64_t begin = 1, number = 1;
  for (size_t at = 0; at <= bytes.size(); ++number) {
    const size_t end = std::min(bytes.find('\n', at), bytes.size());
    const std::string_view line = bytes.substr(at, end - at);
    const std::string flat = replace_all(replace_all(line, "= = =", "==="), "= =", "==");
    const std::string_view title = python_strip(flat);
    if (title.starts_with("= ") && title.ends_with(" =")) {
      if (!python_strip(page).empty()) rows.push_back({Json{{"page", page}}, concat(name, ":", begin)});
      page.clear();
      first = true;
      begin = number;
    }
    if (!first) page += '\n';
    page += line;
    first = false;
    at = end + 1;
  }
  rows.push_back({Json{{"page", page}}, concat(name, ":", begin)});
  return rows;
}

}  // namespace

const Json& Row::field(const char* key) const {
  if (!json.is_object()) wrong("expected an object with \"", key, "\"");
  const auto found = json.find(key);
  if (found == json.end()) wrong("field \"", key, "\" is missing");
  return *found;
}

const std::string& Row::text(const char* key) const {
  const Json& value = field(key);
  if (!value.is_string()) wrong("field \"", key, "\": expected text, found ", value.type_name());
  return value.get_ref<const std::string&>();
}

std::vector<std::string> Row::texts(const char* key) const {
  const Json& value = field(key);
  std::vector<std::string> list;
  if (!value.is_array()) wrong("field \"", key, "\": expected a list of texts, found ", value.type_name());
  for (const Json& item : value) {
    if (!item.is_string()) wrong("field \"", key, "\": expected a list of texts, found ", item.type_name(), " in it");
    list.push_back(item.get<std::string>());
  }
  return list;
}

std::vector<CsvRecord> parse_csv(std::string_view bytes, const std::string& name) {
  if (!is_utf8(bytes)) fail(name, ": is not UTF-8");
  std::vector<CsvRecord> records;
  int64_t line = 1;
  for (size_t at = 0; at < bytes.size();) {
    CsvRecord record{{}, line};
    for (bool more = true; more;) {
      std::string field;
      if (at < bytes.size() && bytes[at] == '"') {
        for (++at;; ++at) {
          const size_t quote = bytes.find('"', at);
          if (quote == bytes.npos) fail(name, ":", record.line, ": a quoted field does not end");
          field += bytes.substr(at, quote - at);
          at = quote + 1;
          if (at == bytes.size() || bytes[at] != '"') break;
          field += '"';
        }
        if (at < bytes.size() && bytes[at] != ',' && bytes[at] != '\n' && bytes[at] != '\r')
          fail(name, ":", record.line, ": text after the closing quote of a field");
      } else {
        const size_t end = std::min(bytes.find_first_of(",\r\n", at), bytes.size());
        field = bytes.substr(at, end - at);
        if (field.find('"') != field.npos) fail(name, ":", record.line, ": a quote inside a field without quotes");
        at = end;
      }
      line += std::count(field.begin(), field.end(), '\n');
      record.fields.push_back(std::move(field));
      more = at < bytes.size() && bytes[at] == ',';
      if (more) ++at;
    }
    if (at < bytes.size() && bytes[at] == '\r') ++at;
    if (at < bytes.size() && bytes[at] == '\n') ++at;
    ++line;
    records.push_back(std::move(record));
  }
  return records;
}

std::vector<Row> parse_rows(std::string_view bytes, const std::string& name) {
  std::vector<Row> rows;
  if (name.ends_with(".jsonl")) {
    for_lines(bytes, [&](std::string_view line, int64_t number) {
      const std::string where = concat(name, ":", number);
      if (line.size() > kMostLineBytes) fail(where, ": the line has ", line.size(), " bytes, at most ", kMostLineBytes);
      rows.push_back({parse_json(line, where), where});
    });
  } else if (name.ends_with(".json")) {
    const Json list = parse_json(bytes, name);
    if (!list.is_array()) fail(name, ": expected a list of rows, found ", list.type_name());
    for (const Json& row : list) rows.push_back({row, concat(name, ": row ", rows.size() + 1)});
  } else if (name.ends_with(".csv")) {
    std::vector<CsvRecord> records = parse_csv(bytes, name);
    // With a header the columns have names; data.tar's files have none.
    const bool named = !records.empty() && records[0].fields[0] == "question";
    const std::vector<std::string> names = named ? records[0].fields : std::vector<std::string>();
    for (size_t i = named ? 1 : 0; i < records.size(); ++i) {
      Row row{records[i].fields, concat(name, ":", records[i].line)};
      if (named) {
        if (row.json.size() != names.size())
          row.wrong("expected ", names.size(), " columns as in the header, found ", row.json.size());
        row.json = Json::object();
        for (size_t c = 0; c < names.size(); ++c) row.json[names[c]] = records[i].fields[c];
      }
      rows.push_back(std::move(row));
    }
  } else if (name.ends_with(".raw")) {
    if (!is_utf8(bytes)) fail(name, ": is not UTF-8");
    return parse_pages(bytes, name);
  } else {
    fail(name, ": expected .jsonl, .json, .csv or .raw");
  }
  return rows;
}

void add_labels(std::vector<Row>& rows, std::string_view bytes, const std::string& name) {
  size_t count = 0;
  for_lines(bytes, [&](std::string_view line, int64_t number) {
    if (line.ends_with('\r')) line.remove_suffix(1);
    int64_t label = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), label);
    if (error != std::errc() || end != line.data() + line.size())
      fail(name, ":", number, ": expected a whole number, found \"", line.substr(0, 40), "\"");
    if (count < rows.size()) {
      if (!rows[count].json.is_object()) rows[count].wrong("expected an object");
      rows[count].json["label"] = label;
    }
    ++count;
  });
  if (count != rows.size()) fail(name, ": expected a label for each of ", rows.size(), " rows, found ", count);
}

Rows read_split(const Path& data, const SplitFiles& split, const std::string& task, bool allow_partial) {
  Rows result;
  std::string names;
  for (const std::string& file : split.files) {
    names += (names.empty() ? "" : ", ") + file;
    for (const Path& folder : {data, data / split.folder})
      if (result.file.empty() && is_file(folder / file)) result.file = folder / file;
  }
  if (result.file.empty())
    fail(task, ": no file of its ", split.split, " split below ", data.string(), ": expected one of ", names,
         " there or in ", split.folder, "/, with ", split.rows, " rows, from ", split.from);
  const std::string name = result.file.string();
  result.rows = parse_rows(MappedFile(result.file).bytes(), name);
  if (split.labels && (result.rows.empty() || !result.rows[0].json.contains("label"))) {
    const std::string labels = name.substr(0, name.rfind('.')) + "-labels.lst";
    if (!is_file(labels))
      fail(task, ": ", name, " has no labels, and ", labels, " is missing; it comes from ", split.from);
    add_labels(result.rows, MappedFile(labels).bytes(), labels);
  }
  const auto found = static_cast<int64_t>(result.rows.size());
  if (found == 0) fail(task, ": ", name, " has no rows");
  if (found != split.rows && !allow_partial)
    fail(task, ": ", name, ": expected the ", split.rows, " rows of ", split.from, ", found ", found,
         "; --allow-partial evaluates them, without a claim to be comparable");
  return result;
}

}  // namespace qwerky
