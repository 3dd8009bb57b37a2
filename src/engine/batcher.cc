// SPDX-License-Identifier: MIT
#include "engine/batcher.h"

#include <algorithm>
#include <bit>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "base/parallel.h"
#include "base/turns.h"
#include "base/units.h"
#include "engine/measure.h"
#include "engine/sampler.h"

namespace qwerky {
namespace {

/// Prompts are cut at multiples of this many tokens, counted from the beginning of the text: at the 0.5B shape in bf16
/// as fast as larger pieces, which make everybody's next token wait longer; 64 rows are 14 % slower, 32 27 %.
constexpr int64_t kPiece = 128;
/// Of snapshots that nobody asked for, each may take this share of the memory for snapshots.
constexpr int64_t kSparseShare = 32;
/// At whose multiples snapshots are left and taken (docs/batching.md); it divides kPiece.
int64_t grain_of(const Backend& on, const Config& c) {
  int64_t grain = 1;
  for (const MixerKind m : c.mixers) {
    if (m == MixerKind::softmax) continue;
    const int64_t border = on.wkv_border(static_cast<int>(c.head_dim), m == MixerKind::rwkv7);
    grain = std::max(grain, border > 0 ? border : kPiece);
  }
  CHECK(kPiece % grain == 0, "pieces of ", kPiece, " and borders at ", grain);
  return grain;
}

/// The capacity of states whose size does not depend on it.
constexpr int64_t kUnlimited = int64_t{1} << 40;

int64_t capacity_for(const Engine& engine, const BatcherOptions& options) {
  if (options.parallel < 1 || options.queue < 0 || options.prefill_rows < 1 || options.capacity < 0)
    fail("batcher: expected at least one sequence at once, one row of prompts and no negative numbers");
  const int64_t most = engine.max_tokens() > 0 ? engine.max_tokens() : kUnlimited;
  if (options.capacity > most)
    fail("a capacity of ", options.capacity, " tokens is more than the ", most, " that this model was made for");
  return options.capacity > 0 ? options.capacity : most;
}

}  // namespace

struct Batcher::Sequence {
  Id id = 0;
  uint64_t order = 0;  ///< of admission
  Generation asked;
  Sampler sampler;
  std::vector<int32_t> ids;  ///< of the start, the prompt, and what was drawn; empty until it is admitted
  int64_t prompt_begin, prompt_end;
  std::unique_ptr<State> state;   ///< null until its first turn
  std::optional<Finish> closing;  ///< no more is drawn; ids are those that the end is to have read
  SnapshotPtr at_prompt_end;      ///< with on_last, which may ask for less than was read
  std::vector<Logprobs> of_prompt;
  Usage usage;
  Clock::time_point submitted = Clock::now(), admitted, answered;
  bool cancelled = false, done = false;
  bool cold = true;  ///< whether it has the bits of reading ids from the beginning, cut as its own rules say

  Sequence(Generation&& generation, int64_t vocab, int64_t grain)
      : asked(std::move(generation)), sampler(std::move(asked.sampler), vocab) {
    prompt_begin = asked.start ? static_cast<int64_t>(asked.start->ids.size()) : 0;
    usage.prompt_tokens = static_cast<int64_t>(asked.prompt.size());
    prompt_end = prompt_begin + usage.prompt_tokens;
    for (int64_t& boundary : asked.boundaries) boundary = (boundary + prompt_begin) / grain * grain;
    std::vector<int64_t>& ends = asked.boundaries;
    ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
    std::erase_if(asked.boundaries, [&](int64_t boundary) { return boundary <= prompt_begin; });
    cold = grain == 1 || prompt_begin == 0;
  }

  /// Takes memory of its own for what it begins with.
  void open() {
    ids.reserve(static_cast<size_t>(prompt_end + 64));
    if (asked.start) ids = asked.start->ids;
    ids.insert(ids.end(), asked.prompt.begin(), asked.prompt.end());
    asked.prompt = {};
    sampler.read(ids);
  }

  int64_t length() const { return static_cast<int64_t>(ids.size()); }
  int64_t read() const { return state->position(); }
  bool prefilling() const { return state == nullptr || read() < (closing ? length() : prompt_end); }
  bool scores_prompt() const { return asked.prompt_logprobs >= 0; }
  /// Where the piece that begins at what has been read ends: a function of the request alone.
  int64_t piece_end() const {
    int64_t end = std::min(length(), (read() / kPiece + 1) * kPiece);
    const auto boundary = std::ranges::upper_bound(asked.boundaries, read());
    return boundary == asked.boundaries.end() ? end : std::min(end, *boundary);
  }
  /// Where a text that begins alike may leave this one: the last multiple of kPiece before the prompt's end, and those
  /// 1, 3, 7, … pieces before it.
  bool is_sparse(int64_t position) const {
    const int64_t pieces = (prompt_end - 1) / kPiece - position / kPiece + 1;
    return !scores_prompt() && position % kPiece == 0 && position > prompt_begin &&
           std::has_single_bit(static_cast<uint64_t>(pieces));
  }
  bool is_boundary(int64_t position) const { return std::ranges::binary_search(asked.boundaries, position); }
  /// How far both read the same text and cut it at the same places, up to a boundary of both.
  int64_t common_boundary(const Sequence& other) const {
    int64_t common = 0;
    for (size_t i = 0; i < std::min(asked.boundaries.size(), other.asked.boundaries.size()); ++i) {
      const int64_t at = asked.boundaries[i];
      if (at != other.asked.boundaries[i] || at > length() || at > other.length() ||
          !std::equal(ids.begin() + common, ids.begin() + at, other.ids.begin() + common))
        break;
      common = at;
    }
    return common;
  }
};

struct Batcher::Internals {
  using Sequences = std::vector<std::unique_ptr<Sequence>>;

  const Engine& engine;
  const Decoder& decoder;
  const Backend& on;
  StateCache* const cache;
  const BatcherOptions options;
  const int64_t capacity;
  const int64_t grain;  ///< boundaries and snapshots are at its multiples; above 1, cuts elsewhere change bits

  mutable std::mutex mutex;  ///< guards what follows; only the thread that steps changes `running`
  std::condition_variable wake;
  Turns<std::unique_ptr<Sequence>> waiting;
  Sequences running;  ///< by order
  uint64_t admissions = 0;
  BatcherCounts counts;
  Id next_id = 1;
  bool stopping = false, draining = false;

  // The thread that steps.
  Arena scratch{"serving scratch"};
  std::unique_ptr<State> blank;
  std::vector<std::unique_ptr<State>> free;
  uint64_t turn = 0;                    ///< order of whose prompt comes first in the next step
  int64_t read_now = 0, drawn_now = 0;  ///< tokens of this step

  /// A row of logits and what it is for.
  struct Answer {
    Sequence* sequence;
    int64_t row, position;  ///< of the call, and in the sequence
    bool draws() const { return position + 1 == sequence->length(); }
    Logprobs told = {};
    std::string error = {};
    Finish failure = Finish::failed;  ///< with an error
  };

  Internals(const Engine& e, StateCache* c, const BatcherOptions& o)
      : engine(e),
        decoder(*e.internals().model->decoder),
        on(*e.internals().backend),
        cache(c),
        options(o),
        capacity(capacity_for(e, o)),
        grain(grain_of(on, decoder.config())),
        blank(decoder.make_state(on.scalar(), 0)) {}

  int64_t places() const { return options.parallel + options.queue; }
  bool has_place_for(const std::string& owner) const;
  bool fits(const Snapshot& s) const;
  void check(const Generation& g) const;
  void settle();
  bool step();
  bool waits_for_another(const Sequence& s) const;
  bool begin(Sequence& s);
  void plan(std::vector<std::pair<Sequence*, int64_t>>& parts);
  void forward(std::span<const std::pair<Sequence*, int64_t>> parts);
  void read_logits(std::span<const Answer> wanted, Tensor hidden, bool again);
  void answer(std::span<Answer> answers, const float* logits);
  void think(Answer& a, std::span<const float> logits) const;
  void take(Answer& a, std::span<const float> logits);
  SnapshotPtr snapshot(const Sequence& s, std::span<const float> logits) const;
  bool is_small(int64_t tokens) const;
  void close(Sequence& s, Finish finish, std::span<const float> logits);
  void end(Sequence& s, Finish finish, std::span<const float> logits, const std::string& error = {});
};

/// Whether this model made it, as far as sizes and ids tell.
bool Batcher::Internals::fits(const Snapshot& s) const {
  const auto length = static_cast<int64_t>(s.ids.size()), logits = static_cast<int64_t>(s.logits.size());
  const auto known = [&](int32_t id) { return id >= 0 && id < engine.vocab(); };
  return std::ranges::all_of(s.ids, known) && s.state->position() == length && s.state->capacity() == length &&
         s.state->type() == on.scalar() && s.state->scalars() == decoder.state_scalars(length) &&
         (logits == 0 || logits == engine.vocab());
}

void Batcher::Internals::check(const Generation& g) const {
  const int64_t V = engine.vocab();
  if (g.prompt.size() == 0) fail("prompt: empty; expected at least one token, such as Engine::beginning() gives");
  for (const int32_t id : g.prompt)
    if (id < 0 || id >= V) fail("token ", id, " is outside the vocabulary of ", V);
  const auto prompt = static_cast<int64_t>(g.prompt.size());
  int64_t last = 0, before = 0;
  for (const int64_t boundary : g.boundaries) {
    if (boundary <= last || boundary > prompt)
      fail("boundaries: expected ascending lengths from 1 to ", prompt, ", found ", boundary);
    last = boundary;
  }
  if (g.max_tokens < 0) fail("max_tokens: expected at least 0, found ", g.max_tokens);
  if (g.logprobs < -1 || g.prompt_logprobs < -1) fail("logprobs: expected at least -1");
  if (g.start) {
    before = static_cast<int64_t>(g.start->ids.size());
    if (!fits(*g.start)) fail("start: the snapshot was made by another model");
  }
  const int64_t written = std::max<int64_t>(0, g.max_tokens - (g.on_last ? 0 : 1));
  if (before + prompt > capacity || written > capacity - before - prompt)
    fail("context: ", before + prompt, " tokens and ", g.max_tokens, " to generate do not fit in the ", capacity,
         " a sequence may hold");
}

std::optional<Batcher::Id> Batcher::submit(Generation&& generation) {
  Internals& in = *internals_;
  in.check(generation);
  auto sequence = std::make_unique<Sequence>(std::move(generation), in.engine.vocab(), in.grain);
  const std::lock_guard lock(in.mutex);
  if (in.stopping || in.draining || !in.has_place_for(sequence->asked.owner)) {
    ++in.counts.refused;
    return std::nullopt;
  }
  const Id id = sequence->id = in.next_id++;
  in.waiting.queues[sequence->asked.owner].push_back(std::move(sequence));
  in.wake.notify_one();
  return id;
}

int64_t Batcher::most_at_once() const {
  const int64_t places = internals_->places();
  return internals_->options.fair ? (places + 1) / 2 : places;
}

bool Batcher::Internals::has_place_for(const std::string& owner) const {
  const auto own = std::ranges::count_if(running, [&](const auto& s) { return s->asked.owner == owner; });
  return has_place(places(), static_cast<int64_t>(running.size()) + waiting.size(), own + waiting.size(owner),
                   options.fair);
}

void Batcher::cancel(Id id) {
  const std::lock_guard lock(internals_->mutex);
  for (auto& [owner, queue] : internals_->waiting.queues)
    for (auto& s : queue)
      if (s->id == id) s->cancelled = true;
  for (auto& s : internals_->running)
    if (s->id == id) s->cancelled = true;
  internals_->wake.notify_one();
}

BatcherCounts Batcher::counts() const {
  const std::lock_guard lock(internals_->mutex);
  BatcherCounts counts = internals_->counts;
  counts.running = static_cast<int64_t>(internals_->running.size());
  counts.waiting = internals_->waiting.size();
  return counts;
}

void Batcher::stop() {
  const std::lock_guard lock(internals_->mutex);
  internals_->stopping = true;
  internals_->wake.notify_one();
}

void Batcher::drain() {
  const std::lock_guard lock(internals_->mutex);
  internals_->draining = true;
  internals_->wake.notify_one();
}

/// Ends what is cancelled or late, and admits of each owner in turn who waited longest.
void Batcher::Internals::settle() {
  const Clock::time_point now = Clock::now();
  std::vector<std::pair<Sequence*, Finish>> ended;
  std::vector<Sequence*> fresh;
  Sequences gone;
  {
    const std::lock_guard lock(mutex);
    const auto over = [&](const Sequence& s) -> std::optional<Finish> {
      if (stopping || s.cancelled) return Finish::cancelled;
      if (now >= s.asked.deadline) return Finish::deadline;
      return std::nullopt;
    };
    for (auto& s : running)
      if (const auto finish = over(*s)) ended.emplace_back(s.get(), *finish);
    for (auto& [owner, queue] : waiting.queues) {
      for (auto& s : queue)
        if (const auto finish = over(*s)) {
          ended.emplace_back(s.get(), *finish);
          gone.push_back(std::move(s));
        }
      std::erase(queue, nullptr);
    }
    std::erase_if(waiting.queues, [](const auto& of_owner) { return of_owner.second.empty(); });
    const auto room = static_cast<size_t>(options.parallel) + ended.size() - gone.size();
    while (!waiting.queues.empty() && running.size() < room) {
      running.push_back(waiting.take());
      Sequence& s = *running.back();
      fresh.push_back(&s);
      s.order = ++admissions;
      s.admitted = now;
      s.usage.queued_seconds = std::chrono::duration<double>(now - s.submitted).count();
    }
  }
  for (Sequence* s : fresh) try {
      s->open();
    } catch (const std::exception& error) {
      end(*s, Finish::failed, {}, error.what());
    }
  for (const auto& [s, finish] : ended) end(*s, finish, {});
}

bool Batcher::step() { return internals_->step(); }

bool Batcher::Internals::step() {
  settle();
  std::vector<std::pair<Sequence*, int64_t>> parts;  // and how many rows of each
  plan(parts);
  if (!parts.empty()) try {
      forward(parts);
    } catch (const std::exception& error) {
      for (const auto& [s, rows] : parts)
        if (!s->done) end(*s, Finish::failed, {}, error.what());
    }
  Sequences gone;  // ends after the lock: callbacks may hold anything
  const std::lock_guard lock(mutex);
  for (auto& s : running)
    if (s->done) gone.push_back(std::move(s));
  std::erase(running, nullptr);
  if (!parts.empty()) ++counts.steps;
  counts.prompt_tokens += std::exchange(read_now, 0);
  counts.generated_tokens += std::exchange(drawn_now, 0);
  return !running.empty() || !waiting.queues.empty();
}

void Batcher::run() {
  Internals& in = *internals_;
  while (true) {
    if (in.step()) continue;
    std::unique_lock lock(in.mutex);
    if (in.stopping || (in.draining && in.waiting.queues.empty())) return;
    in.wake.wait(lock, [&] { return in.stopping || in.draining || !in.waiting.queues.empty(); });
  }
}

/// Whether another sequence is about to leave a snapshot from which this one can go on.
bool Batcher::Internals::waits_for_another(const Sequence& s) const {
  if (cache == nullptr || !s.asked.reuse || s.scores_prompt() || !s.cold) return false;
  return std::ranges::any_of(running, [&](const auto& other) {
    return !other->done && other->state && other->cold && other->asked.owner == s.asked.owner &&
           other->read() < std::min(other->prompt_end, s.common_boundary(*other));
  });
}

/// Takes a state that has read as much as is known. False: it ended.
bool Batcher::Internals::begin(Sequence& s) try {
  SnapshotPtr from = std::move(s.asked.start);
  if (cache != nullptr && s.asked.reuse && !s.scores_prompt() && s.cold) {
    const auto cuts = [&](int64_t length) { return length % grain == 0; };
    bool restored = false;
    if (SnapshotPtr found = cache->find(s.asked.owner, s.ids, cuts, &restored);
        found && static_cast<int64_t>(found->ids.size()) > s.prompt_begin && fits(*found)) {
      s.usage.reused_tokens = static_cast<int64_t>(found->ids.size()) - s.prompt_begin;
      s.cold = grain == 1 || !restored;
      from = std::move(found);
    }
  }
  if (free.empty()) free.push_back(decoder.make_state(on.scalar(), capacity));
  decoder.copy_state(*free.back(), from ? *from->state : *blank);
  s.state = std::move(free.back());
  free.pop_back();
  if (s.scores_prompt()) {
    const auto first = s.ids[static_cast<size_t>(s.prompt_begin)];
    s.of_prompt.emplace_back().id = first;
    if (from && !from->logits.empty()) s.of_prompt.back() = logprobs_of(from->logits, first, s.asked.prompt_logprobs);
  }
  if (!s.prefilling()) {  // all of it was known: its logits too
    Answer known{&s, 0, s.read() - 1};
    answer({&known, 1}, from->logits.data());
  }
  return !s.done;
} catch (const std::exception& error) {
  end(s, Finish::failed, {}, error.what());
  return false;
}

/// Everybody who writes, and pieces of prompts in turns: as many as fit, at least one.
void Batcher::Internals::plan(std::vector<std::pair<Sequence*, int64_t>>& parts) {
  for (const auto& s : running)
    if (!s->done && !s->prefilling()) parts.emplace_back(s.get(), 1);
  int64_t rows = 0;
  const auto first = std::ranges::lower_bound(running, turn, {}, [](const auto& s) { return s->order; });
  const auto start = static_cast<size_t>(first - running.begin());
  for (size_t i = 0; i < running.size(); ++i) {
    Sequence& s = *running[(start + i) % running.size()];
    if (s.done || !s.prefilling() || (s.state == nullptr && (waits_for_another(s) || !begin(s)))) continue;
    const int64_t piece = s.prefilling() ? s.piece_end() - s.read() : 1;
    if (rows > 0 && rows + piece > options.prefill_rows) {
      turn = s.order;
      return;
    }
    parts.emplace_back(&s, piece);
    rows += piece;
    turn = s.order + 1;
  }
}

/// One decoder call.
void Batcher::Internals::forward(std::span<const std::pair<Sequence*, int64_t>> parts) {
  Scope scope(scratch);
  const Exec ex{on, scratch};
  std::vector<int32_t> ids;
  std::vector<Segment> batch;
  std::vector<Answer> wanted;
  for (const auto& [s, n] : parts) {
    const auto row = static_cast<int64_t>(ids.size());
    const int64_t at = s->read();
    if (at < s->prompt_end) read_now += n;
    for (int64_t i = 0; i < n; ++i)
      if (at + i + 1 == s->length() || s->scores_prompt()) wanted.push_back({s, row + i, at + i});
    batch.push_back({s->state.get(), row, n});
    ids.insert(ids.end(), s->ids.begin() + at, s->ids.begin() + at + n);
  }
  const Tensor hidden = ex.make(static_cast<int64_t>(ids.size()), decoder.config().hidden);
  const bool decodes = ids.size() == parts.size();  // a row of each: as in the step before, as a rule
  const auto run = [&] { decoder.forward(ex, ids, batch, hidden); };
  decodes ? on.repeat(run) : run();
  for (const auto& [s, n] : parts) {
    const int64_t at = s->read();
    if (cache != nullptr && s->cold && at < s->prompt_end && (s->is_boundary(at) || (s->is_sparse(at) && is_small(at))))
      cache->keep(s->asked.owner, snapshot(*s, {}));
  }
  read_logits(wanted, hidden, decodes);
}

void Batcher::Internals::read_logits(std::span<const Answer> wanted, Tensor hidden, bool again) {
  const Exec ex{on, scratch};
  const int64_t V = decoder.config().vocab;
  in_logit_slices(ex, V, static_cast<int64_t>(wanted.size()), [&](int64_t from, int64_t n) {
    const auto slice = wanted.subspan(static_cast<size_t>(from), static_cast<size_t>(n));
    std::vector<Answer> answers(slice.begin(), slice.end());
    const Tensor x = ex.make(n, hidden.cols()), logits = ex.make(n, V);
    const auto run = [&] {
      for (int64_t i = 0; i < n; ++i) on.copy(x.rows(i, 1), hidden.rows(answers[static_cast<size_t>(i)].row, 1));
      decoder.logits(ex, x, logits);
    };
    again ? on.repeat(run) : run();
    wait_for_device();
    answer(answers, logits.as<float>());
  });
}

/// What rows of logits [answers, V] say, worked out side by side and told one after the other.
void Batcher::Internals::answer(std::span<Answer> answers, const float* logits) {
  const auto V = static_cast<size_t>(decoder.config().vocab);
  const auto row = [&](size_t i) { return std::span(logits + i * V, V); };
  parallel_for(static_cast<int64_t>(answers.size()), 1, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) think(answers[i], row(i));
  });
  for (size_t i = 0; i < answers.size(); ++i)
    if (!answers[i].sequence->done) take(answers[i], row(i));
}

void Batcher::Internals::think(Answer& a, std::span<const float> logits) const try {
  Sequence& s = *a.sequence;
  if (!all_finite(logits)) fail("the model gave logits that are not finite after ", a.position + 1, " tokens");
  if (!a.draws()) {
    a.told = logprobs_of(logits, s.ids[static_cast<size_t>(a.position) + 1], s.asked.prompt_logprobs);
  } else if (s.asked.max_tokens > 0 && !s.closing) {
    std::vector<uint8_t> allowed(s.asked.constraint ? logits.size() : 0);
    if (s.asked.constraint) s.asked.constraint->allowed(allowed);
    a.told.id = s.sampler.draw(logits, allowed);
    if (s.asked.logprobs >= 0) a.told = logprobs_of(logits, a.told.id, s.asked.logprobs);
  }
} catch (const TooManyWays& error) {
  a.error = error.what(), a.failure = Finish::refused;
} catch (const std::exception& error) {
  a.error = error.what();
}

void Batcher::Internals::take(Answer& a, std::span<const float> logits) {
  Sequence& s = *a.sequence;
  if (!a.error.empty()) return end(s, a.failure, {}, a.error);
  if (!a.draws()) {
    s.of_prompt.push_back(std::move(a.told));
    return;
  }
  if (s.closing) return end(s, *s.closing, logits);
  if (s.length() == s.prompt_end) {
    s.answered = Clock::now();
    const bool kept = cache != nullptr && s.cold && s.is_boundary(s.prompt_end);
    if (kept || s.asked.on_last) {
      SnapshotPtr whole = snapshot(s, logits);
      if (s.asked.on_last) s.at_prompt_end = whole;
      if (kept) cache->keep(s.asked.owner, std::move(whole));
    }
    if (s.scores_prompt() && s.asked.on_prompt) s.asked.on_prompt(std::move(s.of_prompt));
  }
  if (s.asked.max_tokens == 0) return end(s, Finish::length, logits);
  if (s.asked.stop_at_end && engine.ends_text(a.told.id)) return close(s, Finish::end_of_text, logits);
  if (s.asked.constraint) s.asked.constraint->accept(a.told.id);
  s.ids.push_back(a.told.id);
  ++drawn_now;
  const bool more = !s.asked.on_token || s.asked.on_token(a.told);
  if (++s.usage.generated_tokens == s.asked.max_tokens) return close(s, Finish::length, logits);
  if (!more) close(s, Finish::stopped, logits);
}

/// No more is drawn; on_last says how much is to be read before the end.
void Batcher::Internals::close(Sequence& s, Finish finish, std::span<const float> logits) {
  if (!s.asked.on_last) return end(s, finish, logits);
  s.closing = finish;
  s.ids.resize(
      static_cast<size_t>(s.prompt_end + std::clamp<int64_t>(s.asked.on_last(), 0, s.length() - s.prompt_end)));
  if (s.read() > s.length()) {  // a state forgets nothing: once more from the prompt's end
    decoder.copy_state(*s.state, *s.at_prompt_end->state);
    logits = s.at_prompt_end->logits;
  }
  if (s.read() == s.length()) end(s, finish, logits);
}

/// A snapshot of what has been read.
SnapshotPtr Batcher::Internals::snapshot(const Sequence& s, std::span<const float> logits) const {
  std::shared_ptr<State> state = decoder.make_state(on.scalar(), s.read());
  decoder.copy_state(*state, *s.state);
  return std::make_shared<const Snapshot>(
      Snapshot{{s.ids.begin(), s.ids.begin() + s.read()}, std::move(state), {logits.begin(), logits.end()}});
}

/// Whether the cache holds many states of so many tokens.
bool Batcher::Internals::is_small(int64_t tokens) const {
  return decoder.state_scalars(tokens) * size_of(on.scalar()) <= cache->memory_bytes() / kSparseShare;
}

void Batcher::Internals::end(Sequence& s, Finish finish, std::span<const float> logits, const std::string& error) {
  const Clock::time_point now = Clock::now(), none{};
  const auto between = [](Clock::time_point a, Clock::time_point b) {
    return std::chrono::duration<double>(b - a).count();
  };
  if (s.admitted == none) s.usage.queued_seconds = between(s.submitted, now);
  if (s.admitted != none) s.usage.prefill_seconds = between(s.admitted, s.answered == none ? now : s.answered);
  if (s.answered != none) s.usage.decode_seconds = between(s.answered, now);
  SnapshotPtr last;
  std::string why = error;
  bool failed = finish == Finish::failed;
  const bool whole = !s.closing || s.read() == s.length();
  if (s.asked.keep_end && !failed && whole && s.state && s.read() > 0) try {
      last = snapshot(s, logits);
      // Tokens that were read one by one have other bits where cuts matter.
      if (cache != nullptr && grain == 1) cache->keep(s.asked.owner, last);
    } catch (const std::exception& e) {
      failed = true, why = e.what();
    }
  if (s.state && !failed) free.push_back(std::move(s.state));  // what failed may hold NaN
  if (s.closing) {
    finish = *s.closing;
  } else if (failed) {
    finish = Finish::failed;
  }
  s.done = true;
  {
    const std::lock_guard lock(mutex);
    ++counts.finished;
  }
  if (s.asked.on_end) s.asked.on_end(finish, s.usage, std::move(last), why);
}

Batcher::Batcher(const Engine& engine, StateCache* cache, const BatcherOptions& options)
    : internals_(std::make_unique<Internals>(engine, cache, options)) {}

Batcher::~Batcher() {
  stop();
  internals_->settle();
}

}  // namespace qwerky
