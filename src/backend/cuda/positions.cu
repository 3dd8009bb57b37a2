// SPDX-License-Identifier: MIT
// Rotary angles, and what mixes a row with the one before it.
#include "backend/cuda/kernel.h"
#include "backend/cuda/operations.h"

namespace qwerky::cuda {

void rope_table(Device& on, Tensor table, std::span<const double> frequencies, double magnitude, Batch batch) {
  const auto half = static_cast<int64_t>(frequencies.size());
  const double* frequency = on.upload(frequencies);
  each_in_segments(on, batch, 0, half,
                   [=, to = table.as<float>()] __device__(const DeviceSegment& s, int64_t t, int64_t i) {
                     const double angle = static_cast<double>(s.position + t) * frequency[i];
                     float* row = to + (s.row + t) * 2 * half;
                     row[i] = static_cast<float>(magnitude * cos(angle));
                     row[half + i] = static_cast<float>(magnitude * sin(angle));
                   });
}

void rope(Device& on, Tensor x, Tensor table, bool transpose) {
  const int64_t N = table.cols(), half = N / 2, pairs = x.cols() / 2;
  each(on, x.count() / 2, [=, at = x.as<float>(), angles = table.as<float>()] __device__(int64_t pair) {
    const int64_t r = pair / pairs, head = pair % pairs / half, i = pair % half;
    const int64_t first = r * 2 * pairs + head * N + i, second = first + half;
    const float c = angles[r * N + i], s = transpose ? -angles[r * N + half + i] : angles[r * N + half + i];
    const float a = at[first], b = at[second];
    at[first] = a * c - b * s;
    at[second] = b * c + a * s;
  });
}

void token_shift(Device& on, Tensor delta, Tensor x, Batch batch, int64_t offset) {
  const int64_t D = x.cols();
  each_in_segments(
      on, batch, offset, D,
      [=, to = delta.as<float>(), from = x.as<float>()] __device__(const DeviceSegment& s, int64_t t, int64_t i) {
        const int64_t here = (s.row + t) * D + i;
        const float before = t > 0 ? from[here - D] : s.state != nullptr ? s.state[i] : 0;
        to[here] = before - from[here];
      });
  each_in_segments(on, batch, offset, D,
                   [=, from = x.as<float>()] __device__(const DeviceSegment& s, int64_t t, int64_t i) {
                     if (s.state != nullptr && t == s.rows - 1) s.state[i] = from[(s.row + t) * D + i];
                   });
}

void token_shift_vjp(Device& on, Tensor dx, Tensor ddelta, Batch batch) {
  const int64_t D = dx.cols();
  each_in_segments(
      on, batch, 0, D,
      [=, to = dx.as<float>(), from = ddelta.as<float>()] __device__(const DeviceSegment& s, int64_t t, int64_t i) {
        const int64_t here = (s.row + t) * D + i;
        to[here] += (t + 1 < s.rows ? from[here + D] : 0) - from[here];
      });
}

void shift_mix(Device& on, Tensor y, Tensor x, Tensor delta, Tensor mu, Tensor m) {
  const int64_t D = x.cols();
  each(on, y.count(),
       [=, to = y.as<float>(), from = x.as<float>(), step = delta.as<float>(), mus = Values(mu),
        ms = m.as<float>()] __device__(int64_t i) {
         to[i] = from[i] + step[i] * (mus[i % D] + (ms != nullptr ? ms[i] : 0));
       });
}

void shift_mix_vjp(Device& on, Tensor dx, Tensor ddelta, Tensor dmu, Tensor dm, Tensor dy, Tensor delta, Tensor mu,
                   Tensor m) {
  const int64_t D = dy.cols();
  if (dmu)
    add_column_sums(on, dmu.as<float>(), dy.row_count(), D,
                    [=, d = dy.as<float>(), step = delta.as<float>()] __device__(int64_t r, int64_t c) {
                      return d[r * D + c] * step[r * D + c];
                    });
  each(on, dy.count(),
       [=, to_x = dx.as<float>(), to_delta = ddelta.as<float>(), to_m = dm.as<float>(), from = dy.as<float>(),
        step = delta.as<float>(), mus = Values(mu), ms = m.as<float>()] __device__(int64_t i) {
         const float d = from[i];
         to_x[i] += d;
         to_delta[i] += d * (mus[i % D] + (ms != nullptr ? ms[i] : 0));
         if (to_m != nullptr) to_m[i] = d * step[i];
       });
}

}  // namespace qwerky::cuda
