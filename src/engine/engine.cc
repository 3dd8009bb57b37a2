// SPDX-License-Identifier: MIT
#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/random.h"
#include "base/units.h"
#include "engine/prefill.h"
#include "io/files.h"

namespace qwerky {
namespace {

const Tokenizer& tokenizer_of(const Model& model, const char* use) {
  if (!model.tokenizer)
    fail(use, ": ", model.path.string(),
         " was opened for token ids only; open it with EngineOptions::tokenizer = true");
  return *model.tokenizer;
}

}  // namespace

void SamplerOptions::check() const {
  if (!(temperature >= 0 && std::isfinite(temperature)))
    fail("temperature: expected a number of at least 0, found ", temperature);
  if (top_k < 0) fail("top-k: expected at least 0, found ", top_k);
  if (!(top_p >= 0 && top_p <= 1)) fail("top-p: expected a number from 0 to 1, found ", top_p);
}

Precision resolve_precision(const std::string& name, DType weights, const std::string& backend) {
  if (name == "f32") return Precision::f32;
  if (name == "bf16") return Precision::bf16;
  if (name != "auto") fail("--precision: expected auto, f32 or bf16, found ", name);
  const bool multiplies_bf16 = has_native_bf16() && (backend == "auto" || backend == "avx512");
  return weights == DType::bf16 && multiplies_bf16 ? Precision::bf16 : Precision::f32;
}

Precision precision_for(const Checkpoint& checkpoint, const std::string& backend, const std::string& precision) {
  DType weights = DType::f32;
  for (const std::string& name : checkpoint.tensors->names())
    if (checkpoint.tensors->info(name)->type == DType::bf16) weights = DType::bf16;
  return resolve_precision(precision, weights, backend);
}

std::unique_ptr<Backend> backend_for(const Checkpoint& checkpoint, const std::string& backend,
                                     const std::string& precision) {
  return make_backend(backend, precision_for(checkpoint, backend, precision));
}

Engine::Engine(const std::string& path, const EngineOptions& options) : internals_(std::make_unique<Internals>()) {
  const Checkpoint checkpoint = open_model(path);
  internals_->precision = precision_for(checkpoint, options.backend, options.precision);
  internals_->backend = make_backend(options.backend, internals_->precision);
  internals_->model = load_model(
      checkpoint, {.need_tokenizer = options.tokenizer, .pack_for = internals_->backend.get(), .copy = options.copy});
}

Engine::~Engine() = default;

std::vector<int32_t> Engine::encode(std::string_view text, bool special) const {
  return tokenizer_of(*internals_->model, "encode").encode(text, special);
}

std::string Engine::decode(std::span<const int32_t> ids) const {
  return tokenizer_of(*internals_->model, "decode").decode(ids, true);
}

std::vector<int32_t> Engine::beginning() const {
  const Tokenizer& t = tokenizer_of(*internals_->model, "beginning");
  if (t.bos) return {*t.bos};
  if (!t.eos.empty()) return {t.eos.front()};
  return {};
}

bool Engine::ends_text(int32_t id) const {
  const Tokenizer* t = internals_->model->tokenizer.get();
  if (t == nullptr) return false;
  return std::find(t->eos.begin(), t->eos.end(), id) != t->eos.end() || (t->bos && *t->bos == id);
}

int64_t Engine::vocab() const { return internals_->model->config().vocab; }

int64_t Engine::max_tokens() const {
  const Config& c = internals_->model->config();
  for (int64_t i = 0; i < c.layers; ++i)
    if (c.mixers[static_cast<size_t>(i)] == MixerKind::softmax && c.windows[static_cast<size_t>(i)] == 0)
      return c.max_positions;
  return 0;
}

struct Session::Timeline {
  const Engine& engine;
  Arena scratch{"session scratch"};
  std::unique_ptr<State> state;
  std::vector<float> logits;
};

Session::Session(const Engine& engine, int64_t capacity)
    : timeline_(new Timeline{.engine = engine, .state = {}, .logits = {}}) {
  const auto& in = engine.internals();
  timeline_->state = in.model->decoder->make_state(in.backend->scalar(), capacity);
  timeline_->logits.resize(static_cast<size_t>(engine.vocab()));
}

Session::Session(std::unique_ptr<Timeline> timeline) : timeline_(std::move(timeline)) {}
Session::Session(Session&&) noexcept = default;
Session::~Session() = default;

void Session::append(std::span<const int32_t> ids) {
  const auto& in = timeline_->engine.internals();
  const Decoder& decoder = *in.model->decoder;
  State& state = *timeline_->state;
  for (int32_t id : ids)
    if (id < 0 || id >= decoder.config().vocab)
      fail("token ", id, " is outside the vocabulary of ", decoder.config().vocab);
  if (timeline_->engine.max_tokens() > 0 && state.position() + static_cast<int64_t>(ids.size()) > state.capacity())
    fail("context: ", state.position() + static_cast<int64_t>(ids.size()), " tokens do not fit in the ",
         state.capacity(), " this session was made for");
  const Exec ex{*in.backend, timeline_->scratch};
  if (!ids.empty())
    prefill(ex, decoder, state, ids, Tensor(timeline_->logits.data(), DType::f32, {1, decoder.config().vocab}));
}

std::span<const float> Session::logits() const { return timeline_->logits; }
int64_t Session::position() const { return timeline_->state->position(); }
int64_t Session::state_bytes() const { return timeline_->state->bytes(); }

Session Session::fork() const {
  Session copy(timeline_->engine, timeline_->state->capacity());
  copy.timeline_->state->copy_from(*timeline_->state);
  copy.timeline_->logits = timeline_->logits;
  return copy;
}

int32_t sample(std::span<const float> logits, const SamplerOptions& options, int64_t index) {
  options.check();
  const auto best = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  if (options.temperature <= 0) return best;
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  size_t kept = order.size();
  const auto likelier = [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  };
  if (options.top_k > 0) kept = std::min(kept, static_cast<size_t>(options.top_k));
  const bool sorted = options.top_p < 1 || kept < order.size();
  if (sorted)
    std::partial_sort(order.begin(), order.begin() + static_cast<int64_t>(options.top_p < 1 ? order.size() : kept),
                      order.end(), likelier);
  std::vector<double> p(kept);
  double total = 0;
  for (size_t i = 0; i < kept; ++i) {
    const auto logit = static_cast<double>(logits[static_cast<size_t>(order[i])]);
    total += p[i] = std::exp((logit - static_cast<double>(logits[static_cast<size_t>(best)])) / options.temperature);
  }
  if (options.top_p < 1) {  // the smallest set of likeliest tokens with at least this mass
    double mass = 0;
    size_t n = 0;
    while (n < kept && mass < options.top_p * total) mass += p[n++];
    kept = std::max<size_t>(n, 1);
    total = mass;
  }
  double left = Random(options.seed, hash_name("sampler")).uniform(static_cast<uint64_t>(index)) * total;
  for (size_t i = 0; i < kept; ++i)
    if ((left -= p[i]) < 0) return order[i];
  return order[kept - 1];
}

Generated generate(Session& session, const Engine& engine, std::span<const int32_t> prompt,
                   const GenerateOptions& options, const std::function<bool(int32_t)>& emit) {
  options.sampler.check();
  if (prompt.empty()) fail("prompt: empty; expected at least one token, such as Engine::beginning() gives");
  Generated out;
  out.prompt_tokens = static_cast<int64_t>(prompt.size());
  const auto begin = Clock::now();
  session.append(prompt);
  out.prefill_seconds = seconds_since(begin);
  const auto start = Clock::now();
  for (int64_t i = 0; i < options.max_tokens; ++i) {
    const int32_t id = sample(session.logits(), options.sampler, i);
    if (options.stop_at_end && engine.ends_text(id)) {
      out.ended = true;
      break;
    }
    out.ids.push_back(id);
    if (emit && !emit(id)) break;
    if (i + 1 == options.max_tokens) break;
    session.append({&id, 1});
    ++out.decode_steps;
  }
  out.decode_seconds = seconds_since(start);
  return out;
}

std::string model_fingerprint(const Engine& engine) {
  const Model& model = *engine.internals().model;
  std::string all = model.config_json.dump() + engine.internals().backend->name() +
                    (engine.internals().precision == Precision::bf16 ? " bf16" : " f32");
  model.params.each([&](const Param& p) {
    if (!p.weight) return;
    all += concat(p.name, p.shape.str(), name_of(p.weight.type));
    constexpr int64_t kSamples = 64, kBytes = 16;
    const int64_t bytes = p.weight.bytes(), step = std::max<int64_t>(kBytes, bytes / kSamples);
    for (int64_t at = 0; at + kBytes <= bytes; at += step)
      all.append(static_cast<const char*>(p.weight.data) + at, static_cast<size_t>(kBytes));
  });
  return sha256(all);
}

}  // namespace qwerky
