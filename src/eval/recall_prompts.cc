// SPDX-License-Identifier: MIT
// Haystacks, needles and questions, deterministic from a seed. Prompts are joined from ids, so that those of one length
// have equal ids up to the first needle and cost exactly the tokens that are counted.
#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/random.h"
#include "eval/recall.h"
#include "eval/text_rules.h"

namespace qwerky {
namespace {

/// Sentences end within so many ids, or a text is cut between any two.
constexpr int64_t kLongestSentence = 128;
constexpr int64_t kShortestHaystack = 32;

/// What stands around the haystack. NAME is the name of a needle, KEY its key.
struct Wording {
  std::string intro, needle, question;
  size_t needles;
};

Wording wording_of(const std::string& task) {
  if (task == "passkey")
    return {"A pass key is hidden in this text. Keep it in mind.",
            " The pass key is KEY. Keep in mind that KEY is the pass key.", " What is the pass key? The pass key is",
            1};
  return {"Secret numbers are hidden in this text. Keep them in mind.", " The secret number of NAME is KEY.",
          " What is the secret number of NAME? The secret number of NAME is", task == "niah_multikey" ? 4U : 1U};
}

constexpr const char* kNames[] = {"Lily", "Tom", "Anna", "Ben", "Mia", "Max", "Sue", "Sam", "Lucy", "Jack"};

/// At least `bytes` of sentences that mean nothing: the same four over and over for passkey, drawn ones for niah.
std::string filler(const std::string& task, uint64_t seed, size_t bytes) {
  constexpr const char* kRound[] = {"The river runs to the sea.", "The wind is in the trees.",
                                    "A bird sings on the roof.", "The day is long and warm."};
  constexpr const char* kWho[] = {"The farmer", "A small dog", "The old man", "My sister", "The teacher", "A red bird"};
  constexpr const char* kDid[] = {"walked", "ran", "went", "came back", "looked", "moved slowly"};
  constexpr const char* kWhere[] = {"to the house", "along the river", "past the big tree",
                                    "up the hill",  "into the garden", "over the old bridge"};
  constexpr const char* kWhen[] = {"in the morning", "after lunch", "before the rain", "at night", "with a friend"};
  const Random random(seed, hash_name("haystack"));
  const auto one_of = [&](const auto& list, uint64_t counter) { return list[random.below(counter, std::size(list))]; };
  std::string text;
  for (uint64_t i = 0; text.size() < bytes; ++i)
    text += task == "passkey" ? concat(" ", kRound[i % std::size(kRound)])
                              : concat(" ", one_of(kWho, 4 * i), " ", one_of(kDid, 4 * i + 1), " ",
                                       one_of(kWhere, 4 * i + 2), " ", one_of(kWhen, 4 * i + 3), ".");
  return text;
}

/// The ids of `text` where it stands behind `before`.
std::vector<int32_t> ids_behind(const Tokenizer& tokenizer, const std::string& before, const std::string& text) {
  const auto whole = tokenizer.encode(before + text, false);
  const size_t skipped = std::min(whole.size(), tokenizer.encode(before, false).size());
  return {whole.begin() + static_cast<int64_t>(skipped), whole.end()};
}

struct Haystack {
  std::vector<int32_t> ids;
  std::vector<int64_t> ends;  ///< numbers of ids after which a sentence is over, ascending

  /// The last end of a sentence at or before `at`, which is one itself where sentences are too long.
  int64_t end_before(int64_t at) const {
    const auto next = std::upper_bound(ends.begin(), ends.end(), at);
    return next != ends.begin() && at - next[-1] <= kLongestSentence ? next[-1] : at;
  }
};

Haystack make_haystack(const std::string& task, int64_t length, const RecallOptions& options,
                       const Tokenizer& tokenizer) {
  Haystack hay;
  const auto wanted = static_cast<size_t>(length);
  if (task != "passkey" && !options.haystack.empty()) {
    hay.ids = ids_behind(tokenizer, ".", concat(" ", python_strip(options.haystack)));
    if (hay.ids.size() < wanted)
      fail(task, ": length ", length, " needs as many tokens of text, --data holds ", hay.ids.size());
  } else {
    for (size_t bytes = 4 * wanted; hay.ids.size() < wanted; bytes *= 2)
      hay.ids = ids_behind(tokenizer, ".", filler(task, options.seed, bytes));
  }
  hay.ids.resize(wanted);
  hay.ends = {0};
  for (size_t i = 0; i < wanted; ++i) {
    const std::string piece = tokenizer.piece(hay.ids[i]);
    const size_t last = piece.find_last_not_of(" \n\r\t\"'");
    if (last != piece.npos && std::string_view(".!?").find(piece[last]) != std::string_view::npos)
      hay.ends.push_back(static_cast<int64_t>(i) + 1);
  }
  return hay;
}

/// Keys of five digits, all different; names of the needles, the one that is asked for first.
struct Secrets {
  std::vector<std::string> names, keys;
  Random random;
  uint64_t drawn = 0;

  Secrets(const std::string& task, int64_t sample, uint64_t seed)
      : names(std::begin(kNames), std::end(kNames)), random(seed, hash_name(concat(task, " ", sample))) {
    for (size_t i = names.size(); i-- > 1;) std::swap(names[i], names[below(i + 1)]);
    for (std::set<uint64_t> used; keys.size() < static_cast<size_t>(kRecallKeys);)
      if (const uint64_t key = 10000 + below(90000); used.insert(key).second) keys.push_back(std::to_string(key));
  }
  uint64_t below(uint64_t n) { return random.below(drawn++, n); }
};

std::string filled(const std::string& pattern, const std::string& name, const std::string& key) {
  return replace_all(replace_all(pattern, "NAME", name), "KEY", key);
}

}  // namespace

RecallPrompts recall_prompts(const std::string& task, int64_t length, const RecallOptions& options,
                             const Tokenizer& tokenizer) {
  const Wording words = wording_of(task);
  const Haystack hay = make_haystack(task, length, options, tokenizer);
  std::vector<int32_t> intro = tokenizer.encode(words.intro, false);
  if (tokenizer.bos && (tokenizer.adds_bos || options.bos)) intro.insert(intro.begin(), *tokenizer.bos);

  /// With `count` needles, the one that is asked for at `depth`.
  const auto make = [&](int64_t sample, size_t count, double depth) {
    Secrets secrets(task, sample, options.seed);
    const std::string question = filled(words.question, secrets.names[0], "");
    RecallPrompt prompt{intro, count > 0 ? secrets.keys[0] : "", {}};
    const auto question_ids = ids_behind(tokenizer, ".", question);
    size_t answer = 0;
    for (const std::string& key : secrets.keys) {
      prompt.keys.push_back(ids_behind(tokenizer, question, " " + key));
      answer = std::max(answer, prompt.keys.back().size());
    }
    struct Needle {
      std::vector<int32_t> ids;
      int64_t at = 0;
    };
    std::vector<Needle> needles;
    auto room = length - static_cast<int64_t>(intro.size() + question_ids.size() + answer) - kAnswerSlack;
    for (size_t i = 0; i < count; ++i) {
      needles.push_back({ids_behind(tokenizer, ".", filled(words.needle, secrets.names[i], secrets.keys[i]))});
      room -= static_cast<int64_t>(needles.back().ids.size());
    }
    if (room < kShortestHaystack)
      fail(task, ": length ", length, " is too short: needles, question and answer take ", length - room,
           " tokens, expected ", kShortestHaystack, " more for a haystack");
    const int64_t end = hay.end_before(room);
    for (size_t i = 0; i < count; ++i)
      needles[i].at = hay.end_before(i == 0 ? std::llround(static_cast<double>(end) * depth / 100)
                                            : static_cast<int64_t>(secrets.below(static_cast<uint64_t>(end) + 1)));
    std::stable_sort(needles.begin(), needles.end(), [](const Needle& a, const Needle& b) { return a.at < b.at; });
    int64_t at = 0;
    const auto hay_until = [&](int64_t to) {
      prompt.ids.insert(prompt.ids.end(), hay.ids.begin() + at, hay.ids.begin() + to);
      at = to;
    };
    for (const Needle& needle : needles) {
      hay_until(needle.at);
      prompt.ids.insert(prompt.ids.end(), needle.ids.begin(), needle.ids.end());
    }
    hay_until(end);
    prompt.ids.insert(prompt.ids.end(), question_ids.begin(), question_ids.end());
    return prompt;
  };
  RecallPrompts prompts;
  for (const double depth : options.depths)
    for (int64_t sample = 0; sample < options.samples; ++sample)
      prompts.needles.push_back(make(sample, words.needles, depth));
  for (int64_t sample = 0; sample < options.samples; ++sample) prompts.controls.push_back(make(sample, 0, 0));
  return prompts;
}

}  // namespace qwerky
