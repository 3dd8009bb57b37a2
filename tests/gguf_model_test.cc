// SPDX-License-Identifier: MIT
// GGUF as a model: configuration, names and layouts, and every golden model written and run again.
#include "io/gguf_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "backend/backend.h"
#include "data.h"
#include "engine/export_gguf.h"
#include "engine/packing.h"
#include "expect_error.h"
#include "gguf_bytes.h"
#include "golden_models.h"
#include "io/gguf_export.h"
#include "tensor/panels.h"
#include "tiny_model.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::GgufBytes;
using testing::has;

/// Metadata of a one-layer model with two heads of 8 and one of keys; tensors are added by the tests.
GgufBytes small(const std::string& architecture) {
  GgufBytes out;
  out.text("general.architecture", architecture).u32(architecture + ".embedding_length", 16);
  out.u32(architecture + ".context_length", 32).u32(architecture + ".feed_forward_length", 8);
  out.u32(architecture + ".block_count", 1).f32(architecture + ".attention.layer_norm_rms_epsilon", 1e-6f);
  out.u32(architecture + ".attention.head_count", 2).u32(architecture + ".attention.head_count_kv", 1);
  return out;
}
GgufBytes small_llama() { return small("llama").floats("token_embd.weight", {16, 5}); }

Json config_of(const GgufBytes& file) {
  const std::string bytes = file.bytes();
  return GgufSource(bytes, "g").config();
}
std::string error(const GgufBytes& file) {
  return error_of([&] { config_of(file); });
}

TEST(GgufConfig, Llama) {
  const Json c = config_of(small_llama());
  EXPECT_EQ(c["model_type"], "llama");
  EXPECT_EQ(c["hidden_size"], 16);
  EXPECT_EQ(c["num_attention_heads"], 2);
  EXPECT_EQ(c["num_key_value_heads"], 1);
  EXPECT_EQ(c["head_dim"], 8);
  EXPECT_EQ(c["vocab_size"], 5);
  EXPECT_EQ(c["rms_norm_eps"], 1e-6);
  EXPECT_EQ(c["rope_theta"], 10000.0);
  EXPECT_EQ(c["tie_word_embeddings"], true);
  EXPECT_EQ(c["attention_bias"], false);
  EXPECT_FALSE(c.contains("rope_scaling"));
  const Json more = config_of(small_llama()
                                  .floats("output.weight", {16, 5})
                                  .floats("blk.0.attn_q.bias", {16})
                                  .f32("llama.rope.freq_base", 5e5f)
                                  .u32("llama.attention.key_length", 12)
                                  .u32("llama.attention.value_length", 12)
                                  .u32("tokenizer.ggml.bos_token_id", 1));
  EXPECT_EQ(more["tie_word_embeddings"], false);
  EXPECT_EQ(more["attention_bias"], true);
  EXPECT_EQ(more["attention_output_bias"], false);
  EXPECT_EQ(more["head_dim"], 12);
  EXPECT_EQ(more["rope_theta"], 5e5);
  EXPECT_EQ(more["bos_token_id"], 1);
}

TEST(GgufConfig, RopeScaling) {
  const Json linear =
      config_of(small_llama().text("llama.rope.scaling.type", "linear").f32("llama.rope.scaling.factor", 4));
  EXPECT_EQ(linear["rope_scaling"], (Json{{"rope_type", "linear"}, {"factor", 4.0}}));
  EXPECT_EQ(config_of(small_llama().f32("llama.rope.scale_linear", 2))["rope_scaling"]["factor"], 2.0);
  const auto yarn = [] {
    return small_llama()
        .text("llama.rope.scaling.type", "yarn")
        .f32("llama.rope.scaling.factor", 4)
        .u32("llama.rope.scaling.original_context_length", 8);
  };
  EXPECT_EQ(config_of(yarn())["rope_scaling"]["original_max_position_embeddings"], 8);
  EXPECT_FALSE(config_of(yarn())["rope_scaling"].contains("attention_factor"));
  const Json scaled = config_of(yarn().f32("llama.rope.scaling.attn_factor", 0.5));
  EXPECT_NEAR(scaled["rope_scaling"]["attention_factor"].get<double>(), 0.5 * (0.1 * std::log(4) + 1), 1e-12);
  EXPECT_PRED2(has, error(small_llama().text("llama.rope.scaling.type", "longrope")),
               "\"longrope\" is not supported; supported: none, linear, yarn");
  EXPECT_PRED2(has, error(yarn().f32("llama.rope.scaling.factor2", 1).floats("rope_freqs.weight", {3})),
               "rope_freqs.weight: expected F32 [4], found F32 [3]");
  EXPECT_PRED2(has, error(small_llama().floats("rope_freqs.weight", {4}, 1, 0.7f)), "not the divisors of a Llama 3");
  EXPECT_PRED2(has, error(small_llama().floats("rope_freqs.weight", {4}, -1, 0)), "expected divisors from 1");
  EXPECT_PRED2(has, error(small_llama().floats("rope_freqs.weight", {4}, std::nanf(""), 0)),
               "expected divisors from 1");
  EXPECT_FALSE(config_of(small_llama().floats("rope_freqs.weight", {4}, 1, 0)).contains("rope_scaling"));
}

/// Llama 3.1's published scaling: 128 channels, theta 500000, factor 8, 1 and 4, 8192 positions.
TEST(GgufConfig, Llama3DivisorsBecomeTheirParameters) {
  GgufBytes file = small_llama().f32("llama.rope.freq_base", 5e5f);
  file.u32("llama.attention.key_length", 128).u32("llama.attention.value_length", 128);
  Rope rope{.theta = 5e5, .type = "llama3", .factor = 8, .original_positions = 8192};
  const auto scaled = rope.frequencies(128);
  rope.type = "default";
  const auto plain = rope.frequencies(128);
  std::string bytes;
  for (size_t i = 0; i < 64; ++i) bytes += testing::raw(static_cast<float>(plain[i] / scaled[i]));
  file.tensor("rope_freqs.weight", {64}, BlockType::f32, bytes);
  EXPECT_EQ(config_of(file)["rope_scaling"], (Json{{"rope_type", "llama3"},
                                                   {"factor", 8.0},
                                                   {"low_freq_factor", 1.0},
                                                   {"high_freq_factor", 4.0},
                                                   {"original_max_position_embeddings", 8192}}));
}

TEST(GgufConfig, WhatIsNotSupportedIsNamed) {
  EXPECT_PRED2(has, error(GgufBytes()),
               "architecture \"\" is not supported; supported in GGUF: llama, qwen2, qwen3, rwkv6qwen2");
  EXPECT_PRED2(has, error(small("qwen2moe")), "architecture \"qwen2moe\" is not supported");
  EXPECT_PRED2(has, error(small("llama")), "token_embd.weight is missing: a vocabulary without a model");
  EXPECT_PRED2(has, error(small_llama().u32("llama.expert_count", 8)), "llama.expert_count 8 is not supported");
  EXPECT_PRED2(has, error(small_llama().f32("llama.logit_scale", 2)), "llama.logit_scale 2 is not supported");
  EXPECT_PRED2(has, error(small_llama().f32("llama.attn_logit_softcapping", 50)), "softcapping 50 is not supported");
  EXPECT_PRED2(has, error(small_llama().value("llama.attention.causal", GgufType::boolean, std::string(1, '\0'))),
               "llama.attention.causal false is not supported");
  EXPECT_PRED2(has, error(small_llama().u32("llama.rope.dimension_count", 4)),
               "rope.dimension_count 4 is not supported");
  GgufBytes file;
  file.text("general.architecture", "llama").floats("token_embd.weight", {16, 5});
  EXPECT_PRED2(has, error(file), "llama.embedding_length is missing");
  file.text("llama.embedding_length", "16");
  EXPECT_PRED2(has, error(file), "llama.embedding_length: expected an integer, found text");
  GgufBytes layers = small("llama");
  EXPECT_PRED2(has,
               error(GgufBytes()
                         .text("general.architecture", "llama")
                         .floats("token_embd.weight", {16, 5})
                         .numbers<uint32_t>("llama.embedding_length", GgufType::u32, {1, 2})),
               "expected one value, found an array of u32");
  const auto rwkv = [] {
    return small("rwkv6qwen2")
        .floats("token_embd.weight", {16, 5})
        .u32("rwkv6qwen2.time_mix_extra_dim", 2)
        .u32("rwkv6qwen2.time_decay_extra_dim", 2);
  };
  EXPECT_PRED2(has, error(rwkv()), "rwkv6qwen2.wkv.head_size is missing");
  EXPECT_PRED2(has, error(rwkv().u32("rwkv6qwen2.wkv.head_size", 5)), "is not a multiple of wkv.head_size 5");
  EXPECT_PRED2(has, error(rwkv().u32("rwkv6qwen2.wkv.head_size", 0)), "expected a number from 1");
  EXPECT_PRED2(has, error(rwkv().u32("rwkv6qwen2.wkv.head_size", 8)),
               "token_shift_count 2 is not supported; supported: 1");
}

TEST(GgufNames, BothDirectionsAgree) {
  int names = 0;
  for (const char* architecture : {"llama", "qwen2", "qwen3", "rwkv6qwen2"})
    for (const char* hf :
         {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight", "model.layers.12.input_layernorm.weight",
          "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.q_proj.bias",
          "model.layers.0.self_attn.gate.weight", "model.layers.0.self_attn.q_norm.weight",
          "model.layers.7.self_attn.time_maa_w1", "model.layers.7.self_attn.time_maa_r",
          "model.layers.7.mlp.up_proj.weight", "model.layers.7.self_attn.time_decay"}) {
      const auto found = gguf_name(architecture, hf);
      if (!found) continue;
      const HfNames back = hf_names(architecture, found->name);
      EXPECT_NE(std::find(back.names.begin(), back.names.end(), hf), back.names.end()) << architecture << " " << hf;
      EXPECT_EQ(back.layout, found->layout);
      ++names;
    }
  EXPECT_EQ(names, 7 + 7 + 8 + 11);
  EXPECT_EQ(gguf_name("llama", "model.layers.3.self_attn.k_proj.weight")->layout, GgufLayout::rotary);
  EXPECT_EQ(gguf_name("qwen2", "model.layers.3.self_attn.k_proj.weight")->layout, GgufLayout::same);
  EXPECT_EQ(hf_names("rwkv6qwen2", "blk.0.time_mix_lerp_fused.weight").names[3], "model.layers.0.self_attn.time_maa_r");
  for (const char* wrong :
       {"blk.01.attn_q.weight", "blk.-1.attn_q.weight", "blk.1", "blk.1.", "blk..attn_q.weight", "attn_q.weight",
        "blk.0.attn_q", "blk.99999999999.attn_q.weight", "blk.0.attn_q_norm.weight", ""})
    EXPECT_TRUE(hf_names("llama", wrong).names.empty()) << wrong;
}

TEST(GgufSource, HeadsComeBackInHalves) {
  // Row 2i + h of a head in the file is row i + 4h: heads of 8, two of queries and one of keys; rows of 16.
  const std::string bytes =
      small_llama().floats("blk.0.attn_q.weight", {16, 16}, 0).floats("blk.0.attn_k.bias", {8}, 0).bytes();
  const GgufSource source(bytes, "g");
  const Tensor q = source.find("model.layers.0.self_attn.q_proj.weight");
  ASSERT_EQ(q.shape, (Shape{16, 16}));
  for (int row = 0; row < 16; ++row)
    EXPECT_EQ(q.as<float>()[16 * row], 16.0f * static_cast<float>(row / 8 * 8 + row % 4 * 2 + row % 8 / 4)) << row;
  const Tensor k = source.find("model.layers.0.self_attn.k_proj.bias");
  EXPECT_EQ((std::vector<float>{k.as<float>(), k.as<float>() + 8}), (std::vector<float>{0, 2, 4, 6, 1, 3, 5, 7}));
  const auto rows = source.stored_rows("model.layers.0.self_attn.q_proj.weight");
  ASSERT_TRUE(rows);
  for (int row = 0; row < 16; ++row) {
    std::vector<float> values(16);
    dequantise_row(rows->type, rows->row(row), 16, values.data());
    EXPECT_EQ(values[0], q.as<float>()[16 * row]) << row;
  }
  EXPECT_FALSE(source.stored_rows("model.layers.0.self_attn.k_proj.bias"));
  EXPECT_FALSE(source.stored_rows("absent"));
  EXPECT_FALSE(source.find("absent"));
}

/// Blocks of every type in panels: those that groups of 32 can express keep every value to the bit.
TEST(GgufSource, BlocksArePackedAsFarAsPossibleWithoutLoss) {
  const GgufFile golden(testing::golden("gguf/python.gguf"));
  const auto backend = make_backend("auto", Precision::f32);
  for (const BlockType type : {BlockType::q8_0, BlockType::q4_0, BlockType::q4_1, BlockType::q5_0, BlockType::q5_1,
                               BlockType::q4_k, BlockType::q5_k, BlockType::q6_k}) {
    const char* name = format_of(type).name;
    const GgufTensor& t = *golden.find(name);
    const int64_t N = t.rows(), K = t.cols();
    const std::string bytes = small_llama()
                                  .tensor("blk.0.ffn_up.weight", {static_cast<uint64_t>(K), static_cast<uint64_t>(N)},
                                          type, std::string(t.data))
                                  .bytes();
    const GgufSource source(bytes, "g");
    Params params;
    Param& p = params.declare("model.layers.0.mlp.up_proj.weight", {N, K}, Use::product);
    Arena arena;
    ASSERT_TRUE(Packer(*backend, std::nullopt, arena).place_blocks(p, source)) << name;
    const PanelView view(p.weight);
    const bool four = type == BlockType::q4_0 || type == BlockType::q4_1 || type == BlockType::q4_k;
    EXPECT_EQ(p.weight.type, four ? DType::i4 : DType::i8) << name;
    const bool exact = four ? type != BlockType::q4_k : type == BlockType::q8_0 || type == BlockType::q5_0;
    EXPECT_EQ(Packer::rounding(type).empty(), exact) << name;
    std::vector<float> want(static_cast<size_t>(K));
    for (int64_t n = 0; n < N; ++n) {
      dequantise_row(type, t.data.data() + n * t.row_bytes(), K, want.data());
      for (int64_t k = 0; k < K; ++k) {
        // Q4_K: scale and minimum rounded to f16; the others: half a step of int8, and the f16 scale's rounding.
        const double scale = std::abs(view.scale(n, k / 32));
        const double bound = exact  ? 0
                             : four ? 0x1p-11 * (15 * scale + std::abs(view.minimum(n, k / 32)))
                                    : (0.5 + 127 * 0x1p-11) * scale;
        ASSERT_NEAR(view.value(n, k), want[static_cast<size_t>(k)], bound * (1 + 1e-6)) << name << " " << n << "," << k;
      }
    }
  }
}

/// Scales that are damaged, or that f32 holds and the panels' f16 does not (Q4_K: d · sc up to 65504 · 63), are named;
/// blocks never become floats on the way.
TEST(GgufSource, BlocksWithScalesThatPanelsCannotHoldAreRefused) {
  const auto backend = make_backend("auto", Precision::f32);
  const auto place = [&](BlockType type, uint16_t d, char rest) {
    std::string blocks(static_cast<size_t>(row_bytes(type, 256)), rest);  // whole blocks of every type
    const auto step = static_cast<size_t>(format_of(type).bytes);
    for (size_t at = type == BlockType::q6_k ? 208 : 0; at < blocks.size(); at += step) std::memcpy(&blocks[at], &d, 2);
    const std::string bytes = small_llama().tensor("blk.0.ffn_up.weight", {256, 1}, type, blocks).bytes();
    const GgufSource source(bytes, "g");
    Params params;
    params.declare("model.embed_tokens.weight", {5, 16});
    const Param& p = params.declare("model.layers.0.mlp.up_proj.weight", {1, 256}, Use::product);
    Arena arena;
    const Packer packer(*backend, std::nullopt, arena);
    const auto as_floats = [&](Param& q, Tensor stored) { EXPECT_NE(&q, &p), packer.place(q, stored); };
    params.bind(source, as_floats, nullptr, [&](Param& q) { return packer.place_blocks(q, source); });
  };
  const auto refusal = [&](BlockType type, uint16_t d, char rest) { return error_of([&] { place(type, d, rest); }); };
  constexpr uint16_t kInfinity = 0x7c00, kNan = 0x7e00, kLargest = 0x7bff, kOne = 0x3c00;
  for (const BlockType type : {BlockType::q8_0, BlockType::q4_0, BlockType::q4_1, BlockType::q5_0, BlockType::q5_1,
                               BlockType::q4_k, BlockType::q5_k, BlockType::q6_k}) {
    const char* name = format_of(type).name;
    EXPECT_NO_THROW(place(type, kOne, 1)) << name;
    for (const uint16_t d : {kInfinity, kNan})
      EXPECT_PRED2(has, refusal(type, d, 1), "g: tensor model.layers.0.mlp.up_proj.weight: row 0 has a scale that is")
          << name;
  }
  EXPECT_NO_THROW(place(BlockType::q4_k, kLargest, 1));
  EXPECT_PRED2(has, refusal(BlockType::q4_k, kLargest, 2), "too large for int4 in groups of 32 with minima");
  EXPECT_PRED2(has, refusal(BlockType::q6_k, kLargest, 63), "too large for int8 in groups of 32");
}

TEST(GgufSource, MadeTensorsAreForgottenAndMadeAgain) {
  const std::string bytes = small_llama().floats("blk.0.attn_k.bias", {8}, 0).bytes();
  const GgufSource source(bytes, "g");
  const char* name = "model.layers.0.self_attn.k_proj.bias";
  EXPECT_EQ(source.find(name).data, source.find(name).data);
  source.forget(name);
  source.forget("absent");
  EXPECT_EQ(source.find(name).as<float>()[1], 2);
}

TEST(GgufSource, UnknownTensorsKeepTheirNamesAndWrongLayoutsAreRefused) {
  const std::string bytes = small_llama().floats("blk.0.what.weight", {2}).bytes();
  EXPECT_EQ(GgufSource(bytes, "g").names(),
            (std::vector<std::string>{"model.embed_tokens.weight", "blk.0.what.weight"}));
  const auto broken = [](const GgufBytes& file, const char* name) {
    const std::string made = file.bytes();
    return error_of([&] { GgufSource(made, "g").find(name); });
  };
  EXPECT_PRED2(has,
               broken(small_llama().floats("blk.0.attn_q.weight", {16, 12}), "model.layers.0.self_attn.q_proj.weight"),
               "expected the rows of whole heads of 8, found [12, 16]");
  EXPECT_PRED2(has,
               broken(small_llama().tensor("blk.0.attn_q.bias", {32}, BlockType::q8_0, std::string(34, '\0')),
                      "model.layers.0.self_attn.q_proj.bias"),
               "expected the rows of whole heads of 8, found [32] of Q8_0");
  GgufBytes rwkv = small("rwkv6qwen2").floats("token_embd.weight", {16, 5});
  rwkv.floats("blk.0.time_mix_w1.weight", {16, 9}).floats("blk.0.time_mix_w2.weight", {2, 16, 4});
  rwkv.floats("blk.0.time_mix_lerp_fused.weight", {16, 1, 1, 6}).floats("blk.0.time_mix_decay_w1.weight", {4});
  const auto at = [](const char* part) { return std::string("model.layers.0.self_attn.") + part; };
  EXPECT_PRED2(has, broken(rwkv, at("time_maa_w1").c_str()), "expected rows of five streams, found [9, 16]");
  EXPECT_PRED2(has, broken(rwkv, at("time_maa_w2").c_str()), "expected five matrices, found [4, 16, 2]");
  EXPECT_PRED2(has, broken(rwkv, at("time_maa_g").c_str()), "expected five rows, found [6, 1, 1, 16]");
  EXPECT_PRED2(has, broken(rwkv, at("time_decay_w1").c_str()), "expected two axes, found [4]");
}

TEST(GgufSource, Shards) {
  const Path dir = testing::scratch_dir("gguf-shards");
  const auto shard = [](GgufBytes file, uint32_t index) {
    return file.value("split.no", GgufType::u16, testing::raw(static_cast<uint16_t>(index)))
        .value("split.count", GgufType::u16, testing::raw(uint16_t{2}))
        .value("split.tensors.count", GgufType::i32, testing::raw(int32_t{3}));
  };
  const std::string first = shard(small_llama(), 0).bytes();
  const std::string second =
      shard(GgufBytes().floats("output.weight", {16, 5}, 7, 0).floats("output_norm.weight", {16}), 1).bytes();
  write_file(dir / "m-00001-of-00002.gguf", first);
  EXPECT_PRED2(has, error_of([&] { GgufSource(dir / "m-00001-of-00002.gguf"); }), "m-00002-of-00002.gguf");
  write_file(dir / "m-00002-of-00002.gguf", second);
  for (const char* given : {"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}) {
    const Checkpoint c = open_checkpoint(dir / given);
    EXPECT_EQ(c.config["tie_word_embeddings"], false);
    EXPECT_EQ(c.tensors->names().size(), 3u);
    EXPECT_EQ(c.tensors->find("lm_head.weight").as<float>()[3], 7);
  }
  EXPECT_EQ(open_checkpoint(dir).config["model_type"], "llama") << "one model in a directory";
  write_file(dir / "other.gguf", first);
  EXPECT_PRED2(has, error_of([&] { open_checkpoint(dir); }), "holds several GGUF models");
  EXPECT_PRED2(has, error_of([&] { GgufSource(dir / "other.gguf"); }), "is one of 2 shards");
  write_file(dir / "m-00002-of-00002.gguf", first);
  EXPECT_PRED2(has, error_of([&] { GgufSource(dir / "m-00001-of-00002.gguf"); }), "split.no is not 1");
  write_file(dir / "m-00002-of-00002.gguf", shard(small_llama(), 1).bytes());
  EXPECT_PRED2(has, error_of([&] { GgufSource(dir / "m-00001-of-00002.gguf"); }),
               "model.embed_tokens.weight is there already");
  write_file(dir / "m-00002-of-00002.gguf", shard(GgufBytes().floats("output.weight", {16, 5}), 1).bytes());
  EXPECT_PRED2(has, error_of([&] { GgufSource(dir / "m-00001-of-00002.gguf"); }),
               "split.tensors.count is 3, the shards hold 2");
}

/// Golden models that GGUF has an architecture for come back with the same logits; the others say why not.
TEST(GgufExport, EveryGoldenModelRunsAgainOrIsRefusedWithAReason) {
  const auto backend = make_backend("reference", Precision::f32);
  const Path dir = testing::scratch_dir("gguf-export");
  std::map<std::string, std::string> refused;
  int written = 0;
  for (const Path& golden : testing::golden_models()) {
    const std::string name = golden.filename().string();
    const auto before = load_model(golden, {.need_tokenizer = false});
    const std::string reason = why_not_gguf(before->config());
    if (!reason.empty()) {
      EXPECT_PRED2(has, error_of([&] { export_gguf(golden, dir / "x.gguf", "f32"); }), reason + "; --packed writes");
      refused[name] = reason;
      continue;
    }
    const auto expected = testing::expected_of(golden);
    const auto want = testing::logits_of(*backend, *before->decoder, expected.tokens);
    // The models' random logits are a few units wide; f32 shows the layouts, the other types their own rounding. Most
    // rows are no whole blocks: q8_0 and q4_0 write F16.
    for (const auto& [type, most] :
         std::map<std::string, double>{{"f32", 1e-6}, {"f16", 0.05}, {"bf16", 0.3}, {"q8_0", 0.05}, {"q4_0", 1}}) {
      const Path file = dir / (name + "-" + type + ".gguf");
      const GgufExport done = export_gguf(golden, file, type);
      EXPECT_EQ(done.architecture, before->config().model_type);
      const auto after = load_model(file, {.need_tokenizer = false});
      const auto got = testing::logits_of(*backend, *after->decoder, expected.tokens);
      const double worst = testing::worst_difference(got, want);
      EXPECT_LE(worst, most) << name << " " << type;
      EXPECT_EQ(after->params.count(), before->params.count());
    }
    ++written;
  }
  EXPECT_GE(written, 6);
  EXPECT_PRED2(has, refused["rwkv7"], "no architecture for RAD-RWKV7");
  EXPECT_PRED2(has, refused["rwkv6-no-gate"], "full gate");
  EXPECT_PRED2(has, refused["rwkv6-rope-groupnorm"], "no rotary positions");
  EXPECT_PRED2(has, refused["qwen2-window"], "no attention windows");
  EXPECT_EQ(refused.count("llama-rope-llama3-sharded"), 0u);
}

/// Row by row what the block format makes of it, whatever way the rows lie in the file. (The golden models' rows are
/// shorter than a block.)
TEST(GgufExport, EveryMatrixComesBackAsItsBlocks) {
  const Path file = testing::scratch_dir("gguf-blocks") / "m.gguf";
  for (const std::string type : {"llama", "qwen2", "qwen3", "rwkv6qwen2"})
    for (const bool tied : {false, true}) {
      const Path dir = testing::tiny_model("gguf-blocks-from", type, tied, 131, 192);
      const auto before = load_model(dir, {.need_tokenizer = false});
      for (const BlockType blocks : {BlockType::q8_0, BlockType::q4_0}) {
        EXPECT_EQ(export_gguf(dir, file, blocks == BlockType::q8_0 ? "q8_0" : "q4_0").f16, 0);
        const auto after = load_model(file, {.need_tokenizer = false});
        before->params.each([&](const Param& p) {
          const bool head =
              p.name == "lm_head.weight" || (tied && type != "rwkv6qwen2" && p.name == "model.embed_tokens.weight");
          const BlockType stored = gguf_name(type, p.name)->small || p.shape.rank == 1 ? BlockType::f32
                                   : head                                              ? BlockType::q8_0
                                                                                       : blocks;
          const int64_t cols = p.weight.cols();
          std::vector<float> want(static_cast<size_t>(cols));
          std::string bytes(static_cast<size_t>(row_bytes(stored, cols)), '\0');
          for (int64_t r = 0; r < p.weight.row_count(); ++r) {
            ASSERT_TRUE(quantise_row(stored, p.weight.as<float>() + r * cols, cols, bytes.data()));
            dequantise_row(stored, bytes.data(), cols, want.data());
            const float* got = after->params.find(p.name)->weight.as<float>() + r * cols;
            ASSERT_TRUE(std::equal(want.begin(), want.end(), got)) << type << " " << p.name << ", row " << r;
          }
        });
      }
    }
}

/// Counts the tensors that were asked for and not yet forgotten.
class CountingSource : public TensorSource {
 public:
  explicit CountingSource(const TensorSource& from) : from_(from) {}
  std::string describe() const override { return from_.describe(); }
  std::vector<std::string> names() const override { return from_.names(); }
  Tensor find(std::string_view name) const override {
    held.emplace(name);
    most = std::max(most, held.size());
    return from_.find(name);
  }
  void forget(std::string_view name) const override { held.erase(std::string(name)); }

  mutable std::set<std::string> held;
  mutable size_t most = 0;

 private:
  const TensorSource& from_;
};

/// What a quantised file's tensors take as floats is never there for more than one of the file written.
TEST(GgufExport, TensorsAreMadeOneAfterAnother) {
  const Checkpoint checkpoint = open_checkpoint(testing::tiny_model("gguf-one-by-one", "rwkv6qwen2", true, 131, 192));
  const CountingSource source(*checkpoint.tensors);
  std::vector<GgufIn> tensors;
  for (const std::string& name : source.names()) tensors.push_back({name, checkpoint.tensors->info(name)->shape, name});
  tensors.push_back({"lm_head.weight", {131, 192}, "model.embed_tokens.weight"});
  const auto writes = gguf_tensors("rwkv6qwen2", 64, source, tensors, BlockType::q8_0);
  EXPECT_EQ(source.most, 0u);
  write_gguf(testing::scratch_dir("gguf-one-by-one-to") / "m.gguf", {}, writes);
  EXPECT_EQ(source.most, 5u) << "the five shifts that GGUF has as one tensor";
  EXPECT_EQ(source.held, std::set<std::string>());
}

TEST(GgufExport, WhyNot) {
  Config c = read_config(read_json(testing::golden("models/rwkv6/config.json")), nullptr);
  EXPECT_EQ(why_not_gguf(c), "");
  const auto with = [&](auto change) {
    Config other = c;
    change(other);
    return why_not_gguf(other);
  };
  EXPECT_PRED2(has, with([](Config& o) { o.mixers[0] = MixerKind::softmax; }), "keeps softmax layers");
  EXPECT_PRED2(has, with([](Config& o) { o.gate = GateKind::low_rank; }), "full gate");
  EXPECT_PRED2(has, with([](Config& o) { o.groupnorm = true; }), "groupnorm_att");
  EXPECT_PRED2(has, with([](Config& o) { o.token_shift = false; }), "use_tokenshift");
  EXPECT_PRED2(has, with([](Config& o) { o.balance = false; }), "balance_state");
  EXPECT_PRED2(has, with([](Config& o) { o.o_bias = true; }), "no bias on the output projection");
  EXPECT_PRED2(has, with([](Config& o) { o.head_dim *= 2; }), "as wide as the hidden state");
  EXPECT_PRED2(has, error_of([&] { export_gguf(testing::golden("models/llama"), "/tmp/x.gguf", "q3_k"); }),
               "expected f32, f16, bf16");
  c = read_config(read_json(testing::golden("models/qwen2/config.json")), nullptr);
  EXPECT_PRED2(has, with([](Config& o) { o.rope.type = "llama3"; }), "no rotary scaling of type llama3");
}

TEST(GgufExport, AGgufFileIsExportedAgain) {
  const Path dir = testing::scratch_dir("gguf-again");
  export_gguf(testing::tiny_model("gguf-again-from", "rwkv6qwen2", false, 131, 192), dir / "a.gguf", "q8_0");
  export_gguf(dir / "a.gguf", dir / "b.gguf", "q8_0");
  const GgufFile a(dir / "a.gguf"), b(dir / "b.gguf");
  ASSERT_EQ(a.tensors().size(), b.tensors().size());
  for (const GgufTensor& t : a.tensors()) EXPECT_EQ(t.data, b.find(t.name)->data) << t.name;
}

}  // namespace
}  // namespace qwerky
