// SPDX-License-Identifier: MIT
#include <unistd.h>

#include <cstdio>
#include <iomanip>
#include <memory>
#include <sstream>

#include "backend/peak.h"
#include "base/parallel.h"
#include "base/units.h"
#include "cli/command.h"
#include "cli/sampler_flags.h"
#include "engine/engine.h"

namespace qwerky {
namespace {

struct Options {
  std::string model, prompt;
  bool ignore_end = false;
  EngineOptions engine;
  GenerateOptions generate;
  SamplerFlags sampler;
};

int generate_text(const Options& o) {
  o.sampler.options.check();
  const Engine engine(o.model, o.engine);
  std::vector<int32_t> prompt;
  const Tokenizer& tokenizer = *engine.internals().model->tokenizer;
  if (o.prompt.empty() || tokenizer.adds_bos) prompt = engine.beginning();
  const std::vector<int32_t> text = engine.encode(o.prompt, false);
  prompt.insert(prompt.end(), text.begin(), text.end());
  GenerateOptions options = o.generate;
  options.sampler = o.sampler.resolve(tokenizer);
  if (prompt.empty()) fail("--prompt: expected text to continue, as this model has no token that begins a text");

  int64_t capacity = static_cast<int64_t>(prompt.size()) + o.generate.max_tokens;
  if (const int64_t most = engine.max_tokens(); most > 0 && capacity > most)
    fail("context: the prompt of ", prompt.size(), " tokens and --max-tokens ", o.generate.max_tokens, " need ",
         capacity, " positions, the model has ", most);
  Session session(engine, capacity);
  StreamDecoder stream(tokenizer);
  const auto print = [](const std::string& piece) {
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
  };
  for (int32_t id : prompt) print(stream.push(id));
  const Generated out = generate(session, engine, prompt, options, [&](int32_t id) {
    print(stream.push(id));
    return !interrupted();
  });
  print(stream.finish());
  if (isatty(STDOUT_FILENO) != 0) print("\n");  // a file or pipe gets the text alone

  std::ostringstream line;
  line << std::fixed << std::setprecision(1) << "prompt " << out.prompt_tokens << " tokens in "
       << out.prefill_seconds * 1e3 << " ms; " << out.ids.size() << " tokens";
  if (out.decode_steps > 0) {
    const double rate = static_cast<double>(out.decode_steps) / std::max(out.decode_seconds, 1e-9);
    const int64_t bytes = engine.internals().model->bytes_per_token();
    const double gb = rate * static_cast<double>(bytes) * 1e-9;
    line << " at " << rate << " tok/s, " << std::setprecision(2) << gb << " GB/s of weights ("
         << bandwidth_text(gb, measure_peaks(threads(), 0.2).read_gb_s, bytes <= largest_cache_bytes()) << ")";
  }
  line << "; state " << std::setprecision(2) << static_cast<double>(session.state_bytes()) / 1024 << " KiB; backend "
       << engine.internals().backend->name();
  say(line.str(), true);
  return 0;
}

}  // namespace

void register_generate(Flags flags, Run& run) {
  const auto o = std::make_shared<Options>();
  flags.add_option("model", o->model, "model directory or file").required();
  flags.add_option("--prompt", o->prompt, "text to continue; without it the model begins a text");
  o->sampler.add_to(flags);
  flags.add_option("--max-tokens", o->generate.max_tokens, "most tokens to write")
      .with_default()
      .between(int64_t{1}, int64_t{1} << 40);
  flags.add_flag("--ignore-end", o->ignore_end, "write on after an end-of-text token");
  add_backend_flags(flags, o->engine.backend, o->engine.precision);
  flags.add_flag("--copy", o->engine.copy, "copy the weights of a packed file into huge pages instead of mapping them");
  flags.callback([o, &run] {
    o->generate.stop_at_end = !o->ignore_end;
    run = [o] { return generate_text(*o); };
  });
}

}  // namespace qwerky
