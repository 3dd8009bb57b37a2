// SPDX-License-Identifier: MIT
// Which mixers and families exist, and how config.json describes them: a mixer is a row of kMixers, a family one of
// kFamilies.
#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "model/mixer.h"

namespace qwerky {
namespace {

struct MixerRow {
  MixerKind kind;
  const char* name;       ///< in qwerky_mixers and in what is printed
  const char* published;  ///< of the method; what --to takes
  std::unique_ptr<Mixer> (*make)(const Config&, int64_t layer, Params&);
};

constexpr std::array kMixers{
    MixerRow{MixerKind::softmax, "softmax", "softmax", make_softmax},
    MixerRow{MixerKind::rwkv6, "rwkv6", "rad-rwkv6", make_rwkv6},
    MixerRow{MixerKind::rwkv7, "rwkv7", "rad-rwkv7", make_rwkv7},
};

const MixerRow& mixer_row(MixerKind kind) {
  const auto row = std::find_if(kMixers.begin(), kMixers.end(), [&](const MixerRow& r) { return r.kind == kind; });
  CHECK(row != kMixers.end(), "MixerKind without a row");
  return *row;
}

struct Family {
  const char* model_type;
  const char* class_name;
  MixerKind mixer;
  bool qkv_bias;  ///< when "attention_bias" is absent and no tensors tell
  bool qk_norm;
  GateKind gate;         ///< default of gate_rank_type
  bool token_shift;      ///< default of use_tokenshift
  bool student_rope;     ///< use_rope of a student; the default is false but for qwen3rwkv7
  const char* auto_map;  ///< class prefix in the published configuration_X.py and modeling_X.py; null: there are none
};

constexpr std::array kFamilies{
    Family{"llama", "LlamaForCausalLM", MixerKind::softmax, false, false, GateKind::none, false, false, nullptr},
    Family{"qwen2", "Qwen2ForCausalLM", MixerKind::softmax, true, false, GateKind::none, false, false, nullptr},
    Family{"qwen3", "Qwen3ForCausalLM", MixerKind::softmax, false, true, GateKind::none, false, false, nullptr},
    Family{"rwkv6qwen2", "RWKV6Qwen2ForCausalLM", MixerKind::rwkv6, true, false, GateKind::full, true, false,
           "RWKV6Qwen2"},
    Family{"rwkv7qwen2", "RWKV7Qwen2ForCausalLM", MixerKind::rwkv7, true, false, GateKind::low_rank, false, true,
           "RWKV7Qwen2"},
    Family{"qwen3rwkv7", "Qwen3RWKV7ForCausalLM", MixerKind::rwkv7, false, true, GateKind::low_rank, false, true,
           nullptr},
};

const Family& family(const std::string& model_type, const std::string& where) {
  for (const Family& f : kFamilies)
    if (model_type == f.model_type) return f;
  fail(where, ": model_type \"", model_type, "\" is not supported; supported: ", supported_architectures());
}

/// A configuration being read, and its place for messages.
struct Keys {
  const Json& json;
  const std::string& where;
};

/// A key with its default; a value of the wrong type is an Error naming the key.
template <class T>
T value(const Keys& keys, const char* key, T absent) {
  const auto& [json, where] = keys;
  const auto it = json.find(key);
  if (it == json.end() || it->is_null()) return absent;
  if constexpr (std::is_same_v<T, bool>) {
    if (!it->is_boolean() && !it->is_number_integer())
      fail(where, ": ", key, ": expected true or false, found ", it->dump());
    return it->is_boolean() ? it->get<bool>() : it->get<int64_t>() != 0;
  } else if constexpr (std::is_integral_v<T>) {
    if (!it->is_number_integer()) fail(where, ": ", key, ": expected an integer, found ", it->dump());
  } else if constexpr (std::is_floating_point_v<T>) {
    if (!it->is_number()) fail(where, ": ", key, ": expected a number, found ", it->dump());
  } else {
    if (!it->is_string()) fail(where, ": ", key, ": expected text, found ", it->dump());
  }
  if constexpr (!std::is_same_v<T, bool>) return it->get<T>();
}

// Far above any model, and the bytes of all tensors together still fit in 64 bits.
constexpr int64_t kMostHidden = int64_t{1} << 20, kMostIntermediate = int64_t{1} << 22, kMostVocab = int64_t{1} << 24;
constexpr int64_t kMostHeads = int64_t{1} << 14, kMostLayers = 10000, kMostPositions = int64_t{1} << 31;

int64_t positive(const Keys& keys, const char* key, int64_t most, int64_t absent = 0) {
  const auto& [json, where] = keys;
  const int64_t n = value<int64_t>(keys, key, absent);
  if (n < 1 || n > most)
    fail(where, ": ", key, ": expected a number from 1 to ", most, ", found ",
         json.contains(key) ? json.at(key).dump() : "nothing");
  return n;
}

const Family& family_of(const Keys& keys) {
  if (!keys.json.is_object()) fail(keys.where, ": expected an object, found ", keys.json.type_name());
  const std::string name = value<std::string>(keys, "model_type", "");
  // The name of the published modeling_rwkv7qwen3.py for the same mixer.
  return family(name == "rwkv7qwen3" ? "qwen3rwkv7" : name, keys.where);
}

Rope read_rope(const Keys& keys, int64_t max_positions) {
  const auto& [json, where] = keys;
  Rope rope;
  Json scaling = Json::object();
  for (const char* key : {"rope_scaling", "rope_parameters"})
    if (json.contains(key) && json[key].is_object()) scaling = json[key];
  const Keys inner{scaling, where};
  rope.theta = value<double>(keys, "rope_theta", value<double>(inner, "rope_theta", 10000.0));
  rope.type = value<std::string>(inner, "rope_type", value<std::string>(inner, "type", "default"));
  const std::set<std::string> known{"default", "linear", "llama3", "yarn"};
  if (!known.contains(rope.type))
    fail(where, ": rope_scaling type \"", rope.type, "\" is not supported; supported: default, linear, llama3, yarn");
  rope.factor = value<double>(inner, "factor", 1.0);
  rope.low_freq_factor = value<double>(inner, "low_freq_factor", 1.0);
  rope.high_freq_factor = value<double>(inner, "high_freq_factor", 4.0);
  rope.beta_fast = value<double>(inner, "beta_fast", 32.0);
  rope.beta_slow = value<double>(inner, "beta_slow", 1.0);
  rope.attention_factor = value<double>(inner, "attention_factor", 0.0);
  rope.original_positions =
      value<double>(inner, "original_max_position_embeddings", static_cast<double>(max_positions));
  if (!(rope.theta > 1) || !(rope.factor > 0))
    fail(where, ": expected rope_theta above 1 and a positive scaling factor, found ", rope.theta, " and ",
         rope.factor);
  if (!(rope.original_positions >= 1 && rope.original_positions <= static_cast<double>(kMostPositions)) ||
      rope.original_positions != std::floor(rope.original_positions))
    fail(where, ": rope_scaling: original_max_position_embeddings: expected a whole number from 1 to ", kMostPositions,
         ", found ", rope.original_positions);
  if (rope.type == "llama3" && !(rope.low_freq_factor > 0 && rope.high_freq_factor > rope.low_freq_factor))
    fail(where, ": rope_scaling: expected 0 < low_freq_factor < high_freq_factor, found ", rope.low_freq_factor,
         " and ", rope.high_freq_factor);
  if (rope.type == "yarn" && !(rope.beta_slow > 0 && rope.beta_fast >= rope.beta_slow && rope.attention_factor >= 0))
    fail(where, ": rope_scaling: expected 0 < beta_slow <= beta_fast and a positive attention_factor, found ",
         rope.beta_slow, ", ", rope.beta_fast, " and ", rope.attention_factor);
  // Of other families' YaRN; none of the supported ones is published with them.
  for (const char* key : {"mscale", "mscale_all_dim"})
    if (scaling.contains(key) && !scaling[key].is_null()) fail(where, ": rope_scaling: ", key, " is not supported");
  if (!value<bool>(inner, "truncate", true)) fail(where, ": rope_scaling: truncate false is not supported");
  for (const Keys& from : {keys, inner})
    if (const double part = value<double>(from, "partial_rotary_factor", 1.0); part != 1)
      fail(where, ": partial_rotary_factor ", part, " is not supported; supported: 1");
  return rope;
}

/// Columns of a stored matrix [in, out] (outputs, in panels), or 0 when the tensor is not there.
int64_t stored_columns(const TensorSource* tensors, const std::string& name) {
  const Tensor t = tensors ? tensors->find(name) : Tensor();
  return !t ? 0 : t.layout == Layout::rows ? t.cols() : t.dim(t.shape.rank - 2);
}

/// A rank: the shape of the first RWKV layer's matrix, else the config key (absent, null or 0: the published rule).
int64_t rank(const Keys& keys, const char* key, int64_t stored, int64_t rule) {
  if (stored > 0) return stored;
  return value<int64_t>(keys, key, 0) != 0 ? positive(keys, key, kMostHidden) : rule;
}

/// The trainer's rule: round(factor · D^power / 32) · 32, at least 32.
int64_t default_rank(double factor, double power, int64_t hidden) {
  return std::max<int64_t>(1, std::llround(factor * std::pow(static_cast<double>(hidden), power) / 32)) * 32;
}

void default_ranks(Config& c, const Keys& keys, const TensorSource* tensors) {
  const auto layer = std::find(c.mixers.begin(), c.mixers.end(), c.linear_kind()) - c.mixers.begin();
  const std::string prefix = mixer_prefix(layer);
  const auto stored = [&](const char* name) { return stored_columns(tensors, prefix + name); };
  if (c.linear_kind() == MixerKind::rwkv6) {
    const bool small = c.hidden < 4096;  // HF default for absent keys (configuration_rwkv6qwen2.py)
    c.rank_decay = rank(keys, "lora_rank_decay", stored("time_decay_w1"), small ? 64 : 128);
    c.rank_shift = rank(keys, "lora_rank_tokenshift", stored("time_maa_w1") / 5, small ? 32 : 64);
  } else if (c.linear_kind() == MixerKind::rwkv7) {
    c.rank_decay = rank(keys, "lora_rank_decay", stored("w1"), default_rank(1.8, 0.5, c.hidden));
    c.rank_iclr = rank(keys, "lora_rank_iclr", stored("a1"), default_rank(1.8, 0.5, c.hidden));
    // The first layer's v1 is present but unused in published checkpoints; any RWKV layer tells the rank.
    c.rank_mix = rank(keys, "lora_rank_value_residual_mix",
                      std::max(stored("v1"), stored_columns(tensors, mixer_prefix(layer + 1) + "v1")),
                      default_rank(1.3, 0.5, c.hidden));
  }
  if (c.gate == GateKind::low_rank)
    c.rank_gate = rank(keys, "lora_rank_gate", stored("g1"), default_rank(0.6, 0.8, c.hidden));
}

std::vector<MixerKind> read_mixers(const Keys& keys, const Family& f, int64_t layers) {
  const auto& [json, where] = keys;
  std::vector<MixerKind> mixers(static_cast<size_t>(layers), f.mixer);
  if (json.contains("qwerky_mixers")) {
    const Json& list = json["qwerky_mixers"];
    if (!list.is_array() || list.size() != mixers.size())
      fail(where, ": qwerky_mixers: expected a list of ", layers, " names");
    for (size_t i = 0; i < mixers.size(); ++i)
      mixers[i] =
          mixer_kind(list[i].is_string() ? list[i].get<std::string>() : list[i].dump(), where + ": qwerky_mixers: ");
    std::set<MixerKind> kinds(mixers.begin(), mixers.end());
    kinds.erase(MixerKind::softmax);
    if (kinds.size() > 1) fail(where, ": qwerky_mixers: rwkv6 and rwkv7 layers in one model are not supported");
    return mixers;
  }
  const int64_t kept = value<int64_t>(keys, "num_attention_layers", 0);
  if (kept < 0 || kept > layers) fail(where, ": num_attention_layers: expected 0 to ", layers, ", found ", kept);
  std::fill(mixers.end() - kept, mixers.end(), MixerKind::softmax);
  return mixers;
}

std::vector<int64_t> read_windows(const Keys& keys, int64_t layers) {
  const Json& json = keys.json;
  const std::string& where = keys.where;  // captured below, as a structured binding cannot be
  std::vector<int64_t> windows(static_cast<size_t>(layers), 0);
  const auto list_of = [&](const char* key) -> const Json& {
    const Json& list = json[key];
    if (!list.is_array() || list.size() != windows.size())
      fail(where, ": ", key, ": expected a list of ", layers, ", one for each layer");
    return list;
  };
  if (json.contains("qwerky_windows")) {
    const Json& list = list_of("qwerky_windows");
    for (size_t i = 0; i < windows.size(); ++i) {
      if (!list[i].is_number_integer() || list[i].get<int64_t>() < 0 || list[i].get<int64_t>() > kMostPositions)
        fail(where, ": qwerky_windows: expected numbers from 0 to ", kMostPositions, ", found ", list[i].dump());
      windows[i] = list[i].get<int64_t>();
    }
  } else if (value<bool>(keys, "use_sliding_window", false) && json.contains("sliding_window") &&
             !json["sliding_window"].is_null()) {
    const int64_t window = positive(keys, "sliding_window", kMostPositions);
    const int64_t from = value<int64_t>(keys, "max_window_layers", 28);  // the default of HF's Qwen2 and Qwen3
    const bool named = json.contains("layer_types") && !json["layer_types"].is_null();
    for (int64_t i = 0; i < layers; ++i) {
      const Json type = named       ? list_of("layer_types")[static_cast<size_t>(i)]
                        : i >= from ? Json("sliding_attention")
                                    : Json("full_attention");
      if (type != "sliding_attention" && type != "full_attention")
        fail(where, ": layer_types: ", type.dump(), " is not supported; supported: full_attention, ",
             "sliding_attention");
      if (type == "sliding_attention") windows[static_cast<size_t>(i)] = window;
    }
  }
  return windows;
}

bool has_windows(const Config& c) {
  return std::any_of(c.windows.begin(), c.windows.end(), [](int64_t width) { return width > 0; });
}

/// Windows as the Hugging Face classes of `f` express them, if they can: one width, no sinks.
bool write_windows(Json& json, const Config& c, const Family& f) {
  std::set<int64_t> widths(c.windows.begin(), c.windows.end());
  widths.erase(0);
  if (f.mixer != MixerKind::softmax || c.model_type == "llama" || c.sinks > 0 || widths.size() != 1) return false;
  const auto full = [](int64_t width) { return width == 0; };
  const auto first = std::find_if_not(c.windows.begin(), c.windows.end(), full);
  json["use_sliding_window"] = true;
  json["sliding_window"] = *widths.begin();
  json["max_window_layers"] = first - c.windows.begin();
  for (int64_t width : c.windows) json["layer_types"].push_back(full(width) ? "full_attention" : "sliding_attention");
  return true;
}

}  // namespace

const char* name_of(MixerKind kind) { return mixer_row(kind).name; }

MixerKind mixer_kind(const std::string& name, const std::string& where) {
  for (const MixerRow& row : kMixers)
    if (name == row.name || name == row.published) return row.kind;
  fail(where, "mixer \"", name, "\" is not known; known: softmax, ", linear_mixers(", "));
}

std::string linear_mixers(const char* separator) {
  std::string all;
  for (const MixerRow& row : kMixers)
    if (row.kind != MixerKind::softmax) all += (all.empty() ? "" : separator) + std::string(row.published);
  return all;
}

std::unique_ptr<Mixer> make_mixer(const Config& config, int64_t layer, Params& params) {
  return mixer_row(config.mixers[static_cast<size_t>(layer)]).make(config, layer, params);
}

std::string mixer_prefix(int64_t layer) { return "model.layers." + std::to_string(layer) + ".self_attn."; }

std::string supported_architectures() {
  std::string all;
  for (const Family& f : kFamilies) all += (all.empty() ? "" : ", ") + std::string(f.model_type);
  return all + ", and llama2.c .bin files";
}

MixerKind Config::linear_kind() const {
  for (MixerKind kind : mixers)
    if (kind != MixerKind::softmax) return kind;
  return MixerKind::softmax;
}

bool Config::is_linear(int64_t layer) const { return mixers[static_cast<size_t>(layer)] != MixerKind::softmax; }

int64_t Config::first_rwkv7() const {
  const auto it = std::find(mixers.begin(), mixers.end(), MixerKind::rwkv7);
  return it == mixers.end() ? -1 : it - mixers.begin();
}

void check_family(const Json& json, const std::string& where) { family_of({json, where}); }

Config read_config(const Json& json, const TensorSource* tensors, const std::string& where) {
  const Keys keys{json, where};
  Config c;
  const Family& f = family_of(keys);
  c.model_type = f.model_type;
  if (const std::string act = value<std::string>(keys, "hidden_act", "silu"); act != "silu")
    fail(where, ": hidden_act \"", act, "\" is not supported; supported: silu");
  for (const char* key : {"mlp_bias", "quantization_config"})
    if (json.contains(key) && !json[key].is_null() && json[key] != false) fail(where, ": ", key, " is not supported");

  // Which layers of later rwkv7qwen3 hybrids are softmax: other rules than the last num_attention_layers.
  for (const char* key : {"transformer_layers", "first_attention_layer", "first_post_attention_layer"})
    if (json.contains(key) && !json[key].is_null()) fail(where, ": ", key, " is not supported");
  if (const int64_t every = value<int64_t>(keys, "attention_striping", 1); every != 1)
    fail(where, ": attention_striping ", every, " is not supported; supported: 1");

  c.hidden = positive(keys, "hidden_size", kMostHidden);
  c.intermediate = positive(keys, "intermediate_size", kMostIntermediate);
  c.vocab = positive(keys, "vocab_size", kMostVocab);
  c.layers = positive(keys, "num_hidden_layers", kMostLayers);
  c.heads = positive(keys, "num_attention_heads", kMostHeads);
  c.kv_heads = positive(keys, "num_key_value_heads", kMostHeads, c.heads);
  c.head_dim = positive(keys, "head_dim", kMostHidden, std::max<int64_t>(1, c.hidden / c.heads));
  if (c.heads % c.kv_heads != 0)
    fail(where, ": num_attention_heads (", c.heads, ") is not a multiple of num_key_value_heads (", c.kv_heads, ")");
  if (c.head_dim < 8 || c.head_dim > 256 || c.head_dim % 2 != 0)
    fail(where, ": head size ", c.head_dim, " is not supported; supported: even sizes from 8 to 256");
  c.max_positions = positive(keys, "max_position_embeddings", kMostPositions, 2048);
  c.norm_eps = value<double>(keys, "rms_norm_eps", 1e-6);
  if (!(c.norm_eps > 0 && c.norm_eps < 1))
    fail(where, ": rms_norm_eps: expected a number in (0, 1), found ", c.norm_eps);
  c.tied = value<bool>(keys, "tie_word_embeddings", false);
  c.rope = read_rope(keys, c.max_positions);
  c.mixers = read_mixers(keys, f, c.layers);
  c.windows = read_windows(keys, c.layers);
  c.sinks = value<int64_t>(keys, "qwerky_sinks", 0);
  if (c.sinks < 0 || c.sinks > kMostPositions)
    fail(where, ": qwerky_sinks: expected a number from 0 to ", kMostPositions, ", found ", c.sinks);

  if (!has_windows(c)) c.sinks = 0;

  const Tensor bias = tensors ? tensors->find(mixer_prefix(0) + "q_proj.bias") : Tensor();
  c.qkv_bias = value<bool>(keys, "attention_bias", tensors ? static_cast<bool>(bias) : f.qkv_bias);
  if (c.model_type == "qwen2") c.qkv_bias = tensors ? static_cast<bool>(bias) : true;  // HF's Qwen2 ignores the key
  c.o_bias = value<bool>(keys, "attention_output_bias",
                         c.model_type == "llama" || c.model_type == "qwen3" ? c.qkv_bias : false);
  c.qk_norm = f.qk_norm;

  c.rope_in_rwkv = value<bool>(keys, "use_rope", c.model_type == "qwen3rwkv7");
  c.balance = value<bool>(keys, "balance_state", true);
  if (!c.balance && c.model_type == "qwen3rwkv7")  // its published form then leaves keys alone: another recurrence
    fail(where, ": balance_state false is not supported for ", c.model_type);
  c.groupnorm = value<bool>(keys, "groupnorm_att", false);
  c.token_shift = value<bool>(keys, "use_tokenshift", f.token_shift);
  if (c.token_shift && f.mixer == MixerKind::rwkv7) fail(where, ": use_tokenshift is not supported for ", c.model_type);
  const int64_t gate = value<int64_t>(keys, "gate_rank_type", static_cast<int64_t>(f.gate));
  if (gate < 0 || gate > 2) fail(where, ": gate_rank_type: expected 0, 1 or 2, found ", gate);
  c.gate = static_cast<GateKind>(gate);
  default_ranks(c, keys, tensors);
  // Own are the keys that write_config() makes, here or for another model; the others travel.
  Json own = write_config(c);
  for (const char* key : {"auto_map", "head_dim", "attention_output_bias", "rope_scaling", "rope_parameters",
                          "use_sliding_window", "sliding_window", "max_window_layers", "layer_types", "qwerky_windows",
                          "qwerky_sinks", "qwerky_mixers", "num_attention_layers", "lora_rank_gate"})
    own[key] = nullptr;
  if (!has_windows(c)) {  // published although without effect
    for (const char* key : {"sliding_window", "max_window_layers"})
      if (json.contains(key)) c.extra[key] = json[key];
    if (json.contains("use_sliding_window")) c.extra["use_sliding_window"] = false;
  }
  for (const auto& [key, v] : json.items())
    if (!own.contains(key)) c.extra[key] = v;
  return c;
}

Json write_config(const Config& c) {
  const Family& f = family(c.model_type, "configuration");
  Json json = c.extra.is_object() ? c.extra : Json::object();
  json["architectures"] = {f.class_name};
  if (f.auto_map) {
    const std::string lower = c.model_type;
    json["auto_map"] = {{"AutoConfig", "configuration_" + lower + "." + f.auto_map + "Config"},
                        {"AutoModelForCausalLM", "modeling_" + lower + "." + f.class_name}};
  }
  json["model_type"] = c.model_type;
  json["hidden_act"] = "silu";
  json["hidden_size"] = c.hidden;
  json["intermediate_size"] = c.intermediate;
  json["vocab_size"] = c.vocab;
  json["num_hidden_layers"] = c.layers;
  json["num_attention_heads"] = c.heads;
  json["num_key_value_heads"] = c.kv_heads;
  if (c.head_dim * c.heads != c.hidden || f.qk_norm) json["head_dim"] = c.head_dim;
  json["max_position_embeddings"] = c.max_positions;
  json["rms_norm_eps"] = c.norm_eps;
  json["tie_word_embeddings"] = c.tied;
  json["attention_bias"] = c.qkv_bias;
  if (c.model_type != "qwen2") json["attention_output_bias"] = c.o_bias;
  json["rope_theta"] = c.rope.theta;
  if (c.rope.type != "default") {
    Json& s = json["rope_scaling"] = {{"rope_type", c.rope.type}, {"factor", c.rope.factor}};
    if (c.rope.type == "llama3")
      s["low_freq_factor"] = c.rope.low_freq_factor, s["high_freq_factor"] = c.rope.high_freq_factor;
    if (c.rope.type == "yarn") {
      s["beta_fast"] = c.rope.beta_fast, s["beta_slow"] = c.rope.beta_slow;
      if (c.rope.attention_factor > 0) s["attention_factor"] = c.rope.attention_factor;
    }
    s["original_max_position_embeddings"] = static_cast<int64_t>(c.rope.original_positions);
  }
  if (has_windows(c) && !write_windows(json, c, f)) {
    json["qwerky_windows"] = c.windows;
    json["qwerky_sinks"] = c.sinks;
  }
  if (f.mixer == MixerKind::softmax) return json;

  const auto softmax_layers = std::count(c.mixers.begin(), c.mixers.end(), MixerKind::softmax);
  const bool only_last = std::all_of(c.mixers.begin(), c.mixers.end() - softmax_layers,
                                     [](MixerKind k) { return k != MixerKind::softmax; });
  json["num_attention_layers"] = only_last ? softmax_layers : 0;
  if (!only_last)
    for (MixerKind kind : c.mixers) json["qwerky_mixers"].push_back(name_of(kind));
  json["use_rope"] = c.rope_in_rwkv;
  json["balance_state"] = c.balance;
  json["groupnorm_att"] = c.groupnorm;
  json["use_tokenshift"] = c.token_shift;
  json["gate_rank_type"] = static_cast<int>(c.gate);
  json["lora_rank_decay"] = c.rank_decay;
  if (f.mixer == MixerKind::rwkv6) json["lora_rank_tokenshift"] = c.rank_shift;
  if (f.mixer == MixerKind::rwkv7)
    json["lora_rank_iclr"] = c.rank_iclr, json["lora_rank_value_residual_mix"] = c.rank_mix;
  if (c.gate == GateKind::low_rank) json["lora_rank_gate"] = c.rank_gate;
  return json;
}

Config student_config(const Config& teacher, MixerKind kind, const std::vector<int64_t>& keep_softmax) {
  if (teacher.linear_kind() != MixerKind::softmax)
    fail("teacher: expected a softmax model, found ", teacher.model_type);
  if (kind == MixerKind::softmax) fail("--to: expected ", linear_mixers(" or "), ", found softmax");
  Config c = teacher;
  std::fill(c.mixers.begin(), c.mixers.end(), kind);
  for (int64_t layer : keep_softmax) {
    if (layer < 0 || layer >= c.layers)
      fail("--keep-softmax: layer ", layer, " does not exist; the model has layers 0 to ", c.layers - 1);
    c.mixers[static_cast<size_t>(layer)] = MixerKind::softmax;
  }
  for (size_t i = 0; i < c.mixers.size(); ++i)
    if (c.mixers[i] != MixerKind::softmax) c.windows[i] = 0;
  if (!has_windows(c)) c.sinks = 0;
  if (c.linear_kind() == MixerKind::softmax) fail("--keep-softmax: every layer is kept, nothing is converted");
  const auto f = std::find_if(kFamilies.begin(), kFamilies.end(),
                              [&](const Family& row) { return row.mixer == kind && row.qk_norm == c.qk_norm; });
  if (f == kFamilies.end())
    fail("--to ", mixer_row(kind).published, ": there is no published form for teachers with", c.qk_norm ? "" : "out",
         " per-head query and key norms (", teacher.model_type, "); use rad-rwkv7");
  c.model_type = f->model_type;
  c.gate = f->gate, c.token_shift = f->token_shift, c.rope_in_rwkv = f->student_rope;
  c.balance = true, c.groupnorm = false;
  const int64_t sqrt_rank = default_rank(1.8, 0.5, c.hidden);
  c.rank_decay = c.rank_shift = c.rank_iclr = sqrt_rank;
  c.rank_mix = default_rank(1.3, 0.5, c.hidden);
  c.rank_gate = default_rank(0.6, 0.8, c.hidden);
  return c;
}

std::vector<double> Rope::frequencies(int64_t head_dim) const {
  const double N = static_cast<double>(head_dim), pi = 3.14159265358979323846;
  std::vector<double> f(static_cast<size_t>(head_dim / 2));
  for (size_t i = 0; i < f.size(); ++i) f[i] = std::pow(theta, -2.0 * static_cast<double>(i) / N);
  if (type == "linear")
    for (double& x : f) x /= factor;
  if (type == "llama3")  // wavelengths beyond the original context are stretched, with a smooth transition
    for (double& x : f) {
      const double turns = original_positions * x / (2 * pi);  // over the original context
      const double keep = std::clamp((turns - low_freq_factor) / (high_freq_factor - low_freq_factor), 0.0, 1.0);
      x *= keep + (1 - keep) / factor;
    }
  if (type == "yarn") {  // arXiv 2309.00071, with the rounding of the Hugging Face implementation
    const auto channel = [&](double turns) {
      return N * std::log(original_positions / (turns * 2 * pi)) / (2 * std::log(theta));
    };
    const double low = std::max(std::floor(channel(beta_fast)), 0.0);
    double high = std::min(std::ceil(channel(beta_slow)), N - 1);
    if (low == high) high += 0.001;
    for (size_t i = 0; i < f.size(); ++i) {
      const double stretch = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
      f[i] *= (1 - stretch) + stretch / factor;
    }
  }
  return f;
}

double Rope::magnitude() const {
  if (type != "yarn") return 1;
  return attention_factor > 0 ? attention_factor : factor > 1 ? 0.1 * std::log(factor) + 1 : 1;
}

}  // namespace qwerky
