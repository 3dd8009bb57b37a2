// SPDX-License-Identifier: MIT
// The operations of backend.h on a device, by the file that has their kernels. Each is queued and returns at once, but
// for those that give a value to the host.
#pragma once

#include "backend/cuda/device.h"

namespace qwerky::cuda {

// products.cu
void linear(Device& on, Precision precision, std::span<const Product> products);
void linear_vjp(Device& on, Precision precision, Tensor x, Tensor dx, std::span<const ProductVjp> products, Into into);
// panels.cu
/// A product with weights in panels.
void linear_panels(Device& on, Precision precision, const Product& p);
void embed_panels(Device& on, Tensor y, Tensor table, std::span<const int32_t> tokens);
// embed.cu
void embed(Device& on, Tensor y, Tensor table, std::span<const int32_t> tokens);
void embed_vjp(Device& on, Tensor dtable, Tensor dy, std::span<const int32_t> tokens);

// rows.cu
void zero(Device& on, Tensor y);
void copy(Device& on, Tensor y, Tensor x);
void add(Device& on, Tensor y, Tensor x);
void lerp(Device& on, Tensor y, Tensor x, double t);
void activate(Device& on, Tensor y, Tensor x, Activation f, int64_t first);
void activate_vjp(Device& on, Tensor dx, Tensor dy, Tensor y, Activation f, int64_t first);
void swiglu(Device& on, Tensor y, Tensor gate, Tensor up);
void swiglu_vjp(Device& on, Tensor dgate, Tensor dup, Tensor dy, Tensor gate, Tensor up);
void gate(Device& on, Tensor y, Tensor o, Tensor g, bool squash);
void gate_vjp(Device& on, Tensor d_o, Tensor dg, Tensor dy, Tensor o, Tensor g, bool squash);
// norms.cu
void rmsnorm(Device& on, Tensor y, Tensor x, Tensor gain, double eps);
void rmsnorm_vjp(Device& on, Tensor dx, Tensor dgain, Tensor dy, Tensor x, Tensor gain, double eps, Into into);
void add_rmsnorm(Device& on, Tensor sum, Tensor y, Tensor a, Tensor b, Tensor gain, double eps);
void groupnorm(Device& on, Tensor y, Tensor x, Tensor gain, Tensor bias, int heads, double eps);
void groupnorm_vjp(Device& on, Tensor dx, Tensor dgain, Tensor dbias, Tensor dy, Tensor x, Tensor gain, int heads,
                   double eps);

// positions.cu
void rope_table(Device& on, Tensor table, std::span<const double> frequencies, double magnitude, Batch batch);
void rope(Device& on, Tensor x, Tensor table, bool transpose);
void token_shift(Device& on, Tensor delta, Tensor x, Batch batch, int64_t offset);
void token_shift_vjp(Device& on, Tensor dx, Tensor ddelta, Batch batch);
void shift_mix(Device& on, Tensor y, Tensor x, Tensor delta, Tensor mu, Tensor m);
void shift_mix_vjp(Device& on, Tensor dx, Tensor ddelta, Tensor dmu, Tensor dm, Tensor dy, Tensor delta, Tensor mu,
                   Tensor m);

// attention.cu (with attention_tiles.cu), attention_vjp.cu
void attention(Device& on, Precision precision, Tensor o, Tensor q, Tensor k, Tensor v, const AttentionShape& shape,
               Batch batch, int64_t offset);
void attention_vjp(Device& on, Tensor dq, Tensor dk, Tensor dv, Tensor d_o, Tensor q, Tensor k, Tensor v, Tensor o,
                   const AttentionShape& shape, Batch batch);
void attention_lags(Device& on, Tensor mass, Tensor sink, Tensor q, Tensor k, const AttentionShape& shape, Batch batch,
                    int64_t skip);
// prepare.cu
void rwkv6_prepare(Device& on, const Rwkv6Prepare& p);
void rwkv6_prepare_vjp(Device& on, const Rwkv6PrepareGrad& d, const Rwkv6Prepare& p);
void rwkv7_prepare(Device& on, const Rwkv7Prepare& p);
void rwkv7_prepare_vjp(Device& on, const Rwkv7PrepareGrad& d, const Rwkv7Prepare& p);
// wkv6.cu, wkv7.cu
void wkv6(Device& on, Precision precision, Tensor o, const Wkv6& p, Batch batch, int64_t offset);
void wkv6_vjp(Device& on, Precision precision, const Wkv6& d, Tensor d_o, const Wkv6& p, Batch batch);
void wkv7(Device& on, Precision precision, Tensor o, const Wkv7& p, Batch batch, int64_t offset);
void wkv7_vjp(Device& on, Precision precision, const Wkv7& d, Tensor d_o, const Wkv7& p, Batch batch);

// losses.cu
void align(Device& on, Tensor loss, Tensor dys, Tensor ys, Tensor yt, double weight);
void cross_entropy(Device& on, Tensor loss, Tensor dlogits, Tensor logits, std::span<const int32_t> targets,
                   double weight);
void kl(Device& on, Tensor loss, Tensor dstudent, Tensor student, Tensor teacher, double weight);
void argmax(Device& on, std::span<int32_t> best, Tensor logits);
double sum(Device& on, Tensor x);
double sum_of_squares(Device& on, Tensor x);
void adamw(Device& on, const AdamW& rule, Tensor w, Tensor dw, Tensor m, Tensor v);

}  // namespace qwerky::cuda
