// SPDX-License-Identifier: MIT
#include "engine/throughput.h"

#include <algorithm>

#include "base/random.h"
#include "base/units.h"
#include "engine/prefill.h"
#include "io/files.h"

namespace qwerky {
namespace {

std::vector<int32_t> random_tokens(int64_t n, int64_t vocab) {
  const Random random(1, hash_name("throughput"));
  std::vector<int32_t> ids(static_cast<size_t>(n));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(random.below(i, static_cast<uint64_t>(vocab)));
  return ids;
}

/// As if `depth` tokens had been read: memory that is touched, numbers that neither grow nor vanish.
void pretend_depth(State& state, int64_t scalars, int64_t depth) {
  std::vector<float> values(4096);
  const Random random(2, hash_name("throughput"));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(0.02 * random.uniform(i) - 0.01);
  for (int64_t i = 0; i < scalars; i += 4096) {
    const int64_t n = std::min<int64_t>(4096, scalars - i);
    convert(state.at(i, n), Tensor(values.data(), DType::f32, {n}));
  }
  state.advance(depth);
}

int64_t capacity_of(const DecodeOptions& o) { return o.depth + o.tokens + 1; }

int64_t decode_bytes(const Model& model, const Backend& on, const DecodeOptions& o) {
  return o.batch * model.decoder->state_scalars(capacity_of(o)) * size_of(on.scalar());
}

}  // namespace

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<int64_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

ProductCost product_cost(const Model& model) {
  ProductCost cost;
  model.params.each([&](const Param& p) {
    if (!p.weight || p.use == Use::table || p.use == Use::elementwise) return;
    const bool head = &p == &model.decoder->head();
    (head ? cost.head_bytes : cost.layer_bytes) += p.weight.bytes();
    (head ? cost.head_params : cost.layer_params) += p.count();
  });
  return cost;
}

double measure_prefill(const Model& model, const Backend& on, int64_t rows, int64_t repeats) {
  const Decoder& decoder = *model.decoder;
  const std::vector<int32_t> ids = random_tokens(rows, decoder.config().vocab);
  Arena scratch("bench scratch");
  const Exec ex{on, scratch};
  const std::unique_ptr<State> state = decoder.make_state(on.scalar(), rows);
  std::vector<double> seconds;
  for (int64_t i = 0; i <= repeats; ++i) {
    Scope scope(scratch);
    state->reset();
    const Tensor logits = ex.make(1, decoder.config().vocab);
    const auto start = Clock::now();
    prefill(ex, decoder, *state, ids, logits);
    wait_for_device();
    if (i > 0) seconds.push_back(seconds_since(start));
  }
  return median(std::move(seconds));
}

bool decode_fits(const Model& model, const Backend& on, const DecodeOptions& o) {
  return decode_bytes(model, on, o) <= available_memory_bytes();
}

double measure_decode(const Model& model, const Backend& on, const DecodeOptions& o) {
  const Decoder& decoder = *model.decoder;
  const int64_t capacity = capacity_of(o), scalars = decoder.state_scalars(capacity);
  if (!decode_fits(model, on, o))
    fail("decode at depth ", o.depth, ": ", o.batch, " states need ", decode_bytes(model, on, o) >> 20,
         " MiB, this machine has ", available_memory_bytes() >> 20, " MiB available");
  std::vector<std::unique_ptr<State>> states;
  std::vector<Segment> batch;
  for (int64_t i = 0; i < o.batch; ++i) {
    states.push_back(decoder.make_state(on.scalar(), capacity));
    pretend_depth(*states.back(), scalars, o.depth);
    batch.push_back({states.back().get(), i, 1});
  }
  Arena scratch("bench scratch");
  const Exec ex{on, scratch};
  std::vector<int32_t> ids = random_tokens(o.batch, decoder.config().vocab);
  std::vector<double> seconds;
  for (int64_t i = 0; i <= o.tokens; ++i) {
    Scope scope(scratch);
    const auto start = Clock::now();
    const Tensor hidden = ex.make(o.batch, decoder.config().hidden), logits = ex.make(o.batch, decoder.config().vocab);
    on.repeat([&] {
      decoder.forward(ex, ids, batch, hidden);
      decoder.logits(ex, hidden, logits);
      on.argmax(ids, logits);
    });
    if (i > 0) seconds.push_back(seconds_since(start));
  }
  return median(std::move(seconds));
}

}  // namespace qwerky
