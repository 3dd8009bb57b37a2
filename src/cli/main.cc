// SPDX-License-Identifier: MIT
// The program: one binary, one subcommand per file. Results go to stdout, progress to stderr; an Error is one line and
// exit status 1.
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <mutex>

#include "base/error.h"
#include "base/parallel.h"
#include "base/version.h"
#include "cli/command.h"
#include "io/files.h"

namespace qwerky {

std::atomic<bool>& interrupted() {
  static std::atomic<bool> flag = false;
  return flag;
}

void say(const std::string& line, bool final) {
  static std::mutex one_at_a_time;  // measurement reports from several threads
  const std::lock_guard lock(one_at_a_time);
  static const bool terminal = isatty(STDERR_FILENO) != 0;
  static bool open_line = false;
  static auto last = std::chrono::steady_clock::time_point{};
  const auto now = std::chrono::steady_clock::now();
  if (!final && !terminal && now - last < std::chrono::seconds(10)) return;
  last = now;
  std::fprintf(stderr, "%s%s%s", terminal && open_line ? "\r\033[K" : "", line.c_str(), final || !terminal ? "\n" : "");
  open_line = !final && terminal;
  std::fflush(stderr);
}

namespace {

extern "C" void on_signal(int signal) {
  if (interrupted().exchange(true)) _exit(128 + signal);
}

int run_program(int argc, char** argv) {
  struct Command {
    const char* name;
    const char* help;
    Register add;
  };
  constexpr Command kCommands[] = {
      {"convert", "convert a softmax model into an RWKV variant and distil it", register_convert},
      {"train", "train a small softmax model from random weights", register_train},
      {"generate", "continue a prompt", register_generate},
      {"chat", "talk with a model", register_chat},
      {"serve", "answer requests of OpenAI's protocol", register_serve},
      {"compare", "measure a student against its teacher on text", register_compare},
      {"eval", "evaluate one model", register_eval},
      {"logits", "write the logits of given token ids", register_logits},
      {"inspect", "show what a model is and what it needs", register_inspect},
      {"bench", "measure this machine and the program on it", register_bench},
      {"quantize", "round a model to int8 or int4, calibrated on text", register_quantize},
      {"export", "write a model in another format", register_export},
  };
  CLI::App app("Qwerky: softmax-attention models become linear-attention models, run, and are measured.");
  app.require_subcommand(1);
  app.set_version_flag("--version", program_version());
  int thread_count = 0;
  app.add_option("--threads", thread_count, "threads (default: the cores this process may use)")
      ->check(CLI::Range(1, 1024));
  app.fallthrough();
  Run run;
  for (const Command& c : kCommands) c.add(*app.add_subcommand(c.name, c.help), run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 1;  // 0: --help, --version
  }
  if (thread_count != 0) set_threads(thread_count);
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGXFSZ, SIG_IGN);  // a file that grows too large is then an Error of the write, not the end
  return run();
}

}  // namespace
}  // namespace qwerky

int main(int argc, char** argv) {
  try {
    return qwerky::run_program(argc, argv);
  } catch (const qwerky::Error& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
  } catch (const qwerky::Interrupted&) {
    std::fprintf(stderr, "interrupted\n");
    return qwerky::kInterrupted;
  } catch (const nlohmann::json::exception& e) {
    std::fprintf(stderr, "error: a path or text that is not valid UTF-8 cannot be recorded: %s\n", e.what());
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "error: out of memory\n");
  }
  return 1;
}
