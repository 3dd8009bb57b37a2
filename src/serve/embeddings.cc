// SPDX-License-Identifier: MIT
#include "serve/embeddings.h"

#include <cmath>

#include "engine/prefill.h"
#include "serve/base64.h"

namespace qwerky::serve {
namespace {

constexpr int64_t kMostTokens = 32768;  // of one request

}  // namespace

std::vector<float> Embedder::embed(const Asked& asked, std::span<const int32_t> ids) {
  const std::lock_guard lock(one_at_a_time_);
  const Engine::Internals& in = asked.model.engine().internals();
  const Decoder& decoder = *in.model->decoder;
  const int64_t width = decoder.config().hidden;
  const auto state = decoder.make_state(in.backend->scalar(), static_cast<int64_t>(ids.size()));
  std::vector<double> sum(static_cast<size_t>(width));
  const Exec ex{*in.backend, scratch_};
  for (size_t at = 0; at < ids.size(); at += kPrefillRows) {
    check_wanted(asked);
    Scope scope(scratch_);
    const auto part = ids.subspan(at, std::min<size_t>(kPrefillRows, ids.size() - at));
    const Segment segment{state.get(), 0, static_cast<int64_t>(part.size())};
    const Tensor hidden = ex.make(segment.rows, width);
    decoder.forward(ex, part, {&segment, 1}, hidden);
    wait_for_device();
    for (int64_t i = 0; i < segment.rows * width; ++i)
      sum[static_cast<size_t>(i % width)] +=
          hidden.type == DType::f64 ? hidden.as<double>()[i] : static_cast<double>(hidden.as<float>()[i]);
  }
  double square = 0;
  for (const double x : sum) square += x * x;
  std::vector<float> out;
  for (const double x : sum) out.push_back(static_cast<float>(x / std::max(std::sqrt(square), 1e-12)));
  return out;
}

void Embedder::answer(const Asked& asked, const EmbeddingRequest& request) {
  check_wanted(asked);
  std::vector<std::vector<int32_t>> inputs;
  int64_t tokens = 0;
  for (const Prompt& input : request.inputs) {
    inputs.push_back(asked.model.ids_of(input, "input"));
    const auto size = static_cast<int64_t>(inputs.back().size());
    tokens += size;
    if (const int64_t most = asked.model.capacity(); most > 0 && size > most)
      throw RequestError(400, concat("input: ", size, " tokens, the model takes ", most), "input",
                         "context_length_exceeded");
  }
  if (tokens > kMostTokens) refuse_field("input", "expected at most ", kMostTokens, " tokens, found ", tokens);
  OrderedJson data = OrderedJson::array();
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::vector<float> vector = embed(asked, inputs[i]);
    OrderedJson one = {{"object", "embedding"}, {"index", i}};
    if (request.base64) {
      one["embedding"] = base64({reinterpret_cast<const char*>(vector.data()), vector.size() * sizeof(float)});
    } else {
      one["embedding"] = vector;
    }
    data.push_back(std::move(one));
  }
  answer_json(asked, {{"object", "list"},
                      {"data", std::move(data)},
                      {"model", asked.model.name()},
                      {"usage", {{"prompt_tokens", tokens}, {"total_tokens", tokens}}}});
}

}  // namespace qwerky::serve
