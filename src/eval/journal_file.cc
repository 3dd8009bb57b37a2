// SPDX-License-Identifier: MIT
#include "eval/journal_file.h"

#include "base/error.h"

namespace qwerky {

JournalFile::JournalFile(const Path& folder, const std::string& name, const Json& header,
                         const std::function<bool(const Json&)>& take) {
  make_directory(folder);
  file_ = folder / (name + "-" + sha256(header.dump()).substr(0, 16) + ".jsonl");
  std::string kept = header.dump() + "\n";
  const std::string text = is_file(file_) ? read_file(file_) : "";
  size_t at = text.starts_with(kept) ? kept.size() : text.size();
  for (size_t end; (end = text.find('\n', at)) != text.npos; at = end + 1) {
    try {
      if (!take(parse_json(std::string_view(text).substr(at, end - at), file_.string()))) break;
    } catch (const Error&) {
      break;
    }
    kept += text.substr(at, end + 1 - at);
  }
  if (kept != text) write_file(file_, kept);
}

void JournalFile::append(const std::string& lines) {
  if (!file_.empty() && !lines.empty()) append_line(file_, lines);
}

}  // namespace qwerky
