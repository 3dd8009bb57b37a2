// SPDX-License-Identifier: MIT
#include "serve/generations.h"

#include <algorithm>
#include <random>

#include "engine/sampler.h"
#include "serve/states.h"

namespace qwerky::serve {
namespace {

constexpr int64_t kCompletionTokens = 16;  // OpenAI's default
constexpr int64_t kBoundaries = 4;         // messages from the end whose states are kept

SamplerOptions sampler_of(const ServedModel& model, const GenerationRequest& request) {
  SamplerOptions out = request.sampler;
  for (const auto& [id, bias] : out.logit_bias)
    if (id >= model.engine().vocab())
      refuse_field("logit_bias", "expected token ids below ", model.engine().vocab(), ", found ", id);
  if (out.dry_multiplier > 0) out.dry_breakers = dry_breakers(model.tokenizer(), request.dry_breakers);
  out.seed = request.seed ? *request.seed : std::random_device()();
  return out;
}

/// How many tokens may be written: what was asked for, or what fits.
int64_t tokens_of(const ServedModel& model, const GenerationRequest& request, int64_t held, int64_t otherwise) {
  const int64_t most = model.capacity();
  if (most == 0) return request.max_tokens.value_or(otherwise);
  const int64_t unread = request.save_state.empty() ? 1 : 0;  // the last, but for a state to be saved
  const int64_t wanted = request.max_tokens.value_or(std::clamp<int64_t>(most - held + unread, 1, otherwise));
  if (held + std::max<int64_t>(0, wanted - unread) > most)
    throw RequestError(
        400, concat("the context holds ", most, " tokens; this request has ", held, " and asks for ", wanted, " more"),
        "max_tokens", "context_length_exceeded");
  return wanted;
}

std::unique_ptr<Constraint> constraint_of(ServedModel& model, const GenerationRequest& request) {
  using Format = GenerationRequest::Format;
  if (request.format == Format::text) return nullptr;
  return model.json(request.format == Format::schema ? &request.schema : nullptr);
}

Exchange::Options options_of(const GenerationRequest& request) {
  Exchange::Options out;
  out.stream = request.stream;
  out.include_usage = request.include_usage;
  out.logprobs = request.logprobs;
  out.answers_per_prompt = request.n;
  out.save_state = request.save_state;
  out.answer.stops = request.stop;
  out.answer.tell_tokens = request.logprobs >= 0;
  return out;
}

/// Throws RequestError when the answers would begin with more tokens, all together, than a request may have.
void check_tokens(const std::vector<Generation>& generations, const RequestLimits& limits) {
  int64_t all = 0;
  for (const Generation& g : generations)
    all += static_cast<int64_t>(g.prompt.size() + (g.start ? g.start->ids.size() : 0));
  if (all > limits.prompt_tokens)
    throw RequestError(400,
                       concat("all answers together begin with ", all, " tokens, the prompt's times n; at most ",
                              limits.prompt_tokens, " are allowed in one request"),
                       "n", "too_many_tokens");
}

/// Throws RequestError when more log-probabilities may be told than one request may hold in memory: a token takes about
/// 220 bytes for each of its alternatives, until the answer is written, and as much as four of them for itself.
void check_told(const std::vector<Generation>& generations, const Exchange::Options& options,
                const RequestLimits& limits) {
  if (options.logprobs < 0) return;
  int64_t tokens = 0;
  for (const Generation& g : generations)
    tokens += g.max_tokens + (options.echo ? static_cast<int64_t>(g.prompt.size()) : 0);
  if (const int64_t most = limits.told_numbers / (options.logprobs + 4); tokens > most)
    throw RequestError(400,
                       concat("log-probabilities with ", options.logprobs, " alternatives are told for at most ", most,
                              " tokens in one request; this one may have ", tokens, ", max_tokens times n",
                              options.echo ? " and the prompt's" : ""),
                       "logprobs", "too_many_logprobs");
}

/// n answers to one prompt; number i has seed + i.
void add_answers(std::vector<Generation>& out, const ServedModel& model, const GenerationRequest& request,
                 const SamplerOptions& sampler, const SharedIds& ids, const std::vector<int64_t>& boundaries,
                 const SnapshotPtr& start, int64_t otherwise, const Constraint* constraint) {
  const auto held = static_cast<int64_t>(ids.size() + (start ? start->ids.size() : 0));
  for (int64_t i = 0; i < request.n; ++i) {
    Generation g;
    g.prompt = ids;
    g.boundaries = boundaries;
    if (boundaries.empty() || boundaries.back() < static_cast<int64_t>(ids.size()))
      g.boundaries.push_back(static_cast<int64_t>(ids.size()));  // the answers, and whoever asks again, read it once
    g.start = start;
    g.max_tokens = tokens_of(model, request, held, otherwise);
    g.sampler = sampler;
    g.sampler.seed += static_cast<uint64_t>(i);
    g.reuse = request.reuse;
    if (constraint != nullptr) g.constraint = constraint->clone();
    out.push_back(std::move(g));
  }
}

}  // namespace

void complete(Asked&& asked, CompletionRequest&& request, const RequestLimits& limits) {
  ServedModel& model = asked.model;
  SnapshotPtr start;
  if (!request.state.empty()) start = find_state(asked, request.state, "state");
  const SamplerOptions sampler = sampler_of(model, request);
  const auto constraint = constraint_of(model, request);
  std::vector<Generation> generations;
  for (const Prompt& prompt : request.prompts)
    add_answers(generations, model, request, sampler, start ? model.ids_after_state(prompt) : model.ids_of(prompt), {},
                start, kCompletionTokens, constraint.get());
  check_tokens(generations, limits);
  Exchange::Options options = options_of(request);
  options.echo = request.echo;
  check_told(generations, options, limits);
  if (constraint) options.end_token = model.turn_end().token;
  std::make_shared<Exchange>(std::move(asked), options)->start(std::move(generations));
}

void chat(Asked&& asked, ChatRequest&& request, const RequestLimits& limits) {
  ServedModel& model = asked.model;
  const ChatFormat& format = model.chat();
  const ToolStyle style = request.tools ? tool_style(model.chat_template()) : ToolStyle::none;
  if (request.tools && style == ToolStyle::none)
    refuse_field("tools", "the chat template of ", model.name(), " writes no tool calls that are known here");
  SnapshotPtr start;
  std::vector<int32_t> ids;
  std::vector<int64_t> boundaries;
  if (request.state.empty()) {
    const std::string text = format.render(request.messages, true, request.variables);
    ids = model.ids_of(model.engine().encode(text));
    check_wanted(asked);
    boundaries = format.boundaries(request.messages, request.variables, text, ids, kBoundaries);
  } else {
    start = find_state(asked, request.state, "state");
    // A state that ends within a turn is closed first.
    std::string text = format.continuation(request.messages, true, request.variables);
    const std::string& closing = model.turn_end().closing;
    const size_t tail = std::min<size_t>(start->ids.size(), 64);
    const std::string before = model.tokenizer().decode(std::span(start->ids).last(tail));
    size_t have = closing.size();
    while (have > 0 && !before.ends_with(std::string_view(closing).substr(0, have))) --have;
    ids = model.ids_after_state(closing.substr(have) + text);
  }
  if (!request.strict_tools.empty()) model.calls(request.strict_tools, true);  // refuses what cannot be enforced
  const auto constraint = request.must_call.empty() ? constraint_of(model, request)
                                                    : model.calls(request.must_call, !request.one_tool_call);
  std::vector<Generation> generations;
  add_answers(generations, model, request, sampler_of(model, request), std::move(ids), boundaries, start,
              limits.chat_tokens, constraint.get());
  check_tokens(generations, limits);
  Exchange::Options options = options_of(request);
  options.chat = true;
  check_told(generations, options, limits);
  options.end_token = model.turn_end().token;
  if (!options.end_token && !model.turn_end().text.empty()) options.answer.stops.push_back(model.turn_end().text);
  options.answer.tools = style;
  options.answer.one_tool_call = request.one_tool_call;
  std::make_shared<Exchange>(std::move(asked), options)->start(std::move(generations));
}

}  // namespace qwerky::serve
