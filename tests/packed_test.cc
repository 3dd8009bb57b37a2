// SPDX-License-Identifier: MIT
// Packed files: what is written is what is read, hostile ones are refused, and models run from them.
#include "io/packed.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "base/parallel.h"
#include "base/random.h"
#include "data.h"
#include "engine/engine.h"
#include "engine/export_gguf.h"
#include "engine/export_packed.h"
#include "expect_error.h"
#include "tensor/panels.h"
#include "tiny_model.h"

namespace qwerky {
namespace {

using testing::has;
using testing::scratch_dir;

/// The parts of a packed file with one tensor "w" [2, 5] of int8 in groups of 32, to be spoiled one at a time.
struct Parts {
  std::string magic = "QWRKPACK";
  uint32_t version = 1, reserved = 0;
  Json header;
  std::string data;  // from byte 4096 on
  int64_t length = -1;

  Parts() : data(128 + 32 * 64, '\1') {
    header = {{"config", Json::object()},
              {"card", Json::object()},
              {"tensors",
               {{{"name", "w"},
                 {"shape", {2, 5}},
                 {"type", "int8"},
                 {"layout", "panels"},
                 {"group", 32},
                 {"offset", 4096},
                 {"sha256", sha256(data)}}}},
              {"files", Json::array()}};
  }
  Json& tensor() { return header["tensors"][0]; }
  std::string bytes() const {
    const std::string text = header.dump();
    const uint64_t stated = length < 0 ? text.size() : static_cast<uint64_t>(length);
    std::string out = magic;
    out.append(reinterpret_cast<const char*>(&version), 4);
    out.append(reinterpret_cast<const char*>(&reserved), 4);
    out.append(reinterpret_cast<const char*>(&stated), 8);
    out += text;
    out.resize(4096);
    return out + data;
  }
};

/// Bytes at a multiple of 64, as in a mapped file.
class Aligned {
 public:
  explicit Aligned(const std::string& bytes) : block_(static_cast<int64_t>(bytes.size()), "test"), size_(bytes.size()) {
    std::memcpy(block_.data(), bytes.data(), bytes.size());
  }
  std::string_view view() const { return {block_.data(), size_}; }

 private:
  Block block_;
  size_t size_;
};

std::string refusal(const Parts& parts) {
  const Aligned memory(parts.bytes());
  return testing::error_of([&] { PackedFile file(memory.view(), "p"); });
}

template <class F>
std::string error_with(const F& spoil) {
  Parts parts;
  spoil(parts);
  return refusal(parts);
}

TEST(Packed, ReadsWhatIsSound) {
  const Aligned memory(Parts().bytes());
  const PackedFile file(memory.view(), "p");
  const Tensor w = file.find("w");
  ASSERT_TRUE(w);
  EXPECT_EQ(w.layout, Layout::panels);
  EXPECT_EQ(w.panels, (PanelFormat{DType::i8, 32, false}));
  EXPECT_EQ(w.shape, Shape({2, 5}));
  EXPECT_EQ(w.bytes(), 128 + 32 * 64);
  EXPECT_FALSE(file.find("v"));
  file.verify();
}

TEST(Packed, RefusesHostileFiles) {
  EXPECT_PRED2(has, error_with([](Parts& p) { p.magic = "QWRKPACC"; }), "not a packed model");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.version = 2; }), "version 2");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.reserved = 1; }), "version");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.length = int64_t{1} << 62; }), "truncated");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.length = 8000; }), "truncated");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.length = 40; }), "invalid JSON");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.header = Json::array(); }), "expected an object");
  for (const char* key : {"config", "card", "tensors", "files"})
    EXPECT_PRED2(has, error_with([&](Parts& p) { p.header.erase(key); }), key);
  EXPECT_PRED2(has, error_with([](Parts& p) { p.header["card"] = 1; }), "to be objects");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.header["files"] = 1; }), "to be an array");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.header["tensors"].push_back(p.tensor()); }), "begins at byte");
  for (const char* key : {"name", "shape", "type", "layout", "offset", "sha256"})
    EXPECT_PRED2(has, error_with([&](Parts& p) { p.tensor().erase(key); }), key);
  EXPECT_PRED2(has, error_with([](Parts& p) { p.tensor()["name"] = "a/b"; }), "slashes");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.tensor()["shape"] = Json::array(); }), "1 to 4 extents");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.tensor()["shape"] = {5}; }), "panels hold matrices");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.tensor()["shape"] = {0, 5}; }), "0 or too large");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.tensor()["shape"] = {-1, 5}; }), "non-negative");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.tensor()["shape"] = {2.5, 5}; }), "non-negative");
  const int64_t huge = int64_t{1} << 32;
  EXPECT_PRED2(has, error_with([&](Parts& p) { p.tensor()["shape"] = {huge, huge}; }), "too large");
  EXPECT_PRED2(has, error_with([&](Parts& p) { p.tensor()["shape"] = {huge, huge, huge}; }), "too large");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.tensor()["shape"] = {65, 5}; }), "needs");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.tensor()["shape"] = {2, 33}; }), "needs");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.tensor()["type"] = "f16"; }), "f32, bf16, int8 or int4");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.tensor()["layout"] = "columns"; }), "rows or panels");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.tensor()["layout"] = "rows"; }), "rows hold f32 or bf16");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.tensor()["group"] = 33; }), "groups of 33");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.tensor()["group"] = 256 + 32; }), "groups of 288");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.tensor().erase("group"); }), "groups of 0");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.tensor()["minimum"] = true; }), "minima are for int4");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.tensor()["offset"] = 4097; }), "begins at byte 4097");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.tensor()["offset"] = 0; }), "begins at byte 0");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.data.pop_back(); }), "needs");
  EXPECT_PRED2(has, error_with([](Parts& p) { p.data += '\1'; }), "the header describes");
  EXPECT_PRED2(
      has, error_with([](Parts& p) {
        p.header["files"].push_back({{"name", "f"}, {"bytes", INT64_MAX}, {"offset", 4096 + 2176}, {"sha256", ""}});
      }),
      "needs");
}

TEST(Packed, VerifyFindsAChangedByte) {
  Parts parts;
  parts.data[1000] ^= 1;
  const Aligned memory(parts.bytes());
  const PackedFile file(memory.view(), "p");  // opening reads no values
  EXPECT_PRED2(has, testing::error_of([&] { file.verify(); }), "tensors w: damaged");
}

Path make_directory(const std::string& type, bool tied) {
  return testing::tiny_model("packed-" + type + (tied ? "-tied" : ""), type, tied, 131);
}

std::vector<float> logits_of(const std::string& path, const std::string& backend, bool copy = false) {
  const Engine engine(path, {.backend = backend, .tokenizer = false, .copy = copy});
  Session session(engine, 64);
  session.append(std::vector<int32_t>{1, 17, 130, 4, 9});
  return {session.logits().begin(), session.logits().end()};
}

/// The same from a model that is packed in memory.
std::vector<float> packed_in_memory(const Path& dir, DType type) {
  const auto backend = make_backend("auto", Precision::bf16);  // as for a file of bf16 or codes
  const auto model = load_model(dir, {.need_tokenizer = false});
  pack(*model, *backend, PackFormats::for_file(type));
  Arena scratch;
  const Exec ex{*backend, scratch};
  const std::vector<int32_t> ids{1, 17, 130, 4, 9};
  const Segment segment{nullptr, 0, 5};
  const Tensor hidden = ex.make(5, model->config().hidden), logits = ex.make(1, model->config().vocab);
  model->decoder->forward(ex, ids, {&segment, 1}, hidden);
  model->decoder->logits(ex, hidden.rows(4, 1), logits);
  return {logits.as<float>(), logits.as<float>() + logits.count()};
}

double largest_gap(const std::vector<float>& a, const std::vector<float>& b) {
  double gap = 0, largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    gap = std::max(gap, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
  }
  return gap / largest;
}

TEST(Packed, ModelsRunFromTheFile) {
  for (const char* type : {"qwen2", "rwkv6qwen2", "rwkv7qwen2"})
    for (const bool tied : {false, true}) {
      const Path dir = make_directory(type, tied);
      const auto want = logits_of(dir.string(), "auto");
      for (const DType stored : {DType::f32, DType::bf16, DType::i8, DType::i4}) {
        const std::string file = (dir / "m.qwk").string(), label = concat(type, " ", tied, " ", name_of(stored));
        export_packed(dir.string(), file, stored == DType::f32 ? "auto" : name_of(stored));
        const auto got = logits_of(file, "auto");
        EXPECT_EQ(got, stored == DType::f32 ? want : packed_in_memory(dir, stored)) << label;
        EXPECT_EQ(logits_of(file, "auto", true), got) << label << ", copied";
        EXPECT_LT(largest_gap(logits_of(file, "reference"), got), stored == DType::bf16 ? 0.1 : 1e-2) << label;
        const Checkpoint checkpoint = open_checkpoint(file);
        ASSERT_NE(checkpoint.packed, nullptr);
        checkpoint.packed->verify();
        EXPECT_EQ(checkpoint.packed->card()["from"]["model"], dir.filename().string());
      }
    }
}

/// A GGUF file's blocks go over as they are run, not as the f32 values that they stand for.
TEST(Packed, GgufBlocksStayCodes) {
  const Path dir = scratch_dir("packed-gguf");
  const std::string gguf = (dir / "m.gguf").string(), file = (dir / "m.qwk").string();
  for (const char* type : {"q8_0", "q4_0"}) {
    export_gguf(testing::tiny_model("packed-gguf-from", "rwkv6qwen2", false, 131, 192).string(), gguf, type);
    export_packed(gguf, file, "auto");
    const Checkpoint packed = open_checkpoint(file);
    if (make_backend("auto", Precision::f32)->prefers_panels()) {
      EXPECT_EQ(packed.tensors->info("model.layers.0.mlp.up_proj.weight")->type,
                type == std::string("q8_0") ? DType::i8 : DType::i4);
      EXPECT_EQ(packed.packed->card()["type"], "GGUF blocks");
    }
    const Engine a(gguf, {.tokenizer = false}), b(file, {.tokenizer = false});
    Session x(a, 8), y(b, 8);
    for (Session* s : {&x, &y}) s->append(std::vector<int32_t>{1, 3, 2});
    EXPECT_TRUE(std::equal(x.logits().begin(), x.logits().end(), y.logits().begin(), y.logits().end())) << type;
  }
}

TEST(Packed, TheModelKeepsTheMapping) {
  const Path dir = make_directory("qwen2", true);
  const std::string file = (dir / "m.qwk").string();
  export_packed(dir.string(), file, "int8");
  std::unique_ptr<Model> model;
  {
    const Checkpoint checkpoint = open_checkpoint(file);
    model = load_model(checkpoint, {.need_tokenizer = false});
  }
  EXPECT_EQ(model->weights->peak_bytes(), 0) << "nothing was copied";
  std::filesystem::remove(file);
  const Tensor w = model->params.find("model.embed_tokens.weight")->weight;
  EXPECT_TRUE(std::isfinite(PanelView(w).value(0, 0)));
}

TEST(Packed, RefusesWhatNeedsRows) {
  const Path dir = make_directory("qwen2", true);
  const std::string file = (dir / "m.qwk").string();
  export_packed(dir.string(), file, "int8");
  EXPECT_PRED2(has, testing::error_of([&] { load_model(file, {.train = true, .need_tokenizer = false}); }),
               "inference only");
  EXPECT_PRED2(has, testing::error_of([&] { export_packed(file, file + "2", "int8"); }), "inference only");
  EXPECT_PRED2(has, testing::error_of([&] { export_gguf(file, file + ".gguf", "bf16"); }), "inference only");
  const auto model = load_model(file, {.need_tokenizer = false});
  EXPECT_PRED2(has, testing::error_of([&] { save_model(dir / "s", model->config(), model->params, DType::f32, {}); }),
               "packed for inference");
  EXPECT_PRED2(has, testing::error_of([&] { export_packed(dir.string(), file, "q4"); }), "--type: expected f32");
}

/// Makes every tensor on demand, as a GGUF file of codes does.
struct OnDemand : TensorSource {
  mutable std::map<std::string, std::vector<float>, std::less<>> made;
  mutable size_t most = 0;
  std::string describe() const override { return "on demand"; }
  std::vector<std::string> names() const override {
    std::vector<std::string> all;
    for (int i = 0; i < 100; ++i) all.push_back(std::to_string(i));
    return all;
  }
  Tensor find(std::string_view name) const override {
    auto& values = made.try_emplace(std::string(name), std::vector<float>{std::stof(std::string(name))}).first->second;
    most = std::max(most, made.size());
    return {values.data(), DType::f32, {1}};
  }
  void forget(std::string_view name) const override { made.erase(std::string(name)); }
};

TEST(Packed, TheHashOfTheOriginDoesNotHoldTheModel) {
  const auto source = std::make_shared<OnDemand>();
  const int before = threads();
  std::set<std::string> sums;
  for (const int n : {1, 3}) {
    set_threads(n);
    sums.insert(origin({.path = "m", .config = {}, .config_name = {}, .tensors = source, .tokenizer = {}})["sha256"]);
    EXPECT_LE(source->most, static_cast<size_t>(n));
    EXPECT_TRUE(source->made.empty());
  }
  set_threads(before);
  EXPECT_EQ(sums.size(), 1u) << "the same for any number of threads";
}

TEST(Packed, AFileOfAnotherShapeIsRefused) {
  const Path dir = make_directory("rwkv7qwen2", false);
  const std::string file = (dir / "m.qwk").string();
  export_packed(dir.string(), file, "int8");
  const PackedFile packed{Path(file)};
  PackedContents contents{packed.config(), packed.card(), {}, {}};
  for (const std::string& name : packed.names()) contents.tensors.emplace_back(name, packed.find(name));
  const auto with = [&](const std::string& name, const Tensor& other) {
    PackedContents changed = contents;
    for (auto& [key, tensor] : changed.tensors)
      if (key == name) tensor = other;
    write_packed(file + "x", changed);
    return testing::error_of([&] { load_model(file + "x", {.need_tokenizer = false}); });
  };
  const Tensor q = packed.find("model.layers.0.self_attn.k_proj.weight"), norm = packed.find("model.norm.weight");
  EXPECT_PRED2(has, with("model.layers.0.self_attn.q_proj.weight", q),
               "expected [48, 48] in panels, file has [16, 48]");
  EXPECT_PRED2(has, with("model.norm.weight", q), "expected rows, file has panels");
  EXPECT_PRED2(has, with("model.layers.0.self_attn.q_proj.weight", norm), "file has [48]");
  std::vector<bf16> half(48);
  EXPECT_PRED2(has, with("model.norm.weight", Tensor(half.data(), DType::bf16, {48})), "expected f32");
  std::vector<float> bad(48, NAN);
  EXPECT_PRED2(has, with("model.norm.weight", Tensor(bad.data(), DType::f32, {48})), "NaN");
}

TEST(Packed, KeepsTheTokenizer) {
  const Path data = testing::shared_data("models/stories260K");
  NEEDS_DATA(data);
  const Path dir = scratch_dir("packed-tokenizer");
  export_packed(data.string(), (dir / "s.qwk").string(), "int8");
  const auto want = load_tokenizer(open_checkpoint(data).tokenizer), got = load_tokenizer(dir / "s.qwk");
  const std::string text =
      "Once upon a time, there was a \xC3\xA9"
      "clair.\n";
  EXPECT_EQ(got->encode(text), want->encode(text));
  EXPECT_EQ(got->bos, want->bos);
  EXPECT_EQ(got->eos, want->eos);
  EXPECT_EQ(got->adds_bos, want->adds_bos);
  EXPECT_EQ(got->size(), want->size());
}

}  // namespace
}  // namespace qwerky
