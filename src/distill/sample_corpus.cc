// SPDX-License-Identifier: MIT
#include <algorithm>

#include "distill/convert.h"
#include "qwerky/qwerky.h"

namespace qwerky {

std::vector<int32_t> sample_corpus(const Model& teacher, const Backend& on, int64_t tokens, int64_t length, uint64_t seed, const Progress& progress) {
  constexpr int64_t kSide = 64;  // sequences decoded side by side
  const Config& c = teacher.config();
  if (!teacher.tokenizer) fail("sampling from the teacher needs its tokenizer");
  const Tokenizer& t = *teacher.tokenizer;
  const auto begins = t.bos ? t.bos : t.eos.empty() ? std::nullopt : std::optional(t.eos.front());
  if (!begins) fail("sampling from the teacher: it has no token that begins a text; give --data");
  const auto ends = [&](int32_t id) { return id == *begins || std::find(t.eos.begin(), t.eos.end(), id) != t.eos.end(); };

  Arena scratch("sampling");
  const Exec ex{on, scratch};
  std::vector<int32_t> corpus;
  for (uint64_t round = 0; static_cast<int64_t>(corpus.size()) < tokens; ++round) {
    std::vector<std::unique_ptr<State>> states;
    std::vector<std::vector<int32_t>> texts(kSide, {*begins});
    std::vector<size_t> alive;
    for (size_t i = 0; i < kSide; ++i) states.push_back(teacher.decoder->make_state(on.scalar(), length)), alive.push_back(i);
    while (!alive.empty()) {
      Scope scope(scratch);
      const int64_t rows = static_cast<int64_t>(alive.size());
      std::vector<int32_t> inputs;
      std::vector<Segment> batch;
      for (size_t i : alive) {
        batch.push_back({states[i].get(), static_cast<int64_t>(inputs.size()), 1});
        inputs.push_back(texts[i].back());
      }
      const Tensor hidden = ex.make(rows, c.hidden), logits = ex.make(rows, c.vocab);
      teacher.decoder->forward(ex, inputs, batch, hidden);
      teacher.decoder->logits(ex, hidden, logits);
      std::vector<size_t> still;
      for (int64_t r = 0; r < rows; ++r) {
        const size_t i = alive[static_cast<size_t>(r)];
        const std::span<const float> row(logits.as<float>() + r * c.vocab, static_cast<size_t>(c.vocab));
        const uint64_t draw = (round * kSide + i) * static_cast<uint64_t>(length) + texts[i].size();
        const int32_t id = sample(row, {.temperature = 1, .seed = seed}, static_cast<int64_t>(draw));
        texts[i].push_back(id);
        if (!ends(id) && static_cast<int64_t>(texts[i].size()) < length) still.push_back(i);
      }
      alive = std::move(still);
    }
    for (auto& text : texts) {
      if (text.size() > 2 && text.back() == *begins) text.pop_back();  // the next text begins with it
      corpus.insert(corpus.end(), text.begin(), text.end());
    }
    if (progress) progress(std::min<int64_t>(static_cast<int64_t>(corpus.size()), tokens), tokens);
  }
  corpus.resize(static_cast<size_t>(tokens));
  return corpus;
}

}  // namespace qwerky
