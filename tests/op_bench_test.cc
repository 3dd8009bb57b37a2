// SPDX-License-Identifier: MIT
// `bench --ops`: every operation is run, agrees with the reference on each backend of this CPU, and a wrong one is
// named.
#include "engine/op_bench.h"

#include <gtest/gtest.h>

#include <set>

#include "backend/reference.h"

namespace qwerky {
namespace {

const OpSizes kTiny = {.hidden = 72,
                       .intermediate = 130,
                       .vocab = 333,
                       .heads = 6,
                       .kv_heads = 2,
                       .head = 16,
                       .rows = 33,
                       .logit_rows = 5,
                       .depth = 70};

const std::set<std::string> kOps = {
    "embed",    "linear",   "rmsnorm",       "add_rmsnorm", "groupnorm",   "activate",      "swiglu",
    "gate",     "rope",     "token_shift",   "shift_mix",   "attention",   "rwkv6_prepare", "rwkv7_prepare",
    "wkv6",     "wkv7",     "argmax",        "linear_vjp",  "rmsnorm_vjp", "swiglu_vjp",    "attention_vjp",
    "wkv6_vjp", "wkv7_vjp", "cross_entropy", "kl",          "align",       "adamw"};

/// The reference, but one operation moves an element of an output by a thousandth of the largest value.
struct Spoiled : Reference {
  explicit Spoiled(std::string op) : wrong(std::move(op)) {}
  std::string wrong;

  void spoil(const char* op, Tensor t) const {
    if (op != wrong) return;
    float largest = 0;
    for (int64_t i = 0; i < t.count(); ++i) largest = std::max(largest, std::abs(t.as<float>()[i]));
    t.as<float>()[t.count() - 1] += 1e-3f * largest;
  }
#define SPOIL(op, output, parameters, arguments) \
  void op parameters const override {            \
    Reference::op arguments;                     \
    spoil(#op, output);                          \
  }
  SPOIL(linear, p[0].y, (std::span<const Product> p), (p))
  SPOIL(linear_vjp, p[0].dweight, (Tensor x, Tensor dx, std::span<const ProductVjp> p, Into into), (x, dx, p, into))
  SPOIL(embed, y, (Tensor y, Tensor table, std::span<const int32_t> tokens), (y, table, tokens))
  SPOIL(rmsnorm, y, (Tensor y, Tensor x, Tensor gain, double eps), (y, x, gain, eps))
  SPOIL(rmsnorm_vjp, dx, (Tensor dx, Tensor dgain, Tensor dy, Tensor x, Tensor gain, double eps, Into into),
        (dx, dgain, dy, x, gain, eps, into))
  SPOIL(add_rmsnorm, sum, (Tensor sum, Tensor y, Tensor a, Tensor b, Tensor gain, double eps),
        (sum, y, a, b, gain, eps))
  SPOIL(groupnorm, y, (Tensor y, Tensor x, Tensor gain, Tensor bias, int heads, double eps),
        (y, x, gain, bias, heads, eps))
  SPOIL(activate, y, (Tensor y, Tensor x, Activation f, int64_t first), (y, x, f, first))
  SPOIL(swiglu, y, (Tensor y, Tensor g, Tensor up), (y, g, up))
  SPOIL(swiglu_vjp, dup, (Tensor dgate, Tensor dup, Tensor dy, Tensor g, Tensor up), (dgate, dup, dy, g, up))
  SPOIL(gate, y, (Tensor y, Tensor o, Tensor g, bool sigmoid), (y, o, g, sigmoid))
  SPOIL(rope, x, (Tensor x, Tensor table, bool transpose), (x, table, transpose))
  SPOIL(token_shift, delta, (Tensor delta, Tensor x, Batch batch, int64_t offset), (delta, x, batch, offset))
  SPOIL(shift_mix, y, (Tensor y, Tensor x, Tensor delta, Tensor mu, Tensor m), (y, x, delta, mu, m))
  SPOIL(attention, o,
        (Tensor o, Tensor q, Tensor k, Tensor v, const AttentionShape& shape, Batch batch, int64_t offset),
        (o, q, k, v, shape, batch, offset))
  SPOIL(attention_vjp, dv,
        (Tensor dq, Tensor dk, Tensor dv, Tensor d_o, Tensor q, Tensor k, Tensor v, Tensor o,
         const AttentionShape& shape, Batch batch),
        (dq, dk, dv, d_o, q, k, v, o, shape, batch))
  SPOIL(rwkv6_prepare, p.k_tilde, (const Rwkv6Prepare& p), (p))
  SPOIL(rwkv7_prepare, p.v_out, (const Rwkv7Prepare& p), (p))
  SPOIL(wkv6, o, (Tensor o, const Wkv6& p, Batch batch, int64_t offset), (o, p, batch, offset))
  SPOIL(wkv7, batch[0].state->at(0, p.heads* p.head* p.head), (Tensor o, const Wkv7& p, Batch batch, int64_t offset),
        (o, p, batch, offset))
  SPOIL(wkv6_vjp, d.v, (const Wkv6& d, Tensor d_o, const Wkv6& p, Batch batch), (d, d_o, p, batch))
  SPOIL(wkv7_vjp, d.a, (const Wkv7& d, Tensor d_o, const Wkv7& p, Batch batch), (d, d_o, p, batch))
  SPOIL(align, dys, (Tensor loss, Tensor dys, Tensor ys, Tensor yt, double weight), (loss, dys, ys, yt, weight))
  SPOIL(cross_entropy, loss,
        (Tensor loss, Tensor dlogits, Tensor logits, std::span<const int32_t> targets, double weight),
        (loss, dlogits, logits, targets, weight))
  SPOIL(kl, dstudent, (Tensor loss, Tensor dstudent, Tensor student, Tensor teacher, double weight),
        (loss, dstudent, student, teacher, weight))
  SPOIL(adamw, m, (const AdamW& rule, Tensor w, Tensor dw, Tensor m, Tensor v), (rule, w, dw, m, v))
#undef SPOIL
  void argmax(std::span<int32_t> best, Tensor logits) const override {
    Reference::argmax(best, logits);
    if (wrong == "argmax") ++best[0];
  }
};

std::set<std::string> wrong_ops(const Backend& on) {
  std::set<std::string> wrong;
  Arena memory;
  for (const OpCase& c : op_cases(kTiny))
    if (compare_with_reference(c, on, memory).difference > c.tolerance) wrong.insert(c.op);
  return wrong;
}

TEST(OpBench, EveryOperationAgreesWithTheReference) {
  std::set<std::string> seen;
  Arena memory;
  for (const std::string& name : available_backends())
    for (const Precision precision : {Precision::f32, Precision::bf16}) {
      if (precision == Precision::bf16 && !multiplies_bf16(name)) continue;
      const auto on = make_backend(name, precision);
      for (const OpCase& c : op_cases(kTiny)) {
        if (precision == Precision::bf16 && c.type != DType::bf16) continue;
        const Agreement found = compare_with_reference(c, *on, memory);
        EXPECT_LE(found.difference, c.tolerance) << name << " " << c.name() << ", rows " << c.rows;
        EXPECT_EQ(found.rows, c.rows) << c.name();
        seen.insert(c.op);
      }
    }
  EXPECT_EQ(seen, kOps);
}

/// Also shows that a case runs the operation that it names, and that one only.
TEST(OpBench, AWrongOperationIsNamed) {
  EXPECT_EQ(wrong_ops(Spoiled("")), std::set<std::string>{});
  for (const std::string& op : kOps) {
    std::set<std::string> expected = {op};
    if (op == "rmsnorm") expected.insert("add_rmsnorm");  // the reference does this with that
    EXPECT_EQ(wrong_ops(Spoiled(op)), expected);
  }
}

TEST(OpBench, CountsAndTimesThem) {
  const auto on = make_backend("auto", Precision::f32);
  Arena memory;
  for (const OpCase& c : op_cases(kTiny)) {
    const OpTime t = time_op(c, *on, memory, 1e-4);
    EXPECT_GT(t.seconds, 0) << c.name();
    EXPECT_EQ(t.peer_seconds, 0);
    if (c.op == "kl") {
      EXPECT_EQ(c.bytes, 12 * 5 * 333);
    }
    if (c.op == "attention" && c.rows == 1) {
      EXPECT_EQ(c.bytes, 8 * 71 * 32 + 8 * 96);
      EXPECT_EQ(c.operations, 4 * 71 * 96);
      EXPECT_TRUE(roof(c, 10, 1000).memory);
      EXPECT_DOUBLE_EQ(roof(c, 10, 1000).seconds, c.bytes / 10e9);
      EXPECT_DOUBLE_EQ(roof(c, 1000, 1).seconds, c.operations / 1e9);
    }
  }
}

/// The peer takes turns with us and is given every copy of the weights.
TEST(OpBench, APeerIsTimedBesideUs) {
  const auto on = make_backend("auto", Precision::f32);
  Arena memory;
  for (const OpCase& c : op_cases(kTiny)) {
    if (c.op != "linear" || c.rows != 1 || c.type != DType::f32) continue;
    std::set<int64_t> used;
    int64_t given = 0;
    const OpTime t = time_op(c, *on, memory, 0.01, nullptr, [&](const OpCase& k, int64_t copies) -> PeerCall {
      EXPECT_EQ(k.inputs, kTiny.hidden);
      given = copies;
      return [&](int64_t i) { used.insert(i); };
    });
    EXPECT_GT(t.peer_seconds, 0);
    EXPECT_GT(given * c.bytes, 200e6);
    EXPECT_EQ(static_cast<int64_t>(used.size()), given);
  }
}

}  // namespace
}  // namespace qwerky
