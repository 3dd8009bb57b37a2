// SPDX-License-Identifier: MIT
// The public C++ API. An Engine is a loaded, immutable model; a Session is one mutable timeline on it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qwerky {

struct EngineOptions {
  std::string backend = "auto";    ///< auto | reference | avx2 | avx512
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

struct SamplerOptions {
  double temperature = 0;  ///< 0: the most likely token
  int64_t top_k = 0;       ///< 0: no limit
  double top_p = 1;
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
