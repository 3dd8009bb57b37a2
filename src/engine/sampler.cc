// SPDX-License-Identifier: MIT
#include "engine/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "base/error.h"
#include "base/random.h"
#include "io/tokenizer.h"

namespace qwerky {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

/// A token that may be drawn. Weights are relative to the likeliest token's: exp((logit - largest logit) /
/// temperature).
struct Candidate {
  int32_t id;
  float logit;
  double weight;
};
using Candidates = std::vector<Candidate>;

bool likelier(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

double sum_of(const Candidates& c) {
  double sum = 0;
  for (const Candidate& x : c) sum += x.weight;
  return sum;
}

/// Of a whole distribution, by its weights and their logarithms.
struct Spread {
  double total = 0, moment = 0;
  void add(double weight, double log_weight) { total += weight, moment += weight * log_weight; }
  double entropy() const { return std::log(total) - moment / total; }
};

/// The largest logit; numbers alone count. Several lanes, as a single one would wait for itself.
float largest(std::span<const float> logits) {
  constexpr size_t kLanes = 8;
  std::array<float, kLanes> most;
  most.fill(kNever);
  size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes)
    for (size_t k = 0; k < kLanes; ++k) most[k] = logits[i + k] > most[k] ? logits[i + k] : most[k];
  for (; i < logits.size(); ++i) most[0] = logits[i] > most[0] ? logits[i] : most[0];
  return *std::max_element(most.begin(), most.end());
}

/// The k likeliest tokens, likeliest first. What lies below the k-th of those seen so far is not looked at again.
Candidates likeliest(std::span<const float> logits, size_t k) {
  Candidates out;
  float floor = kNever;
  const auto cut = [&] {
    std::nth_element(out.begin(), out.begin() + static_cast<int64_t>(k) - 1, out.end(), likelier);
    out.resize(k);
    floor = out.back().logit;
  };
  for (size_t i = 0; i < logits.size(); ++i)
    if (logits[i] > floor) {
      out.push_back({static_cast<int32_t>(i), logits[i], 0});
      if (out.size() >= 2 * k + 64) cut();
    }
  if (out.size() > k) cut();
  std::sort(out.begin(), out.end(), likelier);
  return out;
}

Candidates at_least(std::span<const float> logits, double floor) {
  Candidates out;
  out.reserve(static_cast<size_t>(
      std::count_if(logits.begin(), logits.end(), [&](float x) { return static_cast<double>(x) >= floor; })));
  for (size_t i = 0; i < logits.size(); ++i)
    if (static_cast<double>(logits[i]) >= floor) out.push_back({static_cast<int32_t>(i), logits[i], 0});
  return out;
}

/// Sorts by `likelier` what stands in order of ids where logits are equal: by the logits' bits, 11 at a time from the
/// last, keeping the order of equals. Comparing tens of thousands would take ten times as long. `spare` is overwritten:
/// memory of megabytes, which is better used twice than asked for twice.
void sort_likeliest(Candidates& c, Candidates& spare) {
  constexpr size_t kFew = 1024, kDigits = 1 << 11;
  if (c.size() <= kFew) return std::sort(c.begin(), c.end(), likelier);
  spare.resize(c.size());
  for (int shift = 0; shift < 32; shift += 11) {
    const auto digit = [&](const Candidate& x) {
      const auto bits = std::bit_cast<uint32_t>(x.logit + 0.0f);                   // of -0 as of 0
      return ((bits >> 31 != 0 ? bits : ~bits & 0x7fffffffu) >> shift) % kDigits;  // the largest logit first
    };
    std::array<uint32_t, kDigits> at{};
    for (const Candidate& x : c) ++at[digit(x)];
    uint32_t sum = 0;
    for (uint32_t& n : at) sum += std::exchange(n, sum);
    for (const Candidate& x : c) spare[at[digit(x)]++] = x;
    c.swap(spare);
  }
}

/// Nucleus sampling (Holtzman et al., arXiv 1904.09751): the smallest set of likeliest tokens that weighs this much.
void keep_top_p(Candidates& c, double mass) {
  Candidates spare;
  sort_likeliest(c, spare);
  double sum = 0;
  for (size_t i = 0; i < c.size(); ++i)
    if ((sum += c[i].weight) >= mass) return c.resize(i + 1);
}

/// Locally typical sampling (Meister et al., arXiv 2202.00666): the smallest set with this share of the tokens whose
/// surprise -ln p is nearest to the entropy; of equally near ones the likelier. Sorted by likelihood, these lie around
/// the first that surprises as much: taken from both sides, in a time that grows with how many there are.
void keep_typical(Candidates& c, double share, const Spread& all, float best, double temperature) {
  Candidates kept;
  sort_likeliest(c, kept);
  kept.clear();
  kept.reserve(c.size());
  const double entropy = all.entropy(), log_total = std::log(all.total), mass = share * all.total;
  const auto excess = [&](const Candidate& x) {  // of surprise above the entropy
    return log_total - (static_cast<double>(x.logit) - static_cast<double>(best)) / temperature - entropy;
  };
  double sum = 0;
  auto below = std::partition_point(c.begin(), c.end(), [&](const Candidate& x) { return excess(x) < 0; });
  auto above = below;  // left are [begin, above) and [below, end)
  while (kept.size() < c.size()) {
    const bool up = above != c.begin() && (below == c.end() || -excess(above[-1]) <= excess(*below));
    auto first = up ? above - 1 : below;
    const auto last = first + 1;
    while (up && first != c.begin() && excess(first[-1]) == excess(*first)) --first;
    (up ? above : below) = up ? first : last;
    for (; first != last; ++first) {
      kept.push_back(*first);
      if ((sum += first->weight) >= mass) return c.swap(kept);
    }
  }
  c.swap(kept);
}

/// Min-p (Nguyen et al., arXiv 2407.01082): tokens with at least this share of the likeliest token's probability.
void keep_min_p(Candidates& c, double share) {
  double most = 0;
  for (const Candidate& x : c) most = std::max(most, x.weight);
  std::erase_if(c, [&](const Candidate& x) { return x.weight < share * most; });
}

/// Exclude top choices (p-e-w, pull request 6335 of oobabooga/text-generation-webui): of the tokens with at least this
/// probability only the least likely stays. There newline and end-of-text tokens are never dropped; here they are as
/// others.
void drop_top_choices(Candidates& c, double threshold) {
  const double least = threshold * sum_of(c);
  const Candidate* last = nullptr;
  for (const Candidate& x : c)
    if (x.weight >= least && (last == nullptr || likelier(*last, x))) last = &x;
  if (last == nullptr) return;
  const int32_t stays = last->id;
  std::erase_if(c, [&](const Candidate& x) { return x.weight >= least && x.id != stays; });
}

/// How far DRY looks back, in tokens: a draw takes time in proportion to it.
constexpr size_t kDryLookback = 16384;

/// For each place of a text, how many tokens, at most `most`, from there on are the text's first ones: the Z-function
/// (Gusfield, Algorithms on Strings, 1.3), in a time that does not depend on `most`.
std::vector<size_t> beginnings(const std::vector<int32_t>& text, size_t most) {
  std::vector<size_t> z(text.size());
  size_t from = 0, to = 0;  // the match that was seen to reach farthest: text[from, to) begins the text
  for (size_t j = 1; j < text.size(); ++j) {
    size_t n = j < to ? std::min(z[j - from], to - j) : 0;
    while (n < most && j + n < text.size() && text[n] == text[j + n]) ++n;
    z[j] = n;
    if (j + n > to) from = j, to = j + n;
  }
  return z;
}

void expect_share(const char* name, double value) {
  if (!(value >= 0 && value <= 1)) fail(name, ": expected a number from 0 to 1, found ", value);
}
void expect_number(const char* name, double value) {
  if (!std::isfinite(value)) fail(name, ": expected a number, found ", value);
}
void expect_at_least(const char* name, double value, double least) {
  if (!(value >= least && std::isfinite(value)))
    fail(name, ": expected a number of at least ", least, ", found ", value);
}

}  // namespace

void SamplerOptions::check() const {
  expect_at_least("temperature", temperature, 0);
  expect_at_least("top-k", static_cast<double>(top_k), 0);
  expect_share("top-p", top_p);
  expect_share("min-p", min_p);
  expect_share("typical-p", typical_p);
  expect_number("presence-penalty", presence_penalty);
  expect_number("frequency-penalty", frequency_penalty);
  if (!(repetition_penalty > 0 && std::isfinite(repetition_penalty)))
    fail("repetition-penalty: expected a number above 0, found ", repetition_penalty);
  expect_at_least("penalty-window", static_cast<double>(penalty_window), 0);
  expect_at_least("dry-multiplier", dry_multiplier, 0);
  expect_at_least("dry-base", dry_base, 1);
  expect_at_least("dry-allowed-length", static_cast<double>(dry_allowed_length), 1);
  expect_share("xtc-probability", xtc_probability);
  expect_share("xtc-threshold", xtc_threshold);
  if (mirostat != 0 && mirostat != 2) fail("mirostat: expected 0 (off) or 2, found ", mirostat);
  expect_at_least("mirostat-tau", mirostat_tau, 0);
  expect_at_least("mirostat-eta", mirostat_eta, 0);
  for (const auto& [id, bias] : logit_bias) expect_number("logit-bias", bias);
}

Sampler::Sampler(SamplerOptions options, int64_t vocab)
    : options_(std::move(options)), vocab_(vocab), mirostat_mu_(2 * options_.mirostat_tau) {
  options_.check();
  const auto expect_id = [&](const char* name, int32_t id) {
    if (id < 0 || id >= vocab) fail(name, ": token ", id, " is outside the vocabulary of ", vocab);
  };
  for (const auto& [id, bias] : options_.logit_bias) expect_id("logit-bias", id);
  for (int32_t id : options_.dry_breakers) expect_id("dry-breakers", id);
  std::sort(options_.dry_breakers.begin(), options_.dry_breakers.end());
}

void Sampler::read(std::span<const int32_t> prompt) {
  for (int32_t id : prompt) remember(id, false);
}

bool Sampler::penalises() const {
  return options_.repetition_penalty != 1 || options_.presence_penalty != 0 || options_.frequency_penalty != 0;
}

void Sampler::remember(int32_t id, bool generated) {
  CHECK(id >= 0 && id < vocab_, "token ", id);
  const auto window = static_cast<size_t>(options_.penalty_window);
  const bool dry = options_.dry_multiplier > 0;
  if (penalises()) count({id, generated}, 1);
  if (!dry && (window == 0 || !penalises())) return;
  history_.push_back({id, generated});
  if (window > 0 && penalises() && history_.size() > window) count(history_[history_.size() - 1 - window], -1);
  if (history_.size() > std::max(window, dry ? kDryLookback : 0)) history_.pop_front();
}

void Sampler::count(Read read, int64_t by) {
  Seen& seen = seen_[read.id];
  seen.all += by;
  if (read.generated) seen.generated += by;
  if (seen.all == 0) seen_.erase(read.id);
}

bool Sampler::breaks(int32_t id) const {
  return std::binary_search(options_.dry_breakers.begin(), options_.dry_breakers.end(), id);
}

void Sampler::penalise(std::span<float> logits) const {
  const SamplerOptions& o = options_;
  // A penalty is finite: it never forbids the only token that is left.
  const auto set = [&](int32_t id, double value) {
    constexpr double kMost = std::numeric_limits<float>::max();
    float& logit = logits[static_cast<size_t>(id)];
    if (std::isfinite(logit)) logit = static_cast<float>(std::clamp(value, -kMost, kMost));
  };
  const auto at = [&](int32_t id) { return static_cast<double>(logits[static_cast<size_t>(id)]); };
  for (const auto& [id, bias] : o.logit_bias) set(id, at(id) + bias);
  if (penalises())
    for (const auto& [id, seen] : seen_) {
      double x = at(id);
      // Keskar et al., arXiv 1909.05858, divide the logits; a negative one is multiplied, as transformers does.
      x = x > 0 ? x / o.repetition_penalty : x * o.repetition_penalty;
      // OpenAI's API reference: x - count · frequency - (count > 0) · presence, counting what was generated.
      if (seen.generated > 0) x -= static_cast<double>(seen.generated) * o.frequency_penalty + o.presence_penalty;
      set(id, x);
    }
  if (o.dry_multiplier <= 0 || history_.empty()) return;

  // DRY (p-e-w, pull request 5677 of oobabooga/text-generation-webui): a token that would lengthen a repetition of the
  // text's last n >= allowed length tokens loses multiplier · base^(n - allowed length); n is at most 50, as there.
  const size_t window = o.penalty_window > 0 ? static_cast<size_t>(o.penalty_window) : kDryLookback;
  const size_t size = std::min({history_.size(), window, kDryLookback});
  std::vector<int32_t> back(size);  // the text from its end
  for (size_t j = 0; j < size; ++j) back[j] = history_[history_.size() - 1 - j].id;
  constexpr size_t kLongest = 50;
  size_t most = 0;  // a repetition holds no breaker
  while (most < std::min(size, kLongest) && !breaks(back[most])) ++most;
  std::unordered_map<int32_t, size_t> repeated;  // token that would go on with a repetition, and its length
  const std::vector<size_t> lengths = beginnings(back, most);
  for (size_t j = 1; j < size; ++j) {
    if (lengths[j] == 0 || breaks(back[j - 1])) continue;
    size_t& longest = repeated[back[j - 1]];
    longest = std::max(longest, lengths[j]);
  }
  for (const auto& [id, n] : repeated)
    if (static_cast<int64_t>(n) >= o.dry_allowed_length)
      set(id, at(id) - o.dry_multiplier *
                           std::pow(o.dry_base, static_cast<double>(n) - static_cast<double>(o.dry_allowed_length)));
}

int32_t Sampler::draw(std::span<const float> logits, std::span<const uint8_t> allowed) {
  CHECK(static_cast<int64_t>(logits.size()) == vocab_ && (allowed.empty() || allowed.size() == logits.size()));
  std::vector<float> x(logits.begin(), logits.end());
  for (size_t i = 0; i < allowed.size(); ++i)
    if (allowed[i] == 0) x[i] = kNever;
  penalise(x);
  const int32_t id = pick(x);
  ++draws_;
  remember(id, true);
  return id;
}

int32_t Sampler::pick(std::span<const float> logits) {
  const SamplerOptions& o = options_;
  const float best = largest(logits);
  if (best == kNever) fail("sampler: every token is forbidden or has a logit that is no number");
  if (o.temperature <= 0 || std::isinf(best))
    return static_cast<int32_t>(std::find(logits.begin(), logits.end(), best) - logits.begin());

  const bool truncates = o.mirostat == 0;
  const auto log_weight = [&](float logit) {
    return (static_cast<double>(logit) - static_cast<double>(best)) / o.temperature;
  };
  Candidates c;
  Spread all;  // of what the first truncation looks at
  if (truncates && o.top_k > 0 && static_cast<size_t>(o.top_k) < logits.size()) {
    c = likeliest(logits, static_cast<size_t>(o.top_k));
    for (Candidate& x : c) all.add(x.weight = std::exp(log_weight(x.logit)), log_weight(x.logit));
  } else {
    // Below e^-60 of the likeliest: any number of them weighs less than the rounding of a sum.
    double floor = -60;
    const auto raise = [&](double log_least) { floor = std::max(floor, log_least - 1e-6); };  // a little for rounding
    if (truncates && o.top_p >= 1 && o.typical_p >= 1) {
      if (o.min_p > 0) raise(std::log(o.min_p));
    } else {
      for (float logit : logits)
        if (const double x = log_weight(logit); x >= floor) all.add(std::exp(x), x);
      // What is lighter than this weighs at most half of what a share leaves out, all together.
      const auto light = [&](double share) {
        return std::log(0.5 * (1 - share) * all.total / static_cast<double>(vocab_));
      };
      if (!truncates)
        raise(std::log(all.total) - mirostat_mu_ * std::numbers::ln2);
      else if (o.typical_p >= 1)
        raise(light(o.top_p));
      else  // or has a surprise farther from the entropy than the likeliest token's
        raise(std::min(light(o.typical_p), 2 * (std::log(all.total) - all.entropy())));
      floor = std::min(floor, 0.0);
    }
    c = at_least(logits, static_cast<double>(best) + o.temperature * floor);
    for (Candidate& x : c) x.weight = std::exp(log_weight(x.logit));
  }

  const auto counter = static_cast<uint64_t>(draws_);
  if (truncates) {
    if (o.typical_p < 1) {
      keep_typical(c, o.typical_p, all, best, o.temperature);
      all.total = sum_of(c);
    }
    if (o.top_p < 1) keep_top_p(c, o.top_p * all.total);
    if (o.min_p > 0) keep_min_p(c, o.min_p);
    if (o.xtc_probability > 0 && Random(o.seed, hash_name("xtc")).uniform(counter) < o.xtc_probability)
      drop_top_choices(c, o.xtc_threshold);
  } else {
    // Mirostat 2 (Basu et al., arXiv 2007.14966): tokens of more surprise -log2 p than mu are left out, of all but the
    // likeliest; afterwards mu moves against the drawn token's distance from tau.
    const double least = std::min(all.total * std::exp2(-mirostat_mu_), 1.0);
    std::erase_if(c, [&](const Candidate& x) { return x.weight < least; });
  }

  double left = Random(o.seed, hash_name("sampler")).uniform(counter) * sum_of(c);
  const Candidate* drawn = &c.back();
  for (const Candidate& x : c)
    if ((left -= x.weight) < 0) {
      drawn = &x;
      break;
    }
  if (o.mirostat == 2) mirostat_mu_ -= o.mirostat_eta * (std::log2(all.total / drawn->weight) - o.mirostat_tau);
  return drawn->id;
}

int32_t sample(std::span<const float> logits, const SamplerOptions& options, int64_t index) {
  Sampler sampler(options, static_cast<int64_t>(logits.size()));
  sampler.draws_ = index;
  return sampler.draw(logits);
}

std::vector<int32_t> dry_breakers(const Tokenizer& tokenizer, std::span<const std::string> texts) {
  std::vector<int32_t> ids;
  for (int32_t id = 0; id < tokenizer.size(); ++id) {
    const std::string piece = tokenizer.piece(id);
    if (std::any_of(texts.begin(), texts.end(), [&](const std::string& t) { return piece.find(t) != piece.npos; }))
      ids.push_back(id);
  }
  return ids;
}

}  // namespace qwerky
