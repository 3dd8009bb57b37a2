// SPDX-License-Identifier: MIT
// Engine, session, sampler and measurement on tiny models on disk.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>

#include "base/parallel.h"
#include "base/random.h"
#include "data.h"
#include "engine/footprint.h"
#include "engine/measure.h"
#include "engine/prefill.h"
#include "expect_error.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::has;
using testing::scratch_dir;

Json tiny(const std::string& type) {
  return {{"model_type", type},       {"hidden_size", 16},      {"intermediate_size", 24},
          {"vocab_size", 29},         {"num_hidden_layers", 2}, {"num_attention_heads", 2},
          {"num_key_value_heads", 1}, {"head_dim", 8},          {"max_position_embeddings", 600},
          {"rms_norm_eps", 1e-5}};
}

/// A model with random weights, written as a directory.
Path make_directory(const Json& json, const std::string& name, uint64_t seed = 1) {
  const auto model = make_model(read_config(json, nullptr), true);
  model->params.each([&](Param& p) {
    const Random random(seed, hash_name(p.name));
    for (int64_t i = 0; i < p.count(); ++i)
      p.weight.as<float>()[i] =
          static_cast<float>((p.name.ends_with("norm.weight") ? 1 : 0) + 0.3 * random.normal(static_cast<uint64_t>(i)));
  });
  const Path dir = scratch_dir("engine-" + name);
  save_model(dir, model->config(), model->params, DType::f32, {});
  return dir;
}

std::vector<int32_t> some_ids(size_t n, uint64_t seed = 4) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < n; ++i) ids.push_back(static_cast<int32_t>(Random(seed).below(i, 29)));
  return ids;
}

std::vector<float> logits_of(const Session& s) { return {s.logits().begin(), s.logits().end()}; }

const std::vector<std::string> kKinds = {"qwen2", "rwkv6qwen2", "rwkv7qwen2"};

TEST(Session, AnySplitOfAPromptAgrees) {
  const auto ids = some_ids(530);  // more than one call of prefill
  for (const std::string& kind : kKinds) {
    const Engine engine(make_directory(tiny(kind), kind).string(), {.tokenizer = false});
    Session whole(engine, 600), parts(engine, 600);
    whole.append(ids);
    size_t at = 0;
    for (size_t n : {1, 2, 1, 61, 300, 64, 101}) {
      parts.append(std::span(ids).subspan(at, n));
      at += n;
    }
    ASSERT_EQ(at, ids.size());
    EXPECT_EQ(whole.position(), 530);
    EXPECT_EQ(parts.position(), 530);
    for (size_t i = 0; i < 29; ++i) EXPECT_NEAR(whole.logits()[i], parts.logits()[i], 1e-4) << kind;
  }
}

TEST(Session, ForksGoTheirOwnWays) {
  for (const std::string& kind : kKinds) {
    const Engine engine(make_directory(tiny(kind), kind).string(), {.tokenizer = false});
    const auto ids = some_ids(20), other = some_ids(5, 9), more = some_ids(5, 10);
    Session a(engine, 64);
    a.append(ids);
    Session b = a.fork();
    EXPECT_EQ(logits_of(a), logits_of(b));
    EXPECT_EQ(b.position(), 20);
    b.append(other);
    const auto before = logits_of(a);
    EXPECT_NE(before, logits_of(b));
    a.append(more);
    Session fresh(engine, 64);
    fresh.append(ids), fresh.append(more);
    EXPECT_EQ(logits_of(a), logits_of(fresh)) << kind;
    Session moved = std::move(b);
    EXPECT_EQ(moved.position(), 25);
  }
}

TEST(Session, ConstantStateWithoutSoftmax) {
  for (const std::string& kind : kKinds) {
    const Engine engine(make_directory(tiny(kind), kind).string(), {.tokenizer = false});
    const Session few(engine, 16), many(engine, 512);
    if (kind == "qwen2") {
      EXPECT_EQ(engine.max_tokens(), 600);
      EXPECT_GT(many.state_bytes(), 16 * few.state_bytes());
    } else {
      EXPECT_EQ(engine.max_tokens(), 0);
      EXPECT_EQ(many.state_bytes(), few.state_bytes());
    }
  }
}

TEST(Session, RefusesWhatDoesNotFit) {
  const Engine softmax(make_directory(tiny("qwen2"), "full").string(), {.tokenizer = false});
  Session s(softmax, 8);
  s.append(some_ids(8));
  EXPECT_PRED2(has, error_of([&] { s.append(some_ids(1)); }), "9 tokens do not fit in the 8");
  const std::vector<int32_t> bad{3, 29}, negative{-1};
  Session t(softmax, 8);
  EXPECT_PRED2(has, error_of([&] { t.append(bad); }), "token 29 is outside the vocabulary of 29");
  EXPECT_PRED2(has, error_of([&] { t.append(negative); }), "token -1");
  EXPECT_EQ(t.position(), 0);
}

TEST(Engine, NamesWhatItDoesNotKnow) {
  const std::string dir = make_directory(tiny("qwen2"), "names").string();
  EXPECT_PRED2(has, error_of([&] { Engine(dir, {.backend = "cuda", .tokenizer = false}); }), "backend cuda");
  EXPECT_PRED2(has, error_of([&] { Engine(dir, {.precision = "f8", .tokenizer = false}); }), "f8");
  EXPECT_PRED2(has, error_of([&] { Engine e(dir); }), "no tokenizer");
}

TEST(Engine, WithoutATokenizerTextIsAnErrorAndIdsWork) {
  const std::string dir = make_directory(tiny("qwen2"), "ids-only").string();
  const Engine engine(dir, {.tokenizer = false});
  const std::vector<int32_t> ids{3};
  EXPECT_PRED2(has, error_of([&] { engine.encode("hi"); }), "encode: " + dir + " was opened for token ids only");
  EXPECT_PRED2(has, error_of([&] { engine.decode(ids); }), "decode: " + dir);
  EXPECT_PRED2(has, error_of([&] { engine.beginning(); }), "beginning: " + dir);
  EXPECT_FALSE(engine.ends_text(3));
  Session session(engine, 8);
  EXPECT_EQ(generate(session, engine, ids, {.max_tokens = 4, .sampler = {}}).ids.size(), 4u);
  EXPECT_PRED2(has, error_of([&] { generate(session, engine, {}, {}); }), "prompt: empty; expected at least one token");
}

TEST(Engine, SamplerRefusesWhatIsNoNumber) {
  const std::vector<float> logits{1, 2, 3};
  const auto message = [&](const SamplerOptions& o) { return error_of([&] { sample(logits, o, 0); }); };
  for (double wrong : {-1.0, std::nan(""), double{INFINITY}})
    EXPECT_PRED2(has, message({.temperature = wrong}), "temperature");
  for (double wrong : {-1.0, std::nan(""), 1.5})
    EXPECT_PRED2(has, message({.temperature = 1, .top_p = wrong}), "top-p: expected a number from 0 to 1");
  EXPECT_PRED2(has, message({.temperature = 1, .top_k = -1}), "top-k");
}

TEST(Engine, NamesAnUnsupportedFamilyBeforeItsWeights) {
  const Path dir = scratch_dir("engine-family");
  write_file(dir / "config.json", R"({"model_type": "qwen3_moe"})");
  for (const auto& open :
       std::initializer_list<std::function<void()>>{[&] { open_model(dir); }, [&] { load_model(dir); }})
    EXPECT_PRED2(has, error_of(open),
                 dir.string() + "/config.json: model_type \"qwen3_moe\" is not supported; supported: llama, qwen2");
  write_file(dir / "config.json", tiny("qwen2").dump());
  EXPECT_PRED2(has, error_of([&] { open_model(dir); }), "no weights");
}

TEST(Engine, ConfigurationErrorsNameThePath) {
  const Path dir = make_directory(tiny("qwen2"), "where");
  Json json = read_json(dir / "config.json");
  json["rms_norm_eps"] = -1;
  write_file(dir / "config.json", json.dump());
  EXPECT_PRED2(has, error_of([&] { load_model(dir, {.need_tokenizer = false}); }),
               (dir / "config.json").string() + ": rms_norm_eps: expected");
}

TEST(Footprint, IsWhatALoadedModelTakes) {
  for (const char* type : {"qwen2", "rwkv6qwen2", "rwkv7qwen2"})
    for (const std::string& name : available_backends())
      for (DType store : {DType::f32, DType::bf16}) {
        SCOPED_TRACE(concat(type, " ", name, " ", name_of(store)));
        const Path dir = make_directory(tiny(type), "footprint");
        const auto master = load_model(dir, {.need_tokenizer = false});
        save_model(dir, master->config(), master->params, store, {});
        const Checkpoint checkpoint = open_model(dir);
        const auto on = backend_for(checkpoint, name, "auto");
        const auto model = load_model(checkpoint, {.need_tokenizer = false, .pack_for = on.get()});
        int64_t weights = 0;
        model->params.each([&](const Param& p) { weights += p.weight.bytes(); });
        const auto ids = some_ids(530);
        Arena scratch;
        const auto state = model->decoder->make_state(on->scalar(), 600);
        std::vector<float> logits(29);
        prefill({*on, scratch}, *model->decoder, *state, ids, Tensor(logits.data(), DType::f32, {1, 29}));

        const Footprint need = footprint(checkpoint, model->config(), *on, 600);
        EXPECT_EQ(need.parameters, model->params.count());
        EXPECT_EQ(need.weights, weights);
        EXPECT_EQ(need.state, state->bytes());
        EXPECT_EQ(need.scratch, scratch.peak_bytes());
      }
}

/// A model whose weights, two bytes each ("BF16" or "F16"), are a hole in a file; false where the file system has none
/// of that size.
bool hollow_model(const Path& dir, const Json& config, const char* type) {
  write_file(dir / "config.json", config.dump());
  Json header = Json::object();
  int64_t bytes = 0;
  const auto model = declare_model(read_config(config, nullptr));
  model->params.each([&](const Param& p) {
    std::vector<int64_t> shape(p.shape.dim.begin(), p.shape.dim.begin() + p.shape.rank);
    header[p.name] = {{"dtype", type}, {"shape", shape}, {"data_offsets", {bytes, bytes + 2 * p.count()}}};
    bytes += 2 * p.count();
  });
  std::string text = header.dump();
  text.resize((text.size() + 63) / 64 * 64, ' ');
  const auto length = static_cast<uint64_t>(text.size());
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  write_file(dir / "model.safetensors", file + text);
  std::error_code refused;
  std::filesystem::resize_file(dir / "model.safetensors", 8 + length + static_cast<uint64_t>(bytes), refused);
  return !refused;
}

/// 800 GB of bf16 weights, of which the file system keeps none.
TEST(Footprint, NeedsNoMemoryForTheWeights) {
  const Path dir = scratch_dir("footprint-large");
  Json json = tiny("qwen2");
  json["hidden_size"] = 16384, json["intermediate_size"] = 65536, json["num_hidden_layers"] = 110;
  json["num_attention_heads"] = 128, json["num_key_value_heads"] = 8, json["head_dim"] = 128, json["vocab_size"] = 1000;
  if (!hollow_model(dir, json, "BF16")) GTEST_SKIP() << "the file system has no files of 800 GB";
  const Checkpoint checkpoint = open_model(dir);
  const auto on = backend_for(checkpoint, "reference", "auto");
  const Footprint need = footprint(checkpoint, read_config(checkpoint.config, checkpoint.tensors.get()), *on, 600);
  EXPECT_GT(need.weights, 700'000'000'000);
  EXPECT_GT(need.scratch, 256 * 65536 * 4);
  EXPECT_PRED2(has, error_of([&] { load_model(checkpoint, {.need_tokenizer = false}); }), "this machine has");
  std::filesystem::remove_all(dir);
}

/// f16 weights that would fit as they are, but not as the f32 that they become.
TEST(Engine, MemoryIsThatOfTheWeightsAsTheyAreHeld) {
  const Path dir = scratch_dir("wide-f16");
  Json json = tiny("qwen2");
  constexpr int64_t kHidden = 1024;
  json["hidden_size"] = kHidden;
  json["intermediate_size"] =
      available_memory_bytes() / 10 * 9 / (2 * 2 * 3 * kHidden);  // two layers of three matrices
  if (!hollow_model(dir, json, "F16")) GTEST_SKIP() << "the file system has no files as large as the memory";
  const Checkpoint checkpoint = open_model(dir);
  const auto on = make_backend("auto", Precision::f32);
  EXPECT_PRED2(has, error_of([&] { load_model(checkpoint, {.need_tokenizer = false, .pack_for = on.get()}); }),
               "this machine has");
  std::filesystem::remove_all(dir);
}

TEST(Engine, AbsurdConfigurationsAreHeldAgainstTheFileFirst) {
  const Path dir = make_directory(tiny("rwkv7qwen2"), "absurd");
  Json json = read_json(dir / "config.json");
  json["hidden_size"] = 1 << 20, json["vocab_size"] = 1 << 24, json["num_hidden_layers"] = 1000;
  json["intermediate_size"] = 1 << 22, json["num_attention_heads"] = 1 << 14, json["num_key_value_heads"] = 1;
  write_file(dir / "config.json", json.dump());
  const auto message = [&] { return error_of([&] { load_model(dir, {.need_tokenizer = false}); }); };
  EXPECT_PRED2(has, message(), "tensor model.embed_tokens.weight: expected [16777216, 1048576], file has [29, 16]");
  EXPECT_PRED2(has, message(), "more");
  const Config config = read_config(json, nullptr);
  EXPECT_PRED2(has, error_of([&] { make_model(config, false); }), "the weights of this model need");
}

TEST(Engine, Bf16WhereTheBackendHasIt) {
  const Path dir = scratch_dir("engine-bf16");
  const auto model = make_model(read_config(tiny("qwen2"), nullptr), true);
  save_model(dir, model->config(), model->params, DType::bf16, {});
  const Checkpoint stored = open_checkpoint(dir);
  for (const std::string& name : available_backends()) {
    EXPECT_EQ(backend_for(stored, name, "auto")->name(), name) << "auto falls back to f32";
    EXPECT_EQ(backend_for(stored, name, "f32")->name(), name);
    if (name == "avx512") continue;
    EXPECT_PRED2(has, error_of([&] { backend_for(stored, name, "bf16"); }), "precision bf16: the " + name);
    EXPECT_PRED2(has,
                 error_of([&] { Engine(dir.string(), {.backend = name, .precision = "bf16", .tokenizer = false}); }),
                 "precision bf16: the " + name);
  }
  EXPECT_PRED2(has, error_of([&] { backend_for(stored, "auto", "f8"); }), "found f8");
}

TEST(Generate, IsReproducibleAndStops) {
  const Engine engine(make_directory(tiny("rwkv7qwen2"), "generate").string(), {.tokenizer = false});
  const auto prompt = some_ids(6);
  const GenerateOptions options{.max_tokens = 20, .sampler = {.temperature = 1, .seed = 3}};
  const auto ids = [&](const GenerateOptions& o, const std::function<bool(int32_t)>& emit = nullptr) {
    Session s(engine, 64);
    return generate(s, engine, prompt, o, emit).ids;
  };
  const auto first = ids(options);
  EXPECT_EQ(first.size(), 20u);
  EXPECT_EQ(first, ids(options));
  GenerateOptions other = options;
  other.sampler.seed = 4;
  EXPECT_NE(first, ids(other));
  std::vector<int32_t> seen;
  EXPECT_EQ(ids(options, [&](int32_t id) { return seen.push_back(id), seen.size() < 7; }).size(), 7u);
  EXPECT_EQ(seen, std::vector(first.begin(), first.begin() + 7));
  Session s(engine, 8);
  EXPECT_PRED2(has, error_of([&] { generate(s, engine, {}, options); }), "prompt: empty");
}

TEST(Sampler, Greedy) {
  const std::vector<float> logits{1, 5, -2, 5, 0};
  EXPECT_EQ(sample(logits, {}, 0), 1);  // the first among equals
  EXPECT_EQ(sample(logits, {.temperature = 0, .top_k = 3, .top_p = 0.1, .seed = 8}, 99), 1);
}

std::map<int32_t, double> shares(const std::vector<float>& logits, const SamplerOptions& options) {
  constexpr int kDraws = 20000;
  std::map<int32_t, double> share;
  for (int i = 0; i < kDraws; ++i) share[sample(logits, options, i)] += 1.0 / kDraws;
  return share;
}

TEST(Sampler, DrawsFromTheSoftmax) {
  const std::vector<float> logits{0, 1, 2, -1};
  for (double temperature : {1.0, 0.5}) {
    double total = 0;
    for (float x : logits) total += std::exp(static_cast<double>(x) / temperature);
    auto share = shares(logits, {.temperature = temperature, .seed = 1});
    for (int32_t i = 0; i < 4; ++i)
      EXPECT_NEAR(share[i], std::exp(static_cast<double>(logits[static_cast<size_t>(i)]) / temperature) / total, 0.012);
  }
}

TEST(Sampler, TopKAndTopP) {
  const std::vector<float> logits{0, 1, 2, -1};  // shares 0.087, 0.237, 0.644, 0.032
  auto k = shares(logits, {.temperature = 1, .top_k = 2, .seed = 1});
  EXPECT_EQ(k.size(), 2u);
  EXPECT_NEAR(k[2], std::exp(1.0) / (1 + std::exp(1.0)), 0.012);
  EXPECT_EQ(shares(logits, {.temperature = 1, .top_k = 1, .seed = 1}).size(), 1u);
  EXPECT_EQ(shares(logits, {.temperature = 1, .top_k = 100, .seed = 1}).size(), 4u);
  EXPECT_EQ(shares(logits, {.temperature = 1, .top_p = 0.6, .seed = 1}).size(), 1u);
  EXPECT_EQ(shares(logits, {.temperature = 1, .top_p = 0.7, .seed = 1}).size(), 2u);
  EXPECT_EQ(shares(logits, {.temperature = 1, .top_p = 0, .seed = 1}).size(), 1u);
  auto both = shares(logits, {.temperature = 1, .top_k = 3, .top_p = 0.95, .seed = 1});  // 0.95 of the three's mass
  EXPECT_EQ(both.size(), 3u);
  EXPECT_EQ(both.count(3), 0u);
}

TEST(Sampler, HugeLogitsAndTinyTemperatures) {
  EXPECT_EQ(sample(std::vector<float>{3e38F, -3e38F, 0}, {.temperature = 1, .seed = 1}, 5), 0);
  EXPECT_EQ(sample(std::vector<float>{1, 1.001F}, {.temperature = 1e-12, .seed = 1}, 5), 1);
  EXPECT_EQ(sample(std::vector<float>{7}, {.temperature = 1, .top_k = 1, .top_p = 0.5, .seed = 1}, 5), 0);
}

TEST(Windows, ScoreEveryIdButTheFirstOnce) {
  for (size_t n : {0, 1, 2, 3, 8, 9, 10, 17}) {
    const auto ids = some_ids(n);
    const Windows windows{ids, 8};
    std::vector<int32_t> targets;
    for (int64_t i = 0; i < windows.count(); ++i) {
      ASSERT_EQ(windows.inputs(i).size(), windows.targets(i).size());
      targets.insert(targets.end(), windows.targets(i).begin(), windows.targets(i).end());
    }
    EXPECT_EQ(targets, n < 2 ? std::vector<int32_t>() : std::vector(ids.begin() + 1, ids.end()));
  }
}

struct Pair {
  std::unique_ptr<Backend> on = make_backend("auto", Precision::f32);
  std::unique_ptr<Model> a = load_model(make_directory(tiny("qwen2"), "a"), {.need_tokenizer = false});
  std::unique_ptr<Model> b = load_model(make_directory(tiny("rwkv6qwen2"), "b"), {.need_tokenizer = false});
};

TEST(Measure, ScoresAgreeWithLogits) {
  const Pair p;
  const auto ids = some_ids(20);
  const Scores s = score(*p.on, *p.a->decoder, {ids, 8});
  double sum = 0;
  const Engine engine(p.a->path.string(), {.tokenizer = false});
  for (size_t begin = 0; begin + 1 < ids.size(); begin += 8) {
    Session session(engine, 8);
    for (size_t i = begin; i < std::min(begin + 8, ids.size() - 1); ++i) {
      session.append(std::span(ids).subspan(i, 1));
      double total = 0;
      for (float x : session.logits()) total += std::exp(static_cast<double>(x));
      sum += std::log(total) - static_cast<double>(session.logits()[static_cast<size_t>(ids[i + 1])]);
    }
  }
  EXPECT_EQ(s.tokens, 19);
  EXPECT_NEAR(s.nll, sum / 19, 1e-5);
  EXPECT_DOUBLE_EQ(s.perplexity(), std::exp(s.nll));
  ASSERT_EQ(s.nll_by_position.size(), 8u);
}

TEST(Measure, AModelAgainstItself) {
  const Pair p;
  const auto ids = some_ids(100);
  const Comparison c = compare(*p.on, *p.a->decoder, *p.a->decoder, {ids, 16}, true);
  EXPECT_NEAR(c.kl, 0, 1e-9);
  EXPECT_EQ(c.top1, 1);
  EXPECT_EQ(c.ratio(), 1);
  ASSERT_EQ(c.alignment.size(), 2u);
  EXPECT_NEAR(c.alignment[1], 0, 1e-7);
}

TEST(Measure, ComparisonIsConsistentAndIndependentOfThreads) {
  const Pair p;
  const auto ids = some_ids(333);
  const int before = threads();
  std::vector<Comparison> all;
  for (int n : {1, 2, 4}) {
    set_threads(n);
    all.push_back(compare(*p.on, *p.a->decoder, *p.b->decoder, {ids, 32}, true));
  }
  set_threads(before);
  for (const Comparison& c : all) {
    EXPECT_EQ(c.kl, all[0].kl);
    EXPECT_EQ(c.student.nll, all[0].student.nll);
    EXPECT_EQ(c.alignment, all[0].alignment);
    EXPECT_EQ(c.kl_by_position, all[0].kl_by_position);
  }
  const Comparison& c = all[0];
  EXPECT_EQ(c.teacher.nll, score(*p.on, *p.a->decoder, {ids, 32}).nll);
  EXPECT_EQ(c.student.nll, score(*p.on, *p.b->decoder, {ids, 32}).nll);
  EXPECT_GT(c.kl, 0);
  EXPECT_EQ(c.teacher.tokens, 332);
  double weighted = 0;
  for (size_t k = 0; k < 32; ++k) weighted += c.kl_by_position[k] * (k < 332 % 32 ? 11 : 10);
  EXPECT_NEAR(weighted / 332, c.kl, 1e-12);
  EXPECT_GT(c.unexplained[0], 0);
}

TEST(Measure, NeedsTwoTokensAndOneVocabulary) {
  const Pair p;
  const auto one = some_ids(1);
  EXPECT_PRED2(has, error_of([&] { score(*p.on, *p.a->decoder, {one, 8}); }), "at least 2 tokens");
  Json larger = tiny("qwen2");
  larger["vocab_size"] = 31;
  const auto other = load_model(make_directory(larger, "larger"), {.need_tokenizer = false});
  const auto ids = some_ids(9);
  EXPECT_PRED2(has, error_of([&] { compare(*p.on, *p.a->decoder, *other->decoder, {ids, 8}, false); }), "29 and 31");
}

}  // namespace
}  // namespace qwerky
