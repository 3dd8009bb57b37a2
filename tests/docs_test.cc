// SPDX-License-Identifier: MIT
// Links in the documentation lead to a file that is there, and to a heading that it has.
#include <gtest/gtest.h>

#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>

namespace {

using Path = std::filesystem::path;

std::string text_of(const Path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// What follows "#" in a link to a heading, as GitHub makes it: lower case, blanks as "-", no other punctuation.
std::set<std::string> anchors_of(const std::string& text) {
  static const std::regex heading("(^|\n)#+ ([^\n]*)");
  std::set<std::string> anchors;
  for (std::sregex_iterator at(text.begin(), text.end(), heading), end; at != end; ++at) {
    std::string anchor;
    for (const char c : (*at)[2].str()) {
      const auto byte = static_cast<unsigned char>(c);
      if (std::isalnum(byte) || c == '-' || c == '_' || byte >= 0x80) anchor += static_cast<char>(std::tolower(byte));
      if (c == ' ') anchor += '-';
    }
    anchors.insert(anchor);
  }
  return anchors;
}

/// The links of one page that lead nowhere.
std::set<std::string> broken_links(const Path& page, const std::string& text) {
  static const std::regex link("\\]\\(([^)#\\s]*)(#([^)\\s]*))?\\)");
  std::set<std::string> broken;
  for (std::sregex_iterator at(text.begin(), text.end(), link), end; at != end; ++at) {
    const std::string file = (*at)[1], anchor = (*at)[3];
    if (file.starts_with("http://") || file.starts_with("https://")) continue;
    const Path target = page.parent_path() / file;
    if (!std::filesystem::exists(target) ||
        (!anchor.empty() && !anchors_of(file.empty() ? text : text_of(target)).contains(anchor)))
      broken.insert(file + (anchor.empty() ? "" : "#" + anchor));
  }
  return broken;
}

TEST(Docs, LinksLeadSomewhere) {
  const Path root(QWERKY_SOURCE_DIR);
  int pages = 0;
  for (const Path& dir : {root, root / "docs"})
    for (const auto& entry : std::filesystem::directory_iterator(dir)) {
      if (entry.path().extension() != ".md") continue;
      ++pages;
      for (const std::string& link : broken_links(entry.path(), text_of(entry.path())))
        ADD_FAILURE() << entry.path().lexically_relative(root) << ": nothing is at " << link;
    }
  EXPECT_GE(pages, 8);
}

TEST(Docs, BrokenLinksAreFound) {
  const Path page = Path(QWERKY_SOURCE_DIR) / "docs" / "x.md";
  EXPECT_EQ(broken_links(page,
                         "## A b, `c`\n[1](#a-b-c) [2](#a) [3](../README.md#qwerky) [4](../README.md#none)\n"
                         "[5](none.md) ![6](context.svg) [7](https://example.org/x#y) [8](../src)"),
            (std::set<std::string>{"#a", "../README.md#none", "none.md"}));
}

}  // namespace
