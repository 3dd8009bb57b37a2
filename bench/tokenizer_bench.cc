// SPDX-License-Identifier: MIT
// Encoding and decoding of text on one thread, in bytes of text a second.
//
//   tokenizer_bench [TOKENIZER [TEXT_FILE]] [--benchmark_…]
//
// TOKENIZER: a directory or file (default: the bundled teacher's). Without TEXT_FILE: 10 MB of made-up sentences, of
// words that come as often as their rank says (Zipf), numbers and line ends.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdio>
#include <functional>

#include "base/error.h"
#include "base/random.h"
#include "io/files.h"
#include "io/tokenizer.h"

namespace qwerky {
namespace {

std::string made_up_text() {
  constexpr size_t kBytes = 10'000'000;
  constexpr double kWords = 20000;
  const Random random(1);
  std::string text;
  for (uint64_t i = 0; text.size() < kBytes; ++i) {
    const auto rank = static_cast<uint64_t>(std::pow(kWords, random.uniform(3 * i)));
    const Random word(rank);
    const uint64_t length = 1 + word.below(0, 3 + static_cast<uint64_t>(std::log2(static_cast<double>(rank) + 1)));
    if (i % 97 == 0) text += " " + std::to_string(random.below(3 * i + 1, 3000));
    text += ' ';
    for (uint64_t j = 0; j < length; ++j) text += static_cast<char>('a' + word.below(j + 1, 26));
    if (random.uniform(3 * i + 2) < 0.08) text += i % 7 == 0 ? ".\n" : ",";
  }
  return text;
}

struct Case {
  std::unique_ptr<Tokenizer> tokenizer;
  std::string text;
};

void encode(benchmark::State& state, const Case& c) {
  size_t tokens = 0;
  for (auto _ : state) benchmark::DoNotOptimize(tokens = c.tokenizer->encode(c.text).size());
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(c.text.size()));
  state.counters["bytes/token"] = static_cast<double>(c.text.size()) / static_cast<double>(tokens);
}

void decode(benchmark::State& state, const Case& c) {
  const std::vector<int32_t> ids = c.tokenizer->encode(c.text);
  for (auto _ : state) benchmark::DoNotOptimize(c.tokenizer->decode(ids, true).size());
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(c.text.size()));
}

int run(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  const Path teacher = Path(QWERKY_SOURCE_DIR) / "models" / "teacher";
  const Case c{load_tokenizer(argc > 1 ? Path(argv[1]) : teacher), argc > 2 ? read_file(argv[2]) : made_up_text()};
  benchmark::RegisterBenchmark("encode", encode, std::cref(c))->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark("decode", decode, std::cref(c))->Unit(benchmark::kMillisecond);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace qwerky

int main(int argc, char** argv) {
  try {
    return qwerky::run(argc, argv);
  } catch (const qwerky::Error& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
}
