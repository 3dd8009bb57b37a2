// SPDX-License-Identifier: MIT
#include "cli/result.h"

#include <iostream>

#include "io/files.h"

namespace qwerky {

void add_json_flag(Flags flags, std::string& file) {
  flags.add_option("--json", file, "also write the result as JSON into this file (-: to stdout)");
}

void write_result(const std::string& file, const Json& result) {
  if (file.empty()) return;
  const std::string text = result.dump(1) + "\n";
  if (file == "-") {
    std::cout << text;
  } else {
    write_file(file, text);
  }
}

}  // namespace qwerky
