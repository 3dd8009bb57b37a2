// SPDX-License-Identifier: MIT
// The decoder as a whole: splits, batches and backends agree; a published model gives its published output.
#include <cmath>
#include <fstream>
#include <sstream>

#include "backend/reference.h"
#include "base/parallel.h"
#include "base/random.h"
#include "data.h"
#include "engine/engine.h"
#include "engine/measure.h"
#include "tiny_shape.h"

namespace qwerky {
namespace {

using testing::shared_data;

Json shape(const std::string& type, int64_t head, int64_t heads, int64_t kv) {
  return testing::tiny_shape(type, 3, head, heads, kv);
}

std::unique_ptr<Model> random_model(const Json& json) {
  auto model = make_model(read_config(json, nullptr), false);
  model->params.each([&](Param& p) {
    const Random random(7, hash_name(p.name));
    for (int64_t i = 0; i < p.count(); ++i)
      p.weight.as<float>()[i] = static_cast<float>((p.name.ends_with("norm.weight") ? 1 : 0) +
                                                   0.15 * random.normal(static_cast<uint64_t>(i)));
  });
  return model;
}

std::vector<int32_t> some_tokens(int64_t n, int64_t vocab) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n; ++i)
    ids.push_back(static_cast<int32_t>(Random(5).below(static_cast<uint64_t>(i), static_cast<uint64_t>(vocab))));
  return ids;
}

/// Final hidden rows when `ids` run through in parts of the given sizes (0: one call without a state).
std::vector<float> run(const Backend& on, const Decoder& d, const std::vector<int32_t>& ids,
                       const std::vector<int64_t>& parts) {
  Arena scratch;
  const Exec ex{on, scratch};
  const Tensor out = ex.make(static_cast<int64_t>(ids.size()), d.config().hidden);
  const auto state = d.make_state(on.scalar(), 128);
  int64_t at = 0;
  for (int64_t n : parts) {
    const Segment segment{state.get(), 0, n};
    d.forward(ex, std::span(ids).subspan(static_cast<size_t>(at), static_cast<size_t>(n)), {&segment, 1},
              out.rows(at, n));
    at += n;
  }
  if (parts.empty()) {
    const Segment segment{nullptr, 0, static_cast<int64_t>(ids.size())};
    d.forward(ex, ids, {&segment, 1}, out);
  }
  wait_for_device();
  return {out.as<float>(), out.as<float>() + out.count()};
}

void expect_close(const std::vector<float>& a, const std::vector<float>& b, double tolerance, const std::string& what) {
  ASSERT_EQ(a.size(), b.size());
  double worst = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i)
    worst = std::max(worst, std::abs(double(a[i]) - double(b[i]))), size = std::max(size, std::abs(double(a[i])));
  EXPECT_LT(worst, tolerance * size) << what;
}

const std::vector<std::string> kTypes = {"qwen2", "qwen3", "rwkv6qwen2", "rwkv7qwen2", "qwen3rwkv7"};

TEST(Decoder, SplitsAndBackendsAgreeWithThePlainRecurrence) {
  const auto ids = some_tokens(83, 61);
  for (const auto& [head, heads, kv] : std::vector<std::array<int64_t, 3>>{{8, 4, 2}, {20, 3, 1}, {64, 2, 2}})
    for (std::string type : kTypes) {
      const auto model = random_model(shape(type, head, heads, kv));
      const Reference plain;
      const auto truth = run(plain, *model->decoder, ids, {});
      for (const std::string& name : available_backends()) {
        const auto on = make_backend(name, Precision::f32);
        const std::string what = type + " head " + std::to_string(head) + " on " + name;
        expect_close(truth, run(*on, *model->decoder, ids, {}), 2e-4, what);
        expect_close(truth, run(*on, *model->decoder, ids, std::vector<int64_t>(83, 1)), 2e-4, what + ", one by one");
        expect_close(truth, run(*on, *model->decoder, ids, {5, 1, 40, 2, 35}), 2e-4, what + ", uneven parts");
      }
    }
}

TEST(Decoder, WindowedSoftmaxWithSinksAndHybridsSplitTheSame) {
  const auto ids = some_tokens(70, 61);
  Json windowed = shape("llama", 8, 4, 2), hybrid = shape("rwkv7qwen2", 8, 4, 2);
  windowed["qwerky_windows"] = {7, 0, 16};
  windowed["qwerky_sinks"] = 3;
  hybrid["qwerky_mixers"] = {"softmax", "rwkv7", "rwkv7"};
  for (const Json& json : {windowed, hybrid}) {
    const auto model = random_model(json);
    const auto truth = run(Reference(), *model->decoder, ids, {});
    for (const std::string& name : available_backends()) {
      const auto on = make_backend(name, Precision::f32);
      expect_close(truth, run(*on, *model->decoder, ids, {}), 2e-4, name);
      expect_close(truth, run(*on, *model->decoder, ids, {1, 1, 30, 8, 30}), 2e-4, name + " in parts");
    }
  }
}

TEST(Decoder, ARowDoesNotDependOnItsNeighboursOrThreads) {
  const auto ids = some_tokens(24, 61);
  for (const std::string& type : kTypes) {
    const auto model = random_model(shape(type, 8, 4, 2));
    const auto on = make_backend("auto", Precision::f32);
    const auto alone = run(*on, *model->decoder, ids, {});
    std::vector<int32_t> twice = some_tokens(9, 61);
    twice.insert(twice.end(), ids.begin(), ids.end());
    for (int n : {1, 2}) {
      set_threads(n);
      Arena scratch;
      const Exec ex{*on, scratch};
      const Tensor out = ex.make(33, 40);
      const Segment batch[] = {{nullptr, 0, 9}, {nullptr, 9, 24}};
      model->decoder->forward(ex, twice, batch, out);
      wait_for_device();
      EXPECT_EQ(0, std::memcmp(alone.data(), out.rows(9, 24).data, alone.size() * 4))
          << type << " with " << n << " threads";
    }
  }
}

TEST(Decoder, EndsBehindTheLayersThatAreWanted) {
  const auto model = random_model(shape("rwkv7qwen2", 8, 5, 5));
  const auto backend = make_backend("reference", Precision::f32);
  const auto ids = some_tokens(6, 61);
  const Segment all{nullptr, 0, 6};
  for (const int64_t layers : {0, 2, 3}) {
    Arena scratch;
    const Exec ex{*backend, scratch};
    const Tensor hidden = ex.make(6, 40);
    hidden.as<float>()[0] = 1234;
    std::vector<int64_t> seen, want;
    for (int64_t i = 0; i < layers; ++i) want.push_back(i);
    const Tap tap = [&](int64_t layer, const Io&) { seen.push_back(layer); };
    model->decoder->forward(ex, ids, {&all, 1}, hidden, tap, layers);
    EXPECT_EQ(seen, want);
    EXPECT_EQ(hidden.as<float>()[0] == 1234, layers < 3);
  }
}

TEST(Decoder, StateOfALinearModelDoesNotGrow) {
  const auto linear = random_model(shape("rwkv7qwen2", 8, 4, 2)), softmax = random_model(shape("qwen2", 8, 4, 2));
  EXPECT_EQ(linear->decoder->state_scalars(10), linear->decoder->state_scalars(1000000));
  EXPECT_EQ(linear->decoder->state_scalars(0), 3 * 4 * 8 * 8);
  EXPECT_EQ(softmax->decoder->state_scalars(1000), 3 * 2 * 1000 * 2 * 8);
}

/// Into a state of another capacity, by way of one that is just large enough. What is not in use is never read.
TEST(Decoder, ACopiedStateGoesOnBitForBit) {
  const auto ids = some_tokens(60, 61);
  Json windowed = shape("llama", 8, 4, 2), hybrid = shape("rwkv7qwen2", 8, 4, 2);
  windowed["qwerky_windows"] = {7, 0, 16};
  windowed["qwerky_sinks"] = 3;
  hybrid["qwerky_mixers"] = {"softmax", "rwkv7", "rwkv7"};
  for (const Json& json : {windowed, hybrid, shape("qwen2", 8, 4, 2), shape("rwkv6qwen2", 8, 4, 2)})
    for (const std::string& name : available_backends())
      for (const int64_t read : {0, 5, 33}) {
        const auto model = random_model(json);
        const Decoder& d = *model->decoder;
        const auto on = make_backend(name, Precision::f32);
        Arena scratch;
        const Exec ex{*on, scratch};
        const auto continued = [&](State& state, int64_t from, int64_t to) {
          const Segment segment{&state, 0, to - from};
          const Tensor out = ex.make(to - from, d.config().hidden);
          d.forward(ex, std::span(ids).subspan(static_cast<size_t>(from), static_cast<size_t>(to - from)),
                    {&segment, 1}, out);
          wait_for_device();
          return std::vector<float>(out.as<float>(), out.as<float>() + out.count());
        };
        const auto state = d.make_state(on->scalar(), 64), small = d.make_state(on->scalar(), read),
                   large = d.make_state(on->scalar(), 200);
        std::fill_n(large->at(0, large->scalars()).as<float>(), large->scalars(), NAN);
        if (read > 0) continued(*state, 0, read);
        d.copy_state(*small, *state);
        d.copy_state(*large, *small);
        EXPECT_EQ(large->position(), read);
        EXPECT_EQ(continued(*state, read, read + 1), continued(*large, read, read + 1)) << name << " " << json;
        EXPECT_EQ(continued(*state, read + 1, 60), continued(*large, read + 1, 60)) << name << " " << json;
      }
}

TEST(Stories260K, GreedyTextByteForByte) {
  const auto dir = shared_data("models/stories260K");
  NEEDS_DATA(dir);
  for (const std::string& backend : available_backends()) {
    const Engine engine(dir.string(), {.backend = backend, .precision = "f32"});
    Session session(engine, 256);
    const auto prompt = engine.beginning();
    const Generated out = generate(session, engine, prompt, {.max_tokens = 200, .sampler = {}});
    std::ifstream file(dir / "expected_greedy_200.txt");
    const std::string want{std::istreambuf_iterator<char>(file), {}};
    std::vector<int32_t> all = prompt;
    all.insert(all.end(), out.ids.begin(), out.ids.end());
    EXPECT_EQ(engine.decode(all), want) << backend;
  }
}

TEST(Stories260K, LogitsEqualTheStoredOnes) {
  const auto dir = shared_data("models/stories260K");
  NEEDS_DATA(dir);
  std::ifstream ids_file(dir / "derived_greedy_ids.txt"),
      logits_file(dir / "derived_greedy_logits_64x512_f32.bin", std::ios::binary);
  std::vector<int32_t> ids(64);
  for (int32_t& id : ids) ids_file >> id;
  std::vector<float> want(64 * 512);
  logits_file.read(reinterpret_cast<char*>(want.data()), static_cast<std::streamsize>(want.size() * 4));
  ASSERT_TRUE(ids_file && logits_file);
  const auto model = load_model(dir);
  for (const std::string& backend : available_backends()) {
    const auto on = make_backend(backend, Precision::f32);
    Arena scratch;
    const Exec ex{*on, scratch};
    const Segment segment{nullptr, 0, 64};
    const Tensor hidden = ex.make(64, 64), logits = ex.make(64, 512);
    model->decoder->forward(ex, ids, {&segment, 1}, hidden);
    model->decoder->logits(ex, hidden, logits);
    wait_for_device();
    double worst = 0;
    for (size_t i = 0; i < want.size(); ++i)
      worst = std::max(worst, std::abs(double(logits.as<float>()[i]) - double(want[i])));
    EXPECT_LT(worst, 1e-4) << backend;
  }
}

}  // namespace
}  // namespace qwerky
