// SPDX-License-Identifier: MIT
#include "engine/op_cases.h"

#include <array>
#include <cctype>
#include <cmath>
#include <cstring>
#include <map>

#include "base/random.h"
#include "tensor/panels.h"

namespace qwerky {
namespace {

constexpr int64_t kEmbedCalls = 64;  // before the same tokens come again
constexpr size_t kNumbers = 65521;   // a prime: rows of a matrix are not equal

/// Of sums and elementwise work in f32; of a product's sum of some thousand terms; of recurrences over many rows, whose
/// roundings are carried on.
constexpr double kRow = 2e-6, kSum = 1e-5, kCarried = 3e-5;

const std::vector<double>& numbers() {
  static const std::vector<double> values = [] {
    std::vector<double> u(kNumbers);
    const Random random(1, hash_name("operands"));
    for (size_t i = 0; i < u.size(); ++i) u[i] = random.uniform(i);
    return u;
  }();
  return values;
}

std::span<const int32_t> span_of(Tensor ids) { return {ids.as<int32_t>(), static_cast<size_t>(ids.count())}; }

/// r, log_w, k, v, kappa, a as a layer makes them, or room for their gradients.
template <class Op>
Op wkv_operands(Operands& x, const OpSizes& z, int64_t rows) {
  const int64_t A = z.heads * z.head;
  const double unit = std::sqrt(3.0 / z.head);  // a head of κ has norm 1
  Op p;
  p.heads = z.heads, p.head = z.head, p.scale = 1 / std::sqrt(static_cast<double>(z.head));
  p.r = x.uniform({rows, A}), p.log_w = x.uniform({rows, A}, -0.6, -0.001), p.k = x.uniform({rows, A});
  if constexpr (std::is_same_v<Op, Wkv6>) {
    p.kv_heads = z.kv_heads;
    p.v = x.uniform({rows, z.kv_heads * z.head});
  } else {
    p.v = x.uniform({rows, A}), p.kappa = x.uniform({rows, A}, -unit, unit), p.a = x.uniform({rows, A}, 0, 1);
  }
  return p;
}

/// The value of a formula: sums of products of numbers, letters and sums in parentheses, "4R(D+F)+2A".
class Formula {
 public:
  Formula(const std::string& text, const std::map<char, double>& letters) : text_(text), letters_(letters) {}
  double sum() {
    double total = product();
    while (at_ < text_.size() && text_[at_] == '+') ++at_, total += product();
    return total;
  }

 private:
  double product() {
    double value = 1;
    for (; at_ < text_.size() && text_[at_] != '+' && text_[at_] != ')'; ++at_) {
      if (std::isdigit(text_[at_])) {
        size_t digits = 0;
        value *= std::stod(text_.substr(at_), &digits);
        at_ += digits - 1;
      } else {
        value *= text_[at_] == '(' ? (++at_, sum()) : letters_.at(text_[at_]);
      }
    }
    return value;
  }

  std::string text_;
  const std::map<char, double>& letters_;
  size_t at_ = 0;
};

AttentionShape attention_shape(const OpSizes& z) {
  return {.heads = z.heads,
          .kv_heads = z.kv_heads,
          .head = z.head,
          .scale = 1 / std::sqrt(static_cast<double>(z.head)),
          .window = 0,
          .sinks = 0};
}

}  // namespace

Tensor Operands::place(Tensor t, const std::function<void(Tensor)>& fill) {
  if (like_ == nullptr) {
    fill(t);
  } else {
    const Tensor& from = like_->made_.at(made_.size());
    CHECK(from.bytes() >= t.bytes(), "operands copied from fewer rows");
    std::memcpy(t.data, from.data, static_cast<size_t>(t.bytes()));
  }
  made_.push_back(t);
  return t;
}

Tensor Operands::uniform(Shape shape, double low, double high, DType type) {
  return place(arena_.tensor(type, shape), [&](Tensor t) {
    size_t at = made_.size() * 7919 % kNumbers;
    for (int64_t i = 0; i < t.count(); ++i, at = at + 1 == kNumbers ? 0 : at + 1) {
      const bf16 rounded(static_cast<float>(low + (high - low) * numbers()[at]));
      if (type == DType::bf16)
        t.as<bf16>()[i] = rounded;
      else
        t.as<float>()[i] = static_cast<float>(rounded);
    }
  });
}

Tensor Operands::panels(const PanelFormat& format, int64_t outputs, int64_t inputs) {
  return place(arena_.panels(format, {outputs, inputs}), [&](Tensor t) {
    Arena once("operands to pack");
    on_.pack(t, Operands(once, on_).uniform({outputs, inputs}, -1, 1, DType::bf16), false);
  });
}

Tensor Operands::ids(int64_t n, int64_t below) {
  return place(arena_.tensor(DType::i32, {n}), [&](Tensor t) {
    for (int64_t i = 0; i < n; ++i)
      t.as<int32_t>()[i] =
          static_cast<int32_t>(Random(2).below(static_cast<uint64_t>(i), static_cast<uint64_t>(below)));
  });
}

State* Operands::state(int64_t scalars, int64_t position, int64_t more) {
  State& s = states_.emplace_back(DType::f32, scalars, position + more);
  s.advance(position);
  const Tensor t = s.at(0, scalars);
  place(t, [&](Tensor to) {
    for (int64_t i = 0; i < scalars; ++i) to.as<float>()[i] = static_cast<float>(numbers()[size_t(i) % kNumbers] - 0.5);
  });
  return &s;
}

OpSizes op_sizes(const Config& c) {
  return {.hidden = c.hidden,
          .intermediate = c.intermediate,
          .vocab = c.vocab,
          .heads = static_cast<int>(c.heads),
          .kv_heads = static_cast<int>(c.kv_heads),
          .head = static_cast<int>(c.head_dim)};
}

std::vector<OpCase> op_cases(const OpSizes& z) {
  const int64_t many = z.rows, logit_rows = std::min(z.rows, z.logit_rows), depth = z.depth;
  const int64_t d = z.hidden, f = z.intermediate, v = z.vocab, a = z.heads * z.head, w = z.kv_heads * z.head;
  std::map<char, double> letters;  // of the formulas; M is the bytes of a product's weights
  for (const auto& [letter, value] : {std::pair{'D', d}, {'F', f}, {'V', v}, {'A', a}, {'W', w}, {'T', depth}})
    letters[letter] = static_cast<double>(value);
  letters['N'] = z.head;
  const AttentionShape attention = attention_shape(z);
  std::vector<OpCase> all;
  using Make = std::function<OpRun(Operands&, int64_t)>;
  const auto add = [&](const std::string& op, int64_t rows, const std::string& bytes, const std::string& operations,
                       double tolerance, const Make& make) -> OpCase& {
    letters['R'] = static_cast<double>(rows);
    OpCase c{.op = op, .rows = rows, .bytes_formula = bytes, .operations_formula = operations, .make = make};
    c.tolerance = tolerance;
    c.bytes = Formula(bytes, letters).sum(), c.operations = Formula(operations, letters).sum();
    return all.emplace_back(std::move(c));
  };

  // Inference.
  for (const bool packed : {false, true}) {
    add("embed", many, "6RD", "0", 0, [=](Operands& x, int64_t r) {
      const Tensor table = packed ? x.panels({DType::bf16, 0, false}, v, d) : x.uniform({v, d}, -1, 1, DType::bf16);
      const Tensor y = x.uniform({r, d}), ids = x.ids(kEmbedCalls * r, v);
      // Each call takes other rows of the table, so that they come from memory.
      const auto calls = std::make_shared<int64_t>(0);
      return OpRun{[=](const Backend& on) { on.embed(y, table, span_of(ids.rows((*calls)++ % kEmbedCalls * r, r))); },
                   {y}};
    }).variant = packed ? "panels" : "rows";
  }
  for (const PanelFormat& format :
       {PanelFormat{DType::f32, 0, false}, {DType::bf16, 0, false}, {DType::i8, 64, false}, {DType::i4, 64, false}})
    for (const int64_t rows : {int64_t{1}, std::min<int64_t>(16, many), many}) {
      letters['M'] = static_cast<double>(PanelsOf(format, f, d).bytes());
      OpCase& c = add("linear", rows, "M+4R(D+F)", "2RDF", kSum, [=](Operands& x, int64_t r) {
        const Tensor weight = x.panels(format, f, d), in = x.uniform({r, d}), y = x.uniform({r, f});
        return OpRun{[=](const Backend& on) { on.linear(std::array{Product{in, weight, {}, y}}); }, {y}};
      });
      c.variant = name_of(format.type), c.type = format.type, c.streams = true, c.inputs = d, c.outputs = f;
    }
  add("rmsnorm", many, "8RD", "4RD", kRow, [=](Operands& x, int64_t r) {
    const Tensor y = x.uniform({r, d}), in = x.uniform({r, d}), gain = x.uniform({d});
    return OpRun{[=](const Backend& on) { on.rmsnorm(y, in, gain, 1e-6); }, {y}};
  });
  add("add_rmsnorm", many, "16RD", "5RD", kRow, [=](Operands& x, int64_t r) {
    const Tensor sum = x.uniform({r, d}), y = x.uniform({r, d}), p = x.uniform({r, d}), q = x.uniform({r, d});
    const Tensor gain = x.uniform({d});
    return OpRun{[=](const Backend& on) { on.add_rmsnorm(sum, y, p, q, gain, 1e-6); }, {sum, y}};
  });
  add("groupnorm", many, "8RA", "7RA", kRow, [=](Operands& x, int64_t r) {
    const Tensor y = x.uniform({r, a}), in = x.uniform({r, a}), gain = x.uniform({a}), bias = x.uniform({a});
    return OpRun{[=](const Backend& on) { on.groupnorm(y, in, gain, bias, z.heads, 1e-5); }, {y}};
  });
  for (const Activation act : {Activation::tanh, Activation::sigmoid}) {
    const bool tanh = act == Activation::tanh;
    add("activate", many, "8RD", tanh ? "RD" : "3RD", kRow, [=](Operands& x, int64_t r) {
      const Tensor y = x.uniform({r, d}), in = x.uniform({r, d}, -4, 4);
      return OpRun{[=](const Backend& on) { on.activate(y, in, act, 0); }, {y}};
    }).variant = tanh ? "tanh" : "sigmoid";
  }
  add("swiglu", many, "12RF", "4RF", kRow, [=](Operands& x, int64_t r) {
    const Tensor y = x.uniform({r, f}), gate = x.uniform({r, f}, -4, 4), up = x.uniform({r, f});
    return OpRun{[=](const Backend& on) { on.swiglu(y, gate, up); }, {y}};
  });
  add("gate", many, "12RA", "4RA", kRow, [=](Operands& x, int64_t r) {
    const Tensor y = x.uniform({r, a}), o = x.uniform({r, a}), g = x.uniform({r, a}, -4, 4);
    return OpRun{[=](const Backend& on) { on.gate(y, o, g, true); }, {y}};
  });
  add("rope", many, "8RA+4RN", "3RA", kRow, [=](Operands& x, int64_t r) {
    const Tensor y = x.uniform({r, a}), table = x.uniform({r, z.head});
    std::vector<double> frequencies(static_cast<size_t>(z.head / 2));
    for (size_t i = 0; i < frequencies.size(); ++i) frequencies[i] = std::pow(0.75, static_cast<double>(i));
    x.on().rope_table(table, frequencies, 1, std::array{Segment{nullptr, 0, r}});
    return OpRun{[=](const Backend& on) { on.rope(y, table, false); }, {y}};
  });
  add("token_shift", many, "8RD", "RD", kRow, [=](Operands& x, int64_t r) {
    const Tensor delta = x.uniform({r, d}), in = x.uniform({r, d});
    const Segment segment{x.state(d, 0, r), 0, r};
    return OpRun{[=](const Backend& on) { on.token_shift(delta, in, {&segment, 1}, 0); }, {delta}};
  });
  add("shift_mix", many, "16RD", "3RD", kRow, [=](Operands& x, int64_t r) {
    const Tensor y = x.uniform({r, d}), in = x.uniform({r, d}), delta = x.uniform({r, d}), m = x.uniform({r, d});
    const Tensor mu = x.uniform({d});
    return OpRun{[=](const Backend& on) { on.shift_mix(y, in, delta, mu, m); }, {y}};
  });
  const auto attend = [&](int64_t seen, int64_t rows, const std::string& bytes,
                          const std::string& operations) -> OpCase& {
    return add("attention", rows, bytes, operations, kSum, [=](Operands& x, int64_t r) {
      const Tensor o = x.uniform({r, a}), q = x.uniform({r, a}, -4, 4), k = x.uniform({r, w}), u = x.uniform({r, w});
      const Segment segment{seen > 0 ? x.state(2 * (seen + r) * w, seen, r) : nullptr, 0, r};
      return OpRun{[=](const Backend& on) { on.attention(o, q, k, u, attention, {&segment, 1}, 0); }, {o}};
    });
  };
  OpCase& deep = attend(depth, 1, "8(T+1)W+8A", "4(T+1)A");
  deep.variant = "depth " + std::to_string(depth), deep.streams = true;
  attend(0, many, "8R(A+W)", "2R(R+1)A");
  add("rwkv6_prepare", many, "4R(W+3A)", "5RA", kRow, [=](Operands& x, int64_t r) {
    Rwkv6Prepare p;
    p.heads = z.heads, p.kv_heads = z.kv_heads, p.head = z.head;
    p.k = x.uniform({r, w}), p.decay = x.uniform({r, a}, -6, 1);
    p.log_w = x.uniform({r, a}), p.k_tilde = x.uniform({r, a});
    return OpRun{[=](const Backend& on) { on.rwkv6_prepare(p); }, {p.log_w, p.k_tilde}};
  });
  add("rwkv7_prepare", many, "4R(2W+9A)", "20RA", kRow, [=](Operands& x, int64_t r) {
    Rwkv7Prepare p;
    p.heads = z.heads, p.kv_heads = z.kv_heads, p.head = z.head;
    p.k = x.uniform({r, w}), p.v = x.uniform({r, w});
    for (Tensor* in : {&p.decay, &p.rate, &p.mix}) *in = x.uniform({r, a}, -3, 3);
    for (Tensor* t : {&p.v_first, &p.log_w, &p.k_tilde, &p.kappa, &p.a, &p.v_out}) *t = x.uniform({r, a});
    return OpRun{[=](const Backend& on) { on.rwkv7_prepare(p); }, {p.log_w, p.k_tilde, p.kappa, p.a, p.v_out}};
  });
  // Operations are those of the plain recurrence; a kernel that works in chunks does others.
  for (const int64_t rows : {int64_t{1}, many}) {
    const auto from_state = [=](Operands& x, int64_t r, auto op, auto run) {
      const auto p = wkv_operands<decltype(op)>(x, z, r);
      const Tensor o = x.uniform({r, a});
      const Segment segment{x.state(a * z.head, 0, r), 0, r};
      OpRun it{[=](const Backend& on) { run(on, o, p, Batch(&segment, 1)); }, {o}};
      if (r == rows) it.outputs.push_back(segment.state->at(0, a * z.head));
      return it;
    };
    add("wkv6", rows, "4R(4A+W)+8AN", "6RAN", kCarried, [=](Operands& x, int64_t r) {
      return from_state(x, r, Wkv6{}, [](const Backend& on, Tensor o, const Wkv6& p, Batch b) { on.wkv6(o, p, b, 0); });
    }).streams = rows == 1;
    add("wkv7", rows, "28RA+8AN", "10RAN", kCarried, [=](Operands& x, int64_t r) {
      return from_state(x, r, Wkv7{}, [](const Backend& on, Tensor o, const Wkv7& p, Batch b) { on.wkv7(o, p, b, 0); });
    }).streams = rows == 1;
  }
  add("argmax", 1, "4RV", "RV", 0, [=](Operands& x, int64_t r) {
    const Tensor best = x.ids(r, 1), logits = x.uniform({r, v});
    return OpRun{[=](const Backend& on) { on.argmax({best.as<int32_t>(), static_cast<size_t>(r)}, logits); }, {best}};
  });

  // Training.
  for (const DType type : {DType::f32, DType::bf16}) {
    OpCase& c = add("linear_vjp", many, "12DF+4R(2D+F)", "4RDF", kSum, [=](Operands& x, int64_t r) {
      const Tensor in = x.uniform({r, d}), dx = x.uniform({r, d}), dy = x.uniform({r, f});
      const Tensor weight = x.uniform({f, d}), dweight = x.uniform({f, d});
      return OpRun{[=](const Backend& on) {
                     on.linear_vjp(in, dx, std::array{ProductVjp{weight, dweight, {}, dy}}, Into::overwrite);
                   },
                   {dx, dweight}};
    });
    c.variant = name_of(type), c.type = type, c.by_row = false;
  }
  add("rmsnorm_vjp", many, "12RD", "12RD", kSum, [=](Operands& x, int64_t r) {
    const Tensor dx = x.uniform({r, d}), dy = x.uniform({r, d}), in = x.uniform({r, d});
    const Tensor gain = x.uniform({d}), dgain = x.uniform({d});
    return OpRun{[=](const Backend& on) { on.rmsnorm_vjp(dx, dgain, dy, in, gain, 1e-6, Into::overwrite); },
                 {dx, dgain}};
  }).by_row = false;
  add("swiglu_vjp", many, "20RF", "10RF", kRow, [=](Operands& x, int64_t r) {
    const Tensor dgate = x.uniform({r, f}), dup = x.uniform({r, f}), dy = x.uniform({r, f});
    const Tensor gate = x.uniform({r, f}, -4, 4), up = x.uniform({r, f});
    return OpRun{[=](const Backend& on) { on.swiglu_vjp(dgate, dup, dy, gate, up); }, {dgate, dup}};
  });
  add("attention_vjp", many, "16R(A+W)", "5R(R+1)A", kSum, [=](Operands& x, int64_t r) {
    const Tensor dq = x.uniform({r, a}), dk = x.uniform({r, w}), dv = x.uniform({r, w}), d_o = x.uniform({r, a});
    const Tensor q = x.uniform({r, a}, -4, 4), k = x.uniform({r, w}), u = x.uniform({r, w}), o = x.uniform({r, a});
    return OpRun{[=](const Backend& on) {
                   on.attention_vjp(dq, dk, dv, d_o, q, k, u, o, attention, std::array{Segment{nullptr, 0, r}});
                 },
                 {dq, dk, dv}};
  }).by_row = false;
  add("wkv6_vjp", many, "4R(7A+2W)", "20RAN", kCarried, [=](Operands& x, int64_t r) {
    const auto p = wkv_operands<Wkv6>(x, z, r), grad = wkv_operands<Wkv6>(x, z, r);
    const Tensor d_o = x.uniform({r, a});
    return OpRun{[=](const Backend& on) {
                   on.wkv6_vjp(grad, d_o, p, std::array{Segment{nullptr, 0, r}});
                 },
                 {grad.r, grad.log_w, grad.k, grad.v}};
  }).by_row = false;
  add("wkv7_vjp", many, "52RA", "40RAN", kCarried, [=](Operands& x, int64_t r) {
    const auto p = wkv_operands<Wkv7>(x, z, r), grad = wkv_operands<Wkv7>(x, z, r);
    const Tensor d_o = x.uniform({r, a});
    return OpRun{[=](const Backend& on) {
                   on.wkv7_vjp(grad, d_o, p, std::array{Segment{nullptr, 0, r}});
                 },
                 {grad.r, grad.log_w, grad.k, grad.v, grad.kappa, grad.a}};
  }).by_row = false;
  add("cross_entropy", logit_rows, "8RV", "5RV", kRow, [=](Operands& x, int64_t r) {
    const Tensor loss = x.uniform({r}), dlogits = x.uniform({r, v}), logits = x.uniform({r, v}, -8, 8);
    const Tensor targets = x.ids(r, v);
    return OpRun{[=](const Backend& on) { on.cross_entropy(loss, dlogits, logits, span_of(targets), 1); },
                 {loss, dlogits}};
  });
  add("kl", logit_rows, "12RV", "12RV", kSum, [=](Operands& x, int64_t r) {
    const Tensor loss = x.uniform({r}), dstudent = x.uniform({r, v});
    const Tensor student = x.uniform({r, v}, -8, 8), teacher = x.uniform({r, v}, -8, 8);
    return OpRun{[=](const Backend& on) { on.kl(loss, dstudent, student, teacher, 1); }, {loss, dstudent}};
  });
  add("align", many, "12RD", "5RD", kRow, [=](Operands& x, int64_t r) {
    const Tensor loss = x.uniform({r}), dys = x.uniform({r, d}), ys = x.uniform({r, d}), yt = x.uniform({r, d});
    return OpRun{[=](const Backend& on) { on.align(loss, dys, ys, yt, 1); }, {loss, dys}};
  });
  add("adamw", f, "28RD", "15RD", kRow, [=](Operands& x, int64_t r) {
    const Tensor weight = x.uniform({r, d}), dw = x.uniform({r, d}), m = x.uniform({r, d}), u = x.uniform({r, d}, 0, 1);
    const AdamW rule{.lr = 1e-2, .weight_decay = 0.1, .step = 7, .grad_scale = 0.5};
    return OpRun{[=](const Backend& on) { on.adamw(rule, weight, dw, m, u); }, {weight, m, u}};
  }).streams = true;
  return all;
}

}  // namespace qwerky
