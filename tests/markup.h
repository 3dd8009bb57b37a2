// SPDX-License-Identifier: MIT
// Whether markup closes what it opens.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

namespace qwerky::testing {

/// Every tag closes the one opened last, attributes are in double quotes, and what HTML never closes (`void_tags`, and
/// <!DOCTYPE …>) may stay open. No raw '<' or '&' in text.
inline bool well_formed(const std::string& markup, const std::vector<std::string>& void_tags = {}) {
  std::vector<std::string> open;
  for (size_t at = markup.find('<'); at != std::string::npos; at = markup.find('<', at + 1)) {
    const size_t end = markup.find('>', at);
    if (end == std::string::npos) return false;
    const std::string tag = markup.substr(at + 1, end - at - 1), name = tag.substr(0, tag.find_first_of(" \n/", 1));
    if (tag.empty() || tag.find('<') != std::string::npos || std::count(tag.begin(), tag.end(), '"') % 2 != 0)
      return false;
    if (tag[0] == '/') {
      if (open.empty() || open.back() != tag.substr(1)) return false;
      open.pop_back();
    } else if (tag[0] != '!' && tag.back() != '/' &&
               std::find(void_tags.begin(), void_tags.end(), name) == void_tags.end()) {
      open.push_back(name);
    }
  }
  for (size_t at = markup.find('&'); at != std::string::npos; at = markup.find('&', at + 1))
    if (const size_t end = markup.find(';', at); end == std::string::npos || end - at > 6) return false;
  return open.empty();
}

inline size_t occurrences(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

}  // namespace qwerky::testing
