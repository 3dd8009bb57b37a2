// SPDX-License-Identifier: MIT
// The meaning of config.json. What is accepted must say the same after being written and read again, and so must its
// student's. First byte: whether the tensors of a file tell biases and ranks.
#include <cmath>

#include "base/error.h"
#include "io/files.h"
#include "model/config.h"

namespace {

using namespace qwerky;

/// Holds every tensor that is asked for, with as many columns as the input says.
class AnyTensor : public TensorSource {
 public:
  explicit AnyTensor(int64_t columns) : columns_(columns) {}
  std::string describe() const override { return "fuzz"; }
  std::vector<std::string> names() const override { return {}; }
  Tensor find(std::string_view) const override { return Tensor(values_, DType::f32, {1, columns_}); }

 private:
  mutable float values_[32] = {};
  int64_t columns_;
};

void survives(const Config& config) {
  const Json written = write_config(config);
  const Config again = read_config(parse_json(written.dump(), "again"), nullptr);
  CHECK(write_config(again) == written, written.dump(), " became ", write_config(again).dump());
  CHECK(again.mixers == config.mixers && again.windows == config.windows && again.sinks == config.sinks);
  CHECK(again.head_dim == config.head_dim && again.tied == config.tied && again.qk_norm == config.qk_norm &&
        again.qkv_bias == config.qkv_bias && again.o_bias == config.o_bias && again.norm_eps == config.norm_eps);
  const auto frequencies = config.rope.frequencies(config.head_dim);
  for (double frequency : frequencies) CHECK(std::isfinite(frequency));
  CHECK(again.rope.frequencies(again.head_dim) == frequencies && again.rope.magnitude() == config.rope.magnitude());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const AnyTensor tensors(data[0] / 8);
  try {
    const Config config = read_config(parse_json({reinterpret_cast<const char*>(data) + 1, size - 1}, "fuzz"),
                                      data[0] >= 8 ? &tensors : nullptr);
    if (config.layers > 64) return 0;  // longer, not different
    survives(config);
    for (MixerKind kind : {MixerKind::rwkv6, MixerKind::rwkv7}) survives(student_config(config, kind, {data[0] % 2}));
  } catch (const Error&) {
  }
  return 0;
}
