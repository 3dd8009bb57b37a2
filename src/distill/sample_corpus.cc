// SPDX-License-Identifier: MIT
#include <algorithm>
#include <mutex>

#include "distill/convert.h"
#include "qwerky/qwerky.h"

namespace qwerky {
namespace {

constexpr int64_t kParts = 8;  // independent parts of the corpus, for as many threads; not a function of the machine
constexpr int64_t kSide = 32;  // texts decoded side by side in a part

/// A text that is being written.
struct Lane {
  std::unique_ptr<State> state;
  std::vector<int32_t> text;
  uint64_t number = 0;
};

struct Sampler {
  const Model& teacher;
  const Backend& on;
  int64_t length;
  uint64_t seed;
  int32_t begins;

  bool ends(int32_t id) const {
    const auto& eos = teacher.tokenizer->eos;
    return id == begins || std::find(eos.begin(), eos.end(), id) != eos.end();
  }

  /// Whole texts of at least `tokens` ids in all. Each text that was begun is kept, so short ones are not preferred.
  std::vector<int32_t> part(uint64_t index, int64_t tokens, Arena& scratch,
                            const std::function<void(int64_t)>& wrote) const {
    const Config& c = teacher.config();
    const Exec ex{on, scratch};
    std::vector<Lane> lanes(static_cast<size_t>(std::clamp<int64_t>(tokens / length, 1, kSide)));
    std::vector<std::vector<int32_t>> texts;
    int64_t written = 0;
    const auto begin = [&](Lane& lane) {
      if (lane.state) {
        lane.state->reset();
      } else {
        lane.state = teacher.decoder->make_state(on.scalar(), length);
      }
      lane.text = {begins};
      lane.number = texts.size();
      texts.emplace_back();
      ++written;
    };
    for (Lane& lane : lanes) begin(lane);
    while (!lanes.empty()) {
      const Scope scope(scratch);
      const int64_t rows = static_cast<int64_t>(lanes.size());
      std::vector<int32_t> inputs;
      std::vector<Segment> batch;
      for (const Lane& lane : lanes) {
        batch.push_back({lane.state.get(), static_cast<int64_t>(inputs.size()), 1});
        inputs.push_back(lane.text.back());
      }
      const Tensor hidden = ex.make(rows, c.hidden), logits = ex.make(rows, c.vocab);
      teacher.decoder->forward(ex, inputs, batch, hidden);
      teacher.decoder->logits(ex, hidden, logits);
      wait_for_device();
      for (size_t i = 0; i < lanes.size(); ++i) {
        Lane& lane = lanes[i];
        const std::span<const float> row(logits.as<float>() + static_cast<int64_t>(i) * c.vocab,
                                         static_cast<size_t>(c.vocab));
        const uint64_t draw = ((index << 32) + lane.number) * static_cast<uint64_t>(length) + lane.text.size();
        lane.text.push_back(sample(row, {.temperature = 1, .seed = seed}, static_cast<int64_t>(draw)));
        ++written;
        if (!ends(lane.text.back()) && static_cast<int64_t>(lane.text.size()) < length) continue;
        if (lane.text.size() > 2 && lane.text.back() == begins)
          lane.text.pop_back(), --written;  // the next text begins with it
        texts[lane.number] = std::move(lane.text);
        lane.text.clear();
        if (written < tokens) begin(lane);
      }
      std::erase_if(lanes, [](const Lane& lane) { return lane.text.empty(); });
      if (lanes.empty() && written < tokens) begin(lanes.emplace_back());
      wrote(rows);
    }
    std::vector<int32_t> ids;
    for (const auto& text : texts) ids.insert(ids.end(), text.begin(), text.end());
    return ids;
  }
};

}  // namespace

std::vector<int32_t> sample_corpus(const Model& teacher, const Backend& on, int64_t tokens, int64_t length,
                                   uint64_t seed, const Progress& progress) {
  if (!teacher.tokenizer) fail("sampling from the teacher needs its tokenizer");
  const Tokenizer& t = *teacher.tokenizer;
  const auto begins = t.bos ? t.bos : t.eos.empty() ? std::nullopt : std::optional(t.eos.front());
  if (!begins) fail("sampling from the teacher: it has no token that begins a text; give --data");
  if (*begins < 0 || *begins >= teacher.config().vocab)
    fail("sampling from the teacher: the token that begins a text, ", *begins, ", is outside its vocabulary of ",
         teacher.config().vocab);

  const Sampler sampler{teacher, on, length, seed, *begins};
  std::vector<std::vector<int32_t>> parts(kParts);
  std::mutex reporting;
  int64_t done = 0;
  const int64_t each = (tokens + kParts - 1) / kParts;
  for_each_window(kParts, teacher.params.count(), [&](int64_t i, Arena& scratch) {
    parts[static_cast<size_t>(i)] = sampler.part(static_cast<uint64_t>(i), each, scratch, [&](int64_t more) {
      const std::lock_guard lock(reporting);
      done = std::min(done + more, tokens);
      if (progress) progress(done, tokens);
    });
  });
  std::vector<int32_t> corpus;
  for (const auto& part : parts) corpus.insert(corpus.end(), part.begin(), part.end());
  corpus.resize(static_cast<size_t>(tokens));
  return corpus;
}

}  // namespace qwerky
