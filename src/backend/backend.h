// SPDX-License-Identifier: MIT
// The contract between models and hardware: every operation a model, a loss or an optimiser may call. Each
// comment is the formula, the shapes and what the VJP writes. The mathematics itself is reference.h.
//
// Letters: R rows of a call (all segments together), D hidden size, H query heads, Hk key/value heads,
// N channels of a head, A = H·N, V vocabulary. Query head h reads key/value head h / (H / Hk).
// Unless a comment says "+=", an output is overwritten. Gradients of parameters are always "+=". A null Tensor
// among the gradients means "not wanted". Activations, states and gradients hold scalar(); weights may also be bf16, or
// matrices in panels (forward only). Row-wise outputs (activate, gate, norms and their VJPs) may be the memory of an
// input of the same shape. Operations may be queued on a device: the host waits before it looks (tensor/memory.h), but
// for what a function returns. Rows of a call do not change each other's results, to the bit on CPUs; on a device the
// order of a product's sums may depend on the number of rows.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tensor/state.h"
#include "tensor/tensor.h"

namespace qwerky {

/// y = x Wᵀ + b.   x [R, K]  W [out, K] (or [K, out] when in_out), or [out, K] in panels  b [out] or null  y [R, out]
/// With quantised panels, x is rounded too: in each group of inputs to d·q, d = max |x| / 127, q an integer, and the
/// codes are multiplied as integers.
struct Product {
  Tensor x, weight, bias, y;
  bool in_out = false;
};
/// dx = Σ dy W,  dW += dyᵀ x,  db += Σ_rows dy.
struct ProductVjp {
  Tensor weight, dweight, dbias, dy;
  bool in_out = false;
};

enum class Into { overwrite, add };
enum class Activation { tanh, sigmoid };

/// Softmax attention: o_t = Σ_s p_ts v_s, p_t = softmax_s(scale q_t·k_s) over the visible s: s <= t and
/// (window = 0, or t - s < window, or s < sinks). Positions count from the start of the sequence.
struct AttentionShape {
  int heads = 0, kv_heads = 0, head = 0;
  double scale = 1;
  int64_t window = 0, sinks = 0;
  /// Keys (and values) a state keeps: ring of `window` after `sinks`, or every position.
  int64_t slots(int64_t capacity) const { return window > 0 ? std::min(capacity, sinks + window) : capacity; }
  /// Where position p is kept.
  int64_t slot(int64_t p) const { return window == 0 || p < sinks ? p : sinks + (p - sinks) % window; }
};

/// What RAD-RWKV6 does to keys and decays between its projections and the recurrence.
///   log_w = max(-exp(decay), -5)      k_tilde = balance ? k (1 - exp(log_w)) : k
struct Rwkv6Prepare {
  int heads = 0, kv_heads = 0, head = 0;
  bool balance = true;
  Tensor k, decay;        // in:  [R, Hk·N], [R, A]
  Tensor log_w, k_tilde;  // out: [R, A] each
};

/// The same for RAD-RWKV7.   σ = logistic
///   log_w = -exp(-1/2) σ(decay)      a = σ(rate)
///   v_out = mix ? v + (v_first - v) σ(mix) : v;  without mix also v_first = v    (v repeated to H heads)
///   balance:  kappa = k / ‖k‖₂,               k_tilde = k (1 - exp(log_w) + a)
///   else:     kappa = k k_k / ‖k k_k‖₂,       k_tilde = k (1 + (a - 1) k_a)      (k repeated to H heads)
/// Norms are per head, as max(‖·‖₂, 1e-12).
struct Rwkv7Prepare {
  int heads = 0, kv_heads = 0, head = 0;
  bool balance = true;
  Tensor k, v;                             // in: [R, Hk·N]
  Tensor decay, rate, mix;                 // in: [R, A]; mix null in the layer that sets v_first
  Tensor k_k, k_a;                         // in: [A], only without balance
  Tensor v_first;                          // [R, A]: read with mix, written without
  Tensor log_w, k_tilde, kappa, a, v_out;  // out: [R, A]
};
/// Gradients of the fields above. In: log_w, k_tilde, kappa, a, v_out. Out: k, v, decay, rate, mix; v_first is
/// += with mix, and read (added to dv) without; k_k, k_a are +=.
using Rwkv7PrepareGrad = Rwkv7Prepare;
using Rwkv6PrepareGrad = Rwkv6Prepare;

/// S_t = diag(w_t) S_{t-1} + k_tᵀ v_t,   o_t = scale · r_t S_t;   S [H, N(key), N(value)] in the state.
/// r, log_w, k [R, A]; v [R, Hk·N]; o [R, A].
struct Wkv6 {
  int heads = 0, kv_heads = 0, head = 0;
  double scale = 1;
  Tensor r, log_w, k, v;
};

/// S_t = diag(w_t) S_{t-1} - (a_t κ_t)ᵀ (κ_t S_{t-1}) + k_tᵀ v_t,   o_t = scale · r_t S_t;
/// S [H, N(key), N(value)]. All [R, A]. This is the transpose of the paper's S.
struct Wkv7 {
  int heads = 0, head = 0;
  double scale = 1;
  Tensor r, log_w, k, v, kappa, a;
};

struct AdamW {
  double lr = 0, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0;
  int64_t step = 1;       ///< counts from 1, for bias correction
  double grad_scale = 1;  ///< multiplies every gradient (mean over lanes, clipping)
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;
  /// Element type of activations, states and gradients.
  virtual DType scalar() const = 0;
  /// Runs step(), whose operations come again and again in the same memory and shapes (of each size of batch), while
  /// tokens, states and positions change: decoding. A device may queue them together when step() returns or waits.
  virtual void repeat(const std::function<void()>& step) const { step(); }

  // Products.
  /// All products in one fork-join; the number of rows is common to all.
  virtual void linear(std::span<const Product> products) const = 0;
  /// Whether products run faster from panels, so that a model for inference should be packed when loaded.
  virtual bool prefers_panels() const = 0;
  /// Fills `panels` (tensor/panels.h) with a matrix [out, K], or [K, out] when in_out, of f32, bf16 or f16. Codes are
  /// rounded to nearest: symmetric with scale max |w| / 127 or 7 (the sign of the largest gets code 0), or with the
  /// minimum and maximum of the group. A stack [n, …] is packed matrix by matrix.
  virtual void pack(Tensor panels, Tensor rows, bool in_out) const = 0;
  /// dx may be null. With Into::add, dx +=.
  virtual void linear_vjp(Tensor x, Tensor dx, std::span<const ProductVjp> products, Into into) const = 0;
  /// y[r] = table[tokens[r]];  table [V, D] in rows or panels
  virtual void embed(Tensor y, Tensor table, std::span<const int32_t> tokens) const = 0;
  /// dtable[tokens[r]] += dy[r], in row order.
  virtual void embed_vjp(Tensor dtable, Tensor dy, std::span<const int32_t> tokens) const = 0;

  // Rows.
  virtual void zero(Tensor y) const = 0;
  /// y = x, rounded to nearest where y is bf16 and x f32.
  virtual void copy(Tensor y, Tensor x) const = 0;
  /// y += x
  virtual void add(Tensor y, Tensor x) const = 0;
  /// y += t (x - y)
  virtual void lerp(Tensor y, Tensor x, double t) const = 0;
  /// y = gain ⊙ x / sqrt(mean(x²) + eps) over the last axis; gain [cols].
  virtual void rmsnorm(Tensor y, Tensor x, Tensor gain, double eps) const = 0;
  /// dx (overwritten or +=), dgain += (may be null). dy and dx may be the same memory with Into::overwrite.
  virtual void rmsnorm_vjp(Tensor dx, Tensor dgain, Tensor dy, Tensor x, Tensor gain, double eps, Into into) const = 0;
  /// sum = a + b, y = rmsnorm(sum). sum may be a.
  virtual void add_rmsnorm(Tensor sum, Tensor y, Tensor a, Tensor b, Tensor gain, double eps) const = 0;
  /// Per head: y = (x - mean) / sqrt(var + eps) ⊙ gain + bias; x [R, heads·N], gain, bias [heads·N].
  virtual void groupnorm(Tensor y, Tensor x, Tensor gain, Tensor bias, int heads, double eps) const = 0;
  virtual void groupnorm_vjp(Tensor dx, Tensor dgain, Tensor dbias, Tensor dy, Tensor x, Tensor gain, int heads,
                             double eps) const = 0;
  /// y = f(x[:, first : first + cols(y)]).
  virtual void activate(Tensor y, Tensor x, Activation f, int64_t first) const = 0;
  /// dx[:, first : first + cols(y)] = dy f'(x), from y = f(x).
  virtual void activate_vjp(Tensor dx, Tensor dy, Tensor y, Activation f, int64_t first) const = 0;
  /// y = silu(gate) ⊙ up.
  virtual void swiglu(Tensor y, Tensor gate, Tensor up) const = 0;
  /// y = silu(gate) ⊙ up of two products of the same x; what their own y hold afterwards is unspecified.
  virtual void linear_swiglu(Tensor y, const Product& gate, const Product& up) const {
    linear(std::array{gate, up});
    swiglu(y, gate.y, up.y);
  }
  virtual void swiglu_vjp(Tensor dgate, Tensor dup, Tensor dy, Tensor gate, Tensor up) const = 0;
  /// y = o ⊙ g, or o ⊙ σ(g) when `sigmoid`.
  virtual void gate(Tensor y, Tensor o, Tensor g, bool sigmoid) const = 0;
  virtual void gate_vjp(Tensor d_o, Tensor dg, Tensor dy, Tensor o, Tensor g, bool sigmoid) const = 0;

  // Positions.
  /// table[r] = magnitude · (cos θ_0 … cos θ_{N/2-1}, sin θ_0 … sin θ_{N/2-1}), θ_i = position of row r · frequency_i.
  /// Angles are computed in f64. table [R, N].
  virtual void rope_table(Tensor table, std::span<const double> frequencies, double magnitude, Batch batch) const = 0;
  /// Rotates, in place, channels (i, i + N/2) of every head of x [R, heads·N] by θ_i, or by -θ_i when `transpose`
  /// (its own VJP).
  virtual void rope(Tensor x, Tensor table, bool transpose) const = 0;
  /// delta_t = x_{t-1} - x_t, where x_{-1} is the state's [D] at `offset` (zero without state), which becomes the
  /// segment's last row.
  virtual void token_shift(Tensor delta, Tensor x, Batch batch, int64_t offset) const = 0;
  /// dx_t += ddelta_{t+1} - ddelta_t within each segment.
  virtual void token_shift_vjp(Tensor dx, Tensor ddelta, Batch batch) const = 0;
  /// y = x + delta ⊙ (mu + m);  mu [D], m [R, D] or null.
  virtual void shift_mix(Tensor y, Tensor x, Tensor delta, Tensor mu, Tensor m) const = 0;
  /// dx +=, ddelta +=, dmu +=, dm = .
  virtual void shift_mix_vjp(Tensor dx, Tensor ddelta, Tensor dmu, Tensor dm, Tensor dy, Tensor delta, Tensor mu,
                             Tensor m) const = 0;

  // Mixers.
  /// Appends k, v [R, Hk·N] of each segment with a state to it (keys [slots, Hk·N], then values, at `offset`) and
  /// attends over what the state holds and the segment's own earlier rows. q, o [R, A].
  virtual void attention(Tensor o, Tensor q, Tensor k, Tensor v, const AttentionShape& shape, Batch batch,
                         int64_t offset) const = 0;
  /// Segments start at zero state. dq, dk, dv overwritten.
  virtual void attention_vjp(Tensor dq, Tensor dk, Tensor dv, Tensor d_o, Tensor q, Tensor k, Tensor v, Tensor o,
                             const AttentionShape& shape, Batch batch) const = 0;
  /// Teacher statistics: mass[h][τ] += Σ_t p_{t,t-τ} for lags τ < cols(mass) (the last bin takes all longer lags);
  /// rows t < skip of a segment are left out, and so is key 0 unless t = 0 (the sink), whose mass goes to
  /// sink[h] +=. mass [H, bins] and sink [H] in f64. Segments start at zero state.
  virtual void attention_lags(Tensor mass, Tensor sink, Tensor q, Tensor k, const AttentionShape& shape, Batch batch,
                              int64_t skip) const = 0;
  virtual void rwkv6_prepare(const Rwkv6Prepare& p) const = 0;
  virtual void rwkv6_prepare_vjp(const Rwkv6PrepareGrad& d, const Rwkv6Prepare& p) const = 0;
  virtual void rwkv7_prepare(const Rwkv7Prepare& p) const = 0;
  virtual void rwkv7_prepare_vjp(const Rwkv7PrepareGrad& d, const Rwkv7Prepare& p) const = 0;
  /// Continues from, and updates, the state [H, N, N] at `offset` of each segment.
  virtual void wkv6(Tensor o, const Wkv6& p, Batch batch, int64_t offset) const = 0;
  /// Segments start at zero state. All fields of d are written.
  virtual void wkv6_vjp(const Wkv6& d, Tensor d_o, const Wkv6& p, Batch batch) const = 0;
  virtual void wkv7(Tensor o, const Wkv7& p, Batch batch, int64_t offset) const = 0;
  virtual void wkv7_vjp(const Wkv7& d, Tensor d_o, const Wkv7& p, Batch batch) const = 0;
  /// At multiples of so many positions a sequence may be cut into calls without another bit from wkv7 (`seven`) or
  /// wkv6, heads having `head` channels. 1: anywhere, as where every row is computed alike; 0: nowhere.
  virtual int64_t wkv_border([[maybe_unused]] int head, [[maybe_unused]] bool seven) const { return 1; }

  // Losses and optimiser.
  /// loss[r] = weight ‖ys_r - yt_r‖₂ / sqrt(D); dys = its gradient (0 where the norm is 0).   ys, yt [R, D]
  virtual void align(Tensor loss, Tensor dys, Tensor ys, Tensor yt, double weight) const = 0;
  /// loss[r] = -weight log softmax(logits_r)[target_r]; dlogits = weight (softmax - onehot), may be logits itself.
  /// A negative target gives loss 0 and gradient 0.
  virtual void cross_entropy(Tensor loss, Tensor dlogits, Tensor logits, std::span<const int32_t> targets,
                             double weight) const = 0;
  /// loss[r] = weight Σ_v p_T (log p_T - log p_S); dstudent = weight (p_S - p_T), may be `student` itself.
  virtual void kl(Tensor loss, Tensor dstudent, Tensor student, Tensor teacher, double weight) const = 0;
  /// Index of the largest element of each row, the first among equals.
  virtual void argmax(std::span<int32_t> best, Tensor logits) const = 0;
  /// Sums in f64 in a fixed order (real parts).
  virtual double sum(Tensor x) const = 0;
  virtual double sum_of_squares(Tensor x) const = 0;
  /// g = grad_scale·dw;  m = β1 m + (1-β1) g;  v = β2 v + (1-β2) g²;
  /// w -= lr (m̂ / (sqrt(v̂) + eps) + weight_decay·w),  m̂ = m / (1-β1^step), v̂ = v / (1-β2^step).
  virtual void adamw(const AdamW& rule, Tensor w, Tensor dw, Tensor m, Tensor v) const = 0;
};

enum class Precision { f32, bf16 };  ///< of the operands of matrix products; sums are f32 always

/// "reference", "avx2", "avx512" or "cuda"; "auto" takes the best this machine has. bf16 products on f32 weights happen
/// only with Precision::bf16. Throws Error when the CPU lacks the instruction set, the machine a device, or the backend
/// bf16 products. Before models are made: their memory must be what a device addresses (tensor/memory.h).
std::unique_ptr<Backend> make_backend(const std::string& name, Precision precision);
/// What "auto" would take, and what this machine can run, best first.
std::vector<std::string> available_backends();
/// Whether the backend of that name ("auto" too) multiplies bf16 in hardware here.
bool multiplies_bf16(const std::string& backend);
/// Whether the CPU multiplies bf16 in hardware (AVX512_BF16).
bool has_native_bf16();
/// Whether it multiplies bytes in hardware (AVX512_VNNI).
bool has_native_int8();

}  // namespace qwerky
