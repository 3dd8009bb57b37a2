// SPDX-License-Identifier: MIT
// The rules about the shape of the sources, read from the sources: who may include whom, who may touch what, how long
// a file may be. check() works on a map of path to text, so that each rule is also shown to fail on a broken example.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace {

using Sources = std::map<std::string, std::string>;  // path from the project's root, with '/', to text

// What each directory of src/ may include, besides itself. "qwerky" is the public API in include/qwerky.
const std::map<std::string, std::set<std::string>> kMayInclude = {
    {"base", {}},
    {"tensor", {"base"}},
    {"io", {"tensor", "base"}},
    {"backend", {"tensor", "base"}},
    {"model", {"io", "backend", "tensor", "base"}},
    {"engine", {"qwerky", "model", "io", "backend", "tensor", "base"}},
    {"distill", {"qwerky", "engine", "model", "io", "backend", "tensor", "base"}},
    {"eval", {"qwerky", "engine", "model", "io", "backend", "tensor", "base"}},
    {"serve", {"qwerky", "engine", "model", "io", "backend", "tensor", "base"}},
    {"cli", {"qwerky", "serve", "eval", "distill", "engine", "model", "io", "backend", "tensor", "base"}},
    {"qwerky", {}},
};

// A pattern that only some files may contain. Paths are prefixes.
struct Ban {
  std::string what;
  std::regex pattern;
  std::vector<std::string> where;    // applies to these
  std::vector<std::string> allowed;  // but not to these
};

const std::vector<Ban>& bans() {
  static const std::vector<Ban> list = {
      {"conditional compilation in model code", std::regex(R"(^\s*#\s*(if|ifdef|ifndef|elif)\b)"), {"src/model/"}, {}},
      {"intrinsics in model code",
       std::regex(R"((immintrin|x86intrin|arm_neon)\.h|\b_mm(256|512)?_\w+|__builtin_ia32)"),
       {"src/model/"},
       {}},
      {"threads in model code",
       std::regex(R"(std::j?thread|<thread>|omp\.h|#\s*pragma\s+omp|\bparallel_for\b|std::async)"),
       {"src/model/"},
       {}},
      {"model code touches elements of a tensor", std::regex(R"((\.|->)\s*(template\s+)?as<)"), {"src/model/"}, {}},
      {"the file system outside io",  // std::filesystem::path alone is a name, not a contact
       std::regex(R"(#\s*include\s*<(filesystem|fstream|sys/stat\.h|fcntl\.h|dirent\.h)>|std::[io]?fstream)"
                  R"(|filesystem(::(?!path\b)|\s*;)|\b(fopen|opendir|mkstemp|mkdtemp)\s*\()"
                  R"(|(^|\W)::(open|openat|stat|unlink|rename|mkdir|rmdir)\s*\()"),
       {"src/", "include/"},
       {"src/io/"}},
      {"printing outside cli",
       std::regex(R"(std::(cout|cerr|clog)\b|\bf?printf\s*\(|\bf?puts\s*\()"),
       {"src/", "include/"},
       {"src/cli/", "src/base/error.cc"}},
      {"CPU features asked for outside backend/select.cc",
       std::regex(R"(__builtin_cpu_(supports|is|init)|\b__(get_)?cpuid)"),
       {"src/", "include/"},
       {"src/backend/select.cc"}},
  };
  return list;
}

bool has_prefix(const std::string& text, const std::vector<std::string>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(), [&](const std::string& p) { return text.rfind(p, 0) == 0; });
}

bool has_suffix(const std::string& text, const std::string& suffix) {
  return text.size() >= suffix.size() && text.compare(text.size() - suffix.size(), suffix.size(), suffix) == 0;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

// The line without its `//` comment; quotes are respected.
std::string without_comment(const std::string& line) {
  bool quoted = false;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\\') {
      ++i;
    } else if (line[i] == '"') {
      quoted = !quoted;
    } else if (!quoted && line.compare(i, 2, "//") == 0) {
      return line.substr(0, i);
    }
  }
  return line;
}

// "io" for src/io/files.h, "qwerky" for include/qwerky/engine.h, "" for anything else.
std::string layer_of(const std::string& path) {
  if (path.rfind("include/", 0) == 0) return path.substr(8, path.find('/', 8) - 8);
  if (path.rfind("src/", 0) != 0) return "";
  const size_t end = path.find('/', 4);
  return end == std::string::npos ? "" : path.substr(4, end - 4);
}

void check_include(const std::string& place, const std::string& layer, const std::string& target,
                   std::vector<std::string>& wrong) {
  if (target.rfind("../", 0) == 0) return wrong.push_back(place + "\"" + target + "\" is not a path from src/");
  const size_t slash = target.find('/');
  const std::string other = slash == std::string::npos ? layer : target.substr(0, slash);
  if (other == layer) return;
  if (kMayInclude.count(other) == 0) {
    wrong.push_back(place + "\"" + target + "\" is in no known layer");
  } else if (kMayInclude.at(layer).count(other) == 0) {
    wrong.push_back(place + layer + " must not know " + other + " (\"" + target + "\")");
  }
}

int most_lines(const std::string& path) {
  // The decoder, each mixer, and the training steps.
  const bool model = has_prefix(path, {"src/model/"}) && has_suffix(path, ".cc");
  return (model && path != "src/model/architectures.cc") || path == "src/distill/steps.cc" ? 399 : 800;
}

// The files of docs/tour.md's reading order: numbered lines that begin with a path.
std::vector<std::string> reading_order(const std::string& tour) {
  static const std::regex item(R"(^\d+\. `(src/[^`]+)`)");
  std::vector<std::string> paths;
  std::smatch match;
  for (const std::string& line : lines_of(tour))
    if (std::regex_search(line, match, item)) paths.push_back(match[1]);
  return paths;
}

// Every broken rule, as "path:line: what".
std::vector<std::string> check(const Sources& sources) {
  static const std::regex include(R"re(^\s*#\s*include\s*"([^"]+)")re");
  std::vector<std::string> wrong;
  for (const auto& [path, text] : sources) {
    const std::vector<std::string> lines = lines_of(text);
    const int count = static_cast<int>(lines.size());
    if (count > most_lines(path)) {
      wrong.push_back(path + ": " + std::to_string(count) + " lines, at most " + std::to_string(most_lines(path)));
    }
    const size_t first = !lines.empty() && lines[0].rfind("#!", 0) == 0 ? 1 : 0;
    static const std::set<std::string> spdx = {"// SPDX-License-Identifier: MIT", "# SPDX-License-Identifier: MIT",
                                               "<!-- SPDX-License-Identifier: MIT -->"};
    if (lines.size() <= first || spdx.count(lines[first]) == 0) {
      wrong.push_back(path + ": does not begin with the SPDX line");
    }
    const bool code = has_prefix(path, {"src/", "include/"}) && !has_suffix(path, "CMakeLists.txt");
    if (!code) continue;
    const std::string layer = layer_of(path);
    if (kMayInclude.count(layer) == 0) {
      wrong.push_back(path + ": is in no known layer");
      continue;
    }
    for (int i = 0; i < count; ++i) {
      const std::string line = without_comment(lines[static_cast<size_t>(i)]);
      const std::string place = path + ":" + std::to_string(i + 1) + ": ";
      std::smatch match;
      if (std::regex_search(line, match, include)) check_include(place, layer, match[1], wrong);
      for (const Ban& ban : bans()) {
        if (has_prefix(path, ban.where) && !has_prefix(path, ban.allowed) && std::regex_search(line, ban.pattern)) {
          wrong.push_back(place + ban.what);
        }
      }
    }
  }
  return wrong;
}

Sources read_sources(const std::filesystem::path& root) {
  static const std::set<std::string> suffixes = {".h",  ".cc", ".inl",   ".cu", ".cuh",
                                                 ".py", ".sh", ".cmake", ".js", ".html"};
  Sources sources;
  auto take = [&](const std::filesystem::path& path) {
    if (suffixes.count(path.extension().string()) == 0 && path.filename() != "CMakeLists.txt") return;
    std::ifstream in(path, std::ios::binary);
    sources[path.lexically_relative(root).generic_string()] = std::string(std::istreambuf_iterator<char>(in), {});
  };
  for (const char* top : {"src", "include", "tests", "tools", "fuzz", "bench", "web"}) {
    if (!std::filesystem::exists(root / top)) continue;
    for (auto it = std::filesystem::recursive_directory_iterator(root / top); it != end(it); ++it) {
      const auto name = it->path().filename();
      if (it->is_directory() && (name == "golden" || name == "seeds" || name == "__pycache__")) {
        it.disable_recursion_pending();
      } else if (it->is_regular_file()) {
        take(it->path());
      }
    }
  }
  for (const char* file : {"CMakeLists.txt", "demo.sh", "test.sh"}) take(root / file);
  return sources;
}

TEST(Layering, SourcesKeepTheRules) {
  const Sources sources = read_sources(QWERKY_SOURCE_DIR);
  EXPECT_GT(sources.size(), 20u) << "the sources were not found";
  for (const std::string& what : check(sources)) ADD_FAILURE() << what;
}

TEST(Layering, TheReadingOrderIsShort) {
  std::ifstream in(std::filesystem::path(QWERKY_SOURCE_DIR) / "docs/tour.md", std::ios::binary);
  const std::vector<std::string> paths = reading_order(std::string(std::istreambuf_iterator<char>(in), {}));
  const Sources sources = read_sources(QWERKY_SOURCE_DIR);
  EXPECT_GE(paths.size(), 6u) << "docs/tour.md has lost its reading order";
  size_t count = 0;
  for (const std::string& path : paths) {
    ASSERT_TRUE(sources.contains(path)) << path;
    count += lines_of(sources.at(path)).size();
  }
  EXPECT_LT(count, 1500u) << "lines that a newcomer is asked to read";
  EXPECT_EQ(reading_order("1. `src/a.cc`: x\n* `src/b.cc`\n12. `src/c.h`\n"),
            (std::vector<std::string>{"src/a.cc", "src/c.h"}));
}

// One file with the licence line and `line`; expects exactly one complaint that contains `complaint`, or none.
void expect_complaint(const std::string& path, const std::string& line, const std::string& complaint) {
  const auto wrong = check({{path, "// SPDX-License-Identifier: MIT\n" + line + "\n"}});
  if (complaint.empty()) {
    EXPECT_TRUE(wrong.empty()) << path << ", " << line << ": " << wrong[0];
    return;
  }
  ASSERT_EQ(wrong.size(), 1u) << path << ", " << line;
  EXPECT_NE(wrong[0].find(complaint), std::string::npos) << wrong[0];
}

TEST(Layering, DependenciesPointDown) {
  expect_complaint("src/io/x.cc", "#include \"backend/backend.h\"", "io must not know backend");
  expect_complaint("src/backend/x.cc", "#include \"io/files.h\"", "backend must not know io");
  expect_complaint("src/tensor/x.h", "#include \"model/config.h\"", "tensor must not know model");
  expect_complaint("src/model/x.cc", "#include \"engine/engine.h\"", "model must not know engine");
  expect_complaint("src/eval/x.cc", "  #  include \"distill/stage.h\"", "eval must not know distill");
  expect_complaint("src/serve/x.cc", "#include \"cli/main.h\"", "serve must not know cli");
  expect_complaint("include/qwerky/x.h", "#include \"tensor/tensor.h\"", "qwerky must not know tensor");
  expect_complaint("src/model/x.cc", "#include \"qwerky/engine.h\"", "model must not know qwerky");
  expect_complaint("src/new/x.cc", "", "in no known layer");
  expect_complaint("src/base/x.cc", "#include \"new/x.h\"", "in no known layer");
  expect_complaint("src/io/x.cc", "#include \"../backend/backend.h\"", "a path from src/");
}

TEST(Layering, GoodIncludesAreNotReported) {
  expect_complaint("src/cli/x.cc", "#include \"serve/http.h\"", "");
  expect_complaint("src/engine/x.cc", "#include \"qwerky/engine.h\"", "");
  expect_complaint("src/backend/cuda/x.cu", "#include \"tensor/tensor.h\"", "");
  expect_complaint("src/io/x.cc", "// #include \"backend/backend.h\"", "");
  expect_complaint("tests/x.cc", "#include \"backend/backend.h\"", "");
}

TEST(Layering, ModelCodeIsPlain) {
  expect_complaint("src/model/x.cc", "#ifdef __AVX2__", "conditional compilation");
  expect_complaint("src/model/x.cc", "#include <immintrin.h>", "intrinsics");
  expect_complaint("src/model/x.cc", "  std::thread t(f);", "threads");
  expect_complaint("src/model/x.cc", "#pragma omp parallel for", "threads");
  expect_complaint("src/model/x.cc", "  x.as<float>()[0] = 1;", "touches elements");
  expect_complaint("src/model/x.cc", "  Scope scope(e.scratch);  // never x.as<float>()", "");
  expect_complaint("src/backend/x.cc", "  x.as<float>()[0] = 1;", "");
}

TEST(Layering, OnePlaceForEachContact) {
  expect_complaint("src/distill/x.cc", "#include <fstream>", "the file system outside io");
  expect_complaint("src/distill/x.cc", "  std::filesystem::create_directories(dir);", "the file system outside io");
  expect_complaint("src/engine/x.cc", "  if (std::filesystem::exists(file)) return;", "the file system outside io");
  expect_complaint("src/cli/x.cc", "namespace fs = std::filesystem;", "the file system outside io");
  expect_complaint("src/cli/x.cc", "  FILE* f = fopen(name, \"r\");", "the file system outside io");
  expect_complaint("src/engine/x.cc", "  const int fd = ::open(name, 0);", "the file system outside io");
  expect_complaint("src/distill/x.cc", "  std::filesystem::path file = dir / \"log\";", "");
  expect_complaint("src/distill/x.cc", "  train = TokenStream::open(file), open();", "");
  expect_complaint("src/io/x.cc", "  std::filesystem::create_directories(dir);", "");
  expect_complaint("src/engine/x.cc", "  std::printf(\"%d\", n);", "printing outside cli");
  expect_complaint("src/engine/x.cc", "  std::snprintf(s, 9, \"%d\", n);", "");
  expect_complaint("src/cli/x.cc", "  std::cout << text;", "");
  expect_complaint("src/backend/x.cc", "  if (__builtin_cpu_supports(\"avx2\")) {}", "outside backend/select.cc");
  expect_complaint("src/backend/select.cc", "  if (__builtin_cpu_supports(\"avx2\")) {}", "");
}

TEST(Layering, FilesAreShortAndLicensed) {
  auto lines = [](int n) {
    std::string text = "// SPDX-License-Identifier: MIT\n";
    for (int i = 1; i < n; ++i) text += "//\n";
    return text;
  };
  EXPECT_TRUE(check({{"tests/x_test.cc", lines(800)}}).empty());
  EXPECT_EQ(check({{"tests/x_test.cc", lines(801)}}).size(), 1u);
  EXPECT_TRUE(check({{"src/model/rwkv7.cc", lines(399)}}).empty());
  EXPECT_EQ(check({{"src/model/rwkv7.cc", lines(400)}}).size(), 1u);
  EXPECT_EQ(check({{"src/base/x.cc", "int x;\n"}}).size(), 1u);
  EXPECT_EQ(check({{"src/base/x.cc", ""}}).size(), 1u);
  EXPECT_TRUE(check({{"tools/x.sh", "#!/bin/sh\n# SPDX-License-Identifier: MIT\n"}}).empty());
}

}  // namespace
