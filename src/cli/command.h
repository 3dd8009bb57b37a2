// SPDX-License-Identifier: MIT
// A subcommand registers its flags and returns what to run. Only this layer prints.
#pragma once

#include <CLI/CLI.hpp>
#include <atomic>
#include <functional>
#include <string>
#include <vector>

namespace qwerky {

/// Runs the parsed command; the value is the exit status.
using Run = std::function<int()>;
using Register = void (*)(CLI::App& app, Run& run);

void register_convert(CLI::App& app, Run& run);
void register_train(CLI::App& app, Run& run);
void register_generate(CLI::App& app, Run& run);
void register_chat(CLI::App& app, Run& run);
void register_compare(CLI::App& app, Run& run);
void register_eval(CLI::App& app, Run& run);
void register_logits(CLI::App& app, Run& run);
void register_inspect(CLI::App& app, Run& run);
void register_quantize(CLI::App& app, Run& run);
void register_bench(CLI::App& app, Run& run);
void register_serve(CLI::App& app, Run& run);
void register_export(CLI::App& app, Run& run);

/// One flag per visited field: rate_bias becomes --rate-bias.
struct Flags {
  CLI::App& app;
  template <class T>
  void operator()(const char* name, T& field, const char* help) {
    std::string flag = "--" + std::string(name);
    for (char& c : flag)
      if (c == '_') c = '-';
    if constexpr (std::is_same_v<T, bool>) {
      app.add_flag(flag, field, help);
    } else if constexpr (requires {
                           field.begin()->begin();
                           field.push_back({});
                         }) {
      app.add_option(flag, field, help);
    } else {
      app.add_option(flag, field, help)->capture_default_str();
    }
  }
};

/// Checks of numbers whose messages a reader understands: CLI11's own tell the largest double.
inline CLI::Validator number_check(bool zero) {
  const auto check = [zero](const std::string& text) -> std::string {
    double value = 0;
    if (CLI::detail::lexical_cast(text, value) && (zero ? value >= 0 : value > 0)) return {};
    return (zero ? "expected a number of at least 0, found " : "expected a number above 0, found ") + text;
  };
  return {check, zero ? "NONNEGATIVE" : "POSITIVE"};
}
inline const CLI::Validator kPositive = number_check(false), kNotNegative = number_check(true);

constexpr int kInterrupted = 130;  ///< exit status after SIGINT, as a shell reports it

/// --backend and --precision.
inline void add_backend_flags(CLI::App& app, std::string& backend, std::string& precision) {
  app.add_option("--backend", backend, "auto | reference | avx2 | avx512 | cuda")->capture_default_str();
  app.add_option("--precision", precision, "of matrix products: auto | f32 | bf16")->capture_default_str();
}

/// Set by SIGINT and SIGTERM; a second signal ends the program at once.
std::atomic<bool>& interrupted();

/// What started this program, quoted for a shell.
std::string& command_line();

/// News on stderr: progress lines overwrite each other on a terminal, are rare in a log.
void say(const std::string& line, bool final);

}  // namespace qwerky
