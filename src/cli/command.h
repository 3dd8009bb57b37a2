// SPDX-License-Identifier: MIT
// A subcommand registers its flags and returns what to run. Only this layer prints.
#pragma once

#include <atomic>
#include <string>
#include <type_traits>

#include "cli/flags.h"

namespace qwerky {

void register_convert(Flags flags, Run& run);
void register_train(Flags flags, Run& run);
void register_generate(Flags flags, Run& run);
void register_chat(Flags flags, Run& run);
void register_compare(Flags flags, Run& run);
void register_eval(Flags flags, Run& run);
void register_logits(Flags flags, Run& run);
void register_inspect(Flags flags, Run& run);
void register_quantize(Flags flags, Run& run);
void register_bench(Flags flags, Run& run);
void register_serve(Flags flags, Run& run);
void register_export(Flags flags, Run& run);

/// One flag per visited field: rate_bias becomes --rate-bias.
struct FieldFlags {
  Flags flags;
  template <class T>
  void operator()(const char* name, T& field, const char* help) {
    std::string flag = "--" + std::string(name);
    for (char& c : flag)
      if (c == '_') c = '-';
    if constexpr (std::is_same_v<T, bool>) {
      flags.add_flag(flag, field, help);
    } else if constexpr (requires {
                           field.begin()->begin();
                           field.push_back({});
                         }) {
      flags.add_option(flag, field, help);
    } else {
      flags.add_option(flag, field, help).with_default();
    }
  }
};

constexpr int kInterrupted = 130;  ///< exit status after SIGINT, as a shell reports it

/// --backend and --precision.
inline void add_backend_flags(Flags flags, std::string& backend, std::string& precision) {
  flags.add_option("--backend", backend, "auto | reference | avx2 | avx512 | cuda").with_default();
  flags.add_option("--precision", precision, "of matrix products: auto | f32 | bf16").with_default();
}

/// Set by SIGINT and SIGTERM; a second signal ends the program at once.
std::atomic<bool>& interrupted();

/// Throws Interrupted after them.
void check_interrupted();

/// What started this program, quoted for a shell.
std::string& command_line();

/// News on stderr: progress lines overwrite each other on a terminal, are rare in a log.
void say(const std::string& line, bool final);

}  // namespace qwerky
