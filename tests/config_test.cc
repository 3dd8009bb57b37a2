// SPDX-License-Identifier: MIT
// config.json: what is read, refused, written, and what a student's looks like.
#include <cmath>
#include <fstream>
#include <set>

#include "data.h"
#include "expect_error.h"
#include "model/config.h"
#include "model/decoder.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::has;
using testing::shared_data;

Json qwen2() {
  return {{"model_type", "qwen2"},     {"hidden_size", 896},
          {"intermediate_size", 4864}, {"vocab_size", 151936},
          {"num_hidden_layers", 4},    {"num_attention_heads", 14},
          {"num_key_value_heads", 2},  {"max_position_embeddings", 32768},
          {"rms_norm_eps", 1e-6},      {"rope_theta", 1e6},
          {"hidden_act", "silu"},      {"tie_word_embeddings", true}};
}

Json with(Json json, const char* key, const Json& value) {
  json[key] = value;
  return json;
}

Json typed(const std::string& model_type) { return with(qwen2(), "model_type", model_type); }

Config read(const Json& json) { return read_config(json, nullptr); }

void expect_refused(const Json& json, const std::vector<std::string>& parts) {
  const std::string message = error_of([&] { read(json); });
  for (const std::string& part : parts) EXPECT_PRED2(has, message, part) << json.dump();
}

TEST(Config, RefusesOtherFamiliesByNameAndSaysWhatIsSupported) {
  for (const auto& [file, type] : {std::pair{"qwen", "rwkv_hybrid"}, {"qwen3_2507", "qwen3_moe"}}) {
    const auto path = shared_data("tokenizers/qwen") / file / "config.json";
    NEEDS_DATA(path);
    std::ifstream in(path);
    expect_refused(Json::parse(in), {"model_type", type, "llama, qwen2, qwen3, rwkv6qwen2, rwkv7qwen2, qwen3rwkv7"});
  }
  expect_refused(typed("mixtral"), {"model_type \"mixtral\"", "supported"});
}

TEST(Config, ReadsAPublishedQwen3) {
  const auto path = shared_data("tokenizers/qwen/qwen3/config.json");
  NEEDS_DATA(path);
  std::ifstream in(path);
  const Config c = read(Json::parse(in));
  EXPECT_EQ(c.width(), 8192 / 64 * 40);
  EXPECT_EQ(c.head_dim, 128);
  EXPECT_TRUE(c.qk_norm);
  EXPECT_FALSE(c.qkv_bias || c.o_bias || c.tied);
  EXPECT_EQ(c.rope.theta, 1e6);
}

TEST(Config, RefusesFeaturesByName) {
  expect_refused(with(qwen2(), "hidden_act", "gelu"), {"hidden_act", "gelu", "silu"});
  for (const char* type : {"dynamic", "longrope", "su", "ntk"})
    expect_refused(with(qwen2(), "rope_scaling", {{"rope_type", type}, {"factor", 2.0}}),
                   {"rope_scaling", type, "default, linear, llama3, yarn"});
  expect_refused(with(qwen2(), "rope_scaling", {{"type", "yarn"}, {"factor", 2.0}, {"mscale", 1.0}}), {"mscale"});
  expect_refused(with(qwen2(), "partial_rotary_factor", 0.5), {"partial_rotary_factor 0.5", "supported: 1"});
  for (int64_t size : {7, 9, 4, 512}) expect_refused(with(qwen2(), "head_dim", size), {"head size", "8 to 256"});
  expect_refused(with(qwen2(), "num_key_value_heads", 3), {"num_attention_heads (14)", "num_key_value_heads (3)"});
  expect_refused(with(qwen2(), "mlp_bias", true), {"mlp_bias"});
  expect_refused(with(qwen2(), "quantization_config", {{"bits", 4}}), {"quantization_config"});
  expect_refused(with(typed("rwkv7qwen2"), "use_tokenshift", true), {"use_tokenshift", "rwkv7qwen2"});
  expect_refused(with(typed("rwkv7qwen2"), "gate_rank_type", 3), {"gate_rank_type", "0, 1 or 2"});
  expect_refused(with(typed("rwkv7qwen2"), "num_attention_layers", 5), {"num_attention_layers", "0 to 4"});
  expect_refused(with(typed("qwen3rwkv7"), "balance_state", false), {"balance_state", "qwen3rwkv7"});
  for (const char* key : {"transformer_layers", "first_attention_layer", "first_post_attention_layer"})
    expect_refused(with(typed("rwkv7qwen3"), key, 3), {key});
  expect_refused(with(typed("rwkv7qwen3"), "attention_striping", 4), {"attention_striping 4", "supported: 1"});
  expect_refused(with(with(with(qwen2(), "use_sliding_window", true), "sliding_window", 8), "layer_types",
                      {"full_attention", "full_attention", "linear_attention", "full_attention"}),
                 {"layer_types", "linear_attention", "full_attention, sliding_attention"});
  expect_refused(with(typed("rwkv7qwen2"), "qwerky_mixers", {"rwkv7", "rwkv6", "softmax", "rwkv7"}), {"qwerky_mixers"});
}

TEST(Config, RefusesMissingKeysByName) {
  for (const char* key :
       {"hidden_size", "intermediate_size", "vocab_size", "num_hidden_layers", "num_attention_heads", "model_type"}) {
    Json json = qwen2();
    json.erase(key);
    expect_refused(json, {"config.json", key});
  }
}

TEST(Config, RefusesWrongTypesByName) {
  const Json right = qwen2();
  for (const auto& [key, value] : right.items())
    for (const Json& wrong : {Json("many"), Json(0.5), Json::array({1}), Json::object(), Json(true)}) {
      if (wrong.type() == value.type() || (wrong.is_number() && value.is_number_float())) continue;
      expect_refused(with(qwen2(), key.c_str(), wrong), {"config.json", key});
    }
  for (const Json& whole : {Json::array(), Json("qwen2"), Json(3), Json()})
    expect_refused(whole, {"config.json", "expected an object"});
}

TEST(Config, RefusesNumbersOutOfRange) {
  for (const char* key : {"hidden_size", "intermediate_size", "vocab_size", "num_hidden_layers", "num_attention_heads",
                          "num_key_value_heads", "head_dim", "max_position_embeddings"})
    for (const Json& wrong : {Json(0), Json(-1), Json(INT64_MIN), Json(INT64_MAX), Json(UINT64_MAX)})
      expect_refused(with(qwen2(), key, wrong), {"config.json", key, wrong.dump()});
  for (double eps : {0.0, -1e-6, 1.0, 1e300}) expect_refused(with(qwen2(), "rms_norm_eps", eps), {"rms_norm_eps"});
  for (double theta : {0.0, -1.0, 1.0}) expect_refused(with(qwen2(), "rope_theta", theta), {"rope_theta"});
  for (double factor : {0.0, -2.0})
    expect_refused(with(qwen2(), "rope_scaling", {{"type", "linear"}, {"factor", factor}}), {"scaling factor"});
  for (double positions : {0.0, -5.0, 1e300})
    expect_refused(with(qwen2(), "rope_scaling",
                        {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", positions}}),
                   {"original_max_position_embeddings"});
  expect_refused(with(qwen2(), "rope_scaling",
                      {{"rope_type", "llama3"}, {"factor", 8.0}, {"low_freq_factor", 4.0}, {"high_freq_factor", 4.0}}),
                 {"low_freq_factor"});
  for (const Json& wrong : {Json(-1), Json(INT64_MAX)}) {
    expect_refused(with(qwen2(), "qwerky_sinks", wrong), {"qwerky_sinks"});
    expect_refused(with(qwen2(), "qwerky_windows", {1, 0, 0, wrong}), {"qwerky_windows"});
    expect_refused(with(typed("rwkv7qwen2"), "lora_rank_decay", wrong), {"lora_rank_decay"});
  }
}

TEST(Config, AbsentKeysMeanThePublishedDefaults) {
  const Config six = read(typed("rwkv6qwen2")), seven = read(typed("rwkv7qwen2"));
  EXPECT_TRUE(six.token_shift && six.balance && six.gate == GateKind::full && six.qkv_bias);
  EXPECT_FALSE(six.rope_in_rwkv || six.groupnorm || six.o_bias);
  EXPECT_EQ(six.rank_shift, 32);
  EXPECT_EQ(six.rank_decay, 64);
  EXPECT_TRUE(seven.balance && seven.gate == GateKind::low_rank && seven.qkv_bias);
  EXPECT_FALSE(seven.rope_in_rwkv || seven.groupnorm || seven.token_shift);
}

TEST(Config, SlidingWindowsAsHuggingFaceMeansThem) {
  Json json = with(with(with(qwen2(), "use_sliding_window", true), "sliding_window", 100), "max_window_layers", 3);
  EXPECT_EQ(read(json).windows, (std::vector<int64_t>{0, 0, 0, 100}));
  EXPECT_EQ(read(with(json, "use_sliding_window", false)).windows, std::vector<int64_t>(4, 0));
  json["layer_types"] = {"sliding_attention", "full_attention", "sliding_attention", "full_attention"};
  EXPECT_EQ(read(json).windows, (std::vector<int64_t>{100, 0, 100, 0}));
  const Json written = write_config(read(json));
  EXPECT_EQ(written["layer_types"], json["layer_types"]);
  EXPECT_FALSE(written.contains("qwerky_windows"));
  EXPECT_EQ(read(written).windows, read(json).windows);
}

TEST(Config, WindowsThatNoLayerHasStayAbsent) {
  Json json = with(with(with(qwen2(), "use_sliding_window", true), "sliding_window", 100), "max_window_layers", 2);
  json["layer_types"] = std::vector<std::string>(4, "full_attention");
  const Config config = read(with(json, "qwerky_sinks", 3));
  EXPECT_EQ(config.windows, std::vector<int64_t>(4, 0));
  EXPECT_EQ(config.sinks, 0);
  const Json written = write_config(config);
  EXPECT_EQ(written["use_sliding_window"], false) << "without layer_types it would mean the last two layers";
  EXPECT_EQ(read(written).windows, config.windows);
  const Config student = student_config(read(with(with(qwen2(), "qwerky_windows", {8, 0, 0, 0}), "qwerky_sinks", 4)),
                                        MixerKind::rwkv7, {1});
  EXPECT_EQ(student.sinks, 0);
}

TEST(Config, WindowsThatHuggingFaceCannotSayGetTheirOwnKeys) {
  const Json json = with(with(qwen2(), "qwerky_windows", {8, 0, 16, 0}), "qwerky_sinks", 4);
  const Config again = read(write_config(read(json)));
  EXPECT_EQ(again.windows, (std::vector<int64_t>{8, 0, 16, 0}));
  EXPECT_EQ(again.sinks, 4);
}

TEST(Config, ScalingsSurviveBeingWritten) {
  const Json yarn{{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 8192}, {"beta_fast", 16.0}};
  const Json llama3{{"rope_type", "llama3"},
                    {"factor", 8.0},
                    {"low_freq_factor", 1.0},
                    {"high_freq_factor", 2.0},
                    {"original_max_position_embeddings", 8192}};
  for (const Json& scaling : {yarn, llama3, Json{{"type", "linear"}, {"factor", 2.0}}, Json()}) {
    const Config c = read(with(qwen2(), "rope_scaling", scaling)), again = read(write_config(c));
    EXPECT_EQ(c.rope.frequencies(64), again.rope.frequencies(64)) << scaling.dump();
    EXPECT_EQ(c.rope.magnitude(), again.rope.magnitude());
  }
  // transformers 5 keeps theta and scaling in one object.
  Json newer = qwen2();
  newer.erase("rope_theta");
  newer["rope_parameters"] = llama3;
  newer["rope_parameters"]["rope_theta"] = 5e5;
  EXPECT_EQ(read(newer).rope.theta, 5e5);
  EXPECT_EQ(read(newer).rope.type, "llama3");
}

TEST(StudentConfig, ModelTypesByTeacherAndMixer) {
  const auto type = [](const char* teacher, MixerKind kind) {
    return student_config(read(typed(teacher)), kind, {}).model_type;
  };
  for (const char* teacher : {"llama", "qwen2"}) {
    EXPECT_EQ(type(teacher, MixerKind::rwkv6), "rwkv6qwen2");
    EXPECT_EQ(type(teacher, MixerKind::rwkv7), "rwkv7qwen2");
  }
  EXPECT_EQ(type("qwen3", MixerKind::rwkv7), "qwen3rwkv7");
  EXPECT_PRED2(has, error_of([&] { type("qwen3", MixerKind::rwkv6); }), "rad-rwkv7");
  EXPECT_PRED2(has, error_of([&] { type("rwkv7qwen2", MixerKind::rwkv7); }), "expected a softmax model");
  EXPECT_PRED2(has, error_of([&] { type("qwen2", MixerKind::softmax); }), "rad-rwkv6 or rad-rwkv7, found softmax");
}

TEST(StudentConfig, RanksByTheTrainersRule) {
  struct Rule {
    int64_t hidden, decay, mix, gate;
  };
  for (const Rule& r : {Rule{896, 64, 32, 128},
                        {1536, 64, 64, 224},
                        {2048, 96, 64, 256},
                        {3584, 96, 64, 416},
                        {4096, 128, 96, 480},
                        {5120, 128, 96, 544},
                        {8192, 160, 128, 800}}) {
    Json json = with(with(qwen2(), "hidden_size", r.hidden), "head_dim", 64);
    const Config seven = student_config(read(json), MixerKind::rwkv7, {});
    EXPECT_EQ(seven.rank_decay, r.decay) << r.hidden;
    EXPECT_EQ(seven.rank_iclr, r.decay) << r.hidden;
    EXPECT_EQ(seven.rank_mix, r.mix) << r.hidden;
    EXPECT_EQ(seven.rank_gate, r.gate) << r.hidden;
    const Config six = student_config(read(json), MixerKind::rwkv6, {});
    EXPECT_EQ(six.rank_decay, r.decay) << r.hidden;
    EXPECT_EQ(six.rank_shift, r.decay) << r.hidden;
  }
}

TEST(StudentConfig, PublishedKeys) {
  Json teacher = qwen2();
  teacher.update({{"attention_dropout", 0.0},
                  {"bos_token_id", 151643},
                  {"eos_token_id", 151643},
                  {"max_window_layers", 4},
                  {"sliding_window", 131072},
                  {"use_sliding_window", false},
                  {"torch_dtype", "bfloat16"},
                  {"use_cache", true}});
  const Json six = write_config(student_config(read(teacher), MixerKind::rwkv6, {}));
  for (const char* key : {"architectures",
                          "auto_map",
                          "attention_bias",
                          "attention_output_bias",
                          "attention_dropout",
                          "bos_token_id",
                          "eos_token_id",
                          "hidden_act",
                          "hidden_size",
                          "intermediate_size",
                          "max_position_embeddings",
                          "max_window_layers",
                          "model_type",
                          "num_attention_heads",
                          "num_hidden_layers",
                          "num_key_value_heads",
                          "rms_norm_eps",
                          "rope_theta",
                          "sliding_window",
                          "use_sliding_window",
                          "tie_word_embeddings",
                          "torch_dtype",
                          "use_cache",
                          "vocab_size",
                          "lora_rank_tokenshift",
                          "lora_rank_decay",
                          "gate_rank_type",
                          "use_rope",
                          "balance_state",
                          "groupnorm_att",
                          "use_tokenshift"})
    EXPECT_TRUE(six.contains(key)) << key;
  EXPECT_EQ(six["architectures"], Json::array({"RWKV6Qwen2ForCausalLM"}));
  EXPECT_EQ(six["attention_bias"], true);
  EXPECT_EQ(six["attention_output_bias"], false);
  EXPECT_EQ(six["gate_rank_type"], 1);
  EXPECT_EQ(six["use_rope"], false);
  EXPECT_EQ(six["use_tokenshift"], true);
  EXPECT_EQ(six["balance_state"], true);
  EXPECT_EQ(six["groupnorm_att"], false);

  const Json seven = write_config(student_config(read(teacher), MixerKind::rwkv7, {}));
  EXPECT_EQ(seven["architectures"], Json::array({"RWKV7Qwen2ForCausalLM"}));
  EXPECT_EQ(seven["gate_rank_type"], 2);
  EXPECT_EQ(seven["use_rope"], true);
  EXPECT_EQ(seven["use_tokenshift"], false);
  for (const char* key :
       {"lora_rank_decay", "lora_rank_iclr", "lora_rank_value_residual_mix", "lora_rank_gate", "num_attention_layers"})
    EXPECT_TRUE(seven.contains(key)) << key;
  // Only what the classes know: nothing of our own in a plain student.
  for (const Json& student : {six, seven})
    for (const auto& item : student.items()) EXPECT_FALSE(item.key().starts_with("qwerky_")) << item.key();
}

TEST(StudentConfig, LlamaAndQwen3Teachers) {
  Json teacher = with(typed("llama"), "rope_scaling",
                      {{"rope_type", "llama3"},
                       {"factor", 8.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 8192}});
  const Json student = write_config(student_config(read(teacher), MixerKind::rwkv7, {}));
  EXPECT_EQ(student["attention_bias"], false);
  EXPECT_EQ(student["rope_scaling"]["rope_type"], "llama3");
  EXPECT_EQ(read(student).rope.frequencies(64), read(teacher).rope.frequencies(64));

  const Json three = write_config(student_config(read(with(typed("qwen3"), "head_dim", 128)), MixerKind::rwkv7, {}));
  EXPECT_EQ(three["head_dim"], 128);
  EXPECT_EQ(three["attention_bias"], false);
  EXPECT_EQ(three["use_rope"], true);
  EXPECT_TRUE(read(three).qk_norm);
  EXPECT_FALSE(three.contains("auto_map")) << "no code of this name was published";
  // The name of the published code, for the same tensors and equations.
  const Config alias = read(with(three, "model_type", "rwkv7qwen3"));
  EXPECT_EQ(alias.model_type, "qwen3rwkv7");
  EXPECT_EQ(write_config(alias), three);
}

TEST(StudentConfig, KeptSoftmaxLayers) {
  const Config teacher = read(qwen2());
  const auto written = [&](const std::vector<int64_t>& keep) {
    return write_config(student_config(teacher, MixerKind::rwkv7, keep));
  };
  EXPECT_EQ(written({})["num_attention_layers"], 0);
  EXPECT_EQ(written({3})["num_attention_layers"], 1);
  EXPECT_EQ(written({3, 2})["num_attention_layers"], 2);
  EXPECT_FALSE(written({3, 2}).contains("qwerky_mixers"));
  EXPECT_EQ(written({1})["num_attention_layers"], 0);
  EXPECT_EQ(written({1})["qwerky_mixers"], (Json{"rwkv7", "softmax", "rwkv7", "rwkv7"}));
  for (const std::vector<int64_t>& keep : std::vector<std::vector<int64_t>>{{}, {3}, {2, 3}, {1}, {0, 3}}) {
    const Config c = student_config(teacher, MixerKind::rwkv7, keep);
    EXPECT_EQ(read(write_config(c)).mixers, c.mixers);
  }
  EXPECT_PRED2(has, error_of([&] { written({4}); }), "layer 4 does not exist");
  EXPECT_PRED2(has, error_of([&] { written({-1}); }), "layer -1 does not exist");
  EXPECT_PRED2(has, error_of([&] { written({0, 1, 2, 3}); }), "nothing is converted");
}

TEST(StudentConfig, WindowsStayWithTheLayersThatKeepSoftmax) {
  const Config teacher = read(with(qwen2(), "qwerky_windows", {8, 8, 8, 8}));
  EXPECT_EQ(student_config(teacher, MixerKind::rwkv7, {3}).windows, (std::vector<int64_t>{0, 0, 0, 8}));
}

/// The published lists of tensors, for one layer.
std::set<std::string> published(MixerKind kind) {
  std::set<std::string> names{"q_proj.weight", "q_proj.bias", "k_proj.weight", "k_proj.bias",
                              "v_proj.weight", "v_proj.bias", "o_proj.weight"};
  if (kind == MixerKind::rwkv6)
    names.insert({"gate.weight", "time_maa_x", "time_maa_r", "time_maa_k", "time_maa_v", "time_maa_w", "time_maa_g",
                  "time_maa_w1", "time_maa_w2", "time_decay", "time_decay_w1", "time_decay_w2"});
  if (kind == MixerKind::rwkv7) names.insert({"w0", "w1", "w2", "a0", "a1", "a2", "v0", "v1", "v2", "g1", "g2"});
  return names;
}

TEST(StudentConfig, DeclaresThePublishedTensors) {
  for (MixerKind kind : {MixerKind::rwkv6, MixerKind::rwkv7}) {
    Params params;
    const Decoder decoder(student_config(read(qwen2()), kind, {3}), params);
    for (int64_t layer : {1, 2, 3}) {
      std::set<std::string> names;
      params.each([&](const Param& p) {
        if (p.name.starts_with(mixer_prefix(layer))) names.insert(p.name.substr(mixer_prefix(layer).size()));
      });
      EXPECT_EQ(names, published(layer == 3 ? MixerKind::softmax : kind)) << name_of(kind) << " layer " << layer;
    }
  }
}

}  // namespace
}  // namespace qwerky
