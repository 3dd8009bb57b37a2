// SPDX-License-Identifier: MIT
// Backward passes against exact derivatives: the plain forward alone runs on complex numbers with a step of 1e-50
// along a random direction (no cancellation, no step size to tune), the hand-written backward on doubles.
#include <gtest/gtest.h>

#include "backend/reference.h"
#include "base/random.h"
#include "distill/steps.h"

namespace qwerky {
namespace {

using Complex = std::complex<double>;
constexpr double kStep = 1e-50;
constexpr double kTolerance = 1e-11;

Json tiny(const std::string& type) {
  return {{"model_type", type},
          {"hidden_size", 12},
          {"intermediate_size", 10},
          {"vocab_size", 11},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 1},
          {"head_dim", 8},
          {"max_position_embeddings", 64},
          {"rms_norm_eps", 1e-5},
          {"attention_bias", type.find("qwen3") == std::string::npos},
          {"lora_rank_decay", 3},
          {"lora_rank_tokenshift", 2},
          {"lora_rank_iclr", 3},
          {"lora_rank_value_residual_mix", 2},
          {"lora_rank_gate", 3}};
}

/// One model on scalar T with reproducible random weights; on complex numbers weight i carries i·kStep·direction_i.
template <class T>
struct Net {
  ReferenceOf<T> on;
  Arena memory;
  Params params;
  Decoder decoder;
  Tensor gradients;

  Net(const Json& json, const std::string& perturbed, uint64_t seed) : decoder(read_config(json, nullptr), params) {
    params.allocate(memory, dtype_of<T>());
    params.freeze_all_but("*");
    gradients = memory.zeros(dtype_of<T>(), {params.block_count()});
    params.each([&](Param& p) {
      const Random value(seed, hash_name(p.name));
      const bool moves = glob_match(perturbed, p.name);
      for (int64_t i = 0; i < p.count(); ++i) {
        const double w = (p.name.ends_with("norm.weight") ? 1 : 0) + 0.5 * value.normal(static_cast<uint64_t>(i));
        if constexpr (std::is_same_v<T, Complex>) {
          p.weight.as<T>()[i] = Complex(w, moves ? kStep * direction(p, i) : 0);
        } else {
          p.weight.as<T>()[i] = w;
        }
      }
    });
  }
  static double direction(const Param& p, int64_t i) {
    return Random(99, hash_name(p.name)).normal(static_cast<uint64_t>(i));
  }
};

const std::vector<int32_t> kTokens = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3};  // 2 windows of 7 + 1
const WindowBatch kWindows{kTokens, 2, 7};

/// Loss of the complex net, as the imaginary part over the step: the derivative along the direction.
double exact(Net<Complex>& net, Net<Complex>* teacher, const std::string& loss, double next_token) {
  const Exec ex{net.on, net.memory};
  const auto inputs = kWindows.inputs(), targets = kWindows.targets();
  const auto batch = kWindows.segments();
  const int64_t rows = static_cast<int64_t>(inputs.size());
  const Config& c = net.decoder.config();
  const Tensor hidden = ex.make(rows, c.hidden), logits = ex.make(rows, c.vocab), losses = ex.zeros(1, rows);
  const auto total = [](Tensor t) {
    Complex sum = 0;
    for (int64_t i = 0; i < t.count(); ++i) sum += t.as<Complex>()[i];
    return sum;
  };
  Complex sum = 0;
  if (loss == "align") {
    const Decoder::Shared shared = net.decoder.share(ex, batch, rows, false);
    teacher->decoder.forward(ex, inputs, batch, hidden, [&](int64_t layer, const Io& io) {
      if (c.mixers[static_cast<size_t>(layer)] == MixerKind::softmax) return;
      const Tensor y = ex.make(rows, c.hidden);
      net.decoder.mixer(layer).forward(ex, {io.x, y, shared.rope, shared.v_first}, batch);
      net.on.align(losses, {}, y, io.y, 0.25);
      sum += total(losses);
    });
    return sum.imag() / kStep;
  }
  net.decoder.forward(ex, inputs, batch, hidden);
  net.decoder.logits(ex, hidden, logits);
  if (loss == "cross_entropy") {
    net.on.cross_entropy(losses, {}, logits, targets, 0.25);
  } else {
    const Tensor logits_t = ex.make(rows, c.vocab);
    teacher->decoder.forward(ex, inputs, batch, hidden);
    teacher->decoder.logits(ex, hidden, logits_t);
    net.on.kl(losses, {}, logits, logits_t, 0.25);
    sum = total(losses);
    net.on.cross_entropy(losses, {}, logits, targets, 0.25 * next_token);
  }
  return (sum + total(losses)).imag() / kStep;
}

void check(const Json& json, const std::string& loss, bool recompute, double next_token = 0) {
  Json teacher_json = tiny(json["model_type"] == "qwen3rwkv7" ? "qwen3" : "qwen2");
  Net<double> net(json, "", 1), teacher(teacher_json, "", 2);
  Net<Complex> teacher_complex(teacher_json, "", 2);
  const Exec ex{net.on, net.memory, net.gradients};
  if (loss == "align") align_step(ex, teacher.decoder, net.decoder, kWindows, 0.25);
  if (loss == "kl") kl_step(ex, teacher.decoder, net.decoder, kWindows, 0.25, recompute, next_token);
  if (loss == "cross_entropy") cross_entropy_step(ex, net.decoder, kWindows, 0.25, recompute);
  net.params.each([&](const Param& p) {  // one direction per tensor: an error names its tensor
    double along = 0, size = 0;
    for (int64_t i = 0; i < p.count(); ++i) {
      const double g = ex.grad(p).as<double>()[i] * Net<double>::direction(p, i);
      along += g;
      size += std::abs(g);
    }
    Net<Complex> moved(json, p.name, 1);
    EXPECT_NEAR(along, exact(moved, &teacher_complex, loss, next_token), kTolerance * std::max(size, 1e-3))
        << json["model_type"] << " " << loss << " " << p.name;
    const bool unused = p.name.ends_with("time_maa_g") && net.decoder.config().gate == GateKind::none;
    if (loss != "align" && !unused) {
      EXPECT_GT(size, 0) << p.name << " got no gradient";
    }
  });
}

Json with(Json json, const Json& changes) {
  json.update(changes);
  return json;
}

TEST(Gradient, SoftmaxDecoder) {
  check(tiny("qwen2"), "cross_entropy", false);
  check(tiny("qwen3"), "cross_entropy", true);
  check(with(tiny("llama"), {{"tie_word_embeddings", true}, {"qwerky_windows", {3, 0}}, {"qwerky_sinks", 1}}),
        "cross_entropy", false);
}

TEST(Gradient, Rwkv6Decoder) {
  check(tiny("rwkv6qwen2"), "kl", false);
  check(with(tiny("rwkv6qwen2"), {{"use_rope", true}, {"gate_rank_type", 2}, {"use_tokenshift", false}}), "kl", true);
  check(with(tiny("rwkv6qwen2"), {{"balance_state", false}, {"groupnorm_att", true}, {"gate_rank_type", 0}}),
        "cross_entropy", false);
  check(tiny("rwkv6qwen2"), "align", false);
}

TEST(Gradient, Rwkv7Decoder) {
  check(with(tiny("rwkv7qwen2"), {{"use_rope", true}}), "kl", false);
  check(with(tiny("rwkv7qwen2"), {{"use_rope", true}}), "kl", true, 0.3);
  check(with(tiny("rwkv7qwen2"), {{"balance_state", false}, {"groupnorm_att", true}, {"gate_rank_type", 1}}),
        "cross_entropy", false);
  check(with(tiny("rwkv7qwen2"), {{"use_rope", true}, {"gate_rank_type", 0}}), "align", false);
}

TEST(Gradient, Qwen3Rwkv7AndHybrids) {
  check(tiny("qwen3rwkv7"), "kl", false);
  check(tiny("qwen3rwkv7"), "align", false);
  check(with(tiny("rwkv7qwen2"), {{"num_attention_layers", 1}}), "kl", false);
  check(with(tiny("rwkv7qwen2"), {{"qwerky_mixers", {"softmax", "rwkv7"}}}), "kl", true);
}

}  // namespace
}  // namespace qwerky
