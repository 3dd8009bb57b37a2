// SPDX-License-Identifier: MIT
#include "engine/engine.h"

#include <algorithm>

#include "base/units.h"
#include "engine/prefill.h"
#include "engine/sampler.h"

namespace qwerky {
namespace {

const Tokenizer& tokenizer_of(const Model& model, const char* use) {
  if (!model.tokenizer)
    fail(use, ": ", model.path.string(),
         " was opened for token ids only; open it with EngineOptions::tokenizer = true");
  return *model.tokenizer;
}

}  // namespace

Precision resolve_precision(const std::string& name, DType weights, const std::string& backend) {
  if (name == "f32") return Precision::f32;
  if (name == "bf16") return Precision::bf16;
  if (name != "auto") fail("--precision: expected auto, f32 or bf16, found ", name);
  return weights == DType::bf16 && multiplies_bf16(backend) ? Precision::bf16 : Precision::f32;
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
  Block memory;
  std::span<float> logits() const {
    return {reinterpret_cast<float*>(memory.data()), static_cast<size_t>(engine.vocab())};
  }
};

Session::Session(const Engine& engine, int64_t capacity)
    : timeline_(new Timeline{.engine = engine, .state = {}, .memory = Block(4 * engine.vocab(), "logits")}) {
  const auto& in = engine.internals();
  timeline_->state = in.model->decoder->make_state(in.backend->scalar(), capacity);
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
    prefill(ex, decoder, state, ids, Tensor(timeline_->memory.data(), DType::f32, {1, decoder.config().vocab}));
  wait_for_device();
}

std::span<const float> Session::logits() const { return timeline_->logits(); }
int64_t Session::position() const { return timeline_->state->position(); }
int64_t Session::state_bytes() const { return timeline_->state->bytes(); }

Session Session::fork() const {
  Session copy(timeline_->engine, timeline_->state->capacity());
  copy.timeline_->state->copy_from(*timeline_->state);
  std::ranges::copy(timeline_->logits(), copy.timeline_->logits().begin());
  return copy;
}

Generated generate(Session& session, const Engine& engine, std::span<const int32_t> prompt,
                   const GenerateOptions& options, const std::function<bool(int32_t)>& emit) {
  Sampler sampler(options.sampler, engine.vocab());
  if (prompt.empty()) fail("prompt: empty; expected at least one token, such as Engine::beginning() gives");
  Generated out;
  out.prompt_tokens = static_cast<int64_t>(prompt.size());
  const auto begin = Clock::now();
  session.append(prompt);
  sampler.read(prompt);
  out.prefill_seconds = seconds_since(begin);
  const auto start = Clock::now();
  for (int64_t i = 0; i < options.max_tokens; ++i) {
    const int32_t id = sampler.draw(session.logits());
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

}  // namespace qwerky
