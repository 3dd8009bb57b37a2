// SPDX-License-Identifier: MIT
// Checkpoints in each layout, and llama2.c files.
#include "io/checkpoint.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <cmath>
#include <numeric>

#include "data.h"
#include "expect_error.h"
#include "io/llama2c.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::has;
using testing::scratch_dir;

std::vector<std::string> listing(const Path& dir) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(dir)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// Six f32 tensors t0 … t5 of [4, 5], filled with 100 × index + element.
class Tensors {
 public:
  explicit Tensors(int n = 6, float plus = 0) {
    for (int i = 0; i < n; ++i) {
      std::vector<float>& v = values_.emplace_back(20);
      std::iota(v.begin(), v.end(), static_cast<float>(100 * i) + plus);
      list.push_back({"t" + std::to_string(i), Tensor(v.data(), DType::f32, {4, 5}), DType::f32});
    }
  }
  std::vector<NamedTensor> list;

 private:
  std::deque<std::vector<float>> values_;
};

void expect_holds(const Path& dir, const Tensors& tensors) {
  const Checkpoint c = open_checkpoint(dir);
  std::vector<std::string> names;
  for (const NamedTensor& t : tensors.list) {
    names.push_back(t.name);
    const Tensor read = c.tensors->find(t.name);
    ASSERT_TRUE(read) << t.name;
    EXPECT_EQ(read.shape, t.tensor.shape);
    EXPECT_EQ(std::memcmp(read.data, t.tensor.data, 80), 0) << t.name;
  }
  EXPECT_EQ(c.tensors->names(), names);
  EXPECT_FALSE(c.tensors->find("absent"));
}

TEST(Checkpoint, WritesAndOpensOneFile) {
  const Path dir = scratch_dir("checkpoint-one") / "made" / "anew";
  const Tensors tensors;
  write_checkpoint(dir, {{"model_type", "llama"}, {"hidden_size", 5}}, tensors.list);
  EXPECT_EQ(listing(dir), (std::vector<std::string>{"config.json", "model.safetensors"}));
  expect_holds(dir, tensors);
  const Checkpoint c = open_checkpoint(dir);
  EXPECT_EQ(c.path, dir);
  EXPECT_EQ(c.config["hidden_size"], 5);
  EXPECT_EQ(c.tokenizer, "");
  write_file(dir / "tokenizer.json", "{}");
  EXPECT_EQ(open_checkpoint(dir).tokenizer, dir);
}

TEST(Checkpoint, WritesShardsWithAnIndex) {
  const Path dir = scratch_dir("checkpoint-shards");
  const Tensors tensors;
  write_checkpoint(dir, {{"a", 1}}, tensors.list, 2 * 80 + 79);  // two tensors a shard
  EXPECT_EQ(listing(dir), (std::vector<std::string>{
                              "config.json", "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                              "model-00003-of-00003.safetensors", "model.safetensors.index.json"}));
  const Json index = read_json(dir / "model.safetensors.index.json");
  EXPECT_EQ(index["metadata"]["total_size"], 6 * 80);
  EXPECT_EQ(index["weight_map"].size(), 6u);
  EXPECT_EQ(index["weight_map"]["t3"], "model-00002-of-00003.safetensors");
  expect_holds(dir, tensors);
  write_checkpoint(dir, {{"a", 1}}, tensors.list, 1);  // every tensor larger than a shard
  EXPECT_EQ(listing(dir).size(), 8u);
  expect_holds(dir, tensors);
}

TEST(Checkpoint, RewritingLeavesNothingStale) {
  const Path dir = scratch_dir("checkpoint-again");
  write_file(dir / "tokenizer.json", "{}");
  write_file(dir / "optimizer.safetensors", "someone else's");
  const Tensors first, second(6, 0.5f);
  for (const int64_t shard : {170, 170, 100, 100'000, 170, 100'000}) {
    const Tensors& tensors = shard == 100 ? first : second;
    write_checkpoint(dir, {{"a", 1}}, tensors.list, shard);
    expect_holds(dir, tensors);
  }
  EXPECT_EQ(listing(dir),
            (std::vector<std::string>{"config.json", "model.safetensors", "optimizer.safetensors", "tokenizer.json"}));
}

TEST(Checkpoint, AFullDiskLeavesTheOldCheckpoint) {
  const Path dir = scratch_dir("checkpoint-full");
  const Tensors old(2, 7.0f), large;
  write_checkpoint(dir, {{"a", 1}}, old.list, 80);
  const auto before_names = listing(dir);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  for (const int64_t shard : {int64_t{80} * 4, int64_t{1} << 30}) {
    const rlimit limit{600, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    const std::string error = error_of([&] { write_checkpoint(dir, {{"a", 2}}, large.list, shard); });
    setrlimit(RLIMIT_FSIZE, &before);
    EXPECT_PRED2(has, error, "cannot write " + (dir / "model").string());
    EXPECT_EQ(listing(dir), before_names);
    expect_holds(dir, old);
    EXPECT_EQ(open_checkpoint(dir).config["a"], 1);
  }
  signal(SIGXFSZ, handler);
}

TEST(Checkpoint, NamesWhatIsMissing) {
  const Path dir = scratch_dir("checkpoint-missing");
  const auto refused = [&](const Path& path, const char* why) {
    EXPECT_PRED2(has, error_of([&] { open_checkpoint(path); }), why);
  };
  refused(dir / "absent", "absent: no such file or directory");
  refused(dir, "looked for config.json (Hugging Face), one .gguf or one .bin (llama2.c); the directory holds nothing");
  write_file(dir / "pytorch_model.pt", "x");
  write_file(dir / "tok.bin", "x");
  refused(dir, "holds pytorch_model.pt, tok.bin");
  write_file(dir / "config.json", "{}");
  refused(dir,
          "looked for model.safetensors and model.safetensors.index.json; the directory holds config.json, "
          "pytorch_model.pt");
  write_file(dir / "config.json", "[]");
  refused(dir, "config.json: expected a JSON object, found array");
  write_file(dir / "config.json", "{\"a\":");
  refused(dir, "config.json: invalid JSON");
  refused(dir / "pytorch_model.pt",
          "expected a Hugging Face directory, a packed file, a .gguf or a llama2.c .bin file");
  write_file(dir / "model.safetensors", "x");
  refused(dir / "model.safetensors", "give the directory");
}

TEST(Checkpoint, RefusesABadIndex) {
  const Path dir = scratch_dir("checkpoint-index");
  const Tensors tensors;
  write_checkpoint(dir, Json::object(), tensors.list, 170);
  const std::string s1 = "model-00001-of-00003.safetensors";
  const auto refused = [&](const std::string& index, const std::string& why) {
    write_file(dir / "model.safetensors.index.json", index);
    EXPECT_PRED2(has, error_of([&] { open_checkpoint(dir); }), why);
  };
  const auto map = [](const std::string& tensor, const std::string& file) {
    return Json{{"weight_map", {{tensor, file}}}}.dump();
  };
  refused("[]", "index.json: expected an object with an object \"weight_map\"");
  refused("{}", "weight_map");
  refused(R"({"weight_map": []})", "weight_map");
  refused(R"({"weight_map": {"t0": 1}})", "tensor t0: expected the name of a shard, found number");
  refused(map("t0", "model-00009-of-00003.safetensors"),
          "shard model-00009-of-00003.safetensors (for tensor t0) is missing from " + dir.string());
  refused(map("t5", s1), "tensor t5 is listed in shard " + s1 + ", which does not hold it");
  for (const std::string& name : {std::string("../x.safetensors"), (dir / s1).string(), std::string(".."),
                                  std::string("."), std::string(), std::string("a\\b"), s1 + std::string(1, '\0')})
    refused(map("t0", name), "is not the name of a file in this directory");
  write_file(dir / "model.safetensors.index.json", map("t1", s1));
  EXPECT_EQ(open_checkpoint(dir).tensors->names(), std::vector<std::string>{"t1"}) << "the index decides";
  write_file(dir / s1, "short");
  EXPECT_PRED2(has, error_of([&] { open_checkpoint(dir); }), s1 + ": not a safetensors file");
}

/// A llama2.c file: the header, then floats 0, 1, 2, …
std::string llama2c_bytes(std::vector<int32_t> header, int64_t floats) {
  std::vector<float> data(static_cast<size_t>(floats));
  std::iota(data.begin(), data.end(), 0.0f);
  return std::string(reinterpret_cast<const char*>(header.data()), header.size() * 4) +
         std::string(reinterpret_cast<const char*>(data.data()), data.size() * 4);
}

// dim 8, hidden 6, 2 layers, 2 heads of 4, 1 kv head, 5 tokens, 3 positions.
const std::vector<int32_t> kTied = {8, 6, 2, 2, 1, 5, 3}, kUntied = {8, 6, 2, 2, 1, -5, 3};
constexpr int64_t kTiedFloats = 5 * 8 + 2 * (8 + 64 + 32 + 32 + 64 + 8 + 3 * 48) + 8 + 2 * 3 * 2;

TEST(Llama2c, TensorsLieInTheDocumentedOrder) {
  const std::string bytes = llama2c_bytes(kUntied, kTiedFloats + 5 * 8);
  const Llama2cFile file(bytes, "m.bin");
  float at = 0;  // value of the first element that comes next
  const auto next = [&](const std::string& name, Shape shape) {
    const Tensor t = file.find(name + ".weight");
    ASSERT_TRUE(t) << name;
    EXPECT_EQ(t.shape, shape) << name;
    EXPECT_EQ(t.as<float>()[0], at) << name;
    EXPECT_EQ(t.as<float>()[t.count() - 1], at + static_cast<float>(t.count() - 1)) << name;
    at += static_cast<float>(t.count());
  };
  next("model.embed_tokens", {5, 8});
  const std::pair<const char*, Shape> parts[] = {
      {"input_layernorm", {8}},     {"self_attn.q_proj", {8, 8}}, {"self_attn.k_proj", {4, 8}},
      {"self_attn.v_proj", {4, 8}}, {"self_attn.o_proj", {8, 8}}, {"post_attention_layernorm", {8}},
      {"mlp.gate_proj", {6, 8}},    {"mlp.down_proj", {8, 6}},    {"mlp.up_proj", {6, 8}}};
  for (const auto& [part, shape] : parts)
    for (int layer = 0; layer < 2; ++layer) next(concat("model.layers.", layer, ".", part), shape);
  next("model.norm", {8});
  at += 2 * 3 * 2;
  next("lm_head", {5, 8});
  EXPECT_EQ(file.names().size(), 21u);
  EXPECT_EQ(at, static_cast<float>(kTiedFloats + 40));
}

TEST(Llama2c, ConfigSaysWhatTheHeaderSays) {
  const Llama2cFile tied(llama2c_bytes(kTied, kTiedFloats), "m.bin");
  const Json want = Json::parse(R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8,
    "intermediate_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 5,
    "max_position_embeddings": 3, "tie_word_embeddings": true, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2})");
  EXPECT_EQ(tied.config(), want);
  EXPECT_FALSE(tied.find("lm_head.weight"));
  EXPECT_EQ(Llama2cFile(llama2c_bytes(kUntied, kTiedFloats + 40), "m").config()["tie_word_embeddings"], false);
}

TEST(Llama2c, RefusesWhatDoesNotFit) {
  const auto refused = [](const std::string& bytes, const char* why) {
    EXPECT_FALSE(is_llama2c(bytes));
    EXPECT_PRED2(has, error_of([&] { Llama2cFile(bytes, "m.bin"); }), why);
  };
  refused("", "m.bin: not a llama2.c model: 0 bytes");
  const std::string whole = llama2c_bytes(kTied, kTiedFloats);
  EXPECT_TRUE(is_llama2c(whole));
  for (size_t n = 0; n < whole.size(); n += 3) EXPECT_FALSE(is_llama2c(whole.substr(0, n))) << n;
  refused(whole + "1234", "vocab_size 5, seq_len 3) needs 3084 bytes, the file has 3088");
  refused(llama2c_bytes(kUntied, kTiedFloats), "vocab_size -5, seq_len 3) needs 3244 bytes, the file has 3084");
  const auto with = [&](size_t field, int32_t value) {
    std::vector<int32_t> header = kTied;
    header[field] = value;
    return llama2c_bytes(header, kTiedFloats);
  };
  refused(with(0, 0), "dim is 0, expected 1 to");
  refused(with(0, INT32_MIN), "dim is -2147483648");
  refused(with(1, INT32_MAX), "hidden_dim is 2147483647, expected 1 to 16777216");
  refused(with(2, -1), "n_layers is -1");
  refused(with(3, 9), "n_heads is 9, expected 1 to 8");
  refused(with(3, 3), "8 in 3 heads");
  refused(with(3, 8), "8 in 8 heads, expected heads of an even whole size");
  refused(with(4, 3), "n_kv_heads is 3, expected 1 to 2");
  refused(with(4, 0), "n_kv_heads is 0");
  refused(with(5, 0), "|vocab_size| is 0");
  refused(with(5, INT32_MIN), "|vocab_size| is 2147483648");
  refused(with(6, -7), "seq_len is -7");
  refused(with(0, 0x616b3432), "export of version 6; supported is version 0");
  refused(llama2c_bytes({1 << 20, 1 << 24, 1 << 12, 1, 1, -(1 << 24), 1 << 24}, 1), "bytes, the file has 32");
}

TEST(Llama2c, UnalignedBytesAreCopied) {
  const std::string shifted = "x" + llama2c_bytes(kTied, kTiedFloats);
  const Llama2cFile file(std::string_view(shifted).substr(1), "m");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file.find("model.norm.weight").data) % 4, 0u);
  EXPECT_EQ(file.find("model.embed_tokens.weight").as<float>()[39], 39.0f);
}

TEST(Llama2c, FoundInADirectoryAmongOtherFiles) {
  const Path dir = scratch_dir("checkpoint-llama2c");
  write_file(dir / "m.bin", llama2c_bytes(kTied, kTiedFloats));
  EXPECT_EQ(open_checkpoint(dir).tokenizer, "");
  write_file(dir / "tok.model", "x");
  EXPECT_EQ(open_checkpoint(dir).tokenizer, dir / "tok.model");
  write_file(dir / "tok.bin", "x");
  EXPECT_EQ(open_checkpoint(dir).tokenizer, dir / "tok.bin");
  write_file(dir / "tok5.model", "x");
  EXPECT_EQ(open_checkpoint(dir).tokenizer, dir / "tok5.model") << "the vocabulary's size is in the name";
  write_file(dir / "logits.bin", "0123456789");
  const Checkpoint c = open_checkpoint(dir);
  EXPECT_EQ(c.path, dir);
  EXPECT_EQ(c.tensors->describe(), (dir / "m.bin").string());
  EXPECT_EQ(open_checkpoint(dir / "m.bin").path, dir / "m.bin");
  write_file(dir / "n.bin", llama2c_bytes(kTied, kTiedFloats));
  EXPECT_PRED2(has, error_of([&] { open_checkpoint(dir); }), "holds several llama2.c models (m.bin, n.bin); name one");
}

TEST(Llama2c, OpensStories260K) {
  const Path dir = testing::shared_data("models/stories260K");
  NEEDS_DATA(dir);
  const Checkpoint c = open_checkpoint(dir);
  EXPECT_EQ(c.config["hidden_size"], 64);
  EXPECT_EQ(c.config["num_key_value_heads"], 4);
  EXPECT_EQ(c.config["vocab_size"], 512);
  EXPECT_EQ(c.tokenizer.filename(), "tok512.bin");
  int64_t count = 0;
  for (const std::string& name : c.tensors->names()) {
    const Tensor t = c.tensors->find(name);
    count += t.count();
    double square = 0;
    for (int64_t i = 0; i < t.count(); ++i) square += std::pow(t.as<float>()[i], 2);
    const double rms = std::sqrt(square / static_cast<double>(t.count()));
    EXPECT_GT(rms, 1e-3) << name;
    EXPECT_LT(rms, 10) << name;
  }
  EXPECT_EQ(count, 260'032);
}

}  // namespace
}  // namespace qwerky
