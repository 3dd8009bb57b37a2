// SPDX-License-Identifier: MIT
// The public C++ API. An Engine is a loaded, immutable model; a Session is one mutable timeline on it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qwerky {

struct EngineOptions {
  std::string backend = "auto";    ///< auto | reference | avx2 | avx512 | cuda
  std::string precision = "auto";  ///< of matrix products: auto (as the weights are stored) | f32 | bf16
  bool tokenizer = true;           ///< false: token ids only, no tokenizer files needed
  /// Weights of a packed file: false uses them where the file is mapped (starts at once, memory shared with other
  /// processes), true copies them into huge pages.
  bool copy = false;
};

class Session;

class Engine {
 public:
  /// Loads a model directory or file. Throws qwerky::Error with a message for the user.
  explicit Engine(const std::string& path, const EngineOptions& options = {});
  ~Engine();

  // Text and its ids; an Error with EngineOptions::tokenizer = false.
  std::vector<int32_t> encode(std::string_view text, bool special = true) const;
  std::string decode(std::span<const int32_t> ids) const;
  /// The ids that begin a text: BOS where the model has one, else an end-of-text token; empty if it has neither.
  std::vector<int32_t> beginning() const;
  /// Whether generate() stops at this id; without a tokenizer at none.
  bool ends_text(int32_t id) const;
  int64_t vocab() const;
  /// Most tokens a session may hold; 0 when unlimited (no softmax layer without a window).
  int64_t max_tokens() const;

  struct Internals;
  const Internals& internals() const { return *internals_; }

 private:
  std::unique_ptr<Internals> internals_;
};

class Session {
 public:
  /// `capacity`: most tokens this timeline may hold (only softmax layers use memory for it).
  Session(const Engine& engine, int64_t capacity);
  ~Session();

  /// Appends tokens; afterwards logits() belong to the last of them.
  void append(std::span<const int32_t> ids);
  /// Unnormalised log-probabilities of the next token [vocab].
  std::span<const float> logits() const;
  int64_t position() const;
  int64_t state_bytes() const;
  /// A copy of the timeline at this moment.
  Session fork() const;
  Session(Session&&) noexcept;

 private:
  struct Timeline;
  explicit Session(std::unique_ptr<Timeline> timeline);
  std::unique_ptr<Timeline> timeline_;
};

/// Applied in this order: bias, penalties, DRY, temperature, truncations (top-k, typical, top-p, min-p, XTC), the draw;
/// mirostat replaces the truncations. docs/sampling.md has each as a formula.
struct SamplerOptions {
  double temperature = 0;  ///< 0: the most likely token
  int64_t top_k = 0;       ///< 0: no limit
  double top_p = 1;
  double min_p = 0;      ///< least probability, as a share of the likeliest token's
  double typical_p = 1;  ///< locally typical sampling (arXiv 2202.00666)
  /// Subtracted from the logits of generated ids: once, and per occurrence (OpenAI).
  double presence_penalty = 0, frequency_penalty = 0;
  /// Logits of ids in the prompt or generated are divided by it, or multiplied if negative (arXiv 1909.05858).
  double repetition_penalty = 1;
  int64_t penalty_window = 0;  ///< last ids, of prompt and answer, that penalties and DRY look back on (DRY on 16384 at most); 0: all
  double dry_multiplier = 0, dry_base = 1.75;  ///< DRY: multiplier · base^(repeated length - allowed length)
  int64_t dry_allowed_length = 2;
  std::vector<int32_t> dry_breakers = {};  ///< ids across which no repetition is looked for
  /// XTC: with this probability all but the least likely id above the threshold are dropped.
  double xtc_probability = 0, xtc_threshold = 0.1;
  int64_t mirostat = 0;  ///< 2: mirostat 2 (arXiv 2007.14966)
  double mirostat_tau = 5, mirostat_eta = 0.1;
  std::vector<std::pair<int32_t, double>> logit_bias = {};
  uint64_t seed = 0;
  /// Throws qwerky::Error naming a value that is out of range or not a number. sample() and generate() do it too.
  void check() const;
};

/// Draws from logits; draw number `index` of a seed is always the same.
int32_t sample(std::span<const float> logits, const SamplerOptions& options, int64_t index);

struct GenerateOptions {
  int64_t max_tokens = 256;
  SamplerOptions sampler;
  bool stop_at_end = true;
};

struct Generated {
  std::vector<int32_t> ids;
  bool ended = false;  ///< by an end-of-text token
  double prefill_seconds = 0, decode_seconds = 0;
  int64_t decode_steps = 0;  ///< ids that were read again; the first comes with the prompt
  int64_t prompt_tokens = 0;
};

/// Continues `prompt` (ids, not empty). `emit` gets every new id as it is drawn and returns false to stop.
Generated generate(Session& session, const Engine& engine, std::span<const int32_t> prompt,
                   const GenerateOptions& options, const std::function<bool(int32_t)>& emit = nullptr);

}  // namespace qwerky
