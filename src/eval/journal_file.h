// SPDX-License-Identifier: MIT
// A file of finished work, a line of JSON for each piece, behind a header that says what it is of.
#pragma once

#include <functional>
#include <string>

#include "base/json.h"
#include "io/files.h"

namespace qwerky {

class JournalFile {
 public:
  JournalFile() = default;  ///< keeps nothing
  /// FOLDER/NAME-HASH.jsonl, HASH being that of the header. Gives `take` each line that earlier runs left, until it
  /// returns false or throws Error, or a line is cut; that one and all behind it are dropped.
  JournalFile(const Path& folder, const std::string& name, const Json& header,
              const std::function<bool(const Json& line)>& take);
  /// One line or more, without the last line end.
  void append(const std::string& lines);

 private:
  Path file_;
};

}  // namespace qwerky
